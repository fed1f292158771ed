"""What exploring may cost, and has cost: a share of the windows, or minutes a day beyond the limits. A fold, no torch.

A window explores if its config was chosen to learn: of the initial design, or for its expected improvement. What runs
as the best that is known, a replicate, a way back or out does not; but as long as a config that was explored is neither
promoted nor left, its windows beyond a limit are what exploring cost. Public: Exploration, SPENT, LOST.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from arqon_gp.config import Config
from arqon_gp.deployment import Deployment
from arqon_gp.records import Cancelled, Context, Event, Issued, Observation, Params, Prediction, Promoted, Role, Told

DAY_S = 86400.0
FADE = 0.995  # a window: what happened 200 windows ago counts a third
LATEST_FALLS, MOST_FALL = 16, 30.0  # windows; of what a window was to be worth: that one cost it at the most
DOUBTED, LATEST_TRIED = 10.0, 64  # windows that explored and broke what they were to, to begin with; that are counted
LATEST_RAN = 16  # windows that tell how long one is
SPENT = "exploration_budget pays no more at the moment"
LOST = "nobody tells the context any more, so that nothing can be learned"
LIVE = (Role.WINDOW, Role.EXTRA, Role.LATE)


@dataclass(frozen=True, slots=True)
class Exploration:
    """`windows`: all since the first ask; `explored`: candidates that explore, from when they are handed out,
    unless they were `withdrawn` before they ran, and are not answered after all. `open`: id and moment of those of
    the last day that nobody answered; `trial`: the latest of their configs, until it is promoted or left; `ran`: how
    long each of the latest windows took, s, and whether after a change, which has to settle. `broken`: when each window
    of a trial that broke a limit was told of, unix seconds, and how long it had run, s, of the last day.
    `tried`: of the latest windows that explored the number, the context, and by how much more than was said each broke
    a limit (1 or 0, less P). `fell`: by how much the latest windows that broke a limit, though they were to keep it,
    were worse than predicted, and for how many windows it was broken; `falling`: it still is."""

    windows: int = 0
    explored: int = 0
    withdrawn: frozenset[str] = frozenset()
    open: tuple[tuple[str, float], ...] = ()
    trial: Params | None = None
    ran: tuple[tuple[float, bool], ...] = ()
    broken: tuple[tuple[float, float], ...] = ()
    tried: tuple[tuple[int, Context, float], ...] = ()
    fell: tuple[tuple[float, int], ...] = ()
    falling: bool = False

    @property
    def breach(self) -> float | None:
        """What it costs on average when a limit breaks that was to be kept, until it is kept again, utility units."""
        return sum(fall * windows for fall, windows in self.fell) / len(self.fell) if self.fell else None

    def surprise(self, context: Context, config: Config) -> float:
        """By how much a window that explores is likelier to break a limit than the model says, as the latest ones in
        contexts like this one were; these fade."""
        known = [
            (FADE ** (self.windows - number), more) for number, then, more in self.tried if config.alike(then, context)
        ]
        return max(sum(weight * more for weight, more in known) / (DOUBTED + sum(weight for weight, _ in known)), 0.0)

    @staticmethod
    def counts(config: Config) -> bool:
        """Whether a study asks what exploring has cost."""
        ends = config.budget is not None or config.budget_cost is not None
        priced = not ends and bool(config.goals.limits)
        return config.guardrails is not None or config.exploration is not None or priced

    def apply(self, event: Event, config: Config, deployment: Deployment, baseline: Mapping[str, float]) -> Exploration:
        """The state after one more event."""
        if not self.counts(config):
            return self
        match event:
            case Issued(explores=True):
                lately = tuple(one for one in self.open if one[1] > event.at - DAY_S)
                opened = (*lately, (event.id, event.at))
                return replace(self, explored=self.explored + 1, open=opened)
            case Promoted() if self.trial is not None and config.space.same(event.params, self.trial):
                return replace(self, trial=None)
            case Cancelled(applied=False) if event.id in dict(self.open):
                gone = self.withdrawn | {event.id}
                return replace(self._answered(event.id), explored=self.explored - 1, withdrawn=gone)
            case Told():
                state = self
                for row in event.observations:
                    if row.role in LIVE:
                        state = state._window(row, event.at, config, deployment, baseline)
                return state
        return self

    def _answered(self, id: str) -> Exploration:
        return replace(self, open=tuple(one for one in self.open if one[0] != id))

    def _window(
        self, row: Observation, at: float, config: Config, deployment: Deployment, baseline: Mapping[str, float]
    ) -> Exploration:
        issued = deployment.find(row.id) if row.id is not None and row.kind is not None else None
        state = replace(self, windows=self.windows + 1)
        explores, trial = issued is not None and issued.explores, self.trial
        broke = row.failed or config.goals.broken(row.values, baseline)
        state = state._fallen(row, deployment.predicted(row, config), config, baseline) if broke else state
        state = state if broke else replace(state, falling=False)
        if row.role is Role.WINDOW:  # it says what runs
            stays = explores or (trial is not None and config.space.same(row.params, trial))
            state = replace(state, trial=row.params if stays else None)
            if issued is not None and at > issued.at:  # clocks may stand still
                state = replace(state, ran=(*self.ran[1 - LATEST_RAN :], (at - issued.at, issued.change)))
        if issued is not None and explores:
            if issued.id in self.withdrawn:
                state = replace(state, explored=self.explored + 1, withdrawn=self.withdrawn - {issued.id})
            more = broke - (0.0 if issued.p_limits is None else 1.0 - issued.p_limits)
            tried = (*state.tried[1 - LATEST_TRIED :], (state.windows, row.context, more))
            state = replace(state._answered(issued.id), tried=tried)
        elif row.role is not Role.WINDOW or state.trial is None:
            return state
        if not broke:
            return state
        broken = (*(one for one in self.broken if one[0] > at - DAY_S), (at, state.ran[-1][0] if state.ran else 0.0))
        return replace(state, broken=broken)

    def _fallen(
        self, row: Observation, predicted: Mapping[str, Prediction], config: Config, baseline: Mapping[str, float]
    ) -> Exploration:
        """After a window beyond a limit."""
        if self.falling:
            fall, windows = self.fell[-1]
            return replace(self, fell=(*self.fell[:-1], (fall, windows + 1)))
        means = {name: of.mean for name, of in predicted.items()}
        if not means or config.goals.broken(means, baseline):
            return self
        one = (_breach(row, predicted, config, baseline), 1)
        return replace(self, fell=(*self.fell[1 - LATEST_FALLS :], one), falling=True)

    def allowed(self, config: Config, now: float) -> bool:
        """Whether the budget pays one more window that explores, should it break a limit, and those that nobody
        answered, too. Minutes pay nothing before it is known how long a window is."""
        budget = config.exploration
        if budget is None:
            return True
        if budget.share is not None and self.explored + 1 > budget.share * (self.windows + 1):
            return budget.share == 1.0  # also of windows that are still to come
        unknown = 1 + sum(at > now - DAY_S for _, at in self.open)
        most = budget.broken_s_per_day
        return most is None or (
            self.windows > 0 and 0.0 < most >= self.broken_s(now) + unknown * self._length(config, change=True)
        )

    def affords(self, config: Config, now: float) -> bool:
        """Whether the minutes pay one more window of the trial, if there is one, should it break a limit."""
        most = None if config.exploration is None else config.exploration.broken_s_per_day
        return self.trial is None or most is None or self.broken_s(now) + self._length(config, change=False) <= most

    def _length(self, config: Config, *, change: bool) -> float:
        """How long a window is, after a change or not, as most of the latest ones were: some last a night."""
        alike, others = ([seconds for seconds, one in self.ran if one is which] for which in (change, not change))
        if alike or not others:
            return statistics.median_low(alike or [0.0])
        return statistics.median_low(others) + (config.settle_s if change else 0.0)

    def broken_s(self, now: float) -> float:
        """Seconds of the last day that exploring was beyond a limit."""
        return sum(seconds for at, seconds in self.broken if at > now - DAY_S)


def _fall(row: Observation, predicted: Mapping[str, Prediction], config: Config) -> float:
    """By how much the utility of a window was below the predicted one, up to MOST_FALL times what it was to be worth;
    of one that failed just that."""
    goals = config.goals
    names = [o.name for o in goals.objectives]
    if goals.pareto or any(name not in predicted for name in names):
        return 0.0
    both = np.array([[predicted[name].mean for name in names], [row.values.get(name) for name in names]], dtype=float)
    expected, seen = goals.utility({}, {})(both)
    worth = _worth(predicted, config)
    if not np.isfinite(seen):
        return worth if row.failed else 0.0
    return min(max(float(expected) - float(seen), 0.0), MOST_FALL * worth)


def _breach(
    row: Observation, predicted: Mapping[str, Prediction], config: Config, baseline: Mapping[str, float]
) -> float:
    """What a window beyond a limit has cost: by how much it was below the predicted utility; at least all that it was
    to be worth where the limit is of an outcome that is no objective, so that the utility does not know of it."""
    goals, fall = config.goals, _fall(row, predicted, config)
    names = {o.name for o in goals.objectives}
    inside = {name: value for name, value in row.values.items() if name in names}
    if row.failed or goals.broken(inside, baseline) or goals.pareto or not names <= predicted.keys():
        return fall
    return max(fall, _worth(predicted, config))


def _worth(predicted: Mapping[str, Prediction], config: Config) -> float:
    """What all objectives together were to be worth, utility units."""
    means = np.array([predicted[o.name].mean for o in config.goals.objectives])
    return float(np.abs(means * config.goals.utility({}, {}).coefficients).sum())
