"""What the surrogate learns from: the results as rows, in model space and at the level of the current regime.

Consecutive windows of one config in one regime and in one cell of the context are a stay, as long as they agree, in a
context on whether a limit is broken, too; a stay is one row of the training set, so waiting costs the surrogate
nothing. Notation: n stays, d inputs, m modelled outcomes. Public: Dataset, Stays, Table, TrainingSets, training_set,
known_variance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from arqon_gp.cliffs import beyond, fallen, robust, room, worst
from arqon_gp.history import Excerpt, History, Key, key
from arqon_gp.knobs import Floats
from arqon_gp.levels import Place, learnt, levels, paired
from arqon_gp.objectives import Goals, model_values
from arqon_gp.records import Observation, Params
from arqon_gp.space import Space
from arqon_gp.view import View

APART_STDS = 6.0
LEAST_WINDOWS, LATEST_WINDOWS = 12, 64  # by which windows of one config are said to contradict each other
CELLS = 32  # of the range of each context: windows of one cell are alike enough for one stay
_NOTHING: Mapping[str, float] = MappingProxyType({})
MOST_STAY = 16  # windows of one stay: what is told of a longer one may have changed meanwhile
MOST_STD, MOST_LOG_STD = 1e50, 10.0  # a larger one was not known; a value known so badly is not known at all
MOST_SETS = 4  # kept: what the hyperparameters are of, what they will be of, what is known now


@dataclass(frozen=True, slots=True)
class Stays:
    """The stays of several windows: X (k, d), and of all their windows, w, those of a stay from `begins` (k,) on, the
    inputs W (w, d) and how far their outcomes are from the mean of their stay, (w, m), NaN where missing."""

    X: Floats
    begins: npt.NDArray[np.int64]
    W: Floats
    apart: Floats

    def scatter(self, j: int, trend: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
        """Sum of squares of the windows of each stay around their mean, less what a trend (w,) at inputs (w, d) makes
        of it, and its degrees of freedom, (k,)."""
        if not len(self.begins):
            return np.zeros(0), np.zeros(0)
        seen = np.isfinite(self.apart[:, j])
        count = np.add.reduceat(seen.astype(float), self.begins)
        along = np.where(seen, trend(self.W), 0.0)
        mean = np.add.reduceat(along, self.begins) / np.maximum(count, 1.0)
        size = np.diff([*self.begins, len(seen)])
        left = np.where(seen, self.apart[:, j] - along + np.repeat(mean, size), 0.0)
        return np.add.reduceat(np.square(left), self.begins), np.maximum(count - 1.0, 0.0)


@dataclass(frozen=True)
class Dataset:
    """The stays as rows, in model space and at the level of the current regime.

    X (n, d) in the unit cube; Y (n, m) mean of the windows, NaN where none has the outcome; count (n, m) windows;
    floor (n, m) known variance of Y (given standard errors, uncertain levels); stays, within_floor (m,) what the
    windows of all stays tell of the window variance, and the known part of it; failed, tried (n,) windows that failed
    or fell off a cliff, and all; first (n,) the number of the first window's result; beyond (n, m), worst, room (m,):
    cliffs.py; at, regime (n,) when a row was, in windows, and in which kind of regime, of `regimes`; `now`, `current`
    when the next window will be, and in which; level (n, m) what brought Y to the current level.
    """

    params: tuple[Params, ...]
    keys: tuple[Key, ...]
    X: Floats
    Y: Floats
    count: Floats
    floor: Floats
    stays: Stays
    within_floor: Floats
    failed: Floats
    tried: Floats
    first: npt.NDArray[np.int64]
    beyond: npt.NDArray[np.bool_]
    worst: Floats
    room: Floats
    at: Floats
    regime: npt.NDArray[np.int64]
    level: Floats
    now: float
    regimes: int
    current: int
    added: int = 0  # columns of X that tell time and regime

    def rows(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Dataset:
        """Some of the rows; what all windows tell of the window variance, and all stays of cliffs, stays."""
        chosen = np.arange(len(self.params))[index].tolist()
        return replace(
            self,
            params=tuple(self.params[i] for i in chosen),
            keys=tuple(self.keys[i] for i in chosen),
            X=self.X[index],
            Y=self.Y[index],
            count=self.count[index],
            floor=self.floor[index],
            failed=self.failed[index],
            tried=self.tried[index],
            first=self.first[index],
            beyond=self.beyond[index],
            at=self.at[index],
            regime=self.regime[index],
            level=self.level[index],
        )

    def as_if(self, late: npt.NDArray[np.bool_], kind: int) -> Dataset:
        """The dataset if these rows (n,), the latest, were of this kind of regime: at its level, where it was there."""
        there = np.flatnonzero((self.regime == kind) & ~late)
        level = np.where(late[:, None], self.level[there[-1]] if len(there) else 0.0, self.level)
        return replace(
            self,
            Y=self.Y + (level - self.level),
            level=level,
            regime=np.where(late, kind, self.regime),
            regimes=max(self.regimes, kind + 1),
            current=kind,
        )

    def with_columns(self, at: int, columns: Sequence[Floats]) -> Dataset:
        """The dataset with more inputs, each (n,), before column `at` of X."""
        X, within = self.X, self.stays.X
        for column in reversed(columns):  # no noise depends on what is added here
            X, within = np.insert(X, at, column, axis=1), np.insert(within, at, 0.0, axis=1)
        stays = replace(self.stays, X=within, W=np.insert(self.stays.W, [at] * len(columns), 0.0, axis=1))
        return replace(self, X=np.ascontiguousarray(X), stays=stays, added=len(columns))

    def without(self, params: Params) -> Dataset:
        """The dataset as if this config had never been measured."""
        gone = key(params)
        return self.rows(np.array([k != gone for k in self.keys], dtype=bool))

    @cached_property
    def distinct(self) -> npt.NDArray[np.int64]:
        """One row of each config, in the order in which they were first measured."""
        first: dict[Key, int] = {}
        for i, name in enumerate(self.keys):
            first.setdefault(name, i)
        return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def known_variance(rows: Sequence[Observation], goals: Goals) -> Floats:
    """Variance (n, m) that is known from standard errors, in model space (delta method on log outcomes)."""
    known = np.zeros((len(rows), len(goals.modelled)))
    for i, row in enumerate(rows):
        for name, sem in row.sem.items():
            value = row.values.get(name)
            if name in goals.modelled:
                size = max(value or 0.0, goals.floors.get(name, 0.0))
                std = min(sem / size, MOST_LOG_STD) if name in goals.logs and size else sem
                known[i, goals.modelled.index(name)] = std**2 if std <= MOST_STD else 0.0
    return known


@dataclass(frozen=True, slots=True)
class Table:
    """The observations N as arrays: their configs, X (N, d) in the unit cube, values and known variance (N, m), which
    contradict the stay before them (N,), whether any has a control, and in which cell of the context each was."""

    rows: tuple[Observation, ...]
    keys: tuple[Key, ...]
    X: Floats
    values: Floats
    known: Floats
    apart: tuple[bool, ...]
    controlled: bool
    places: tuple[Place, ...]

    @classmethod
    def of(cls, rows: tuple[Observation, ...], space: Space, goals: Goals, before: Table | None = None) -> Table:
        """The table of these rows; what `before` has of them is not worked out again."""
        n = len(rows)
        if before is not None and len(before.rows) > n and before.rows[:n] == rows:
            kept = before.keys[:n], before.X[:n], before.values[:n], before.known[:n], before.apart[:n]
            return cls(rows, *kept, before.controlled, before.places[:n])
        if before is None or rows[: len(before.rows)] != before.rows:
            nothing = space.encode_all([]), model_values((), goals), known_variance((), goals)
            before = cls((), (), *nothing, (), False, ())
        if n == len(before.rows):
            return before
        more = rows[len(before.rows) :]
        keys = before.keys + tuple(key(row.params) for row in more)
        values = np.vstack([before.values, learnt(more, goals)])
        X = space.encode_all([row.params | row.context for row in more])
        return cls(
            rows,
            keys,
            np.vstack([before.X, X]),
            values,
            np.vstack([before.known, known_variance(more, goals)]),
            _apart(keys, values, before.apart),
            before.controlled or any(row.control is not None for row in more),
            before.places + _places(X[:, _context_columns(space, more)]),
        )


def _context_columns(space: Space, rows: Sequence[Observation]) -> list[int]:
    """Where the context stands in the encoded inputs."""
    return [i for i, name in enumerate(space.names) if name in rows[0].context]


def _places(C: Floats) -> tuple[Place, ...]:
    """The cell of each context (N, c)."""
    return tuple(map(tuple, np.floor(CELLS * C).astype(int).tolist()))


def _apart(keys: tuple[Key, ...], values: Floats, known: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which windows contradict those of their stay before them: APART_STDS robust stds of the last windows away from
    their median. A stay that is one row hides that; apart, they are judged like the windows of two configs.
    """
    apart = list(known)
    for i in range(len(known), len(keys)):
        apart.append(False)
        if i < LEAST_WINDOWS or keys[i] != keys[i - 1]:
            continue
        begin = i - 1
        while begin > max(0, i - LATEST_WINDOWS) and keys[begin - 1] == keys[i] and not apart[begin]:
            begin -= 1
        for stay, latest, y in zip(
            values[begin:i].T, values[max(0, i - LATEST_WINDOWS) : i].T, values[i].tolist(), strict=True
        ):
            level, _ = robust(stay[np.isfinite(stay)])
            _, spread = robust(latest[np.isfinite(latest)])
            apart[i] |= bool(np.isfinite(stay).any()) and spread > 0.0 and abs(y - level) > APART_STDS * spread
    return tuple(apart)


def training_set(
    of: History | Excerpt,
    space: Space,
    goals: Goals,
    table: Table | None = None,
    baseline: Mapping[str, float] = _NOTHING,
    apart: int | None = None,
) -> Dataset:
    """The stays of a history, or of an excerpt, as the surrogate's rows; `table`: that of its rows, `baseline`: what
    limits refer to; `apart`: a result that a stay begins with, and that may begin another regime."""
    of = of.excerpt() if isinstance(of, History) else of
    table = table or Table.of(of.rows, space, goals)
    level, rows, m = levels(of, goals, table.places, apart), of.rows, len(goals.modelled)
    keys, places, regimes = table.keys, table.places, of.regime
    new = np.diff(regimes, prepend=-1).astype(bool) | (np.diff(of.numbers, prepend=-2) != 1) | (of.numbers == apart)
    context = _context_columns(space, rows) if rows else []
    if context:
        new |= np.diff(_broken(table.values, goals, baseline), prepend=False)
    first: list[int] = []
    for i, begins in enumerate(new.tolist()):
        other = begins or keys[i] != keys[i - 1] or table.apart[i] or places[i] != places[i - 1]
        if other or i - first[-1] == MOST_STAY:
            first.append(i)
    n, size = len(first), np.diff([*first, len(rows)])
    several = size > 1
    values, told = paired(table.values, rows, goals) if table.controlled else table.values, table.known
    known = np.isfinite(values)

    def per_stay(x: Floats) -> Floats:
        return np.add.reduceat(x, first, axis=0) if n else np.zeros((0, m))

    count = per_stay(known.astype(float))
    mean = np.divide(per_stay(np.where(known, values, 0.0)), count, where=count > 0, out=np.full((n, m), np.nan))
    told, X = per_stay(np.where(known, told, 0.0)), table.X[first]
    if context:
        X[:, context] = np.add.reduceat(table.X[:, context], first, axis=0) / size[:, None]
    regime = regimes[np.array(first, dtype=np.int64)]
    Y = mean + level.shift[regime]
    failed, ends = (
        per_stay(np.array([[float(row.failed)] for row in rows]).reshape(-1, 1))[:, 0],
        worst(Y, goals, baseline),
    )
    return Dataset(
        params=tuple(rows[i].params for i in first),
        keys=tuple(keys[i] for i in first),
        X=X,
        Y=Y,
        count=count,
        floor=told / np.maximum(count, 1.0) ** 2 + level.variance[regime],
        stays=Stays(
            X[several],
            np.cumsum(size[several]) - size[several],
            table.X[shared := np.repeat(several, size)],
            np.where(known, values - np.repeat(mean, size, axis=0), np.nan)[shared],
        ),
        within_floor=told.sum(axis=0) / np.maximum(count.sum(axis=0), 1.0),
        failed=np.where(fallen(Y, ends, goals, baseline), size, failed),
        tried=size.astype(float),
        first=of.numbers[np.array(first, dtype=np.int64)],
        beyond=beyond(Y, goals),
        worst=ends,
        room=room(Y, goals, baseline),
        at=per_stay(of.at[:, None])[:, 0] / size if n else of.at,
        regime=np.array(of.kinds, dtype=np.int64)[regime],
        level=level.shift[regime],
        now=of.now,
        regimes=of.worlds,
        current=of.kinds[-1],
    )


def _broken(values: Floats, goals: Goals, baseline: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """Which windows (N,) with these values (N, m) are beyond a limit."""
    found = np.zeros(len(values), dtype=bool)
    for name, side, bound in goals.bounds(baseline):
        found |= side * (values[:, goals.modelled.index(name)] - bound) > 0.0
    return found


class TrainingSets:
    """The training sets of one study's histories; the latest few are kept, and what they share is made once."""

    def __init__(self, space: Space, goals: Goals) -> None:
        self._space, self._goals = space, goals
        self._table: Table | None = None
        self._old: tuple[View | None, int, tuple[Observation, ...]] = (None, 0, ())
        self._kept: list[tuple[History, View | None, Mapping[str, float], Dataset]] = []

    def of(
        self,
        history: History,
        baseline: Mapping[str, float] = _NOTHING,
        view: View | None = None,
        apart: int | None = None,
    ) -> Dataset:
        """The training set of what is in view of this history, as of `view` (None: now); `baseline`: what relative
        limits refer to; `apart`: a result that a stay begins with."""
        view = view if view is not None and view.seen <= len(history) else history.view
        for known, seen, of, data in self._kept:
            if known is history and seen is view and of == baseline and apart is None:
                return data
        before, corrected, old = self._old
        if before is not view or corrected != history.corrected:
            old = history.old(view)
            self._old = view, history.corrected, old
        excerpt, last = history.excerpt(view, old), self._table
        table = Table.of(excerpt.rows, self._space, self._goals, last)
        if last is None or len(table.rows) >= len(last.rows) or table.rows[:1] != last.rows[:1]:
            self._table = table
        made = training_set(excerpt, self._space, self._goals, table, baseline, apart)
        if apart is not None:
            return made
        self._kept = [*self._kept[-MOST_SETS + 1 :], (history, view, baseline, made)]
        return made
