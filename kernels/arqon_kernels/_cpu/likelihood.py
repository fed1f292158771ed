"""The elementwise parts of the log posterior that NumPy would need many passes for; exp and sqrt stay NumPy's, which
are vectorised where a compiled scalar call is not (5 to 10 times, measured 2026-11-25)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled_sums
from arqon_kernels._cpu.covariance import row

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LOG_2PI = math.log(2.0 * math.pi)


@compiled_sums
def matern_parts(s: Floats, decay: Floats, K: Floats, slope: Floats) -> None:
    """K = (1 + s + s^2 / 3) decay and slope = -(5/6) (1 + s) decay, flat arrays."""
    for i in range(len(s)):
        first = 1.0 + s[i]
        K[i] = (first + s[i] * s[i] / 3.0) * decay[i]
        slope[i] = (-5.0 / 6.0) * first * decay[i]


@compiled_sums
def small(
    X: Floats, y: Floats, share: Floats, diagonal: Floats, lengthscale: Floats, kinds: Integers, gradient: Floats
) -> tuple[float, float]:
    """Likelihood and tr((a a' - A) dK/dnoise) of few rows whose columns are all numbers; -inf where K fails.

    Everything in one call: for few rows calling costs more than computing. Fills gradient (d,).
    """
    n, d = X.shape
    K, slope, L = np.empty((n, n)), np.empty((n, n)), np.zeros((n, n))
    for i in range(n):
        row(X[i], X, lengthscale, kinds, K[i], slope[i])
        K[i, i] += diagonal[i]
    log_determinant = 0.0
    for i in range(n):  # L L' = K, then L becomes its own inverse
        for j in range(i + 1):
            total = K[i, j]
            for q in range(j):
                total -= L[i, q] * L[j, q]
            if i == j:
                if not total > 0.0:
                    return -math.inf, 0.0
                L[i, i] = math.sqrt(total)
                log_determinant += math.log(L[i, i])
            else:
                L[i, j] = total / L[j, j]
    for j in range(n):
        L[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, n):
            total = 0.0
            for q in range(j, i):
                total += L[i, q] * L[q, j]
            L[i, j] = -total / L[i, i]
    A = L.T @ L
    ones, solved = A.sum(axis=1), A @ y
    constant = solved.sum() / ones.sum()
    a = solved - constant * ones
    trace = 0.0
    gradient[:] = 0.0
    for i in range(n):
        trace += (a[i] * a[i] - A[i, i]) * share[i]
        for j in range(i):
            w = -2.0 * (a[i] * a[j] - A[i, j]) * slope[i, j]
            for q in range(d):
                r = (X[i, q] - X[j, q]) / lengthscale[q]
                gradient[q] += w * r * r
    value = -0.5 * ((y - constant) * a).sum() - log_determinant - 0.5 * n * LOG_2PI
    return value, trace


@compiled_sums
def trace_weights(a: Floats, inverse: Floats, slope: Floats, W: Floats) -> None:
    """W = (a a' - inverse) slope on and below the diagonal, 0 above; inverse (n, n) holds its lower triangle."""
    for i in range(len(a)):
        for j in range(i + 1):
            W[i, j] = (a[i] * a[j] - inverse[i, j]) * slope[i, j]
        for j in range(i + 1, len(a)):
            W[i, j] = 0.0
