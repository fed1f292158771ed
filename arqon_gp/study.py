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

Hyperparameters = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Study:
    """`length`: number of events so far; `at`: the latest moment any of them names, unix seconds.

    `version` counts the events that change what a surrogate learns from; `fitted` is the version the hyperparameters
    are of.
    """

    config: Config
    deployment: Deployment
    history: History
    guard: Guard
    course: Course
    hyperparameters: Hyperparameters = field(default_factory=dict)
    version: int = 0
    fitted: int = -1
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
            length=self.length + 1,
            at=max(self.at, getattr(event, "at", 0.0)),
        )

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
