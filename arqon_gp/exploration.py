"""What exploring may cost, and has cost: a share of the windows, or minutes a day beyond the limits. A fold, no torch.

A window explores if its config was chosen to learn: of the initial design, or for its expected improvement. What runs
as the best that is known, a replicate, a way back or out does not. Public: Exploration, SPENT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from arqon_gp.config import Config
from arqon_gp.deployment import Deployment
from arqon_gp.records import Event, Observation, Role, Told

DAY_S = 86400.0
SPENT = "exploration_budget pays no more at the moment"


@dataclass(frozen=True, slots=True)
class Exploration:
    """`windows`: all since the first ask; `explored`: those that explored; `broken`: when each of these that broke a
    limit was told of, unix seconds, and how long it had run, s, of the last day."""

    windows: int = 0
    explored: int = 0
    broken: tuple[tuple[float, float], ...] = ()

    def apply(self, event: Event, config: Config, deployment: Deployment, baseline: Mapping[str, float]) -> Exploration:
        """The state after one more event."""
        if not isinstance(event, Told) or config.exploration is None:
            return self
        state = self
        for row in event.observations:
            if row.role in (Role.WINDOW, Role.EXTRA):
                state = state._window(row, event.at, config, deployment, baseline)
        return state

    def _window(
        self, row: Observation, at: float, config: Config, deployment: Deployment, baseline: Mapping[str, float]
    ) -> Exploration:
        issued = deployment.find(row.id) if row.id is not None and row.kind is not None else None
        state = replace(self, windows=self.windows + 1)
        if issued is None or not issued.explores:
            return state
        broken = tuple(one for one in self.broken if one[0] > at - DAY_S)
        if row.failed or any(
            _breaks(row, limit.outcome, limit.side, limit.bound(baseline)) for limit in config.goals.limits
        ):
            broken = (*broken, (at, max(at - issued.at, 0.0)))
        return replace(state, explored=self.explored + 1, broken=broken)

    def allowed(self, config: Config, now: float) -> bool:
        """Whether the budget pays one more window that explores."""
        budget = config.exploration
        if budget is None:
            return True
        if budget.share is not None and self.explored + 1 > budget.share * (self.windows + 1):
            return False
        return budget.broken_s_per_day is None or self.broken_s(now) < budget.broken_s_per_day

    def broken_s(self, now: float) -> float:
        """Seconds of the last day that exploring was beyond a limit."""
        return sum(seconds for at, seconds in self.broken if at > now - DAY_S)


def _breaks(row: Observation, outcome: str, side: int, bound: float | None) -> bool:
    value = row.values.get(outcome)
    return value is not None and bound is not None and side * (value - bound) > 0.0
