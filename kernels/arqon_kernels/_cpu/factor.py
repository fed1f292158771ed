"""Cholesky factors and their inverses, compiled: no BLAS, so no thread but the caller's, and the same result whatever
the threads of the process. The formulas stand in factor.py.

`factorise`, `invert` and `square` want matrices padded to n4, the next multiple of 4, by rows of the identity: blocks
of 2 x 4 dot products keep the processor busy, and need no loop for the rest.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled, compiled_sums

Floats = npt.NDArray[np.float64]


@compiled_sums
def dots(
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
            a0, a1, a2, a3, b0, b1, b2, b3 = dots(L, i, L, j, 0, j)
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
def invert(L: Floats, U: Floats) -> None:
    """U = (L^-1)', its upper triangle; what is below must be 0."""
    for i in range(0, len(L), 4):
        for q in range(i, len(L), 2):
            a0, a1, a2, a3, b0, b1, b2, b3 = dots(L, q, U, i, i, q)
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
def square(U: Floats, inverse: Floats) -> None:
    """The lower triangle of U U', U upper."""
    for i in range(0, len(U), 4):
        for j in range(0, i + 4, 2):
            a0, a1, a2, a3, b0, b1, b2, b3 = dots(U, j, U, i, i, len(U))
            inverse[i, j], inverse[i, j + 1] = a0, b0
            inverse[i + 1, j], inverse[i + 1, j + 1] = a1, b1
            inverse[i + 2, j], inverse[i + 2, j + 1] = a2, b2
            inverse[i + 3, j], inverse[i + 3, j + 1] = a3, b3


@compiled
def root(K: Floats) -> tuple[Floats, bool]:
    """L^-1 (n, n) of K = L L', and whether K is positive definite."""
    n = len(K)
    n4 = -(-n // 4) * 4
    L, U = np.eye(n4), np.zeros((n4, n4))
    L[:n, :n] = K
    good = factorise(L)
    if good:
        invert(L, U)
    return np.ascontiguousarray(U.T[:n, :n]), good and math.isfinite(U.sum())


@compiled_sums
def append(root: Floats, k: Floats, diagonal: float) -> tuple[Floats, bool]:
    """The root (n + 1, n + 1) with one row more, and whether it exists."""
    n = len(root)
    out, shared, left = np.zeros((n + 1, n + 1)), np.empty(n), diagonal
    for i in range(n):
        total = 0.0
        for j in range(i + 1):
            total += root[i, j] * k[j]
        shared[i] = total
        left -= total * total
    if not left > 0.0:
        return out, False
    last, by = out[n], 1.0 / math.sqrt(left)
    for i in range(n):
        for j in range(i + 1):
            out[i, j] = root[i, j]
            last[j] -= shared[i] * root[i, j]
    for j in range(n):
        last[j] *= by
    last[n] = by
    return out, True


@compiled_sums
def drop(root: Floats, row: int) -> Floats:
    """The root (n - 1, n - 1) without a row."""
    n = len(root)
    out, gone = np.zeros((n - 1, n - 1)), root[row].copy()
    for i in range(row):
        out[i, : i + 1] = root[i, : i + 1]
    for i in range(row + 1, n):
        length = math.hypot(gone[row], root[i, row])
        c, s = gone[row] / length, root[i, row] / length  # the turn that takes row i's part in the column away
        for j in range(row):
            out[i - 1, j] = c * root[i, j] - s * gone[j]
            gone[j] = s * root[i, j] + c * gone[j]
        for j in range(row + 1, i + 1):
            out[i - 1, j - 1] = c * root[i, j] - s * gone[j]
            gone[j] = s * root[i, j] + c * gone[j]
        gone[row] = length
    return out
