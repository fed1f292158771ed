"""The results a caller gives to seed() or tell(): JSON text or a list of rows in, checked rows out.

A row: {"params", "value" and/or "values", "cost"?, "id"?, "eval_id"?, "sem"? | "n"?, "std"?, "status"?, "time"?,
"history"?, "control"?, "context"?}. Bare NaN and Infinity parse. Public: parse, context_of.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from arqon_gp.config import Config
from arqon_gp.errors import ResultError
from arqon_gp.knobs import REACH, Real, as_float, from_unit, unit, wrapped
from arqon_gp.records import NO_CONTEXT, Context, Control, Observation, Params, Role
from arqon_gp.space import Space

KEYS = (
    "params", "value", "values", "cost", "id", "eval_id", "sem", "n", "std", "status", "time", "history", "control",
    "context",
)  # fmt: skip
KNOWN, PLAIN = frozenset(KEYS), frozenset(KEYS[:3])  # what most rows of a long history have
INFINITE = 1e100  # an outcome beyond this is infinite: some exporters say 1.8e308, and squares have to be numbers
MOST_TIME = 1e11  # unix seconds: the year 5138
NOTHING: dict[str, float] = {}  # one for all rows: a history is long


def parse(results: str | Sequence[Mapping[str, Any]], config: Config, last: Params, prefix: str) -> list[Observation]:
    """The rows of a batch as they were told: measured before the first ask, or as history, which is free; a failure has
    no values, and `context` what they say of it. ResultError (its text begins with `prefix`) names the row, what was
    found and what to do. `last`: the values of knobs that have no effect in a row, whatever it says of them.
    """
    try:
        if isinstance(results, str | bytes):
            results = _decoded(results)
        if not isinstance(results, Sequence):
            raise ValueError(f"expected a list of results, found {type(results).__name__}")
        check = _Params(config.space, last)
        return [_row(i, row, config, check) for i, row in enumerate(results)]
    except ValueError as error:
        raise ResultError(f"{prefix}: {error}") from error


class _Params:
    """What each row ran, checked once for rows that follow one another: a config runs for many windows.

    `last`: the values of knobs that have no effect.
    """

    def __init__(self, space: Space, last: Params) -> None:
        self.space, self.last = space, last
        self.given: tuple[object, ...] = ()
        self.checked: Params = {}

    def __call__(self, params: Mapping[str, Any]) -> Params:
        given = (*map(type, params.values()), *params, *params.values())  # types first: True == 1, arrays have no truth
        if given != self.given:
            self.checked, self.given = self.space.check(params, self.last), given
        return self.checked


def _decoded(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def _row(i: int, row: object, config: Config, check: _Params) -> Observation:
    try:
        if not _is_object(row):
            raise ValueError(f"expected an object, found {type(row).__name__}")
        plain = PLAIN.issuperset(row)
        if not plain and not KNOWN.issuperset(row):
            unknown = next(key for key in row if key not in KNOWN)
            raise ValueError(f"unknown key {unknown!r}; allowed: {', '.join(KEYS)}")
        if not plain and type(None) in map(type, row.values()):
            row = {key: value for key, value in row.items() if value is not None or key in ("value", "values")}
        if not _is_object(row.get("params")):
            raise ValueError(f"params: expected an object of knob values, found {row.get('params')!r:.60}")
        params = check(row["params"])
        values, failed = _values(row, config)
        values = {} if failed else values
        if plain:
            return Observation(params, values, Role.WARM, failed, False, sem=NOTHING, context=NO_CONTEXT)
        more = {key: CHECKS[key](value) for key, value in row.items() if key in CHECKS}
        role = Role.HISTORY if more.pop("history", False) else Role.WARM
        if "control" in row:
            more["control"] = _control(row["control"], config, check.last)
        context = context_of(row["context"], config) if "context" in row else NO_CONTEXT
        return Observation(params, values, role, failed, False, sem=_sem(row, config), context=context, **more)
    except ValueError as error:
        raise ValueError(f"row {i}: {error}") from error


def _is_object(given: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a mapping; an abstract class takes its time to say so of a dict."""
    return type(given) is dict or isinstance(given, Mapping)


def _values(row: Mapping[str, Any], config: Config) -> tuple[dict[str, float | None], bool]:
    status = row.get("status", "ok")
    if status not in ("ok", "failed"):
        raise ValueError(f'status: expected "ok" or "failed", found {status!r}')
    if "value" not in row and "values" not in row and "status" not in row:
        raise ValueError("value is missing; give value or values, null if it was not measured, or status: failed")
    given = row.get("values") or NOTHING
    if not _is_object(given):
        raise ValueError(f"values: expected an object of outcomes, found {given!r:.60}")
    failed = status == "failed"
    if "value" in row:
        if len(config.goals.objectives) > 1 or config.goals.objectives[0].name != "value":
            names = ", ".join(o.name for o in config.goals.objectives)
            raise ValueError(f"value: this study has objectives; give values: {{{names}}}")
        if "value" in given and not _equal(given["value"], row["value"]):
            raise ValueError(
                f"value is given twice: {row['value']!r:.60}, and {given['value']!r:.60} in values; keep one"
            )
        given = {**given, "value": row["value"]}
    values: dict[str, float | None] = {}
    for name, value in given.items():
        number = value if type(value) is float else math.nan if value is None else _real(name, value)
        failed = failed or abs(number) > INFINITE
        values[str(name)] = None if number != number else number
    return values, failed


def _control(given: object, config: Config, last: Params) -> Control:
    """What the other instance ran and measured; what is infinite there was not measured."""
    if not isinstance(given, Mapping) or set(given) - {"params", "value", "values"}:
        raise ValueError(f"control: expected {{params, values}}, found {given!r:.80}")
    if not isinstance(given.get("params"), Mapping):
        raise ValueError(f"control.params: expected an object of knob values, found {given.get('params')!r:.60}")
    try:
        params = config.space.check(given["params"], last)
        values, _ = _values(given, config)
    except ValueError as error:
        raise ValueError(f"control: {error}") from error
    return Control(params, {k: v if v is not None and abs(v) <= INFINITE else None for k, v in values.items()})


def context_of(given: object, config: Config) -> Context:
    """What is known of a context, as numbers; ValueError names what is wrong. null, NaN: not known. What is farther out
    of its range than the range is long counts as being that far out."""
    if not _is_object(given):
        raise ValueError(f"context: expected an object of what was observed, found {given!r:.60}")
    found = Context()
    for of in config.context:
        value = given.get(of.name)
        if type(value) is float and of.low <= value <= of.high and not of.periodic:  # what most are
            found[of.name] = value
        elif not _is_gap(value):
            found[of.name] = _near(of, _number(f"context.{of.name}", value))
    if len(found) < len(given):
        names = [of.name for of in config.context]
        known = f"it has {', '.join(names)}" if names else "the config of this study has no context"
        for name in given:
            if name not in names:
                raise ValueError(f"context.{name}: not in the context; {known}")
    return found


def _is_gap(value: object) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(value != value))


def _near(of: Real, value: float) -> float:
    """A value of the context; no extrapolation reaches farther than once the range beyond it."""
    if of.periodic:
        return wrapped(of, value)
    if of.low <= value <= of.high:
        return value
    u = unit(of, value)
    return value if REACH[0] <= u <= REACH[1] else from_unit(of, min(max(u, REACH[0]), REACH[1]))


def _equal(a: object, b: object) -> bool:
    return a == b or (a != a and b != b)  # NaN is NaN


def _sem(row: Mapping[str, Any], config: Config) -> dict[str, float]:
    """Standard errors by outcome: `sem`, or std / sqrt(n); 0 and n = 1 mean unknown."""
    if "sem" not in row and "n" not in row and "std" not in row:
        return NOTHING
    if "sem" in row and ("n" in row or "std" in row):
        raise ValueError("give sem, or n and std, not both")
    if ("n" in row) != ("std" in row):
        raise ValueError("n and std go together")
    if "sem" in row:
        return {name: sem for name, sem in _per_outcome("sem", row, config).items() if sem > 0}
    counts = _per_outcome("n", row, config)
    stds = _per_outcome("std", row, config)
    return {name: std / math.sqrt(counts[name]) for name, std in stds.items() if counts.get(name, 1) > 1 and std > 0}


def _per_outcome(key: str, row: Mapping[str, Any], config: Config) -> dict[str, float]:
    value = row[key]
    if isinstance(value, Mapping):
        known = {*config.goals.modelled, *(row.get("values") or {})}
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"{key}.{unknown[0]}: no such outcome; these are known: {', '.join(sorted(known))}")
        told = {name: number for name, number in value.items() if number is not None}
        return {str(name): _number(f"{key}.{name}", number, low=0.0) for name, number in told.items()}
    number = _number(key, value, low=0.0)
    names = [o.name for o in config.goals.objectives] if key != "n" else list(config.goals.modelled)
    if key != "n" and len(names) > 1:
        raise ValueError(f"{key}: with several objectives give one by name: {{{', '.join(names)}}}")
    return dict.fromkeys(names, number)


def _real(name: str, value: object) -> float:
    if type(value) is float:  # what most are
        return value
    if (number := as_float(value)) is None:
        raise ValueError(f"{name}: expected a number or null, found {value!r:.60}")
    return number


def _number(name: str, value: object, low: float = -math.inf, high: float = sys.float_info.max) -> float:
    number = _real(name, value)
    if not low <= number <= high or number == -math.inf:
        raise ValueError(
            f"{name}: expected a finite number{f' >= {low:g}' if low > -math.inf else ''}, found {value!r:.60}"
        )
    return number


def _time(value: object) -> float:
    if (time := _number("time", value)) > MOST_TIME:
        raise ValueError(f"time: expected unix seconds, found {value!r:.60}; are these milliseconds?")
    return time


def _identity(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"id: expected the id of a candidate, found {value!r:.60}")
    return str(value)


def _label(value: object) -> int | str | None:
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise ValueError(f"eval_id: expected a number or a text, found {value!r:.60}")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"history: expected true or false, found {value!r:.60}")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "cost": partial(_number, "cost", low=0.0, high=INFINITE),
    "id": _identity,
    "eval_id": _label,
    "time": _time,
    "history": _flag,
}  # what else of a row needs no config
