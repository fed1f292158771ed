"""What one outcome's Gaussian process is fitted to: the rows of a dataset, standardised.

Y is standardised per outcome, (y - shift) / scale, by the mean of the rows and the deviation of single windows. Public:
Settings, Scatter, Rows, rows_of, drifting, matched, parted, FEASIBLE, WITHIN, LEAST_SUCCESS, Hyperparameters,
lengthscales, lengthscale_prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt

from arqon_gp.cliffs import CLIFF_STDS, robust
from arqon_gp.dataset import Dataset
from arqon_gp.errors import FitError
from arqon_gp.history import Key
from arqon_gp.knobs import Categorical, Floats, Knob, Real, trends
from arqon_gp.space import Space
from arqon_kernels.covariance import CATEGORY, CYCLE, NUMBER, TIME

FEASIBLE = "feasible"  # the outcome that says whether a window succeeds: 1 or 0, share of the windows of a row
WITHIN = " within thresholds"  # what a name ends in when it is of the rows that are not beyond a threshold
LEAST_SUCCESS = 0.7  # of the windows of a config that may be proposed; with 0.5 most at the edge of a cliff fail
NOISE_RANGE = (1e-4, 10.0)  # of the standardised noise variance
NOISE_PRIOR = (1.0, 2.0)  # LogNormal(1, 2) as a raw density is log noise ~ N(-3, 2^2) as a density in log noise
COLD_NOISE = math.exp(-3.0)
LENGTHSCALE_SCALE, LEAST_LENGTHSCALE, MOST_LENGTHSCALE = 1.0, 0.025, 1e4
TIME_KNOB, REGIME_KNOB = "(time)", "(regime)"  # inputs beside the config's own
TIME_UNIT = 100.0  # windows
MOST_FLOOR = 1e6  # variance, in that of the rows: what is known less than that is not known
COLD_REGIME = 1.0  # the mode of its prior: e^-1 of what was known holds on
KNOBS_AT_FULL_SCALE = 5
TREND_STEPS, LEFT = 5, 0.01  # of what varies, that the trend leaves at the least
TREND_RIDGE = 0.1  # 1 / the prior variance of a trend, in units of what else varies, where the outcome is small
UNVARIED = 0.5  # of the way to its limit: the std of an outcome that never varied
NOTHING = 1e-200  # variance of values that are all but 0: their squares would underflow
EXACT_NOISE = 1e-6  # standardised variance of an outcome declared exact: a jitter, not a belief

Hyperparameters = dict[str, list[float]]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What is modelled: the space, the outcomes in order, and those declared free of noise.

    `better`: +1 for outcomes of which more is better, -1 for the others; without a sign cliffs are not clipped.
    `context`: how many of the space's knobs nobody controls, the last ones but the `drift` that tell the time and the
    regime; `logs`: the outcomes in log space. `guarded`: a config is left at once where it breaks a limit.
    """

    space: Space
    outcomes: tuple[str, ...]
    exact: frozenset[str] = frozenset()
    better: Mapping[str, int] = field(default_factory=dict)
    context: int = 0
    logs: frozenset[str] = frozenset()
    drift: int = 0
    guarded: bool = False

    def drifting(self, *, time: bool, regimes: int) -> Settings:
        """The same with time as an input, and with the regime if there are several: what is like once was."""
        knobs = self.space.knobs[: len(self.space.knobs) - self.drift]
        more: list[Knob] = [Real(TIME_KNOB, 0.0, TIME_UNIT, passing=True)] if time else []
        more += [Categorical(REGIME_KNOB, tuple(range(regimes)))] if regimes > 1 else []
        return replace(self, space=replace(self.space, knobs=(*knobs, *more)), drift=len(more))

    @property
    def steep(self) -> bool:
        """Whether a cliff may be anywhere: the context moves it, and under guardrails nobody stays beyond it."""
        return self.guarded and self.context > 0

    @cached_property
    def categorical(self) -> list[int]:
        """Columns of X that are categories, but for the regime."""
        return [i for i in np.flatnonzero(self.kinds == CATEGORY).tolist() if i not in self.regime]

    @cached_property
    def numeric(self) -> list[int]:
        """Columns of X that are numbers, but for the time."""
        return np.flatnonzero((self.kinds != CATEGORY) & (self.kinds != TIME)).tolist()

    @cached_property
    def time(self) -> list[int]:
        """The column of X that is the time, if any."""
        return np.flatnonzero(self.kinds == TIME).tolist()

    @cached_property
    def regime(self) -> list[int]:
        """The column of X that is the regime, if any."""
        return [i for i, knob in enumerate(self.space) if self.drift and knob.name == REGIME_KNOB]

    @property
    def regimes(self) -> int:
        """How many regimes the inputs tell apart."""
        found = (len(knob.choices) for knob in self.space.knobs[-self.drift :] if isinstance(knob, Categorical))
        return next(found, 1) if self.drift else 1

    @property
    def groups(self) -> dict[str, tuple[list[int], float]]:
        """The hyperparameters that are lengthscales: whose they are, and what they are where they are not told."""
        ever = MOST_LENGTHSCALE
        return {
            "lengthscale": (self.numeric, ever),
            "category": (self.categorical, ever),
            "time": (self.time, ever),
            "regime": (self.regime, COLD_REGIME),
        }

    @cached_property
    def kinds(self) -> Integers:
        """The kind (d,) of each column of X, as the covariance names them."""
        return np.array([*map(_kind, self.space), *[CATEGORY] * len(self.space.split)])

    def trends(self, X: Floats) -> Floats:
        """What the level of an outcome may follow (n, p) at X (n, d): the context."""
        last = len(self.space.knobs) - self.drift
        of = slice(last - self.context, last)
        return trends(self.space.knobs[of], X[:, of])

    def slopes(self, X: Floats) -> Floats:
        """What the noise may depend on (n, p) at X (n, d): how far each straight number is from the middle."""
        return np.clip(X[:, self.kinds == NUMBER] - 0.5, -1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Scatter:
    """What the windows inside the stays tell of the noise, and where: Z (k, p) as of the rows, ss and dof (k,)."""

    Z: Floats
    ss: Floats
    dof: Floats


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one outcome: X (n, d), y (n,) standardised, what scales and adds to their noise, the scatter.

    An outcome is shift + scale y + `trend` (p,) times Settings.trends: what the context alone does is no merit.
    `ridge`: 1 / the prior variance of a trend, standardised.

    `share` (n,): 1 / windows, times how much noisier they are than in the middle of the space, which depends on Z
    (n, p); `single` (n,): whether they are one window; `index` (n,): where they stand in the dataset.
    """

    X: Floats
    y: Floats
    Z: Floats
    share: Floats
    single: npt.NDArray[np.bool_]
    floor: Floats
    scatter: Scatter
    within_floor: float
    shift: float
    scale: float
    keys: tuple[Key, ...]
    index: Integers
    trend: Floats = field(default_factory=lambda: np.zeros(0))
    ridge: float = 1.0

    @property
    def ss(self) -> float:
        """Sum of squares of the windows inside the stays."""
        return float(self.scatter.ss.sum())

    @property
    def dof(self) -> float:
        """Its degrees of freedom."""
        return float(self.scatter.dof.sum())

    def uneven(self, b: Floats) -> Rows:
        """The rows if log noise has this slope (p,)."""
        scatter = replace(self.scatter, ss=self.scatter.ss / np.exp(self.scatter.Z @ b))
        return replace(self, share=self.share * np.exp(self.Z @ b), scatter=scatter)

    def only(self, kept: npt.NDArray[np.bool_]) -> Rows:
        """Some of the rows, on the same scale."""
        return replace(
            self,
            X=self.X[kept],
            y=self.y[kept],
            Z=self.Z[kept],
            share=self.share[kept],
            single=self.single[kept],
            floor=self.floor[kept],
            keys=tuple(compress(self.keys, kept)),
            index=self.index[kept],
        )


def drifting(data: Dataset, settings: Settings) -> Dataset:
    """The dataset with the inputs that the settings have beside its own: time and regime."""
    if data.added or not settings.drift:
        return data
    columns = [data.at / TIME_UNIT] if settings.time else []
    columns += [data.regime / (data.regimes - 1.0)] if settings.regime else []
    return data.with_columns(len(settings.space.knobs) - settings.drift, columns)


def matched(data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters]) -> tuple[Dataset, Settings]:
    """The dataset and the settings with the inputs that these hyperparameters have, by outcome."""
    if data.added:
        return data, settings
    regimes = data.regimes if any(h.get("regime") for h in known.values()) else 1
    settings = settings.drifting(time=any(h.get("time") for h in known.values()), regimes=regimes)
    return drifting(data, settings), settings


def rows_of(data: Dataset, settings: Settings, name: str, h: Hyperparameters | None = None) -> Rows:
    """The rows that have this outcome; FitError when none has. `h` tells which are outliers, and their variance, and
    the slope of the noise.

    WITHIN thresholds an outcome has no value at the rows where it is beyond its own, and what is beyond any has failed:
    on the far side of a cliff nothing is said about the near one. Nor has a row where it is steep and all of it has
    failed or fallen.
    """
    stays, (name, inner) = data.stays, parted(name, settings)
    if name == FEASIBLE:
        failed = np.where(inner & data.beyond.any(axis=1), data.tried, data.failed)
        y, count = 1.0 - failed / data.tried, data.tried
        floor, within, room = np.zeros(len(y)), 0.0, math.inf
    else:
        j = settings.outcomes.index(name)
        y, count, floor = np.where(inner & data.beyond[:, j], np.nan, data.Y[:, j]), data.count[:, j], data.floor[:, j]
        within, room = float(data.within_floor[j]), float(data.room[j])
        if settings.steep and np.isfinite(kept := np.where(data.failed < data.tried, y, np.nan)).any():
            y = kept
    index = np.flatnonzero(np.isfinite(y))
    if not len(index):
        raise FitError(f"no window has the outcome {name!r} yet")
    y, share = y[index], 1.0 / count[index]
    T = settings.trends(data.X[index])[:, : 0 if name == FEASIBLE else None]
    size = 1.0 if name in settings.logs else abs(float(y.mean()))
    trend = _trend(T, y, count[index], size)
    if (better := settings.better.get(name)) and not inner:
        y = _clipped(y, T @ trend, better, float(data.worst[j]))
        trend = _trend(T, y, count[index], size)
    whole, y = float(y.std()), y - T @ trend
    shift = float(y.mean())
    ss, dof = np.zeros(0), np.zeros(0)
    if name != FEASIBLE:
        ss, dof = stays.scatter(j, lambda W: settings.trends(W) @ trend)
    total = float(dof.sum())
    # what the variance of single windows at these rows would be
    variance = (float(y.var(ddof=1)) if len(y) > 1 else 0.0) + (float(ss.sum()) / total if total else 0.0) * float(
        (1.0 - share).mean()
    )
    rounding = 1e-9 * abs(shift)
    if trend.any():
        variance = max(variance, (LEFT * whole) ** 2)
    if variance > max(rounding**2, NOTHING):
        scale = math.sqrt(variance)
    else:  # it never varied: how much it may is not known, but hardly as much as its limit is away
        scale = min(max(abs(shift), 1.0), max(UNVARIED * room, rounding))
    floor = floor[index]
    if h and h.get("outliers"):
        excess = dict(zip(h["outliers"], h["excess"], strict=True))
        floor = floor + np.array([excess.get(first, 0.0) for first in data.first[index].tolist()])
    rows = Rows(
        X=data.X[index],
        y=(y - shift) / scale,
        Z=settings.slopes(data.X[index]),
        share=share,
        single=share == 1.0,
        floor=np.minimum(floor / scale**2, MOST_FLOOR),
        scatter=Scatter(settings.slopes(stays.X[: len(ss)]), ss / scale**2, dof),
        within_floor=min(within / scale**2, MOST_FLOOR),
        shift=shift,
        scale=scale,
        trend=trend,
        ridge=_ridge(size, scale),
        keys=data.keys if len(index) == len(data.keys) else tuple(data.keys[i] for i in index),
        index=index,
    )
    return rows.uneven(np.array(h["slope"])) if h and h.get("slope") else rows


def _trend(T: Floats, y: Floats, weight: Floats, size: float) -> Floats:
    """How the level y (n,) follows T (n, p): weighted least squares, shrunk where few rows tell."""
    if not T.shape[1]:
        return np.zeros(0)
    centred, apart = T - np.average(T, axis=0, weights=weight), y - np.average(y, weights=weight)
    A, b = centred.T @ (weight[:, None] * centred), centred.T @ (weight * apart)
    found: Floats = np.zeros(len(b))
    whole = left = float(y.std()) or 1.0
    for _ in range(TREND_STEPS):
        found = np.asarray(np.linalg.solve(A + _ridge(size, left) * np.eye(len(b)), b))
        left = max(float((apart - centred @ found).std()), LEFT * whole)
    return found


def _clipped(y: Floats, level: Floats, better: int, worst: float) -> Floats:
    """Outcomes (n,) no worse than where cliffs end; where their level (n,) moves with the context, a cliff is as far
    below it, too: an empty street is none."""
    if not level.any():
        return np.fmax(y, worst) if better > 0 else np.fmin(y, worst)
    middle, std = robust(y - level)
    end = better * (level + middle) - CLIFF_STDS * std
    return better * np.fmax(better * y, np.fmin(end, better * worst))


def _ridge(size: float, scale: float) -> float:
    """1 / the prior variance of a trend, in units of `scale`: it may well be as large as the outcome itself."""
    return 1.0 / (1.0 / TREND_RIDGE + (size / scale) ** 2)


def parted(name: str, settings: Settings) -> tuple[str, bool]:
    """The outcome that a name is of, and whether it is of it WITHIN thresholds alone."""
    within = name not in settings.outcomes and name.endswith(WITHIN)
    return name.removesuffix(WITHIN) if within else name, within


def _kind(knob: Knob) -> int:
    if isinstance(knob, Categorical):
        return NUMBER if knob.ordered else CATEGORY
    if isinstance(knob, Real) and knob.passing:
        return TIME
    return CYCLE if knob.periodic else NUMBER


def lengthscale_prior(d: int) -> tuple[float, float]:
    """LogNormal (loc, scale), as a raw density, of each of d numeric knobs' lengthscales.

    Its mode e^(sqrt 2 - 3) sqrt(d) is that of BoTorch 0.18 (Hvarfner et al. 2024), whose scale is sqrt(3): so wide that
    a knob looks flat, or the noise like signal, as long as there are few rows. Of more than KNOBS_AT_FULL_SCALE it
    shrinks as 1 / sqrt(d): the more knobs, the more of them would look flat by chance.
    """
    mode = math.sqrt(2.0) - 3.0 + 0.5 * math.log(max(d, 1))
    scale = LENGTHSCALE_SCALE * math.sqrt(min(1.0, KNOBS_AT_FULL_SCALE / max(d, 1)))
    return mode + scale**2, scale


def lengthscales(h: Hyperparameters, settings: Settings) -> Floats:
    """The lengthscale (d,) of each column of X."""
    found = np.empty(len(settings.kinds))
    for name, (columns, default) in settings.groups.items():
        found[columns] = h.get(name) or default
    return found
