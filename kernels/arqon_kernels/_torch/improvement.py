"""Expected hypervolume improvement in torch: the reference, every box on its own and in logs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from arqon_kernels._torch.normal import log1mexp, log_call, log_ei, log_put


def log_expected_hvi(mean: Tensor, std: Tensor, sign: Any, is_log: Any, lower: Any, upper: Any, count: Any) -> Tensor:
    """mean (S, m), std (m,), lower and upper (S, K, m), count (S,) -> the log of the mean over S, shape ()."""
    lower, upper = (torch.as_tensor(x, dtype=mean.dtype, device=mean.device) for x in (lower, upper))
    S, K, m = lower.shape
    total = mean.new_zeros(S, K)
    possible = torch.arange(K, device=mean.device) < torch.as_tensor(count, device=mean.device).unsqueeze(-1)  # S x K
    for j in range(m):
        center = mean[:, j : j + 1]  # S x 1
        low = log_psi(center, std[j], float(sign[j]), bool(is_log[j]), lower[..., j])  # S x K
        high = log_psi(center, std[j], float(sign[j]), bool(is_log[j]), upper[..., j])  # S x K
        falls = low > high
        possible = possible & falls
        low, high = torch.where(falls, low, 0.0), torch.where(falls, high, -1.0)
        total = total + low + log1mexp(high - low)
    if not possible.any():
        return mean.sum() * 0.0 - math.inf
    return torch.logsumexp(total[possible], dim=0) - math.log(S)


def log_psi(mean: Tensor, std: Tensor, sign: float, is_log: bool, edge: Tensor) -> Tensor:
    """log E[(h - edge)_+] for h = sign u or sign exp(u); -inf where it is 0."""
    finite = torch.isfinite(edge)
    strike = torch.where(finite, edge, 0.0)
    if not is_log:
        return torch.where(finite, log_ei(sign * mean, std, strike), -math.inf)
    crossed = sign * strike > 0  # an edge that the outcome may lie on either side of
    log_strike = torch.log(torch.where(crossed, sign * strike, 1.0))
    if sign < 0:
        return torch.where(finite & crossed, log_put(mean, std, log_strike), -math.inf)
    certain = torch.log(torch.exp(mean + 0.5 * std.square()) - torch.where(crossed, -1.0, strike))
    return torch.where(finite, torch.where(crossed, log_call(mean, std, log_strike), certain), -math.inf)
