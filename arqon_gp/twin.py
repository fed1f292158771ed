"""The BoTorch twin of an outcome's Gaussian process: the same posterior as a SingleTaskGP, for gradients by autograd
and for researchers, whose every acquisition function works on it.

Public: single_task_gp, DTYPE.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from botorch.models import SingleTaskGP
from botorch.models.kernels.categorical import CategoricalKernel
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import Kernel, MaternKernel, ProductKernel
from gpytorch.likelihoods.gaussian_likelihood import _GaussianLikelihoodBase
from gpytorch.likelihoods.noise_models import Noise
from gpytorch.priors import LogNormalPrior
from linear_operator.operators import DiagLinearOperator
from torch import Tensor

from arqon_gp.rows import (
    COLD_NOISE,
    EXACT_NOISE,
    LEAST_LENGTHSCALE,
    NOISE_PRIOR,
    NOISE_RANGE,
    Hyperparameters,
    Rows,
    Settings,
    lengthscale_prior,
    lengthscales,
)
from arqon_kernels.covariance import CYCLE

DTYPE = torch.float64


def single_task_gp(
    rows: Rows, settings: Settings, h: Hyperparameters, device: torch.device, *, learned: bool
) -> SingleTaskGP:
    """The model on the standardised scale, in evaluation mode."""
    model = _model(rows, settings, device, learned=learned)
    _write(model, settings, h)
    return model.eval()


class _RowNoise(Noise):  # type: ignore[misc]  # gpytorch ships no types
    """Noise variance of a row: noise / count + floor. One parameter, the variance of a single window."""

    def __init__(self, rows: Rows, noise: float, *, learned: bool) -> None:
        super().__init__()
        self.register_parameter("raw_noise", torch.nn.Parameter(torch.zeros(1, dtype=DTYPE), requires_grad=learned))
        low, high = NOISE_RANGE if learned else (EXACT_NOISE / 10.0, 10.0)
        self.register_constraint("raw_noise", Interval(low, high, transform=None, initial_value=noise))
        self.register_buffer("share", torch.as_tensor(rows.share, dtype=DTYPE))
        self.register_buffer("floor", torch.as_tensor(rows.floor, dtype=DTYPE))
        self.raw_noise.data.fill_(noise)
        if learned:
            self.register_prior("noise_prior", LogNormalPrior(*NOISE_PRIOR), lambda module: module.noise)

    @property
    def noise(self) -> Tensor:
        """Variance (1,) of a single window."""
        raw: Tensor = self.raw_noise
        return raw

    def forward(self, *_: object, shape: torch.Size | None = None, **__: object) -> DiagLinearOperator:
        """The rows' noise where the shape is theirs, a single window's elsewhere."""
        if shape is None or shape[-1] == len(self.share):
            return DiagLinearOperator(self.noise * self.share + self.floor)
        return DiagLinearOperator(self.noise.expand(shape))


class _RowLikelihood(_GaussianLikelihoodBase):  # type: ignore[misc]  # gpytorch ships no types
    """Gaussian likelihood of rows that are means of windows."""

    def __init__(self, noise: _RowNoise) -> None:
        super().__init__(noise_covar=noise)

    @property
    def noise(self) -> Tensor:
        """Variance (1,) of a single window."""
        noise: Tensor = self.noise_covar.noise
        return noise


class _Matern(MaternKernel):  # type: ignore[misc]  # gpytorch ships no types
    """Matern-5/2 over numbers, some of which (by place) are positions on a circle of circumference 1, a chord apart."""

    def __init__(self, cycles: list[int], **given: Any) -> None:
        super().__init__(**given)
        self._cycles = cycles

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: object) -> Tensor:
        """The covariance of two sets of points."""
        apart = self.covar_dist(self._placed(x1), self._placed(x2), diag=diag)
        s = math.sqrt(5.0) * apart
        covariance: Tensor = (1.0 + s + s**2 / 3.0) * (-s).exp()
        return covariance

    def _placed(self, x: Tensor) -> Tensor:
        """The points in lengthscales, each circle in two coordinates."""
        straight = [i for i in range(x.shape[-1]) if i not in self._cycles]
        angle, scale = 2.0 * math.pi * x[..., self._cycles], self.lengthscale
        circle = torch.cat([angle.sin(), angle.cos()], dim=-1) / (2.0 * math.pi)
        return torch.cat([x[..., straight] / scale[..., straight], circle / scale[..., self._cycles * 2]], dim=-1)


def _kernel(settings: Settings) -> Kernel:
    numeric, categories = settings.numeric, sorted(settings.categorical + settings.regime)
    parts: list[Kernel] = []
    if numeric:
        prior = LogNormalPrior(*lengthscale_prior(len(numeric)))
        constraint = GreaterThan(LEAST_LENGTHSCALE, transform=None, initial_value=prior.mode)
        cycles = [place for place, i in enumerate(numeric) if settings.kinds[i] == CYCLE]
        given = {
            "ard_num_dims": len(numeric),
            "active_dims": numeric,
            "lengthscale_prior": prior,
            "lengthscale_constraint": constraint,
        }
        parts.append(_Matern(cycles, **given) if cycles else MaternKernel(**given))
    if categories:
        kernel = CategoricalKernel(
            ard_num_dims=len(categories),
            active_dims=categories,
            lengthscale_constraint=GreaterThan(1e-2, transform=None, initial_value=1.0),
        )
        kernel.register_prior("lengthscale_prior", LogNormalPrior(0.0, 1.0), lambda m: m.lengthscale)
        parts.append(kernel)
    if settings.time:  # e^-distance
        constraint = GreaterThan(LEAST_LENGTHSCALE, transform=None, initial_value=1.0)
        parts.append(MaternKernel(0.5, active_dims=settings.time, lengthscale_constraint=constraint))
    return parts[0] if len(parts) == 1 else ProductKernel(*parts)


def _model(rows: Rows, settings: Settings, device: torch.device, *, learned: bool) -> SingleTaskGP:
    likelihood = _RowLikelihood(_RowNoise(rows, COLD_NOISE if learned else EXACT_NOISE, learned=learned))
    model = SingleTaskGP(
        torch.as_tensor(rows.X, dtype=DTYPE),
        torch.as_tensor(rows.y, dtype=DTYPE).unsqueeze(-1),
        likelihood=likelihood,
        covar_module=_kernel(settings),
        outcome_transform=None,
    )
    return model.to(device=device, dtype=DTYPE)


def _parts(model: SingleTaskGP, settings: Settings) -> list[tuple[Kernel, list[int]]]:
    """The factors of the covariance, and the columns of X that each is of."""
    columns = [settings.numeric, sorted(settings.categorical + settings.regime), settings.time]
    several = len([of for of in columns if of]) > 1
    kernels = iter(model.covar_module.kernels if several else [model.covar_module])
    return [(next(kernels), of) for of in columns if of]


def _write(model: SingleTaskGP, settings: Settings, h: Hyperparameters) -> None:
    scales = lengthscales(h, settings)
    for kernel, columns in _parts(model, settings):
        kernel.lengthscale = torch.tensor(scales[columns], dtype=DTYPE)
    model.likelihood.noise_covar.raw_noise.data.fill_(h["noise"][0])
    model.mean_module.constant.data.fill_(h["mean"][0])
