"""Which rows are gross outliers: relevance pursuit, by the evidence for a noise variance of their own.

A row's own variance r added to its noise changes the log likelihood by a^2 r / (1 + r A) / 2 - log(1 + r A) / 2, with a
its entry of K^-1 (y - mean) and A of the diagonal of K^-1; that is largest at r = (z^2 - 1) / A, z^2 = a^2 / A, where
(z^2 - 1 - log z^2) / 2 is gained. Rows are taken in that order, a few at a time, the hyperparameters fitted again after
each step, and of all steps the densest counts, each row priced (Ament et al. 2024, "Robust Gaussian processes via
relevance pursuit"). A row of several windows is no outlier: windows that agree are what the config does.
Public: pursue.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from arqon_gp.knobs import Floats
from arqon_kernels import LogPosterior

COST = 6.0  # nats a row: that few rows are outliers, and that its variance was chosen after the fact
GOOD_COST = 7.5  # ... of one that is better than expected: an optimum given up costs more than one more look at a fluke
MOST_SHARE = 0.15  # of the rows
PATIENCE, LEAST_GAIN = 3, 0.01  # steps without a gain, nats

Fit = Callable[[LogPosterior, Floats], tuple[Floats, float]]


def pursue(
    density_of: Callable[[Floats], LogPosterior],
    single: npt.NDArray[np.bool_],
    known: Floats,
    better: int,
    fit: Fit,
    theta: Floats,
    value: float,
) -> tuple[Floats, Floats, float]:
    """The hyperparameters, the variance (n,) of each row beyond the common noise, 0 for all but outliers, and the log
    density, less what they cost.

    `density_of(excess)`: the density with these variances added; `single` (n,): whether a row is one window; `known`
    (n,): the variances found by the last fit, a second place to begin; `better`: +1 where more is better, -1 where less
    is, 0 where neither; `fit` climbs from given hyperparameters; `theta`, `value`: the fit without outliers.
    """
    most, none, known = int(MOST_SHARE * len(single)), np.zeros(len(single)), np.where(single, known, 0.0)
    best, found = value, (theta, none)
    for first in (known if known.any() else None, _extended(*density_of(none).inverse(theta), none, single, most)):
        added, at, idle = first, theta, 0
        while added is not None and idle < PATIENCE:
            at, value = fit(density_of(added), at)
            if not np.isfinite(value):
                break
            a, A = density_of(added).inverse(at)
            value -= float(np.where(better * a[added > 0.0] > 0.0, GOOD_COST, COST).sum())
            idle += 1
            if value > best + LEAST_GAIN:
                best, found, idle = value, (at, added), 0
            excess = _again(a, A, added)
            added = _extended(*density_of(excess).inverse(at), excess, single, most)
    return *found, best


def _extended(a: Floats, A: Floats, excess: Floats, single: npt.NDArray[np.bool_], most: int) -> Floats | None:
    """The variances with those of half as many rows more, the ones that gain most; None where no row may be an outlier,
    or where the first is no stranger than the largest of n normal ones.
    """
    excess, size, strange = excess.copy(), int(np.count_nonzero(excess)), 2.0 * np.log(len(excess)) + 2.0
    a, diagonal = a.copy(), A.diagonal().copy()
    taken: list[tuple[float, Floats]] = []  # what the inverse has lost: share times row times row' each
    for step in range(min(max(1, size // 2), most - size)):
        z2 = np.where((excess == 0.0) & single, a * a / diagonal, 0.0)
        i = int(np.argmax(z2))
        if z2[i] <= (1.0 if size or step else strange):
            return excess if step else None
        excess[i] = (z2[i] - 1.0) / diagonal[i]
        row = A[i] - sum((share * other[i] * other for share, other in taken), np.zeros(len(a)))
        share = excess[i] / (1.0 + excess[i] * diagonal[i])
        a -= share * a[i] * row
        diagonal -= share * row * row
        taken.append((share, row))
    return excess if np.count_nonzero(excess) > size else None


def _again(a: Floats, A: Floats, excess: Floats) -> Floats:
    """The variances of the outliers as they are best now; one that needs none is none any more."""
    own = (a / A.diagonal()) ** 2 - (1.0 / A.diagonal() - excess)
    return np.where(excess > 0.0, np.maximum(own, 0.0), 0.0)
