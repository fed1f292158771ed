"""Matern-5/2 compiled by numba: one pass, no temporaries of size n m d."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled

Floats = npt.NDArray[np.float64]


@compiled
def covariance(A: Floats, B: Floats, lengthscale: Floats) -> Floats:
    n, d = A.shape
    m = B.shape[0]
    K = np.empty((n, m))
    for a in range(n):
        for b in range(m):
            t = 0.0
            for i in range(d):
                delta = (A[a, i] - B[b, i]) / lengthscale[i]
                t += delta * delta
            s = math.sqrt(5.0 * t)
            K[a, b] = (1.0 + s + s * s / 3.0) * math.exp(-s)
    return K


@compiled
def vjp(A: Floats, B: Floats, lengthscale: Floats, G: Floats) -> tuple[Floats, Floats, Floats]:
    n, d = A.shape
    m = B.shape[0]
    grad_A, grad_B, grad_l = np.zeros((n, d)), np.zeros((m, d)), np.zeros(d)
    for a in range(n):
        for b in range(m):
            t = 0.0
            for i in range(d):
                delta = (A[a, i] - B[b, i]) / lengthscale[i]
                t += delta * delta
            s = math.sqrt(5.0 * t)
            slope = -5.0 / 6.0 * (1.0 + s) * math.exp(-s) * G[a, b]  # G dk/dt
            for i in range(d):
                delta = (A[a, i] - B[b, i]) / lengthscale[i]
                pull = 2.0 * slope * delta / lengthscale[i]
                grad_A[a, i] += pull
                grad_B[b, i] -= pull
                grad_l[i] -= pull * delta
    return grad_A, grad_B, grad_l
