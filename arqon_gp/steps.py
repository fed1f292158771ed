"""The step limits of the guard, `max_delta`: their forms, and how they are read from the config.

Public: Absolute, Ratio, MayChange, Places, Switch, StepLimit, step_limits, percent.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from arqon_gp.errors import ConfigError
from arqon_gp.knobs import Categorical, Integer, Knob, Real
from arqon_gp.schema import GuardrailsModel, StepModel
from arqon_gp.space import Space

log = logging.getLogger("arqon_gp")

PRESETS = {"conservative": 0.05, "balanced": 0.10, "aggressive": 0.20}  # max_delta as a share of each range


@dataclass(frozen=True, slots=True)
class Absolute:
    """At most `delta` in raw units, either way; 0 freezes the knob."""

    delta: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """At most by this factor, either way, on a log knob; but always at least `floor` raw units."""

    factor: float
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class MayChange:
    """Any choice of a categorical knob, or none but the present one."""

    allowed: bool


@dataclass(frozen=True, slots=True)
class Places:
    """At most `count` places in the order of a knob's choices, either way; 0 freezes the knob."""

    count: int


Step = Absolute | Ratio | MayChange | Places


@dataclass(frozen=True, slots=True)
class Switch:
    """Of a knob with special values or conditions: its step limit while it is ordinary and has an effect, and whether
    it may enter and leave its special values, gain and lose its effect."""

    step: Step
    allowed: bool


StepLimit = Step | Switch | None  # None: free


def step_limits(space: Space, g: GuardrailsModel) -> tuple[StepLimit, ...]:
    """One limit a knob, in the order of the space; ConfigError names what of `max_delta` makes no sense."""
    at = "guardrails.max_delta"
    match g.max_delta:
        case None:
            return tuple(_switch(space, knob, _share(knob, PRESETS[g.preset]), None) for knob in space)
        case list(deltas):
            if len(deltas) != len(space.knobs):
                raise ConfigError(f"{at}: expected {len(space.knobs)} limits, one a knob; found {len(deltas)}")
            return tuple(_step(space, knob, delta, g, at) for knob, delta in zip(space, deltas, strict=True))
        case by_name:
            unknown = [name for name in by_name if name not in space.names]
            if unknown:
                raise ConfigError(f"{at}.{unknown[0]}: no such knob; the knobs are {', '.join(space.names)}")
            return tuple(_step(space, knob, by_name.get(knob.name), g, at) for knob in space)


def _step(space: Space, knob: Knob, delta: float | str | StepModel | None, g: GuardrailsModel, at: str) -> StepLimit:
    match delta:
        case None:
            return None
        case str():
            return _switch(space, knob, _share(knob, percent(delta)), None)
        case StepModel(ratio=float(factor)):
            return _switch(space, knob, _ratio(knob, factor, at), delta.special, at)
        case StepModel(up=None):  # special alone
            return _switch(space, knob, _share(knob, PRESETS[g.preset]), delta.special, at)
        case StepModel():
            amount = _amount(knob, min(delta.up or 0.0, delta.down or 0.0), at)
            return _switch(space, knob, amount, delta.special, at)
        case _:
            return _switch(space, knob, _amount(knob, delta, at), None)


def _switch(space: Space, knob: Knob, step: Step, special: int | None, at: str = "") -> StepLimit:
    """The step limit, with what is said of special values and effects where the knob has any."""
    if special is not None and not space.switches(knob):
        raise ConfigError(f"{at}: {knob.name} has neither special values nor active_if; remove special")
    if not space.switches(knob):
        return step
    if special is None:
        log.warning(
            "guardrails.max_delta: %s stays among its special values or out of them, with its effect or without; "
            'give it {"special": 1} to let it switch, 0 to be silent',
            knob.name,
        )
    return Switch(step, special == 1)


def _amount(knob: Knob, amount: float, at: str) -> Step:
    if isinstance(knob, Categorical) and knob.ordered:
        if not amount.is_integer():
            raise ConfigError(f"{at}: {knob.name} is ordered: a whole number of places it may move; found {amount:g}")
        return Places(int(amount))
    if isinstance(knob, Categorical):
        if amount not in (0, 1):
            raise ConfigError(f"{at}: {knob.name} is categorical: 0 freezes it, 1 lets it change; found {amount:g}")
        return MayChange(amount == 1)
    grid = _grid_step(knob)
    if 0 < amount < grid:
        raise ConfigError(
            f"{at}: {amount:g} is below one grid step of {knob.name} ({grid:g}); give that, or 0 to freeze it"
        )
    return Absolute(amount)


def _ratio(knob: Knob, factor: float, at: str) -> Step:
    if isinstance(knob, Categorical) or not knob.log:
        raise ConfigError(f"{at}: a ratio needs a log knob; {knob.name} is not one: give a number or a percentage")
    grid = _grid_step(knob)
    if knob.low * factor < knob.low + grid:
        raise ConfigError(
            f"{at}: ratio {factor:g} cannot move {knob.name} one grid step ({grid:g}) up from {knob.low:g}; "
            f"give at least {(knob.low + grid) / knob.low:g}"
        )
    return Ratio(factor)


def _share(knob: Knob, share: float) -> Step:
    """A share of the range (of the log range on a log knob), at least one grid step; 1 on a categorical."""
    if isinstance(knob, Categorical) and knob.ordered:
        return Places(max(1, int(share * (len(knob.choices) - 1))) if share > 0 else 0)
    if isinstance(knob, Categorical):
        return MayChange(share > 0)
    if share == 0:
        return Absolute(0.0)
    if knob.log:
        return Ratio(math.exp(share * math.log(knob.high / knob.low)), _grid_step(knob))
    return Absolute(max(share * (knob.high - knob.low), _grid_step(knob)))


def _grid_step(knob: Real | Integer) -> float:
    return float(knob.step or 0.0)


def percent(text: str) -> float:
    """The share that a text like "10%" names."""
    return float(text.strip().rstrip("%")) / 100.0
