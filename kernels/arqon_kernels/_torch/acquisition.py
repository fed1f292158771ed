"""The acquisition in torch: the reference, every sample and box on its own, differentiable by autograd.

The formulas stand in acquisition.py. Shapes: r points, S samples, m outcomes of which o are objectives, K boxes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from arqon_kernels._torch.covariance import covariance
from arqon_kernels._torch.improvement import log_psi
from arqon_kernels._torch.normal import log1mexp, log_call, log_ei, log_ndtr, log_put
from arqon_kernels.acquisition import (
    AUGMENTATION,
    FEASIBLE,
    HYPERVOLUME,
    LEAST_VARIANCE,
    MEAN,
    OUT_OF_REACH,
    PENALTY,
    UTILITY,
    Problem,
)


def value(p: Problem, X: Tensor) -> Tensor:
    """The value (r,) at X (r, d), by all samples."""
    mean, std = _moments(p, X)  # r x S x m, r x 1 x m
    limits = _limits(p, mean, std)  # r x S
    if p.goal == MEAN:
        return (_utility_of_mean(p, mean, std) + PENALTY * (limits - p.log_confidence).clamp(max=0.0)).squeeze(-1)
    samples = limits
    if p.goal == UTILITY:
        improvement = _improvement(p, mean, std)
        if len(p.weight) > 1:
            nowhere = (improvement == -math.inf).all(dim=-1, keepdim=True)
            improvement = torch.where(nowhere, _out_of_reach(p, mean, std), improvement)
        samples = samples + improvement
    elif p.goal == HYPERVOLUME:
        samples = samples + _hypervolume(p, mean, std)
        if p.floor > -math.inf:
            samples = samples + _floor(p, mean)
    else:
        assert p.goal == FEASIBLE
    return torch.logsumexp(samples, dim=-1) - math.log(samples.shape[-1])


def _moments(p: Problem, X: Tensor) -> tuple[Tensor, Tensor]:
    means, stds = [], []
    for j in range(len(p.constant)):
        k = covariance(X, _tensor(p.ZT).T, _tensor(p.lengthscale[j]), p.kinds.tolist())  # r x N
        means.append(p.constant[j] + k @ _tensor(p.A[j]))  # r x S
        stds.append((1.0 - (k @ _tensor(p.R[j]).T).square().sum(dim=-1, keepdim=True)).clamp_min(LEAST_VARIANCE).sqrt())
    return torch.stack(means, dim=-1), torch.stack(stds, dim=-1)


def _limits(p: Problem, mean: Tensor, std: Tensor) -> Tensor:
    total = mean.new_zeros(mean.shape[:-1])
    for j, side, at in zip(p.limit_outcome.tolist(), p.limit_side, p.limit_at, strict=True):
        total = total + log_ndtr(side * (at - mean[..., j]) / std[..., j])
    return total


def _improvement(p: Problem, mean: Tensor, std: Tensor) -> Tensor:
    """log E[(U - best)_+] of each sample (r, S)."""
    linear = [j for j in range(len(p.weight)) if not p.is_log[j]]
    drawn = [j for j in range(len(p.weight)) if p.is_log[j]]
    best, last = _tensor(p.best), None if linear else drawn.pop()
    others = mean.new_zeros(mean.shape[:-1])
    for j in drawn:
        y = mean[..., j] + std[..., j] * _tensor(p.draws[j])
        others = others + p.weight[j] * torch.exp(p.shift[j] + p.scale[j] * y)
    if last is not None:
        u, u_std = p.shift[last] + p.scale[last] * mean[..., last], p.scale[last] * std[..., last]
        return _pay_off(float(p.weight[last]), u, u_std, best - others)
    weight = _tensor(p.weight * p.scale[: len(p.weight)])
    normal = (weight * mean[..., : len(weight)])[..., linear].sum(dim=-1)
    normal = normal + float((p.weight * p.shift[: len(p.weight)])[linear].sum())
    spread = (weight * std[..., : len(weight)])[..., linear].square().sum(dim=-1).sqrt()
    return log_ei(normal + others, spread, best)


def _out_of_reach(p: Problem, mean: Tensor, std: Tensor) -> Tensor:
    """log E[(U - best)_+] (r, S) with U normal, less OUT_OF_REACH."""
    o = len(p.weight)
    scale, weight = _tensor(p.scale[:o]), _tensor(p.weight)
    variance = (scale * std[..., :o]).square()
    forward = weight * torch.exp(_tensor(p.shift[:o]) + scale * mean[..., :o] + 0.5 * variance)
    spread = (forward.square() * torch.expm1(variance)).sum(dim=-1).sqrt()
    return log_ei(forward.sum(dim=-1), spread, _tensor(p.best)) - OUT_OF_REACH


def _pay_off(weight: float, mean: Tensor, std: Tensor, threshold: Tensor) -> Tensor:
    """log E[(weight e^u - threshold)_+], u ~ N(mean, std^2)."""
    strike = threshold / weight
    crossed = strike > 0.0
    log_strike = torch.log(torch.where(crossed, strike, 1.0))
    if weight < 0.0:
        return torch.where(crossed, log_put(mean, std, log_strike) + math.log(-weight), -math.inf)
    certain = torch.log(weight * torch.exp(mean + 0.5 * std.square()) - torch.where(crossed, -1.0, threshold))
    return torch.where(crossed, log_call(mean, std, log_strike) + math.log(weight), certain)


def _hypervolume(p: Problem, mean: Tensor, std: Tensor) -> Tensor:
    """log E[hypervolume improvement] of each sample (r, S): the sum over its boxes."""
    S, K, o = p.boxes.lower_index.shape
    total = mean.new_zeros(len(mean), S, K)
    possible = (torch.arange(K) < torch.as_tensor(p.boxes.number)[:, None]).expand(total.shape)  # r x S x K
    for j in range(o):
        u = (p.shift[j] + p.scale[j] * mean[..., j]).unsqueeze(-1)  # r x S x 1
        u_std, sign, edges = (
            (p.scale[j] * std[..., j]).unsqueeze(-1),
            math.copysign(1.0, p.weight[j]),
            p.boxes.edges[:, j],
        )
        low, high = (
            log_psi(u, u_std, sign, bool(p.is_log[j]), _tensor(edges).gather(1, torch.as_tensor(index[..., j]).long()))
            for index in (p.boxes.lower_index, p.boxes.upper_index)
        )  # r x S x K
        falls = low > high
        possible = possible & falls
        low, high = torch.where(falls, low, 0.0), torch.where(falls, high, -1.0)
        total = total + low + log1mexp(high - low)
    return torch.logsumexp(torch.where(possible, total, -math.inf), dim=-1)


def _floor(p: Problem, mean: Tensor) -> Tensor:
    """log P(the augmented Chebyshev value of the means is above the floor) of each sample (r, S)."""
    o = len(p.weight)
    u = _tensor(p.shift[:o]) + _tensor(p.scale[:o]) * mean[..., :o]
    return log_ndtr((_chebyshev(p, torch.where(torch.as_tensor(p.is_log), u.exp(), u)) - p.floor) / p.floor_width)


def _utility_of_mean(p: Problem, mean: Tensor, std: Tensor) -> Tensor:
    """The utility of the expected outcomes (r, 1)."""
    o = len(p.weight)
    scale = _tensor(p.scale[:o])
    u, u_std = _tensor(p.shift[:o]) + scale * mean[..., :o], scale * std[..., :o]
    Y = torch.where(torch.as_tensor(p.is_log), torch.exp(u + 0.5 * u_std.square()), u)
    return _chebyshev(p, Y) if len(p.centre) else Y @ _tensor(p.weight)


def _chebyshev(p: Problem, Y: Tensor) -> Tensor:
    part = _tensor(p.weight) * (Y - _tensor(p.centre))
    return part.amin(dim=-1) + AUGMENTATION * part.sum(dim=-1)


def _tensor(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)
