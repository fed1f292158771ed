"""The log posterior density of the hyperparameters in torch: the reference, as written, differentiable by autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from arqon_kernels._torch.covariance import covariance


def log_posterior(
    theta: Tensor,
    X: Tensor,
    y: Tensor,
    share: Tensor,
    floor: Tensor,
    kinds: Sequence[int],
    *,
    lengthscale_loc: Tensor,
    lengthscale_scale: Tensor,
    noise_prior: tuple[float, float] | None,
    ss: float = 0.0,
    dof: float = 0.0,
    within_floor: float = 0.0,
) -> Tensor:
    """The density (), at theta (d + 1,): the logs of the lengthscales and of the noise; as LogPosterior has it."""
    lengthscale, noise = theta[:-1].exp(), theta[-1].exp()
    if noise_prior is None:
        noise = noise.detach()
    K = covariance(X, X, lengthscale, kinds) + torch.diag(noise * share + floor)  # n x n
    ones = torch.ones_like(y)
    solved = torch.linalg.solve(K, torch.stack([ones, y], dim=-1))  # n x 2
    residual = y - (ones @ solved[:, 1]) / (ones @ solved[:, 0])
    value = -0.5 * (residual @ torch.linalg.solve(K, residual) + torch.logdet(K) + len(y) * math.log(2.0 * math.pi))
    variance = noise + within_floor
    value = value - 0.5 * (dof * variance.log() + ss / variance)
    value = value + _lognormal(theta[:-1], lengthscale_loc, lengthscale_scale).sum()
    if noise_prior is not None:
        value = value + _lognormal(theta[-1], *(y.new_tensor(v) for v in noise_prior))
    density: Tensor = value
    return density


def _lognormal(log_x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The log density of x, as a density of x itself."""
    off = (log_x - loc) / scale
    density: Tensor = -log_x - 0.5 * off.square() - scale.log() - 0.5 * math.log(2.0 * math.pi)
    return density
