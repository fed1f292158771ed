"""The space that a config declares: its knobs, what each depends on, the rules between them, and the context.

Public: declared_space, declared_context.
"""

from __future__ import annotations

from arqon_gp.errors import ConfigError
from arqon_gp.knobs import GRID_TOLERANCE, Categorical, Integer, Knob, Real, check_value
from arqon_gp.objectives import Goals
from arqon_gp.rules import Rule
from arqon_gp.rules import parse as parse_rule
from arqon_gp.schema import BoundModel, ConfigModel
from arqon_gp.space import Condition, Space


def declared_space(model: ConfigModel) -> Space:
    """The knobs with their conditions and rules; ConfigError names the path, what was found and what is allowed."""
    space = Space(tuple(_knob(name, bound) for name, bound in model.bounds.items()))
    rules = tuple(_rule(name, text, space) for name, text in model.constraints.items() if isinstance(text, str))
    return Space(space.knobs, _conditions(model, space), rules)


def declared_context(model: ConfigModel, goals: Goals) -> tuple[Real, ...]:
    """What is observed and nobody controls; ConfigError as above, also where a knob or an outcome has its name."""
    found = []
    for name, of in model.context.items():
        at = f"context.{name}"
        if name in model.bounds or name in goals.modelled:
            raise ConfigError(
                f"{at}: {'a knob' if name in model.bounds else 'an outcome'} has this name; give another one"
            )
        given = [key for key in ("min", "max", "period") if getattr(of, key) is not None]
        if given not in (["min", "max"], ["period"]):
            raise ConfigError(f"{at}: needs min and max, or period; found {', '.join(given) or 'neither'}")
        if of.period is not None:
            if of.scale == "log":
                raise ConfigError(f"{at}: scale log has no meaning with a period")
            found.append(Real(name, 0.0, of.period, periodic=True))
            continue
        assert of.min is not None
        assert of.max is not None
        if not of.min < of.max:
            raise ConfigError(f"{at}: min must be below max; found min {of.min:g}, max {of.max:g}")
        if of.scale == "log" and of.min <= 0:
            raise ConfigError(f"{at}: scale log needs min > 0; found {of.min:g}")
        found.append(Real(name, of.min, of.max, of.scale == "log"))
    return tuple(found)


def _rule(name: str, text: str, space: Space) -> Rule:
    at = f"constraints.{name}"
    try:
        rule = parse_rule(name, text)
    except ValueError as error:
        raise ConfigError(f"{at}: {error}") from error
    for used in rule.knobs:
        knob = next((knob for knob in space if knob.name == used), None)
        if knob is None:
            raise ConfigError(f"{at}: no such knob: {used}; the knobs are {', '.join(space.names)}")
        if isinstance(knob, Categorical) and any(isinstance(c, str) for c in knob.choices):
            raise ConfigError(f"{at}: {used} is no number; its choices are {list(knob.choices)}")
    return rule


def _conditions(model: ConfigModel, space: Space) -> tuple[Condition, ...]:
    """Every `active_if`, those of a knob after those of what it depends on."""
    found: list[Condition] = []
    waiting = {name: b.active_if for name, b in model.bounds.items() if b.active_if}
    while waiting:
        ready = [name for name, on in waiting.items() if waiting.keys().isdisjoint(on)]
        if not ready:
            raise ConfigError(f"bounds.{next(iter(waiting))}.active_if: {', '.join(waiting)} depend on one another")
        for name in ready:
            found += [_condition(name, on, given, space) for on, given in waiting.pop(name).items()]
    return tuple(found)


def _condition(name: str, on: str, given: object, space: Space) -> Condition:
    at = f"bounds.{name}.active_if.{on}"
    other = next((knob for knob in space if knob.name == on), None)
    if other is None:
        raise ConfigError(f"{at}: no such knob; the knobs are {', '.join(space.names)}")
    if not isinstance(other, Categorical):
        raise ConfigError(f"{at}: {on} is a number; a knob may depend on a categorical or a bool")
    try:
        choices = tuple(check_value(other, one) for one in (given if isinstance(given, list) else [given]))
    except ValueError as error:
        raise ConfigError(f"{at}: {error}") from error
    return Condition(name, on, choices)


def _knob(name: str, b: BoundModel) -> Knob:
    at = f"bounds.{name}"
    if b.special and b.type in ("categorical", "bool"):
        raise ConfigError(f"{at}: special has no meaning for type {b.type}")
    if b.type in ("categorical", "bool"):
        extra = [key for key in ("min", "max", "step") if getattr(b, key) is not None]
        if extra or b.scale != "linear":
            raise ConfigError(f"{at}: {extra[0] if extra else 'scale'} has no meaning for type {b.type}")
        if b.ordered and b.type == "bool":
            raise ConfigError(f"{at}: ordered has no meaning for type bool")
        if b.type == "bool":
            if b.choices is not None:
                raise ConfigError(f"{at}: a bool has no choices; remove them or use type categorical")
            return Categorical(name, (False, True))
        if not b.choices or any(b.choices.index(c) != i for i, c in enumerate(b.choices)):
            raise ConfigError(f"{at}: a categorical needs choices, each once; found {b.choices!r}")
        return Categorical(name, tuple(b.choices), b.ordered)
    if b.ordered:
        raise ConfigError(f"{at}: ordered needs type categorical with choices; found type {b.type}")
    if b.choices is not None:
        raise ConfigError(f"{at}: choices need type categorical; found type {b.type}")
    return _number(name, b, at)


def _number(name: str, b: BoundModel, at: str) -> Knob:
    if b.min is None or b.max is None:
        raise ConfigError(f"{at}: {'min' if b.min is None else 'max'} is required for type {b.type}")
    if not b.min < b.max:
        raise ConfigError(f"{at}: min must be below max; found min {b.min:g}, max {b.max:g}")
    if b.scale == "log" and b.min <= 0:
        raise ConfigError(f"{at}: scale log needs min > 0; found {b.min:g}")
    if b.step is not None and b.step > b.max - b.min:
        raise ConfigError(f"{at}: step {b.step:g} is wider than the range {b.max - b.min:g}")
    steps = (b.max - b.min) / (b.step or b.max - b.min)
    if b.scale == "periodic" and abs(steps - round(steps)) > GRID_TOLERANCE * steps:
        raise ConfigError(
            f"{at}: max is min again on scale periodic; step {b.step:g} does not divide {b.max - b.min:g}"
        )
    special = _special(b, at)
    if b.type == "float":
        return Real(name, b.min, b.max, b.scale == "log", b.step, b.scale == "periodic", special)
    for key, number in (("min", b.min), ("max", b.max), ("step", b.step or 1.0), *(("special", s) for s in special)):
        if not number.is_integer():
            raise ConfigError(f"{at}.{key}: type int needs a whole number; found {number:g}")
    whole = tuple(int(s) for s in special)
    return Integer(name, int(b.min), int(b.max), b.scale == "log", int(b.step or 1), b.scale == "periodic", whole)


def _special(b: BoundModel, at: str) -> tuple[float, ...]:
    """The special values: each once, outside of the range, which means the same all over."""
    if b.special and b.scale == "periodic":
        raise ConfigError(f"{at}: special has no meaning on scale periodic")
    if len(set(b.special)) < len(b.special):
        raise ConfigError(f"{at}.special: each value once; found {b.special}")
    for value in b.special:
        if b.min is not None and b.max is not None and b.min <= value <= b.max:
            raise ConfigError(
                f"{at}.special: {value:g} is within {b.min:g}..{b.max:g}; begin or end the range beside it, "
                "where values mean more or less of the same"
            )
    return tuple(b.special)
