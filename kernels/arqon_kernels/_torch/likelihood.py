"""The log posterior density of the hyperparameters in torch: the reference, as written, differentiable by autograd;
and for a CUDA device by one Cholesky factor, whose gradient is derived but for the covariance's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from arqon_kernels._torch.covariance import covariance
from arqon_kernels.covariance import Floats, Integers


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


class OnDevice:
    """The density on a torch device, given as LogPosterior has it, `scatter` (ss, dof, within_floor); NumPy goes in and
    comes out.
    """

    def __init__(
        self,
        rows: tuple[Floats, Floats, Floats, Floats],
        kinds: Integers,
        lengthscales: tuple[Floats, Floats],
        noise_prior: tuple[float, float] | None,
        scatter: tuple[float, float, float],
        device: str,
    ) -> None:
        self._kinds, self._noise_prior, self._scatter = [int(kind) for kind in kinds], noise_prior, scatter
        tensors = [torch.tensor(x, dtype=torch.float64, device=device) for x in (*rows, *lengthscales)]
        self._X, self._y, self._share, self._floor, self._loc, self._scale = tensors

    @torch.enable_grad()  # whatever the caller has switched off
    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """Value and gradient (d + 1,); -inf where K + D is not positive definite."""
        (ss, dof, within_floor), noise = self._scatter, math.exp(theta[-1])
        at = torch.tensor(theta[:-1], dtype=torch.float64, device=self._X.device, requires_grad=True)
        K = covariance(self._X, self._X, at.exp(), self._kinds)
        found = self._solved(K.detach(), noise)
        if found is None:
            return -math.inf, np.zeros(len(theta))
        A, a, residual, half_log_det, _ = found
        slope = 0.5 * (torch.outer(a, a) - A)
        variance = noise + within_floor
        value = -0.5 * (residual @ a) - half_log_det - 0.5 * len(a) * math.log(2.0 * math.pi)
        value = value - 0.5 * (dof * math.log(variance) + ss / variance)
        prior = _lognormal(at, self._loc, self._scale).sum()
        torch.autograd.backward([K, prior], [slope, torch.ones_like(prior)])
        assert at.grad is not None
        gradient, total = np.append(at.grad.cpu().numpy(), 0.0), float(value + prior.detach())
        if self._noise_prior is not None:
            loc, scale = self._noise_prior
            total += float(_lognormal(*(torch.tensor(x, dtype=torch.float64) for x in (theta[-1], loc, scale))))
            by_noise = float(slope.diagonal() @ self._share) - 0.5 * (dof / variance - ss / variance**2)
            gradient[-1] = noise * by_noise - 1.0 - (theta[-1] - loc) / scale**2
        return total, gradient

    def constant(self, theta: Floats) -> float:
        """The profiled mean."""
        return float(self._at(theta)[4])

    def inverse(self, theta: Floats) -> tuple[Floats, Floats]:
        """(K + D)^-1 (y - c) (n,) and (K + D)^-1 (n, n)."""
        A, a, *_ = self._at(theta)
        return a.cpu().numpy(), A.cpu().numpy()

    def _at(self, theta: Floats) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        lengthscale = torch.as_tensor(np.exp(theta[:-1]), device=self._X.device)
        found = self._solved(covariance(self._X, self._X, lengthscale, self._kinds), math.exp(theta[-1]))
        if found is None:
            raise np.linalg.LinAlgError("the covariance is not positive definite")
        return found

    def _solved(self, K: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
        """A = (K + D)^-1, A (y - c), y - c, half of log|K + D|, and c."""
        L, failed = torch.linalg.cholesky_ex(K + torch.diag(noise * self._share + self._floor))
        if failed:
            return None
        A = torch.cholesky_inverse(L)
        weight = A.sum(dim=0)
        constant = (weight @ self._y) / weight.sum()
        residual = self._y - constant
        return A, A @ residual, residual, L.diagonal().log().sum(), constant
