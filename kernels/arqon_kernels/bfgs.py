"""Minimise a smooth function of few variables in a box: dense projected BFGS.

Variables that sit at a bound which the gradient pushes them through are left out of the step (Bertsekas 1982,
"Projected Newton methods"); the step is cut back along the projected path until it descends enough (Armijo); the
inverse Hessian is updated by BFGS (Nocedal and Wright 2006, eq. 6.17) where the curvature is positive.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DESCENT = 1e-4  # of the first-order decrease
MOST_CUTS = 20


def minimize(
    f: Callable[[Floats], tuple[float, Floats]],
    x: Floats,
    low: Floats,
    high: Floats,
    *,
    most_steps: int = 100,
    gradient_tolerance: float = 5e-3,
    value_tolerance: float = 1e-5,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Floats, float]:
    """The minimum found from x (d,) inside low <= x <= high, and its value.

    f gives value and gradient (d,). Ends when no component of the projected gradient exceeds `gradient_tolerance`, a
    step gains less than `value_tolerance`, or `stop` says so before a step. A value that is not finite counts as a
    wall; inf is returned where f is not finite at the start.
    """
    x = np.clip(x, low, high)
    value, gradient = f(x)
    if not np.isfinite(value):
        return x, np.inf
    H: Floats | None = None
    for _ in range(most_steps):
        free = ~(((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)))
        slope = np.where(free, gradient, 0.0)
        if np.abs(slope).max() <= gradient_tolerance or stop():
            break
        step = -slope / max(1.0, float(np.linalg.norm(slope))) if H is None else np.where(free, -(H @ slope), 0.0)
        if float(step @ slope) >= 0.0:
            H, step = None, -slope / max(1.0, float(np.linalg.norm(slope)))
        found = _cut_back(f, x, value, gradient, step, low, high)
        if found is None:
            if H is None:
                break
            H = None
            continue
        there, there_value, there_gradient = found
        gained = value - there_value
        H = _updated(H, there - x, there_gradient - gradient)
        x, value, gradient = there, there_value, there_gradient
        if gained <= value_tolerance:
            break
    return x, value


def _cut_back(
    f: Callable[[Floats], tuple[float, Floats]],
    x: Floats,
    value: float,
    gradient: Floats,
    step: Floats,
    low: Floats,
    high: Floats,
) -> tuple[Floats, float, Floats] | None:
    """The first point along the projected step that descends enough, with value and gradient."""
    length = 1.0
    for _ in range(MOST_CUTS):
        there = np.clip(x + length * step, low, high)
        there_value, there_gradient = f(there)
        if np.isfinite(there_value) and there_value <= value + DESCENT * float(gradient @ (there - x)):
            return there, there_value, there_gradient
        length *= 0.4
    return None


def _updated(H: Floats | None, s: Floats, y: Floats) -> Floats | None:
    curvature = float(s @ y)
    if curvature <= 1e-12 * float(np.linalg.norm(s) * np.linalg.norm(y)):
        return H
    if H is None:
        H = np.eye(len(s)) * (curvature / float(y @ y))  # Nocedal and Wright, eq. 6.20
    Hy = H @ y
    outer = np.outer(s, Hy)
    return np.asarray(H + ((1.0 + float(y @ Hy) / curvature) * np.outer(s, s) - outer - outer.T) / curvature)
