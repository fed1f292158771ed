"""Which of two configs is better, and is a level still what it was: robust statistics of single windows. No torch.

The level of a config is the true, noise-free value of a series (the utility, or one outcome in model space). Its
windows are normal around it with a variance learned from repeated windows, but each is an outlier with a learned
probability of at least 2 %: then its standard deviation is OUTLIER_SPREAD times as large (Box and Tiao 1968, "A
Bayesian approach to some outlier problems"). The prior of a level is a Student t around what the surrogate expects
there from the other configs: heavy tails, because a model that is sure of itself may be wrong. Posteriors are sums over
a grid: no approximation to trust. Public: Noise, window_noise, Evidence, p_below, p_beyond, interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special

from arqon_gp.cliffs import NORMAL_MAD
from arqon_gp.knobs import Floats

Integers = npt.NDArray[np.int64]

LEAST_OUTLIER_SHARE = 0.02
OUTLIER_SPREAD = 8.0
PRIOR_OUTLIER_SHARE = 0.03  # before any window is known ...
SHARE_PRIOR_WINDOWS = 50.0  # ... which weighs like this many windows
PRIOR_DOF = 3.0  # of the Student t prior of a level
EM_STEPS = 25
EM_TOLERANCE = 1e-9  # relative change of the variance
PRIOR_RELATIVE_STD = 0.05  # what a window std is before it is measured, as a share of the level ...
PRIOR_LOG_STD = 0.25  # ... and of a log series, whose level is no size: a p99 varies more than a mean ...
PRIOR_NOISE_DOF = 2.0  # ... worth so many degrees of freedom: three windows that happen to agree prove little
CONTRADICTED = 0.001  # chance of windows that agree as well as these, from which on the prior is not believed
EQUAL = 0.01  # of the level: as what is taken that windows are equal to the last digit
FEW_WINDOWS = 6
NODES = 7  # quadrature nodes of the unknown window variance
GRID = 161  # points of each of the grids laid over a level
WIDE = np.sinh(np.linspace(-9.0, 9.0, GRID))  # in prior scales: dense at the centre, with tails
NARROW = np.linspace(-8.0, 8.0, GRID)  # in standard deviations
STEEP = 64.0  # how many window stds the prior scale may have before the gap between both grids matters
BRIDGE = 8.0 * 1.25 ** np.arange(1, 100)  # in standard deviations: across that gap
LEAST_STD = 1e-9  # of the prior scale: error rates that are always 0 have no variance


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of one window beyond its known part, how many degrees of freedom tell it, and the share of outliers."""

    variance: float
    dof: float
    outliers: float = PRIOR_OUTLIER_SHARE

    @property
    def std(self) -> float:
        """Standard deviation of one window."""
        return float(np.sqrt(self.variance))

    def nodes(self) -> Floats:
        """Equally likely window variances: quantiles of the scaled inverse chi-square posterior."""
        levels = (np.arange(NODES) + 0.5) / NODES
        return np.asarray(self.variance * self.dof / (2.0 * special.gammainccinv(0.5 * self.dof, levels)))


def window_noise(
    value: Floats, group: Integers, known: float = 0.0, prior: Noise | None = None, *, log: bool = False
) -> Noise | None:
    """The noise of windows (n,) in groups (n,) that share a level each; None without two windows in one group.

    EM for the scale mixture, levels and variance in turn, from all windows and from those that agree best: of two that
    contradict each other either may be the outlier. `known` is the mean variance given by standard errors, `prior` what
    is believed before, instead of PRIOR_RELATIVE_STD, or PRIOR_LOG_STD of a `log` series.
    """
    finite = np.isfinite(value)
    y, (_, of) = value[finite], np.unique(group[finite], return_inverse=True)
    count = np.bincount(of)
    dof = len(y) - len(count)
    if dof < 1:
        return None
    order = np.lexsort((y, of))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    low, high = y[order][first + (count - 1) // 2], y[order][first + count // 2]
    apart = np.abs(y - low[of])[count[of] > 1]
    robust = (NORMAL_MAD * float(np.median(apart[apart > 0.0]))) ** 2 if (apart > 0.0).any() else 0.0
    starts = [(0.5 * (low + high), None), (low, robust)]
    _, variance, share = max((_mixture(y, of, dof, *start) for start in starts), key=lambda found: found[0])
    size, variance = 1.0 if log else float(np.median(np.abs(y))), max(variance - known, 0.0)
    agreed = variance if variance > 0.0 else (EQUAL * size) ** 2
    prior = prior or Noise(((PRIOR_LOG_STD if log else PRIOR_RELATIVE_STD) * size) ** 2, PRIOR_NOISE_DOF)
    believed = min(prior.variance, agreed * dof / float(special.chdtri(dof, 1.0 - CONTRADICTED)))
    total = prior.dof + dof
    variance = (prior.dof * believed + dof * variance) / total
    return Noise(variance + 1e-300, total, share)


def _mixture(y: Floats, of: Integers, dof: int, level: Floats, variance: float | None) -> tuple[float, float, float]:
    """The restricted log likelihood (under flat priors of the levels), variance and share of outliers that EM finds
    from these levels (k,) of windows (n,), and this variance, or theirs."""
    share, weight = PRIOR_OUTLIER_SHARE, np.ones(len(y))
    variance = float(((y - level[of]) ** 2).sum()) / dof if variance is None else variance
    for _ in range(EM_STEPS):
        if variance <= 0.0:
            break
        outlying = _outlier_probability(y - level[of], variance, share)
        weight = 1.0 - outlying + outlying / OUTLIER_SPREAD**2
        level = np.bincount(of, weight * y) / np.bincount(of, weight)
        before, variance = variance, float((weight * (y - level[of]) ** 2).sum()) / dof
        if abs(variance - before) <= EM_TOLERANCE * before:
            break
        expected = PRIOR_OUTLIER_SHARE * SHARE_PRIOR_WINDOWS + float(outlying.sum())
        share = max(LEAST_OUTLIER_SHARE, expected / (SHARE_PRIOR_WINDOWS + len(y)))
    if variance <= 0.0:
        return math.inf, variance, share
    r2 = (y - level[of]) ** 2 / variance
    inlier, outlier = np.log1p(-share) - 0.5 * r2, np.log(share / OUTLIER_SPREAD) - 0.5 * r2 / OUTLIER_SPREAD**2
    levels = 0.5 * np.log(variance / np.bincount(of, weight)).sum()
    return float(np.logaddexp(inlier, outlier).sum() - 0.5 * len(y) * np.log(variance) + levels), variance, share


def _outlier_probability(residual: Floats, variance: float, share: float) -> Floats:
    log_odds = np.log((1.0 - share) / share * OUTLIER_SPREAD) - 0.5 * residual**2 / variance * (1 - OUTLIER_SPREAD**-2)
    return np.asarray(special.expit(-log_odds))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one level: k windows with their known variances, and a prior centre and scale."""

    windows: Floats
    known: Floats
    centre: float
    scale: float
    _seen: dict[Noise, list[tuple[Floats, Floats]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def posteriors(self, noise: Noise) -> list[tuple[Floats, Floats]]:
        """For each node of the window variance grid points (G,), increasing, and the probability mass (G,) at each;
        found once, because one level is compared with many."""
        if noise not in self._seen:
            self._seen[noise] = [_posterior(self, variance, noise.outliers) for variance in noise.nodes()]
        return self._seen[noise]

    @property
    def middle(self) -> float:
        """Median of the windows, the prior centre without any."""
        return float(np.median(self.windows)) if len(self.windows) else self.centre


def p_below(a: Evidence, b: Evidence, margin: float, noise: Noise) -> float:
    """P(level of a < level of b - margin), the window variance integrated out."""
    pairs = zip(a.posteriors(noise), b.posteriors(noise), strict=True)
    return float(np.mean([_p_below(*ours, *theirs, margin) for ours, theirs in pairs]))


def p_beyond(a: Evidence, bound: float, noise: Noise) -> float:
    """P(level of a > bound), the window variance integrated out."""
    total = 0.0
    for t, mass in a.posteriors(noise):
        total += 1.0 - float(np.interp(bound, t, np.cumsum(mass) - 0.5 * mass, left=0.0, right=1.0))
    return total / NODES


def interval(a: Evidence, noise: Noise) -> tuple[float, float, float]:
    """Mean and central 95 % interval of a level."""
    grids = a.posteriors(noise)
    t = np.concatenate([g for g, _ in grids])
    mass = np.concatenate([m for _, m in grids]) / NODES
    order = np.argsort(t)
    cumulative = np.cumsum(mass[order])
    low, high = np.interp([0.025, 0.975], cumulative, t[order])
    return float((t * mass).sum()), float(low), float(high)


def _p_below(ta: Floats, pa: Floats, tb: Floats, pb: Floats, margin: float) -> float:
    above = 1.0 - np.interp(ta + margin, tb, np.cumsum(pb) - 0.5 * pb, left=0.0, right=1.0)
    return float((pa * above).sum())


def _posterior(e: Evidence, variance: float, share: float) -> tuple[Floats, Floats]:
    scale = max(e.scale, 1e-12)
    variance = max(variance, (LEAST_STD * scale) ** 2)
    std = float(np.sqrt(variance))
    t = _grid(e, std, scale)
    log_p = -0.5 * (PRIOR_DOF + 1.0) * np.log1p(((t - e.centre) / scale) ** 2 / PRIOR_DOF)
    if len(e.windows):
        v = (variance + e.known)[:, None]
        r2 = (e.windows[:, None] - t[None, :]) ** 2 / v
        inlier = np.log1p(-share) - 0.5 * r2
        outlier = np.log(share / OUTLIER_SPREAD) - 0.5 * r2 / OUTLIER_SPREAD**2
        log_p = log_p + np.logaddexp(inlier, outlier).sum(axis=0)
    mass = np.exp(log_p - log_p.max()) * np.gradient(t)
    return t, mass / mass.sum()


def _grid(e: Evidence, std: float, scale: float) -> Floats:
    """Points dense around the prior centre and around the windows, with tails as far as the prior has mass."""
    wide = np.asarray(e.centre + scale * WIDE)
    if not len(e.windows):
        return wide
    parts = [wide, e.middle + std * NARROW / np.sqrt(len(e.windows))]
    if len(e.windows) <= FEW_WINDOWS:  # each window may be the one that tells the truth
        parts += [w + std * NARROW for w in e.windows]
    if scale > STEEP * std:  # the wide grid would step over what lies between a window and the rest of the prior
        far = std * BRIDGE[std * BRIDGE < scale]
        at = np.append(e.windows, e.middle) if len(e.windows) <= FEW_WINDOWS else np.array([e.middle])
        parts += [(at[:, None] + side * far[None, :]).ravel() for side in (-1.0, 1.0)]
    return np.unique(np.concatenate(parts))
