"""The active set: which rows of a long history the surrogate is conditioned on, so that an ask costs what it did.

First the rows that cover the measured part of the space (farthest point first, Gonzalez 1985), then those where the
surrogate of these expects most, not knowing their own values: the best of many noisy values were lucky. Public:
active_set, MOST_ROWS, MOST_CUDA_ROWS.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from arqon_gp.history import Dataset
from arqon_gp.knobs import Floats
from arqon_gp.rows import Hyperparameters, Integers, Settings
from arqon_gp.surrogate import restore

MOST_ROWS = 300  # beyond, the cubic cost of a fit is felt
MOST_CUDA_ROWS = 2000  # beyond, the search on the CPU is felt, quadratic in the rows (bench/gpu.py)
COVERED = 2 / 3  # of the rows; with more or fewer, log density is lost near the best or elsewhere (bench/active.py)
OPTIMISM = 1.0  # posterior stds


def active_set(
    data: Dataset, settings: Settings, known: Mapping[str, Hyperparameters], most: int = MOST_ROWS
) -> Integers:
    """All rows of the dataset, or `most` in their order, of which COVERED (all without hyperparameters) cover."""
    if len(data.X) <= most:
        return np.arange(len(data.X))
    usable = np.flatnonzero(np.isfinite(data.Y).any(axis=1) | (data.failed > 0))
    chosen = usable[_covering(data.X[usable], int(COVERED * most) if known else most)]
    if known:
        rest = np.setdiff1d(usable, chosen)
        surrogate = restore(data.rows(chosen), settings, {name: known[name] for name in settings.outcomes})
        scores = []
        for name in settings.outcomes:
            mean, variance = surrogate[name].predict(data.X[rest])
            scores.append(settings.better.get(name, 0) * mean + OPTIMISM * np.sqrt(variance))
        each = -(-(most - len(chosen)) // len(scores))
        best = np.concatenate([rest[np.argsort(-score, kind="stable")[:each]] for score in scores])
        chosen = np.concatenate([chosen, np.unique(best)])
    return np.sort(chosen)


def _covering(X: Floats, most: int) -> Integers:
    """Rows (most,) each of which is the farthest from those before; the first is the first."""
    chosen = np.zeros(min(most, len(X)), dtype=np.int64)
    distance = np.full(len(X), np.inf)
    for k in range(1, len(chosen)):
        distance = np.minimum(distance, np.square(X - X[chosen[k - 1]]).sum(axis=1))
        chosen[k] = int(np.argmax(distance))
    return chosen
