"""What a measurement at x is worth, and the x of a box where it is worth most: the engine's own, without torch.

Noisy expected improvement of the utility, or of the hypervolume for several unweighted objectives (the formulas:
arqon_kernels/acquisition.py). Here the Monte Carlo problem is set up: which measured points may still be the best, what
they are truly worth in each sample, and what follows for every other point. Shapes: n rows X (n, d) in the unit cube, N
with the pending ones; P baseline points; S samples; m outcomes, the o objectives first. Public: Aim, supports, problem,
certainty, posterior_mean, values_at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from arqon_gp.dataset import Dataset
from arqon_gp.errors import FitError
from arqon_gp.knobs import Floats
from arqon_gp.mode import Note
from arqon_gp.objectives import Goals, Utility
from arqon_gp.rows import FEASIBLE, LEAST_SUCCESS, Integers
from arqon_gp.surrogate import OutcomeGP, Surrogate
from arqon_kernels import acquisition as kernel
from arqon_kernels import factor
from arqon_kernels.acquisition import Problem

SAMPLES, MANY_BOXES_SAMPLES = 128, 64  # the latter for a front of three: each sample has boxes of its own
PRUNE_SAMPLES, FRONT_PRUNE_SAMPLES = 128, 64  # a front has many members in each
MOST_CANDIDATES = 64  # measured points that are looked at when the baseline is chosen
MOST_BASELINE = 32
OPTIMISM = 1.5  # posterior stds by which a candidate for the baseline is flattered
JITTERS = (1e-8, 1e-6, 1e-4)  # of the standardised outcome, tried in turn; the first one always

Bounds = Sequence[tuple[str, int, float]]  # limits: outcome, side (+1: at or below), bound in model space


@dataclass(frozen=True, slots=True)
class Aim:
    """What is sought: the utility, or with `reference` (raw units) the hypervolume above it; within the limits.

    `floor`: the utility (and the width of the doubt about it) below which the front is not explored.
    """

    goals: Goals
    utility: Utility
    bounds: Bounds
    reference: Sequence[float] | None = None
    floor: tuple[float, float] | None = None


def supports(aim: Aim) -> bool:
    """Whether the engine has this acquisition; what it lacks is BoTorch's (torch_path.py)."""
    return aim.reference is None or len(aim.goals.objectives) in (2, 3)


def problem(
    surrogate: Surrogate,
    data: Dataset,
    aim: Aim,
    pending: Floats,
    rng: np.random.Generator,
    note: Note = lambda rung: None,
    seen: Floats | None = None,
) -> Problem:
    """The acquisition after the measured rows; those pending (p, d) are accounted for like a parallel batch.

    `seen` (r, d): the measured configs in the present context, which a candidate has to beat; None: the rows are that.
    """
    kept = _prune(surrogate, aim, data, seen, rng, note)
    more = pending.reshape(-1, data.X.shape[1])
    if seen is not None:
        kept, more = kept[:0], np.vstack([seen[kept], more])
    Z = np.vstack([data.X, more])
    baseline = np.concatenate([kept, np.arange(len(data.X), len(Z))])
    count = len(aim.goals.objectives)
    samples = MANY_BOXES_SAMPLES if aim.reference is not None and count > 2 else SAMPLES
    given = [_given(gp, Z, baseline, _normals(len(baseline), samples, rng), note) for gp in surrogate.outcomes]
    f = np.stack([g.f for g in given])  # m x P x S
    Y, holds = _raw(surrogate, aim, f), _holds(surrogate, aim, f)
    common = _common(surrogate, aim, Z) | {
        "A": np.stack([g.A for g in given]),
        "R": _stacked([g.R for g in given]),
        "draws": _normals(count, samples, rng),
    }
    if aim.reference is None:
        return Problem(goal=kernel.UTILITY, best=_best(aim.utility(Y), holds), **common)
    signs = np.array([float(o.sign) for o in aim.goals.objectives])
    front = np.where(holds[..., None], Y * signs, -np.inf).transpose(1, 0, 2)  # S x P x o
    boxes = kernel.boxes(np.ascontiguousarray(front), np.asarray(aim.reference) * signs, signs, common["is_log"])
    floor = {"floor": aim.floor[0], "floor_width": aim.floor[1]} if aim.floor else {}
    return Problem(goal=kernel.HYPERVOLUME, best=np.zeros(samples), **common | floor | {"boxes": boxes})


def certainty(surrogate: Surrogate, aim: Aim, Z: Floats) -> Problem:
    """The log probability that all limits hold, which keeps a slope where the probability itself is flat at 0."""
    return _plain(surrogate, aim, Z, kernel.FEASIBLE)


def posterior_mean(surrogate: Surrogate, aim: Aim, Z: Floats, confidence: float) -> Problem:
    """The utility of the posterior mean, less a penalty where P(limits) is below the confidence.

    In units of how far the utility spreads over the measured points Z (n, d), noise included.
    """
    p = _plain(surrogate, aim, Z, kernel.MEAN)
    return p._replace(weight=aim.utility.coefficients / _spread(surrogate, aim, Z), log_confidence=math.log(confidence))


def values_at(p: Problem, X: Floats) -> Floats:
    """The acquisition (r,) at X (r, d), by all samples."""
    return kernel.values(p, X, p.A.shape[2])


# ---- the Monte Carlo problem ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """One outcome given the rows and, in each sample, its noise-free values f (P, S) at the baseline."""

    f: Floats
    A: Floats  # (N, S)
    R: Floats  # (n + P, N)


def _given(gp: OutcomeGP, Z: Floats, baseline: Integers, normals: Floats, note: Note) -> _Given:
    """With G = K^-1 k(X, b), B = E_b - G and k(b, b) - k(b, X) G = L L': given f at b, the mean at x is
    c + k(x, Z) (alpha + B L'^-1 normals) and the variance 1 - |root k(X, x)|^2 - |L^-1 B' k(Z, x)|^2.
    """
    N, P, index, at = len(Z), len(baseline), gp.rows.index, Z[baseline]
    k = gp.k(gp.rows.X, at)  # n x P
    v = gp.root @ k
    L, inverse = _cholesky(gp.k(at, at) - v.T @ v, note)
    B = np.zeros((N, P))
    B[index] = -(gp.root.T @ v)
    B[baseline, np.arange(P)] += 1.0
    A = B @ (inverse.T @ normals)
    A[index] += gp.alpha[:, None]
    R = np.zeros((len(index) + P, N))
    R[: len(index), index] = gp.root
    R[len(index) :] = inverse @ B.T
    mean = gp.hyperparameters["mean"][0] + gp.alpha @ k
    return _Given(mean[:, None] + L @ normals, A, R)


def _common(surrogate: Surrogate, aim: Aim, Z: Floats) -> dict[str, Any]:
    """What every problem has: the outcomes, their scales, the utility and the limits."""
    gps, names = surrogate.outcomes, [gp.name for gp in surrogate.outcomes]
    bounds = _all_bounds(surrogate, aim)
    at = [(bound - surrogate[name].rows.shift) / surrogate[name].rows.scale for name, _, bound in bounds]
    return {
        "ZT": np.ascontiguousarray(Z.T),
        "kinds": surrogate.settings.kinds,
        "lengthscale": np.array([gp.lengthscales for gp in gps]),
        "constant": np.array([gp.hyperparameters["mean"][0] for gp in gps]),
        "shift": np.array([gp.rows.shift for gp in gps]),
        "scale": np.array([gp.rows.scale for gp in gps]),
        "is_log": np.array([o.name in aim.goals.logs for o in aim.goals.objectives]),
        "weight": aim.utility.coefficients,
        "centre": np.empty(0) if aim.utility.centre is None else np.array(aim.utility.centre, dtype=float),
        "floor": -math.inf,
        "floor_width": 1.0,
        "limit_outcome": np.array([names.index(name) for name, _, _ in bounds], dtype=np.int64),
        "limit_side": np.array([float(side) for _, side, _ in bounds]),
        "limit_at": np.array(at, dtype=float),
        "log_confidence": 0.0,
        "boxes": kernel.NO_EDGES,
    }


def _plain(surrogate: Surrogate, aim: Aim, Z: Floats, goal: int) -> Problem:
    """A problem of one sample: the posterior itself."""
    N, count = len(Z), len(aim.goals.objectives)
    A = np.zeros((len(surrogate.outcomes), N, 1))
    roots = []
    for j, gp in enumerate(surrogate.outcomes):
        A[j, gp.rows.index, 0] = gp.alpha
        R = np.zeros((len(gp.rows.index), N))
        R[:, gp.rows.index] = gp.root
        roots.append(R)
    common = _common(surrogate, aim, Z)
    return Problem(goal=goal, A=A, R=_stacked(roots), draws=np.zeros((count, 1)), best=np.zeros(1), **common)


def _all_bounds(surrogate: Surrogate, aim: Aim) -> list[tuple[str, int, float]]:
    """The limits, and success once a window has failed."""
    return [*aim.bounds, *([(FEASIBLE, -1, LEAST_SUCCESS)] if FEASIBLE in surrogate else [])]


def _raw(surrogate: Surrogate, aim: Aim, f: Floats) -> Floats:
    """Standardised outcomes (m, ...) -> raw objectives (..., o)."""
    columns = []
    for o, gp, z in zip(aim.goals.objectives, surrogate.outcomes, f, strict=False):
        y = gp.rows.shift + gp.rows.scale * z
        columns.append(np.exp(np.minimum(y, 700.0)) if o.name in aim.goals.logs else y)
    return np.stack(columns, axis=-1)


def _holds(surrogate: Surrogate, aim: Aim, f: Floats) -> npt.NDArray[np.bool_]:
    """Where standardised outcomes (m, ...) keep all limits."""
    names, held = [gp.name for gp in surrogate.outcomes], np.ones(f.shape[1:], dtype=bool)
    for name, side, bound in _all_bounds(surrogate, aim):
        rows = surrogate[name].rows
        held &= side * ((bound - rows.shift) / rows.scale - f[names.index(name)]) >= 0.0
    return held


def _best(U: Floats, holds: npt.NDArray[np.bool_]) -> Floats:
    """The level to beat in each sample (S,): the best that keeps the limits; below everything where none does."""
    nothing = U.min(axis=0) - max(float(U.std()), 1e-12)
    return np.asarray(np.maximum(np.where(holds, U, -np.inf).max(axis=0), nothing))


def _prune(
    surrogate: Surrogate, aim: Aim, data: Dataset, seen: Floats | None, rng: np.random.Generator, note: Note
) -> Integers:
    """Rows (P,), of the dataset or of those `seen`, that may still be the best, or on the front: those that are in at
    least one draw of them all."""
    objectives, X = surrogate.outcomes[: len(aim.goals.objectives)], data.X if seen is None else seen
    moments = [gp.at_rows(X) if seen is None else gp.predict(X) for gp in objectives]
    candidates = np.sort(data.distinct) if seen is None else np.arange(len(X))
    if len(candidates) > MOST_CANDIDATES:
        score = _flattered(surrogate, aim, moments, OPTIMISM)[candidates]
        candidates = np.sort(candidates[np.argsort(-score, kind="stable")[:MOST_CANDIDATES]])
    at = X[candidates]
    draws, samples = [], PRUNE_SAMPLES if aim.reference is None else FRONT_PRUNE_SAMPLES
    for gp in surrogate.outcomes:
        mean, covariance = gp.joint_at_rows(X, candidates) if seen is None else gp.joint(at)
        L, _ = _cholesky(covariance / gp.rows.scale**2, note)
        centre = (mean - gp.rows.shift) / gp.rows.scale
        draws.append(centre[:, None] + L @ rng.standard_normal((len(at), samples)))
    f = np.stack(draws)
    Y, holds = _raw(surrogate, aim, f), _holds(surrogate, aim, f)
    if aim.reference is None:
        U = np.where(holds, aim.utility(Y), -np.inf)
        wins = np.bincount(U.argmax(axis=0)[np.isfinite(U.max(axis=0))], minlength=len(at))
    else:
        signs = np.array([o.sign for o in aim.goals.objectives])
        Y = np.where(holds[..., None], Y * signs, -np.inf).transpose(1, 0, 2)
        wins = kernel.front_counts(np.ascontiguousarray(Y))
    best = int(np.argmax(_flattered(surrogate, aim, moments, 0.0)[candidates]))
    wins = wins + (np.arange(len(at)) == best)
    order = np.argsort(-wins, kind="stable")[:MOST_BASELINE]
    return np.sort(candidates[order[wins[order] > 0]])


def _flattered(surrogate: Surrogate, aim: Aim, moments: Sequence[tuple[Floats, Floats]], stds: float) -> Floats:
    """Utility (n,) of outcomes so many posterior stds better than their mean, moments (n,); for a front the number of
    points that are better in every objective, as a negative number."""
    f = []
    for o, gp, (mean, variance) in zip(aim.goals.objectives, surrogate.outcomes, moments, strict=False):
        f.append((mean - gp.rows.shift + o.sign * stds * np.sqrt(variance)) / gp.rows.scale)
    Y = _raw(surrogate, aim, np.stack(f))
    if aim.reference is None:
        return np.asarray(aim.utility(Y))
    signed = Y * np.array([o.sign for o in aim.goals.objectives])
    beaten = reduce(np.logical_and, (y[None, :] > y[:, None] for y in signed.T))
    return -np.asarray(beaten.sum(axis=1), dtype=float)


def _spread(surrogate: Surrogate, aim: Aim, X: Floats) -> float:
    """How far the utility spreads over points X (n, d): its deviation, or what one window std makes of it."""
    gps = surrogate.outcomes[: len(aim.goals.objectives)]
    z = np.stack([(gp.predict(X)[0] - gp.rows.shift) / gp.rows.scale for gp in gps])
    noise = np.array([math.sqrt(gp.hyperparameters["noise"][0]) for gp in gps])
    U, shaken = aim.utility(_raw(surrogate, aim, z)), aim.utility(_raw(surrogate, aim, z + noise[:, None]))
    return max(float(U.std()), float(np.abs(shaken - U).mean()), 1e-9 * abs(float(U.mean())), 1e-12)


def _cholesky(C: Floats, note: Note) -> tuple[Floats, Floats]:
    """The lower factor L of a covariance that is singular where points nearly coincide, and L^-1; with as little jitter
    as it takes.
    """
    for rung, jitter in enumerate(JITTERS):
        if rung:
            note("jitter")
        K = C + jitter * np.eye(len(C))
        try:
            inverse = factor.root(K)
        except np.linalg.LinAlgError:
            continue
        return K @ inverse.T, inverse
    raise FitError("the posterior covariance of the measured points is not positive definite")


def _normals(d: int, n: int, rng: np.random.Generator) -> Floats:
    """Standard normal draws (d, n), stratified in each row (McKay et al. 1979, "Latin hypercube sampling")."""
    strata = rng.permuted(np.tile(np.arange(n), (d, 1)), axis=1)
    return np.asarray(ndtri((strata + rng.random((d, n))) / n))


def _stacked(matrices: Sequence[Floats]) -> Floats:
    """(m, Q, N) of matrices (Q_j, N): the shorter ones end in zeros."""
    out = np.zeros((len(matrices), max(len(R) for R in matrices), matrices[0].shape[1]))
    for j, R in enumerate(matrices):
        out[j, : len(R)] = R
    return out
