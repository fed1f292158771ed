"""The model's trust region: with many knobs, a search that finds nothing better for a while stays near the best config.

After TuRBO (Eriksson et al. 2019, sections 2 and 3): a box around the incumbent, its sides in proportion to the
lengthscales, halved by failures. But a failure is a stay that leaves the incumbent as it is, since under noise hardly a
window beats the luckiest one before; and as long as there are few of them the region is the whole space. It says what
is believed, not what is allowed: where it has nothing in common with the guard's box, that stays. Public: side_after,
trusted.
"""

from __future__ import annotations

import math

import numpy as np

from arqon_gp import limits
from arqon_gp.knobs import Categorical, Floats, Knob
from arqon_gp.records import Params
from arqon_gp.space import Box, Space
from arqon_gp.steps import Absolute, Ratio, StepLimit, Switch

MANY_KNOBS = 20  # fewer are searched everywhere: measured at 20, 30 and 50 (bench/README.md)
FIRST_SIDE, LEAST_SIDE = 0.8, 0.8 * 0.5**6  # of the ranges, on the geometric mean: those of TuRBO
LEAST_WEIGHT, MOST_WEIGHT = 0.005, 2.0  # lengthscales beyond these say no more about the sides


def side_after(failures: int, d: int) -> float | None:
    """The mean side of the region once `failures` stays left the incumbent as it was; None: the whole space.

    It is halved every d of them, and after the least side the whole space is searched again.
    """
    halved = failures // d
    sides = 1 + round(math.log2(FIRST_SIDE / LEAST_SIDE))
    place = halved % (sides + 1)
    return FIRST_SIDE * 0.5 ** (place - 1) if place else None


def trusted(space: Space, box: Box, incumbent: Params, lengthscales: Floats, side: float) -> Box:
    """What a box has in common with the region around the incumbent; knobs where that is nothing are as in the box.

    `lengthscales` (d or more,): those of the knobs, in the unit cube, come first; `side`: the geometric mean of the
    sides of the numbers.
    """
    weights = np.clip(lengthscales[: len(space.knobs)], LEAST_WEIGHT, MOST_WEIGHT)
    numbers = [not isinstance(knob, Categorical) for knob in space]
    share = 0.5 * side * weights / math.exp(float(np.log(weights[numbers]).mean()) if any(numbers) else 0.0)
    steps = tuple(_reach(space, knob, s) for knob, s in zip(space, share.tolist(), strict=True))
    near = limits.box(space, steps, [incumbent], box)
    kept = [n if not Box((n,)).empty else whole for n, whole in zip(near.domains, box.domains, strict=True)]
    return Box(tuple(kept))


def _reach(space: Space, knob: Knob, share: float) -> StepLimit:
    """This share of the range of a number either way; any choice and any special value."""
    if isinstance(knob, Categorical):
        return None
    least = float(knob.step or 0.0)
    if knob.log:
        step: Absolute | Ratio = Ratio((knob.high / knob.low) ** min(share, 1.0), least)
    else:
        step = Absolute(max(share * (knob.high - knob.low), least))
    return Switch(step, allowed=True) if space.switches(knob) else step
