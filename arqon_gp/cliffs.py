"""Cliffs: where an outcome is so bad that how bad says nothing about the slopes elsewhere. No model.

Shapes: Y (n, m) the modelled outcomes of the stays, model space, NaN where missing. Public: worst, room, fallen,
beyond, robust, NORMAL_MAD.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arqon_gp.knobs import Floats
from arqon_gp.objectives import Goals

NORMAL_MAD = 1.4826  # std of a normal distribution over its median absolute deviation
CLIFF_STDS = 8.0
BEYOND_STDS = 3.0  # nearer rows tell of the slope that leads there


def worst(Y: Floats, goals: Goals, baseline: Mapping[str, float]) -> Floats:
    """Where each outcome is as bad as can be (m,), model space; NaN: nowhere. A deeper cliff would set the scale.

    CLIFF_STDS robust stds on the bad side of the median, but not before a limit or threshold is passed by as much as
    the median is off it, and there if the median is all that is known: what hardly ever moves must not seem to hold
    what it breaks.
    """
    found, bounds = np.full(Y.shape[1], np.nan), [(name, bound) for name, _, bound in goals.bounds(baseline)]
    for j, name in enumerate(goals.modelled):
        good, (middle, spread) = goals.better[name], robust(Y[np.isfinite(Y[:, j]), j])
        known = [bound for of, bound in (*bounds, *goals.thresholds.items()) if of == name]
        off = [abs(middle - bound) for bound in known]
        if name in goals.floors:  # as far in raw units: the logarithm of hardly any trouble is far from every limit
            off = [math.log(2.0 - math.exp(-x)) for x in off]
        both = zip(known, off, strict=True)
        ends = [good * bound - x for bound, x in both if spread > 0.0 or good * (middle - bound) > 0.0]
        if spread > 0.0:
            ends.append(good * middle - CLIFF_STDS * spread)
        if ends:
            found[j] = good * min(ends)
    return found


def room(Y: Floats, goals: Goals, baseline: Mapping[str, float]) -> Floats:
    """How far the median of each outcome (m,) is within its nearest limit, model space; inf without one it keeps."""
    found = np.full(Y.shape[1], np.inf)
    for name, side, bound in goals.bounds(baseline):
        j = goals.modelled.index(name)
        left = side * (bound - robust(Y[np.isfinite(Y[:, j]), j])[0])
        found[j] = min(found[j], left) if left > 0.0 else found[j]
    return found


def fallen(Y: Floats, ends: Floats, goals: Goals, baseline: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """Which stays (n,) are beyond where a cliff ends (m,) in an outcome whose limit is known: they have failed. A
    window that is only worse than its limit may have been unlucky; one that is off a cliff tells where that is.
    """
    limited = [goals.modelled.index(name) for name, _, _ in goals.bounds(baseline)]
    good = np.array([goals.better[name] for name in goals.modelled])
    return np.asarray((good * (Y - ends) < 0.0)[:, limited].any(axis=1), dtype=bool)


def beyond(Y: Floats, goals: Goals) -> npt.NDArray[np.bool_]:
    """Which outcomes of Y (n, m), model space, are far on the bad side of their threshold: as far as the best is on the
    good side, and BEYOND_STDS robust stds. None where no stay is within all thresholds: there is no front yet.
    """
    names, found = goals.modelled, np.zeros(Y.shape, dtype=bool)
    ahead = np.column_stack(
        [goals.better[name] * (y - goals.thresholds.get(name, np.nan)) for name, y in zip(names, Y.T, strict=True)]
    )
    given = [j for j, name in enumerate(names) if name in goals.thresholds]
    if given and (ahead[:, given] > 0.0).all(axis=1).any():
        for j in given:
            known = ahead[np.isfinite(ahead[:, j]), j]
            found[:, j] = ahead[:, j] < -max(float(known.max()), BEYOND_STDS * robust(known)[1])
    return found


def robust(y: Floats) -> tuple[float, float]:
    """Median and robust std of values (n,); 0 without values."""
    if not len(y):
        return 0.0, 0.0
    middle = float(np.median(y))
    return middle, NORMAL_MAD * float(np.median(np.abs(y - middle)))
