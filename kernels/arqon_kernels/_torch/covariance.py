"""The covariance in torch: the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from arqon_kernels.covariance import CATEGORY, CONTEXT, CONTEXT_CYCLE, CYCLE, NUMBER, SAME_CATEGORY, TIME


def covariance(A: Tensor, B: Tensor, lengthscale: Tensor, kinds: Sequence[int]) -> Tensor:
    """(..., n, d), (..., m, d), (d,) -> (..., n, m); differentiable, also where points coincide."""
    delta = A.unsqueeze(-2) - B.unsqueeze(-3)  # ... x n x m x d
    knobs = _distance(delta, lengthscale, kinds, NUMBER, CYCLE)  # ... x n x m
    context = _distance(delta, lengthscale, kinds, CONTEXT, CONTEXT_CYCLE)
    time = [i for i, kind in enumerate(kinds) if kind == TIME]
    away = (delta[..., time].abs() / lengthscale[time]).sum(dim=-1)
    categories = [i for i, kind in enumerate(kinds) if kind == CATEGORY]
    if categories:
        away = away + ((delta[..., categories].abs() > SAME_CATEGORY) / lengthscale[categories]).mean(dim=-1)
    return _matern52(knobs) * _matern52(context) * torch.exp(-away)


def _distance(delta: Tensor, lengthscale: Tensor, kinds: Sequence[int], straight: int, cycle: int) -> Tensor:
    """Squared scaled distance over the columns of two kinds."""
    lines = [i for i, kind in enumerate(kinds) if kind == straight]
    cycles = [i for i, kind in enumerate(kinds) if kind == cycle]
    total = (delta[..., lines] / lengthscale[lines]).square().sum(dim=-1)
    chord = torch.sin(math.pi * delta[..., cycles]) / math.pi
    return total + (chord / lengthscale[cycles]).square().sum(dim=-1)


def _matern52(t: Tensor) -> Tensor:
    s = math.sqrt(5.0) * torch.where(t > 0, t, torch.ones_like(t)).sqrt()  # the root has no gradient at 0
    k = (1.0 + s + s.square() / 3.0) * torch.exp(-s)
    return torch.where(t > 0, k, 1.0 - 5.0 / 6.0 * t)  # its series at 0 keeps value and gradient
