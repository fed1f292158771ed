"""Moments of the samples at a point and the way back from their slopes, compiled; the scratch of one evaluation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums
from arqon_kernels.acquisition import Problem

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Work(NamedTuple):
    """Scratch of one evaluation."""

    k: Floats  # (m, N)
    by_r2: Floats  # (m, N)
    v: Floats  # (m, Q)
    width: Integers  # (m, Q)
    mean: Floats  # (m, S)
    std: Floats  # (m,)
    value: Floats  # (S,)
    by_mean: Floats  # (m, S) of sample s's value
    by_std: Floats  # (m, S)
    by_gain: Floats  # (S,) of a sample's value in its utility, and in the deviation of it
    by_spread: Floats  # (S,)
    g: Floats  # (N,)
    u: Floats  # (S, o) raw means, for the hypervolume as all that follows
    u_std: Floats  # (o,)
    by_u: Floats  # (S, o)
    by_u_std: Floats  # (S, o)
    table: Floats  # (3, o, S, E)


@compiled
def workspace(p: Problem, samples: int) -> Work:
    """Scratch for so many samples."""
    m, N, Q, o = p.lengthscale.shape[0], p.ZT.shape[1], p.R.shape[1], len(p.weight)
    width = np.empty((m, Q), np.int64)
    for j in range(m):
        fill_width(p.R[j], width[j])
    return Work(
        np.empty((m, N)),
        np.empty((m, N)),
        np.empty((m, Q)),
        width,
        np.empty((m, samples)),
        np.empty(m),
        np.empty(samples),
        np.empty((m, samples)),
        np.empty((m, samples)),
        np.empty(samples),
        np.empty(samples),
        np.empty(N),
        np.empty((samples, o)),
        np.empty(o),
        np.empty((samples, o)),
        np.empty((samples, o)),
        np.empty((3, o, samples, p.boxes.edges.shape[2])),
    )


@compiled
def fill_width(R: Floats, width: Integers) -> None:
    """The columns of each row of R (Q, N) up to its last that is not 0; R begins with a triangle."""
    for q in range(R.shape[0]):
        w = R.shape[1]
        while w > 0 and R[q, w - 1] == 0.0:
            w -= 1
        width[q] = w


@compiled
def log_mean(w: Work) -> float:
    """log mean_s exp(value_s); the slopes of the samples are weighted by their shares."""
    most = float(w.value.max())
    if not math.isfinite(most):
        return most
    total = 0.0
    for s in range(len(w.value)):
        w.value[s] = math.exp(w.value[s] - most)
        total += w.value[s]
    for s in range(len(w.value)):
        share = w.value[s] / total
        for j in range(len(w.std)):
            w.by_mean[j, s] *= share
            w.by_std[j, s] *= share
    return most + math.log(total / len(w.value))


@compiled_sums
def moments(A: Floats, R: Floats, width: Integers, constant: float, k: Floats, v: Floats, mean: Floats) -> None:
    """v = R k, and the mean of each sample."""
    Q, N = R.shape
    for q in range(0, Q - 3, 4):  # four rows at a time: k is read once for them
        a = b = c = d = 0.0
        for i in range(width[q : q + 4].max()):
            a += R[q, i] * k[i]
            b += R[q + 1, i] * k[i]
            c += R[q + 2, i] * k[i]
            d += R[q + 3, i] * k[i]
        v[q], v[q + 1], v[q + 2], v[q + 3] = a, b, c, d
    for q in range(Q - Q % 4, Q):
        total = 0.0
        for i in range(width[q]):
            total += R[q, i] * k[i]
        v[q] = total
    mean[:] = constant
    for i in range(0, N - 3, 4):
        for s in range(len(mean)):
            mean[s] += (k[i] * A[i, s] + k[i + 1] * A[i + 1, s]) + (k[i + 2] * A[i + 2, s] + k[i + 3] * A[i + 3, s])
    for i in range(N - N % 4, N):
        for s in range(len(mean)):
            mean[s] += k[i] * A[i, s]


@compiled_sums
def pull(
    A: Floats, R: Floats, width: Integers, v: Floats, by_mean: Floats, by_std: Floats, std: float, g: Floats
) -> None:
    """The slope of the value in each k_i: through the means, and through variance = 1 - v'v."""
    total = 0.0
    for s in range(len(by_std)):
        total += by_std[s]
    total = -total / std
    Q, N = R.shape
    for i in range(0, N - 3, 4):
        a = b = c = d = 0.0
        for s in range(len(by_mean)):
            a += A[i, s] * by_mean[s]
            b += A[i + 1, s] * by_mean[s]
            c += A[i + 2, s] * by_mean[s]
            d += A[i + 3, s] * by_mean[s]
        g[i], g[i + 1], g[i + 2], g[i + 3] = a, b, c, d
    for i in range(N - N % 4, N):
        slope = 0.0
        for s in range(len(by_mean)):
            slope += A[i, s] * by_mean[s]
        g[i] = slope
    for q in range(0, Q - 3, 4):
        a, b, c, d = total * v[q], total * v[q + 1], total * v[q + 2], total * v[q + 3]
        for i in range(width[q : q + 4].max()):
            g[i] += (a * R[q, i] + b * R[q + 1, i]) + (c * R[q + 2, i] + d * R[q + 3, i])
    for q in range(Q - Q % 4, Q):
        pull = total * v[q]
        for i in range(width[q]):
            g[i] += pull * R[q, i]
