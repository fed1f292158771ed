"""What a decision asks of the model, and what it is told: the port between the torch-free core and the surrogate.

Public: Advisor, Goal, Request, Proposal, Change, initial_point, random_step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from arqon_gp.comparison import Expectation
from arqon_gp.config import Config
from arqon_gp.deadline import NEVER, Deadline
from arqon_gp.design import placed, sobol
from arqon_gp.history import Excerpt
from arqon_gp.legal import Region
from arqon_gp.records import Params, Prediction, Refitted
from arqon_gp.space import Box
from arqon_gp.study import Study
from arqon_gp.yardstick import Shifts, Yardstick

FALLBACK_POINTS = 64


class Goal(Enum):
    """What a proposal is for."""

    PROBE = "probe"  # initial design
    IMPROVE = "improve"  # a better config, or more of the front
    RECOVER = "recover"  # the highest P(all limits hold)


@dataclass(frozen=True, slots=True)
class Request:
    """Where to look for the next config.

    `box` is what the guard permits, seen from `here`, which is legal. `number` is the candidate's, which seeds its
    random stream. `pending`: configs handed out and not answered. `confidence`: the least P(all limits hold); None
    without guardrails or limits. If no point of the box reaches it, `cautious` is the box of a cautious step,
    `fraction` of max_delta wide. `horizon`: for how many windows what is learned will pay, where each that explores
    costs; None: exploring is what the budget is for; 0 where it is `barred`, for this reason. `deadline`: until when an
    answer is wanted.
    """

    goal: Goal
    box: Box
    here: Params
    number: int
    pending: Sequence[Params] = ()
    confidence: float | None = None
    cautious: Box | None = None
    fraction: float | None = None
    horizon: float | None = None
    barred: str | None = None
    deadline: Deadline = field(default=NEVER, compare=False)

    def region(self, config: Config, box: Box | None = None) -> Region:
        """The region of the box, or of another one. Under guardrails what gains an effect comes back as it was."""
        return Region(config.space, box or self.box, self.here, returns=config.guardrails is not None)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A config of the box with what is expected of it; see records.Issued. `settled`: exploring would not pay,
    and it is the best one known; None where exploring has no price."""

    params: Params
    reason: str
    predicted: dict[str, Prediction] | None = None
    improvement: float | None = None
    p_limits: float | None = None
    fraction: float | None = None
    fallback: str | None = None
    settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """From row `since` on something is different: `evidence`, nats, for it in the outcome where it is strongest, and
    which earlier regime is back (`like`, its number), if one is."""

    since: int
    outcome: str
    evidence: float
    like: int | None = None


def initial_point(config: Config, request: Request) -> Proposal:
    """The scrambled Sobol point of the request's number, laid into the box."""
    u = sobol(len(config.space.knobs), request.number, config.rng_seed)[-1]
    rng = np.random.default_rng([config.rng_seed, request.number])
    return Proposal(placed(request.region(config), u, rng), "initial design: a scrambled Sobol point")


def random_step(config: Config, request: Request, here: Params, why: str) -> Proposal:
    """A random point of the box other than what runs: what is left when no model can choose."""
    space, rng = config.space, np.random.default_rng([config.rng_seed, request.number])
    careful = request.confidence is not None and request.cautious is not None and not request.cautious.empty
    region = request.region(config, request.cautious if careful else None)
    points = sobol(len(space.knobs), FALLBACK_POINTS, config.rng_seed, stream=request.number)
    other = (p for u in points if not space.same(p := placed(region, u, rng), here))
    return Proposal(next(other, here), f"a random legal step: {why}", fallback=why)


class Advisor(Protocol):
    """The model's side of a decision. Its answers depend on the study and the request alone."""

    def refit(self, study: Study, deadline: Deadline = NEVER) -> Refitted | None:
        """Fit to what is known now; the hyperparameters, or None when nothing can be fitted."""

    def changed(self, study: Study, since: int) -> Change | None:
        """What the evidence says of a change at row `since`; None where it says there was none."""

    def expectation(self, study: Study, yard: Yardstick) -> Expectation:
        """What the surrogate expects of a config from all others."""

    def shifts(self, study: Study, of: Excerpt) -> Shifts | None:
        """What brings windows to the present context; None without a model."""

    def propose(self, study: Study, yard: Yardstick, request: Request) -> Proposal:
        """A config of the box."""

    def predict(self, study: Study, params: Params) -> dict[str, Prediction] | None:
        """The next window at a config, noise included; None without a model."""

    def best(self, study: Study, yard: Yardstick, among: Sequence[Params]) -> Params:
        """The best config by posterior mean: of these, or of the whole space if there are none."""

    def gain(self, study: Study, yard: Yardstick, params: Params, over: Params) -> float:
        """Posterior mean of the difference in utility."""

    def describe(self, study: Study, params: Params) -> tuple[dict[str, Prediction], float] | None:
        """The outcomes at a config, free of noise, and P(all limits hold); None without a model."""

    def holds(self, study: Study, params: Params) -> float:
        """P(all limits hold) in the next windows, by the model and by where limits broke; 1 without a model."""

    def pays(self, study: Study, yard: Yardstick, params: Params, over: Params) -> bool:
        """Whether a window is worth more, the chance that a limit breaks included, if the one config runs next than if
        the other does; True without a model."""

    def front(self, study: Study, among: Sequence[Params]) -> list[tuple[Params, dict[str, Prediction], float]]:
        """Those of these configs that are on the front by posterior mean, described; none without a model."""

    def importance(self, study: Study, yard: Yardstick, of: str) -> dict[str, Prediction]:
        """Total effect of each knob on the utility or an outcome; FitError without a model."""
