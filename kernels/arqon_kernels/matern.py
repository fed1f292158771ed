"""Matern-5/2 covariance with one lengthscale a dimension.

k(a, b) = (1 + s + s^2 / 3) exp(-s),  s = sqrt(5) r,  r^2 = sum_i ((a_i - b_i) / l_i)^2
(Rasmussen and Williams 2006, eq. 4.17). With t = r^2:  dk/dt = -(5/6) (1 + s) exp(-s), smooth at a = b.
Shapes: A (n, d), B (m, d), lengthscale (d,) -> (n, m), float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def matern52(A: Any, B: Any, lengthscale: Any) -> Any:
    """The covariance (n, m) of two sets of points, as the type that came in: NumPy arrays or torch tensors.

    ValueError for shapes that do not fit or a lengthscale that is not positive.
    """
    if type(A).__module__.partition(".")[0] == "torch":
        from arqon_kernels._torch.matern import matern52 as reference

        return reference(A, B, lengthscale)
    from arqon_kernels._cpu.matern import covariance

    return covariance(*_checked(A, B, lengthscale))


def matern52_vjp(A: Floats, B: Floats, lengthscale: Floats, G: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients (n, d), (m, d), (d,) of sum(G * matern52(A, B, lengthscale)) for an upstream gradient G (n, m)."""
    from arqon_kernels._cpu.matern import vjp

    A, B, lengthscale = _checked(A, B, lengthscale)
    G = np.ascontiguousarray(G, dtype=np.float64)
    if G.shape != (len(A), len(B)):
        raise ValueError(f"G: expected shape {(len(A), len(B))}, found {G.shape}")
    return vjp(A, B, lengthscale, G)


def _checked(A: Any, B: Any, lengthscale: Any) -> tuple[Floats, Floats, Floats]:
    A, B, lengthscale = (np.ascontiguousarray(x, dtype=np.float64) for x in (A, B, lengthscale))
    if A.ndim != 2 or B.ndim != 2 or lengthscale.shape != (A.shape[1],) or B.shape[1] != A.shape[1]:
        raise ValueError(f"expected shapes (n, d), (m, d), (d,); found {A.shape}, {B.shape}, {lengthscale.shape}")
    if not (lengthscale > 0).all():
        raise ValueError(f"lengthscale: expected positive numbers, found {lengthscale}")
    return A, B, lengthscale
