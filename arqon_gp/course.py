"""How far the study is: start windows, budget, probes, the walk to the recommended config, the end. A fold.

Public: Course, windows_left, start_wanted, baseline, probes_wanted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from arqon_gp.config import Config
from arqon_gp.deployment import Deployment
from arqon_gp.history import History
from arqon_gp.records import (
    Baselined,
    Dequeued,
    Enqueued,
    Event,
    Finished,
    Issued,
    Kind,
    Label,
    Labelled,
    Params,
    Settling,
    Suspected,
    Told,
)

START_WINDOWS = 3
MOST_STARTS = 6
LOOK_EVERY = 24  # asks at rest, after which an endless study looks again whether there is something to gain
QUIET_ASKS = 5  # asks in a row with a negligible expected improvement, after which an endless study settles


@dataclass(frozen=True, slots=True)
class Course:
    """`baseline`: mean of each outcome over the start windows, raw units; None until they are measured.

    `quiet`: asks in a row that promised less than min_effect, or would not pay. `target`: where the study ends, once
    fixed, and how many asks ago (`rested`).
    `queue`: what operators want tried, the next one first; `walking`: the last change was a step towards it.
    """

    endless: bool
    baseline: Mapping[str, float] | None = None
    starts: int = 0
    probes: int = 0
    quiet: int = 0
    target: Params | None = None
    rested: int = 0
    finished: bool = False
    told_after: bool = False  # a result came after the end
    queue: tuple[Params, ...] = ()
    walking: bool = False

    @property
    def looks(self) -> bool:
        """Whether the next ask of an endless study that has settled looks again what there is to gain."""
        return self.endless and self.rested > 0 and self.rested % LOOK_EVERY == 0

    def apply(self, event: Event) -> Course:
        """The state after one more event."""
        return self._walked(event)._rested(event)._apply(event)

    def _rested(self, event: Event) -> Course:
        match event:
            case Issued(kind=Kind.EXPLORE, change=True) if self.looks:
                return replace(self, target=None, quiet=0, rested=0)
            case Issued() if self.target is not None:
                return replace(self, rested=self.rested + 1)
            case Settling():
                return replace(self, rested=0)
        return self

    def _walked(self, event: Event) -> Course:
        match event:
            case Issued(wish=True) if event.params == self.queue[0]:
                return replace(self, queue=self.queue[1:], walking=False)
            case Issued(change=True):
                return replace(self, walking=event.wish)
            case Enqueued(params):
                return replace(self, queue=(*self.queue, params), quiet=0, target=None if self.endless else self.target)
            case Suspected(rolls_back=True) if self.walking:
                return replace(self, queue=self.queue[1:], walking=False)
            case Dequeued():
                return replace(self, queue=self.queue[1:], walking=False)
        return self

    def _apply(self, event: Event) -> Course:
        match event:
            case Issued(kind=Kind.START):
                return replace(self, starts=self.starts + 1)
            case Issued(kind=Kind.PROBE):
                return replace(self, probes=self.probes + 1)
            case Issued(negligible=True):
                return replace(self, quiet=self.quiet + 1)
            case Issued(kind=Kind.EXPLORE):
                return replace(self, quiet=0)
            case Baselined(values):
                return replace(self, baseline=values)
            case Settling(target):
                return replace(self, target=target)
            case Labelled(label=Label.DRIFT):
                woken = replace(self, quiet=0)
                return replace(woken, target=None, probes=0) if self.endless else woken
            case Finished():
                return replace(self, finished=True)
            case Told() if self.finished:
                return replace(self, told_after=True)
        return self


def windows_left(config: Config, history: History) -> float:
    """How many more results the budget pays; inf without one. Costs are projected from their mean so far."""
    left = math.inf if config.budget is None else float(config.budget - history.spent)
    if config.budget_cost is not None:
        mean = history.spent_cost / history.spent if history.spent else 1.0
        money = config.budget_cost - history.spent_cost
        left = min(left, math.floor(money / mean + 1e-9) if mean > 0 else left)
    return max(left, 0.0)


def start_wanted(config: Config, course: Course, history: History, deployment: Deployment) -> bool:
    """Whether what runs has to be measured before anything changes."""
    relative = any(limit.relative for limit in config.goals.limits)
    if course.baseline is not None or not (config.guardrails or relative):
        return False
    if course.starts >= MOST_STARTS:
        return False
    complete = len(start_windows(config, history, deployment))
    return course.starts < 1 or complete < START_WINDOWS


def start_windows(config: Config, history: History, deployment: Deployment) -> list[Mapping[str, float | None]]:
    """Outcomes of the complete windows of what runs."""
    rows = (history.live if config.guardrails else history.windows)(deployment.deployed)
    return [row.values for _, row in rows if not row.failed and config.goals.complete(row.values)]


def lacking(config: Config, history: History, deployment: Deployment) -> str:
    """Why there can be no baseline though a limit refers to it; empty where there can."""
    relative = sorted({limit.outcome for limit in config.goals.limits if limit.relative})
    measured = any(not row.failed for _, row in history.live(deployment.deployed))
    if not (relative and measured) or start_windows(config, history, deployment):
        return ""
    return f"no window of what runs is complete: the limit of {', '.join(relative)} is relative to it"


def baseline(config: Config, history: History, deployment: Deployment) -> dict[str, float]:
    """Mean of each modelled outcome over the start windows, raw units."""
    windows = start_windows(config, history, deployment)
    if not windows:
        return {}
    return {name: sum(float(w[name] or 0.0) for w in windows) / len(windows) for name in config.goals.modelled}


def probes_wanted(config: Config, history: History, course: Course) -> int:
    """How many more initial points: ceil(probe_ratio budget) as in arqonhpo, 2 (d + 1) without a budget.

    Rows known before the first ask count. Under guardrails, where a probe is a small step, d + 1 at the most; so after
    a change, but under guardrails none: what ran before is still worth something, and exploring has to pay.
    """
    d = len(config.space.knobs)
    wanted = 2 * (d + 1) if config.budget is None else math.ceil(config.probe_ratio * config.budget)
    if config.guardrails or (course.endless and history.regime):
        few = 0 if config.guardrails and history.regime else d + 1
        return max(0, min(wanted, few) - course.probes)
    known = len(history) - history.spent
    return max(0, max(wanted, 1) - known - course.probes - min(course.starts, 1))
