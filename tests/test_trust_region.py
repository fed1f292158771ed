"""The model's trust region: after which failures, how wide, and never in the guard's way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arqon_gp import choice, limits
from arqon_gp.config import parse
from arqon_gp.knobs import Interval, Options, Split, Steps
from arqon_gp.space import Box
from arqon_gp.trust_region import MANY_KNOBS, side_after, trusted
from tests.conftest import Make

D = MANY_KNOBS
BOUNDS = {f"k{i}": {"min": 0, "max": 1} for i in range(D)}
FREE: dict[str, Any] = {"seed": 1, "probe_ratio": 0.0, "bounds": BOUNDS, "budget": 500}


def test_d_failures_shrink_it_and_each_d_more_halve_it_until_the_whole_space_is_searched_again() -> None:
    sides = [side_after(failures, 3) for failures in range(0, 27, 3)]
    assert sides == [None, 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125, None]
    assert [side_after(failures, 3) for failures in (2, 5, 24, 27)] == [None, 0.8, None, 0.8]


def box_of(bounds: dict[str, Any], incumbent: dict[str, Any], scales: list[float], side: float, **within: Any) -> Box:
    space = parse({"seed": 1, "bounds": bounds}).space
    whole = dict(zip(space.names, space.whole.domains, strict=True)) | within
    return trusted(space, Box(tuple(whole[name] for name in space.names)), incumbent, np.array(scales), side)


def test_its_sides_are_in_proportion_to_the_lengthscales() -> None:
    bounds = {"a": {"min": 0, "max": 10}, "b": {"min": 0, "max": 10}}
    box = box_of(bounds, {"a": 5.0, "b": 5.0}, [0.25, 1.0], 0.4)
    assert [(d.low, d.high) for d in box.domains if isinstance(d, Interval)] == [
        pytest.approx((4.0, 6.0)),  # a mean side of 0.4, and the one four times the other: 0.2 and 0.8
        pytest.approx((1.0, 9.0)),
    ]
    beyond = box_of(bounds, {"a": 5.0, "b": 5.0}, [0.5, 1e4], 0.4)
    assert beyond == box_of(bounds, {"a": 5.0, "b": 5.0}, [0.5, 2.0], 0.4), "a knob that does nothing is no wider"


def test_every_kind_of_knob_has_its_place_in_it() -> None:
    bounds: dict[str, Any] = {
        "log": {"min": 1, "max": 10_000, "scale": "log"},
        "whole": {"min": 0, "max": 100, "type": "int"},
        "coarse": {"min": 0, "max": 100, "type": "int", "step": 50},
        "choice": {"type": "categorical", "choices": ["a", "b"]},
        "off": {"min": 10, "max": 20, "special": [0]},
        "hour": {"min": 0, "max": 24, "scale": "periodic"},
    }
    at = {"log": 100.0, "whole": 50, "coarse": 50, "choice": "a", "off": 15.0, "hour": 23.0}
    log, whole, coarse, choice, off, hour = box_of(bounds, at, [1.0, 1.0, 1.0, 0.001, 1.0, 1.0], 0.5).domains
    assert isinstance(log, Interval)
    assert (log.low, log.high) == pytest.approx((10.0, 1000.0))
    assert (whole, choice) == (Steps(25, 75), Options(("a", "b")))
    assert coarse == Steps(0, 2), "never less than a grid step"
    assert isinstance(off, Split)
    assert isinstance(off.ordinary, Interval)
    assert (off.special, off.ordinary.low, off.ordinary.high) == ((0,), 12.5, 17.5)
    assert isinstance(hour, Interval)
    assert hour.high - hour.low == pytest.approx(12.0), "round the end of the day"


def test_what_the_guard_permits_is_never_left_and_never_emptied() -> None:
    bounds = {"a": {"min": 0, "max": 1}, "b": {"min": 0, "max": 1}}
    box = box_of(bounds, {"a": 0.9, "b": 0.5}, [1.0, 1.0], 0.2, a=Interval(0.1, 0.3), b=Interval(0.45, 0.9))
    assert box.domains[0] == Interval(0.1, 0.3), "nothing in common: the guard's"
    assert box.domains[1] == Interval(0.45, 0.6)


def told(solver: Any, later: int, d: int = D) -> list[float]:
    """A best config first, then `later` worse ones; the best one's knobs are 0.3."""
    random, best = np.random.default_rng(0), [0.3] * d
    X = [best, *random.random((later, d)).tolist()]
    names = [f"k{i}" for i in range(d)]
    values = [float(((np.array(x) - 0.3) ** 2).sum()) for x in X]
    rows = [{"params": dict(zip(names, x, strict=True)), "value": v} for x, v in zip(X, values, strict=True)]
    solver.seed(rows)
    return best


def farthest(candidate: dict[str, float]) -> float:
    return max(abs(value - 0.3) for value in candidate.values())


def test_a_search_without_success_stays_near_the_best_config_and_says_so(make: Make) -> None:
    few, many = make(FREE), make(FREE)
    told(few, D - 1)
    told(many, 6 * D)
    wide, near = few.ask_one(), many.ask_one()
    assert wide is not None
    assert near is not None
    assert "sought within" not in wide.reason
    assert "sought within 2.5% of the ranges around the best config, which is no new one" in near.reason
    assert farthest(near) < 0.1


def test_it_is_for_many_knobs_with_one_utility(make: Make) -> None:
    def reason(config: dict[str, Any], d: int = D) -> str:
        solver = make(config)
        told(solver, 3 * D, d)
        candidate = solver.ask_one()
        assert candidate is not None
        return candidate.reason

    assert "sought within" in reason(FREE)
    assert "sought within" not in reason(FREE | {"bounds": dict(list(BOUNDS.items())[:-1])}, D - 1)
    front = {"objectives": {"value": "min", "other": "min"}}
    solver = make(FREE | front)
    row = {"params": dict.fromkeys(BOUNDS, 0.3), "values": {"value": 0.0, "other": 0.0}}
    random = np.random.default_rng(0)
    rows = [
        {"params": dict(zip(BOUNDS, x, strict=True)), "values": {"value": 1 + x[0], "other": 1 + x[1]}}
        for x in random.random((3 * D, D)).tolist()
    ]
    solver.seed([row, *rows])
    candidate = solver.ask_one()
    assert candidate is not None
    assert "sought within" not in candidate.reason


def test_under_guardrails_it_lies_within_the_guards_box(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MANY_KNOBS", 2)
    bounds = {name: {"min": 0, "max": 1, "initial": 0.5} for name in ("k0", "k1")}
    solver = make(
        {
            "seed": 1,
            "budget": 100,
            "bounds": bounds,
            "guardrails": {"max_delta": [0.1, 0.1]},
            "objectives": {"value": "max"},
        }
    )
    config, random, here, sought = solver._study.config, np.random.default_rng(0), {"k0": 0.5, "k1": 0.5}, 0
    assert config.guardrails is not None
    for _ in range(40):
        candidate = solver.ask_one()
        assert candidate is not None
        sought += "sought within" in candidate.reason
        assert limits.legal(config.space, config.guardrails.steps, here, dict(candidate))
        here = dict(candidate)
        value = -((here["k0"] - 0.7) ** 2) - (here["k1"] - 0.6) ** 2 + 0.02 * random.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "value": value}])
    assert sought > 3
