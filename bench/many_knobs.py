"""Many knobs: what does the model's trust region gain over a search of the whole space, in long and in short loops?

Five noisy problems of 20 to 50 knobs; both arms are ArqonSolver, one with the region, one without. Scored is the
regret of recommend() in % of the range, paired by seed, with 95 % intervals. Figures, no gate: the region was chosen on
seeds from 66000, these count. One line a cell in many_knobs.jsonl: safe to stop.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from arqon_gp import choice
from bench import record
from bench.arms import Arqon
from bench.parity import append, known
from bench.problems import MANY_KNOBS, case, regret

EVALUATIONS = (100, 250)
ARMS = {"region": choice.MANY_KNOBS, "everywhere": 10_000}  # from how many knobs on there is a region
INITIAL = 42  # points spread over the cube
FIRST_SEED, SEEDS = 67_000, 10


def loop(name: str, seed: int, evaluations: int, arm: str) -> dict[str, Any]:
    """The regret of one loop."""
    of, before = case(name, seed, evaluations), choice.MANY_KNOBS
    initial = min(len(of.X), INITIAL)
    choice.MANY_KNOBS = ARMS[arm]
    try:
        solver = Arqon(of, seed)
        for number in range(evaluations):
            x = of.X[number] if number < initial else solver.ask()
            solver.tell(x, of.observe(x, number))
        found = regret(of, solver.recommend()[0])
    finally:
        choice.MANY_KNOBS = before
    return {"problem": name, "seed": seed, "evaluations": evaluations, "arm": arm, "score": round(found, 4)}


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """By problem and length: mean regrets, and what the region gains on average; over all problems last."""
    figures: dict[str, Any] = {}
    scores = {(one["problem"], one["evaluations"], one["seed"], one["arm"]): one["score"] for one in lines}
    for n in sorted({one["evaluations"] for one in lines}):
        gains = []
        for name in MANY_KNOBS:
            seeds = [s for p, e, s, arm in scores if (p, e, arm) == (name, n, "region")]
            pairs = [(scores[name, n, s, "region"], scores.get((name, n, s, "everywhere"))) for s in seeds]
            both = np.array([pair for pair in pairs if None not in pair], dtype=float)
            if len(both) < 2:
                continue
            gain = both[:, 1] - both[:, 0]
            gains.append((float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain))))
            region, everywhere = np.round(both.mean(axis=0), 2).tolist()
            figures[f"{name}, {n}"] = {"seeds": len(both), "region": region, "everywhere": everywhere}
            figures[f"{name}, {n}"]["gain"] = _interval(*gains[-1])
        if gains:
            means, errors = np.array(gains).T
            error = float(np.linalg.norm(errors)) / len(gains)
            figures[f"all, {n}"] = {"problems": len(gains), "gain": _interval(float(means.mean()), error)}
    return figures


def _interval(mean: float, error: float) -> list[float]:
    return [round(v, 2) for v in (mean, mean - 1.96 * error, mean + 1.96 * error)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS)
    parser.add_argument("--shard", default="0/1", help="i/n: seeds of this process")
    given = parser.parse_args()
    shard, shards = map(int, given.shard.split("/"))
    path = given.out / "many_knobs.jsonl"
    for seed in range(given.first_seed + shard, given.first_seed + given.seeds, shards):
        for n in given.evaluations:
            for name in MANY_KNOBS:
                for arm in ARMS:
                    shown = {"problem": name, "seed": seed, "evaluations": n, "arm": arm}
                    if not any(shown.items() <= one.items() for one in known(path)):
                        append(path, loop(name, seed, n, arm))
    figures = summary(known(path))
    record.write(
        "many_knobs", figures, settings={"first_seed": given.first_seed, "seeds": given.seeds}, folder=given.out
    )
    for name, figure in figures.items():
        print(name, figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
