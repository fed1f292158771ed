"""The context that a study is in: as it was told, or as it is expected by how it went. A fold. Public: Situation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count, product

import numpy as np

from arqon_gp.config import Config
from arqon_gp.dataset import CELLS
from arqon_gp.forecast import LATEST, NEAR, Seen, Step, after, ahead, as_before, native, scaled, span, steps, unmoved
from arqon_gp.history import History
from arqon_gp.knobs import Real, wrapped
from arqon_gp.records import JUDGED, Context, Event, Observation, Role, Situated, Told

FEWEST_TIMED = 3  # windows that tell how long one takes
LEAST_DOUBT = 1e-3  # of the range: what was the same at this hour every day may be another today
SEASON = 4032  # latest results that tell what a context is at some hour: two weeks of 5 minutes
AHEAD = (1.0, 2.0)  # windows: a change that turns out wrong is taken back after one, and that takes one
STAYING = (6.0, 12.0, 24.0)  # windows: what is settled on runs for a while, and is left by small steps only
DOUBT_STDS = 1.64  # of a forecast: its central 90 %
MOST_CORNERS = 3  # contexts that are taken low or high each on its own; those in less doubt go with the first


@dataclass(frozen=True, slots=True)
class Situation:
    """`context`: the present one, as the last ask or the last window told it, or as it is expected; `doubt`: one std,
    of each that nobody told, in the units of forecasts; `seen`: what was told of each lately, with the number of the
    window, of so many `windows`, those included that nobody measured; `told_at`: when the last one was told, and how
    long the latest `took`, s; `asked`: what asks have told since."""

    config: Config
    context: Context
    doubt: Mapping[str, float]
    windows: int = 0
    seen: Mapping[str, Seen] = field(default_factory=dict)
    told_at: float | None = None
    took: tuple[float, ...] = ()
    asked: Context = field(default_factory=dict)

    @classmethod
    def new(cls, config: Config) -> Situation:
        """That of a study nothing has happened to."""
        return cls(config, config.usual, dict.fromkeys(config.usual, 0.0))

    def apply(self, event: Event, before: History, history: History) -> Situation:
        """The situation after one more event, which made this history of the one before."""
        match event:
            case Situated(context):
                asked = {name: value for name, value in context.items() if name not in event.doubt}
                return replace(self, context=context, doubt=event.doubt, asked=self.asked | asked)
            case Told(observations, at) if self.context:
                rows = [row for row in observations if row.role in JUDGED]
                context, doubt = self._present(rows, before, history)
                windows = self.windows + len(rows) + (self._missed(at, len(rows)) if rows else 0)
                seen = self._seen(rows, windows, before, history)
                state = replace(self, context=context, doubt=doubt, windows=windows, seen=seen)
                return replace(state, asked={}, told_at=at, took=self._took(at, rows)) if rows else state
        return self

    def _took(self, at: float, rows: list[Observation]) -> tuple[float, ...]:
        """How long the latest windows took, with these, which are told now, if they were asked for; a clock may stand
        still."""
        each = 0.0 if self.told_at is None else (at - self.told_at) / len(rows)
        return (*self.took, each)[-LATEST:] if each > 0.0 and rows[-1].role is Role.WINDOW else self.took

    def _missed(self, now: float, windows: int = 0) -> int:
        """How many windows nobody measured since the last one that was told, beside these, as long as one usually
        takes."""
        if self.told_at is None or len(self.took) < FEWEST_TIMED:
            return 0
        return max(round((now - self.told_at) / statistics.median(self.took)) - windows, 0)

    def _present(
        self, rows: list[Observation], before: History, history: History
    ) -> tuple[Context, Mapping[str, float]]:
        """The present context and its doubt after these windows, or a correction of earlier ones: what was measured
        before the last candidate says nothing of now."""
        last, asked = rows[-1] if rows else None, Context()
        if last is None and history.corrected > before.corrected:
            was, now = _latest(before), _latest(history)
            if was != now and was is not None and self.context == was.context | self.asked:
                last, asked = now, self.asked
        if last is None:
            return self.context, self.doubt
        return last.context | asked, {n: self.doubt.get(n, 0.0) for n in last.guessed if n not in asked}

    def _seen(self, rows: list[Observation], windows: int, before: History, history: History) -> Mapping[str, Seen]:
        """What was told of each context in the latest of so many windows; all over again where earlier ones were
        corrected."""
        found = dict(self.seen)
        if history.corrected > before.corrected:
            rows, found = [row for row in history.rows[-SEASON:] if row.role in JUDGED], {}
        for name in self.context:
            last_first = zip(count(windows - 1, -1), reversed(rows), strict=False)
            told = ((i, float(row.context[name])) for i, row in last_first if name not in row.guessed)
            if seen := after(found.get(name, ()), told):
                found[name] = seen
        return found

    @property
    def guessed(self) -> tuple[str, ...]:
        """What of the present context nobody told."""
        return tuple(self.doubt)

    @property
    def vague(self) -> tuple[str, ...]:
        """What of the present context is known less well than in which of its cells it is."""
        wide = {of.name: span(of) / CELLS for of in self.config.context}
        return tuple(name for name, std in self.doubt.items() if std > wide[name])

    def elsewhere(self, context: Context) -> Situation:
        """The same in another context, as far as that is given."""
        doubt = {name: std for name, std in self.doubt.items() if name not in context}
        return replace(self, context=self.context | context, doubt=doubt)

    def expected(self, told: Context, history: History, now: float) -> Situation:
        """That of the window that begins now, as it is `told` or, with one std of doubt, by what was told of the last
        ones, and of those at the same hour."""
        context, doubt = dict(self.context), {of.name: 0.0 for of in self.config.context if of.name not in told}
        for of in self.config.context:
            if of.name in told or of.name in self.asked:
                context[of.name] = told.get(of.name, self.asked.get(of.name, 0.0))
            elif seen := self.seen.get(of.name):
                (first, _), (last, value) = seen[0], seen[-1]
                step, windows = steps(seen, of), float(self.windows + self._missed(now) - last)
                trusted = min(windows, max(last - first, 1.0))  # no trend is carried on for longer than it was seen
                context |= ahead({of.name: value}, {of.name: step}, (of,), trusted)
                further = step.doubt(windows), step.step * (windows - trusted), unmoved(seen, of, windows)
                doubt[of.name] = min(math.hypot(*further), span(of) * (0.25 if of.periodic else 1.0))
        self._as_before(context, doubt, history)
        return replace(self, context=context, doubt=doubt)

    def _as_before(self, context: Context, doubt: dict[str, float], history: History) -> None:
        """Bring an expected context, and its doubt, to what was told at the same point of the cycles, as far as that
        says more."""
        cycles = [of for of in self.config.context if of.periodic]
        lacking = [of for of in self.config.context if not of.periodic and doubt.get(of.name)]
        if not cycles or not lacking or any(doubt.get(of.name, 0.0) > NEAR * of.high for of in cycles):
            return
        rows = [row for row in history.rows[-SEASON:] if row.role in JUDGED]
        for of in lacking:
            names = {of.name, *(cycle.name for cycle in cycles)}
            known = [row.context for row in rows if names.isdisjoint(row.guessed)]
            phases = np.array([[float(x[c.name]) / c.high for c in cycles] for x in known]).reshape(-1, len(cycles))
            here = np.array([float(context[c.name]) / c.high for c in cycles])
            found = as_before(phases, np.array([scaled(of, float(x[of.name])) for x in known]), here)
            if found is not None:
                mine, its = doubt[of.name] ** -2, max(found[1], LEAST_DOUBT * span(of)) ** -2
                context[of.name] = native(
                    of, (mine * scaled(of, float(context[of.name])) + its * found[0]) / (mine + its)
                )
                doubt[of.name] = (mine + its) ** -0.5

    @property
    def soon(self) -> list[Context]:
        """The contexts that the next candidate has to be good for: the present one, as far as it is known, and those of
        the next windows, while it could not be left."""
        if not self.context:
            return [self.context]
        found, moved = self.config.context, self._steps
        known = [self.context]
        if open := sorted(
            (of for of in found if self.doubt.get(of.name)), key=lambda of: -self.doubt[of.name] / span(of)
        ):
            for ends in product((-1.0, 1.0), repeat=min(len(open), MOST_CORNERS)):
                ways = (*ends, *ends[:1] * (len(open) - len(ends)))
                wide = {of.name: Step(std=way * self.doubt[of.name]) for of, way in zip(open, ways, strict=True)}
                known.append(ahead(self.context, wide, found, 0.0, DOUBT_STDS))
        return known + self._after(AHEAD, moved)

    @property
    def sides(self) -> list[tuple[Context, Context]]:
        """What each context that nobody told may be, one std either way."""
        open = [of for of in self.config.context if self.doubt.get(of.name)]
        return [(self._aside(of, -self.doubt[of.name]), self._aside(of, self.doubt[of.name])) for of in open]

    def _aside(self, of: Real, by: float) -> Context:
        """A context this much further, also where that is out of its range: of two unequal sides a slope is a bend."""
        value = native(of, scaled(of, float(self.context[of.name])) + by)
        return {of.name: wrapped(of, value) if of.periodic else value}

    @property
    def later(self) -> list[Context]:
        """The contexts that a config which stays will meet, as far as the present one tells; none where any other
        config is a step away."""
        if not self.context or self.config.guardrails is None:
            return []
        return self._after(STAYING, self._steps)

    def _after(self, windows: tuple[float, ...], moved: Mapping[str, Step]) -> list[Context]:
        found = [ahead(self.context, moved, self.config.context, k) for k in windows]
        return [context for context in found if context != self.context]

    @property
    def _steps(self) -> dict[str, Step]:
        """How each context has moved lately."""
        return {of.name: steps(self.seen.get(of.name, ()), of) for of in self.config.context}


def _latest(history: History) -> Observation | None:
    """The latest result that says where the system is."""
    return next((row for row in reversed(history.rows) if row.role in JUDGED), None)
