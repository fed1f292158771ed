"""The config: JSON text, dict or Config in, a checked immutable Config out. Only this file, declared.py, which knows
its space, and schema.py, which knows their types, know the JSON keys.

Public: Config, Guardrails, parse, config_schema, differences.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from arqon_gp.declared import declared_context, declared_space
from arqon_gp.errors import ConfigError
from arqon_gp.knobs import (
    Categorical,
    Integer,
    Knob,
    Real,
    check_value,
    from_unit,
    nearest,
    ordinary_domain,
    unit,
)
from arqon_gp.objectives import Effect, Goals, Limit, Objective
from arqon_gp.records import Context, Params, Scalar
from arqon_gp.schema import ConfigModel, ConstraintModel, GuardrailsModel, ObjectiveModel, validate
from arqon_gp.space import Space
from arqon_gp.steps import StepLimit, percent, step_limits

log = logging.getLogger("arqon_gp")

ORDERED = ("bounds", "context", "objectives", "constraints")  # the order of their names has a meaning
LATENCY_NAME = re.compile(r"latency|_ms$|_us$|_s$")
TROUBLE_NAME = re.compile(r"error|fail|loss|lost|drop|reject|timeout|abort|stale|evict|retr(y|ies)|dead")  # 0 is usual
LEAST_TROUBLE = 0.01  # of what is allowed: less is no better
ALIKE = 0.05  # of the range of a context


@dataclass(frozen=True, slots=True)
class Guardrails:
    """What the operator permits. `steps`: one limit a knob, in the order of the space."""

    steps: tuple[StepLimit, ...]
    min_interval_s: float = 0.0
    rollback_on_regression: bool = True
    min_effect: Effect | None = None
    windows_to_promote: int = 2
    max_rollbacks_per_hour: int = 3
    on_rate_limit: Literal["hold", "wait", "raise"] = "hold"


@dataclass(frozen=True, slots=True)
class ExplorationBudget:
    """What exploring may cost: a share of the windows, or seconds a day beyond the limits."""

    share: float | None = None
    broken_s_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A checked config. `start` is what is taken to run before anything is reported, `initial` whether it was given.

    `inputs`: what an outcome depends on, the knobs of `space` and after them the context.
    """

    rng_seed: int
    name: str
    space: Space
    inputs: Space
    goals: Goals
    start: Params
    initial: bool
    budget: int | None = None
    budget_cost: float | None = None
    probe_ratio: float = 0.2
    exploration: ExplorationBudget | None = None
    guardrails: Guardrails | None = None
    exact: frozenset[str] = frozenset()
    pending_ttl_s: float | None = None
    max_ask_s: float | None = None
    settle_s: float = 0.0
    canonical: str = "{}"

    def __hash__(self) -> int:
        return hash(self.canonical)

    @property
    def context(self) -> tuple[Real, ...]:
        """What is observed and nobody controls."""
        return self.inputs.knobs[len(self.space.knobs) :]  # type: ignore[return-value]  # they are numbers

    @property
    def usual(self) -> Context:
        """The context as long as nothing is known of it: the middle of each."""
        return {of.name: from_unit(of, 0.5) for of in self.context}

    def beyond(self, *contexts: Context) -> list[Real]:
        """What of any context is outside its declared range."""
        found = []
        for of in self.context:
            told = [float(context[of.name]) for context in contexts if of.name in context and not of.periodic]
            found += [of] if told and not of.low <= min(told) <= max(told) <= of.high else []
        return found

    def alike(self, a: Context, b: Context) -> bool:
        """Whether two contexts differ by no more than ALIKE of the range, or of the period, in anything."""
        apart = [abs(unit(of, a[of.name]) - unit(of, b[of.name])) for of in self.context]
        return all(
            min(x, 1.0 - x) <= ALIKE if of.periodic else x <= ALIKE for of, x in zip(self.context, apart, strict=True)
        )


# ---- checking ----------------------------------------------------------------------------------------------------


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the config, as this version takes it."""
    return ConfigModel.model_json_schema()


def parse(config: str | Mapping[str, Any] | Config) -> Config:
    """A checked Config; ConfigError names the path, what was found and what is allowed."""
    if isinstance(config, Config):
        return config
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except json.JSONDecodeError as error:
            raise ConfigError(f"not JSON: {error}") from error
    if not isinstance(config, Mapping):
        raise ConfigError(f"expected an object with seed and bounds, found {type(config).__name__}")
    return _build(validate(config))


def differences(stored: str, given: str) -> str:
    """How two canonical configs differ, key by key: `budget: 40 in the journal, 50 given`."""
    a, b = json.loads(stored), json.loads(given)
    keys = [key for key in dict.fromkeys([*a, *b]) if _text(key, a) != _text(key, b)]
    return "; ".join(f"{key}: {json.dumps(a.get(key))} in the journal, {json.dumps(b.get(key))} given" for key in keys)


def _text(key: str, config: Mapping[str, Any]) -> str:
    """One entry as text; equal texts mean the same study."""
    return json.dumps(config.get(key), sort_keys=key not in ORDERED)


def _build(model: ConfigModel) -> Config:
    space = declared_space(model)
    start, initial = _start(space, model)
    goals = _goals(model)
    unknown = [name for name in model.noise if name not in goals.modelled]
    if unknown:
        raise ConfigError(f"noise.{unknown[0]}: no such outcome; the modelled ones are {', '.join(goals.modelled)}")
    return Config(
        rng_seed=model.seed,
        name=model.name,
        space=space,
        inputs=replace(space, knobs=(*space.knobs, *declared_context(model, goals))) if model.context else space,
        goals=goals,
        start=start,
        initial=initial,
        budget=model.budget,
        budget_cost=model.budget_cost,
        probe_ratio=model.probe_ratio,
        exploration=_exploration(model, goals),
        guardrails=_guardrails(space, model.guardrails) if model.guardrails else None,
        exact=frozenset(name for name, how in model.noise.items() if how == "exact"),
        pending_ttl_s=model.pending_ttl_s,
        max_ask_s=model.strategy_params.max_ask_s if model.strategy_params else None,
        settle_s=model.settle_s,
        canonical=model.model_dump_json(exclude_defaults=True),
    )


def _exploration(model: ConfigModel, goals: Goals) -> ExplorationBudget | None:
    match model.exploration_budget:
        case None:
            return None
        case float() | int() as share:
            return ExplorationBudget(share=float(share))
        case minutes:
            if not goals.limits:
                raise ConfigError("exploration_budget: SLO minutes need a limit in constraints; found none")
            if model.context and all(limit.relative for limit in goals.limits):
                found = ", ".join(limit.text() for limit in goals.limits)
                raise ConfigError(
                    f"exploration_budget: with a context SLO minutes need a limit that is a number; found {found}"
                )
            return ExplorationBudget(broken_s_per_day=60.0 * minutes.slo_minutes_per_day)


def _start(space: Space, model: ConfigModel) -> tuple[Params, bool]:
    """What is taken to run first: `initial`, then `bounds.*.initial`, then the centre, which is logged."""
    given = dict(model.initial or {})
    unknown = [name for name in given if name not in space.names]
    if unknown:
        raise ConfigError(f"initial.{unknown[0]}: no such knob; the knobs are {', '.join(space.names)}")
    start: Params = {}
    for knob in space:
        own = model.bounds[knob.name].initial
        if own is not None and knob.name in given and own != given[knob.name]:
            raise ConfigError(
                f"{knob.name} has two initial values: {given[knob.name]!r} in initial, {own!r} in bounds; keep one"
            )
        at = f"initial.{knob.name}" if knob.name in given else f"bounds.{knob.name}.initial"
        value = given.get(knob.name, own)
        start[knob.name] = _centre(knob) if value is None else _initial_value(knob, value, at)
    if broken := space.broken_rule(start):
        raise ConfigError(
            f"constraints.{broken.name}: {broken.text} does not hold where the study starts, "
            f"{ {name: start[name] for name in broken.knobs} }; give initial values that keep it"
        )
    initial = bool(given) or any(b.initial is not None for b in model.bounds.values())
    filled = [n for n in space.names if n not in given and model.bounds[n].initial is None]
    if filled and (initial or model.guardrails):
        log.warning("no initial value for %s: %s taken", ", ".join(filled), {n: start[n] for n in filled})
    return start, initial


def _initial_value(knob: Knob, value: Scalar, at: str) -> Scalar:
    try:
        checked = check_value(knob, value)
    except ValueError as error:
        raise ConfigError(f"{at}: {str(error).removeprefix(f'{knob.name}: ')}") from error
    if not isinstance(knob, Categorical) and not (knob.low <= float(value) <= knob.high or checked in knob.special):
        special = f" and not one of {', '.join(f'{s:g}' for s in knob.special)}" if knob.special else ""
        raise ConfigError(f"{at}: {value!r} is outside {knob.low:g}..{knob.high:g}{special}")
    if isinstance(knob, Integer) and not isinstance(checked, int):
        raise ConfigError(f"{at}: type int needs a whole number; found {checked!r}")
    return checked


def _centre(knob: Knob) -> Scalar:
    """Centre of the range, of the log range on a log knob, the first choice of a categorical."""
    if isinstance(knob, Categorical):
        return knob.choices[0]
    return nearest(knob, from_unit(knob, 0.5), ordinary_domain(knob))


def _goals(model: ConfigModel) -> Goals:
    objectives = _objectives(model)
    logs = {o.name: o.log for o in objectives}
    limits: list[Limit] = []
    for name, limit in model.constraints.items():
        if isinstance(limit, str):
            continue  # a rule between knobs
        if limit.max is None and limit.min is None:
            raise ConfigError(f"constraints.{name}: needs max or min")
        if isinstance(limit.max, float) and isinstance(limit.min, float) and limit.min > limit.max:
            raise ConfigError(f"constraints.{name}: min {limit.min:g} is above max {limit.max:g}; nothing holds both")
        is_log = logs.get(name, limit.min is None and bool(LATENCY_NAME.search(name)))
        if most := _most_trouble(name, model):
            limits.append(Limit(name, 1, most, False, limit.confidence, True, LEAST_TROUBLE * most))
            continue
        for side, bound in ((1, limit.max), (-1, limit.min)):
            if bound is not None:
                limits.append(_limit(name, side, bound, limit.confidence, is_log))
    return Goals(objectives, tuple(limits))


def _most_trouble(name: str, model: ConfigModel) -> float | None:
    """The limit of an outcome that is named after trouble and has 0 as its usual value: near the limit its logarithm
    tells of the cliff, far below there is nothing to tell."""
    limit, o = model.constraints.get(name), (model.objectives or {}).get(name)
    if not isinstance(limit, ConstraintModel) or limit.min is not None or (o and (o.scale or _sign(o) > 0)):
        return None
    named = TROUBLE_NAME.search(name) and not LATENCY_NAME.search(name)
    return limit.max if named and isinstance(limit.max, float) and limit.max > 0.0 else None


def _limit(name: str, side: int, bound: float | str, confidence: float, is_log: bool) -> Limit:
    relative = isinstance(bound, str)
    text = bound.split("*")[0] if isinstance(bound, str) else bound
    try:
        number = float(text)
    except ValueError as error:
        raise ConfigError(f'constraints.{name}: expected a number or "1.1*baseline"; found {bound!r}') from error
    if is_log and number <= 0:
        raise ConfigError(f"constraints.{name}: {number:g} can never hold for an outcome modelled in log space")
    return Limit(name, side, number, relative, confidence, is_log)


def _objectives(model: ConfigModel) -> tuple[Objective, ...]:
    if not model.objectives:
        return (Objective("value", -1, 1.0),)
    unweighted = [name for name, o in model.objectives.items() if o.weight is None]
    if unweighted and len(unweighted) != len(model.objectives):
        raise ConfigError(f"objectives.{unweighted[0]}: weight is missing; give every objective one, or none")
    pareto = len(model.objectives) > 1 and bool(unweighted)
    objectives = []
    for name, o in model.objectives.items():
        by_name = _sign(o) < 0 and (LATENCY_NAME.search(name) or _most_trouble(name, model))
        is_log = (o.scale or ("log" if by_name else "linear")) == "log"
        if o.threshold is not None and not pareto:
            raise ConfigError(f"objectives.{name}.threshold: has a meaning only for several objectives without weights")
        objectives.append(Objective(name, _sign(o), o.weight, is_log, o.threshold, _effect(o.min_effect)))
    return tuple(objectives)


def _sign(o: ObjectiveModel) -> int:
    return 1 if o.direction in ("max", "maximize") else -1


def _effect(given: float | str | None) -> Effect | None:
    match given:
        case None:
            return None
        case str():
            return Effect(share=percent(given))
        case _:
            return Effect(amount=given)


def _guardrails(space: Space, g: GuardrailsModel) -> Guardrails:
    return Guardrails(
        steps=step_limits(space, g),
        min_interval_s=1.0 / g.max_updates_per_second if g.max_updates_per_second else 0.0,
        rollback_on_regression=g.rollback_on_regression,
        min_effect=_effect(g.min_effect),
        windows_to_promote=g.windows_to_promote,
        max_rollbacks_per_hour=g.max_rollbacks_per_hour,
        on_rate_limit=g.on_rate_limit,
    )
