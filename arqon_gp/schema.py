"""The form of the config's JSON: its keys and the type of each; what they mean together is config.py's.

Public: ConfigModel and its sections, validate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from arqon_gp.errors import ConfigError, NotSupportedYet

TOLD = {"later": 0, "unknown": 1, "form": 2}  # our own error types, the one that says most first


class _Section(BaseModel):
    """A JSON object whose unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _refuse_keys(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        for key in given:
            if key in cls.later:
                raise PydanticCustomError("later", "{key}", {"key": key})
            if key not in cls.model_fields:
                allowed = ", ".join(cls.model_fields)
                raise PydanticCustomError(
                    "unknown", "unknown key '{key}'; allowed: {allowed}", {"key": key, "allowed": allowed}
                )
        return given


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _or_say(expected: str) -> WrapValidator:
    """Of a union only the wanted forms are told, not the failure of each branch; a refused key is told as it is."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError as error:
            if any(e["type"] in TOLD for e in error.errors()):
                raise
            raise PydanticCustomError("form", "expected {expected}", {"expected": expected}) from None

    return WrapValidator(check)


Percent = Annotated[str, Field(pattern=r"^\s*\d+(\.\d+)?\s*%\s*$")]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Choice = bool | int | float | str
EffectSize = Annotated[Positive | Percent, _or_say('a number > 0 or a percentage like "5%"')]
Bound = Annotated[
    float | Annotated[str, Field(pattern=r"^\s*[0-9.eE+-]+\s*\*\s*baseline\s*$")],
    _or_say('a number or "1.1*baseline"'),
]


class BoundModel(_Section):
    """One knob. `type` absent means float."""

    later = frozenset({"switch_cost_s"})
    type: Annotated[Literal["float", "int", "categorical", "bool"], BeforeValidator(_lower)] = "float"
    min: float | None = None
    max: float | None = None
    scale: Annotated[Literal["linear", "log", "periodic"], BeforeValidator(_lower)] = "linear"
    step: Positive | None = None
    choices: list[Choice] | None = None
    ordered: bool = False
    special: list[float] = []
    active_if: Annotated[dict[str, Choice | list[Choice]], Field(min_length=1)] | None = None
    initial: Choice | None = None


class ContextModel(_Section):
    """What is observed and nobody controls: a number from min to max, or one that begins again after each period."""

    min: float | None = None
    max: float | None = None
    scale: Annotated[Literal["linear", "log"], BeforeValidator(_lower)] = "linear"
    period: Positive | None = None


class ObjectiveModel(_Section):
    """One objective: a direction with what may go with it."""

    direction: Annotated[Literal["minimize", "maximize", "min", "max"], BeforeValidator(_lower)]
    weight: Positive | None = None
    scale: Annotated[Literal["linear", "log"], BeforeValidator(_lower)] | None = None
    threshold: float | None = None
    min_effect: EffectSize | None = None


class ConstraintModel(_Section):
    """A limit on an outcome: a number, or `"1.1*baseline"`."""

    max: Bound | None = None
    min: Bound | None = None
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class StepModel(_Section):
    """A ratio (log knobs), or up and down: the way back must be legal too, so the reach is the smaller of both; and
    whether the knob may enter and leave its special values, and gain and lose its effect."""

    ratio: float | None = None
    up: float | None = None
    down: float | None = None
    special: Literal[0, 1] | None = None

    @model_validator(mode="after")
    def _check(self) -> StepModel:
        given = (self.ratio is not None, self.up is not None, self.down is not None)
        alone = self.special is not None and not any(given)
        if given not in ((True, False, False), (False, True, True)) and not alone:
            raise PydanticCustomError("form", "expected ratio, or up and down, or special alone", {})
        if self.ratio is not None and self.ratio <= 1:
            raise PydanticCustomError("form", "expected a ratio above 1", {})
        if min(self.up or 0.0, self.down or 0.0) < 0:
            raise PydanticCustomError("form", "expected up and down >= 0", {})
        return self


Delta = Annotated[
    NotNegative | Percent | StepModel | None,
    _or_say('a number >= 0, a percentage like "10%", {"ratio": 1.5} or {"up": 10, "down": 5}, each with "special": 1'),
]
Deltas = Annotated[list[Delta] | dict[str, Delta], _or_say("a list in the order of bounds, or an object by knob name")]


class GuardrailsModel(_Section):
    """What the operator permits."""

    later = frozenset({"direction_flip_limit", "max_cumulative_delta_per_minute", "change_windows", "mode"})
    preset: Literal["conservative", "balanced", "aggressive"] = "balanced"
    max_delta: Deltas | None = None
    max_updates_per_second: Positive | None = None
    rollback_on_regression: bool = True
    min_effect: EffectSize | None = None
    windows_to_promote: Annotated[int, Field(ge=1)] = 2
    max_rollbacks_per_hour: Annotated[int, Field(ge=0)] = 3
    on_rate_limit: Literal["hold", "wait", "raise"] = "hold"


def _direction_alone(value: object) -> object:
    return {"direction": value} if isinstance(value, str) else value


Rule = Annotated[str, Field(max_length=500)]  # short enough that no tree of it is deep


class _Strategy(BaseModel):
    """Free-form; `max_ask_s` is ours: seconds an ask may take."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    max_ask_s: Positive | None = None


class ExplorationModel(_Section):
    """What exploring may cost."""

    slo_minutes_per_day: Annotated[float, Field(ge=0, le=1440)]


class ConfigModel(_Section):
    """The config of a study."""

    seed: Annotated[int, Field(ge=0)]
    bounds: Annotated[dict[str, BoundModel], Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)] = "default"
    budget: Annotated[int, Field(ge=0, le=2**53)] | None = None
    budget_cost: Positive | None = None
    initial: dict[str, Choice] | None = None
    objectives: (
        Annotated[
            dict[str, Annotated[ObjectiveModel, BeforeValidator(_direction_alone)]], Field(min_length=1, max_length=4)
        ]
        | None
    ) = None
    constraints: dict[
        str,
        Annotated[
            ConstraintModel | Rule,
            _or_say('{"max": ...} or {"min": ...}, or a comparison of knobs such as "min_idle <= pool_size"'),
        ],
    ] = {}
    context: dict[str, ContextModel] = {}
    guardrails: GuardrailsModel | None = None
    noise: dict[str, Literal["infer", "exact"]] = {}
    probe_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    exploration_budget: (
        Annotated[
            Annotated[float, Field(ge=0, le=1)] | ExplorationModel,
            _or_say('a share of the windows from 0 to 1, or {"slo_minutes_per_day": 0 to 1440}'),
        ]
        | None
    ) = None
    pending_ttl_s: Positive | None = None
    settle_s: NotNegative = 0.0
    strategy_params: _Strategy | None = None


# ---- checking ----------------------------------------------------------------------------------------------------


def validate(config: Mapping[str, Any]) -> ConfigModel:
    """A config of the right form; ConfigError names the path, what was found and what is allowed."""
    try:
        return ConfigModel.model_validate(dict(config))
    except ValidationError as error:
        raise _as_config_error(error) from error


def _as_config_error(error: ValidationError) -> ConfigError:
    first = _closest(error)
    path = ".".join(str(part) for part in first["loc"] if not _is_union_tag(str(part)))
    where = f"{path}: " if path else ""
    if first["type"] == "later":
        return NotSupportedYet(f"{where}{first['msg']} is not supported yet; remove it")
    if first["type"] == "missing":
        return ConfigError(f"{where}is required")
    found = "" if first["type"] == "unknown" else f"; found {first['input']!r:.80}"
    said = "expected an object" if first["type"] in ("model_type", "dict_type") else first["msg"]
    return ConfigError(f"{where}{said}{found}")


def _closest(error: ValidationError) -> Any:
    """The error that says most: of a union's branches the one that got deepest, a named key before a type mismatch."""
    return min(error.errors(), key=lambda e: (TOLD.get(e["type"], 9), -len(e["loc"]) if e["type"] in TOLD else 0))


def _is_union_tag(part: str) -> bool:
    return part.startswith(("_", "function-", "constrained-", "list[", "dict[")) or part in {
        "float",
        "int",
        "str",
        "bool",
        "ExplorationModel",
    }
