"""Whether results go on surprising the model: a fold over what was predicted and what came. No torch.

For each outcome a CUSUM either way (Page 1954, "Continuous inspection schemes") of the residuals of the journaled
predictions, in their own stds: one window hardly says anything, several that are off the same way do. It only raises
the question: whether something changed, the evidence decides (advice.Advisor.changed). Public: Drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from arqon_gp.config import Config
from arqon_gp.deployment import Deployment
from arqon_gp.objectives import Goals
from arqon_gp.records import Event, Label, Labelled, Observation, Prediction, Role, Told, Unchanged

ALLOWANCE = 0.5  # stds a window that count as nothing: half of the shift that is to be seen
ALARM = 6.0  # six false questions in 30,000 windows of normal noise
MOST = 4.5  # stds that one window counts: a gross outlier alone is no change
USUAL, WEIGHT = 0.8, 0.05  # the mean of |z| of normal residuals, and the weight of a window in the running one
INTERVAL_STDS = 2.0 * 1.96  # width of a predicted interval
LEAST_STD = (
    0.005  # of the level: throughput that is demand is known to a hundred-thousandth, and no promille of it matters
)
FAR = 10.0  # floors of an outcome: what is below, far from its limit, is no news


@dataclass(frozen=True, slots=True)
class Sums:
    """CUSUMs above and below, the row in which each began, and the usual size of residuals (predictions err)."""

    above: float = 0.0
    below: float = 0.0
    above_since: int = 0
    below_since: int = 0
    usual: float = USUAL

    def scaled(self, z: float) -> float:
        """A residual beside what is usual."""
        return z * USUAL / max(self.usual, USUAL)

    def add(self, z: float, row: int) -> Sums:
        """After one more residual."""
        scaled = min(max(self.scaled(z), -MOST), MOST)
        up, down = scaled - ALLOWANCE, -scaled - ALLOWANCE
        return Sums(
            max(self.above + up, 0.0),
            max(self.below + down, 0.0),
            self.above_since
            if self.above >= up and self.above > 0.0
            else row,  # a jump is not as old as what led up to it
            self.below_since if self.below >= down and self.below > 0.0 else row,
            (1.0 - WEIGHT) * self.usual + WEIGHT * min(abs(z), MOST),
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """`sums` by outcome; `latest`: how far the latest window was off in any, in usual stds."""

    sums: Mapping[str, Sums] = field(default_factory=dict)
    latest: float = 0.0

    @property
    def score(self) -> float:
        """How near a question is: 1 is one."""
        return max((max(s.above, s.below) / ALARM for s in self.sums.values()), default=0.0)

    @property
    def loud(self) -> frozenset[str]:
        """The outcomes that raise the question, if there is one."""
        return frozenset(name for name, s in self.sums.items() if max(s.above, s.below) >= ALARM)

    @property
    def since(self) -> int | None:
        """The first row of what may be a change, if there is a question."""
        loud = [(s.above, s.above_since) for s in self.sums.values()]
        loud += [(s.below, s.below_since) for s in self.sums.values()]
        return max(loud)[1] if self.score >= 1.0 else None

    def apply(self, event: Event, config: Config, deployment: Deployment, rows: int) -> Drift:
        """The state after one more event, when there are so many rows."""
        match event:
            case Told(observations):
                fresh = [row for row in observations if row.role is not Role.CORRECTION]
                state = self
                for i, row in enumerate(fresh, rows - len(fresh)):
                    if row.role is Role.WINDOW and not row.failed:
                        state = state._told(row, deployment.predicted(row, config), config, i)
                return state
            case Unchanged() | Labelled(label=Label.DRIFT):
                return replace(self, sums={name: Sums(usual=sums.usual) for name, sums in self.sums.items()})
        return self

    def _told(self, row: Observation, predicted: Mapping[str, Prediction], config: Config, number: int) -> Drift:
        found, latest = dict(self.sums), 0.0
        for name, of in predicted.items():
            z = residual(name, of, row.values.get(name), config.goals)
            if z is not None:
                before = found.get(name, Sums())
                found[name], latest = before.add(z, number), max(latest, abs(before.scaled(z)))
        return Drift(found, latest)


def residual(name: str, predicted: Prediction, value: float | None, goals: Goals) -> float | None:
    """What came less what was predicted, in stds of the prediction, of which each is at least LEAST_STD of the level;
    None where that says nothing."""
    low, high, seen = predicted.lower, predicted.upper, goals.to_model(name, value)
    if name in goals.logs:  # not to_model: an interval may reach below the floor
        low, high = (math.log(x) if x > 0.0 else -math.inf for x in (low, high))
    std, far = (high - low) / INTERVAL_STDS, unremarkable(name, goals)
    if not (std > 0.0 and math.isfinite(std) and math.isfinite(seen)):
        return None
    middle = 0.5 * (low + high)
    std = max(std, LEAST_STD * (1.0 if name in goals.logs else abs(middle)))
    return (max(seen, far) - max(middle, far)) / std


def unremarkable(name: str, goals: Goals) -> float:
    """Up to where it does not matter how large an outcome is, model space; -inf if it always does."""
    return math.log(FAR * goals.floors[name]) if name in goals.floors else -math.inf
