"""A study: its config and everything the journal says, folded. Public: Study, replay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from arqon_gp.comparison import MOST_COMPARED
from arqon_gp.config import Config
from arqon_gp.course import QUIET_ASKS, Course
from arqon_gp.dataset import CELLS
from arqon_gp.deployment import Deployment
from arqon_gp.drift import Drift
from arqon_gp.exploration import Exploration
from arqon_gp.forecast import NEAR, Seen, Step, after, ahead, as_before, steps, unmoved
from arqon_gp.guard import Guard
from arqon_gp.history import History
from arqon_gp.records import (
    JUDGED,
    Baselined,
    Context,
    Event,
    Issued,
    Observation,
    Params,
    Refitted,
    Situated,
    Told,
)
from arqon_gp.view import View

FEW = 16  # rows up to which a fit costs nothing worth preparing
OFTEN = 64  # rows up to which every ask is preceded by a fit
REFIT_EVERY, REFIT_SHARE, REFIT_AT_MOST = 5, 50, 64
LEAST_DOUBT = 1e-3  # of the range: what was the same at this hour every day may be another today
SEASON = 4032  # latest results that tell what a context is at some hour: two weeks of 5 minutes
MANY = 16  # rows told since the last candidate that are too many to be left out of a fit

AHEAD = (1.0, 2.0)  # windows: a change that turns out wrong is taken back after one, and that takes one
STAYING = (6.0, 12.0, 24.0)  # windows: what is settled on runs for a while, and is left by small steps only
DOUBT_STDS = 1.64  # of a forecast: its central 90 %
LEAST_HORIZON, MOST_HORIZON = 100, 200  # windows

Hyperparameters = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Study:
    """`length`: number of events so far; `at`: the latest moment any of them names, unix seconds.

    `context`: the present one, as the last ask or the last window told it, or as it is expected; `doubt` by how much,
    one std, of each that nobody told; `told`: what was told of each lately, with the number of the window, of so many
    `windows`, and `asked` what asks have told since; `started`: the start windows, where there is one, that made the
    baseline.

    Hyperparameters are of a history `based`, conditioning is on everything. They lag by the last result, so that they
    can be sought while it is waited for: `issued_on` is the history when the last candidate was handed out, `observed`
    the same at the last result.
    """

    config: Config
    deployment: Deployment
    history: History
    guard: Guard
    course: Course
    context: Context = field(default_factory=dict)
    doubt: Mapping[str, float] = field(default_factory=dict)
    windows: int = 0
    told: Mapping[str, Seen] = field(default_factory=dict)
    asked: Context = field(default_factory=dict)
    started: tuple[Observation, ...] = ()
    drift: Drift = field(default_factory=Drift)
    exploration: Exploration = field(default_factory=Exploration)
    hyperparameters: Hyperparameters = field(default_factory=dict)
    based: History | None = None
    issued_on: History = field(default_factory=History)
    observed: History = field(default_factory=History)
    length: int = 0
    at: float = 0.0

    @classmethod
    def new(cls, config: Config) -> Study:
        """A study nothing has happened to."""
        start = config.start
        return cls(
            config,
            Deployment(config.space, start, initial=config.initial, single=config.guardrails is not None),
            History(view=View(config.inputs, config.goals)),
            Guard(start),
            Course(endless=config.budget is None and config.budget_cost is None),
            config.usual,
            dict.fromkeys(config.usual, 0.0),
        )

    def apply(self, event: Event) -> Study:
        """The study after one more event."""
        deployment, history = self.deployment.apply(event), self.history.apply(event)
        context, doubt = _situation(self, event, history)
        windows, told, asked = self._told(event, history)
        return replace(
            self,
            deployment=deployment,
            history=history,
            guard=self.guard.apply(event, self.config, deployment, history),
            course=self.course.apply(event),
            context=context,
            doubt=doubt,
            drift=self.drift.apply(event, self.config, deployment, len(history)),
            exploration=self.exploration.apply(event, self.config, deployment, self.fixed),
            windows=windows,
            told=told,
            asked=asked,
            started=self._started(event, history),
            hyperparameters=event.hyperparameters if isinstance(event, Refitted) else self.hyperparameters,
            based=self.basis if isinstance(event, Refitted) else self.based,
            issued_on=history if isinstance(event, Issued) else self.issued_on,
            observed=self.issued_on if isinstance(event, Told) else self.observed,
            length=self.length + 1,
            at=max(self.at, getattr(event, "at", 0.0)),
        )

    def _started(self, event: Event, history: History) -> tuple[Observation, ...]:
        if isinstance(event, Baselined) and self.context:
            return tuple(row for _, row in self.history.live(self.deployment.deployed))
        if not self.started or history.corrected == self.history.corrected:
            return self.started
        found = [row.id and history.find(row.id, of_candidate=row.kind is not None) for row in self.started]
        return tuple(now or row for now, row in zip(found, self.started, strict=True))

    @property
    def guessed(self) -> tuple[str, ...]:
        """What of the present context nobody told."""
        return tuple(self.doubt)

    def elsewhere(self, context: Context) -> Study:
        """The study in another context, as far as that is given."""
        doubt = {name: std for name, std in self.doubt.items() if name not in context}
        return replace(self, context=self.context | context, doubt=doubt)

    def _told(self, event: Event, history: History) -> tuple[int, Mapping[str, Seen], Context]:
        """How many windows there were after an event, and what was told of the context in the latest of them, and by
        asks since."""
        if isinstance(event, Situated):
            asked = {name: value for name, value in event.context.items() if name not in event.doubt}
            return self.windows, self.told, self.asked | asked
        if not isinstance(event, Told) or not self.context:
            return self.windows, self.told, self.asked
        live = [row for row in event.observations if row.role in JUDGED]
        rows, windows, found = live, self.windows + len(live), dict(self.told)
        if history.corrected > self.history.corrected:
            rows, found = [row for row in history.rows[-SEASON:] if row.role in JUDGED], {}
        for name in self.context:
            for i, row in enumerate(rows, windows - len(rows)):
                if name not in row.guessed:
                    found[name] = after(found.get(name, ()), i, float(row.context[name]))
        return windows, found, {} if live else self.asked

    @property
    def _steps(self) -> dict[str, Step]:
        """How each context has moved lately."""
        return {of.name: steps(self.told.get(of.name, ()), of) for of in self.config.context}

    def expected(self, told: Context) -> tuple[Context, Mapping[str, float]]:
        """The context of the next window, and of what of it is not `told` one std, by what was told of the last ones,
        and of those at the same hour."""
        context, doubt = dict(self.context), {of.name: 0.0 for of in self.config.context if of.name not in told}
        for of in self.config.context:
            if of.name in told or of.name in self.asked:
                context[of.name] = told.get(of.name, self.asked.get(of.name, 0.0))
            elif seen := self.told.get(of.name):
                (first, _), (last, value) = seen[0], seen[-1]
                step, windows = steps(seen, of), float(self.windows - last)
                trusted = min(windows, max(last - first, 1.0))  # no trend is carried on for longer than it was seen
                context |= ahead({of.name: value}, {of.name: step}, (of,), trusted)
                further = step.std * math.sqrt(windows), step.step * (windows - trusted), unmoved(seen, of, windows)
                doubt[of.name] = min(math.hypot(*further), (of.high - of.low) * (0.25 if of.periodic else 1.0))
        self._as_before(context, doubt)
        return context, doubt

    def _as_before(self, context: Context, doubt: dict[str, float]) -> None:
        """Bring an expected context, and its doubt, to what was told at the same point of the cycles, as far as that
        says more."""
        cycles = [of for of in self.config.context if of.periodic]
        lacking = [of for of in self.config.context if not of.periodic and doubt.get(of.name)]
        if not cycles or not lacking or any(doubt.get(of.name, 0.0) > NEAR * of.high for of in cycles):
            return
        rows = [row for row in self.history.rows[-SEASON:] if row.role in JUDGED]
        for of in lacking:
            names = {of.name, *(cycle.name for cycle in cycles)}
            known = [row.context for row in rows if names.isdisjoint(row.guessed)]
            phases = np.array([[float(x[c.name]) / c.high for c in cycles] for x in known]).reshape(-1, len(cycles))
            here = np.array([float(context[c.name]) / c.high for c in cycles])
            found = as_before(phases, np.array([float(x[of.name]) for x in known]), here)
            if found is not None:
                mine, its = doubt[of.name] ** -2, max(found[1], LEAST_DOUBT * (of.high - of.low)) ** -2
                context[of.name] = (mine * float(context[of.name]) + its * found[0]) / (mine + its)
                doubt[of.name] = (mine + its) ** -0.5

    @property
    def vague(self) -> tuple[str, ...]:
        """What of the present context is known less well than in which of its cells it is."""
        wide = {of.name: (of.high - of.low) / CELLS for of in self.config.context}
        return tuple(name for name, std in self.doubt.items() if std > wide[name])

    @property
    def situations(self) -> list[Context]:
        """The contexts that the next candidate has to be good for: the present one, as far as it is known, and those of
        the next windows, while it could not be left."""
        if not self.context:
            return [self.context]
        found, moved = self.config.context, self._steps
        known = [self.context]
        if any(self.doubt.values()):
            wide = {name: Step(std=std) for name, std in self.doubt.items()}
            known += [ahead(self.context, wide, found, 0.0, way * DOUBT_STDS) for way in (-1.0, 1.0)]
        later = [ahead(self.context, moved, found, k) for k in AHEAD]
        return known + [context for context in later if context != self.context]

    @property
    def later(self) -> list[Context]:
        """The contexts that a config which stays will meet, as far as the present one tells; none where any other
        config is a step away."""
        if not self.context or self.config.guardrails is None:
            return []
        moved = self._steps
        found = [ahead(self.context, moved, self.config.context, k) for k in STAYING]
        return [context for context in found if context != self.context]

    @property
    def at_rest(self) -> bool:
        """Whether an endless study has nothing left to gain, as far as it knows; with a context that is asked anew each
        time."""
        return self.course.endless and self.course.quiet >= QUIET_ASKS and not self.context

    @property
    def horizon(self) -> float | None:
        """For how many windows what is learned now will pay: as long again as the present regime has lasted (Gott 1993,
        "Implications of the Copernican principle for our future prospects"); None where a budget is for learning."""
        lasted = len(self.history) - self.history.regimes[-1]
        return min(max(lasted, LEAST_HORIZON), MOST_HORIZON) if self.course.endless else None

    @property
    def basis(self) -> History:
        """What the next fit is of: all results but those since the last candidate, or all where these matter."""
        late = len(self.history) - len(self.observed) > MANY
        return self.history if late or self._urgent else self.observed

    @property
    def refit_due(self) -> bool:
        """Whether the hyperparameters are too old: a function of the journal, so that every process agrees.

        They are sought again before each ask while that costs little, then after every fifth result, then after every
        2 % more rows, 64 at most; at once after a correction, a failure or a change of regime.
        """
        return self.basis is not self.based and (self._urgent or self._worth(self.basis))

    @property
    def ahead(self) -> History | None:
        """What the fit before the next candidate is of, if one result comes first that does not change it."""
        calm = len(self.history) >= FEW and not self._urgent and self.history is self.issued_on
        return self.history if calm and self._worth(self.history) else None

    @property
    def _urgent(self) -> bool:
        """Whether the last result, too, must be learnt from at once."""
        based, history = self.based, self.history
        if based is None or not self.hyperparameters or len(history) <= FEW:
            return True
        if (based.regime, based.corrected) != (history.regime, history.corrected):
            return True
        return history.failed > based.failed

    def _worth(self, history: History) -> bool:
        """Whether a fit of this history tells enough more than the last one."""
        n, fresh = len(history), len(history) - len(self.based or ())
        return fresh > 0 and (n <= OFTEN or fresh >= min(max(REFIT_EVERY, n // REFIT_SHARE), REFIT_AT_MOST))

    @property
    def in_question(self) -> list[Params]:
        """The configs that are judged, whatever was measured since: what may run, last_good, a suspect, and the latest
        that were confirmed in this regime."""
        guard, anchors = self.guard, self.deployment.anchors
        if self.config.guardrails is None:
            return anchors
        suspect = [guard.suspicion.params] if guard.suspicion else []
        confirmed = [params for params, regime in guard.confirmed if regime == self.history.regime]
        return [*anchors, guard.last_good, *suspect, *confirmed[-MOST_COMPARED:]]

    @property
    def carried(self) -> Params:
        """The values of the knobs that have no effect: the last ones under guardrails, else those of the start."""
        return self.deployment.may_run if self.config.guardrails else self.config.start

    @property
    def baseline(self) -> dict[str, float]:
        """Mean of each outcome over the start windows; empty until they are measured."""
        return dict(self.course.baseline or {})

    @property
    def fixed(self) -> dict[str, float]:
        """The baseline where a limit relative to it is the same for all windows: without a context."""
        return {} if self.context else self.baseline


def _situation(study: Study, event: Event, history: History) -> tuple[Context, Mapping[str, float]]:
    """The present context after an event that made this history, and the doubt of it: what was measured before the last
    candidate says nothing of now."""
    match event:
        case Situated(context, doubt=doubt):
            return context, doubt
        case Told(observations) if study.context:
            live = (row for row in reversed(observations) if row.role in JUDGED)
            last, asked = next(live, None), Context()
            if last is None and history.corrected > study.history.corrected:
                before, now = (_latest(of) for of in (study.history, history))
                if before != now and before is not None and study.context == before.context | study.asked:
                    last, asked = now, study.asked
            if last is not None:
                return last.context | asked, {n: study.doubt.get(n, 0.0) for n in last.guessed if n not in asked}
    return study.context, study.doubt


def _latest(history: History) -> Observation | None:
    """The latest result that says where the system is."""
    return next((row for row in reversed(history.rows) if row.role in JUDGED), None)


def replay(config: Config, events: Iterable[Event]) -> Study:
    """The study that these events made."""
    study = Study.new(config)
    for event in events:
        study = study.apply(event)
    return study
