"""The root of a covariance's inverse, and what one row more or less makes of it in O(n^2).

K = L L', root = L^-1, so that K^-1 = root' root and a variance is k(x, x) - |root k|^2: products, no solves.
Append a row with covariances k and variance v: l = root k, w^2 = v - l'l, and the new last row is (-l' root, 1) / w (by
blocks of L). Drop row i: the columns of the root but i give K^-1 without row and column i plus its outer part, which
turns of row i with each row below it take into row i alone, and that row is left out (Golub and Van Loan 2013, 6.5).
Shapes: K, root (n, n), lower triangles; float64. LinAlgError where a matrix is not positive definite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arqon_kernels.covariance import Integers, covariance

Floats = npt.NDArray[np.float64]


def root(K: Floats) -> Floats:
    """The root (n, n) of a covariance, of which the lower triangle is read."""
    from arqon_kernels._cpu.factor import root as body

    found, good = body(np.ascontiguousarray(K, dtype=float))
    if not good:
        raise np.linalg.LinAlgError(f"a covariance of {len(K)} rows is not positive definite")
    return np.asarray(found)


def root_of(X: Floats, lengthscale: Floats, kinds: Integers, noise: Floats, device: str | None = None) -> Floats:
    """The root (n, n) of covariance(X, X) + diag(noise), X (n, d), noise (n,): compiled or on a torch device."""
    if device is not None:
        from arqon_kernels._torch.factor import root_of as on_device

        return on_device(X, lengthscale, kinds, noise, device)
    K = covariance(X, X, lengthscale, kinds)
    K.flat[:: len(K) + 1] += noise
    return root(K)


def append(root: Floats, k: Floats, variance: float) -> Floats:
    """The root (n + 1, n + 1) with one row more at the end: its covariances k (n,) with the others, its variance."""
    from arqon_kernels._cpu.factor import append as body

    found, good = body(root, np.ascontiguousarray(k, dtype=float), float(variance))
    if not good:
        raise np.linalg.LinAlgError(f"the row appended to {len(root)} repeats them: nothing of its variance is left")
    return np.asarray(found)


def drop(root: Floats, row: int) -> Floats:
    """The root (n - 1, n - 1) without this row; IndexError where there is none."""
    from arqon_kernels._cpu.factor import drop as body

    if not 0 <= row < len(root):
        raise IndexError(f"row: expected 0 to {len(root) - 1}, found {row}")
    return np.asarray(body(root, row))
