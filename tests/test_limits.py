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

BOUNDS: dict[str, Any] = {
    "linear": {"min": -3.0, "max": 17.0},
    "log": {"min": 0.1, "max": 1000.0, "scale": "log"},
    "steps": {"min": 0.0, "max": 1.0, "step": 0.05},
    "int": {"type": "int", "min": 3, "max": 40, "step": 3},
    "logint": {"type": "int", "min": 1, "max": 4096, "scale": "log"},
    "policy": {"type": "categorical", "choices": ["a", "b", "c"]},
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
    "frozen": 0,
}
CONFIG = parse({"seed": 1, "bounds": BOUNDS, "guardrails": {"max_delta": DELTA}})
SPACE = CONFIG.space
assert CONFIG.guardrails is not None
STEPS = CONFIG.guardrails.steps
UNIT = st.lists(st.floats(0.0, 0.999999), min_size=len(BOUNDS), max_size=len(BOUNDS)).map(np.array)


def permitted(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """From the operator's words alone."""
    near = 1.0 + 1e-9
    return (
        abs(a["linear"] - b["linear"]) <= 1.5 * near
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
    free = box.domains[7]
    assert free.high - free.low == pytest.approx(0.2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed_at", "now", "expected"), [(None, 5.0, 0.0), (0.0, 4.0, 6.0), (0.0, 10.0, 0.0), (0.0, 99.0, 0.0)]
)
def test_the_rate_is_an_interval_between_changes(changed_at: float | None, now: float, expected: float) -> None:
    assert limits.retry_after_s(10.0, changed_at, now) == expected
