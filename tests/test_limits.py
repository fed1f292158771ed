"""Where one may go: the step box is exactly what the operator's words permit, and ways arrive by legal steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqon_gp import limits
from arqon_gp.config import parse
from arqon_gp.design import spread
from arqon_gp.knobs import Options, Steps, values
from arqon_gp.steps import Absolute, MayChange, Places, Ratio

BOUNDS: dict[str, Any] = {
    "linear": {"min": -3.0, "max": 17.0},
    "log": {"min": 0.1, "max": 1000.0, "scale": "log"},
    "steps": {"min": 0.0, "max": 1.0, "step": 0.05},
    "int": {"type": "int", "min": 3, "max": 40, "step": 3},
    "logint": {"type": "int", "min": 1, "max": 4096, "scale": "log"},
    "policy": {"type": "categorical", "choices": ["a", "b", "c"]},
    "level": {"type": "categorical", "choices": ["off", "low", "mid", "high", "max"], "ordered": True},
    "phase": {"min": -1.0, "max": 2.6, "scale": "periodic"},
    "wide": {"min": 0.0, "max": 1.0, "scale": "periodic"},
    "hour": {"type": "int", "min": 0, "max": 24, "scale": "periodic"},
    "slot": {"min": 0.5, "max": 1.4, "step": 0.1, "scale": "periodic"},
    "frozen": {"min": 0.0, "max": 1.0},
    "free": {"min": 0.0, "max": 1.0},
}
DELTA = {
    "linear": {"up": 2.5, "down": 1.5},
    "log": {"ratio": 1.7},
    "steps": "10%",
    "int": 7,
    "logint": "5%",
    "policy": 1,
    "level": 2,
    "phase": 0.5,
    "wide": "60%",
    "hour": 3,
    "slot": {"up": 0.2, "down": 0.3},
    "frozen": 0,
}
PERIOD = {"phase": 3.6, "wide": 1.0, "hour": 24, "slot": 0.9}
LEVELS = BOUNDS["level"]["choices"]
CONFIG = parse({"seed": 1, "bounds": BOUNDS, "guardrails": {"max_delta": DELTA}})
SPACE = CONFIG.space
assert CONFIG.guardrails is not None
STEPS = CONFIG.guardrails.steps
UNIT = st.lists(st.floats(0.0, 0.999999), min_size=len(BOUNDS), max_size=len(BOUNDS)).map(np.array)


def round_apart(name: str, a: dict[str, Any], b: dict[str, Any]) -> float:
    """The shorter way round."""
    apart: float = abs(a[name] - b[name]) % PERIOD[name]
    return min(apart, PERIOD[name] - apart)


def permitted(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """From the operator's words alone."""
    near = 1.0 + 1e-9
    return (
        abs(LEVELS.index(a["level"]) - LEVELS.index(b["level"])) <= 2
        and round_apart("phase", a, b) <= 0.5
        and round_apart("wide", a, b) <= 0.6
        and round_apart("hour", a, b) <= 3
        and round_apart("slot", a, b) <= 0.2 * near
        and abs(a["linear"] - b["linear"]) <= 1.5 * near
        and max(a["log"], b["log"]) / min(a["log"], b["log"]) <= 1.7 * near
        and abs(a["steps"] - b["steps"]) <= 0.1 * near
        and abs(a["int"] - b["int"]) <= 7
        and (
            abs(a["logint"] - b["logint"]) <= 1
            or max(a["logint"], b["logint"]) / min(a["logint"], b["logint"]) <= 4096**0.05 * near
        )
        and a["frozen"] == b["frozen"]
    )


@given(UNIT, UNIT)
def test_legal_is_what_the_operator_permits(u: np.ndarray, v: np.ndarray) -> None:
    a, b = spread(SPACE, SPACE.whole, u), spread(SPACE, SPACE.whole, v)
    b["frozen"] = a["frozen"] if u[0] < 0.8 else b["frozen"]
    assert limits.legal(SPACE, STEPS, a, b) == permitted(a, b)
    assert limits.legal(SPACE, STEPS, b, a) == permitted(a, b), "the way back is legal too"


@given(UNIT, UNIT, UNIT)
def test_every_point_of_a_box_is_legal_from_every_anchor_and_on_the_grid(
    u: np.ndarray, v: np.ndarray, w: np.ndarray
) -> None:
    here = spread(SPACE, SPACE.whole, u)
    near = spread(SPACE, limits.box(SPACE, STEPS, [here]), v)
    box = limits.box(SPACE, STEPS, [here, near])
    assert not box.empty
    point = spread(SPACE, box, w)
    assert permitted(here, point)
    assert permitted(near, point)
    assert SPACE.contains(point, SPACE.whole)
    assert limits.broken(SPACE, STEPS, [here, near], point) == []


@given(UNIT, UNIT)
def test_what_is_legal_and_on_the_grid_is_in_the_box(u: np.ndarray, v: np.ndarray) -> None:
    a = spread(SPACE, SPACE.whole, u)
    b = spread(SPACE, SPACE.whole, v) | {"frozen": a["frozen"]}
    assert SPACE.contains(b, limits.box(SPACE, STEPS, [a])) == permitted(a, b)
    b |= {name: a[name] for name in BOUNDS if name not in PERIOD}  # now often near
    assert SPACE.contains(b, limits.box(SPACE, STEPS, [a])) == permitted(a, b)


@given(UNIT, UNIT)
def test_a_way_arrives_by_legal_steps(u: np.ndarray, v: np.ndarray) -> None:
    here = spread(SPACE, SPACE.whole, u)
    there = spread(SPACE, SPACE.whole, v) | {"frozen": here["frozen"]}
    count, at = 0, here
    while not SPACE.same(at, there):
        step = limits.step_towards(SPACE, STEPS, at, there)
        assert step is not None
        assert permitted(at, step)
        at, count = step, count + 1
        assert count < 500
    assert limits.steps_between(SPACE, STEPS, here, there) == count


def test_a_frozen_knob_is_never_reached() -> None:
    here = CONFIG.start
    there = here | {"frozen": 0.9}
    assert limits.step_towards(SPACE, STEPS, here, there) is None
    assert limits.steps_between(SPACE, STEPS, here, there) == math.inf
    assert limits.broken(SPACE, STEPS, [here], there) == ["frozen"]


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-17, 2.5, 16.999999999999996])
def test_the_border_of_a_box_is_legal_in_float_arithmetic(value: float) -> None:
    here = CONFIG.start | {"linear": value}
    low, high = (limits.box(SPACE, STEPS, [here]).domains[0].low, limits.box(SPACE, STEPS, [here]).domains[0].high)  # type: ignore[union-attr]
    for border in (low, high):
        assert abs(border - value) <= 1.5
        assert limits.legal(SPACE, STEPS, here, here | {"linear": border})


def test_a_fraction_of_the_steps_is_smaller_but_at_least_one_grid_step() -> None:
    small = limits.scaled(SPACE, STEPS, 0.1)
    box = limits.box(SPACE, small, [CONFIG.start])
    wide = limits.box(SPACE, STEPS, [CONFIG.start])
    low, high = box.domains[0].low, box.domains[0].high  # type: ignore[union-attr]
    assert high - low == pytest.approx(0.1 * (wide.domains[0].high - wide.domains[0].low))  # type: ignore[union-attr]
    steps = box.domains[3]
    assert steps.last - steps.first == 2, "one grid step either way"  # type: ignore[union-attr]
    free = box.domains[-1]
    assert free.high - free.low == pytest.approx(0.2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed_at", "now", "expected"), [(None, 5.0, 0.0), (0.0, 4.0, 6.0), (0.0, 10.0, 0.0), (0.0, 99.0, 0.0)]
)
def test_the_rate_is_an_interval_between_changes(changed_at: float | None, now: float, expected: float) -> None:
    assert limits.retry_after_s(10.0, changed_at, now) == expected
    assert limits.retry_after_s(0.0, 10.0, 5.0) == 0.0, "no limit, whatever the clock says"


def one(knob: dict[str, Any], delta: Any) -> tuple[Any, Any]:
    checked = parse({"seed": 1, "bounds": {"x": knob}, "guardrails": {"max_delta": [delta]}})
    assert checked.guardrails is not None
    return checked.space, checked.guardrails.steps


def test_a_fraction_by_hand() -> None:
    log = {"min": 1, "max": 100, "scale": "log"}
    for knob, delta, expected in (
        (log, {"ratio": 4}, Ratio(2.0)),
        (log, None, Ratio(10.0)),
        (log | {"type": "int"}, None, Ratio(10.0, 1.0)),
        ({"min": 0, "max": 10}, 3, Absolute(1.5)),
        ({"min": 0, "max": 10}, None, Absolute(5.0)),
        ({"min": 0, "max": 10, "step": 2}, 2, Absolute(2.0)),
        ({"type": "bool"}, 1, MayChange(True)),
    ):
        space, steps = one(knob, delta)
        assert limits.scaled(space, steps, 0.5) == (expected,)


@pytest.mark.parametrize(("here", "first", "last"), [(0.6, 5, 7), (0.4, 3, 5), (0.3, 2, 4)])
def test_a_grid_step_is_one_whatever_its_floats_say(here: float, first: int, last: int) -> None:
    """0.6 + 0.1 is 0.7, which is 6.999999999999999 steps of 0.1; 0.4 - 0.1 is 3.0000000000000004."""
    space, steps = one({"min": 0, "max": 1, "step": 0.1}, 0.1)
    assert limits.box(space, steps, [{"x": here}]).domains == (Steps(first, last),)


@pytest.mark.parametrize("knob", [{"min": 0, "max": 10}, {"min": 0.01, "max": 10, "scale": "log"}])
@pytest.mark.parametrize("share", [0.013, 0.1, 0.37])
def test_both_ends_of_a_box_are_legal_from_anywhere(knob: dict[str, Any], share: float) -> None:
    space, steps = one(knob, f"{100 * share}%")
    for value in np.random.default_rng(0).uniform(0.01, 10.0, 500):
        domain = limits.box(space, steps, [{"x": value}]).domains[0]
        for end in (domain.low, domain.high):  # type: ignore[union-attr]
            assert limits.legal(space, steps, {"x": value}, {"x": end})


def test_a_frozen_choice_stays() -> None:
    space, steps = one({"type": "categorical", "choices": ["a", "b"]}, 0)
    assert limits.broken(space, steps, [{"x": "a"}], {"x": "b"}) == ["x"]
    assert limits.legal(space, steps, {"x": "a"}, {"x": "a"})
    assert limits.step_towards(space, steps, {"x": "a"}, {"x": "b"}) is None
    assert limits.steps_between(space, steps, {"x": "a"}, {"x": "b"}) == math.inf


def test_a_way_of_more_than_ten_thousand_steps_is_none() -> None:
    space, steps = one({"min": 0, "max": 1}, 5e-5)
    assert limits.steps_between(space, steps, {"x": 0.0}, {"x": 1.0}) == math.inf
    assert limits.steps_between(space, steps, {"x": 0.0}, {"x": 0.001}) == 20


def test_below_zero_a_log_knob_of_whole_numbers_comes_back_one_by_one() -> None:
    """No ratio leads away from zero, but a percentage is always good for one grid step."""
    space, steps = one({"type": "int", "min": 1, "max": 100, "scale": "log"}, "10%")
    way = [-3]
    while way[-1] < 1:
        there = limits.step_towards(space, steps, {"x": way[-1]}, {"x": 1})
        assert there is not None
        way.append(there["x"])
    assert way == [-3, -2, -1, 0, 1]


def test_a_ratio_is_one_whatever_its_floats_say() -> None:
    """3.3 x 1.5 is 4.949999999999999."""
    space, steps = one({"min": 1, "max": 100, "scale": "log"}, {"ratio": 1.5})
    assert limits.legal(space, steps, {"x": 3.3}, {"x": 4.95})
    assert not limits.legal(space, steps, {"x": 3.3}, {"x": 4.951})


def test_a_frozen_knob_out_of_bounds_has_nowhere_to_go() -> None:
    space, steps = one({"type": "int", "min": 0, "max": 10}, 0)
    assert limits.box(space, steps, [{"x": 12}]).empty
    assert limits.box(space, steps, [{"x": 7}]).single


def test_a_step_never_leads_away_from_where_it_is_to_go() -> None:
    """From 2.1 a ratio of 1.1 reaches no whole number above, and 2 lies the other way."""
    space, steps = one({"type": "int", "min": 10, "max": 100, "scale": "log"}, {"ratio": 1.1})
    assert limits.step_towards(space, steps, {"x": 2.1}, {"x": 10}) is None


@pytest.mark.parametrize(
    ("anchors", "expected"),
    [
        ([23], {20, 21, 22, 23, 0, 1, 2}),
        ([23, 1], {22, 23, 0, 1, 2}),
        ([23, 21, 1], {22, 23, 0}),
        ([23, 11], set()),
    ],
)
def test_an_arc_goes_over_midnight(anchors: list[int], expected: set[int]) -> None:
    space, steps = one({"type": "int", "min": 0, "max": 24, "scale": "periodic"}, 3)
    box = limits.box(space, steps, [{"x": hour} for hour in anchors])
    assert {hour for hour in range(24) if space.contains({"x": hour}, box)} == expected
    assert box.empty == (not expected)
    assert set(values(space.knobs[0], box.domains[0]) or ()) == expected


def test_two_arcs_that_are_left_are_one_box_the_longer_one() -> None:
    space, steps = one({"type": "int", "min": 0, "max": 24, "scale": "periodic"}, 10)
    box = limits.box(space, steps, [{"x": 0}, {"x": 11}])
    assert set(values(space.knobs[0], box.domains[0]) or ()) == set(range(1, 11)), "not 14 to 21"


def test_the_way_round_is_the_shorter_one() -> None:
    space, steps = one({"min": 0, "max": 24, "scale": "periodic"}, 3)
    assert limits.step_towards(space, steps, {"x": 23.0}, {"x": 4.0}) == {"x": pytest.approx(2.0, abs=1e-9)}
    assert limits.step_towards(space, steps, {"x": 4.0}, {"x": 23.0}) == {"x": pytest.approx(1.0, abs=1e-9)}
    assert limits.steps_between(space, steps, {"x": 23.0}, {"x": 4.0}) == 2


def test_an_ordered_knob_moves_place_by_place() -> None:
    knob = {"type": "categorical", "choices": ["off", "low", "mid", "high"], "ordered": True}
    space, steps = one(knob, 1)
    assert limits.box(space, steps, [{"x": "low"}]).domains == (Options(("off", "low", "mid")),)
    assert limits.step_towards(space, steps, {"x": "off"}, {"x": "high"}) == {"x": "low"}
    assert limits.steps_between(space, steps, {"x": "high"}, {"x": "off"}) == 3
    assert limits.scaled(space, one(knob, 3)[1], 0.5) == (Places(1),)
    assert limits.scaled(space, one(knob, None)[1], 0.7) == (Places(2),)
    assert limits.scaled(space, one(knob, 0)[1], 0.5) == (Places(0),)
    space, frozen = one(knob, 0)
    assert limits.step_towards(space, frozen, {"x": "off"}, {"x": "high"}) is None
