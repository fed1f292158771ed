"""Active set: how much is lost by conditioning on a bounded part of a long history?

Histories of the single-outcome problems of parity, half of them spread out, half near the minimum, as a loop leaves
them. Hyperparameters are those of the active set, as in the product. Figure: nats of log density of a noisy window
that the active set loses against all rows, a held-out window, at points spread out and at points near the minimum;
beside it what is lost by as many rows drawn at random. Mean over windows, then over seeds with a 95 % interval.

Then functions that drift: draws of a Gaussian process with the kernel Matern-5/2 times exp(-|t - t'| / tau), tau
in results, whose hyperparameters are known; half of the results spread out, half around a point that wanders, as a
loop leaves them. The active set is chosen from what of the history is in view (view.py), as in the product. Figures
are of the next window, right after the last result, spread out and where the loop is, beside the latest rows alone;
because all rows tell the truth here, they are expected over that window instead of drawn. And functions that jump: at
rest, but for one sudden change JUMPED results ago, that opened a regime; half of what was known holds on.

Passed (exit status 0) if no problem and no drift loses more than 0.05 nats a window in either place.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from arqon_gp.active import MOST_ROWS, active_set
from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.history import History
from arqon_gp.records import Label, Labelled, Observation, Role, Told
from arqon_gp.rows import TIME_UNIT, Hyperparameters, Settings, lengthscales, rows_of
from arqon_gp.rows import drifting as timed
from arqon_gp.surrogate import OutcomeGP, restore, seek
from arqon_gp.view import View
from arqon_kernels import covariance
from bench import record
from bench.problems import PROBLEMS, Case, case, result, solver_config

MOST_LOST = 0.05  # nats a window
SIZES, SEEDS, FIRST_SEED = (800, 2000), 5, 40_000
HELD_OUT = 300  # windows in each place
NEAR = 0.1  # std of the points near the minimum
DRIFT_SEEDS, DRIFT_N, DRIFT_NOISE = 5, 2000, 0.1  # variance of a window, of a function of variance 1
TAUS = (100.0, 300.0, 1000.0)  # results
JUMPED, REGIME = (100, 400, 1000), 1.4  # results ago; the lengthscale of the regime: correlation exp(-1 / 1.4)
LENGTHSCALES = {2: 0.3, 3: 0.35, 6: 0.7}  # by the number of knobs
WANDERS = 0.3  # std of how far the loop's point is from where it began, after all results
NAMES = [name for name, problem in PROBLEMS.items() if problem.m == 1]


def points(of: Case, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Spread out (n, d), and near the minimum (n, d)."""
    dense = qmc.Sobol(of.problem.d, rng=np.random.default_rng(0)).random(2**14)
    best = dense[of.function(dense)[:, 0].argmin()]
    wide = qmc.Sobol(of.problem.d, rng=random).random(2 ** int(np.ceil(np.log2(n))))[:n]
    return wide, np.clip(best + NEAR * random.standard_normal((n, of.problem.d)), 0.0, 1.0)


def history_of(of: Case, n: int, random: np.random.Generator) -> tuple[Dataset, Settings]:
    """n windows in random order."""
    config = parse(solver_config(of.problem.d, 1, of.reference, seed=0))
    X = random.permuted(np.vstack(points(of, n // 2, random)), axis=0)
    rows = [result(x, y) for x, y in zip(X, windows(of, X, random)[:, None], strict=True)]
    told = Told(tuple(Observation(r["params"], r["values"], Role.WARM) for r in rows), 0.0)
    settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
    return training_set(History().apply(told), config.space, config.goals), settings


def windows(of: Case, X: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Noisy outcomes (n,) at X (n, d)."""
    std = of.scale[0] * of.problem.noise[0]
    return np.asarray(of.function(X)[:, 0] + std * random.standard_normal(len(X)))


def density(gp: OutcomeGP, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log density (n,) of noisy windows y (n,) at X (n, d)."""
    mean, variance = gp.predict(X)
    variance = variance + gp.noise
    return np.asarray(-0.5 * (y - mean) ** 2 / variance - 0.5 * np.log(2.0 * np.pi * variance))


def lost(name: str, n: int, seed: int) -> dict[str, float]:
    """Mean nats a window, by place: the active set's loss, and that of as many random rows."""
    of, random = case(name, seed, 0), np.random.default_rng([n, seed])
    data, settings = history_of(of, n, random)
    first = active_set(data, settings, {})
    chosen = active_set(data, settings, seek(data.rows(first), settings, {}))
    known = seek(data.rows(chosen), settings, {})
    drawn = np.sort(random.choice(len(data.X), len(chosen), replace=False))
    gps = [restore(rows, settings, known)["value"] for rows in (data, data.rows(chosen), data.rows(drawn))]
    found = {}
    for place, X in zip(("spread", "near"), points(of, HELD_OUT, random), strict=True):
        y = windows(of, X, random)
        everything, active, randomly = (density(gp, X, y).mean() for gp in gps)
        found |= {place: float(everything - active), f"{place}, random rows": float(everything - randomly)}
    return found


# ---- functions that drift ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drift:
    """A drifting function: knobs, how long it stays alike, or how long ago it jumped, in results."""

    d: int
    tau: float = 0.0
    jumped: int = 0

    @property
    def name(self) -> str:
        """Its key in the result."""
        return f"jump, d={self.d}, {self.jumped} ago" if self.jumped else f"drift, d={self.d}, tau={self.tau:g}"

    @property
    def lengthscales(self) -> dict[str, list[float]]:
        """Those of the knobs, and of the time or the regime."""
        knobs = {"lengthscale": [LENGTHSCALES[self.d]] * self.d}
        return knobs | ({"regime": [REGIME]} if self.jumped else {"time": [self.tau / TIME_UNIT]})


def drifting(of: Drift, seed: int) -> tuple[Dataset, np.ndarray, Settings, dict[str, np.ndarray]]:
    """The dataset of a history with the time or the regime as its last column, which of its rows are in view, and by
    place points right after it."""
    n, d, random = DRIFT_N, of.d, np.random.default_rng([of.d, int(of.tau) + of.jumped, seed])
    path = np.clip(0.5 + np.cumsum(WANDERS * random.standard_normal((n, d)) / np.sqrt(n), axis=0), 0.0, 1.0)
    there = np.clip(path + NEAR * random.standard_normal((n, d)), 0.0, 1.0)
    X = np.where(random.random((n, 1)) < 0.5, random.random((n, d)), there)
    places = {
        "spread": random.random((HELD_OUT, d)),
        "near": np.clip(path[-1] + NEAR * random.standard_normal((HELD_OUT, d)), 0.0, 1.0),
    }
    config = parse(solver_config(d, 1, np.zeros(1), seed=0))
    settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
    settings = settings.drifting(time=not of.jumped, regimes=1 + (of.jumped > 0))
    rank = np.arange(n + 1)
    last = np.where(rank >= n - of.jumped, 1.0, 0.0) if of.jumped else rank / TIME_UNIT
    held = {place: np.column_stack([P, np.full(HELD_OUT, last[n])]) for place, P in places.items()}
    at = np.column_stack([X, last[:n]])
    K = np.asarray(covariance(at, at, lengthscales(of.lengthscales, settings), settings.kinds)) + 1e-8 * np.eye(n)
    y = np.linalg.cholesky(K) @ random.standard_normal(n) + np.sqrt(DRIFT_NOISE) * random.standard_normal(n)
    rows = tuple(Observation(r["params"], r["values"], Role.WARM) for r in map(result, X, y[:, None]))
    since = n - of.jumped
    before, jump, after = Told(rows[:since], 0.0), Labelled(Label.DRIFT, "", 0.0, since=since), Told(rows[since:], 0.0)
    whole, seen = History(), History(view=View(config.inputs, config.goals))
    for event in (before, jump, after) if of.jumped else (before,):
        whole, seen = whole.apply(event), seen.apply(event)
    data = training_set(whole, config.space, config.goals)
    return timed(data, settings), np.isin(data.first, seen.excerpt().numbers), settings, held


def lost_to_drift(of: Drift, seed: int) -> dict[str, float]:
    """Mean nats a window, by place: the active set's loss, and that of as many of the latest rows."""
    data, seen, settings, held = drifting(of, seed)
    rows = rows_of(data, settings, "value")
    h: Hyperparameters = of.lengthscales | {
        "noise": [DRIFT_NOISE / rows.scale**2],
        "mean": [-rows.shift / rows.scale],
    }
    places = np.flatnonzero(seen)
    chosen, latest = np.zeros(len(seen), dtype=bool), np.zeros(len(seen), dtype=bool)
    chosen[places[active_set(data.rows(seen), settings, {"value": h})]] = True
    latest[-MOST_ROWS:] = True
    everything = np.ones(len(seen), dtype=bool)
    gps = [OutcomeGP.of("value", rows.only(some), h, settings) for some in (everything, chosen, latest)]
    found = {}
    for place, X in held.items():
        found |= {place: expected_loss(gps[0], gps[1], X), f"{place}, latest rows": expected_loss(gps[0], gps[2], X)}
    return found


def expected_loss(true: OutcomeGP, gp: OutcomeGP, X: np.ndarray) -> float:
    """Mean nats of log density that windows at X (n, d), as one posterior expects them, lose by another."""
    (mean, variance), (other, doubt) = true.predict(X), gp.predict(X)
    variance, doubt = variance + true.noise, doubt + gp.noise
    return float(0.5 * (np.log(doubt / variance) + (variance + (mean - other) ** 2) / doubt - 1.0).mean())


# ---- what is shown ------------------------------------------------------------


def shown(name: str, cell: Callable[[int], dict[str, float]], seeds: int) -> dict[str, list[float]]:
    """The mean of each figure over seeds with a 95 % interval."""
    began = time.perf_counter()
    each = [cell(FIRST_SEED + i) for i in range(seeds)]
    row = {}
    for what in each[0]:
        values = np.array([cell[what] for cell in each])
        half = 1.96 * float(values.std(ddof=min(1, seeds - 1))) / np.sqrt(seeds)
        row[what] = [round(float(x), 4) for x in (values.mean(), values.mean() - half, values.mean() + half)]
    print(f"{name}: {row} ({time.perf_counter() - began:.0f} s)", file=sys.stderr)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed of one problem")
    parser.add_argument("--only", choices=("still", "drift"), help="one of both parts; nothing is written")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    names, sizes, seeds, drift_seeds = NAMES, SIZES, SEEDS, DRIFT_SEEDS
    drifts = [Drift(d, tau) for d in LENGTHSCALES for tau in TAUS]
    drifts += [Drift(d, jumped=ago) for d in LENGTHSCALES for ago in JUMPED]
    if given.smoke:
        names, sizes, drifts, seeds, drift_seeds = NAMES[:1], SIZES[:1], drifts[:1], 1, 1
    cells: dict[str, dict[str, list[float]]] = {}
    for name in names if given.only != "drift" else []:
        for n in sizes:
            cells[f"{name}, n={n}"] = shown(f"{name}, n={n}", lambda seed, name=name, n=n: lost(name, n, seed), seeds)  # type: ignore[misc]
    for of in drifts if given.only != "still" else []:
        cells[of.name] = shown(of.name, lambda seed, of=of: lost_to_drift(of, seed), drift_seeds)  # type: ignore[misc]
    worst = max(row[place][0] for row in cells.values() for place in ("spread", "near"))
    figures: dict[str, Any] = {"most_rows": MOST_ROWS, "cells": cells}
    figures |= {"worst": worst, "allowed": MOST_LOST, "passed": worst <= MOST_LOST}
    settings = {"sizes": sizes, "seeds": seeds, "first_seed": FIRST_SEED, "held_out": HELD_OUT, "near": NEAR}
    settings |= {"drift_n": DRIFT_N, "drift_seeds": drift_seeds, "drift_noise": DRIFT_NOISE, "wanders": WANDERS}
    if given.only is None:
        record.write("active", figures, settings=settings, folder=given.out)
    print(f"worst loss {worst:.4f} nats a window, allowed {MOST_LOST}")
    return int(not figures["passed"] and not given.smoke)


if __name__ == "__main__":
    sys.exit(main())
