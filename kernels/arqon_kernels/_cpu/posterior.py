"""Weights and moments of a posterior, compiled, without BLAS (see factor.py). The formulas stand in posterior.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums
from arqon_kernels._cpu.factor import dots

Floats = npt.NDArray[np.float64]


@compiled_sums
def weights(root: Floats, r: Floats) -> Floats:
    n = len(root)
    alpha = np.zeros(n)
    for i in range(n):
        total = 0.0
        for j in range(i + 1):
            total += root[i, j] * r[j]
        for j in range(i + 1):
            alpha[j] += root[i, j] * total
    return alpha


@compiled
def moments(root: Floats, alpha: Floats, k: Floats) -> tuple[Floats, Floats]:
    q, n = k.shape
    mean, explained = np.zeros(q), np.zeros(q)
    for a in range(0, q - 1, 2):
        for i in range(0, n - 3, 4):
            s0, s1, s2, s3, t0, t1, t2, t3 = dots(k, a, root, i, 0, i + 4)
            explained[a] += (s0 * s0 + s1 * s1) + (s2 * s2 + s3 * s3)
            explained[a + 1] += (t0 * t0 + t1 * t1) + (t2 * t2 + t3 * t3)
    for a in range(q):
        mean[a] = _dot(k[a], alpha, n)
        first = n - n % 4 if a < q - q % 2 else 0  # what came in no block of 2 x 4
        for i in range(first, n):
            explained[a] += _dot(root[i], k[a], i + 1) ** 2
    return mean, explained


@compiled_sums
def _dot(x: Floats, y: Floats, count: int) -> float:
    total = 0.0
    for i in range(count):
        total += x[i] * y[i]
    return total
