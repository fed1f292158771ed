"""The peers the benches compare with, and ours, behind one step: tell one result, ask for the next point.

Outcomes are minimised. X (n, d) in the unit cube, Y (n, m) raw and noisy. Settings are pinned here and shown in each
result: BoTorch as its tutorials run it (a fit at every tell, qLogNEI or with several objectives one GP each and
qLogNEHVI); optuna's GPSampler told that its objective is noisy; egobox with its defaults, its noise a fixed nugget.
Public: SETTINGS, PEERS, fit_botorch, maximize_botorch, load_fused_kernel, logei_is_fused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, Protocol

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"  # numba's; egobox's

import egobox
import numpy as np
import optuna
import torch
from botorch.acquisition import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim import optimize_acqf
from botorch.optim.optimize_mixed import optimize_acqf_mixed_alternating
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.constraints import GreaterThan
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood, SumMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from arqon_gp.rows import NOISE_PRIOR, lengthscale_prior
from bench.problems import Knob, names, outcome_names, point, result, solver_config

RESTARTS, RAW_SAMPLES, SAMPLES = 10, 512, 128
SETTINGS: dict[str, Any] = {
    "arqon_gp": "defaults, no guardrails, probe_ratio 0",
    "optuna_gp": "GPSampler(seed, deterministic_objective=False), else defaults",
    "egobox": "Egor (1 objective), Belfegor (3, EHVI); defaults: squared exponential, 10 starts of the fit, 20 of the "
    "infill; noise by its fixed nugget only",
    "botorch_loop": f"SingleTaskGP, Standardize, fit_gpytorch_mll at every tell; qLogNEI, or ModelListGP and qLogNEHVI;"
    f" {RESTARTS} restarts, {RAW_SAMPLES} raw, {SAMPLES} samples, baseline pruned",
}
Random = np.random.Generator
Objective = Callable[[np.ndarray, Random], np.ndarray]  # x (d,) -> y (m,), noisy


class Peer(Protocol):
    """Made from a history (X, Y) and, for a front, the reference point."""

    def step(self) -> None:
        """Tell the last point's result and ask for the next."""


class Ours:
    """Arqon GP without guardrails, brought to n by rows known before the first ask."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, objective: Objective, reference: np.ndarray) -> None:
        self.objective, self.random = objective, np.random.default_rng(11)
        self.names, self.outcomes = names("x", X.shape[1]), outcome_names(Y.shape[1])
        self.solver = ArqonSolver(
            solver_config(X.shape[1], Y.shape[1], reference, seed=1), registry=CollectorRegistry(), device="cpu"
        )
        self.solver.seed([result(x, y) for x, y in zip(X, Y, strict=True)])
        self.candidate = self.solver.ask_one()

    def step(self) -> None:
        """Tell and ask."""
        assert self.candidate is not None
        y = self.objective(point(self.candidate), self.random)
        self.solver.seed([{"params": self.candidate, "values": dict(zip(self.outcomes, y.tolist(), strict=True))}])
        self.candidate = self.solver.ask_one()


class Optuna:
    """optuna's GPSampler."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, objective: Objective, reference: np.ndarray) -> None:
        self.objective, self.random = objective, np.random.default_rng(12)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.GPSampler(seed=1, deterministic_objective=False)
        self.study = optuna.create_study(sampler=sampler, directions=["minimize"] * Y.shape[1])
        self.names = names("x", X.shape[1])
        spaces: dict[str, Any] = {name: optuna.distributions.FloatDistribution(0, 1) for name in self.names}
        for x, y in zip(X, Y, strict=True):
            params = dict(zip(self.names, x.tolist(), strict=True))
            self.study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, values=y.tolist()))
        self._ask()

    def _ask(self) -> None:
        self.trial = self.study.ask()
        self.x = np.array([self.trial.suggest_float(name, 0, 1) for name in self.names])

    def step(self) -> None:
        """Tell and ask."""
        self.study.tell(self.trial, self.objective(self.x, self.random).tolist())
        self._ask()


class Egobox:
    """egobox's suggest, which keeps nothing between calls; its first point here is random."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, objective: Objective, reference: np.ndarray) -> None:
        self.objective, self.random = objective, np.random.default_rng(13)
        self.X, self.Y = X, Y
        cube = [[0.0, 1.0]] * X.shape[1]
        several = Y.shape[1] > 1
        self.optimizer = egobox.Belfegor(cube, n_obj=Y.shape[1], seed=1) if several else egobox.Egor(cube, seed=1)
        self.x = self.random.random(X.shape[1])

    def step(self) -> None:
        """Tell and ask."""
        y = self.objective(self.x, self.random)
        self.X, self.Y = np.vstack([self.X, self.x]), np.vstack([self.Y, y])
        self.x = self.optimizer.suggest(self.X, self.Y)[0]


class Botorch:
    """The loop of BoTorch's tutorials."""

    def __init__(self, X: np.ndarray, Y: np.ndarray, objective: Objective, reference: np.ndarray) -> None:
        self.objective, self.random = objective, np.random.default_rng(14)
        self.X, self.Y, self.reference = X, Y, reference
        torch.manual_seed(1)
        self._ask()

    def _ask(self) -> None:
        self.x = maximize_botorch(fit_botorch(self.X, self.Y), self.X, self.reference)

    def step(self) -> None:
        """Tell and ask."""
        y = self.objective(self.x, self.random)
        self.X, self.Y = np.vstack([self.X, self.x]), np.vstack([self.Y, y])
        self._ask()


def load_fused_kernel(*, wanted: bool = True) -> bool:
    """Compile (once, about a minute) and load BoTorch's own C++ kernel for qLogNEHVI; without a compiler it goes on in
    Python. Our package switches this off when it is first used, so a peer that should have it is given it before.
    """
    if wanted and not logei._load_attempted:
        logei._try_load_fused_kernel()
    logei._load_attempted = True
    return logei_is_fused()


def logei_is_fused() -> bool:
    """Whether it is in use."""
    return logei._C is not None


def fit_botorch(
    X: np.ndarray, Y: np.ndarray, *, matern: bool = False, our_priors: bool = False, knobs: tuple[Knob, ...] = ()
) -> Any:
    """One SingleTaskGP an outcome of -Y, fitted cold by fit_gpytorch_mll with BoTorch's dimension-scaled priors.

    matern: Matern-5/2 instead of the default squared exponential. our_priors: those of our surrogate for the noise and
    the lengthscales instead of BoTorch's. Where a knob is a choice it is a MixedSingleTaskGP, as it comes.
    """
    inputs, models, choices = torch.as_tensor(X), [], [i for i, knob in enumerate(knobs) if knob.choices]
    for y in -Y.T:
        if choices:
            outcome = torch.as_tensor(y).unsqueeze(-1)
            models.append(MixedSingleTaskGP(inputs, outcome, cat_dims=choices, outcome_transform=Standardize(m=1)))
            continue
        kernel = get_covar_module_with_dim_scaled_prior(X.shape[1], use_rbf_kernel=False) if matern else None
        if our_priors and kernel is not None:
            kernel.register_prior("lengthscale_prior", LogNormalPrior(*lengthscale_prior(X.shape[1])), "lengthscale")
        floor = GreaterThan(1e-4, transform=None, initial_value=math.exp(-3.0))
        likelihood = GaussianLikelihood(LogNormalPrior(*NOISE_PRIOR), noise_constraint=floor) if our_priors else None
        outcome = torch.as_tensor(y).unsqueeze(-1)
        models.append(
            SingleTaskGP(
                inputs, outcome, likelihood=likelihood, covar_module=kernel, outcome_transform=Standardize(m=1)
            )
        )
    if len(models) == 1:
        fit_gpytorch_mll(ExactMarginalLogLikelihood(models[0].likelihood, models[0]))
        return models[0]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    return model


def maximize_botorch(
    model: Any,
    X: np.ndarray,
    reference: np.ndarray,
    *,
    restarts: int = RESTARTS,
    raw_samples: int = RAW_SAMPLES,
    samples: int = SAMPLES,
    knobs: tuple[Knob, ...] = (),
) -> np.ndarray:
    """The point (d,) where qLogNEI, or above the reference point (minimised units) qLogNEHVI, is largest; on the grids
    of the knobs by BoTorch's mixed optimizer.
    """
    baseline, d = torch.as_tensor(X), X.shape[1]
    sampler = SobolQMCNormalSampler(torch.Size([samples]), seed=int(torch.randint(2**31, (1,))))
    if model.num_outputs == 1:
        target = qLogNoisyExpectedImprovement(model, X_baseline=baseline, sampler=sampler, prune_baseline=True)
    else:
        target = logei.qLogNoisyExpectedHypervolumeImprovement(
            model, ref_point=(-reference).tolist(), X_baseline=baseline, sampler=sampler, prune_baseline=True
        )
    cube = torch.stack([torch.zeros(d), torch.ones(d)]).double()
    search = {"q": 1, "num_restarts": restarts, "raw_samples": raw_samples}
    levels = {i: knob.levels for i, knob in enumerate(knobs) if knob.levels is not None}
    if levels:
        choices = {i: at.tolist() for i, at in levels.items() if knobs[i].choices}
        grids = {i: at.tolist() for i, at in levels.items() if not knobs[i].choices}
        x, _ = optimize_acqf_mixed_alternating(target, cube, discrete_dims=grids, cat_dims=choices, **search)
    else:
        x, _ = optimize_acqf(target, bounds=cube, **search)
    return x.detach().numpy()[0]


PEERS: dict[str, Callable[[np.ndarray, np.ndarray, Objective, np.ndarray], Peer]] = {
    "arqon_gp": Ours,
    "optuna_gp": Optuna,
    "egobox": Egobox,
    "botorch_loop": Botorch,
}
