"""Posterior mean and explained variance in torch: the reference, by solves."""

from __future__ import annotations

import torch
from torch import Tensor


def moments(K: Tensor, y: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (q,) and explained variance (q,) for the covariance K (n, n) of the rows, noise included, and k (q, n)."""
    solved = torch.linalg.solve(K, k.T)  # n x q
    return y @ solved, (k * solved.T).sum(dim=-1)
