"""Which windows broke a limit, as the edges are told; and a collapse, after which they may lie anywhere. No torch.
Public: edges_of, collapsed_since.
"""

from __future__ import annotations

import numpy as np

from arqon_gp.dataset import Dataset
from arqon_gp.edge import Edges, Frame
from arqon_gp.history import History
from arqon_gp.records import Role
from arqon_gp.rows import Settings
from arqon_gp.study import Study

FALL = 3  # windows in a row that collapsed: the edge may lie anywhere then, and what was before tells its slope alone


def edges_of(study: Study, data: Dataset, settings: Settings) -> Edges | None:
    """Where the windows that are in view broke a limit, under guardrails."""
    rails, goals = study.config.guardrails, study.config.goals
    if rails is None:
        return None
    beyond, told = np.zeros(len(data.X), dtype=bool), np.ones(len(data.X), dtype=bool)
    for name, side, bound in goals.bounds(study.fixed):
        y = data.Y[:, goals.modelled.index(name)]
        beyond |= side * (y - bound) > 0.0
        told &= np.isfinite(y)
    mild = np.where(beyond, data.tried - data.failed, 0.0)
    kept = np.where(told & ~beyond, data.tried - data.failed, 0.0)
    current = data.current / max(data.regimes - 1.0, 1.0)
    old = (data.first < collapsed_since(data, study.history)).astype(np.float64)
    return Edges.of(data.X, data.failed, mild, kept, Frame.of(settings, rails.steps, current), old)


def collapsed_since(data: Dataset, history: History) -> int:
    """The number of the result with which the latest collapse of FALL windows or more began; 0 without one. Rows of
    another time come in any order."""
    first, windows = 0, 0.0
    for i in np.argsort(-data.first):
        if history.rows[int(data.first[i])].role is not Role.WINDOW:
            continue
        if data.failed[i] > 0.0:
            first, windows = int(data.first[i]), windows + float(data.failed[i])
        elif windows >= FALL:
            return first
        else:
            windows = 0.0
    return first if windows >= FALL else 0
