"""The hyperparameters of one outcome: where their log posterior density is highest, outliers and uneven noise included.

From the prior's modes and from the last ones; then what evidence has to pay for: rows with a variance of their own
(outliers.py), and noise that grows along a knob (heteroscedastic.py). Public: Mode, mode_of, log_posterior, limits_of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from arqon_gp.errors import FitError
from arqon_gp.heteroscedastic import LEAST_EVIDENCE, slope_of
from arqon_gp.knobs import Floats
from arqon_gp.outliers import pursue
from arqon_gp.rows import (
    COLD_NOISE,
    EXACT_NOISE,
    LEAST_LENGTHSCALE,
    MOST_LENGTHSCALE,
    NOISE_PRIOR,
    NOISE_RANGE,
    Hyperparameters,
    Rows,
    Settings,
    lengthscale_prior,
    lengthscales,
)
from arqon_kernels import LogPosterior

CATEGORY_PRIOR = (0.0, 1.0)
DRIFT_PRIOR = (1.0, 1.0)  # with its mode at 1: a regime like the one before by 1 / e, a factor e in TIME_UNIT windows
LEAST_CATEGORY = 0.01
FIT_STEPS = 200

Note = Callable[[str], None]  # told of each rung of the numerical ladder that was needed: "jitter", "other_start"


@dataclass(frozen=True, slots=True)
class Mode:
    """theta (d + 1,): the logs of the lengthscales and of the noise; the constant mean; the variance (n,) of outliers
    beyond the common noise; the slope (p,) of the log noise, () where it is even; and the log posterior density, nats,
    less what outliers and slope cost."""

    theta: Floats
    mean: float
    excess: Floats
    slope: Floats
    value: float


def log_posterior(rows: Rows, settings: Settings, *, learned: bool, device: str | None = None) -> LogPosterior:
    """The density that the hyperparameters of an outcome maximise, on a torch device or by the engine (None)."""
    d, numeric = len(settings.kinds), settings.numeric
    loc, scale = np.full(d, CATEGORY_PRIOR[0]), np.full(d, CATEGORY_PRIOR[1])
    loc[numeric], scale[numeric] = lengthscale_prior(len(numeric))
    loc[settings.regime + settings.time], scale[settings.regime + settings.time] = DRIFT_PRIOR
    return LogPosterior(
        rows.X,
        rows.y,
        rows.share,
        rows.floor,
        settings.kinds,
        lengthscale_loc=loc,
        lengthscale_scale=scale,
        noise_prior=NOISE_PRIOR if learned else None,
        ss=rows.ss,
        dof=rows.dof,
        within_floor=rows.within_floor,
        device=device,
    )


def limits_of(settings: Settings, *, learned: bool) -> tuple[Floats, Floats]:
    """The least and the most (d + 1,) that the logs of the lengthscales and of the noise may be."""
    low = np.full(len(settings.kinds) + 1, math.log(LEAST_CATEGORY))
    low[settings.numeric + settings.time] = math.log(LEAST_LENGTHSCALE)
    high = np.full(len(low), math.log(MOST_LENGTHSCALE))
    low[-1], high[-1] = np.log(NOISE_RANGE) if learned else np.log([EXACT_NOISE, EXACT_NOISE])
    return low, high


def mode_of(
    rows: Rows,
    settings: Settings,
    warm: Hyperparameters | None,
    known: Floats,
    *,
    learned: bool,
    better: int | None,
    stop: Callable[[], bool],
    note: Note,
    device: str | None,
) -> Mode:
    """The better of a cold and a warm fit; from louder noise and, at last, the shortest lengthscales, where neither
    start is any good, and FitError where none is.

    `learned`: whether the noise is. `better` says which way outliers may be good (0: neither); None: there are none,
    nor is the noise uneven. `known` (n,): the outliers' variance at the last fit. With `stop` the climb ends where it
    is. `device`: as of log_posterior().
    """
    density = log_posterior(rows, settings, learned=learned, device=device)
    low, high = limits_of(settings, learned=learned)

    def climb(of: LogPosterior, at: Floats) -> tuple[Floats, float]:
        return of.climb(at, low, high, FIT_STEPS, stop)

    cold = np.append(density.lengthscale_loc - density.lengthscale_scale**2, math.log(COLD_NOISE))  # the prior's modes
    starts = [cold]
    if warm:
        starts.append(np.log(np.append(lengthscales(warm, settings), warm["noise"][0])))
    tried = [climb(density, start) for start in starts]
    others = [np.append(cold[:-1], high[-1]), np.append(low[:-1], high[-1])]
    while others and not any(math.isfinite(value) for _, value in tried):
        note("other_start")
        tried.append(climb(density, others.pop(0)))
    theta, value = max(tried, key=lambda pair: pair[1])
    if not math.isfinite(value):
        raise FitError("the density of the hyperparameters is finite at no start: the data are not finite")
    if not learned or better is None or stop():
        return Mode(theta, density.constant(theta), np.zeros(len(rows.y)), np.zeros(0), value)

    def density_of(rows: Rows, excess: Floats) -> LogPosterior:
        return log_posterior(replace(rows, floor=rows.floor + excess), settings, learned=True, device=device)

    def pursued(rows: Rows, theta: Floats, value: float) -> tuple[Floats, Floats, float]:
        return pursue(lambda e: density_of(rows, e), rows.single, known, better, climb, theta, value)

    slope = np.zeros(0)
    theta, excess, value = pursued(rows, theta, value)
    found = slope_of(rows, lambda b: density_of(rows.uneven(b), excess), theta, climb)
    if found is not None and not stop():
        uneven = rows.uneven(found.b)  # what looked like outliers may have been the noise there
        begin = density_of(uneven, np.zeros(len(rows.y)))(found.theta)[0]
        at, others_there, reached = pursued(uneven, found.theta, begin)
        if reached - found.price > value + LEAST_EVIDENCE:
            rows, theta, excess, slope, value = uneven, at, others_there, found.b, reached - found.price
    return Mode(theta, density_of(rows, excess).constant(theta), excess, slope, value)
