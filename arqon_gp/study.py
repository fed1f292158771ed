"""A study: its config and everything the journal says, folded. Public: Study, replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from arqon_gp.comparison import MOST_COMPARED
from arqon_gp.config import Config
from arqon_gp.course import QUIET_ASKS, Course
from arqon_gp.deployment import Deployment
from arqon_gp.drift import Drift
from arqon_gp.exploration import Exploration
from arqon_gp.guard import Guard
from arqon_gp.history import History
from arqon_gp.records import Baselined, Context, Event, Issued, Observation, Params, Refitted, Told
from arqon_gp.situation import Situation
from arqon_gp.view import View

FEW = 16  # rows up to which a fit costs nothing worth preparing
STRANGE = 6.0  # usual stds that a window is off: an outlier, or news
OFTEN = 64  # rows up to which every ask is preceded by a fit
REFIT_EVERY, REFIT_SHARE, REFIT_AT_MOST = 5, 50, 64
MANY = 16  # rows told since the last candidate that are too many to be left out of a fit
LEAST_HORIZON, MOST_HORIZON = 100, 200  # windows

Hyperparameters = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Study:
    """`length`: number of events so far; `at`: the latest moment any of them names, unix seconds; `started`: under a
    context, the start windows that made the baseline.

    Hyperparameters are of a history `based`, conditioning is on everything. They lag by the last result, so that they
    can be sought while it is waited for: `issued_on` is the history when the last candidate was handed out, `observed`
    the same at the last result.
    """

    config: Config
    deployment: Deployment
    history: History
    guard: Guard
    course: Course
    situation: Situation
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
            History(view=View(config.inputs, config.goals, len(config.context))),
            Guard(start),
            Course(endless=config.budget is None and config.budget_cost is None),
            Situation.new(config),
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
            situation=self.situation.apply(event, self.history, history),
            drift=self.drift.apply(event, self.config, deployment, len(history)),
            exploration=self.exploration.apply(event, self.config, deployment, self.fixed),
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
    def context(self) -> Context:
        """The present one; empty where the config has none."""
        return self.situation.context

    def elsewhere(self, context: Context) -> Study:
        """The study in another context, as far as that is given."""
        return replace(self, situation=self.situation.elsewhere(context))

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
        2 % more rows, 64 at most; at once after a correction, a failure, a change of regime, or, under
        guardrails, a window so far off that it is an outlier, or news.
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
        strange = self.config.guardrails is not None and self.drift.latest >= STRANGE  # what runs may be left for it
        return strange or history.failed > based.failed

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


def replay(config: Config, events: Iterable[Event]) -> Study:
    """The study that these events made."""
    study = Study.new(config)
    for event in events:
        study = study.apply(event)
    return study
