"""A true regression of 30 % at 10 % Gaussian noise, last_good known by 10 windows: how soon is last_good back?

Trials with a scripted proposal, so that only the guard is measured: windows of the bad config until the rollback is
handed out. At least 95 % must be back within 3 windows (exit status 1 else).
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

KNOWN_BY = 10
WITHIN = 3
LEAST_SHARE = 0.95
GOOD, BAD = 50, 60


def windows_until_rollback(seed: int, most: int = 12) -> int:
    """Windows of the bad config before the rollback; `most` when it did not come."""
    random = np.random.default_rng([30, seed])

    def measure(params: dict[str, Any]) -> dict[str, float]:
        return {"qps": 100.0 * (0.7 if params["size"] == BAD else 1.0) * (1.0 + 0.1 * random.normal())}

    config = {
        "seed": seed,
        "budget": 1000,
        "probe_ratio": 0,
        "bounds": {"size": {"type": "int", "min": 0, "max": 100, "initial": GOOD}},
        "objectives": {"qps": {"direction": "max", "weight": 1}},
        "guardrails": {"max_delta": [10]},
    }
    loop = Loop(config, measure, to(size=GOOD))
    loop.run(KNOWN_BY)
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
    found = np.array([windows_until_rollback(seed) for seed in range(given.trials)])
    shares: dict[str, Any] = {}
    for k in (1, 2, 3, 4):
        hits = int((found <= k).sum())
        low, high = wilson(hits, given.trials)
        shares[f"within {k}"] = {"share": hits / given.trials, "interval_95": [round(low, 4), round(high, 4)]}
    figures = {"trials": given.trials, "rolled_back": shares, "wanted": f"{LEAST_SHARE} within {WITHIN}"}
    settings = {"regression": 0.3, "noise": 0.1, "known_by": KNOWN_BY, "trials": given.trials}
    record.write("regression", figures, settings=settings, folder=given.out)
    print(json.dumps(figures, indent=1))
    return int(shares[f"within {WITHIN}"]["share"] < LEAST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
