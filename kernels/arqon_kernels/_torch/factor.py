"""The root of a covariance's inverse in torch: the reference, made anew whatever was changed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from arqon_kernels._torch.covariance import covariance
from arqon_kernels.covariance import Floats, Integers


def root(K: Tensor) -> Tensor:
    """L^-1 (n, n) of K = L L'; LinAlgError where K is not positive definite."""
    L, failed = torch.linalg.cholesky_ex(K)
    if failed:
        raise np.linalg.LinAlgError(f"a covariance of {len(K)} rows is not positive definite")
    found: Tensor = torch.linalg.solve_triangular(L, torch.eye(len(K), dtype=K.dtype, device=K.device), upper=False)
    return found


def root_of(X: Floats, lengthscale: Floats, kinds: Integers, noise: Floats, device: str) -> Floats:
    """The root (n, n) of covariance(X, X) + diag(noise), made on a device."""
    points, scale, D = (torch.tensor(x, dtype=torch.float64, device=device) for x in (X, lengthscale, noise))
    K = covariance(points, points, scale, [int(kind) for kind in kinds])
    return np.ascontiguousarray(root(K + torch.diag(D)).cpu().numpy())
