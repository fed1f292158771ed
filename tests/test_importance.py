"""How much each knob matters: the shares of known functions are found, their intervals hold them and shrink."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, RequestError
from tests.conftest import Make

BOUNDS: dict[str, Any] = {
    "a": {"min": 0, "max": 1},
    "idle": {"min": 1, "max": 100, "scale": "log"},
    "hour": {"min": 0, "max": 24, "scale": "periodic"},
    "policy": {"type": "categorical", "choices": ["x", "y"]},
}
CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": BOUNDS,
    "objectives": {"qps": {"direction": "max", "weight": 1.0}, "cost": {"direction": "min", "weight": 2.0}},
}
# variances over the space: 9 / 12 and 1 / 2 of qps, 1 / 16 of cost, which has the weight 2
TRUE = {
    "qps": {"a": 0.6, "idle": 0.0, "hour": 0.4, "policy": 0.0},
    "cost": {"a": 0.0, "idle": 0.0, "hour": 0.0, "policy": 1.0},
    "utility": {"a": 0.5, "idle": 0.0, "hour": 1 / 3, "policy": 1 / 6},
}


def measured(make: Make, n: int, noise: float = 0.1) -> ArqonSolver:
    solver, random, rows = make(CONFIG), np.random.default_rng(3), []
    for i in range(n):
        params = {"a": random.random(), "idle": 100 ** random.random(), "hour": 24 * random.random()}
        qps = 3 * params["a"] + math.cos(2 * math.pi * (params["hour"] - 23) / 24) + noise * random.normal()
        cost = 0.5 * (i % 2) + 0.5 * noise * random.normal()
        rows.append({"params": params | {"policy": "xy"[i % 2]}, "values": {"qps": qps, "cost": cost}})
    solver.seed(rows)
    return solver


@pytest.mark.parametrize("of", TRUE)
def test_the_shares_of_a_sum_are_those_of_its_variance(make: Make, of: str) -> None:
    solver = measured(make, 60)
    found = solver.importance(of) if of != "utility" else solver.importance()
    assert list(found) == list(BOUNDS)
    for knob, share in TRUE[of].items():
        assert found[knob].mean == pytest.approx(share, abs=0.08), knob
        assert 0.0 <= found[knob].lower <= found[knob].mean <= found[knob].upper


def test_what_is_not_known_yet_is_in_the_interval(make: Make) -> None:
    def width(n: int) -> float:
        found = measured(make, n, noise=0.5).importance("qps")
        return sum(share.upper - share.lower for share in found.values())

    assert width(10) > 1.5 * width(80)


def test_it_is_the_same_at_every_call_and_changes_nothing(make: Make) -> None:
    solver = measured(make, 12)
    before = len(list(solver._journal.read("default", 0)))
    assert solver.importance() == solver.importance()
    assert len(list(solver._journal.read("default", 0))) == before


def test_asked_too_early_or_for_an_unknown_outcome_it_says_so(make: Make) -> None:
    with pytest.raises(RequestError, match="importance: nothing was measured yet"):
        make(CONFIG | {"name": "empty"}).importance()
    with pytest.raises(RequestError, match="importance of 'p99': expected 'utility' or one of qps, cost"):
        measured(make, 4).importance("p99")


def test_an_outcome_that_never_varies_has_no_important_knob(make: Make) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}})
    solver.seed([{"params": {"x": 0.1 * i, "y": 0.5}, "value": 7.0} for i in range(8)])
    found = solver.importance()
    assert all(0.0 <= share.lower <= share.upper and math.isfinite(share.upper) for share in found.values())
