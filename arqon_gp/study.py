"""A study: its config and everything the journal says, folded. Public: Study, replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from arqon_gp.config import Config
from arqon_gp.course import Course
from arqon_gp.deployment import Deployment
from arqon_gp.guard import Guard
from arqon_gp.history import History
from arqon_gp.records import Event, Refitted

OFTEN = 64  # rows up to which every tell is followed by a fit
REFIT_EVERY, REFIT_SHARE = 5, 50

Hyperparameters = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Study:
    """`length`: number of events so far; `at`: the latest moment any of them names, unix seconds.

    `version` counts the events that change what a surrogate learns from; `fitted` is the version the hyperparameters
    are of, `fitted_rows` and `fitted_regime` how many rows there were and in which regime.
    """

    config: Config
    deployment: Deployment
    history: History
    guard: Guard
    course: Course
    hyperparameters: Hyperparameters = field(default_factory=dict)
    version: int = 0
    fitted: int = -1
    fitted_rows: int = 0
    fitted_regime: int = 0
    length: int = 0
    at: float = 0.0

    @classmethod
    def new(cls, config: Config) -> Study:
        """A study nothing has happened to."""
        start = config.start
        return cls(
            config,
            Deployment(config.space, start, initial=config.initial, single=config.guardrails is not None),
            History(),
            Guard(start),
            Course(endless=config.budget is None and config.budget_cost is None),
        )

    def apply(self, event: Event) -> Study:
        """The study after one more event."""
        deployment, history = self.deployment.apply(event), self.history.apply(event)
        version = self.version + (history is not self.history)
        return replace(
            self,
            deployment=deployment,
            history=history,
            guard=self.guard.apply(event, self.config, deployment, history),
            course=self.course.apply(event),
            hyperparameters=event.hyperparameters if isinstance(event, Refitted) else self.hyperparameters,
            version=version,
            fitted=version if isinstance(event, Refitted) else self.fitted,
            fitted_rows=len(history) if isinstance(event, Refitted) else self.fitted_rows,
            fitted_regime=history.regime if isinstance(event, Refitted) else self.fitted_regime,
            length=self.length + 1,
            at=max(self.at, getattr(event, "at", 0.0)),
        )

    @property
    def refit_due(self) -> bool:
        """Whether the hyperparameters are too old: a function of the journal, so that every process agrees.

        They are sought again after each tell while that costs little, then after every fifth, then after every 2 %
        more rows; at once after a correction, a failure or a change of regime.
        """
        if self.fitted == self.version or not self.hyperparameters:
            return self.fitted != self.version
        fresh = self.history.rows[self.fitted_rows :]
        if not fresh or self.history.regime != self.fitted_regime or any(row.failed for row in fresh):
            return True
        n = len(self.history)
        return n <= OFTEN or len(fresh) >= max(REFIT_EVERY, n // REFIT_SHARE)

    @property
    def baseline(self) -> dict[str, float]:
        """Mean of each outcome over the start windows; empty until they are measured."""
        return dict(self.course.baseline or {})


def replay(config: Config, events: Iterable[Event]) -> Study:
    """The study that these events made."""
    study = Study.new(config)
    for event in events:
        study = study.apply(event)
    return study
