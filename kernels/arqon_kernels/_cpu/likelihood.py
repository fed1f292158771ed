"""The elementwise parts of the log posterior that NumPy would need many passes for; exp and sqrt stay NumPy's, which
are vectorised where a compiled scalar call is not (5 to 10 times, measured 2026-11-25)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled_sums

Floats = npt.NDArray[np.float64]


@compiled_sums
def matern_parts(s: Floats, decay: Floats, K: Floats, slope: Floats) -> None:
    """K = (1 + s + s^2 / 3) decay and slope = -(5/6) (1 + s) decay, flat arrays."""
    for i in range(len(s)):
        first = 1.0 + s[i]
        K[i] = (first + s[i] * s[i] / 3.0) * decay[i]
        slope[i] = (-5.0 / 6.0) * first * decay[i]


@compiled_sums
def trace_weights(a: Floats, inverse: Floats, slope: Floats, W: Floats) -> None:
    """W = (a a' - inverse) slope on and below the diagonal, 0 above; inverse (n, n) holds its lower triangle."""
    for i in range(len(a)):
        for j in range(i + 1):
            W[i, j] = (a[i] * a[j] - inverse[i, j]) * slope[i, j]
        for j in range(i + 1, len(a)):
            W[i, j] = 0.0
