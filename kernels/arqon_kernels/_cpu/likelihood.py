"""The log posterior of the hyperparameters, and the climb on it, compiled: no BLAS, so no thread but the caller's, and
the same result whatever the threads of the process. The formulas stand in likelihood.py.

All matrices are padded to n4, the next multiple of 4, by rows of the identity: blocks of 2 x 4 dot products keep the
processor busy, and need no loop for the rest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums
from arqon_kernels._cpu.bfgs import DONE, STEPS, VALUE, State, accept, judge, propose
from arqon_kernels._cpu.normal import exp_and_expm1
from arqon_kernels.covariance import CATEGORY, CONTEXT, CONTEXT_CYCLE, CYCLE, NUMBER, SAME_CATEGORY, TIME

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LOG_2PI = math.log(2.0 * math.pi)


class Density(NamedTuple):
    """Everything the density depends on but the hyperparameters."""

    XT: Floats  # (d, n4)
    y: Floats  # (n4,)
    share: Floats
    floor: Floats
    kinds: Integers  # (d,)
    loc: Floats  # (d,) of the lognormal priors of the lengthscales
    scale: Floats
    noise_prior: Floats  # loc and scale; empty where the noise is fixed
    scatter: Floats  # ss, dof, within_floor
    n: int


class Scratch(NamedTuple):
    """Arrays of one evaluation; K and the slopes are lower triangles."""

    K: Floats  # (n4, n4)
    by_r2: Floats
    by_c2: Floats  # (1, 1) without context
    L: Floats  # lower factor of K + D
    U: Floats  # row i is column i of L^-1
    inverse: Floats  # its lower triangle
    ones: Floats  # (n4,) L^-1 1
    residual: Floats  # (n4,) L^-1 (y - c)
    r2: Floats
    c2: Floats
    away: Floats
    lengthscale: Floats  # (d,)
    gradient: Floats  # (d + 1,)


@compiled
def scratch(p: Density) -> Scratch:
    d, n4 = p.XT.shape
    context = 1
    for i in range(d):
        if p.kinds[i] == CONTEXT or p.kinds[i] == CONTEXT_CYCLE:
            context = n4
    return Scratch(
        np.zeros((n4, n4)),
        np.zeros((n4, n4)),
        np.zeros((context, context)),
        np.zeros((n4, n4)),
        np.zeros((n4, n4)),
        np.zeros((n4, n4)),
        np.zeros(n4),
        np.zeros(n4),
        np.zeros(n4),
        np.zeros(n4),
        np.zeros(n4),
        np.zeros(d),
        np.zeros(d + 1),
    )


# ---- linear algebra ---------------------------------------------------------------------


@compiled_sums
def _dots(
    A: Floats, i: int, B: Floats, j: int, first: int, last: int
) -> tuple[float, float, float, float, float, float, float, float]:
    """The dot products of rows i, i + 1 of A with rows j to j + 3 of B, columns first to last - 1."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
    for q in range(np.uint64(first), np.uint64(last)):  # unsigned: Python's negative indices would cost a branch
        x, y = A[i, q], A[i + 1, q]
        u0, u1, u2, u3 = B[j, q], B[j + 1, q], B[j + 2, q], B[j + 3, q]
        a0 += x * u0
        a1 += x * u1
        a2 += x * u2
        a3 += x * u3
        b0 += y * u0
        b1 += y * u1
        b2 += y * u2
        b3 += y * u3
    return a0, a1, a2, a3, b0, b1, b2, b3


@compiled_sums
def factorise(L: Floats) -> bool:
    """L L' = the matrix (n4, n4) whose lower triangle L holds, in place, four columns at a time; False where it is not
    positive definite. What is above the diagonal is rubbish."""
    n4 = len(L)
    for j in range(0, n4, 4):
        for i in range(j, n4, 2):
            a0, a1, a2, a3, b0, b1, b2, b3 = _dots(L, i, L, j, 0, j)
            L[i, j] -= a0
            L[i, j + 1] -= a1
            L[i, j + 2] -= a2
            L[i, j + 3] -= a3
            L[i + 1, j] -= b0
            L[i + 1, j + 1] -= b1
            L[i + 1, j + 2] -= b2
            L[i + 1, j + 3] -= b3
        for c in range(j, j + 4):
            pivot = L[c, c]
            for q in range(j, c):
                pivot -= L[c, q] * L[c, q]
            if not pivot > 0.0:
                return False
            L[c, c] = math.sqrt(pivot)
            for i in range(c + 1, n4):
                total = L[i, c]
                for q in range(j, c):
                    total -= L[i, q] * L[c, q]
                L[i, c] = total / L[c, c]
    return True


@compiled_sums
def _invert(L: Floats, U: Floats) -> None:
    """U = (L^-1)', its upper triangle; what is below must be 0."""
    for i in range(0, len(L), 4):
        for q in range(i, len(L), 2):
            a0, a1, a2, a3, b0, b1, b2, b3 = _dots(L, q, U, i, i, q)
            if q < i + 2:
                a0, b1 = a0 - 1.0, b1 - 1.0
            elif q < i + 4:
                a2, b3 = a2 - 1.0, b3 - 1.0
            left, first, second = L[q + 1, q], -1.0 / L[q, q], -1.0 / L[q + 1, q + 1]
            U[i, q], U[i + 1, q], U[i + 2, q], U[i + 3, q] = a0 * first, a1 * first, a2 * first, a3 * first
            U[i, q + 1] = (b0 + left * U[i, q]) * second
            U[i + 1, q + 1] = (b1 + left * U[i + 1, q]) * second
            U[i + 2, q + 1] = (b2 + left * U[i + 2, q]) * second
            U[i + 3, q + 1] = (b3 + left * U[i + 3, q]) * second


@compiled_sums
def _square(U: Floats, inverse: Floats) -> None:
    """The lower triangle of U U', U upper."""
    for i in range(0, len(U), 4):
        for j in range(0, i + 4, 2):
            a0, a1, a2, a3, b0, b1, b2, b3 = _dots(U, j, U, i, i, len(U))
            inverse[i, j], inverse[i, j + 1] = a0, b0
            inverse[i + 1, j], inverse[i + 1, j + 1] = a1, b1
            inverse[i + 2, j], inverse[i + 2, j + 1] = a2, b2
            inverse[i + 3, j], inverse[i + 3, j + 1] = a3, b3


# ---- the covariance ---------------------------------------------------------------------


@compiled_sums
def _distances(p: Density, s: Scratch, i: int) -> tuple[bool, bool]:
    """r^2, c^2 and e of row i with the rows up to it; whether there are columns of context, and of those in e."""
    context, apart, categories = False, False, 0
    for q in range(len(p.kinds)):
        categories += p.kinds[q] == CATEGORY
    s.r2[: i + 1] = 0.0
    for q in range(len(p.kinds)):
        kind, x = p.kinds[q], p.XT[q]
        if kind == NUMBER:
            by = 1.0 / (s.lengthscale[q] * s.lengthscale[q])
            for j in range(i + 1):
                s.r2[j] += by * (x[i] - x[j]) * (x[i] - x[j])
            continue
        if kind in (CATEGORY, TIME):
            if not apart:
                s.away[: i + 1] = 0.0
            apart = True
            by = 1.0 / (s.lengthscale[q] * (categories if kind == CATEGORY else 1))
            for j in range(i + 1):
                s.away[j] += by * _apart(x[i] - x[j], kind)
            continue
        by = 1.0 / (s.lengthscale[q] * s.lengthscale[q])
        if kind == CYCLE:
            for j in range(i + 1):
                s.r2[j] += by * _apart(x[i] - x[j], kind)
        else:
            if not context:
                s.c2[: i + 1] = 0.0
            context = True
            for j in range(i + 1):
                s.c2[j] += by * _apart(x[i] - x[j], kind)
    return context, apart


@compiled
def _apart(delta: float, kind: int) -> float:
    """covariance.difference of one pair."""
    if kind == CATEGORY:
        return 1.0 if abs(delta) > SAME_CATEGORY else 0.0
    if kind == TIME:
        return abs(delta)
    if kind in (CYCLE, CONTEXT_CYCLE):
        chord = math.sin(math.pi * delta) / math.pi
        return chord * chord
    return delta * delta


@compiled
def _matern(r2: Floats, K: Floats, by_r2: Floats, count: int) -> None:
    for j in range(count):  # with this exp the loop is vectorised
        s = math.sqrt(5.0 * r2[j])
        decay = exp_and_expm1(-min(s, 700.0))[0]
        K[j] = (1.0 + s + s * s / 3.0) * decay
        by_r2[j] = -5.0 / 6.0 * (1.0 + s) * decay


@compiled
def _fill(p: Density, s: Scratch, noise: float) -> None:
    """K, its slopes, and K + D where it is factorised."""
    n4 = len(p.y)
    factor, slope = np.empty(n4), np.empty(n4)
    for i in range(p.n):
        context, apart = _distances(p, s, i)
        K, by_r2 = s.K[i], s.by_r2[i]
        _matern(s.r2, K, by_r2, i + 1)
        if apart:
            for j in range(i + 1):
                decay = math.exp(-s.away[j])
                K[j] *= decay
                by_r2[j] *= decay
        if context:
            _matern(s.c2, factor, slope, i + 1)
            for j in range(i + 1):
                s.by_c2[i, j] = K[j] * slope[j]
                K[j] *= factor[j]
                by_r2[j] *= factor[j]
        s.L[i, : i + 1] = K[: i + 1]
        s.L[i, i] += noise * p.share[i] + p.floor[i]
    for i in range(p.n, n4):
        s.L[i, :i] = 0.0
        s.L[i, i] = 1.0


# ---- the density ------------------------------------------------------------------------


@compiled_sums
def value_at(p: Density, s: Scratch, theta: Floats) -> float:
    """The log posterior density; -inf where K + D is not positive definite."""
    n, d = p.n, len(p.kinds)
    for q in range(d):
        s.lengthscale[q] = math.exp(theta[q])
    noise = math.exp(theta[d])
    _fill(p, s, noise)
    if not factorise(s.L):
        return -math.inf
    of_ones, of_y, log_determinant = 0.0, 0.0, 0.0
    for i in range(n):
        one, y = 1.0, p.y[i]
        for q in range(i):
            one -= s.L[i, q] * s.ones[q]
            y -= s.L[i, q] * s.residual[q]
        s.ones[i], s.residual[i] = one / s.L[i, i], y / s.L[i, i]
        of_ones += s.ones[i] * s.ones[i]
        of_y += s.ones[i] * s.residual[i]
        log_determinant += math.log(s.L[i, i])
    constant, square = of_y / of_ones, 0.0
    for i in range(n):
        s.residual[i] -= constant * s.ones[i]
        square += s.residual[i] * s.residual[i]
    value = -0.5 * square - log_determinant - 0.5 * n * LOG_2PI
    return value + _prior(p, theta, noise, s.gradient)


@compiled_sums
def _prior(p: Density, theta: Floats, noise: float, gradient: Floats) -> float:
    """Log prior and the scatter of the windows; their gradient begins `gradient`."""
    d, value = len(p.kinds), 0.0
    for q in range(d):
        off = (theta[q] - p.loc[q]) / p.scale[q]
        value += -theta[q] - 0.5 * off * off - math.log(p.scale[q]) - 0.5 * LOG_2PI
        gradient[q] = -1.0 - off / p.scale[q]
    ss, dof, variance = p.scatter[0], p.scatter[1], noise + p.scatter[2]
    value -= 0.5 * dof * math.log(variance) + 0.5 * ss / variance
    gradient[d] = (-0.5 * dof + 0.5 * ss / variance) * noise / variance
    if len(p.noise_prior):
        off = (theta[d] - p.noise_prior[0]) / p.noise_prior[1]
        value += -theta[d] - 0.5 * off * off - math.log(p.noise_prior[1]) - 0.5 * LOG_2PI
        gradient[d] += -1.0 - off / p.noise_prior[1]
    return float(value)


@compiled_sums
def gradient_there(p: Density, s: Scratch, theta: Floats) -> None:
    """Complete `s.gradient`, where value_at was called last: tr((a a' - A) dK) / 2; each pair of rows counts once."""
    n, d, noise = p.n, len(p.kinds), math.exp(theta[len(p.kinds)])
    _invert(s.L, s.U)
    _square(s.U, s.inverse)
    a, w, trace, categories = s.ones, s.r2, 0.0, 0
    for q in range(d):
        categories += p.kinds[q] == CATEGORY
    for i in range(n):
        total = 0.0
        for q in range(i, n):
            total += s.U[i, q] * s.residual[q]
        a[i] = total
        trace += (total * total - s.inverse[i, i]) * p.share[i]
    for i in range(n):
        for j in range(i):
            w[j] = a[i] * a[j] - s.inverse[i, j]
        for q in range(d):
            kind, x, total = p.kinds[q], p.XT[q], 0.0
            if kind == NUMBER:
                for j in range(i):
                    total += w[j] * s.by_r2[i, j] * (x[i] - x[j]) * (x[i] - x[j])
            elif kind in (CATEGORY, TIME):
                for j in range(i):
                    total += w[j] * s.K[i, j] * _apart(x[i] - x[j], kind)
            elif kind == CYCLE:
                for j in range(i):
                    total += w[j] * s.by_r2[i, j] * _apart(x[i] - x[j], kind)
            else:
                for j in range(i):
                    total += w[j] * s.by_c2[i, j] * _apart(x[i] - x[j], kind)
            if kind == CATEGORY:
                s.gradient[q] += total / (s.lengthscale[q] * categories)
            elif kind == TIME:
                s.gradient[q] += total / s.lengthscale[q]
            else:
                s.gradient[q] -= 2.0 * total / (s.lengthscale[q] * s.lengthscale[q])
    s.gradient[d] = s.gradient[d] + 0.5 * noise * trace if len(p.noise_prior) else 0.0


@compiled
def evaluate(p: Density, theta: Floats) -> tuple[float, Floats]:
    """Value and gradient (d + 1,); the gradient is 0 where the value is -inf."""
    s = scratch(p)
    value = value_at(p, s, theta)
    if not value > -math.inf:
        return value, np.zeros(len(theta))
    gradient_there(p, s, theta)
    return value, s.gradient


@compiled
def begin(p: Density, s: Scratch, at: State) -> bool:
    """Evaluate the start; False where the density is not finite there."""
    value = value_at(p, s, at.x)
    if not math.isfinite(value):
        return False
    gradient_there(p, s, at.x)
    at.numbers[VALUE] = -value
    at.gradient[:] = -s.gradient
    propose(at)
    return True


@compiled
def climb(p: Density, s: Scratch, at: State, last: int) -> bool:
    """Steps until `last` of them are made in all; whether there is nothing left to gain."""
    while at.counts[DONE] == 0 and at.counts[STEPS] < last:
        value = -value_at(p, s, at.there)
        if judge(at, value):
            gradient_there(p, s, at.there)
            accept(at, value, -s.gradient)
    return bool(at.counts[DONE] == 1)
