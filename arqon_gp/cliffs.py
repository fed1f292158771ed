"""Cliffs: where an outcome is so bad that how bad says nothing about the slopes elsewhere. No model.

Shapes: Y (n, m) the modelled outcomes of the stays, model space, NaN where missing. Public: worst, beyond, robust,
NORMAL_MAD.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arqon_gp.knobs import Floats
from arqon_gp.objectives import Goals

NORMAL_MAD = 1.4826  # std of a normal distribution over its median absolute deviation
CLIFF_STDS = 8.0
BEYOND_THRESHOLD = 1.0  # of the way from the best to the threshold: nearer rows tell of the slope that leads there


def worst(Y: Floats, goals: Goals, baseline: Mapping[str, float]) -> Floats:
    """Where each outcome is as bad as can be (m,), model space; NaN: nowhere. A deeper cliff would set the scale.

    CLIFF_STDS robust stds on the bad side of the median, but not before a limit or threshold is passed by as much as
    the median is off it: what hardly ever moves must not seem to hold what it breaks.
    """
    found, bounds = np.full(Y.shape[1], np.nan), [(name, bound) for name, _, bound in goals.bounds(baseline)]
    for j, name in enumerate(goals.modelled):
        good, (middle, spread) = goals.better[name], robust(Y[np.isfinite(Y[:, j]), j])
        if spread > 0.0:
            known = [bound for of, bound in (*bounds, *goals.thresholds.items()) if of == name]
            ends = [good * bound - abs(middle - bound) for bound in known]
            found[j] = good * min(good * middle - CLIFF_STDS * spread, *ends, float("inf"))
    return found


def beyond(Y: Floats, goals: Goals) -> npt.NDArray[np.bool_]:
    """Which outcomes of Y (n, m), model space, are clearly on the bad side of their threshold: by BEYOND_THRESHOLD of
    the way from the best to it. None where the best is no better than the threshold.
    """
    found = np.zeros(Y.shape, dtype=bool)
    for j, name in enumerate(goals.modelled):
        if (threshold := goals.thresholds.get(name)) is not None and np.isfinite(Y[:, j]).any():
            ahead = goals.better[name] * (Y[:, j] - threshold)
            if (best := float(np.nanmax(ahead))) > 0.0:
                found[:, j] = ahead < -BEYOND_THRESHOLD * best
    return found


def robust(y: Floats) -> tuple[float, float]:
    """Median and robust std of values (n,); 0 without values."""
    if not len(y):
        return 0.0, 0.0
    middle = float(np.median(y))
    return middle, NORMAL_MAD * float(np.median(np.abs(y - middle)))
