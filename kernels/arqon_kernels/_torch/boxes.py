"""Box decomposition in torch: the reference, every cell of the grid through the front's coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def decompose(F: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """lower, upper (K, m) of the grid cells above the reference (m,) that no point of F (P, m) dominates."""
    F = F[F.gt(reference).all(dim=-1)]  # P' x m
    grid = [torch.cat((reference[j : j + 1], F[:, j].sort().values)) for j in range(F.shape[-1])]
    lower = torch.cartesian_prod(*grid)  # cells x m
    upper = torch.cartesian_prod(*(torch.cat((g[1:], g.new_full((1,), math.inf))) for g in grid))  # cells x m
    dominated = (F.unsqueeze(0) >= upper.unsqueeze(1)).all(dim=-1).any(dim=-1)  # cells
    return lower[~dominated], upper[~dominated]
