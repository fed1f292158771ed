"""The end: settling, what runs when ask_one() says None, and what recommend() says before and after. CONTRACT 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from arqon_gp import Kind
from arqon_gp.advice import Goal, Proposal
from arqon_gp.course import LOOK_EVERY
from arqon_gp.records import Labelled, Settling
from tests.conftest import Make
from tests.scripted import Loop, to
from tests.test_guard import HERE, System, better_above_50, config

BEST = HERE | {"size": 80}


def confirmed_far_away(budget: int = 40, max_delta: Sequence[float] = (10, 1.0)) -> Loop:
    """A study that walks from 50 over 60 and 70 to 80, the target, each confirmed; `budget` windows in all."""

    def propose(study: Any, request: Any) -> Proposal:
        here = study.deployment.deployed
        return Proposal(here | {"size": min(here["size"] + 10, 80)}, "up")

    given = config(budget=budget, guardrails={"max_delta": list(max_delta)})
    loop = Loop(given, System(lambda p: 1.0 + 0.01 * p["size"]), propose)
    loop.solver.script.best_is, loop.solver.script.gain_is = BEST, 1e9
    return loop


def test_none_means_finished_and_the_recommended_config_runs() -> None:
    loop = confirmed_far_away()
    loop.run(100)
    status = loop.status
    assert loop.solver.ask_one() is None
    assert status["phase"] == "finished"
    assert loop.solver.recommend().params == status["deployed"] == BEST
    assert status["budget"]["left"] == 0


def walk_back(gain: float, share: Any = lambda p: 1.0, budget: int = 34) -> Loop:
    """80 was confirmed and the model likes it best; then the operator went back to 50 by hand."""
    system = System(lambda p: 1.0 + 0.01 * p["size"])
    loop = confirmed_far_away(budget=budget)
    loop.measure = system
    for _ in range(12):
        loop.step()
    loop.solver.ask_one()
    loop.solver.seed([{"params": HERE, "values": system(HERE)}])
    loop.solver.script.propose_next = to(size=50)
    loop.solver.script.gain_is = gain
    system.share = share
    return loop


def test_the_walk_to_the_target_goes_by_legal_steps_of_windows_to_promote_windows() -> None:
    loop = walk_back(gain=1e9)
    loop.run(100)
    walked = [c for c in loop.candidates if c.kind == "settle"]
    assert [c["size"] for c in walked] == [60, 70, 80]
    assert [c["size"] for c in loop.candidates[-6:]] == [60, 60, 70, 70, 80, 80], "windows_to_promote a step"
    assert loop.status["budget"]["spent"] == 34, "reserved inside the budget"
    assert loop.status["deployed"]["size"] == 80
    assert loop.solver.recommend().params["size"] == 80
    for a, b in zip(loop.candidates, loop.candidates[1:], strict=False):
        if b.kind == "settle":
            assert abs(a["size"] - b["size"]) <= 10


def test_a_target_that_is_not_better_by_min_effect_is_not_walked_to() -> None:
    loop = walk_back(gain=1e-9)
    loop.run(100)
    assert "settle" not in [c.kind for c in loop.candidates]
    assert loop.status["deployed"] == loop.status["last_good"]["params"]


def test_a_regression_on_the_way_ends_at_last_good() -> None:
    loop = walk_back(gain=1e9, share=lambda p: 0.5 if p["size"] > 65 else 1.0)
    loop.run(100)
    assert [(c.kind, c["size"]) for c in loop.candidates[-6:]] == [
        ("replicate", 60), ("settle", 70), ("rollback", 60), ("replicate", 60), ("replicate", 60), ("replicate", 60)
    ]  # fmt: skip
    assert [e.target["size"] for e in loop.events(Settling)] == [80, 60]
    assert loop.solver.recommend().params == loop.status["deployed"] == HERE | {"size": 60}
    assert loop.events(Labelled)[-1].label == "regression"


@pytest.mark.parametrize(("max_delta", "by_hand"), [([10, 1.0], HERE), ([10, 0], HERE | {"wait": 7.0})])
def test_a_target_that_cannot_be_reached_is_not_walked_to(max_delta: list[float], by_hand: dict[str, Any]) -> None:
    """80 was confirmed; three windows before the end the operator goes three steps away, or moves a frozen knob."""
    loop = confirmed_far_away(budget=15, max_delta=max_delta)
    loop.run(12)
    loop.solver.seed([{"params": by_hand, "values": {"qps": 150.0}}])
    loop.solver.script.propose_next = lambda study, request: Proposal(study.deployment.deployed, "stay")
    loop.run(20)
    assert "settle" not in [c.kind for c in loop.candidates]
    assert [e.target for e in loop.events(Settling)] == [by_hand], "fixed once"
    assert loop.solver.recommend().params == loop.status["deployed"] == by_hand
    assert loop.status["budget"]["spent"] == 15


def test_a_budget_spent_away_from_last_good_ends_with_a_free_rollback() -> None:
    loop = Loop(config(budget=4), System(), to(size=55))
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"size": 53}, "values": {"qps": 100.0}}])
    back = loop.step()
    assert back is not None
    assert (back.kind, dict(back), back.reason) == ("rollback", HERE, "the budget is spent: back to last_good")
    assert loop.step() is None
    assert loop.status["deployed"] == loop.status["target"] == HERE
    assert loop.status["budget"]["spent"] == 4


def test_a_study_whose_budget_is_money_ends_when_it_no_longer_pays_a_window() -> None:
    loop = Loop(config(budget=None, budget_cost=3000.0), System(), to(size=55))
    while loop.step(values={"qps": 100.0}, cost=300.0):
        pass
    assert loop.status["budget"]["spent_cost"] == 3000.0
    assert loop.status["phase"] == "finished"
    assert loop.status["deployed"] == loop.solver.recommend().params


def test_without_guardrails_the_study_settles_in_one_step() -> None:
    given = config(budget=8)
    del given["guardrails"]
    loop = Loop(given, System(), to(size=90))
    loop.solver.script.best_is = HERE | {"size": 10}
    loop.run(20)
    assert len(loop.candidates) == 8
    assert [(c.kind, c["size"]) for c in loop.candidates[-2:]] == [("settle", 10), ("replicate", 10)]
    assert loop.solver.ask_one() is None
    assert loop.solver.recommend().params == loop.status["deployed"] == HERE | {"size": 10}


def test_without_guardrails_what_disappoints_when_it_is_measured_is_not_recommended() -> None:
    given = config(budget=8)
    del given["guardrails"]
    loop = Loop(given, System(), to(size=90))
    loop.solver.script.best_is = HERE | {"size": 10}
    loop.run(7)
    assert (loop.candidates[-1].kind, loop.candidates[-1]["size"]) == ("settle", 10)
    loop.solver.script.best_is = HERE | {"size": 90}  # what the model says after that window
    loop.run(2)
    assert (loop.candidates[-1].kind, loop.candidates[-1]["size"]) == ("settle", 90)
    assert loop.solver.recommend().params == loop.status["deployed"] == HERE | {"size": 90}


def test_unused_reserve_is_spent_on_replicates_of_the_target() -> None:
    loop = walk_back(gain=1e9, budget=35)
    loop.solver.script.propose_next = lambda study, request: Proposal(study.deployment.deployed, "stay")
    loop.run(100)
    assert loop.events(Settling)[0].target == BEST
    last = loop.candidates[-1]
    assert loop.status["budget"]["spent"] == 35
    assert (last.kind, dict(last)) == (Kind.REPLICATE, loop.status["target"])
    assert loop.solver.recommend().windows == sum(dict(c) == BEST for c in loop.candidates)


def test_a_result_after_the_end_lets_the_recommendation_move() -> None:
    loop = confirmed_far_away()
    loop.run(100)
    loop.solver.script.best_is = HERE | {"size": 70}
    assert loop.solver.recommend().params["size"] == 80
    loop.solver.seed([{"params": BEST, "values": {"qps": 1.0}}])
    assert loop.solver.recommend().params["size"] == 70
    assert loop.solver.ask_one() is None, "finished is finished"


def test_an_operator_may_still_go_back_after_the_end() -> None:
    loop = confirmed_far_away()
    loop.run(100)
    loop.solver.seed([{"params": BEST | {"size": 75}, "values": {"qps": 180.0}}])
    loop.solver.rollback()
    back = loop.step()
    assert back is not None
    assert (back.kind, dict(back)) == ("rollback", BEST)
    assert loop.step() is None


def test_an_endless_study_watches_when_nothing_is_left_to_gain_and_wakes_on_drift() -> None:
    def propose(study: Any, request: Any) -> Proposal:
        return Proposal(study.deployment.deployed | {"size": 50 + len(study.history) % 3}, "little", improvement=0.0)

    system = System()
    loop = Loop(config(budget=None), system, propose)
    for _ in range(60):
        loop.step()
        if loop.status["phase"] == "watching":
            break
    loop.run(25)
    settled = next(i for i, c in enumerate(loop.candidates) if c.reason == "watching")
    assert [c.kind for c in loop.candidates[:settled]].count("explore") == 5, "asks that promised nothing"
    assert {(c.kind, c.reason) for c in loop.candidates[-5:]} == {("replicate", "watching")}
    loop.solver.script.propose_next = to(size=53)
    system.level = 50.0
    after = loop.run(12)
    assert "drift" in [e.label for e in loop.events(Labelled)]
    assert any(c.kind in ("probe", "explore") for c in after)


def test_a_study_at_rest_looks_again_now_and_then_whether_there_is_something_to_gain() -> None:
    """What is watched stays as it is, and something else is better since."""
    promised, looks = 0.0, []

    def propose(study: Any, request: Any) -> Proposal:
        if study.course.target is not None:
            looks.append(len(study.history))
        size = 50 + len(study.history) % 3
        return Proposal(study.deployment.deployed | {"size": size}, "asked", improvement=promised)

    loop = Loop(config(budget=None), System(), propose)
    loop.run(80)
    assert loop.status["phase"] == "watching"
    assert set(np.diff(looks)) == {LOOK_EVERY}
    promised = 100.0
    after = loop.run(LOOK_EVERY + 1)
    assert [c.reason for c in after].count("asked") >= 1
    assert loop.status["phase"] != "watching"


def test_an_endless_study_that_watches_recovers_when_a_limit_breaks() -> None:
    """What is watched no longer keeps it: a smaller size would."""
    worse = False

    def propose(study: Any, request: Any) -> Proposal:
        here = study.deployment.deployed["size"]
        size = here - 5 if request.goal is Goal.RECOVER else 50 + len(study.history) % 3
        return Proposal(study.deployment.deployed | {"size": size}, request.goal.value, improvement=0.0, p_limits=0.99)

    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 0.5 * params["size"] if worse else 10.0
        return system(params)

    system = System()
    loop = Loop(config(budget=None, constraints={"p99_ms": {"max": 20}}), measure, propose)
    for _ in range(60):
        loop.step()
        if loop.status["phase"] == "watching":
            break
    assert loop.status["phase"] == "watching"
    worse = True
    after = loop.run(40)
    assert "recover" in [c.reason for c in after]
    good = loop.status["last_good"]["params"]
    assert good["size"] <= 40
    assert measure(good)["p99_ms"] <= 20


def test_before_any_result_what_runs_is_recommended(make: Make) -> None:
    recommended = make(config()).recommend()
    assert recommended.params == HERE
    assert (recommended.outcomes, recommended.windows, recommended.p_limits) == (None, 0, None)


def test_a_promoted_config_is_what_is_recommended() -> None:
    loop = Loop(config(), System(better_above_50), to(size=60))
    loop.run(8)
    recommended = loop.solver.recommend()
    assert recommended.params["size"] == 60
    assert recommended.windows == sum(c["size"] == 60 for c in loop.candidates)


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 4, 5, 7])
def test_a_budget_however_small_is_kept(budget: int) -> None:
    loop = Loop(config(budget=budget), System(), to(size=55))
    loop.run(50)
    assert loop.status["budget"]["spent"] == len(loop.solver.history()) == budget
    assert loop.status["phase"] == "finished"
    assert loop.status["deployed"] == loop.status["target"]


def test_a_budget_of_one_recommends_what_it_measured(make: Make) -> None:
    solver = make({"seed": 1, "budget": 1, "bounds": {"x": {"min": 0, "max": 10, "initial": 3}}})
    solver.seed([{"params": solver.ask_one(), "value": 1.0}])
    assert solver.ask_one() is None
    assert solver.recommend().params == solver.status()["deployed"] == {"x": 3.0}
