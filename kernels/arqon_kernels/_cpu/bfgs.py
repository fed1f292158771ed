"""Projected BFGS, compiled, in pieces: who evaluates the function calls `propose`, `judge` and `accept` in turn.

The method stands in bfgs.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DESCENT = 1e-4  # of the first-order decrease
MOST_CUTS = 20
CUT = 0.4
VALUE, LENGTH, GRADIENT_TOLERANCE, VALUE_TOLERANCE, FIRST = range(5)  # of `numbers`
CURVED, CUTS, STEPS, DONE = range(4)  # of `counts`


class State(NamedTuple):
    """Where a minimisation stands; all arrays are changed in place."""

    low: Floats  # (d,)
    high: Floats
    x: Floats
    gradient: Floats
    there: Floats  # where the function is to be evaluated
    step: Floats
    H: Floats  # (d, d) inverse Hessian, unless counts[CURVED] is 0
    numbers: Floats  # value at x, length of the step, tolerances, longest step along the gradient
    counts: Integers  # whether H is known, cuts of this step, steps so far, whether it is done


@compiled
def state(
    low: Floats, high: Floats, x: Floats, gradient_tolerance: float, value_tolerance: float, first: float
) -> State:
    """A minimisation that begins at x (d,); value and gradient are the caller's to set."""
    d = len(x)
    numbers = np.array([0.0, 1.0, gradient_tolerance, value_tolerance, first])
    x = np.minimum(np.maximum(x, low), high)
    return State(
        low, high, x, np.empty(d), np.empty(d), np.empty(d), np.zeros((d, d)), numbers, np.zeros(4, dtype=np.int64)
    )


@compiled
def propose(s: State) -> None:
    """Set `there` to the end of a full step from x, or be done."""
    d, most, norm = len(s.x), 0.0, 0.0
    for i in range(d):
        slope = _free(s, i)
        most = max(most, abs(slope))
        norm += slope * slope
    if not most > s.numbers[GRADIENT_TOLERANCE]:
        s.counts[DONE] = 1
        return
    descent = 0.0
    if s.counts[CURVED]:
        for i in range(d):
            s.step[i] = 0.0
            slope = _free(s, i)
            if slope != 0.0:
                for j in range(d):
                    s.step[i] -= s.H[i, j] * _free(s, j)
            descent += s.step[i] * slope
    if not descent < 0.0:
        s.counts[CURVED] = 0
        for i in range(d):
            s.step[i] = -_free(s, i) * min(1.0, s.numbers[FIRST] / math.sqrt(norm))
    s.numbers[LENGTH], s.counts[CUTS] = 1.0, 0
    _move(s)


@compiled
def judge(s: State, value: float) -> bool:
    """Whether the value there is good enough; else `there` has come nearer, or it is done."""
    expected = 0.0
    for i in range(len(s.x)):
        expected += s.gradient[i] * (s.there[i] - s.x[i])
    if math.isfinite(value) and value <= s.numbers[VALUE] + DESCENT * expected:
        return True
    s.numbers[LENGTH] *= CUT
    s.counts[CUTS] += 1
    if s.counts[CUTS] < MOST_CUTS:
        _move(s)
    elif s.counts[CURVED]:  # once more, along the gradient
        s.counts[CURVED] = 0
        propose(s)
    else:
        s.counts[DONE] = 1
    return False


@compiled
def accept(s: State, value: float, gradient: Floats) -> None:
    """Move there, learn the curvature, and propose the next step."""
    d = len(s.x)
    gained, curvature, of_step, of_change = s.numbers[VALUE] - value, 0.0, 0.0, 0.0
    step, change = s.there - s.x, gradient - s.gradient
    for i in range(d):
        curvature += step[i] * change[i]
        of_step += step[i] * step[i]
        of_change += change[i] * change[i]
    if curvature > 1e-12 * math.sqrt(of_step * of_change):
        if not s.counts[CURVED]:
            s.counts[CURVED] = 1
            s.H[:] = 0.0
            for i in range(d):
                s.H[i, i] = curvature / of_change  # Nocedal and Wright, eq. 6.20
        _update(s.H, step, change, curvature)
    s.x[:], s.gradient[:], s.numbers[VALUE] = s.there, gradient, value
    s.counts[STEPS] += 1
    if gained <= s.numbers[VALUE_TOLERANCE]:
        s.counts[DONE] = 1
    else:
        propose(s)


@compiled
def _free(s: State, i: int) -> float:
    """The slope of a variable; 0 at a bound which it is pushed through."""
    slope = s.gradient[i]
    return 0.0 if (s.x[i] <= s.low[i] and slope > 0.0) or (s.x[i] >= s.high[i] and slope < 0.0) else slope


@compiled
def _move(s: State) -> None:
    for i in range(len(s.x)):
        s.there[i] = min(max(s.x[i] + s.numbers[LENGTH] * s.step[i], s.low[i]), s.high[i])


@compiled
def _update(H: Floats, step: Floats, change: Floats, curvature: float) -> None:
    d = len(step)
    Hy, along = np.zeros(d), 0.0
    for i in range(d):
        for j in range(d):
            Hy[i] += H[i, j] * change[j]
        along += change[i] * Hy[i]
    factor = (1.0 + along / curvature) / curvature
    for i in range(d):
        for j in range(d):
            H[i, j] += factor * step[i] * step[j] - (step[i] * Hy[j] + Hy[i] * step[j]) / curvature
