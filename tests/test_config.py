"""The config: what every key means, and a clear refusal for everything else."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from arqon_gp import ConfigError, NotSupportedYet, config_schema
from arqon_gp.config import Config, differences, parse
from arqon_gp.objectives import Effect, model_values
from arqon_gp.records import Observation, Role
from arqon_gp.steps import Absolute, MayChange, Places, Ratio

WHOLE: dict[str, Any] = {
    "seed": 42,
    "name": "pool",
    "budget": 500,
    "budget_cost": 1e5,
    "bounds": {
        "pool_size": {"type": "INT", "min": 5, "max": 105, "step": 5, "initial": 20},
        "timeout_ms": {"min": 100, "max": 10000, "scale": "LOG"},
        "ratio": {"type": "float", "min": 0, "max": 1, "scale": "Linear", "step": 0.25},
        "policy": {"type": "categorical", "choices": ["lru", "lfu"]},
        "fsync": {"type": "bool"},
    },
    "initial": {"policy": "lfu"},
    "objectives": {
        "qps": {"direction": "maximize", "weight": 10, "min_effect": "5%"},
        "p99_ms": {"direction": "min", "weight": 1, "min_effect": 3.0},
        "errors": {"direction": "minimize", "weight": 1000, "scale": "log"},
    },
    "constraints": {"p99_ms": {"max": "1.1*baseline", "confidence": 0.9}, "rss_mb": {"max": 512, "min": 10}},
    "guardrails": {
        "preset": "aggressive",
        "max_delta": [10, {"ratio": 1.5}, "50%", 1, 0],
        "max_updates_per_second": 0.1,
        "rollback_on_regression": False,
        "min_effect": "2%",
        "windows_to_promote": 3,
        "max_rollbacks_per_hour": 5,
        "on_rate_limit": "raise",
    },
    "noise": {"p99_ms": "infer", "qps": "exact"},
    "probe_ratio": 0.5,
    "pending_ttl_s": 900.0,
    "settle_s": 5.0,
    "strategy_params": {"anything": ["at", "all"]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The whole config with one key replaced or added; keys of the path are parted by slashes."""
    config = deepcopy(WHOLE)
    *way, last = path.split("/")
    place = config
    for key in way:
        place = place[key]
    place[last] = value
    return config


def small(**more: Any) -> dict[str, Any]:
    return {"seed": 1, "bounds": {"x": {"min": 0, "max": 10}}} | more


def test_every_key_means_what_the_contract_says() -> None:
    config = parse(WHOLE)
    assert (config.rng_seed, config.name, config.budget, config.budget_cost) == (42, "pool", 500, 1e5)
    assert (config.probe_ratio, config.pending_ttl_s, config.settle_s) == (0.5, 900.0, 5.0)
    assert config.exact == {"qps"}
    start = {"pool_size": 20, "timeout_ms": pytest.approx(1000.0), "ratio": 0.5, "policy": "lfu", "fsync": False}
    assert config.start == start
    assert config.initial
    rails = config.guardrails
    assert rails is not None
    assert rails.steps == (Absolute(10), Ratio(1.5), Absolute(0.5), MayChange(True), MayChange(False))
    assert (rails.min_interval_s, rails.rollback_on_regression, rails.min_effect) == (10.0, False, Effect(share=0.02))
    assert (rails.windows_to_promote, rails.max_rollbacks_per_hour, rails.on_rate_limit) == (3, 5, "raise")
    qps, p99, errors = config.goals.objectives
    assert (qps.sign, qps.weight, qps.log, qps.min_effect) == (1, 10, False, Effect(share=0.05))
    assert (p99.sign, p99.log, p99.min_effect) == (-1, True, Effect(amount=3.0))
    assert errors.log
    relative, most, least = config.goals.limits
    assert (relative.outcome, relative.side, relative.value, relative.relative) == ("p99_ms", 1, 1.1, True)
    assert relative.confidence == 0.9
    assert relative.bound({"p99_ms": 20.0}) == pytest.approx(22.0)
    assert (most.side, most.value, least.side, least.value) == (1, 512, -1, 10)


def test_json_dict_and_config_are_the_same_study() -> None:
    assert parse(json.dumps(WHOLE)) == parse(WHOLE)
    assert parse(parse(WHOLE)) == parse(WHOLE)


def test_defaults_are_those_of_the_contract() -> None:
    config = parse(small())
    assert config.budget is None
    assert config.name == "default"
    assert config.probe_ratio == 0.2
    assert config.guardrails is None
    assert config.pending_ttl_s is None
    assert [(o.name, o.sign, o.log) for o in config.goals.objectives] == [("value", -1, False)]
    rails = parse(small(guardrails={})).guardrails
    assert rails is not None
    assert rails.steps == (Absolute(1.0),), "balanced: 10 % of the range"
    assert (rails.min_interval_s, rails.rollback_on_regression, rails.on_rate_limit) == (0.0, True, "hold")
    assert (rails.windows_to_promote, rails.max_rollbacks_per_hour) == (2, 3)
    limit = parse(small(constraints={"y": {"max": 1}})).goals.limits[0]
    assert limit.confidence == 0.95


@pytest.mark.parametrize(
    ("name", "direction", "expected"),
    [
        ("latency", "min", True),
        ("p99_ms", "min", True),
        ("wait_us", "min", True),
        ("time_s", "min", True),
        ("latency", "max", False),
        ("errors", "min", False),
        ("items", "min", False),
    ],
)
def test_minimised_latencies_are_modelled_in_log_space(name: str, direction: str, expected: bool) -> None:
    assert parse(small(objectives={name: direction})).goals.objectives[0].log is expected


@pytest.mark.parametrize(
    ("knob", "delta", "expected"),
    [
        ({"min": 0, "max": 200}, 3.5, Absolute(3.5)),
        ({"min": 0, "max": 200}, "10%", Absolute(20.0)),
        ({"min": 0, "max": 200}, {"up": 10, "down": 5}, Absolute(5)),
        ({"min": 0, "max": 200}, 0, Absolute(0)),
        ({"min": 0, "max": 200}, None, None),
        ({"type": "int", "min": 0, "max": 5}, "10%", Absolute(1.0)),
        ({"type": "int", "min": 0, "max": 5}, 1, Absolute(1)),
        ({"type": "int", "min": 0, "max": 5}, "0%", Absolute(0)),
        ({"type": "int", "min": 1, "max": 5, "scale": "log"}, "0%", Absolute(0)),
        ({"type": "bool"}, "0%", MayChange(False)),
        ({"min": 1, "max": 100, "scale": "log"}, {"ratio": 2}, Ratio(2)),
        ({"min": 1, "max": 100, "scale": "log"}, "50%", Ratio(pytest.approx(10.0), 0.0)),
        ({"type": "int", "min": 1, "max": 100, "scale": "log"}, "1%", Ratio(pytest.approx(100**0.01), 1.0)),
        ({"min": 1, "max": 100, "scale": "log"}, 5, Absolute(5)),
        ({"type": "categorical", "choices": ["a", "b"]}, 1, MayChange(True)),
        ({"type": "categorical", "choices": ["a", "b"]}, "10%", MayChange(True)),
        ({"type": "bool"}, 0, MayChange(False)),
        ({"min": 0, "max": 24, "scale": "PERIODIC"}, "10%", Absolute(pytest.approx(2.4))),
        ({"type": "categorical", "choices": list("abcdef"), "ordered": True}, 2, Places(2)),
        ({"type": "categorical", "choices": list("abcdef"), "ordered": True}, 0, Places(0)),
        ({"type": "categorical", "choices": list("abcdef"), "ordered": True}, "10%", Places(1)),
        ({"type": "categorical", "choices": list("abcdef"), "ordered": True}, "50%", Places(2)),
        ({"type": "categorical", "choices": list("abcdef"), "ordered": True}, "0%", Places(0)),
    ],
)
def test_a_step_limit_in_every_form(knob: dict[str, Any], delta: Any, expected: Any) -> None:
    for form in ([delta], {"x": delta}):
        rails = parse({"seed": 1, "bounds": {"x": knob}, "guardrails": {"max_delta": form}}).guardrails
        assert rails is not None
        assert rails.steps == (expected,)


def test_a_knob_that_max_delta_does_not_name_is_free() -> None:
    bounds = {"x": {"min": 0, "max": 10}, "y": {"min": 0, "max": 10}}
    rails = parse({"seed": 1, "bounds": bounds, "guardrails": {"max_delta": {"y": 2}}}).guardrails
    assert rails is not None
    assert rails.steps == (None, Absolute(2))


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        ({"min": 0, "max": 10}, 5.0),
        ({"min": 1, "max": 100, "scale": "log"}, pytest.approx(10.0)),
        ({"type": "int", "min": 0, "max": 9}, 4),
        ({"type": "categorical", "choices": ["b", "a"]}, "b"),
        ({"type": "bool"}, False),
        ({"min": 0, "max": 1, "initial": 0.25}, 0.25),
    ],
)
def test_a_knob_without_an_initial_value_starts_at_its_centre(knob: dict[str, Any], expected: Any) -> None:
    assert parse({"seed": 1, "bounds": {"x": knob}}).start == {"x": expected}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bounds/pool_size/switch_cost_s", 10),
        ("guardrails/direction_flip_limit", 3),
        ("guardrails/max_cumulative_delta_per_minute", [1]),
        ("guardrails/change_windows", ["02:00-04:00"]),
        ("guardrails/mode", "approve"),
    ],
)
def test_a_key_that_comes_later_is_refused_by_name(path: str, value: Any) -> None:
    with pytest.raises(NotSupportedYet, match="not supported yet") as caught:
        parse(changed(path, value))
    assert path.rpartition("/")[2] in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "path", ["budgets", "bounds/pool_size/maximum", "objectives/qps/wieght", "constraints/p99_ms/maximum"]
)
def test_an_unknown_key_is_named_with_what_is_allowed(path: str) -> None:
    with pytest.raises(ConfigError, match=r"Invalid config: .*allowed: ") as caught:
        parse(changed(path, 1))
    assert f"unknown key '{path.rpartition('/')[2]}'" in str(caught.value)
    with pytest.raises(ConfigError, match=r"Invalid config: guardrails: unknown key 'max_detla'; allowed: preset"):
        parse(changed("guardrails/max_detla", 1))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("bounds/timeout_ms/min", 0, "bounds.timeout_ms: scale log needs min > 0"),
        ("bounds/pool_size/min", 105, "min must be below max"),
        ("bounds/pool_size/min", 5.5, "needs a whole number; found 5.5"),
        ("bounds/pool_size/type", "integer", "found 'integer'"),
        ("bounds/pool_size/choices", [1, 2], "choices need type categorical"),
        ("bounds/policy/choices", [], "a categorical needs choices"),
        ("bounds/policy/choices", ["a", "a"], "each once"),
        ("bounds/policy/min", 1, "min has no meaning for type categorical"),
        ("bounds/fsync/choices", [True], "a bool has no choices"),
        ("bounds/fsync/ordered", True, "ordered has no meaning for type bool"),
        ("bounds/pool_size/ordered", True, "ordered needs type categorical with choices; found type int"),
        ("bounds/policy/scale", "periodic", "scale has no meaning for type categorical"),
        ("bounds/ratio", {"min": 0, "max": 1, "step": 0.3, "scale": "Periodic"}, "step 0.3 does not divide 1"),
        ("bounds/ratio/step", 3, "wider than the range"),
        ("bounds", {}, "at least 1"),
        ("seed", -1, "found -1"),
        ("seed", "x", "found 'x'"),
        ("budget", 1.5, "found 1.5"),
        ("initial", {"pool_size": 25}, "two initial values: 25 in initial, 20 in bounds"),
        ("initial", {"nothing": 1}, "initial.nothing: no such knob; the knobs are pool_size"),
        ("initial", {"timeout_ms": 50}, "outside 100..10000"),
        ("initial", {"policy": "mru"}, "the choices are"),
        ("objectives/qps", {"direction": "up"}, "objectives.qps.direction"),
        ("objectives/qps", {"direction": "max"}, "weight is missing; give every objective one, or none"),
        ("objectives/qps/threshold", 3, "has a meaning only for several objectives without weights"),
        ("constraints/p99_ms", {}, "needs max or min"),
        ("constraints/p99_ms", {"max": "baseline*1.1"}, '"1.1*baseline"'),
        ("constraints/p99_ms", {"max": -1}, "can never hold"),
        ("guardrails/max_delta", [1, 2], "expected 5 limits, one a knob; found 2"),
        ("guardrails/max_delta", {"pool": 1}, "no such knob"),
        ("guardrails/max_delta", [3, None, None, None, None], "below one grid step of pool_size (5)"),
        ("guardrails/max_delta", {"ratio": {"ratio": 2}}, "a ratio needs a log knob"),
        ("guardrails/max_delta", {"policy": 2}, "0 freezes it, 1 lets it change"),
        ("guardrails/max_delta", {"pool_size": "much"}, "expected a number >= 0"),
        ("guardrails/max_delta", {"pool_size": -1}, "expected a number >= 0"),
        ("guardrails/on_rate_limit", "skip", "found 'skip'"),
        (
            "guardrails/max_delta",
            {"timeout_ms": {"ratio": 1}},
            "timeout_ms: expected a ratio above 1; found {'ratio': 1}",
        ),
        (
            "guardrails/max_delta",
            {"ratio": {"up": 1}},
            "ratio: expected ratio, or up and down, or special alone; found {'up': 1}",
        ),
        ("guardrails/max_delta", {"ratio": {"up": 1, "down": -1}}, "expected up and down >= 0"),
        ("guardrails/max_delta", {"ratio": {"raito": 2}}, "unknown key 'raito'; allowed: ratio, up, down"),
        ("bounds/pool_size", [5, 105], "bounds.pool_size: expected an object; found [5, 105]"),
        ("bounds/timeout_ms/initial", 5, "bounds.timeout_ms.initial: 5 is outside 100..10000"),
        ("initial", {"timeout_ms": True}, "initial.timeout_ms: True is not a finite number"),
        ("guardrails", True, "guardrails: expected an object; found True"),
        (
            "constraints/p99_ms",
            200,
            'constraints.p99_ms: expected {"max": ...} or {"min": ...}, or a comparison of knobs',
        ),
        ("constraints/rss_mb", {"min": 2, "max": 1}, "constraints.rss_mb: min 2 is above max 1; nothing holds both"),
        ("noise", {"rtt": "exact"}, "noise.rtt: no such outcome"),
        ("probe_ratio", 1.5, "found 1.5"),
    ],
)
def test_a_bad_value_is_refused_with_path_found_and_remedy(path: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed(path, value))
    assert str(caught.value).startswith("Invalid config: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '"seed"', "12", "{}", '{"seed": 1}'])
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^Invalid config: "):
        parse(text)


def test_the_schema_takes_what_the_parser_takes() -> None:
    schema = config_schema()
    json.dumps(schema)
    jsonschema.validate(small(budget=5), schema)
    jsonschema.validate(small(guardrails={"max_delta": [{"up": 1, "down": 2}]}), schema)
    for bad in (small(budgets=5), small(budget="5"), {"seed": 1}, small(guardrails={"mode": "auto"})):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_a_config_is_a_value() -> None:
    a, b = parse(WHOLE), parse(changed("seed", 43))
    assert {a, parse(WHOLE)} == {a}
    assert a != b
    assert isinstance(a, Config)
    with pytest.raises(AttributeError):
        a.budget = 1  # type: ignore[misc]


def test_the_rate_is_changes_a_second() -> None:
    rails = parse(small(guardrails={"max_updates_per_second": 4})).guardrails
    assert rails is not None
    assert rails.min_interval_s == pytest.approx(0.25)
    assert math.isfinite(rails.min_interval_s)


@pytest.mark.parametrize(("preset", "share"), [("conservative", 0.05), ("balanced", 0.1), ("aggressive", 0.2)])
def test_a_preset_is_a_share_of_each_range(preset: str, share: float) -> None:
    rails = parse(small(guardrails={"preset": preset})).guardrails
    assert rails is not None
    assert rails.steps == (Absolute(pytest.approx(10 * share)),)


def test_a_ratio_that_cannot_move_the_lowest_value_is_refused() -> None:
    """From 10 an int moves to 11 only by a factor of 1.1."""
    knob = {"type": "int", "min": 10, "max": 1000, "scale": "log"}
    with pytest.raises(
        ConfigError, match=r"ratio 1.05 cannot move x one grid step \(1\) up from 10; give at least 1.1"
    ):
        parse({"seed": 1, "bounds": {"x": knob}, "guardrails": {"max_delta": [{"ratio": 1.05}]}})
    parse({"seed": 1, "bounds": {"x": knob}, "guardrails": {"max_delta": [{"ratio": 1.1}]}})


@pytest.mark.parametrize(
    ("objectives", "constraints", "floor"),
    [
        ({"error_rate": "min"}, {"error_rate": {"max": 0.01}}, 1e-4),
        ({"qps": "max"}, {"dropped": {"max": 5}}, 0.05),
        ({"error_rate": {"direction": "min", "scale": "linear"}}, {"error_rate": {"max": 0.01}}, None),
        ({"error_rate": "max"}, {"error_rate": {"max": 0.01}}, None),
        ({"qps": "max"}, {"error_rate": {"max": 0.01, "min": 0.001}}, None),
        ({"qps": "max"}, {"error_rate": {"max": "1.1*baseline"}}, None),
        ({"error_rate": "min"}, {}, None),
        ({"qps": "max"}, {"memory_mb": {"max": 100}}, None),
    ],
)
def test_trouble_with_a_maximum_is_modelled_in_log_space_above_a_hundredth_of_it(
    objectives: dict[str, Any], constraints: dict[str, Any], floor: float | None
) -> None:
    bounds = {"x": {"min": 0, "max": 1}}
    goals = parse({"seed": 1, "bounds": bounds, "objectives": objectives, "constraints": constraints}).goals
    name = goals.modelled[-1]
    assert (name in goals.logs) == (floor is not None)
    assert goals.positive == frozenset(), "0 is a value"
    if floor is not None:
        assert goals.to_model(name, 0.0) == goals.to_model(name, floor) == pytest.approx(math.log(floor))
        assert goals.to_model(name, 3.0 * floor) == pytest.approx(math.log(3.0 * floor))
        rows = [Observation({"x": 0.0}, dict.fromkeys(goals.modelled, v), Role.WARM) for v in (0.0, 3.0 * floor)]
        assert model_values(rows, goals)[:, -1] == pytest.approx([math.log(floor), math.log(3.0 * floor)])
        assert [round(bound, 9) for *_, bound in goals.bounds({})] == [round(math.log(100.0 * floor), 9)]


def test_a_limit_from_above_on_a_latency_that_is_no_objective_is_modelled_in_log_space() -> None:
    limits = {"p99_ms": {"max": 200}, "wait_s": {"min": 1}, "rss": {"max": 5}}
    assert [limit.log for limit in parse(small(constraints=limits)).goals.limits] == [True, False, False]
    given = small(constraints=limits, objectives={"p99_ms": {"direction": "min", "scale": "linear"}})
    assert [limit.log for limit in parse(given).goals.limits] == [False, False, False], "the objective says how"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("budget", "500"),
        ("seed", True),
        ("bounds/pool_size/min", "5"),
        ("guardrails/rollback_on_regression", 1),
        ("bounds/timeout_ms/max", math.inf),
        ("settle_s", math.nan),
    ],
)
def test_nothing_is_taken_for_what_it_is_not(path: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"found {value!r}"):
        parse(changed(path, value))


def test_a_default_that_is_spelled_out_is_no_difference() -> None:
    spelled = small(budget=None, probe_ratio=0.2, name="default", constraints={})
    assert parse(spelled).canonical == parse(small()).canonical
    assert parse(small()).canonical == '{"seed":1,"bounds":{"x":{"min":0.0,"max":10.0}}}', "nor will a new key be one"


def test_differences_name_what_is_only_in_one_and_an_order_that_has_a_meaning() -> None:
    bounds = {"x": {"min": 0.0, "max": 1.0}, "y": {"min": 0.0, "max": 1.0}}
    a = {"seed": 1, "bounds": bounds, "noise": {"p": "exact", "q": "exact"}}
    b = {"seed": 1, "bounds": dict(reversed(bounds.items())), "noise": {"q": "exact", "p": "exact"}, "budget": 5}
    said = differences(json.dumps(a), json.dumps(b))
    assert said.startswith('bounds: {"x"')
    assert said.endswith("budget: null in the journal, 5 given")
    assert "noise" not in said
    assert differences(json.dumps(a), json.dumps(a)) == ""
