"""Acquisition maximiser: is what it finds worth as much as what BoTorch's optimiser finds on the same acquisition?

Recorded cases: closed loops of ours on all problems (other seeds), stopped before the first, eighth and
last of 20 asks. There the engine's acquisition is maximised over the whole space by the engine and by optimize_acqf (10
restarts, 512 raw samples) on its torch reference; the reference judges both points. Then a mixed space (an int, a step
grid, a category: 351 points) where the true maximum is known by looking at every point.

Passed (exit status 0) if ours is worth at least 99 % of the other's in at least 95 % of the cases; an interval is
Wilson's. One line a case in acquisition.jsonl: safe to stop; --summary judges.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.optim import optimize_acqf
from prometheus_client import CollectorRegistry
from torch import Tensor

from arqon_gp import ArqonSolver
from arqon_gp.advice import Goal, Request
from arqon_gp.choice import Choice
from arqon_gp.design import sobol, spread
from arqon_gp.maximize import maximize
from arqon_kernels._torch.acquisition import value as reference
from arqon_kernels.acquisition import Problem
from bench import parity, peers, record
from bench.problems import PROBLEMS, case

FIRST_SEED, SEEDS = 30_000, 5
STOPS = (0, 7, 19)  # asks before
MIXED = "mixed"
MIXED_ROWS = (8, 15, 30)
MIXED_BOUNDS: dict[str, Any] = {
    "n": {"type": "int", "min": 0, "max": 12},
    "s": {"min": 0.0, "max": 1.0, "step": 0.125},
    "c": {"type": "categorical", "choices": ["a", "b", "c"]},
}
WORTH, SHARE = 0.99, 0.95


class Torch(AcquisitionFunction):  # type: ignore[misc]  # botorch ships no types
    """The reference as botorch takes it: (b, 1, d) -> (b,)."""

    def __init__(self, target: Problem) -> None:
        super().__init__(model=None)
        self.target = target

    def forward(self, X: Tensor) -> Tensor:
        """Values."""
        return reference(self.target, X.squeeze(-2))


def ours(solver: ArqonSolver, number: int) -> tuple[Problem, np.ndarray]:
    """The acquisition of the next ask, and the engine's maximiser (d,) over the whole space."""
    study, advisor, space = solver._study, solver._advisor, solver._study.config.space
    found = advisor.outlook(study)
    assert found is not None
    yard = solver._yardstick()
    request = Request(Goal.IMPROVE, space.whole, study.config.start, number)
    search: Any = Choice(found, yard, request, (), "cpu", lambda rung: None).search
    return search.target, maximize(search.target, space, space.whole, space.encode_all(search.good), search.rng)[0]


def judged(target: Problem, x: np.ndarray) -> float:
    """The log value at x (d,) by the reference."""
    return float(reference(target, torch.as_tensor(x[None, :])))


def continuous(name: str, seed: int, most: int) -> Iterator[dict[str, Any]]:
    """The stops of one loop."""
    of = case(name, seed, max(STOPS))
    loop, X = parity.Arqon(of, seed), of.X
    Y = np.array([of.observe(x, i) for i, x in enumerate(X)])
    cube = torch.tensor([[0.0] * of.problem.d, [1.0] * of.problem.d], dtype=torch.float64)
    for asks in range(max(STOPS) + 1):
        asked = loop.ask(X, Y)
        if asks in STOPS:
            target, x = ours(loop.solver, asks + 1)
            torch.manual_seed(seed)
            there, _ = optimize_acqf(
                Torch(target),
                cube,
                q=1,
                num_restarts=min(peers.RESTARTS, most),
                raw_samples=min(peers.RAW_SAMPLES, most),
            )
            yield _line(name, seed, asks, judged(target, x), judged(target, there.detach().numpy()[0]))
        if asks < max(STOPS):
            X, Y = np.vstack([X, asked]), np.vstack([Y, of.observe(asked, len(X))])


def mixed(seed: int) -> Iterator[dict[str, Any]]:
    """Random rows of a mixed space; the other side is the best of all its points."""
    config = {"seed": seed, "budget": 10_000, "probe_ratio": 0.0, "bounds": MIXED_BOUNDS}
    random, merit = np.random.default_rng(seed), {"a": 0.0, "b": 0.3, "c": -0.2}
    solver = ArqonSolver(config, registry=CollectorRegistry(), device="cpu")
    space, told = solver._study.config.space, 0
    for n in MIXED_ROWS:
        rows = []
        for u in sobol(3, n, seed)[told:]:
            params = spread(space, space.whole, u)
            level = (
                0.05 * (float(params["n"]) - 8.0) ** 2 + math.cos(7.0 * float(params["s"])) + merit[str(params["c"])]
            )
            rows.append({"params": params, "values": {"value": level + 0.2 * random.standard_normal()}})
        solver.seed(rows)
        told = n
        solver.recommend()
        target, x = ours(solver, n)
        every = [
            dict(zip(MIXED_BOUNDS, p, strict=True)) for p in itertools.product(range(13), np.arange(9) / 8.0, "abc")
        ]
        best = float(reference(target, torch.as_tensor(space.encode_all(every))).max())
        yield _line(MIXED, seed, n, judged(target, x), best)
    solver.close()


def _line(name: str, seed: int, at: int, found: float, other: float) -> dict[str, Any]:
    """`worth`: the value found over the other's, no logs."""
    worth = round(math.exp(min(found - other, 50.0)), 5)
    return {"problem": name, "seed": seed, "at": at, "worth": worth, "log_value": found, "commit": record.commit()}


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of the cases at WORTH by problem and over all."""
    figures: dict[str, Any] = {"problems": {}}
    for name in dict.fromkeys(line["problem"] for line in lines):
        figures["problems"][name] = _shares([line["worth"] for line in lines if line["problem"] == name])
    figures["all"] = _shares([line["worth"] for line in lines])
    figures["passed"] = figures["all"]["share"] >= SHARE
    return figures


def _shares(worth: list[float]) -> dict[str, Any]:
    n, good = len(worth), sum(w >= WORTH for w in worth)
    p, z = good / n, 1.96  # Wilson 1927
    centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return {
        "cases": n,
        "share": round(p, 4),
        "interval": [round((centre - half) / (1 + z * z / n), 4), round((centre + half) / (1 + z * z / n), 4)],
        "worst": min(worth),
        "median": float(np.median(worth)),
        "better by 1 %": round(sum(w > 1.0 / WORTH for w in worth) / n, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", action="store_true", help="judge what is there; runs nothing")
    parser.add_argument("--problems", nargs="+", choices=[*PROBLEMS, MIXED], default=[*PROBLEMS, MIXED])
    parser.add_argument("--smoke", action="store_true", help="one seed, a small search by BoTorch")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path, seeds, most = given.out / "acquisition.jsonl", 1 if given.smoke else SEEDS, 16 if given.smoke else 10_000
    if not given.summary:
        done = {(line["problem"], line["seed"], line["at"]) for line in parity.known(path)}
        for seed, name in itertools.product(range(FIRST_SEED, FIRST_SEED + seeds), given.problems):
            wanted = {(name, seed, at) for at in (MIXED_ROWS if name == MIXED else STOPS)}
            if wanted <= done:
                continue
            for line in mixed(seed) if name == MIXED else continuous(name, seed, most):
                if (name, seed, line["at"]) not in done:
                    parity.append(path, line)
                    print(json.dumps(line), file=sys.stderr)
    figures = summary(parity.known(path))
    for name, row in [*figures["problems"].items(), ("all", figures["all"])]:
        print(f"{name}: {row}")
    settings = {"seeds": seeds, "first_seed": FIRST_SEED, "stops": STOPS, "worth": WORTH, "share": SHARE}
    settings |= {"restarts": min(peers.RESTARTS, most), "raw_samples": min(peers.RAW_SAMPLES, most)}
    record.write("acquisition", figures, settings=settings, folder=given.out)
    return int(not (figures["passed"] or given.smoke))


if __name__ == "__main__":
    sys.exit(main())
