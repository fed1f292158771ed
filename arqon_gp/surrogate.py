"""One exact GP an outcome: fitted by BoTorch, predicting in NumPy.

Prior: Matern-5/2 with a lengthscale a knob and the dimension-scaled lognormal prior of BoTorch 0.18 (Hvarfner et al.
2024), times exp(-distance) over categories; constant mean; noise variance with log noise ~ N(-3, 2^2), a density in log
noise, so that noise is not explained away as signal. A row is the mean of `count` windows: its noise variance is noise
/ count + floor, and the scatter of the windows inside the rows enters the likelihood (the two together are the
likelihood of the single windows). Fitted cold and from the last hyperparameters; the better density is kept. Notation:
n rows, d knobs, m outcomes; Y standardised per outcome: (y - shift) / scale. Public: Settings, fit, Surrogate,
OutcomeGP, FEASIBLE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.kernels.categorical import CategoricalKernel
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import Kernel
from gpytorch.likelihoods.gaussian_likelihood import _GaussianLikelihoodBase
from gpytorch.likelihoods.noise_models import Noise
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from linear_operator.operators import DiagLinearOperator
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from arqon_gp.device import DTYPE
from arqon_gp.errors import FitError
from arqon_gp.history import Dataset, Key, key
from arqon_gp.records import Params
from arqon_gp.space import Categorical, Floats, Space
from arqon_kernels import matern52

FEASIBLE = "feasible"  # the outcome that says whether a window succeeds: 1 or 0, share of the windows of a row
NOISE_RANGE = (1e-4, 10.0)  # of the standardised noise variance
NOISE_PRIOR = (1.0, 2.0)  # LogNormal(1, 2) as a raw density is log noise ~ N(-3, 2^2) as a density in log noise
COLD_NOISE = math.exp(-3.0)
EXACT_NOISE = 1e-6  # standardised variance of an outcome declared exact: a jitter, not a belief
FIT_STEPS = 200

Hyperparameters = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is modelled: the space, the outcomes in order, and those declared free of noise."""

    space: Space
    outcomes: tuple[str, ...]
    exact: frozenset[str] = frozenset()

    @property
    def categorical(self) -> list[int]:
        """Columns of X that are categories."""
        return [i for i, knob in enumerate(self.space) if isinstance(knob, Categorical)]

    @property
    def numeric(self) -> list[int]:
        """Columns of X that are numbers."""
        return [i for i, knob in enumerate(self.space) if not isinstance(knob, Categorical)]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one outcome: X (n, d), y (n,) standardised, what scales and adds to their noise, the scatter."""

    X: Floats
    y: Floats
    share: Floats  # 1 / count
    floor: Floats
    ss: float
    dof: float
    within_floor: float
    shift: float
    scale: float
    keys: tuple[Key, ...]


def _rows(data: Dataset, settings: Settings, name: str) -> _Rows:
    if name == FEASIBLE:
        y, count = 1.0 - data.failed / data.tried, data.tried
        floor, ss, dof, within = np.zeros(len(y)), 0.0, 0.0, 0.0
    else:
        j = settings.outcomes.index(name)
        y, count, floor = data.Y[:, j], data.count[:, j], data.floor[:, j]
        ss, dof, within = float(data.within_ss[j]), float(data.within_dof[j]), float(data.within_floor[j])
    known = np.isfinite(y)
    if not known.any():
        raise FitError(f"no window has the outcome {name!r} yet")
    y, share = y[known], 1.0 / count[known]
    shift = float(y.mean())
    # what the variance of single windows at these rows would be
    variance = (float(y.var(ddof=1)) if len(y) > 1 else 0.0) + (ss / dof if dof else 0.0) * float((1.0 - share).mean())
    scale = math.sqrt(variance) if variance > (1e-9 * abs(shift)) ** 2 else max(abs(shift), 1.0)
    return _Rows(
        X=data.X[known],
        y=(y - shift) / scale,
        share=share,
        floor=floor[known] / scale**2,
        ss=ss / scale**2,
        dof=dof,
        within_floor=within / scale**2,
        shift=shift,
        scale=scale,
        keys=tuple(key(p) for p, is_known in zip(data.params, known, strict=True) if is_known),
    )


class _RowNoise(Noise):  # type: ignore[misc]  # gpytorch ships no types
    """Noise variance of a row: noise / count + floor. One parameter, the variance of a single window."""

    def __init__(self, rows: _Rows, noise: float, *, learned: bool) -> None:
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


class _WindowLikelihood(ExactMarginalLogLikelihood):  # type: ignore[misc]  # gpytorch ships no types
    """Log posterior of the hyperparameters given the single windows: the rows, and the scatter inside them.

    sum_i log N(y_i | window variance) = log N(means | variance / count) - dof/2 log variance - ss / (2 variance) +
    const.
    """

    def __init__(self, likelihood: _RowLikelihood, model: SingleTaskGP, rows: _Rows) -> None:
        super().__init__(likelihood, model)
        self._rows = rows

    def _add_other_terms(self, res: Tensor, params: Sequence[object]) -> Tensor:
        total: Tensor = super()._add_other_terms(res, params)
        variance: Tensor = self.likelihood.noise.squeeze() + self._rows.within_floor
        return total - 0.5 * self._rows.dof * variance.log() - 0.5 * self._rows.ss / variance


def _kernel(settings: Settings) -> Kernel:
    numeric, categorical = settings.numeric, settings.categorical
    parts: list[Kernel] = []
    if numeric:
        parts.append(get_covar_module_with_dim_scaled_prior(len(numeric), use_rbf_kernel=False, active_dims=numeric))
    if categorical:
        kernel = CategoricalKernel(
            ard_num_dims=len(categorical),
            active_dims=categorical,
            lengthscale_constraint=GreaterThan(1e-2, transform=None, initial_value=1.0),
        )
        kernel.register_prior("lengthscale_prior", LogNormalPrior(0.0, 1.0), lambda m: m.lengthscale)
        parts.append(kernel)
    return parts[0] if len(parts) == 1 else parts[0] * parts[1]


def _model(rows: _Rows, settings: Settings, device: torch.device, *, learned: bool) -> SingleTaskGP:
    likelihood = _RowLikelihood(_RowNoise(rows, COLD_NOISE if learned else EXACT_NOISE, learned=learned))
    model = SingleTaskGP(
        torch.as_tensor(rows.X, dtype=DTYPE),
        torch.as_tensor(rows.y, dtype=DTYPE).unsqueeze(-1),
        likelihood=likelihood,
        covar_module=_kernel(settings),
        outcome_transform=None,
    )
    return model.to(device=device, dtype=DTYPE)


def _parts(model: SingleTaskGP, settings: Settings) -> tuple[Kernel | None, Kernel | None]:
    """The numeric and the categorical factor of the covariance."""
    if settings.numeric and settings.categorical:
        return model.covar_module.kernels[0], model.covar_module.kernels[1]
    return (model.covar_module, None) if settings.numeric else (None, model.covar_module)


def _read(model: SingleTaskGP, settings: Settings) -> Hyperparameters:
    matern, categories = _parts(model, settings)
    return {
        "lengthscale": matern.lengthscale.detach().cpu().reshape(-1).tolist() if matern is not None else [],
        "category": categories.lengthscale.detach().cpu().reshape(-1).tolist() if categories is not None else [],
        "noise": model.likelihood.noise.detach().cpu().reshape(-1).tolist(),
        "mean": model.mean_module.constant.detach().cpu().reshape(-1).tolist(),
    }


def _write(model: SingleTaskGP, settings: Settings, h: Hyperparameters) -> None:
    matern, categories = _parts(model, settings)
    if matern is not None:
        matern.lengthscale = torch.tensor(h["lengthscale"], dtype=DTYPE)
    if categories is not None:
        categories.lengthscale = torch.tensor(h["category"], dtype=DTYPE)
    model.likelihood.noise_covar.raw_noise.data.fill_(h["noise"][0])
    model.mean_module.constant.data.fill_(h["mean"][0])


def _fit_outcome(
    rows: _Rows, settings: Settings, device: torch.device, warm: Hyperparameters | None, *, learned: bool
) -> Hyperparameters:
    """The better of a cold and a warm fit by log posterior density."""
    best: tuple[float, Hyperparameters] | None = None
    for start in (None, warm) if warm else (None,):
        model = _model(rows, settings, device, learned=learned)
        if start is not None:
            _write(model, settings, start)
        objective = _WindowLikelihood(model.likelihood, model, rows).to(device)
        objective.train()
        try:
            fit_gpytorch_mll_scipy(objective, options={"maxiter": FIT_STEPS})
            density = float(objective(model(*model.train_inputs), model.train_targets).detach())
        except (RuntimeError, ValueError) as error:  # not positive definite, NaN: this start is lost
            last: Exception = error
            continue
        if math.isfinite(density) and (best is None or density > best[0]):
            best = (density, _read(model, settings))
    if best is None:
        raise FitError(f"no start converged: {last}") from last
    return best[1]


@dataclass(frozen=True, slots=True)
class OutcomeGP:
    """Posterior of one outcome, in model space: K = k(X, X) + diag(noise share + floor), alpha = K^-1 (y - mean)."""

    name: str
    rows: _Rows
    hyperparameters: Hyperparameters
    settings: Settings
    K_inverse: Floats
    alpha: Floats

    @classmethod
    def of(cls, name: str, rows: _Rows, h: Hyperparameters, settings: Settings) -> OutcomeGP:
        """The posterior for given hyperparameters."""
        K = _covariance(rows.X, rows.X, h, settings) + np.diag(h["noise"][0] * rows.share + rows.floor)
        factor = cho_factor(K, lower=True)
        return cls(name, rows, h, settings, cho_solve(factor, np.eye(len(K))), cho_solve(factor, rows.y - h["mean"][0]))

    @property
    def noise(self) -> float:
        """Variance of a single window, model space."""
        return self.hyperparameters["noise"][0] * self.rows.scale**2

    def joint(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean (q,) and covariance (q, q) of the noise-free outcome at X (q, d), model space."""
        k = _covariance(X, self.rows.X, self.hyperparameters, self.settings)
        mean = self.hyperparameters["mean"][0] + k @ self.alpha
        covariance = _covariance(X, X, self.hyperparameters, self.settings) - k @ self.K_inverse @ k.T
        return self.rows.shift + self.rows.scale * mean, self.rows.scale**2 * covariance

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance (q,) of the noise-free outcome at X (q, d), model space."""
        k = _covariance(X, self.rows.X, self.hyperparameters, self.settings)
        mean = self.hyperparameters["mean"][0] + k @ self.alpha
        variance = np.maximum(1.0 - ((k @ self.K_inverse) * k).sum(axis=-1), 1e-10)
        return self.rows.shift + self.rows.scale * mean, self.rows.scale**2 * variance

    def without(self, params: Params, X: Floats) -> tuple[Floats, Floats]:
        """Mean (q,) and covariance (q, q) at X (q, d), model space, as if this config had not been measured.

        With I its rows and J the others, K_JJ^-1 = [K^-1]_JJ - [K^-1]_JI [K^-1]_II^-1 [K^-1]_IJ (block inversion).
        """
        own = np.array([k == key(params) for k in self.rows.keys])
        if not own.any() or own.all():
            return self.joint(X) if not own.any() else self._prior(X)
        J, P = ~own, self.K_inverse
        inverse = P[np.ix_(J, J)] - P[np.ix_(J, own)] @ np.linalg.solve(P[np.ix_(own, own)], P[np.ix_(own, J)])
        k = _covariance(X, self.rows.X[J], self.hyperparameters, self.settings)
        constant = self.hyperparameters["mean"][0]
        mean = constant + k @ (inverse @ (self.rows.y[J] - constant))
        covariance = _covariance(X, X, self.hyperparameters, self.settings) - k @ inverse @ k.T
        return self.rows.shift + self.rows.scale * mean, self.rows.scale**2 * covariance

    def _prior(self, X: Floats) -> tuple[Floats, Floats]:
        mean = np.full(len(X), self.rows.shift + self.rows.scale * self.hyperparameters["mean"][0])
        return mean, self.rows.scale**2 * _covariance(X, X, self.hyperparameters, self.settings)

    def botorch_model(self, device: torch.device) -> SingleTaskGP:
        """The same posterior, on the standardised scale, for gradients and for researchers."""
        model = _model(self.rows, self.settings, device, learned=self.name not in self.settings.exact)
        _write(model, self.settings, self.hyperparameters)
        return model.eval()


def _covariance(A: Floats, B: Floats, h: Hyperparameters, settings: Settings) -> Floats:
    numeric, categorical = settings.numeric, settings.categorical
    K = np.ones((len(A), len(B)))
    if numeric:
        K = matern52(A[:, numeric], B[:, numeric], np.array(h["lengthscale"]))
    if categorical:
        differs = (np.abs(A[:, None, categorical] - B[None, :, categorical]) > 1e-5) / np.array(h["category"])
        K = K * np.exp(-differs.mean(axis=-1))
    return K


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The posteriors of all outcomes, modelled independently; the last one is FEASIBLE once a window has failed."""

    outcomes: tuple[OutcomeGP, ...]
    settings: Settings
    device: torch.device

    @property
    def hyperparameters(self) -> dict[str, Hyperparameters]:
        """By outcome."""
        return {gp.name: gp.hyperparameters for gp in self.outcomes}

    def __getitem__(self, name: str) -> OutcomeGP:
        return next(gp for gp in self.outcomes if gp.name == name)

    def __contains__(self, name: str) -> bool:
        return any(gp.name == name for gp in self.outcomes)

    def botorch_model(self) -> ModelListGP:
        """A ModelListGP with the same posterior, one output an outcome, each standardised by its shift and scale."""
        return ModelListGP(*(gp.botorch_model(self.device) for gp in self.outcomes)).eval()


def fit(data: Dataset, settings: Settings, device: torch.device, warm: dict[str, Hyperparameters]) -> Surrogate:
    """The surrogate of these rows; FitError when an outcome has no window yet or nothing converges."""
    names = [*settings.outcomes, *([FEASIBLE] if data.failed.any() else [])]
    gps = []
    for name in names:
        rows = _rows(data, settings, name)
        h = _fit_outcome(rows, settings, device, warm.get(name), learned=name not in settings.exact)
        gps.append(OutcomeGP.of(name, rows, h, settings))
    return Surrogate(tuple(gps), settings, device)


def restore(data: Dataset, settings: Settings, device: torch.device, known: dict[str, Hyperparameters]) -> Surrogate:
    """The surrogate of these rows for hyperparameters that are known already."""
    return Surrogate(
        tuple(OutcomeGP.of(n, _rows(data, settings, n), h, settings) for n, h in known.items()), settings, device
    )
