"""The covariance on the CPU: rows compiled, matrices row by row where all columns are numbers, else by NumPy.

`row` and `row_vjp` are what an acquisition needs in its inner loop: one point against many.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums
from arqon_kernels._cpu.normal import exp_and_expm1
from arqon_kernels.covariance import CATEGORY, CONTEXT, CONTEXT_CYCLE, CYCLE, NUMBER, SAME_CATEGORY, TIME, difference

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def covariance(A: Floats, B: Floats, lengthscale: Floats, kinds: Integers) -> Floats:
    """(n, d), (m, d), (d,), (d,) -> (n, m)."""
    if (kinds == NUMBER).all():
        return _of_numbers(A, np.ascontiguousarray(B.T), lengthscale, kinds)
    shape = (len(A), len(B))
    r2, c2, away = np.zeros(shape), None, None
    categories = int((kinds == CATEGORY).sum())
    for i, (kind, scale) in enumerate(zip(kinds, lengthscale, strict=True)):
        apart = difference(A[:, i, None] - B[None, :, i], int(kind))
        if kind in (NUMBER, CYCLE):
            r2 += apart / scale**2
        elif kind in (CONTEXT, CONTEXT_CYCLE):
            c2 = apart / scale**2 if c2 is None else c2 + apart / scale**2
        else:
            apart = apart / (scale * categories if kind == CATEGORY else scale)
            away = apart if away is None else away + apart
    K = _matern52(r2) if c2 is None else _matern52(r2) * _matern52(c2)
    return K if away is None else K * np.exp(-away)


def _matern52(t: Floats) -> Floats:
    s = np.sqrt(5.0 * t)
    return np.asarray((1.0 + s + s * s / 3.0) * np.exp(-s))


@compiled
def _of_numbers(A: Floats, BT: Floats, lengthscale: Floats, kinds: Integers) -> Floats:
    K, slopes = np.empty((A.shape[0], BT.shape[1])), np.empty(BT.shape[1])
    for a in range(A.shape[0]):
        row(A[a], BT, lengthscale, kinds, K[a], slopes)
    return K


@compiled
def _apart(x: Floats, ZT: Floats, at: int, lengthscale: Floats, kinds: Integers) -> tuple[float, float, float]:
    """r^2 over knobs, c^2 over context, and the exponent e, of x and one point."""
    r2, c2, away, differs, categories = 0.0, 0.0, 0.0, 0.0, 0
    for i in range(len(x)):
        delta, kind = x[i] - ZT[i, at], kinds[i]
        if kind == NUMBER:
            r2 += (delta / lengthscale[i]) ** 2
        elif kind == CATEGORY:
            categories += 1
            if abs(delta) > SAME_CATEGORY:
                differs += 1.0 / lengthscale[i]
        elif kind == TIME:
            away += abs(delta) / lengthscale[i]
        elif kind == CONTEXT:
            c2 += (delta / lengthscale[i]) ** 2
        else:
            chord = math.sin(math.pi * delta) / math.pi / lengthscale[i]
            if kind == CYCLE:
                r2 += chord * chord
            else:
                c2 += chord * chord
    if categories > 0:
        away += differs / categories
    return r2, c2, away


@compiled_sums
def _numbers(x: Floats, ZT: Floats, lengthscale: Floats, r2: Floats) -> None:
    r2[:] = 0.0
    for j in range(len(x)):
        at, by = x[j], 1.0 / lengthscale[j]
        for i in range(len(r2)):
            delta = (at - ZT[j, i]) * by
            r2[i] += delta * delta


@compiled
def row(x: Floats, ZT: Floats, lengthscale: Floats, kinds: Integers, k: Floats, by_r2: Floats) -> None:
    """Covariances (n,) of one point with the columns of ZT (d, n), and dk/d(r^2) (n,), into k and by_r2."""
    if (kinds == NUMBER).all():
        _numbers(x, ZT, lengthscale, by_r2)
        for i in range(len(k)):  # with this exp the loop is vectorised
            s = math.sqrt(5.0 * by_r2[i])
            decay = exp_and_expm1(-min(s, 700.0))[0]
            k[i] = (1.0 + s + s * s / 3.0) * decay
            by_r2[i] = -5.0 / 6.0 * (1.0 + s) * decay
        return
    for i in range(len(k)):
        r2, c2, away = _apart(x, ZT, i, lengthscale, kinds)
        s, u = math.sqrt(5.0 * r2), math.sqrt(5.0 * c2)
        rest = (1.0 + u + u * u / 3.0) * math.exp(-s - u - away)
        k[i] = (1.0 + s + s * s / 3.0) * rest
        by_r2[i] = -5.0 / 6.0 * (1.0 + s) * rest


@compiled_sums
def row_vjp(
    x: Floats, ZT: Floats, lengthscale: Floats, kinds: Integers, g: Floats, by_r2: Floats, gradient: Floats
) -> None:
    """Add the gradient (d,) of sum(g * k(x, Z)) in the knobs of x; the other columns are given, so they have none."""
    for j in range(len(x)):
        total, scale, at = 0.0, lengthscale[j], x[j]
        if kinds[j] == NUMBER:
            for i in range(len(g)):
                total += g[i] * by_r2[i] * (at - ZT[j, i])
            gradient[j] += 2.0 * total / (scale * scale)
        elif kinds[j] == CYCLE:
            for i in range(len(g)):
                total += g[i] * by_r2[i] * math.sin(2.0 * math.pi * (at - ZT[j, i]))
            gradient[j] += total / (math.pi * scale * scale)
