"""The active set: which rows of a long history the surrogate is conditioned on, so that an ask costs what it did.

While nothing has faded: first the rows that cover the measured part of the space (farthest point first, Gonzalez 1985),
then those where the surrogate of these expects most, not knowing their own values: the best of many noisy values were
lucky. The surrogate is wrong somewhere, and where it is, rows that are near help more than rows that it says help.

Where functions drift, and old rows have faded, by their time or by their regime: the rows that tell most about the
windows to come, now and here. One after the other the row that takes most off the variance of noisy windows at some
targets, given those already chosen (Cohn 1996; for local Gaussian processes Gramacy and Apley 2015, "Local Gaussian
process approximation for large computer experiments", eq. 6; each target weighed by 1 / its variance: the information
in nats, to first order). The targets cover the space, and are where the latest rows are and where most is expected, all
at the time of the latest and in the present regime. Some rows cover all regimes: one may be back, and is known by them.
Public: active_set, MOST_ROWS, MOST_CUDA_ROWS.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from arqon_gp.dataset import Dataset
from arqon_gp.knobs import Floats
from arqon_gp.rows import Hyperparameters, Integers, Settings, lengthscales, matched, rows_of
from arqon_gp.surrogate import restore
from arqon_kernels import covariance
from arqon_kernels.covariance import TIME

MOST_ROWS = 300  # beyond, the cubic cost of a fit is felt
MOST_CUDA_ROWS = 2000  # beyond, the search on the CPU is felt, quadratic in the rows (bench/gpu.py)
COVERED = 2 / 3  # of the rows; with more or fewer, log density is lost near the best or elsewhere (bench/active.py)
OPTIMISM = 1.0  # posterior stds
FADED = 0.5  # correlation of a row with its config now, below which what tells of now is chosen
TARGETS, LATEST_TARGETS, BEST_TARGETS = 48, 16, 32  # with more of them no log density is gained
KEPT = 1 / 4  # of the rows, at most, for what failed, which has no outcome that could be told; as many for all regimes
LEAST_VARIANCE = 1e-9


def active_set(
    data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters], most: int = MOST_ROWS
) -> Integers:
    """All rows of the dataset, or `most` in their order, of which COVERED (all without hyperparameters) cover; where
    rows have faded, those that tell most, each outcome its share of them."""
    if len(data.X) <= most:
        return np.arange(len(data.X))
    data, settings = matched(data, settings, known)
    usable = np.flatnonzero(np.isfinite(data.Y).any(axis=1) | (data.failed > 0))
    places = data.X[:, settings.kinds != TIME]
    chosen = usable[_covering(places[usable], int(COVERED * most) if known else most)]
    if not known:
        return np.sort(chosen)
    promising = _promising(data, settings, known, chosen, usable)
    if not _faded(data, settings, known):
        each = -(-(most - len(chosen)) // len(promising))
        return np.sort(np.concatenate([chosen, np.unique(np.concatenate([order[:each] for order in promising]))]))
    failed = np.flatnonzero(data.failed > 0)
    kept = int(KEPT * most)
    found = np.union1d(failed[_covering(places[failed], kept)], chosen[: kept if settings.regime else 0]).tolist()
    each = -(-BEST_TARGETS // len(promising))
    latest = usable[np.argsort(data.at[usable], kind="stable")[-LATEST_TARGETS:]]
    targets = np.concatenate([chosen[:TARGETS], latest, *(order[:each] for order in promising)])
    at = _now(data.X[targets], data, settings)
    for left, name in zip(range(len(settings.outcomes), 0, -1), settings.outcomes, strict=True):
        found += _telling(data, settings, name, known[name], at, found, (most - len(found)) // left)
    return np.sort(np.array(found, dtype=np.int64))


def _covering(X: Floats, most: int) -> Integers:
    """Rows (most,) each of which is the farthest from those before; the first is the first."""
    chosen = np.zeros(min(most, len(X)), dtype=np.int64)
    distance = np.full(len(X), np.inf)
    for k in range(1, len(chosen)):
        distance = np.minimum(distance, np.square(X - X[chosen[k - 1]]).sum(axis=1))
        chosen[k] = int(np.argmax(distance))
    return chosen


def _promising(
    data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters], by: Integers, usable: Integers
) -> list[Integers]:
    """For each outcome the other rows in the order of what the surrogate of the rows `by` expects of them now, beside
    what their context makes: by day all would be good."""
    rest = np.setdiff1d(usable, by)
    surrogate = restore(data.rows(by), settings, {name: known[name] for name in settings.outcomes})
    orders = []
    for name in settings.outcomes:
        gp, X = surrogate[name], _now(data.X[rest], data, settings)
        mean, variance = gp.predict(X)
        score = settings.better.get(name, 0) * (mean - gp.level(X)) + OPTIMISM * np.sqrt(variance)
        orders.append(rest[np.argsort(-score, kind="stable")])
    return orders


def _now(X: Floats, data: Dataset, settings: Settings) -> Floats:
    """Rows (n, d) at the time of the latest, in the present regime."""
    X = X.copy()
    X[:, settings.time] = data.X[:, settings.time].max(axis=0)
    X[:, settings.regime] = data.current / max(data.regimes - 1.0, 1.0)
    return X


def _faded(data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters]) -> bool:
    """Whether the oldest row of any regime says less of its config now, in any outcome."""
    age = np.argsort(data.at, kind="stable")
    X = data.X[age[np.unique(data.regime[age], return_index=True)[1]]]
    now, kinds = _now(X, data, settings), settings.kinds
    return any(
        np.diag(covariance(X, now, lengthscales(known[name], settings), kinds)).min() < FADED
        for name in settings.outcomes
    )


def _telling(
    data: Dataset, settings: Settings, name: str, h: Hyperparameters, targets: Floats, before: list[int], most: int
) -> list[int]:
    """The `most` rows that tell most about an outcome at the targets (t, d), beyond the rows `before`.

    Without BLAS: the same bits on any number of threads.
    """
    rows, scale, kinds = rows_of(data, settings, name, h), lengthscales(h, settings), settings.kinds
    noise, X = h["noise"][0], rows.X
    D, untaken = noise * rows.share + rows.floor, np.ones(len(X), dtype=bool)
    given = np.flatnonzero(np.isin(rows.index, before)).tolist()
    most = min(most, len(X) - len(given))
    C, variance = np.asarray(covariance(X, targets, scale, kinds)), np.ones(len(X))
    window, done = np.full(len(targets), 1.0 + noise), np.zeros((len(given) + most, len(X)))
    chosen: list[int] = []
    for k in range(len(done)):
        if k < len(given):
            i = given[k]
        else:
            tells = np.einsum("ij,ij,j->i", C, C, 1.0 / window) / (variance + D)
            i = int(np.argmax(np.where(untaken, tells, -1.0)))
            chosen.append(i)
        untaken[i] = False
        column = np.asarray(covariance(X[i : i + 1], X, scale, kinds))[0] - np.einsum("k,kn->n", done[:k, i], done[:k])
        root = np.sqrt(variance[i] + D[i])
        done[k], at = column / root, C[i] / root
        C -= done[k][:, None] * at
        variance = np.maximum(variance - np.square(done[k]), LEAST_VARIANCE)
        window = np.maximum(window - np.square(at), noise)
    found: list[int] = rows.index[chosen].tolist()
    return found
