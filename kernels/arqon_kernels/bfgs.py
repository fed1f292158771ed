"""Minimise a smooth function of few variables in a box: dense projected BFGS.

Variables that sit at a bound which the gradient pushes them through are left out of the step (Bertsekas 1982,
"Projected Newton methods"); the step is cut back along the projected path until it descends enough (Armijo); the
inverse Hessian is updated by BFGS (Nocedal and Wright 2006, eq. 6.17) where the curvature is positive. The pieces are
compiled (_cpu/bfgs.py); the log posterior runs on them without Python (likelihood.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from arqon_kernels._cpu.bfgs import State

Floats = npt.NDArray[np.float64]

GRADIENT_TOLERANCE, VALUE_TOLERANCE = 5e-3, 1e-5


def minimize(
    f: Callable[[Floats], tuple[float, Floats]],
    x: Floats,
    low: Floats,
    high: Floats,
    most_steps: int = 100,
    gradient_tolerance: float = GRADIENT_TOLERANCE,
    value_tolerance: float = VALUE_TOLERANCE,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Floats, float]:
    """The minimum found from x (d,) inside low <= x <= high, and its value.

    f gives value and gradient (d,). Ends when no component of the projected gradient exceeds `gradient_tolerance`, a
    step gains less than `value_tolerance` or `stop` says so. A value that is not finite counts as a wall; inf is
    returned where f is not finite at the start.
    """
    from arqon_kernels._cpu.bfgs import DONE, STEPS, VALUE, accept, judge, propose

    s = start(x, low, high, gradient_tolerance, value_tolerance)
    value, s.gradient[:] = f(s.x.copy())
    if not np.isfinite(value):
        return s.x, np.inf
    s.numbers[VALUE] = value
    propose(s)
    while not s.counts[DONE] and s.counts[STEPS] < most_steps and not stop():
        value, gradient = f(s.there.copy())
        if judge(s, float(value)):
            accept(s, float(value), gradient)
    return s.x, float(s.numbers[VALUE])


def start(
    x: Floats,
    low: Floats,
    high: Floats,
    gradient_tolerance: float = GRADIENT_TOLERANCE,
    value_tolerance: float = VALUE_TOLERANCE,
) -> State:
    """A minimisation that begins at x (d,), whose value and gradient are not known yet."""
    from arqon_kernels._cpu import interpreted
    from arqon_kernels._cpu.bfgs import state

    low, high, x = (np.array(given, dtype=float) for given in (low, high, x))
    return interpreted(state)(low, high, x, gradient_tolerance, value_tolerance, 1.0)
