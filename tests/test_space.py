"""Native values and the unit cube, there and back; points by index that are the same in any process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqon_gp import ArqonProbe, ConfigError, RequestError, maximize
from arqon_gp.config import parse
from arqon_gp.design import sobol, spread
from arqon_gp.knobs import (
    Categorical,
    Integer,
    Interval,
    Options,
    Real,
    Steps,
    check_value,
    coordinates,
    grid_size,
    holds,
    nearest,
    unit,
    unit_all,
    values,
    whole_domain,
)
from arqon_gp.space import Box

BOUNDS: dict[str, Any] = {
    "x": {"min": -2.0, "max": 6.0},
    "log": {"min": 0.1, "max": 1000.0, "scale": "log"},
    "steps": {"min": 0.1, "max": 1.0, "step": 0.1},
    "n": {"type": "int", "min": 3, "max": 40},
    "policy": {"type": "categorical", "choices": ["a", 2, True]},
    "on": {"type": "bool"},
    "level": {"type": "categorical", "choices": ["low", "mid", "high"], "ordered": True},
    "phase": {"min": -1.0, "max": 3.0, "scale": "periodic"},
    "hour": {"type": "int", "min": 0, "max": 24, "scale": "periodic"},
}
CONFIG = {"seed": 1, "bounds": BOUNDS}
SPACE = parse(CONFIG).space
UNIT = st.lists(st.floats(0.0, 0.999999), min_size=len(BOUNDS), max_size=len(BOUNDS)).map(np.array)


@given(UNIT)
def test_a_config_comes_back_from_the_unit_cube(u: np.ndarray) -> None:
    params = spread(SPACE, SPACE.whole, u)
    x = SPACE.encode(params)
    assert ((x >= 0) & (x <= 1)).all()
    assert SPACE.same(SPACE.decode(x, SPACE.whole), params)
    assert SPACE.check(params) == params


def test_encodings_by_hand() -> None:
    params = {"x": 0.0, "log": 10.0, "steps": 0.4, "n": 3, "policy": 2, "on": True, "level": "mid"}
    params |= {"phase": 2.0, "hour": 18}
    assert SPACE.encode(params) == pytest.approx([0.25, 0.5, 1 / 3, 0.0, 0.5, 1.0, 0.5, 0.75, 0.75])
    assert spread(SPACE, SPACE.whole, np.zeros(9)) == {
        "x": -2.0, "log": pytest.approx(0.1), "steps": 0.1, "n": 3, "policy": "a", "on": False,
        "level": "low", "phase": -1.0, "hour": 0,
    }  # fmt: skip


def test_a_log_knob_at_zero_or_below_encodes_like_its_lower_bound() -> None:
    knob = Real("x", 0.1, 1000.0, log=True)
    assert [unit(knob, value) for value in (0.0, -5.0, 0.1)] == [0.0, 0.0, 0.0]


def test_what_is_absurdly_far_out_encodes_as_far_out_as_the_bounds_are_apart() -> None:
    assert unit_all(Real("x", 0.0, 10.0), [1e300, -1e300, 12.0]).tolist() == [2.0, -1.0, 1.2]
    assert unit_all(Real("x", 0.1, 1000.0, log=True), [1e300, 1e-300]).tolist() == [2.0, -1.0]
    assert unit_all(Real("time", 0.0, 100.0, passing=True), [1000.0]) == 10.0, "but for time, which goes on"


def test_whatever_the_optimizer_asks_for_is_decoded_into_the_box() -> None:
    assert SPACE.decode([1e9] * 9, SPACE.whole)["log"] == 1000.0
    assert SPACE.decode([-1e9] * 9, SPACE.whole)["log"] == pytest.approx(0.1)


def test_a_grid_ends_at_its_upper_bound_whatever_its_floats_say() -> None:
    """0.3 / 0.1 is 2.9999999999999996."""
    assert [grid_size(knob) for knob in (Real("x", 0.0, 0.3, step=0.1), Real("x", 0.0, 1.0, step=0.25))] == [4, 5]
    assert grid_size(Real("x", 0.0, 1.0, step=0.3)) == 4, "0, 0.3, 0.6 and 0.9"
    assert whole_domain(Integer("n", 3, 11, step=4)) == Steps(0, 2)
    assert values(Integer("n", 3, 11, step=4), Steps(0, 2)) == [3, 7, 11]


def test_the_nearest_value_lies_in_its_domain() -> None:
    grid, number = Real("x", 0.0, 10.0, step=0.5), Integer("n", 0, 10)
    assert [nearest(grid, value, Steps(2, 4)) for value in (-3.0, 1.3, 1.25, 99.0)] == [1.0, 1.5, 1.0, 2.0]
    assert [nearest(number, value, Interval(2.0, 4.0)) for value in (1.0, 99.0)] == [2, 4]
    assert type(nearest(number, 1.0, Interval(2.0, 4.0))) is int
    assert nearest(number, 3.0, Interval(2.5, 2.5)) == 2.5, "off the grid, where that is all there is"


def test_a_grid_domain_holds_its_grid_points_alone() -> None:
    grid = Real("x", 0.0, 10.0, step=0.1)
    assert holds(grid, 0.1 + 0.2, Steps(0, 3))
    assert not holds(grid, 0.25, Steps(0, 3))
    assert not holds(grid, 0.4, Steps(0, 3))
    assert not holds(grid, 0.0, Steps(1, 3))


def test_a_box_is_empty_when_one_knob_has_nowhere_to_go_and_single_when_none_can_move() -> None:
    some, point, none = Interval(0.0, 1.0), Interval(1.0, 1.0), Interval(1.0, 0.0)
    assert [Box((some, none)).empty, Box((some, point)).empty] == [True, False]
    assert [Box((Steps(2, 1), some)).empty, Box((Options(()), some)).empty] == [True, True]
    assert [Box((point, Steps(2, 2), Options(("a",)))).single, Box((point, some)).single] == [True, False]


@pytest.mark.parametrize("value", [True, np.bool_(True), math.inf, "5", None, [5], np.array([5.0])])
def test_what_is_no_number_is_no_value_of_a_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"x: .* is not a finite number"):
        check_value(Real("x", 0.0, 10.0), value)


def test_a_choice_is_found_by_its_value_and_nothing_else() -> None:
    knob = Categorical("on", (False, True))
    assert check_value(knob, np.bool_(True)) is True
    for value in (np.array([True]), None, "True"):
        with pytest.raises(ValueError, match="is no choice"):
            check_value(knob, value)


def test_native_types_are_kept() -> None:
    params = SPACE.check(
        {"x": 1, "log": np.float32(1.0), "steps": 0.3, "n": 7.0, "policy": True, "on": False}
        | {"level": "mid", "phase": 1, "hour": 24.0}
    )
    assert [type(v) for v in params.values()] == [float, float, float, int, bool, bool, str, float, int]


def test_a_decoded_grid_value_is_the_one_people_write() -> None:
    u = np.array([0.5, 0.5, 0.25, *[0.5] * 6])
    assert spread(SPACE, SPACE.whole, u)["steps"] == 0.3, "not 0.30000000000000004"


PROGRAM = """
import json, sys
from arqon_gp import ArqonProbe
print(json.dumps(ArqonProbe(json.loads(sys.argv[1]), seed=9).sample_range(1000, 3)))
"""


def test_a_probe_gives_the_same_points_by_index_in_any_process() -> None:
    probe = ArqonProbe(json.dumps(CONFIG), seed=9)
    points = probe.sample_range(1000, 3)
    assert points == [probe.sample_at(1000 + i) for i in range(3)]
    env = os.environ | {"PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(CONFIG)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == points


def test_probe_points_fill_the_space_evenly() -> None:
    points = ArqonProbe(CONFIG, seed=3).sample_range(0, 400)
    x = np.array([p["x"] for p in points])
    counts, _ = np.histogram(x, bins=8, range=(-2, 6))
    assert counts.min() >= 45, "50 each, and no clumps"
    assert {p["policy"] for p in points} == {"a", 2, True}
    assert all(SPACE.contains(p, SPACE.whole) for p in points)


def test_a_probe_refuses_what_it_cannot_answer() -> None:
    with pytest.raises(RequestError, match="index: expected >= 0, found -1"):
        ArqonProbe(CONFIG).sample_at(-1)
    with pytest.raises(RequestError, match="count: expected >= 0"):
        ArqonProbe(CONFIG).sample_range(0, -2)
    with pytest.raises(TypeError, match="expected an int"):
        ArqonProbe(CONFIG).sample_at(1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        ArqonProbe("{}")


def test_sobol_points_depend_on_seed_and_stream_alone_and_fill_the_cube() -> None:
    a = sobol(3, 64, rng_seed=5)
    np.testing.assert_array_equal(sobol(3, 16, rng_seed=5), a[:16])
    assert not np.array_equal(sobol(3, 64, rng_seed=6), a)
    assert not np.array_equal(sobol(3, 64, rng_seed=5, stream=1), a)
    assert (np.histogramdd(a, bins=2, range=[(0, 1)] * 3)[0] == 8).all(), "a (t, m, s)-net"


def test_on_a_periodic_knob_the_upper_bound_is_the_lower_one() -> None:
    phase, hour = SPACE.knobs[-2:]
    assert [check_value(phase, value) for value in (3.0, -1.0, 3.5, -1.5)] == [-1.0, -1.0, -0.5, 2.5]
    assert [check_value(hour, value) for value in (24, 25, -1, 24.0)] == [0, 1, 23, 0]
    assert check_value(phase, math.nextafter(-1.0, -2.0)) == -1.0, "rounding goes nowhere"
    assert values(hour, whole_domain(hour)) == list(range(24)), "24 is 0 and stands there once"
    assert SPACE.decode([0.0] * 7 + [1.0, 1.0], SPACE.whole)["hour"] == 0
    near = {"hour": 0, "phase": -1.0}, {"hour": 0, "phase": 3.0 - 1e-12}
    whole = {knob.name: values(knob, whole_domain(knob)) for knob in SPACE}
    rest = {name: options[0] if options else 0.5 for name, options in whole.items()}
    assert SPACE.same(rest | near[0], rest | near[1])


def test_an_arc_is_searched_in_one_piece() -> None:
    phase, hour = SPACE.knobs[-2:]
    assert coordinates(phase, Interval(2.5, 3.5)) == pytest.approx([0.875, 1.125])
    assert coordinates(hour, Steps(-1, 1)) == pytest.approx([-1 / 24, 0, 1 / 24])
    assert values(hour, Steps(-1, 1)) == [23, 0, 1]
    assert [nearest(hour, value, Steps(-1, 1)) for value in (22, 23.4, 0.4, 2, 9)] == [23, 23, 0, 1, 1]
    assert [nearest(phase, value, Interval(2.5, 3.5)) for value in (2.0, 2.75, -1.0, -0.75, 0.5)] == [
        2.5, 2.75, -1.0, -0.75, -0.5,
    ]  # fmt: skip
    assert [holds(phase, value, Interval(2.5, 3.5)) for value in (2.4, 2.6, -1.0, -0.4)] == [False, True, True, False]
    assert not holds(phase, 3.0, Interval(2.5, 3.5)), "written as -1"
    assert coordinates(phase, whole_domain(phase)) == [-0.5, 1.5], "cut open nowhere"


def test_good_points_beyond_the_seam_are_searched_around(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def starts(domain: Any, good: np.ndarray, *_: Any) -> np.ndarray:
        seen.append(good)
        raise RuntimeError

    monkeypatch.setattr(maximize, "_starts", starts)
    space = parse({"seed": 1, "bounds": {"h": {"min": 0, "max": 24, "scale": "periodic"}, "x": {"min": 0, "max": 1}}})
    box = Box((Interval(22.0, 26.0), Interval(0.0, 1.0)))
    with pytest.raises(RuntimeError):
        maximize.maximize(
            SimpleNamespace(goal=0),  # type: ignore[arg-type]
            space.space, box, np.array([[1 / 24, 0.9], [23 / 24, 0.1]]), np.random.default_rng(0),
        )  # fmt: skip
    np.testing.assert_allclose(seen[0], [[25 / 24, 0.9], [23 / 24, 0.1]])
