"""How far the level of each outcome moved from one regime to the next.

A regime is an additive level per outcome (in model space), fitted from what was measured in both. Notation: n rows, m
modelled outcomes. Public: Levels, levels, paired, learnt, Place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arqon_gp.history import Excerpt, History, Key, key
from arqon_gp.knobs import Floats
from arqon_gp.objectives import Goals, model_values
from arqon_gp.records import Observation

NEIGHBOURS = 5  # configs on either side of a change that tell how far the level moved where none was measured on both
JUMP_STDS = 2.0  # of how far two of these configs are apart: below, they do not tell whether it moved
UNLINKED = 100.0  # variances of a window: how unsure the level is then

Place = tuple[int, ...]
Means = dict[tuple[Key, Place], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Levels:
    """What to add to a row of each regime to bring it to the current level: shift and its variance, (regimes, m)."""

    shift: Floats
    variance: Floats


def learnt(rows: Sequence[Observation], goals: Goals) -> Floats:
    """The outcomes (n, m) of rows in model space; NaN, too, where it is not known in which context they came about."""
    values = model_values(rows, goals)
    values[[row.vague for row in rows]] = np.nan
    return values


def paired(values: Floats, rows: Sequence[Observation], goals: Goals) -> Floats:
    """Values (n, m) in model space, less what the control beside a row was above its own mean at that time: what moved
    both instances, traffic or a neighbour, is no merit of a config. Rows without a control stay as they are.
    """
    groups: dict[Key, list[int]] = {}
    for i, row in enumerate(rows):
        if row.control is not None:
            groups.setdefault(key(row.control.params), []).append(i)
    if not groups:
        return values
    values = values.copy()
    for group in groups.values():
        beside = model_values([control for i in group if (control := rows[i].control)], goals)
        values[group] -= np.nan_to_num(beside - _mean_count(beside)[0])
    return values


def levels(
    of: History | Excerpt, goals: Goals, places: Sequence[Place] | None = None, until: int | None = None
) -> Levels:
    """Shift of each regime, chained from one regime to the next, or to the one in which it is back, by the configs
    measured in both, in one context.

    `places`: in which cell of the context each row was; without them there is no context. `until`: the result before
    which they are told, as what follows may be of another regime. With config means a_c, b_c over n_c, k_c windows the
    shift is sum w_c (b_c - a_c) / sum w_c, w_c = 1 / (1/n_c + 1/k_c), its variance s^2 / sum w_c with the pooled
    variance s^2 of windows around their config mean. Where none was measured in both, it is that of the medians of the
    NEIGHBOURS configs before and after the change, as unsure as two of these configs are apart; none, where that is
    more than it.
    """
    of = of.excerpt() if isinstance(of, History) else of
    m, last = len(goals.modelled), len(of.regimes) - 1
    shift, variance = np.zeros((last + 1, m)), np.zeros((last + 1, m))
    if last == 0:
        return Levels(shift, variance)
    values = paired(learnt(of.rows, goals), of.rows, goals)
    told = len(of) if until is None else int(np.searchsorted(of.numbers, until))
    means, spread = _config_means(of, values[:told], places or [()] * len(of))
    for r in range(last - 1, -1, -1):
        again = next((k for k in range(r + 1, last + 1) if of.kinds[k] == of.kinds[r]), None)
        to = again or r + 1
        for j in range(m):
            step, doubt = _step_between(means[r], means[to], j, spread[j], same=again is not None)
            shift[r, j], variance[r, j] = shift[to, j] + step, variance[to, j] + doubt
    return Levels(shift, variance)


def _config_means(of: Excerpt, values: Floats, places: Sequence[Place]) -> tuple[list[Means], Floats]:
    """Mean and number of windows (m,) of each config, in each cell of the context, in each regime, of the first rows,
    whose values (n, m) these are; and the variance (m,) of windows around these means, with at least one degree of
    freedom."""
    groups: dict[tuple[int, Key, Place], list[Floats]] = {}
    for y, row, regime, place in zip(values, of.rows, of.regime.tolist(), places, strict=False):
        groups.setdefault((regime, key(row.params), place), []).append(y)
    means: list[Means] = [{} for _ in of.regimes]
    ss, dof = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for (regime, name, place), group in groups.items():
        mean, count = means[regime][name, place] = _mean_count(np.array(group))
        ss += np.nansum((np.array(group) - mean) ** 2, axis=0)
        dof += np.maximum(count - 1.0, 0.0)
    return means, np.asarray(ss / np.maximum(dof, 1.0))


def _mean_count(values: Floats) -> tuple[Floats, Floats]:
    """Column means and counts of (k, m) values, NaN left out."""
    known = np.isfinite(values)
    count = known.sum(axis=0).astype(float)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan), count


def _step_between(old: Means, new: Means, j: int, spread: float, *, same: bool) -> tuple[float, float]:
    """How far the level moved from one regime to a later one, and the variance of that; `same`: this is that again."""
    step, total = 0.0, 0.0
    for name, (mean, count) in old.items():
        if name in new and count[j] > 0 and new[name][1][j] > 0:
            weight = 1.0 / (1.0 / count[j] + 1.0 / new[name][1][j])
            step += weight * (new[name][0][j] - mean[j])
            total += weight
    if total > 0:
        return step / total, spread / total
    if same:
        return 0.0, spread
    before, after = ([mean[j] for mean, count in means.values() if count[j] > 0] for means in (old, new))
    sides = [np.array(before[-NEIGHBOURS:]), np.array(after[:NEIGHBOURS])]
    if not all(map(len, sides)):
        return 0.0, UNLINKED * spread
    medians, dof = [float(np.median(side)) for side in sides], len(sides[0]) + len(sides[1]) - 2
    apart = sum(float(np.square(side - median).sum()) for side, median in zip(sides, medians, strict=True))
    step, doubt = medians[1] - medians[0], 2.0 * max(apart / max(dof, 1), spread)
    return (step, doubt) if dof and step**2 > JUMP_STDS**2 * doubt else (0.0, UNLINKED * spread)
