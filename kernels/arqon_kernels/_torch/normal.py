"""Logs of normal and lognormal tail expectations in torch: the reference, as written, differentiable by autograd."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_SQRT_TAU = 0.5 * math.log(2.0 * math.pi)


def log_ndtr(z: Tensor) -> Tensor:
    """log Phi(z)."""
    value: Tensor = torch.special.log_ndtr(z)
    return value


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 (Maechler 2012)."""
    near = x > -math.log(2.0)
    small = torch.log(-torch.expm1(torch.where(near, x, -torch.ones_like(x))))
    return torch.where(near, small, torch.log1p(-torch.exp(torch.where(near, -torch.ones_like(x), x))))


def log_ei(mean: Tensor, std: Tensor, best: Tensor) -> Tensor:
    """log E[(N(mean, std^2) - best)_+]."""
    return torch.log(std) + log_h((mean - best) / std)


def log_h(z: Tensor) -> Tensor:
    """log(phi(z) + z Phi(z)): as written, by erfcx below -1 (Ament et al. 2023), by its series below -40."""
    one = torch.ones_like(z)
    high = torch.where(z > -1.0, z, one)
    value = torch.log(torch.exp(-0.5 * high.square() - LOG_SQRT_TAU) + high * torch.special.ndtr(high))
    middle = torch.where((z <= -1.0) & (z > -40.0), z, -one)
    mills = math.sqrt(0.5 * math.pi) * torch.special.erfcx(-middle / math.sqrt(2.0))
    below = -0.5 * middle.square() - LOG_SQRT_TAU + torch.log1p(middle * mills)
    low = torch.where(z <= -40.0, z, -40.0 * one)
    u = 1.0 / low.square()
    series = torch.log1p(u * (-3.0 + u * (15.0 + u * (-105.0 + u * 945.0))))
    far = -0.5 * low.square() - LOG_SQRT_TAU - 2.0 * torch.log(-low) + series
    return torch.where(z > -1.0, value, torch.where(z > -40.0, below, far))


def log_put(mean: Tensor, std: Tensor, log_strike: Tensor) -> Tensor:
    """log E[(exp(log_strike) - exp(u))_+]; loses digits as 1 / std for a small std."""
    d = (log_strike - mean) / std
    paid = log_strike + log_ndtr(d)
    return paid + log1mexp(mean + 0.5 * std.square() + log_ndtr(d - std) - paid)


def log_call(mean: Tensor, std: Tensor, log_strike: Tensor) -> Tensor:
    """log E[(exp(u) - exp(log_strike))_+]; loses digits as 1 / std for a small std."""
    d = (log_strike - mean) / std
    got = mean + 0.5 * std.square() + log_ndtr(std - d)
    return got + log1mexp(log_strike + log_ndtr(-d) - got)
