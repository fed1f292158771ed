"""The covariance of two sets of points: a product of factors, one column of X each kind of input.

k(a, b) = m(r) m(c) exp(-e),  m(r) = (1 + s + s^2 / 3) exp(-s),  s = sqrt(5) r   (Matern-5/2)
r^2 = sum over knobs (delta_i / l_i)^2, c^2 the same over context columns, and
e = mean over categories [a_i != b_i] / l_i + sum over time columns |a_i - b_i| / l_i.
delta_i = a_i - b_i, or sin(pi (a_i - b_i)) / pi on a cycle of period 1: the chord, near a = b the difference itself.
Sources: Rasmussen and Williams 2006, eq. 4.17; the exponential factor in time is the forgetting of Bogunovic et al.
2016, "Time-varying Gaussian process bandit optimization"; BoTorch's CategoricalKernel for categories.
With t = r^2:  dm/dt = -(5/6) (1 + s) exp(-s), smooth at a = b.
Shapes: A (n, d), B (m, d), lengthscale (d,), kinds (d,) -> (n, m), float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUMBER, CATEGORY, CYCLE, TIME, CONTEXT, CONTEXT_CYCLE = range(6)  # the kinds of columns
SAME_CATEGORY = 1e-5  # categories nearer than this are one (BoTorch's CategoricalKernel)


def covariance(A: Any, B: Any, lengthscale: Any, kinds: Any = None) -> Any:
    """The covariance (n, m) of two sets of points, as the type that came in: NumPy arrays or torch tensors.

    `kinds` holds NUMBER, CATEGORY, CYCLE, TIME, CONTEXT or CONTEXT_CYCLE for each column; None: all are numbers.
    ValueError for shapes that do not fit, an unknown kind or a lengthscale that is not positive.
    """
    if type(A).__module__.partition(".")[0] == "torch":
        from arqon_kernels._torch.covariance import covariance as reference

        return reference(A, B, lengthscale, [NUMBER] * A.shape[-1] if kinds is None else [int(k) for k in kinds])
    from arqon_kernels._cpu.covariance import covariance as body

    return body(*_checked(A, B, lengthscale, kinds))


def difference(delta: Floats, kind: int) -> Floats:
    """What a column adds to its distance at lengthscale 1: squared difference or chord, indicator, or time apart."""
    if kind in (NUMBER, CONTEXT):
        return delta * delta
    if kind in (CYCLE, CONTEXT_CYCLE):
        return np.asarray((np.sin(math.pi * delta) / math.pi) ** 2)
    return np.asarray(np.abs(delta) > SAME_CATEGORY, dtype=float) if kind == CATEGORY else np.abs(delta)


def _checked(A: Any, B: Any, lengthscale: Any, kinds: Any) -> tuple[Floats, Floats, Floats, Integers]:
    A, B, lengthscale = (np.ascontiguousarray(x, dtype=np.float64) for x in (A, B, lengthscale))
    d = A.shape[-1]
    kinds = np.zeros(d, dtype=np.int64) if kinds is None else np.ascontiguousarray(kinds, dtype=np.int64)
    if A.ndim != 2 or B.ndim != 2 or lengthscale.shape != (d,) or B.shape[1] != d or kinds.shape != (d,):
        raise ValueError(
            "expected shapes (n, d), (m, d), (d,), (d,); "
            f"found {A.shape}, {B.shape}, {lengthscale.shape}, {kinds.shape}"
        )
    if not (lengthscale > 0).all():
        raise ValueError(f"lengthscale: expected positive numbers, found {lengthscale}")
    if not ((kinds >= NUMBER) & (kinds <= CONTEXT_CYCLE)).all():
        raise ValueError(f"kinds: expected {NUMBER} to {CONTEXT_CYCLE}, found {kinds}")
    return A, B, lengthscale, kinds
