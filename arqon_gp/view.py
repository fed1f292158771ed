"""What of a long history an ask looks at: a bounded part of it, chosen as the results come in. No model.

Cells cover everything that was measured, knobs and context alike: streaming k-centre by doubling (Charikar et al. 1997,
"Incremental clustering and dynamic information retrieval"), each kind of regime on its own, so that what is measured
now does not push out what may be back. Each remembers its latest rows. In view are the latest results, the latest one
of every cell, more of the present cells that look best for their context or lie around the latest result, and the
extremes of every outcome; the active set is chosen among these. Up to WHOLE results are in view whole. Notation: c
cells, d encoded inputs and the kind, s series (the modelled outcomes and, where it needs no baseline, the utility).
Public: View, Kinds, WHOLE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from arqon_gp.knobs import Floats, trends
from arqon_gp.log import Integers
from arqon_gp.objectives import Goals, model_values
from arqon_gp.records import Observation
from arqon_gp.space import Space

WHOLE = 1000  # results up to which everything is in view
STEP = 400  # results after which it is chosen again: those since are in view, all of them
LATEST = 400  # of the results before
CELLS, WIDER, FEWER = 160, 1.1, 0.85  # cells at most; how much wider they become when there are more, and how many stay
DEEP = 8  # latest results of a cell that it remembers
BEST_CELLS, NEAR_CELLS = 8, 4
APART = 100.0  # between two kinds of regime, where the inputs are within a unit cube
MOST_KINDS = 8  # kinds that may be back: those of which most is known
RIDGE = 1e-6
AT_ONCE = 64  # rows whose distances are taken together: they fit the cache

Kinds = Callable[[Integers], Integers]  # of which kind of regime results are, by their numbers


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The cells after the first `seen` results: centres (c, d), none nearer to another than `radius`; `rows` (c, DEEP)
    their latest results, the last one last, -1 where there are fewer, and the `values` (c, DEEP, s) of these.

    `context`: how many of the inputs, the last ones, are no knobs. `extremes` (2 s,): in which results each series was
    lowest and highest, -1 for none, and `ends` (2 s,) how low and high. `latest` (d,): the last of these results.
    """

    inputs: Space
    goals: Goals
    context: int = 0
    seen: int = 0
    centres: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    radius: float = 0.0
    rows: Integers = field(default_factory=lambda: np.zeros((0, DEEP), dtype=np.int64))
    values: Floats = field(default_factory=lambda: np.zeros((0, DEEP, 0)))
    extremes: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ends: Floats = field(default_factory=lambda: np.zeros(0))
    latest: Floats = field(default_factory=lambda: np.zeros(0))

    def after(self, results: Sequence[Observation], kinds: Kinds) -> View:
        """The view after all results so far."""
        view = self
        while len(results) > WHOLE and len(results) - view.seen >= STEP:
            numbers = np.arange(view.seen, view.seen + STEP)
            view = view._more(results[view.seen : view.seen + STEP], kinds(numbers))
        return view

    def corrected(self, number: int, result: Observation) -> View:
        """The view where this one of the results was something else: in the cell that it was first said to lie in."""
        if number >= self.seen:
            return self
        value = self._series([result])
        values = np.where((self.rows == number)[..., None], value, self.values)
        ends = np.where(self.extremes == number, -np.inf, self.ends)  # what was extreme but for this one is forgotten
        view = replace(self, values=values, ends=ends)._extended(np.array([number]), value, self.latest)
        return replace(view, seen=self.seen)

    @property
    def numbers(self) -> Integers:
        """Which of the results seen are in view, in order."""
        if not self.seen:
            return np.zeros(0, dtype=np.int64)
        near = np.argsort(np.square(self.centres - self.latest).sum(axis=1), kind="stable")[:NEAR_CELLS]
        deep = np.unique(np.concatenate([near, *self._best()]))
        chosen = [self.rows[:, -1], self.rows[deep].ravel(), self.extremes]
        found = np.unique(np.concatenate([*chosen, np.arange(max(self.seen - LATEST, 0), self.seen)]))
        return found[found >= 0]

    def _best(self) -> list[Integers]:
        """The cells of the present kind that look best for their context by the utility, or by each objective of a
        front, as far as few results tell: traffic alone makes none of them good."""
        here = self.centres[:, -1] == self.latest[-1]
        m, objectives = len(self.goals.modelled), self.goals.objectives
        scores = [o.sign * self.values[..., j] for j, o in enumerate(objectives)]
        scores = scores if self.goals.pareto else [self.values[..., m]]
        found = []
        for score in scores:
            known = np.isfinite(score) & here[:, None]
            count, total = known.sum(axis=1), np.where(known, score, 0.0).sum(axis=1)
            mean = total / np.maximum(count, 1)
            mean = mean - self._level(np.where(count > 0, mean, 0.0), (count > 0) & here)
            doubt = float(mean[count > 0].std()) if known.any() else 0.0
            order = np.argsort(
                -np.where(count > 0, mean - doubt / np.sqrt(np.maximum(count, 1)), -np.inf), kind="stable"
            )
            found.append(order[: min(max(1, BEST_CELLS // len(scores)), int(here.sum()))])
        return found

    def _level(self, values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
        """What the context makes of the known values (c,) in each cell, by least squares."""
        of = slice(len(self.inputs.knobs) - self.context, len(self.inputs.knobs))
        T = np.column_stack([np.ones(len(values)), trends(self.inputs.knobs[of], self.centres[:, of])])
        normal = T[known].T @ T[known] + RIDGE * np.eye(T.shape[1])
        return np.asarray(T @ np.linalg.solve(normal, T[known].T @ values[known]))

    def _more(self, results: Sequence[Observation], kinds: Integers) -> View:
        """The view after as many results more, of these kinds (n,)."""
        X = self.inputs.encode_all([r.params | r.context if r.context else r.params for r in results])
        X, values = np.column_stack([X, APART * kinds]), self._series(results)
        view = self if len(self.centres) else replace(self, centres=X[:0], values=np.zeros((0, DEEP, values.shape[1])))
        numbers = np.arange(self.seen, self.seen + len(results))
        cell = np.zeros(0, dtype=np.int64)
        while len(cell) < len(X):  # more centres than there may be: wider cells, and on from there
            view, more = view._assigned(X[len(cell) :])
            cell = np.concatenate([cell, more])
            if len(view.centres) > CELLS:
                view, moved = view._wider(X[-1, -1])
                cell = moved[cell]
        return view._remembered(cell, numbers, values)._extended(numbers, values, X[-1])

    def _series(self, results: Sequence[Observation]) -> Floats:
        """The series (n, s)."""
        Y, goals = model_values(results, self.goals), self.goals
        if goals.pareto:
            return Y
        raw = np.column_stack([np.exp(Y[:, j]) if o.log else Y[:, j] for j, o in enumerate(goals.objectives)])
        return np.column_stack([Y, goals.utility({}, {})(raw)])

    def _assigned(self, X: Floats) -> tuple[View, Integers]:
        """The nearest cell of rows X (n, d), up to the one that makes a cell too many; those farther than the radius
        from every centre are centres themselves."""
        apart = _squares(X, self.centres)
        nearest = np.argmin(apart, axis=1) if len(self.centres) else np.zeros(len(X), dtype=np.int64)
        least = apart[np.arange(len(X)), nearest] if len(self.centres) else np.full(len(X), np.inf)
        centres, last = [self.centres], len(X)
        count = len(self.centres)
        far = np.flatnonzero(least > self.radius**2)
        while len(far):
            i = int(far[0])
            centres.append(X[i : i + 1])
            own = np.square(X[i:] - X[i]).sum(axis=1)
            closer = own < least[i:]
            least[i:], nearest[i:] = np.where(closer, own, least[i:]), np.where(closer, count, nearest[i:])
            count += 1
            if count > CELLS:
                last = i + 1
                break
            far = far[least[far] > self.radius**2]
        more = count - len(self.centres)
        view = replace(
            self,
            centres=np.vstack(centres),
            rows=np.vstack([self.rows, np.full((more, DEEP), -1, dtype=np.int64)]),
            values=np.concatenate([self.values, np.full((more, *self.values.shape[1:]), np.nan)]),
        )
        return view, nearest[:last]

    def _wider(self, present: float) -> tuple[View, Integers]:
        """Cells so wide that there are not too many, and which of them each one was merged into; kinds of which little
        is known, and not the present one, count as one."""
        centres, (kinds, cells) = self.centres.copy(), np.unique(self.centres[:, -1], return_counts=True)
        few = kinds[np.lexsort((-kinds, -cells))][MOST_KINDS:]
        centres[np.isin(centres[:, -1], few) & (centres[:, -1] != present), -1] = -APART
        apart, radius = _squares(centres, centres), self.radius
        least = float(np.sqrt(apart[apart > 0.0].min()))
        while len(kept := _separate(apart, radius)) > FEWER * CELLS:
            radius = max(WIDER * radius, least)
        moved = np.argmin(apart[:, kept], axis=1)
        view = replace(
            self,
            centres=centres[kept],
            radius=radius,
            rows=np.full((len(kept), DEEP), -1, dtype=np.int64),
            values=np.full((len(kept), *self.values.shape[1:]), np.nan),
        )
        known = self.rows.ravel() >= 0
        cell, numbers = np.repeat(moved, DEEP)[known], self.rows.ravel()[known]
        values = self.values.reshape(-1, self.values.shape[-1])[known]
        order = np.argsort(numbers, kind="stable")
        return view._remembered(cell[order], numbers[order], values[order]), moved

    def _remembered(self, cell: Integers, numbers: Integers, values: Floats) -> View:
        """The cells with more results (n,), in order, which belong to these cells; each forgets all but the latest."""
        c, s = len(self.centres), self.values.shape[-1]
        known = self.rows.ravel() >= 0
        cell = np.concatenate([np.repeat(np.arange(c), DEEP)[known], cell])
        numbers = np.concatenate([self.rows.ravel()[known], numbers])
        values = np.concatenate([self.values.reshape(-1, s)[known], values])
        order = np.argsort(cell, kind="stable")  # those remembered come first, and are older
        cell, numbers, values = cell[order], numbers[order], values[order]
        behind = np.searchsorted(cell, cell, "right") - np.arange(len(cell))  # 1: the latest of its cell
        kept = behind <= DEEP
        rows, found = np.full((c, DEEP), -1, dtype=np.int64), np.full((c, DEEP, s), np.nan)
        rows[cell[kept], DEEP - behind[kept]] = numbers[kept]
        found[cell[kept], DEEP - behind[kept]] = values[kept]
        return replace(self, rows=rows, values=found)

    def _extended(self, numbers: Integers, values: Floats, latest: Floats) -> View:
        """With what these results (n,) change of the extremes."""
        signed = np.where(np.isfinite(values), values, np.nan)
        both = np.column_stack([-signed, signed])
        both = np.where(np.isnan(both), -np.inf, both)
        at = both.argmax(axis=0)
        highest = both[at, np.arange(both.shape[1])]
        before = self.ends if len(self.ends) else np.full(both.shape[1], -np.inf)
        extremes = self.extremes if len(self.extremes) else np.full(both.shape[1], -1, dtype=np.int64)
        return replace(
            self,
            seen=self.seen + len(numbers),
            extremes=np.where(highest > before, numbers[at], extremes),
            ends=np.maximum(highest, before),
            latest=latest,
        )


def _separate(apart: Floats, radius: float) -> list[int]:
    """The first of some points, and each that is farther than the radius from those before, by squared distances."""
    kept: list[int] = []
    for i in range(len(apart)):
        if not kept or apart[i, kept].min() > radius**2:
            kept.append(i)
    return kept


def _squares(A: Floats, B: Floats) -> Floats:
    """Squared distances (n, m), without BLAS: the same bits on any number of threads."""
    total, apart = np.zeros((len(A), len(B))), np.empty((AT_ONCE, len(B)))
    for first in range(0, len(A), AT_ONCE):
        rows = A[first : first + AT_ONCE]
        for a, b in zip(rows.T, B.T, strict=True):
            one = np.subtract(a[:, None], b, out=apart[: len(rows)])
            total[first : first + AT_ONCE] += np.square(one, out=one)
    return total
