"""Many knobs under guardrails: a step changes few of them, unless more pays, and says which."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from arqon_gp import choice, search
from arqon_gp.choice import KEPT_SHARE
from arqon_gp.config import parse
from arqon_gp.knobs import Interval
from arqon_gp.legal import Region
from arqon_gp.records import Kind, Params
from arqon_gp.space import Box
from tests.conftest import Make

D = 10
CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 30,
    "probe_ratio": 0.0,
    "bounds": {f"k{i}": {"min": 0, "max": 1, "initial": 0.5} for i in range(D)},
    "objectives": {"value": "max"},
    "guardrails": {"max_delta": [0.1] * D},
}
HERE = {f"k{i}": 0.5 for i in range(D)}


class Worth:
    """An acquisition whose log falls by a loss for each knob that is as it was."""

    rng = np.random.default_rng(0)

    def __init__(self, **losses: float) -> None:
        self.losses = losses

    def values_at(self, X: np.ndarray) -> np.ndarray:
        left = np.isclose(X, 0.5)
        return -left.astype(float) @ np.array([self.losses.get(f"k{i}", 0.0) for i in range(X.shape[1])])


def simpler(worth: Worth, params: dict[str, float], box: Box | None = None) -> dict[str, Any]:
    space = parse(CONFIG).space
    region = Region(space, box or space.whole, dict(HERE), returns=True)
    return dict(step(worth, region, params))


def step(worth: Worth, region: Region, params: dict[str, float]) -> Params:
    """The step that keeps KEPT_SHARE."""

    def value(configs: list[Params]) -> np.ndarray:
        return worth.values_at(region.space.encode_all(configs))

    return search.simpler(region, dict(params), value, value([dict(params)])[0] + math.log(KEPT_SHARE))


def moved(**by: float) -> dict[str, float]:
    return HERE | {name: 0.5 + delta for name, delta in by.items()}


def test_knobs_that_are_worth_little_stay_as_they_are(make: Make) -> None:
    all_four = moved(k0=0.1, k1=0.05, k2=-0.1, k9=0.02)
    assert simpler(Worth(k0=1.0, k2=0.5), all_four) == moved(k0=0.1, k2=-0.1)
    found = simpler(Worth(k0=1.0, k1=0.04, k2=0.05, k9=0.06), all_four)
    assert found == moved(k0=0.1, k9=0.02), "the least of it first, as long as it is little together"


@pytest.mark.parametrize(("loss", "changed"), [(0.9, 1), (1.1, 2)])
def test_what_may_be_lost_is_a_tenth_of_the_expected_improvement(make: Make, loss: float, changed: int) -> None:
    worth = Worth(k0=9.0, k1=-loss * np.log(KEPT_SHARE))
    found = simpler(worth, moved(k0=0.1, k1=0.1))
    assert sum(value != 0.5 for value in found.values()) == changed


def test_one_knob_changes_at_least(make: Make) -> None:
    found = simpler(Worth(), moved(k3=0.1, k4=0.1))
    assert sum(value != 0.5 for value in found.values()) == 1
    assert simpler(Worth(), moved(k3=0.1)) == moved(k3=0.1)


def test_no_knob_leaves_the_box_to_stay_as_it_is(make: Make) -> None:
    box = Box((Interval(0.55, 0.6), *[Interval(0.4, 0.6)] * (D - 1)))
    assert simpler(Worth(k1=9.0), moved(k0=0.1, k1=0.1, k2=0.1), box=box) == moved(k0=0.1, k1=0.1)


def test_knobs_stay_as_they_are_only_as_far_as_the_rules_allow() -> None:
    """Each of k0 and k1 may stay, both together may not: k2 needs the room that one of them makes."""
    config = parse(CONFIG | {"constraints": {"room": "k0 + k1 >= k2 + 0.4"}})
    here, params = moved(k2=0.1), moved(k0=0.06, k1=0.06, k2=0.15)
    region = Region(config.space, config.space.whole, dict(here), returns=True)
    found = step(Worth(k2=9.0), region, params)
    assert config.space.in_bounds(found)
    assert found in (params | {"k0": 0.5}, params | {"k1": 0.5})


def test_it_is_for_many_knobs_of_what_runs(make: Make) -> None:
    assert choice._many(make(CONFIG)._study)
    assert not choice._many(make(CONFIG | {"guardrails": None})._study)
    few = {"bounds": {f"k{i}": CONFIG["bounds"]["k0"] for i in range(8)}, "guardrails": {"max_delta": [0.1] * 8}}
    assert not choice._many(make(CONFIG | few)._study)


def test_the_reason_names_the_knobs_that_change(make: Make) -> None:
    solver, random, here, seen = make(CONFIG), np.random.default_rng(0), dict(HERE), []
    while (candidate := solver.ask_one()) is not None:
        changed = [name for name in here if candidate[name] != here[name]]
        if candidate.kind is Kind.EXPLORE:
            found = re.search(r"; (\d+) of 10 knobs change: (.+)$", candidate.reason)
            assert found, candidate.reason
            assert (int(found[1]), found[2].split(", ")) == (len(changed), changed)
            seen.append(len(changed))
        here = dict(candidate)
        value = -4 * (here["k3"] - 0.8) ** 2 - 3 * (here["k7"] - 0.2) ** 2 + 0.01 * random.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "value": value}])
    assert seen
    assert np.median(seen) < D


def test_few_knobs_are_not_counted(make: Make) -> None:
    solver = make(CONFIG | {"bounds": {"k0": CONFIG["bounds"]["k0"]}, "guardrails": {"max_delta": [0.1]}})
    for _ in range(6):
        candidate = solver.ask_one()
        assert candidate is not None
        assert "knobs change" not in candidate.reason
        solver.seed([{"params": candidate, "id": candidate.id, "value": -((candidate["k0"] - 0.8) ** 2)}])
