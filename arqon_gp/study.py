"""A study: its config and everything the journal says, folded. Public: Study, replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from arqon_gp.comparison import MOST_COMPARED
from arqon_gp.config import Config
from arqon_gp.course import QUIET_ASKS, Course
from arqon_gp.deployment import Deployment
from arqon_gp.guard import Guard
from arqon_gp.history import History
from arqon_gp.knobs import Real, unit
from arqon_gp.records import (
    Baselined,
    Context,
    Event,
    Issued,
    Kind,
    Label,
    Labelled,
    Observation,
    Params,
    Refitted,
    Role,
    Situated,
    Told,
)
from arqon_gp.view import View

FEW = 16  # rows up to which a fit costs nothing worth preparing
OFTEN = 64  # rows up to which every ask is preceded by a fit
REFIT_EVERY, REFIT_SHARE, REFIT_AT_MOST = 5, 50, 64
MANY = 16  # rows told since the last candidate that are too many to be left out of a fit

NEAR = 0.15  # of the range of each context: where nothing is left to gain in the one, so it is taken to be in the other
MOST_CALM = 512

Hyperparameters = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Study:
    """`length`: number of events so far; `at`: the latest moment any of them names, unix seconds.

    `context`: the present one, as the last ask or the last window told it; `started`: the start windows, where there is
    one, that made the baseline; `calm`: the contexts of explorations that promised less than min_effect, since the last
    drift.

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
    started: tuple[Observation, ...] = ()
    calm: tuple[Context, ...] = ()
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
        )

    def apply(self, event: Event) -> Study:
        """The study after one more event."""
        deployment, history = self.deployment.apply(event), self.history.apply(event)
        return replace(
            self,
            deployment=deployment,
            history=history,
            guard=self.guard.apply(event, self.config, deployment, history),
            course=self.course.apply(event),
            context=_context(self.context, event),
            started=self._started(event),
            calm=self._calm(event),
            hyperparameters=event.hyperparameters if isinstance(event, Refitted) else self.hyperparameters,
            based=self.basis if isinstance(event, Refitted) else self.based,
            issued_on=history if isinstance(event, Issued) else self.issued_on,
            observed=self.issued_on if isinstance(event, Told) else self.observed,
            length=self.length + 1,
            at=max(self.at, getattr(event, "at", 0.0)),
        )

    def _started(self, event: Event) -> tuple[Observation, ...]:
        if not isinstance(event, Baselined) or not self.context:
            return self.started
        return tuple(row for _, row in self.history.windows(self.deployment.deployed))

    def _calm(self, event: Event) -> tuple[Context, ...]:
        match event:
            case Issued(kind=Kind.EXPLORE, negligible=True) if self.context:
                return (*self.calm[-MOST_CALM + 1 :], self.context)
            case Labelled(label=Label.DRIFT):
                return ()
        return self.calm

    @property
    def at_rest(self) -> bool:
        """Whether an endless study has nothing left to gain, as far as it knows: in the present context."""
        if not self.context:
            return self.course.endless and self.course.quiet >= QUIET_ASKS
        near = sum(all(self._near(of, then) for of in self.config.context) for then in self.calm)
        return self.course.endless and near >= QUIET_ASKS

    def _near(self, of: Real, then: Context) -> bool:
        apart = abs(unit(of, self.context[of.name]) - unit(of, then[of.name]))
        return min(apart, 1.0 - apart) <= NEAR if of.periodic else apart <= NEAR

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


def _context(present: Context, event: Event) -> Context:
    """The present context after an event: what was measured before the last candidate says nothing of now."""
    match event:
        case Situated(context):
            return context
        case Told(observations) if present:
            told = (row.context for row in reversed(observations) if row.role in (Role.WARM, Role.WINDOW))
            return next(told, present)
    return present


def replay(config: Config, events: Iterable[Event]) -> Study:
    """The study that these events made."""
    study = Study.new(config)
    for event in events:
        study = study.apply(event)
    return study
