"""The root of a covariance's inverse in torch: the reference, made anew whatever was changed."""

from __future__ import annotations

import torch
from torch import Tensor


def root(K: Tensor) -> Tensor:
    """L^-1 (n, n) of K = L L'."""
    found: Tensor = torch.linalg.solve_triangular(
        torch.linalg.cholesky(K), torch.eye(len(K), dtype=K.dtype), upper=False
    )
    return found
