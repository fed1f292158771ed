"""Legal points of a space that is less than a box: rules between knobs are kept, and knobs without effect wait.

Public: Region, one_by_one, nearest_legal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arqon_gp.knobs import Categorical, Knob, from_unit, is_special, nearest, unit, whole_domain
from arqon_gp.records import Params, Scalar
from arqon_gp.space import Box, Space

HALVINGS = 8  # of the way between a legal point and one that is not
POINTS = 1024  # drawn to find a legal one near a config


@dataclass(frozen=True, slots=True)
class Region:
    """Where a config is sought: a box of the space, seen from `here`, a legal config.

    `returns`: knobs that gain an effect come back at the values they have `here`; else they may be anything.
    """

    space: Space
    box: Box
    here: Params
    returns: bool

    def settled(self, params: Params) -> Params:
        """The config with knobs without effect as they are here."""
        if not self.space.conditions:
            return params
        if self.returns:
            params = params | {name: self.here[name] for name in self.space.inactive(self.here)}
        return self.space.carried(params, self.here)

    def contains(self, params: Params) -> bool:
        """Whether the config lies in the box, is settled and keeps the rules."""
        return self.space.contains(params, self.box) and self.settled(params) == params

    def pulled(self, params: Params, legal: Params | None = None) -> Params:
        """The last legal config on the way from a legal one (default: here) to `params`, settled; the legal one itself
        if there is none. Choices and special values change at once, numbers go straight.
        """
        space, params, best = self.space, self.settled(params), legal or self.here
        if space.broken_rule(params) is None:
            return params
        start, low, high = best, 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            point = self.settled(_between(space, self.box, start, params, middle))
            if space.contains(point, self.box):
                best, low = point, middle
            else:
                high = middle
        return best


def one_by_one(space: Space, here: Params, there: Params, legal: Callable[[Params], bool]) -> Params:
    """The config `here`, with the knobs of `there` one after the other as far as each is legal; then once more the
    other way round, because what made room for one may have moved after it.
    """
    found = dict(here)
    for name in [*space.names, *reversed(space.names)]:
        if legal(further := found | {name: there[name]}):
            found = further
    return found


def nearest_legal(space: Space, params: Params, legal: Params) -> Params:
    """A config in bounds that keeps the rules, as near to `params` as POINTS draws tell; `legal` is one such."""
    clipped = space.nearest(params, space.whole, legal)
    beyond = space.out_of_bounds(params)
    clipped |= {name: value for name, value in params.items() if name not in beyond}  # what is off the grid may stay
    if space.broken_rule(clipped) is None:
        return clipped
    ruled = {name for rule in space.rules for name in rule.knobs}
    rng, x, found = np.random.default_rng(0), [unit(knob, clipped[knob.name]) for knob in space], legal
    width = np.logspace(-2.0, 0.0, POINTS)[:, None]  # near points first
    for u in np.clip(x + width * rng.uniform(-1.0, 1.0, (POINTS, len(x))), 0.0, 1.0).tolist():
        point = clipped | {
            knob.name: nearest(knob, from_unit(knob, v), whole_domain(knob))
            for knob, v in zip(space, u, strict=True)
            if knob.name in ruled and not isinstance(knob, Categorical) and not is_special(knob, clipped[knob.name])
        }
        if space.broken_rule(point) is None:
            found = point
            break
    return Region(space, space.whole, found, returns=False).pulled(clipped)


def _between(space: Space, box: Box, a: Params, b: Params, t: float) -> Params:
    """The config of the box at t of the way from a to b."""
    found: Params = {}
    for knob, domain in zip(space, box.domains, strict=True):
        value = _one_between(knob, a[knob.name], b[knob.name], t)
        found[knob.name] = value if isinstance(knob, Categorical) else nearest(knob, float(value), domain)
    return found


def _one_between(knob: Knob, a: Scalar, b: Scalar, t: float) -> Scalar:
    if isinstance(knob, Categorical) or is_special(knob, a) or is_special(knob, b):
        return b
    x, y = unit(knob, a), unit(knob, b)
    way = (y - x + 0.5) % 1.0 - 0.5 if knob.periodic else y - x  # the shorter way round
    return from_unit(knob, x + t * way)
