"""Matern-5/2 in torch: the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def matern52(A: Tensor, B: Tensor, lengthscale: Tensor) -> Tensor:
    """(..., n, d), (..., m, d), (d,) -> (..., n, m); differentiable in all three, also where points coincide."""
    delta = (A.unsqueeze(-2) - B.unsqueeze(-3)) / lengthscale  # ... x n x m x d
    t = delta.square().sum(dim=-1)  # ... x n x m
    s = math.sqrt(5.0) * torch.where(t > 0, t, torch.ones_like(t)).sqrt()  # the root has no gradient at 0
    k = (1.0 + s + s.square() / 3.0) * torch.exp(-s)
    return torch.where(t > 0, k, 1.0 - 5.0 / 6.0 * t)  # its series at 0 keeps value and gradient
