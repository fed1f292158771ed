"""ask + tell beside the peers, in one run on one pinned core: optuna's GPSampler and the BoTorch tutorial loop.

d = 3, one objective, n noisy observations; a second table without peers has guardrails and three weighted outcomes.
What counts is the ratio inside a cell: the three take turns in it. Resumable cell by cell. Settings are pinned here:
optuna GPSampler with its defaults but deterministic_objective False; BoTorch: SingleTaskGP with its default priors,
Standardize, fit_gpytorch_mll at every tell, qLogNoisyExpectedImprovement, 10 restarts, 512 raw samples.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import optuna
import torch
from botorch.acquisition import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import record
from bench.soak import config as guarded_config
from bench.soak import observe

SIZES = (10, 25, 50, 100, 200, 400)
GUARDED_SIZES = (10, 25, 50)
REPEATS = 7
NAMES = ("a", "b", "c")


def objective(x: np.ndarray, random: np.random.Generator) -> float:
    """A noisy bowl with a ripple."""
    return float(((x - 0.4) ** 2).sum() + 0.05 * np.sin(12 * x).sum() + 0.05 * random.normal())


class Ours:
    """Arqon GP without guardrails, brought to n by rows known before the first ask."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        bounds = {name: {"min": 0, "max": 1} for name in NAMES}
        config = {"seed": 1, "budget": 100_000, "probe_ratio": 0.0, "bounds": bounds}
        self.solver = ArqonSolver(config, registry=CollectorRegistry(), device="cpu")
        rows = [{"params": dict(zip(NAMES, x, strict=True)), "value": v} for x, v in zip(X, y, strict=True)]
        self.solver.seed(rows)
        self.candidate = self.solver.ask_one()

    def step(self, random: np.random.Generator) -> None:
        """Tell the last candidate's result and ask for the next."""
        assert self.candidate is not None
        value = objective(np.array(list(self.candidate.values()), dtype=float), random)
        self.solver.seed([{"params": self.candidate, "value": value}])
        self.candidate = self.solver.ask_one()


class Optuna:
    """optuna's GPSampler."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.GPSampler(seed=1, deterministic_objective=False)
        self.study = optuna.create_study(sampler=sampler)
        spaces = {name: optuna.distributions.FloatDistribution(0, 1) for name in NAMES}
        for x, v in zip(X, y, strict=True):
            params = dict(zip(NAMES, map(float, x), strict=True))
            self.study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=float(v)))
        self._ask()

    def _ask(self) -> None:
        self.trial = self.study.ask()
        self.x = np.array([self.trial.suggest_float(name, 0, 1) for name in NAMES])

    def step(self, random: np.random.Generator) -> None:
        """Tell and ask."""
        self.study.tell(self.trial, objective(self.x, random))
        self._ask()


class Botorch:
    """The loop of BoTorch's tutorial."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        torch.manual_seed(1)
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(-y).unsqueeze(-1)
        self._ask()

    def _ask(self) -> None:
        model = SingleTaskGP(self.X, self.y, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        target = qLogNoisyExpectedImprovement(model, X_baseline=self.X, prune_baseline=True)
        bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.double)
        self.x, _ = optimize_acqf(target, bounds=bounds, q=1, num_restarts=10, raw_samples=512)

    def step(self, random: np.random.Generator) -> None:
        """Tell and ask."""
        value = objective(self.x.numpy()[0], random)
        self.X, self.y = torch.cat([self.X, self.x]), torch.cat([self.y, torch.tensor([[-value]])])
        self._ask()


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "arqon_gp": Ours,
    "optuna_gp": Optuna,
    "botorch_loop": Botorch,
}


def cell(n: int, repeats: int) -> dict[str, Any]:
    """Median, minimum and maximum of ask + tell at n, ms; the ratios of the medians."""
    random = np.random.default_rng([n, 1])
    X = random.random((n, 3))
    y = np.array([objective(x, random) for x in X])
    peers = {name: make(X, y) for name, make in PEERS.items()}
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(repeats):
        for name, peer in peers.items():
            began = time.perf_counter()
            peer.step(random)
            times[name].append(1000.0 * (time.perf_counter() - began))
    shown = {f"{name}_ms": _spread(ms) for name, ms in times.items()}
    ours = shown["arqon_gp_ms"][0]
    ratios = {f"vs_{name}": round(shown[f"{name}_ms"][0] / ours, 3) for name in peers if name != "arqon_gp"}
    return {"n": n, "repeats": repeats} | shown | ratios


def guarded_cell(n: int) -> dict[str, Any]:
    """The steps n - 5 to n of a guarded study with three weighted outcomes."""
    random, now, ms = np.random.default_rng(0), [1e9], []
    config = guarded_config(1000)
    with ArqonSolver(config, registry=CollectorRegistry(), clock=lambda: now[0], device="cpu") as solver:
        candidate = solver.ask_one()
        for step in range(n):
            assert candidate is not None
            now[0] += 60.0
            row = {"params": candidate, "id": candidate.id, "values": observe(candidate, random)}
            began = time.perf_counter()
            solver.seed([row])
            candidate = solver.ask_one()
            if step >= n - 5:
                ms.append(1000.0 * (time.perf_counter() - began))
    return {"n": n, "arqon_gp_ms": _spread(ms)}


def _spread(ms: list[float]) -> list[float]:
    return [round(statistics.median(ms), 1), round(min(ms), 1), round(max(ms), 1)]


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| n | Arqon GP, ms | optuna GPSampler, ms | BoTorch loop, ms | vs optuna | vs BoTorch |",
        "|---|---|---|---|---|---|",
    ]
    for c in cells:
        ms = " | ".join(f"{c[f'{name}_ms'][0]:.0f}" for name in PEERS)
        lines.append(f"| {c['n']} | {ms} | {c['vs_optuna_gp']:.2f}x | {c['vs_botorch_loop']:.2f}x |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small cell")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    sizes, repeats, guarded = ((10,), 2, (6,)) if given.smoke else (SIZES, REPEATS, GUARDED_SIZES)
    settings = {"sizes": list(sizes), "repeats": repeats, "restarts": 10, "raw_samples": 512, "threads": 1}
    path = given.out / "latency.json"
    figures: dict[str, Any] = {"one objective": [], "guarded, three outcomes": []}
    if path.exists() and (kept := json.loads(path.read_text()))["settings"] == settings:
        figures = kept["figures"]
    for name, wanted, run in (
        ("one objective", sizes, lambda n: cell(n, repeats if n < 200 else min(repeats, 3))),
        ("guarded, three outcomes", guarded, guarded_cell),
    ):
        for n in wanted[len(figures[name]) :]:
            figures[name].append(run(n))
            print(figures[name][-1], file=sys.stderr)
            record.write("latency", figures, settings=settings, folder=given.out)
    print(table(figures["one objective"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
