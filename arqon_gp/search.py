"""The search for the next config: an acquisition in a region; and how a step leaves knobs as they are that are worth
little. Public: Search, Engine, simpler, moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from arqon_gp import acquisition, irregular
from arqon_gp.deadline import Deadline
from arqon_gp.knobs import Floats
from arqon_gp.legal import Region
from arqon_gp.maximize import climbed, maximize
from arqon_gp.records import Params
from arqon_gp.space import Space
from arqon_kernels.acquisition import Problem


class Search(Protocol):
    """An acquisition, ready to be maximised."""

    @property
    def rng(self) -> np.random.Generator:
        """Its random stream."""

    def best_in(self, region: Region) -> Params:
        """The config of the region where it is largest."""

    def values_at(self, X: Floats) -> Floats:
        """Its values (r,) at X (r, d)."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine's own. `good`: measured configs to look near."""

    target: Problem
    good: Sequence[Params]
    rng: np.random.Generator
    deadline: Deadline

    def best_in(self, region: Region) -> Params:
        """The config of the region where it is largest."""
        space, box = region.space, region.box
        if space.irregular:
            return irregular.best_in(
                self.values_at,
                lambda x, fixed: climbed(self.target, space, box, x, fixed),
                region,
                self.good,
                self.rng,
                self.deadline,
            )
        good = space.encode_all(self.good)
        return space.decode(maximize(self.target, space, box, good, self.rng, self.deadline)[0], box)

    def values_at(self, X: Floats) -> Floats:
        """Its values (r,) at X (r, d)."""
        return acquisition.values_at(self.target, X)


def simpler(region: Region, params: Params, value: Callable[[list[Params]], Floats], least: float) -> Params:
    """The config with as many knobs left as they are as it can have with a `value` of `least`; what `value` gets, and
    what comes back, is of the region."""
    here, space = region.here, region.space

    def left(names: Sequence[str]) -> Params:
        return region.settled(params | {name: here[name] for name in names})

    changed = moved(space, params, here)
    free = [name for name in changed if region.contains(left([name]))]
    most = min(len(free), len(changed) - 1)  # to leave all would be no step
    if most < 1:
        return params
    order = [free[i] for i in np.argsort(-value([left([name]) for name in free]), kind="stable")]
    some = [left(order[: i + 1]) for i in range(most)]
    enough = value(some) >= least
    if space.irregular:
        enough &= [region.contains(one) for one in some]
    return some[int(np.flatnonzero(enough)[-1])] if enough.any() else params


def moved(space: Space, params: Params, here: Params) -> list[str]:
    """The knobs that differ."""
    return [name for name in params if not space.same(params, params | {name: here[name]})]
