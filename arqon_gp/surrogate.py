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

from arqon_gp.dataset import Dataset
from arqon_gp.errors import FitError
from arqon_gp.forgetting import forgetting
from arqon_gp.history import key
from arqon_gp.knobs import Floats
from arqon_gp.mode import Mode, Note, mode_of
from arqon_gp.records import Params
from arqon_gp.rows import (
    FEASIBLE,
    WITHIN,
    Hyperparameters,
    Integers,
    Rows,
    Settings,
    drifting,
    lengthscales,
    matched,
    parted,
    rows_of,
)
from arqon_kernels import covariance, factor
from arqon_kernels.posterior import moments, weights

if TYPE_CHECKING:
    from botorch.models import ModelListGP, SingleTaskGP

LEAST_VARIANCE = 1e-10  # standardised: what rounding may leave of a variance that is none
LEAST_EXCESS = 1e-6  # of the noise variance: what a row that was an outlier once may be left with
JITTERS = (0.0, 1e-8, 1e-6, 1e-4)  # standardised variances, tried in turn where K is not positive definite


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
        """Variance of a single window in the middle of the space, model space."""
        return self.hyperparameters["noise"][0] * self.rows.scale**2

    def noise_at(self, X: Floats) -> Floats:
        """Variance (q,) of a single window at X (q, d), model space."""
        slope = self.hyperparameters.get("slope")
        return self.noise * (np.exp(self.settings.slopes(X) @ np.array(slope)) if slope else np.ones(len(X)))

    def level(self, X: Floats) -> Floats:
        """What is added to the standardised outcome at X (q, d): the shift, and what the context does, model space."""
        return np.asarray(self.rows.shift + self._trends(X) @ self.rows.trend)

    def situated(self, x: Floats) -> OutcomeGP:
        """The same for points in the context of x (d,): the level there is one number."""
        shift = float(self.level(x[None, :])[0])
        return replace(self, rows=replace(self.rows, shift=shift, trend=np.zeros_like(self.rows.trend)))

    def astray(self, X: Floats, v: Floats) -> Floats:
        """How far the trend is trusted at X (q, d), v = root k(X, .): H (q, p) such that H H' is its covariance there,
        standardised (universal kriging; Rasmussen and Williams 2006, eq. 2.42): little where rows are near."""
        centre, W, L = self._kriged
        return np.asarray(np.linalg.solve(L, (self._trends(X) - centre - v.T @ W).T).T)

    @cached_property
    def _kriged(self) -> tuple[Floats, Floats, Floats]:
        """Of astray(): the mean trend (p,), what the rows say of it (n, p), and the factor of its precision (p, p)."""
        T = self._trends(self.rows.X)
        centre = T.mean(axis=0) if len(T) else T.sum(axis=0)  # the level in the middle of the rows is known
        W = self.root @ (T - centre)
        return centre, W, np.linalg.cholesky(W.T @ W + self.rows.ridge * np.eye(W.shape[1]))

    def _trends(self, X: Floats) -> Floats:
        return self.settings.trends(X)[:, : len(self.rows.trend)]

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
        mean, covariance = self.hyperparameters["mean"][0] + self.alpha @ k, self.k(X, X) - v.T @ v
        if len(self.rows.trend):
            covariance += (H := self.astray(X, v)) @ H.T
        return self.level(X) + self.rows.scale * mean, self.rows.scale**2 * covariance

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance (q,) of the noise-free outcome at X (q, d), model space."""
        k = self.k(X, self.rows.X)
        mean, explained = moments(self.root, self.alpha, k)
        if len(self.rows.trend):
            explained -= np.square(self.astray(X, self.root @ k.T)).sum(axis=1)
        mean = self.level(X) + self.rows.scale * (self.hyperparameters["mean"][0] + mean)
        return mean, self.rows.scale**2 * np.maximum(1.0 - explained, LEAST_VARIANCE)

    def at_rows(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance (n,) of the noise-free outcome at all rows X (n, d) of the dataset, model space.

        At its own rows, with D = diag(noise share + floor), they are y - D alpha and D - D K^-1 D: no n^3 work.
        """
        index = self.rows.index
        D, A = self._diagonal(), np.einsum("ij,ij->j", self.root, self.root)
        mean = self.level(self.rows.X) + self.rows.scale * (self.rows.y - D * self.alpha)
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
        return self.level(X[which]) + self.rows.scale * mean, self.rows.scale**2 * covariance

    def left_out(self, which: Integers) -> float:
        """Log density, nats, of the rows `which` of the dataset, each given all other rows (Sundararajan and Keerthi
        2001, eq. 5)."""
        at = np.isin(self.rows.index, which)
        A, alpha = np.einsum("ij,ij->j", self.root, self.root)[at], self.alpha[at]
        return float(0.5 * (np.log(A / (2.0 * math.pi)) - alpha**2 / A).sum() - at.sum() * math.log(self.rows.scale))

    @cached_property
    def misled(self) -> float:
        """By how much more than it says the posterior of each row, given all others, is off: mean square, model space
        (Sundararajan and Keerthi 2001, eq. 5)."""
        A = np.einsum("ij,ij->j", self.root, self.root)
        return self.rows.scale**2 * max(float(((self.alpha / A) ** 2 - 1.0 / A).mean()), 0.0)

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

    def unaware(self, params: Params, X: Floats) -> tuple[Floats, Floats]:
        """Mean (q,) and covariance (q, q) at X (q, d) as if this config had not been measured: its windows tell neither
        the constant mean nor the scale of what is not known.
        """
        gp = self.without(params)
        y, h, spread = gp.rows.y, self.hyperparameters, float(self.rows.y.var())
        if gp is self or not len(y):
            return gp.joint(X)
        ones = weights(gp.root, np.ones(len(y)))
        level = float((ones * y).sum() / ones.sum())
        gp = replace(gp, hyperparameters=h | {"mean": [level]}, alpha=weights(gp.root, y - level))
        mean, covariance = gp.joint(X)
        return mean, (min(float(y.var()) / spread, 1.0) if spread > 0.0 else 1.0) * covariance

    def botorch_model(self, device: str = "cpu") -> SingleTaskGP:
        """The same posterior, on the standardised scale, for gradients by autograd and for researchers."""
        import torch

        from arqon_gp.twin import single_task_gp

        learned = self.name not in self.settings.exact
        return single_task_gp(self.rows, self.settings, self.hyperparameters, torch.device(device), learned=learned)


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The posteriors of all outcomes, modelled independently; the last one is FEASIBLE once a window has failed.

    `inner`: once a row is beyond a threshold of the front, those WITHIN thresholds, where they differ, FEASIBLE last.
    """

    outcomes: tuple[OutcomeGP, ...]
    settings: Settings
    inner: tuple[OutcomeGP, ...] = ()

    @property
    def hyperparameters(self) -> dict[str, Hyperparameters]:
        """By outcome."""
        inner = {gp.name + WITHIN: gp.hyperparameters for gp in self.inner}
        return {gp.name: gp.hyperparameters for gp in self.outcomes} | inner

    @property
    def steep(self) -> set[str]:
        """The outcomes with a cliff beyond their threshold."""
        return {gp.name for gp in self.inner if gp.name != FEASIBLE}

    def situated(self, x: Floats) -> Surrogate:
        """The same for points in the context of x (d,)."""
        outcomes, inner = (tuple(gp.situated(x) for gp in gps) for gps in (self.outcomes, self.inner))
        return replace(self, outcomes=outcomes, inner=inner)

    @property
    def within(self) -> Surrogate:
        """What the front is sought with: outcomes as they are within the thresholds, and whether they are."""
        found = {gp.name: gp for gp in (*self.outcomes, *self.inner)}
        return Surrogate(tuple(found.values()), self.settings)

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

    settings = settings.drifting(time=False, regimes=data.regimes)
    passing = settings.drifting(time=True, regimes=data.regimes)
    timeless, data = data, drifting(data, settings)

    def sought(data: Dataset, full: str) -> Hyperparameters:
        mode = _mode(data, settings, full, warm.get(full), stop, note, device)
        rows = rows_of(data, settings, full)
        outliers = np.flatnonzero(mode.excess > LEAST_EXCESS * math.exp(mode.theta[-1]))
        return _named(settings, mode.theta, mode.mean) | {
            "slope": mode.slope.tolist(),
            "outliers": data.first[rows.index[outliers]].astype(float).tolist(),
            "excess": (mode.excess[outliers] * rows.scale**2).tolist(),
        }

    def remembered(name: str) -> Hyperparameters:
        h, learned = sought(data, name), name not in settings.exact
        rows, timed = rows_of(data, settings, name, h), rows_of(drifting(timeless, passing), passing, name, h)
        known = h | {"time": warm[name]["time"]} if warm.get(name, {}).get("time") else h
        lost = forgetting(rows, timed, passing, known, learned=learned, stop=stop, device=device)
        return h | _named(passing, *lost) if lost else h

    names = [*settings.outcomes, *([FEASIBLE] if data.failed.any() else [])]
    found = {name: remembered(name) for name in names}
    for j, name in enumerate(settings.outcomes):
        if data.beyond[:, j].any():
            h, inside = sought(data, name + WITHIN), np.flatnonzero(~data.beyond[:, j])
            plain, inner = (
                OutcomeGP.of(name, rows_of(data, settings, full, of), of, settings).left_out(inside)
                for full, of in ((name, found[name]), (name + WITHIN, h))
            )
            if inner > plain:
                found[name + WITHIN] = h
    data = _with_cliffs(data, settings, found)
    return found | ({FEASIBLE + WITHIN: sought(data, FEASIBLE + WITHIN)} if data.beyond.any() else {})


def evidence(data: Dataset, settings: Settings, warm: Mapping[str, Hyperparameters]) -> dict[str, float]:
    """How well each outcome's rows are told without time: the log posterior density at its mode, nats; of outcomes in
    model space, on whatever scale they were fitted."""
    settings = settings.drifting(time=False, regimes=data.regimes)
    data, found = drifting(data, settings), {}
    for name in settings.outcomes:
        rows = rows_of(data, settings, name)
        windows = len(rows.y) + float(rows.scatter.dof.sum())
        found[name] = _mode(data, settings, name, warm.get(name)).value - windows * math.log(rows.scale)
    return found


def _mode(
    data: Dataset,
    settings: Settings,
    full: str,
    warm: Hyperparameters | None,
    stop: Callable[[], bool] = lambda: False,
    note: Note = lambda rung: None,
    device: str | None = None,
) -> Mode:
    name, _ = parted(full, settings)
    rows, learned = rows_of(data, settings, full), name not in settings.exact
    better = None if name == FEASIBLE else settings.better.get(name, 0)
    known = rows_of(data, settings, full, warm).floor - rows.floor
    return mode_of(rows, settings, warm, known, learned=learned, better=better, stop=stop, note=note, device=device)


def _named(settings: Settings, theta: Floats, mean: float) -> Hyperparameters:
    """The logs (d + 1,) of lengthscales and noise, and the constant mean, as they are written down."""
    scales = np.exp(theta)
    named = {name: scales[columns].tolist() for name, (columns, _) in settings.groups.items()}
    return named | {"noise": [float(scales[-1])], "mean": [mean]}


def _with_cliffs(data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters]) -> Dataset:
    """The dataset where only outcomes that are modelled WITHIN thresholds are beyond one, and nowhere in all rows."""
    steep = np.array([name + WITHIN in known for name in settings.outcomes])
    return replace(data, beyond=data.beyond & steep & ~data.beyond.all(axis=0))


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
    gps: tuple[list[OutcomeGP], list[OutcomeGP]] = [], []
    data, settings = matched(data, settings, known)
    data = _with_cliffs(data, settings, known)
    for full, h in known.items():
        rows, (name, within) = rows_of(data, settings, full, h), parted(full, settings)
        first = None if whole is None else int(np.searchsorted(rows.index, whole))
        earlier = () if before is None else before.inner if within else before.outcomes
        same = next((gp for gp in earlier if gp.name == name), None)
        gps[within].append(OutcomeGP.of(name, rows, h, settings, first, same, note, device))
    return Surrogate(tuple(gps[False]), settings, tuple(gps[True]))
