"""Everything that was measured: a fold over the results.

Nothing is ever lost; but an ask looks at an excerpt alone, which is everything only as long as that is little. Public:
History, Excerpt, Key, key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import numpy as np

from arqon_gp.knobs import Floats
from arqon_gp.log import Integers, Log
from arqon_gp.records import JUDGED, Event, Label, Labelled, Observation, Params, Role, Scalar, Told
from arqon_gp.view import WHOLE, View

Key = tuple[Scalar, ...]

TIMED_ROWS, UNASKED = 16, (Role.WARM, Role.HISTORY)


def key(params: Params) -> Key:
    """A hashable name of a config; params are always in knob order."""
    return tuple(params.values())


def _identity(row: Observation) -> tuple[str, bool] | None:
    """The id of a row, and whether it is a candidate's or the caller's own."""
    return None if row.id is None else (row.id, row.kind is not None)


def _config(row: Observation) -> Key:
    return key(row.params)


_IDENTITY, _CONFIG = 0, 1
LATE = 128  # results since the last fit that may be in view beyond WHOLE
MOST_OLD = 64  # windows of one config, beyond the latest results, that it is judged by


@dataclass(frozen=True)
class Excerpt:
    """Some results of a history, in order: all of them, or those that matter. `numbers` (n,): which they are;
    `regimes`: the first result of each regime that any of them is of, and of the present one, which is the last;
    `regime` (n,) the place of each row in these; `kinds` of which kind these are, of so many `worlds`; `clock` when the
    first result of the history was and how long a window is, s, None where that is not known."""

    rows: tuple[Observation, ...]
    numbers: Integers
    regime: Integers
    regimes: tuple[int, ...]
    kinds: tuple[int, ...]
    worlds: int
    clock: tuple[float, float] | None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def at(self) -> Floats:
        """When each row was (n,), in windows since the first: by the `time` of the rows where all have one, else by
        their order."""
        if self.clock is None:
            return self.numbers.astype(float)
        return (np.array([row.time for row in self.rows], dtype=float) - self.clock[0]) / self.clock[1]

    @property
    def now(self) -> float:
        """When the next window will be."""
        return float(self.at.max()) + 1.0 if len(self.rows) else 0.0


@dataclass(frozen=True, slots=True)
class History:
    """`rows` in order of arrival; `regimes` holds the first row of each regime, `begun` its time, `kinds` which is like
    which: the same number is the same world; `corrected` counts corrections, `failed` failures, `untimed` rows without
    a time, `times` those of the first TIMED_ROWS that were asked for, `nonpositive` how many values of each outcome
    have no logarithm. `told`: the context that any row told. `latest`: the last two windows. `view`: what an ask looks
    at; None: everything."""

    rows: Log[Observation] = field(default_factory=lambda: Log((_identity, _config)))
    regimes: tuple[int, ...] = (0,)
    kinds: tuple[int, ...] = (0,)
    begun: tuple[float | None, ...] = (None,)
    corrected: int = 0
    told: frozenset[str] = frozenset()
    spent: int = 0
    spent_cost: float = 0.0
    failed: int = 0
    untimed: int = 0
    nonpositive: Mapping[str, int] = field(default_factory=dict)
    latest: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    view: View | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def regime(self) -> int:
        """Number of the current regime, from 0."""
        return len(self.regimes) - 1

    def find(self, id: str, *, of_candidate: bool) -> Observation | None:
        """The row of an identity: of a candidate's, or of the caller's own."""
        return next((row for _, row in self.rows.find(_IDENTITY, (id, of_candidate), most=1)), None)

    def count(self, params: Params) -> int:
        """How often a config was measured."""
        return self.rows.number_of(_CONFIG, key(params))

    def windows(self, params: Params, since: int | None = None, most: int = WHOLE) -> list[tuple[int, Observation]]:
        """Index and row of the latest windows of a config from row `since` on (default: the current regime)."""
        return self.rows.find(_CONFIG, key(params), self.regimes[-1] if since is None else since, most)

    def live(self, params: Params, since: int | None = None, most: int = WHOLE) -> list[tuple[int, Observation]]:
        """The same without those that came late or are old, which convict and confirm nothing."""
        found = self.windows(params, since, most + LATE)
        return [pair for pair in found if pair[1].role in JUDGED][-most:]

    def view_since(self, based: History | None) -> View | None:
        """What the surrogate sees of this history: what was in view when it was fitted, on an earlier history `based`,
        and all since; what is in view now where that would be too much."""
        if based is None or based.view is None or len(self.rows) - based.view.seen > WHOLE + LATE:
            return self.view
        return based.view

    def old(self, view: View | None) -> tuple[Observation, ...]:
        """The results in view that were there when it was chosen."""
        return () if view is None else tuple(self.rows[i] for i in view.numbers.tolist())

    def excerpt(self, view: View | None = None, old: tuple[Observation, ...] | None = None) -> Excerpt:
        """What an ask looks at, as of an earlier or the present `view`; `old`: what old() says of it, where known."""
        view = view if view is not None and view.seen <= len(self.rows) else self.view
        if view is None or not view.seen:
            return self._excerpt(np.arange(len(self.rows)), self.rows[:])
        rows = *(self.old(view) if old is None else old), *self.rows[view.seen :]
        return self._excerpt(np.concatenate([view.numbers, np.arange(view.seen, len(self.rows))]), rows)

    def judged(self, configs: Sequence[Params], *, whole: bool = False) -> Excerpt:
        """What windows are judged by: the latest results, the extremes, and more of these configs; all where they are
        few, or `whole`."""
        n = len(self.rows)
        if whole or n <= WHOLE:
            return self._excerpt(np.arange(n), self.rows[:])
        old = self.rows.older(_CONFIG, list(map(key, configs)), 0, MOST_OLD)
        extremes = [] if self.view is None else self.view.extremes.tolist()
        numbers = sorted({i for i in (*old, *extremes) if 0 <= i < n - WHOLE})
        rows = *(self.rows[i] for i in numbers), *self.rows[n - WHOLE :]
        return self._excerpt(np.concatenate([np.array(numbers, dtype=np.int64), np.arange(n - WHOLE, n)]), rows)

    def _excerpt(self, numbers: Integers, rows: tuple[Observation, ...]) -> Excerpt:
        found = np.searchsorted(self.regimes, numbers, side="right") - 1
        if len(self.regimes) > 1:  # late and old rows are of the regime of their time
            for i in [i for i, row in enumerate(rows) if row.role not in JUDGED]:
                found[i] = _then(rows[i].time, int(found[i]), self.begun)
        every = range(len(self.regimes)) if len(numbers) == len(self.rows) else {*found.tolist(), self.regime}
        some = sorted(every)
        regimes, kinds = (tuple(of[i] for i in some) for of in (self.regimes, self.kinds))
        return Excerpt(rows, numbers, np.searchsorted(some, found), regimes, kinds, max(self.kinds) + 1, self._clock)

    @property
    def _clock(self) -> tuple[float, float] | None:
        """When the first result was, and how long a window is, by the first TIMED_ROWS of those that were asked for, or
        of all while there are fewer, where all results say when."""
        if self.untimed or len(self.rows) < TIMED_ROWS:
            return None
        first = [row.time for row in self.rows[:TIMED_ROWS] if row.time is not None]
        gaps = np.diff(self.times if len(self.times) == TIMED_ROWS else first)
        window = float(np.median(gaps) or gaps.mean())  # those of a batch may have one time
        return (first[0], window) if window > 0.0 else None

    def apply(self, event: Event) -> History:
        """The history after one more event."""
        match event:
            case Told(observations):
                return self._tell(observations)
            case Labelled(label=Label.DRIFT, since=int(since), like=like):
                kind = max(self.kinds) + 1 if like is None else self.kinds[like]
                begun = next((row.time for row in self.rows[since : since + LATE] if row.role in JUDGED), None)
                return replace(
                    self, regimes=(*self.regimes, since), kinds=(*self.kinds, kind), begun=(*self.begun, begun)
                )
        return self

    def _timed(self, fresh: Sequence[Observation]) -> tuple[float, ...]:
        times = (row.time for row in fresh if row.time is not None and row.role not in UNASKED)
        return (*self.times, *islice(times, TIMED_ROWS - len(self.times)))

    def _tell(self, observations: Sequence[Observation]) -> History:
        corrections = [row for row in observations if row.role is Role.CORRECTION]
        fresh = [row for row in observations if row.role is not Role.CORRECTION] if corrections else observations
        first = len(self.rows)
        rows, view, changed, gone = self.rows.extended(fresh), self.view, list[Observation](), list[Observation]()
        for row in corrections:
            for i, old in rows.find(_IDENTITY, _identity(row)):
                rows = rows.replaced(i, _corrected(old, row))
                view = view and view.corrected(i, rows[i])
                changed.append(rows[i])
                gone.append(old)
        told = self._told(fresh) | self._told(changed)
        silent = self._silent(rows, told - self.told)
        if silent:
            rows = Log(rows.names).extended([replace(r, vague=True) if i in silent else r for i, r in enumerate(rows)])
        spending = [row.cost for row in fresh if row.spends]
        windows = [i for i, row in enumerate(fresh, first) if row.role is Role.WINDOW]
        return replace(
            self,
            rows=rows,
            corrected=self.corrected + len(corrections) + len(silent),
            told=told,
            spent=self.spent + len(spending),
            spent_cost=self.spent_cost + sum(spending),
            failed=self.failed + sum(row.failed for row in fresh),
            untimed=self.untimed + sum(row.time is None for row in fresh),
            nonpositive=self._nonpositive([*fresh, *changed], gone),
            latest=(*self.latest, *windows)[-2:],
            times=self.times if len(self.times) == TIMED_ROWS else self._timed(fresh),
            view=view and view.after(rows, self._kinds),
        )

    def _nonpositive(self, more: Sequence[Observation], gone: Sequence[Observation]) -> Mapping[str, int]:
        """How many values of each outcome have no logarithm, with those of more rows, without those of rows gone."""
        found, less = (
            [name for row in rows for name, value in row.values.items() if value is not None and value <= 0.0]
            for rows in (more, gone)
        )
        if not found and not less:
            return self.nonpositive
        counts = Counter(self.nonpositive)
        counts.update(found)
        counts.subtract(less)
        return dict(counts)

    def _told(self, rows: Sequence[Observation]) -> frozenset[str]:
        """The context that any row which says where the system is tells, with these. What was measured before, as if it
        were in the middle of its range, was so nobody knows where."""
        if not rows or len(self.told) == len(rows[0].context):
            return self.told
        judged = [row for row in rows if row.role in JUDGED]
        return self.told.union(*(set(row.context).difference(row.guessed) for row in judged))

    @staticmethod
    def _silent(rows: Log[Observation], new: frozenset[str]) -> frozenset[int]:
        """Which rows were learned from as if this context, which is told for the first time, were as it is usually."""
        if not new:
            return frozenset()
        return frozenset(i for i, row in enumerate(rows) if not row.vague and not new.isdisjoint(row.guessed))

    def _kinds(self, numbers: Integers) -> Integers:
        """Of which kind of regime results are, as they came in."""
        return np.array(self.kinds)[np.searchsorted(self.regimes, numbers, side="right") - 1]


def _then(time: float | None, regime: int, begun: Sequence[float | None]) -> int:
    """The regime of a row of this time, from the one it came in on back."""
    while time is not None and regime > 0 and (begin := begun[regime]) is not None and time < begin:
        regime -= 1
    return regime


def _corrected(old: Observation, by: Observation) -> Observation:
    found = replace(old, values=by.values, failed=by.failed, sem=by.sem, control=by.control)
    return replace(found, context=by.context, guessed=by.guessed, vague=by.vague)
