"""A true regression at 10 % Gaussian noise: how soon is last_good back?

Trials with a scripted proposal, so that only the guard is measured: windows of the bad config until the rollback is
handed out. Of 30 %, last_good known by 10 windows, at least 95 % must be back within 3 windows; of 20 %, known by 20,
half within 3 and 95 % within 6 (exit status 1 else).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import record
from tests.scripted import Loop, to

WANTED = {(0.3, 10): {3: 0.95}, (0.2, 20): {3: 0.5, 6: 0.95}}  # (regression, known by): windows -> least share
GOOD, BAD = 50, 60


def windows_until_rollback(seed: int, regression: float = 0.3, known_by: int = 10, most: int = 12) -> int:
    """Windows of the bad config before the rollback; `most` when it did not come."""
    random = np.random.default_rng([30, seed])

    def measure(params: dict[str, Any]) -> dict[str, float]:
        return {"qps": 100.0 * (1.0 - regression * (params["size"] == BAD)) * (1.0 + 0.1 * random.normal())}

    config = {
        "seed": seed,
        "budget": 1000,
        "probe_ratio": 0,
        "bounds": {"size": {"type": "int", "min": 0, "max": 100, "initial": GOOD}},
        "objectives": {"qps": {"direction": "max", "weight": 1}},
        "guardrails": {"max_delta": [10]},
    }
    loop = Loop(config, measure, to(size=GOOD))
    loop.run(known_by)
    loop.solver.script.propose_next = to(size=BAD)
    bad = 0
    while bad < most:
        candidate = loop.step()
        assert candidate is not None
        if candidate.kind == "rollback":
            return bad
        bad += candidate["size"] == BAD
    return most


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, hits / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    figures, missed = {}, False
    for (regression, known_by), wanted in WANTED.items():
        found = np.array([windows_until_rollback(seed, regression, known_by) for seed in range(given.trials)])
        shares: dict[str, Any] = {}
        for k in (1, 2, 3, 4, 6):
            hits = int((found <= k).sum())
            low, high = wilson(hits, given.trials)
            shares[f"within {k}"] = {"share": hits / given.trials, "interval_95": [round(low, 4), round(high, 4)]}
        missed |= any(float((found <= k).mean()) < least for k, least in wanted.items())
        name = f"{regression:.0%}, known by {known_by}"
        figures[name] = {"median": float(np.median(found)), "rolled_back": shares, "wanted": wanted}
    record.write("regression", figures, settings={"noise": 0.1, "trials": given.trials}, folder=given.out)
    print(json.dumps(figures, indent=1))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
