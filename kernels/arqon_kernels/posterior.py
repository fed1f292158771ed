"""Posterior mean and variance of a zero-mean Gaussian process, from the root of its covariance's inverse.

With root = L^-1, L L' = k(X, X) + D (factor.py): alpha = root' root y, mean = k alpha and variance = 1 - |root k'|^2
where k = k(x, X) (Rasmussen and Williams 2006, algorithm 2.1). Their gradients in x are part of acquisition.py, which
alone wants them. Shapes: n rows, q points; root (n, n) lower, alpha, y (n,), k (q, n) -> (q,); float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def weights(root: Floats, y: Floats) -> Floats:
    """alpha (n,)."""
    from arqon_kernels._cpu.posterior import weights as body

    return np.asarray(body(root, np.ascontiguousarray(y, dtype=float)))


def moments(root: Floats, alpha: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Mean (q,), and variance explained by the rows (q,): 1 less the posterior variance."""
    from arqon_kernels._cpu.posterior import moments as body

    mean, explained = body(root, alpha, np.ascontiguousarray(k, dtype=float))
    return np.asarray(mean), np.asarray(explained)
