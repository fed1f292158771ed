"""The log posterior of the hyperparameters, and the climb on it, compiled: no BLAS, so no thread but the caller's, and
the same result whatever the threads of the process. The formulas stand in likelihood.py.

All matrices are padded to n4, the next multiple of 4, by rows of the identity (see factor.py).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums
from arqon_kernels._cpu.bfgs import DONE, STEPS, VALUE, State, accept, judge, propose
from arqon_kernels._cpu.factor import factorise, invert, square
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
    constant: Floats  # (1,)


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
        np.zeros(1),
    )


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
    s.constant[0] = constant
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
    invert(s.L, s.U)
    square(s.U, s.inverse)
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
def evaluate(p: Density, s: Scratch, theta: Floats) -> tuple[float, Floats]:
    """Value and gradient (d + 1,); the gradient is 0 where the value is -inf."""
    value = value_at(p, s, theta)
    if not value > -math.inf:
        return value, np.zeros(len(theta))
    gradient_there(p, s, theta)
    return value, s.gradient


@compiled
def climb(p: Density, s: Scratch, at: State, last: int) -> bool:
    """Evaluate the start, once, and step until `last` steps are made in all; whether there is nothing left to gain.

    The value stays inf where the density is not finite at the start. `s.constant` is that of the last evaluation.
    """
    if at.counts[STEPS] == 0:
        value = value_at(p, s, at.x)
        at.numbers[VALUE] = math.inf
        if not math.isfinite(value):
            return True
        gradient_there(p, s, at.x)
        at.numbers[VALUE] = -value
        at.gradient[:] = -s.gradient
        propose(at)
    while at.counts[DONE] == 0 and at.counts[STEPS] < last:
        value = -value_at(p, s, at.there)
        if judge(at, value):
            gradient_there(p, s, at.there)
            accept(at, value, -s.gradient)
    return bool(at.counts[DONE] == 1)
