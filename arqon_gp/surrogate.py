"""One exact GP an outcome: fitted and conditioned in NumPy, without torch.

Prior: Matern-5/2 with a lengthscale a knob, lognormal and scaled with the dimension as Hvarfner et al. (2024) do but
narrower, times exp(-distance) over categories; constant mean, profiled; noise variance with log noise ~ N(-3, 2^2), a
density in log noise, so that noise is not explained away as signal. A row is the mean of `count` windows: its noise
variance is noise / count + floor, and the scatter of the windows inside the rows enters the likelihood (the two
together are the likelihood of the single windows). Fitted cold and from the last hyperparameters; the better density is
kept. Without BLAS wherever a fit needs it, so that a fit in another thread gives the same bits whatever the threads of
the process; the n^3 work may be given to a torch device instead. Notation: n rows, d knobs, m outcomes. Public: seek,
fit, restore, Surrogate, OutcomeGP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from arqon_gp.errors import FitError
from arqon_gp.history import Dataset, key
from arqon_gp.outliers import pursue
from arqon_gp.records import Params
from arqon_gp.rows import (
    COLD_NOISE,
    EXACT_NOISE,
    FEASIBLE,
    LEAST_LENGTHSCALE,
    NOISE_PRIOR,
    NOISE_RANGE,
    Hyperparameters,
    Integers,
    Rows,
    Settings,
    lengthscale_prior,
    lengthscales,
    rows_of,
)
from arqon_gp.space import Floats
from arqon_kernels import LogPosterior, covariance, factor
from arqon_kernels.posterior import moments, weights

if TYPE_CHECKING:
    from botorch.models import ModelListGP, SingleTaskGP

MOST_LENGTHSCALE = 1e4
CATEGORY_PRIOR = (0.0, 1.0)
LEAST_CATEGORY = 0.01
FIT_STEPS = 200
LEAST_VARIANCE = 1e-10  # standardised: what rounding may leave of a variance that is none
JITTERS = (0.0, 1e-8, 1e-6, 1e-4)  # standardised variances, tried in turn where K is not positive definite

Note = Callable[[str], None]  # told of each rung of the numerical ladder that was needed: "jitter", "other_start"


@dataclass(frozen=True)
class OutcomeGP:
    """Posterior of one outcome, in model space: K = k(X, X) + diag(noise share + floor) = L L', root = L^-1,
    alpha = K^-1 (y - mean). The first `whole` rows of the root were made at once, the others appended."""

    name: str
    rows: Rows
    hyperparameters: Hyperparameters
    settings: Settings
    root: Floats
    alpha: Floats
    whole: int

    @classmethod
    def of(
        cls,
        name: str,
        rows: Rows,
        h: Hyperparameters,
        settings: Settings,
        whole: int | None = None,
        before: OutcomeGP | None = None,
        note: Note = lambda rung: None,
        device: str | None = None,
    ) -> OutcomeGP:
        """The posterior for given hyperparameters; FitError where K is not positive definite, with jitter neither.

        The first `whole` rows (default: all) are factorised at once, the others appended in O(n^2) each. `before`: an
        earlier posterior; what its root has of this one is taken from it, so that the result does not depend on it.
        `device`: the torch device on which the first rows are factorised; None: the engine does it.
        """
        whole = len(rows.X) if whole is None else min(whole, len(rows.X))
        for jitter in JITTERS:
            if jitter:
                note("jitter")
                rows = replace(rows, floor=rows.floor + jitter)
            try:
                root = cls._root(rows, h, settings, whole, before, device)
            except np.linalg.LinAlgError:
                continue
            return cls(name, rows, h, settings, root, weights(root, rows.y - h["mean"][0]), whole)
        raise FitError(f"the covariance of {name!r} is not positive definite")

    @staticmethod
    def _root(
        rows: Rows, h: Hyperparameters, settings: Settings, whole: int, before: OutcomeGP | None, device: str | None
    ) -> Floats:
        n, scale, D = len(rows.X), lengthscales(h, settings), h["noise"][0] * rows.share + rows.floor
        done = before._shared(rows, h, D, whole) if before else 0
        if before and done >= whole:
            root = np.ascontiguousarray(before.root[:done, :done])
        else:
            root, done = factor.root_of(rows.X[:whole], scale, settings.kinds, D[:whole], device), whole
        for i in range(done, n):
            k = covariance(rows.X[i : i + 1], rows.X[:i], scale, settings.kinds)[0]
            root = factor.append(root, k, 1.0 + D[i])
        return root

    def _shared(self, rows: Rows, h: Hyperparameters, D: Floats, whole: int) -> int:
        """How many leading rows of a root for other rows are those of this one."""
        if self.hyperparameters != h or self.whole != whole:
            return 0
        n = min(len(self.rows.X), len(rows.X))
        same = (self._diagonal()[:n] == D[:n]) & (self.rows.X[:n] == rows.X[:n]).all(axis=1)
        return n if same.all() else int(np.argmin(same))

    @property
    def noise(self) -> float:
        """Variance of a single window, model space."""
        return self.hyperparameters["noise"][0] * self.rows.scale**2

    @cached_property
    def lengthscales(self) -> Floats:
        """The lengthscale (d,) of each column of X."""
        return lengthscales(self.hyperparameters, self.settings)

    def k(self, A: Floats, B: Floats) -> Floats:
        """Prior covariance (n, m) of points (n, d) and (m, d), standardised."""
        return np.asarray(covariance(A, B, self.lengthscales, self.settings.kinds))

    def joint(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean (q,) and covariance (q, q) of the noise-free outcome at X (q, d), model space."""
        k = self.k(self.rows.X, X)
        v = self.root @ k
        mean = self.hyperparameters["mean"][0] + self.alpha @ k
        return self.rows.shift + self.rows.scale * mean, self.rows.scale**2 * (self.k(X, X) - v.T @ v)

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance (q,) of the noise-free outcome at X (q, d), model space."""
        mean, explained = moments(self.root, self.alpha, self.k(X, self.rows.X))
        mean = self.rows.shift + self.rows.scale * (self.hyperparameters["mean"][0] + mean)
        return mean, self.rows.scale**2 * np.maximum(1.0 - explained, LEAST_VARIANCE)

    def at_rows(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance (n,) of the noise-free outcome at all rows X (n, d) of the dataset, model space.

        At its own rows, with D = diag(noise share + floor), they are y - D alpha and D - D K^-1 D: no n^3 work.
        """
        index = self.rows.index
        D, A = self._diagonal(), np.einsum("ij,ij->j", self.root, self.root)
        mean = self.rows.shift + self.rows.scale * (self.rows.y - D * self.alpha)
        variance = self.rows.scale**2 * np.maximum(D - D * D * A, LEAST_VARIANCE)
        if len(index) == len(X):
            return mean, variance
        found, doubt = np.empty(len(X)), np.empty(len(X))
        found[index], doubt[index] = mean, variance
        rest = np.setdiff1d(np.arange(len(X)), index)
        found[rest], doubt[rest] = self.predict(X[rest])
        return found, doubt

    def joint_at_rows(self, X: Floats, which: Integers) -> tuple[Floats, Floats]:
        """joint() at some rows (q,) of the dataset X (n, d), by the same identity where all have the outcome."""
        if len(self.rows.index) < len(X) and not np.isin(which, self.rows.index).all():
            return self.joint(X[which])
        at = np.searchsorted(self.rows.index, which)
        D, root = self._diagonal()[at], np.ascontiguousarray(self.root[:, at])
        covariance = np.diag(D) - D[:, None] * (root.T @ root) * D
        mean = self.rows.y[at] - D * self.alpha[at]
        return self.rows.shift + self.rows.scale * mean, self.rows.scale**2 * covariance

    def _diagonal(self) -> Floats:
        return np.asarray(self.hyperparameters["noise"][0] * self.rows.share + self.rows.floor)

    def without(self, params: Params) -> OutcomeGP:
        """The posterior as if this config had not been measured, on the same scale."""
        config = key(params)
        gone = np.array([k == config for k in self.rows.keys])
        if not gone.any():
            return self
        root = self.root
        for i in reversed(np.flatnonzero(gone).tolist()):
            root = factor.drop(root, i)
        rows = self.rows.only(~gone)
        alpha = weights(root, rows.y - self.hyperparameters["mean"][0])
        return replace(self, rows=rows, root=root, alpha=alpha)

    def botorch_model(self, device: str = "cpu") -> SingleTaskGP:
        """The same posterior, on the standardised scale, for gradients by autograd and for researchers."""
        import torch

        from arqon_gp.twin import single_task_gp

        learned = self.name not in self.settings.exact
        return single_task_gp(self.rows, self.settings, self.hyperparameters, torch.device(device), learned=learned)


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The posteriors of all outcomes, modelled independently; the last one is FEASIBLE once a window has failed."""

    outcomes: tuple[OutcomeGP, ...]
    settings: Settings

    @property
    def hyperparameters(self) -> dict[str, Hyperparameters]:
        """By outcome."""
        return {gp.name: gp.hyperparameters for gp in self.outcomes}

    def __getitem__(self, name: str) -> OutcomeGP:
        return next(gp for gp in self.outcomes if gp.name == name)

    def __contains__(self, name: str) -> bool:
        return any(gp.name == name for gp in self.outcomes)

    def botorch_model(self, device: str = "cpu") -> ModelListGP:
        """A ModelListGP with the same posterior, one output an outcome, each standardised by its shift and scale."""
        from botorch.models import ModelListGP

        return ModelListGP(*(gp.botorch_model(device) for gp in self.outcomes)).eval()


def seek(
    data: Dataset,
    settings: Settings,
    warm: Mapping[str, Hyperparameters],
    stop: Callable[[], bool] = lambda: False,
    note: Note = lambda rung: None,
    device: str | None = None,
) -> dict[str, Hyperparameters]:
    """The hyperparameters by outcome; FitError when an outcome has no window yet or the density is finite nowhere.

    When `stop` says so the climb ends where it is: at the start itself if need be, so the last hyperparameters stay.
    `device`: the torch device that the density is computed on; None: the engine.
    """
    names = [*settings.outcomes, *([FEASIBLE] if data.failed.any() else [])]
    found = {}
    for name in names:
        rows, learned = rows_of(data, settings, name), name not in settings.exact
        better = None if name == FEASIBLE else settings.better.get(name, 0)
        known = rows_of(data, settings, name, warm.get(name)).floor - rows.floor
        h, excess = _fit_outcome(
            rows, settings, warm.get(name), stop, note, known, learned=learned, better=better, device=device
        )
        outliers = np.flatnonzero(excess)
        h["outliers"] = data.first[rows.index[outliers]].astype(float).tolist()
        h["excess"] = (excess[outliers] * rows.scale**2).tolist()
        found[name] = h
    return found


def fit(data: Dataset, settings: Settings, warm: Mapping[str, Hyperparameters]) -> Surrogate:
    """The surrogate of these rows, fitted to them; FitError as seek()."""
    return restore(data, settings, seek(data, settings, warm))


def restore(
    data: Dataset,
    settings: Settings,
    known: Mapping[str, Hyperparameters],
    whole: int | None = None,
    before: Surrogate | None = None,
    note: Note = lambda rung: None,
    device: str | None = None,
) -> Surrogate:
    """The surrogate of these rows for hyperparameters that are known already.

    `whole`: how many leading rows of the dataset are factorised at once; `before`: what may be taken over.
    `device`: as in OutcomeGP.of.
    """
    gps = []
    for name, h in known.items():
        rows = rows_of(data, settings, name, h)
        first = None if whole is None else int(np.searchsorted(rows.index, whole))
        earlier = before[name] if before and name in before else None
        gps.append(OutcomeGP.of(name, rows, h, settings, first, earlier, note, device))
    return Surrogate(tuple(gps), settings)


def log_posterior(rows: Rows, settings: Settings, *, learned: bool, device: str | None = None) -> LogPosterior:
    """The density that the hyperparameters of an outcome maximise, on a torch device or by the engine (None)."""
    d, numeric = len(settings.kinds), settings.numeric
    loc, scale = np.full(d, CATEGORY_PRIOR[0]), np.full(d, CATEGORY_PRIOR[1])
    loc[numeric], scale[numeric] = lengthscale_prior(len(numeric))
    return LogPosterior(
        rows.X,
        rows.y,
        rows.share,
        rows.floor,
        settings.kinds,
        lengthscale_loc=loc,
        lengthscale_scale=scale,
        noise_prior=NOISE_PRIOR if learned else None,
        ss=rows.ss,
        dof=rows.dof,
        within_floor=rows.within_floor,
        device=device,
    )


def _fit_outcome(
    rows: Rows,
    settings: Settings,
    warm: Hyperparameters | None,
    stop: Callable[[], bool],
    note: Note,
    known: Floats,
    *,
    learned: bool,
    better: int | None,
    device: str | None,
) -> tuple[Hyperparameters, Floats]:
    """The better of a cold and a warm fit by log posterior density; from louder noise and, at last, the shortest
    lengthscales, where neither start is any good. With the variance (n,) of outliers beyond the common noise, where
    `better` says which way they may be good (0: neither; None: there are none); `known` is that of the last fit.
    """
    density, numeric, categorical = (
        log_posterior(rows, settings, learned=learned, device=device),
        settings.numeric,
        settings.categorical,
    )
    low = np.full(len(settings.kinds) + 1, math.log(LEAST_CATEGORY))
    low[numeric] = math.log(LEAST_LENGTHSCALE)
    high = np.full(len(low), math.log(MOST_LENGTHSCALE))
    low[-1], high[-1] = np.log(NOISE_RANGE) if learned else np.log([EXACT_NOISE, EXACT_NOISE])
    cold = np.append(density.lengthscale_loc - density.lengthscale_scale**2, math.log(COLD_NOISE))  # the prior's modes
    starts = [cold]
    if warm:
        starts.append(np.log(np.append(lengthscales(warm, settings), warm["noise"][0])))

    found = [density.climb(start, low, high, FIT_STEPS, stop) for start in starts]
    others = [np.append(cold[:-1], high[-1]), np.append(low[:-1], high[-1])]
    while others and not any(math.isfinite(value) for _, value in found):
        note("other_start")
        found.append(density.climb(others.pop(0), low, high, FIT_STEPS, stop))
    theta, value = max(found, key=lambda pair: pair[1])
    if not math.isfinite(value):
        raise FitError("the density of the hyperparameters is finite at no start: the data are not finite")
    excess = np.zeros(len(rows.y))
    if learned and better is not None and not stop():

        def density_of(excess: Floats) -> LogPosterior:
            if not excess.any():
                return density
            return log_posterior(replace(rows, floor=rows.floor + excess), settings, learned=True, device=device)

        theta, excess = pursue(
            density_of,
            rows.share == 1.0,
            known,
            better,
            lambda of, at: of.climb(at, low, high, FIT_STEPS, stop),
            theta,
            value,
        )
        density = density_of(excess)
    return {
        "lengthscale": np.exp(theta[numeric]).tolist(),
        "category": np.exp(theta[categorical]).tolist(),
        "noise": [math.exp(theta[-1])],
        "mean": [density.constant(theta)],
    }, excess
