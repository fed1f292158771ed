"""The guard: where one may go, what is good, and when it goes back. CONTRACT 3 and 4, driven without a model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import RateLimited, RequestError, guard
from arqon_gp.advice import Goal, Proposal
from arqon_gp.comparison import Comparison, Standing
from arqon_gp.config import parse
from arqon_gp.records import Label, Labelled, Promoted, SafeModeEntered, SafeModeLeft, Suspected
from arqon_gp.study import Study
from tests.conftest import FakeClock, Make
from tests.scripted import Loop, ScriptedSolver, to

BOUNDS: dict[str, Any] = {
    "size": {"type": "int", "min": 0, "max": 100, "initial": 50},
    "wait": {"min": 0.0, "max": 10.0, "initial": 5.0},
}
HERE = {"size": 50, "wait": 5.0}


def config(**more: Any) -> dict[str, Any]:
    rails = {"max_delta": [10, 1.0]} | more.pop("guardrails", {})
    return {
        "seed": 1,
        "budget": 1000,
        "probe_ratio": 0,
        "bounds": BOUNDS,
        "objectives": {"qps": {"direction": "max", "weight": 1}},
        "guardrails": rails,
    } | more


class System:
    """qps = level x share(params), with 1 % noise; p99 and failures as told."""

    def __init__(self, share: Any = lambda params: 1.0) -> None:
        self.random, self.share, self.level = np.random.default_rng(0), share, 100.0
        self.p99 = 10.0

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        noise = 1.0 + 0.01 * self.random.normal()
        return {"qps": self.level * self.share(params) * noise, "p99_ms": self.p99 * noise}


def worse_above_50(params: dict[str, Any]) -> float:
    return 0.7 if params["size"] > 50 else 1.0


def better_above_50(params: dict[str, Any]) -> float:
    return 1.3 if params["size"] > 50 else 1.0


# ---- start ----


def test_what_runs_is_measured_first_until_three_windows_are_complete() -> None:
    loop = Loop(config(constraints={"p99_ms": {"max": "1.1*baseline"}}), System(), to(size=55))
    assert loop.step(values={"qps": 100.0, "p99_ms": None}) == HERE
    kinds = [c.kind for c in loop.run(4)]
    assert kinds == ["start", "start", "start", "explore"]
    assert loop.status["baseline"]["p99_ms"] == pytest.approx(10.0, rel=0.02)


def test_at_most_six_start_windows_are_asked_for() -> None:
    loop = Loop(config(), System(), to(size=55))
    for _ in range(6):
        assert loop.step(values={"qps": None}) == HERE
    assert [c.kind for c in loop.candidates] == ["start"] * 6
    assert loop.solver.ask_one().kind != "start"


def test_warm_rows_of_what_runs_count_as_start_windows_and_in_the_baseline() -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.solver.seed([{"params": HERE, "values": {"qps": 90.0}}] * 3)
    assert [c.kind for c in loop.run(2)] == ["start", "explore"]
    first = loop.solver.history()["qps"][3]
    assert loop.status["baseline"]["qps"] == pytest.approx((3 * 90.0 + first) / 4)


def test_the_baseline_is_frozen_once_it_is_measured() -> None:
    system = System()
    loop = Loop(config(constraints={"p99_ms": {"max": "2*baseline"}}), system)
    loop.run(4)
    frozen = loop.status["baseline"]
    system.level = 60.0
    loop.run(6)
    assert loop.events(Labelled)[0].label is Label.DRIFT
    assert loop.status["baseline"] == frozen


def test_a_limit_relative_to_the_baseline_asks_for_start_windows_without_guardrails_too() -> None:
    given = config(constraints={"p99_ms": {"max": "1.1*baseline"}})
    del given["guardrails"]
    loop = Loop(given, System(), to(size=95))
    assert [c.kind for c in loop.run(4)] == ["start", "start", "start", "explore"]


def test_without_anything_known_the_centre_is_taken_to_run_and_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = {"size": {"type": "int", "min": 0, "max": 100}, "cache": {"min": 1, "max": 100, "scale": "log"}}
    assert make(config(bounds=bounds)).ask_one() == {"size": 50, "cache": pytest.approx(10.0)}
    assert "no initial value for size, cache" in caplog.text


def test_an_initial_config_is_what_runs_whatever_warm_rows_say(make: Make) -> None:
    solver = make(config())
    solver.seed([{"params": HERE | {"size": 70}, "values": {"qps": 1.0}}])
    assert solver.ask_one() == HERE


def test_without_initial_the_last_warm_row_is_what_runs(make: Make) -> None:
    bounds = {"size": {"type": "int", "min": 0, "max": 100}}
    solver = make(config(bounds=bounds, guardrails={"max_delta": [10]}))
    rows = [({"size": 70}, 3.0), ({"size": 30}, 2.0)]
    solver.seed([{"params": p, "values": {"qps": 1.0}, "time": t} for p, t in rows])
    assert solver.ask_one() == {"size": 70}, "the latest by its time, not by its place"


def test_probes_under_guardrails_are_small_steps() -> None:
    loop = Loop(config(probe_ratio=0.5), System(), to(size=55))
    probes = [c for c in loop.run(20) if c.kind == "probe"]
    assert len(probes) == 3, "d + 1"
    assert all(abs(p["size"] - 50) <= 10 and abs(p["wait"] - 5.0) <= 1.0 for p in probes)


# ---- where one may go ----


def test_a_proposal_outside_the_box_is_refused_never_clipped() -> None:
    loop = Loop(config(), System(), to(size=90))
    loop.run(3)
    candidate = loop.step()
    assert candidate is not None
    assert "the guard refused a proposal (size)" in candidate.reason
    assert abs(candidate["size"] - 50) <= 10
    assert candidate["size"] != 60, "the border is where clipping would have ended"


def test_what_is_run_instead_of_a_refused_proposal_explores_too_and_has_to_be_paid_for() -> None:
    loop = Loop(config(exploration_budget=0.2), System(), to(size=90))
    ran = loop.run(30)
    explored = [one.explores for one in loop.solver._study.deployment.issued]
    assert 2 < sum(explored) <= 6
    held = [c for c in ran if "hold what runs: the guard refused a proposal (size)" in c.reason]
    assert len(held) > 6
    assert all(one.kind == "replicate" for one in held)


@pytest.mark.parametrize("bad", [{"size": math.nan}, {"size": 1e9}, {"policy": 1}, {"wait": "fast"}])
def test_a_proposal_that_is_no_config_is_refused(bad: dict[str, Any]) -> None:
    loop = Loop(config(), System(), to(**bad))
    loop.run(3)
    candidate = loop.step()
    assert candidate is not None
    assert candidate["size"] in range(40, 61)
    assert 4.0 <= candidate["wait"] <= 6.0


def test_in_doubt_the_next_candidate_is_within_reach_of_all_that_may_run() -> None:
    boxes: list[Any] = []

    def propose(study: Any, request: Any) -> Proposal:
        boxes.append((request.box.domains[0].first, request.box.domains[0].last))
        return Proposal(study.deployment.deployed | {"size": boxes[-1][1]}, "as far as it goes")

    loop = Loop(config(pending_ttl_s=10.0), System(), propose)
    loop.run(3)
    unanswered = loop.solver.ask_one()
    assert unanswered["size"] == 60
    loop.clock.pass_s(10.0)
    second = loop.solver.ask_one()
    assert boxes[1] == (50, 60), "within 10 of 50, which was reported, and of 60, which may run"
    loop.solver.cancel(second.id, applied=False)
    loop.solver.seed([{"params": HERE, "values": {"qps": 100.0}}])
    assert loop.status["in_doubt"] == []
    loop.solver.ask_one()
    assert boxes[2] == (40, 60)


@pytest.mark.parametrize(
    ("applied", "in_doubt", "reach"),
    [(None, [60], {"min": 50, "max": 60}), (False, [], {"min": 40, "max": 60})],
)
def test_a_cancelled_candidate_may_run_unless_it_is_said_not_to(
    applied: bool | None, in_doubt: list[int], reach: dict[str, int]
) -> None:
    loop = Loop(config(), System(), to(size=60))
    loop.run(3)
    loop.solver.cancel(loop.solver.ask_one().id, applied=applied)
    assert [params["size"] for params in loop.status["in_doubt"]] == in_doubt
    assert loop.status["guard"]["step_box"]["size"] == reach
    assert loop.status["pending"] == []


def test_only_a_result_of_what_runs_ends_the_doubt() -> None:
    loop = Loop(config(pending_ttl_s=10.0), System(), to(size=57))
    loop.run(3)
    unanswered = []
    for size in (57, 55):
        loop.solver.script.propose_next = to(size=size)
        unanswered.append(loop.solver.ask_one())
        loop.clock.pass_s(10.0)
    loop.solver.seed([{"params": unanswered[0], "id": unanswered[0].id, "values": {"qps": 100.0}}])
    assert [params["size"] for params in loop.status["in_doubt"]] == [57, 55], "it came late"
    loop.solver.seed([{"params": unanswered[1], "id": unanswered[1].id, "values": {"qps": 100.0}}])
    assert loop.status["in_doubt"] == []
    assert loop.status["deployed"]["size"] == 55


def test_a_cancelled_candidate_that_runs_is_what_runs() -> None:
    loop = Loop(config(), System(), to(size=57))
    loop.run(3)
    candidate = loop.solver.ask_one()
    loop.solver.cancel(candidate.id, applied=True)
    assert loop.status["deployed"]["size"] == 57
    with pytest.raises(RequestError, match="is no unanswered candidate"):
        loop.solver.cancel(candidate.id)


def test_an_older_candidate_that_runs_leaves_the_newer_one_in_doubt() -> None:
    loop = Loop(config(pending_ttl_s=10.0), System(), to(size=57))
    loop.run(3)
    older = loop.solver.ask_one()
    loop.clock.pass_s(11.0)
    loop.solver.script.propose_next = to(size=60)
    newer = loop.solver.ask_one()
    loop.solver.cancel(older.id, applied=True)
    assert loop.status["deployed"]["size"] == 57
    assert [params["size"] for params in loop.status["in_doubt"]] == [60]
    assert loop.status["guard"]["step_box"]["size"] == {"min": 50, "max": 60}
    loop.solver.seed([{"params": newer, "id": newer.id, "values": {"qps": 100.0}}])
    assert (loop.status["deployed"]["size"], loop.status["in_doubt"]) == (60, []), "its result is not late"


def test_a_hold_in_doubt_repeats_the_latest_candidate_that_may_run() -> None:
    loop = Loop(config(pending_ttl_s=10.0), System(), to(size=57))
    loop.run(3)
    candidate = loop.solver.ask_one()
    loop.clock.pass_s(11.0)
    loop.solver.pause()
    hold = loop.solver.ask_one()
    assert (hold.kind, dict(hold)) == ("hold", dict(candidate))


def test_last_good_stays_within_one_step_of_every_candidate() -> None:
    loop = Loop(config(), System(lambda p: 1.0), lambda s, r: Proposal(s.deployment.deployed | {"size": 0}, "down"))
    for candidate in loop.run(60):
        explained = loop.solver.explain(candidate.id)
        assert abs(candidate["size"] - explained["last_good"]["size"]) <= 10
        assert abs(candidate["size"] - explained["deployed"]["size"]) <= 10


# ---- the rate ----


def test_asked_too_early_it_holds_and_says_when() -> None:
    loop = Loop(config(guardrails={"max_updates_per_second": 0.1}), System(), to(size=55), window_s=2.0)
    loop.run(3)
    changed = loop.step()
    hold = loop.solver.ask_one()
    assert changed is not None
    assert changed.kind == "explore"
    assert hold.kind == "hold"
    assert hold == changed
    assert hold.retry_after_s == pytest.approx(8.0)
    loop.clock.pass_s(7.9)
    assert loop.solver.ask_one().kind == "hold"
    loop.solver.script.propose_next = to(size=56)
    loop.clock.pass_s(0.2)
    assert loop.solver.ask_one().kind == "explore"


def test_on_rate_limit_raise_names_the_wait_and_changes_nothing() -> None:
    rails = {"max_updates_per_second": 0.1, "on_rate_limit": "raise"}
    loop = Loop(config(guardrails=rails), System(), to(size=55), window_s=2.0)
    loop.run(4)
    before = loop.status
    with pytest.raises(RateLimited) as caught:
        loop.solver.ask_one()
    assert caught.value.retry_after_s == pytest.approx(8.0)
    assert loop.status == before


def test_on_rate_limit_wait_sleeps_until_the_change_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    rails = {"max_updates_per_second": 0.1, "on_rate_limit": "wait"}
    loop = Loop(config(guardrails=rails), System(), to(size=55), window_s=2.0)
    loop.run(4)
    loop.solver.script.propose_next = to(size=56)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", lambda s: (slept.append(s), loop.clock.pass_s(s)))
    candidate = loop.solver.ask_one()
    assert slept == [pytest.approx(8.0)]
    assert candidate.kind == "explore"


def test_a_standing_clock_does_not_hang_a_waiting_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    rails = {"max_updates_per_second": 0.1, "on_rate_limit": "wait"}
    loop = Loop(config(guardrails=rails), System(), to(size=55), window_s=2.0)
    loop.run(4)
    monkeypatch.setattr("time.sleep", lambda s: None)
    assert loop.solver.ask_one().kind == "hold"


def test_a_clock_that_runs_backwards_is_held_at_the_latest_moment(make: Make, clock: FakeClock) -> None:
    solver = make(config())
    first = solver.ask_one()
    clock.pass_s(-500.0)
    solver.seed([{"params": first, "values": {"qps": 1.0}}])
    assert solver.ask_one().issued_at == first.issued_at


def test_measuring_again_is_no_update() -> None:
    rails = {"max_updates_per_second": 0.01}
    loop = Loop(config(guardrails=rails), System(better_above_50), to(size=60), window_s=2.0)
    assert [c.kind for c in loop.run(6)] == ["start"] * 3 + ["explore", "replicate", "hold"]
    assert "measured again to confirm it" in loop.candidates[4].reason
    assert loop.status["last_good"]["params"]["size"] == 60


def test_a_restart_keeps_the_rate_and_the_latest_moment() -> None:
    loop = Loop(config(guardrails={"max_updates_per_second": 0.1}), System(), to(size=55), window_s=2.0)
    loop.run(4)
    loop.solver.close()
    earlier = FakeClock(loop.clock.now - 500.0)
    again = ScriptedSolver(
        config(guardrails={"max_updates_per_second": 0.1}),
        journal=loop.journal,
        registry=CollectorRegistry(),
        clock=earlier,
    )
    again.script = loop.solver.script
    with again:
        hold = again.ask_one()
        assert (hold.kind, hold.issued_at) == ("hold", loop.clock.now)
        assert hold.retry_after_s == pytest.approx(8.0)


def test_a_manual_change_restarts_the_rate_interval() -> None:
    loop = Loop(config(guardrails={"max_updates_per_second": 0.1}), System(), to(size=55), window_s=20.0)
    loop.run(3)
    loop.solver.ask_one()
    loop.clock.pass_s(20.0)
    loop.solver.seed([{"params": HERE | {"size": 52}, "values": {"qps": 100.0}}])
    hold = loop.solver.ask_one()
    assert hold.retry_after_s == pytest.approx(10.0)


def test_a_rollback_is_exempt_from_the_rate_and_restarts_it() -> None:
    rails = {"max_updates_per_second": 0.001}
    loop = Loop(config(guardrails=rails), System(worse_above_50), to(size=60), window_s=1001.0)
    loop.run(3)
    loop.window_s = 1.0
    back = loop.until("rollback")
    assert back == HERE
    changed = [c for c in loop.candidates if c.kind == "explore"]
    assert back.issued_at - changed[-1].issued_at < 1000.0
    for _ in range(6):
        loop.step()
    held = loop.solver.ask_one()
    assert held.kind == "hold"
    assert held.retry_after_s == pytest.approx(back.issued_at + 1000.0 - loop.clock.now)


# ---- manual changes ----


def test_a_manual_change_out_of_reach_becomes_an_unconfirmed_last_good() -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.run(3)
    loop.solver.ask_one()
    loop.solver.seed([{"params": HERE | {"size": 80}, "values": {"qps": 100.0}}])
    assert loop.status["last_good"] == {"params": HERE | {"size": 80}, "confirmed": False}
    loop.run(2)
    assert [c.kind for c in loop.candidates[-2:]] == ["replicate", "explore"]
    assert loop.status["last_good"]["confirmed"]


@pytest.mark.parametrize("step", [10, 0])
def test_a_manual_change_after_which_all_fails_is_left_and_never_confirmed(step: int) -> None:
    """Where no knob may move it is measured on."""
    loop = Loop(config(guardrails={"max_delta": [step, 0]}), System(), to(size=75))
    loop.run(3)
    loop.solver.ask_one()
    loop.solver.seed([{"params": HERE | {"size": 80}, "status": "failed"}])
    assert [loop.step(status="failed").kind for _ in range(2)] == ["replicate", "explore" if step else "replicate"]
    assert step or {loop.step(status="failed").kind for _ in range(6)} == {"replicate"}
    assert not loop.status["last_good"]["confirmed"]
    assert not [event for event in loop.events(Promoted) if event.params["size"] == 80]


def test_a_manual_change_within_reach_moves_what_runs_and_not_last_good() -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"size": 53}, "values": {"qps": 100.0}}])
    assert loop.status["deployed"]["size"] == 53
    assert loop.status["last_good"]["params"] == HERE
    assert loop.status["guard"]["step_box"]["size"] == {"min": 43, "max": 60}


def test_out_of_bounds_in_a_frozen_knob_only_measuring_and_holding_are_left() -> None:
    loop = Loop(config(guardrails={"max_delta": [10, 0]}), System(), to(size=55))
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"wait": 12.0}, "values": {"qps": 100.0}}])
    stuck = loop.run(3)
    assert [(c.kind, c["wait"], c["size"]) for c in stuck] == [("replicate", 12.0, 50)] * 3
    loop.solver.pause()
    assert loop.solver.ask_one() == HERE | {"wait": 12.0}
    loop.solver.resume()
    loop.solver.seed([{"params": HERE | {"wait": 9.0}, "values": {"qps": 100.0}}])
    assert loop.status["last_good"] == {"params": HERE | {"wait": 9.0}, "confirmed": False}
    assert not loop.status["guard"]["out_of_bounds"]


def test_the_way_back_into_the_bounds_waits_in_doubt() -> None:
    loop = Loop(config(pending_ttl_s=10.0), System(), to(size=95))
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"size": 125}, "values": {"qps": 100.0}}])
    assert loop.solver.ask_one()["size"] == 115
    loop.clock.pass_s(10.0)
    again = loop.solver.ask_one()
    assert (again.kind, again["size"]) == ("replicate", 115), "105 is two steps from 125, which may run still"


def test_the_way_back_into_the_bounds_keeps_the_rate() -> None:
    loop = Loop(config(guardrails={"max_updates_per_second": 0.1}), System(), to(size=95), window_s=20.0)
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"size": 125}, "values": {"qps": 100.0}}])
    hold = loop.solver.ask_one()
    assert (hold.kind, hold["size"], hold.retry_after_s) == ("hold", 125, pytest.approx(10.0))
    loop.clock.pass_s(10.0)
    assert loop.solver.ask_one() == HERE | {"size": 115}


def test_out_of_bounds_every_change_is_a_legal_step_back_towards_them() -> None:
    loop = Loop(config(), System(), to(size=95))
    loop.run(3)
    loop.solver.seed([{"params": HERE | {"size": 125}, "values": {"qps": 100.0}}])
    assert loop.status["guard"]["out_of_bounds"]
    back = loop.run(3)
    assert [c["size"] for c in back] == [115, 105, 100]
    assert loop.status["last_good"] == {"params": HERE | {"size": 100}, "confirmed": False}
    assert all("out of bounds" in c.reason for c in back)


# ---- good, bad, and back ----


def test_a_better_config_is_promoted_after_two_windows_and_not_after_one() -> None:
    loop = Loop(config(), System(better_above_50), to(size=60))
    loop.run(4)
    loop.solver.ask_one()
    assert loop.status["last_good"]["params"] == HERE
    loop.run(2)
    loop.solver.ask_one()
    assert loop.status["last_good"] == {"params": HERE | {"size": 60}, "confirmed": True}
    assert [e.params["size"] for e in loop.events(Promoted)] == [60]


def test_windows_to_promote_is_kept() -> None:
    loop = Loop(config(guardrails={"windows_to_promote": 4}), System(better_above_50), to(size=60))
    loop.run(3)
    changed = loop.run(4)
    assert [c["size"] for c in changed] == [60] * 4
    assert loop.status["last_good"]["params"] == HERE
    loop.solver.ask_one()
    assert loop.status["last_good"]["params"]["size"] == 60


def test_small_losses_cannot_add_up() -> None:
    """Each step loses 6 where 10 matters: one such loss is taken, two in a row are not."""

    def further_down(study: Any, request: Any) -> Proposal:
        return Proposal(HERE | {"size": study.guard.last_good["size"] - 10}, "a little worse")

    share = {50: 1.0, 40: 0.94, 30: 0.88, 20: 0.82}
    loop = Loop(config(guardrails={"min_effect": 10.0}), System(lambda p: share[p["size"]]), further_down)
    loop.run(30)
    assert [e.params["size"] for e in loop.events(Promoted)] == [40]
    assert {c["size"] for c in loop.candidates} == {50, 40, 30}
    assert not loop.events(Suspected), "12 below the best, but only 6 below last_good: no regression either"


@pytest.mark.parametrize(("limit", "promoted"), [(11.0, []), (20.0, [60])])
def test_only_a_config_that_surely_keeps_the_limits_is_promoted(limit: float, promoted: list[int]) -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 10.95 if params["size"] > 50 else 8.0
        return system(params)

    system = System(better_above_50)
    loop = Loop(config(constraints={"p99_ms": {"max": limit}}), measure, to(size=60))
    loop.run(9)
    assert [e.params["size"] for e in loop.events(Promoted)] == promoted


@pytest.mark.parametrize(("objective", "rolls_back"), [({}, False), ({"min_effect": 2.0}, True)])
def test_an_objective_with_its_own_min_effect_is_judged_for_itself(objective: dict[str, Any], rolls_back: bool) -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 20.0 if params["size"] > 50 else 10.0
        return system(params)

    system = System(better_above_50)
    objectives = {
        "qps": {"direction": "max", "weight": 1},
        "p99_ms": {"direction": "min", "weight": 0.001} | objective,
    }
    loop = Loop(config(objectives=objectives), measure, to(size=60))
    loop.run(7)
    assert ("rollback" in [c.kind for c in loop.candidates]) is rolls_back
    assert bool(loop.events(Promoted)) is not rolls_back


@pytest.mark.parametrize(
    "objectives",
    [
        {"qps": {"direction": "max"}, "p99_ms": {"direction": "min"}},
        {"p99_ms": {"direction": "min", "weight": 3}},
        {"qps": {"direction": "max", "weight": 0.5}, "p99_ms": {"direction": "min", "weight": 0.1}},
    ],
)
def test_worse_is_worse_under_any_utility(objectives: dict[str, Any]) -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 14.0 if params["size"] > 50 else 10.0
        return system(params)

    system = System(worse_above_50)
    loop = Loop(config(objectives=objectives), measure, to(size=60))
    assert loop.until("rollback", most=8) == HERE
    loop.solver.ask_one()
    assert [e.label for e in loop.events(Labelled)] == [Label.REGRESSION]


def test_one_value_without_objectives_is_minimised() -> None:
    given = config()
    del given["objectives"]
    for size, kind in ((60, "rollback"), (40, "replicate")):
        loop = Loop(given, System(), to(size=size))
        loop.measure = lambda params: {"value": 2.0 * params["size"]}
        loop.run(4)
        assert loop.solver.ask_one().kind == kind


TENTH = [90, 110, 95, 105, 90, 110, 100, 100, 104]  # windows of what runs: 100, with noise of some 7


def noisy(measure: Any) -> Loop:
    loop = Loop(config(), measure, to(size=60))
    loop.solver.seed([{"params": HERE, "values": {"qps": float(v)}} for v in TENTH])
    loop.run(2)
    return loop


def test_one_window_that_noise_may_explain_is_measured_again() -> None:
    loop = noisy(lambda params: {"qps": 86.0 if params["size"] > 50 else 100.0})
    doubted = loop.step()
    assert doubted is not None
    assert (doubted.kind, doubted["size"]) == ("replicate", 60)
    assert "one window alone does not convict" in doubted.reason
    assert loop.step() == HERE, "two such windows do"


def test_a_promising_config_whose_windows_stay_incomplete_is_let_go_after_five() -> None:
    loop = Loop(config(), System(better_above_50), to(size=60))
    loop.run(4)
    loop.solver.script.propose_next = to(size=55)
    kinds = [loop.step(values={"qps": None}).kind for _ in range(5)]
    assert kinds == ["replicate"] * 4 + ["explore"], "the fifth window of 60 was the last"


@pytest.mark.parametrize(
    ("back", "label"),
    [
        ([100.0], Label.REGRESSION),
        ([77.0, 77.0], Label.DRIFT),
        ([83.0, 104.0], Label.REGRESSION),
        ([83.0, 88.0, 88.0], Label.DRIFT),
    ],
)
def test_last_good_is_measured_up_to_three_times_to_tell_what_the_suspicion_was(
    back: list[float], label: Label
) -> None:
    left = list(back)
    loop = noisy(lambda params: {"qps": 78.0 if params["size"] > 50 else 100.0})
    loop.measure = lambda params: {"qps": left.pop(0)}
    again = loop.run(len(back))
    loop.solver.script.propose_next = to(size=50)
    loop.solver.ask_one()
    assert [(c.kind, c["size"]) for c in again] == [("rollback", 50), ("replicate", 50), ("replicate", 50)][: len(back)]
    assert [e.label for e in loop.events(Labelled)] == [label]
    assert loop.status["guard"]["regressions_last_hour"] == (label is Label.REGRESSION)
    assert loop.status["regime"] == (label is Label.DRIFT)


def test_a_worse_config_is_rolled_back_and_labelled_a_regression() -> None:
    loop = Loop(config(), System(worse_above_50), to(size=60))
    loop.run(3)
    back = loop.until("rollback")
    assert back == HERE
    loop.run(1)
    suspected, labelled = loop.events(Suspected)[0], loop.events(Labelled)[0]
    assert suspected.params["size"] == 60
    assert suspected.probability >= 0.95
    assert labelled.label is Label.REGRESSION
    assert loop.status["guard"]["regressions_last_hour"] == 1
    assert loop.status["last_good"]["params"] == HERE


def test_when_last_good_sank_too_it_is_drift_and_a_new_regime() -> None:
    system = System()
    loop = Loop(config(), system, to(size=60))
    loop.run(10)
    regime = loop.status["regime"]
    loop.solver.script.propose_next = to(size=60)
    while loop.status["deployed"] == loop.status["last_good"]["params"]:
        loop.solver.script.propose_next = to(size=40 if loop.status["deployed"]["size"] == 50 else 50)
        loop.step()
    system.level = 60.0
    loop.run(8)
    labels = [e.label for e in loop.events(Labelled)]
    assert Label.DRIFT in labels
    assert Label.REGRESSION not in labels
    assert loop.status["regime"] == regime + 1


@pytest.mark.parametrize(("level", "way"), [(60.0, "below"), (160.0, "above")])
def test_last_good_contradicting_its_level_twice_is_drift_without_a_rollback(level: float, way: str) -> None:
    system = System()
    loop = Loop(config(), system)
    loop.run(8)
    system.level = level
    after = loop.run(4)
    assert [e.label for e in loop.events(Labelled)] == [Label.DRIFT]
    assert "rollback" not in [c.kind for c in after]
    drift = loop.events(Labelled)[0]
    assert drift.since == 8, "the regime begins with the first window that contradicts"
    assert f"{way} its level in two windows running" in drift.reason
    assert list(loop.solver.history()["regime"]) == [0] * 8 + [1] * 4


def test_drift_confirms_no_last_good_that_was_not() -> None:
    drift, study = Labelled(Label.DRIFT, "", 0.0, since=0), Study.new(parse(config()))
    confirmed = [
        replace(study.guard, trusted=trusted).apply(drift, study.config, study.deployment, study.history).confirmed
        for trusted in (True, False)
    ]
    assert [len(of) for of in confirmed] == [1, 0]


def test_one_odd_window_of_last_good_is_no_drift() -> None:
    loop = Loop(config(), System())
    loop.run(8)
    loop.step(values={"qps": None})
    loop.step(values={"qps": 60.0})
    loop.run(4)
    assert not loop.events(Labelled)


def test_a_failed_window_rolls_back_at_once() -> None:
    loop = Loop(config(), System(), to(size=60))
    loop.run(3)
    loop.step(status="failed")
    back = loop.step()
    assert back is not None
    assert (back.kind, dict(back), back.reason) == ("rollback", HERE, "its window failed")
    loop.solver.ask_one()
    assert [e.label for e in loop.events(Labelled)] == [Label.REGRESSION]


def test_a_failure_that_last_good_shares_is_a_false_alarm() -> None:
    loop = Loop(config(), System(), to(size=60))
    loop.run(3)
    loop.step(status="failed")
    loop.step(status="failed")
    loop.solver.ask_one()
    assert [(e.label, e.reason) for e in loop.events(Labelled)] == [(Label.FALSE_ALARM, "last_good fails too")]
    assert loop.status["guard"]["regressions_last_hour"] == 0


def test_a_spike_over_a_limit_goes_back_and_is_a_false_alarm_beside_four_windows_that_kept_it() -> None:
    rails = {"windows_to_promote": 10}
    loop = Loop(config(constraints={"p99_ms": {"max": 15}}, guardrails=rails), System(), to(size=60))
    loop.run(7)
    loop.step(values={"qps": 100.0, "p99_ms": 40.0})
    back = loop.step()
    assert back is not None
    assert (back.kind, back.reason[:24]) == ("rollback", "p99_ms <= 15 is broken (")
    loop.solver.ask_one()
    assert [e.label for e in loop.events(Labelled)] == [Label.FALSE_ALARM]


@pytest.mark.parametrize(("measured", "kind"), [(0, "rollback"), (3, "replicate")])
def test_a_raw_breach_counts_only_while_there_are_fewer_than_three_windows(measured: int, kind: str) -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        if params["size"] > 50:
            return {"qps": 120.0, "p99_ms": 15.1}
        return {"qps": 100.0 if measured else None, "p99_ms": next(p99)}

    p99 = iter([9.0, 11.0, 10.0, 9.5, 10.5, 10.0])
    loop = Loop(config(constraints={"p99_ms": {"max": 15}}), measure, to(size=60))
    loop.until("explore")
    assert loop.solver.ask_one().kind == kind


def test_a_limit_on_a_rate_that_was_always_zero_is_kept_at_zero_and_broken_by_more() -> None:
    loop = Loop(
        config(constraints={"errors": {"max": 0.01}}),
        lambda params: {"qps": 100.0, "errors": 0.5 * (params["size"] > 55)},
        to(size=55),
    )
    loop.run(5)
    assert "rollback" not in [c.kind for c in loop.candidates]
    loop.solver.script.propose_next = to(size=60)
    loop.until("rollback")
    assert any("errors <= 0.01 is broken" in e.reason for e in loop.events(Suspected))


def test_a_limit_from_below_is_a_limit() -> None:
    loop = Loop(config(constraints={"qps": {"min": 80}}), System(worse_above_50), to(size=60))
    loop.run(3)
    assert "qps >= 80 is broken" in loop.until("rollback", most=3).reason


def test_a_broken_limit_rolls_back_even_where_the_utility_is_better() -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 30.0 if params["size"] > 50 else 10.0
        return system(params)

    system = System(better_above_50)
    loop = Loop(config(constraints={"p99_ms": {"max": 15}}), measure, to(size=60))
    loop.run(3)
    back = loop.until("rollback", most=3)
    assert "p99_ms <= 15 is broken" in back.reason


def test_a_limit_relative_to_the_baseline_is_kept() -> None:
    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 40.0 * (1.25 if params["size"] > 50 else 1.0)
        return system(params)

    system = System(better_above_50)
    loop = Loop(config(constraints={"p99_ms": {"max": "1.1*baseline"}}), measure, to(size=60))
    loop.run(3)
    assert "p99_ms <= 1.1*baseline is broken" in loop.until("rollback", most=3).reason
    assert loop.status["baseline"]["p99_ms"] == pytest.approx(40.0, rel=0.02)


def test_with_rollback_on_regression_off_a_suspicion_is_reported_and_replicated() -> None:
    loop = Loop(config(guardrails={"rollback_on_regression": False}), System(worse_above_50), to(size=60))
    after = loop.run(10)
    assert "rollback" not in [c.kind for c in after]
    assert loop.events(Suspected)
    assert not loop.events(Labelled)
    loop.step(status="failed")
    assert loop.until("rollback", most=2) == HERE, "a failure rolls back still"


def test_with_rollback_on_regression_off_a_broken_limit_rolls_back() -> None:
    given = config(guardrails={"rollback_on_regression": False}, constraints={"qps": {"min": 80}})
    loop = Loop(given, System(worse_above_50), to(size=60))
    loop.run(3)
    assert loop.until("rollback", most=3) == HERE


def test_when_what_runs_is_last_good_there_is_no_rollback() -> None:
    goals: list[Goal] = []

    def propose(study: Any, request: Any) -> Proposal:
        goals.append(request.goal)
        return Proposal(study.deployment.deployed, "stay")

    loop = Loop(config(), System(), propose)
    loop.run(3)
    for _ in range(5):
        loop.step(status="failed")
    assert "rollback" not in [c.kind for c in loop.candidates]
    assert not loop.events(Suspected)
    assert goals[-1] is Goal.RECOVER, "its failures count as a broken limit"


def test_cautious_steps_begin_small_grow_and_begin_again_after_a_suspicion() -> None:
    asked: list[tuple[float, int]] = []

    def propose(study: Any, request: Any) -> Proposal:
        farthest = request.cautious.domains[0].last
        asked.append((request.fraction, farthest - study.guard.last_good["size"]))
        return Proposal(study.deployment.deployed | {"size": farthest}, "cautious", fraction=request.fraction)

    loop = Loop(config(), System(lambda p: 0.7 if p["size"] > 60 else 1.0), propose)
    loop.until("rollback", most=60)
    fractions = [fraction for fraction, _ in asked]
    assert fractions[:3] == [0.1, pytest.approx(0.15), pytest.approx(0.225)]
    assert fractions == sorted(fractions)
    assert [reach for _, reach in asked] == [max(1, int(10 * f + 1e-9)) for f in fractions], "of 10, on the grid"
    loop.until("explore")
    assert asked[len(fractions)][0] == 0.1


def test_when_last_good_breaks_a_limit_the_search_recovers() -> None:
    goals: list[Goal] = []

    def propose(study: Any, request: Any) -> Proposal:
        goals.append(request.goal)
        return Proposal(study.deployment.deployed | {"size": study.deployment.deployed["size"] - 10}, "recover")

    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 0.5 * params["size"]
        return system(params)

    system = System()
    loop = Loop(config(constraints={"p99_ms": {"max": 12}}), measure, propose)
    loop.run(3)
    assert "rollback" not in [c.kind for c in loop.candidates]
    spent = loop.status["budget"]["spent"]
    first = loop.step()
    assert first is not None
    assert (first.kind, goals) == ("explore", [Goal.RECOVER])
    assert loop.status["budget"]["spent"] == spent + 1, "each costs 1"
    loop.run(5)
    assert loop.status["deployed"]["size"] == 20, "three steps, each measured twice"
    loop.solver.ask_one()
    assert loop.status["last_good"]["params"]["size"] == 20
    assert set(goals[:3]) == {Goal.RECOVER}


@pytest.mark.parametrize(
    ("at_first", "slope", "back", "measured"),
    [(13.6, 0.03, guard.STUCK, True), (13.6, 0.03, guard.STUCK, False), (60.0, 0.5, 1, True), (60.0, 0.5, 1, False)],
)
def test_what_last_good_was_before_everything_got_worse_does_not_bar_the_way_out_for_ever(
    at_first: float, slope: float, back: int, measured: bool
) -> None:
    """It broke a limit by little; then all break it by more, and larger sizes by less: none is as good as it was, also
    where it was not measured since the world has changed. Of a collapse last_good is asked at once."""
    worse = False

    def propose(study: Any, request: Any) -> Proposal:
        return Proposal(study.deployment.deployed | {"size": study.guard.last_good["size"] + 10}, "recover")

    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = at_first - slope * (params["size"] - 50) if worse else 12.6
        return system(params)

    system = System()
    loop = Loop(
        config(constraints={"p99_ms": {"max": 12}}),
        measure,
        lambda study, _: Proposal(study.deployment.deployed, "stay"),
    )
    loop.run(8)
    worse, loop.solver.script.propose_next = True, propose
    if not measured:
        loop.solver._commit([Labelled(Label.DRIFT, "told", loop.clock(), since=len(loop.solver._study.history))])
    loop.run(24)
    kinds = [candidate.kind.value for candidate in loop.candidates[8:]]
    assert kinds.index("rollback") == back, kinds
    if back == guard.STUCK:
        reason = "last_good breaks a limit: once more, is it still what it was?"
        assert loop.candidates[8 + back + 1].reason == reason
    assert loop.status["last_good"]["params"]["size"] >= 70, "it goes on from what is better now"


def test_windows_elsewhere_that_broke_nothing_are_no_straying() -> None:
    """Many windows beside last_good kept the limits; when all break them last_good is measured once, and left."""
    system = System(worse_above_50)
    rails = {"rollback_on_regression": False}
    loop = Loop(config(constraints={"p99_ms": {"max": 12}}, guardrails=rails), system, to(size=60))
    loop.run(8 + 2 * guard.STUCK)
    assert loop.status["deployed"]["size"] == 60
    system.p99, before = 20.0, len(loop.candidates)
    loop.run(2)
    loop.solver._commit([Labelled(Label.DRIFT, "told", loop.clock(), since=len(loop.solver._study.history) - 1)])
    loop.step()
    assert [candidate.kind.value for candidate in loop.candidates[before:]] == ["replicate", "rollback", "explore"]


@pytest.mark.parametrize("said", [{}, {"status": "failed"}])
def test_two_windows_of_last_good_that_fail_or_are_beyond_a_limit_outweigh_many_that_were_not(
    said: dict[str, Any],
) -> None:
    goals: list[Goal] = []

    def propose(study: Any, request: Any) -> Proposal:
        goals.append(request.goal)
        return Proposal(study.deployment.deployed, "stay")

    system = System()
    loop = Loop(config(constraints={"p99_ms": {"max": 12}}), system, propose)
    loop.run(30)
    system.p99 = 14.0
    for _ in range(2):
        loop.step(**said)
    goals.clear()
    loop.step()
    assert goals == [Goal.RECOVER]
    assert loop.status["regime"] == 0, "what has changed the model says"


@pytest.mark.parametrize(("back", "recover"), [("failed", True), ("ok", False)])
def test_where_what_is_gone_back_to_breaks_a_limit_the_way_out_begins_at_once(back: str, recover: bool) -> None:
    """It held for long, which one window that fails does not outweigh; after one elsewhere, just before it, it does."""
    goals: list[Goal] = []

    def propose(study: Any, request: Any) -> Proposal:
        goals.append(request.goal)
        moved = len(goals) == 30
        return Proposal({"size": 60, "wait": 5.0} if moved else study.deployment.deployed, "one step")

    loop = Loop(config(constraints={"p99_ms": {"max": 12}}), System(), propose)
    while len(goals) < 30:
        loop.step()
    assert loop.status["deployed"]["size"] == 60
    loop.step(status="failed")
    assert loop.step(status=back) == HERE
    goals.clear()
    loop.step()
    assert (goals == [Goal.RECOVER]) is recover


def test_out_of_limits_that_last_good_breaks_too_nothing_is_a_regression_and_no_safe_mode_holds_it() -> None:
    sizes = iter([60, 40, 59, 41, 58, 42, 57, 43] * 10)

    def propose(study: Any, request: Any) -> Proposal:
        return Proposal({"size": next(sizes), "wait": 5.0}, "recover")

    def measure(params: dict[str, Any]) -> dict[str, Any]:
        system.p99 = 20.0 + abs(params["size"] - 50)
        return system(params)

    system = System()
    loop = Loop(config(constraints={"p99_ms": {"max": 12}}, guardrails={"max_rollbacks_per_hour": 0}), measure, propose)
    loop.run(40)
    assert not loop.events(SafeModeEntered)
    assert Label.REGRESSION not in {event.label for event in loop.events(Labelled)}


def test_safe_mode_ends_where_last_good_breaks_a_limit() -> None:
    system = System(worse_above_50)
    rails = {"max_rollbacks_per_hour": 1}
    loop = Loop(config(constraints={"p99_ms": {"max": 12}}, guardrails=rails), system, to(size=60))
    while loop.status["phase"] != "safe mode":
        loop.step()
    system.p99 = 20.0
    loop.run(5)
    assert loop.status["phase"] != "safe mode"
    assert loop.events(SafeModeLeft)[0].reason == "last_good itself breaks a limit: nothing is safe"


def case_of(study: Study, found: Comparison) -> guard.Case:
    rails = study.config.guardrails
    assert rails is not None
    known = study.guard, rails, study.deployment, study.history
    return guard.Case(*known, found, settling=False, affords=True, confidence=0.95, beyond=lambda row: row.failed)


@pytest.mark.parametrize(
    ("better", "worse", "foreign", "promoted"),
    [(0.9, 0.1, False, True), (0.7, 0.1, False, False), (0.5, 0.4, True, True), (0.5, 0.4, False, False)],
)
def test_on_the_way_back_what_is_better_than_last_good_need_not_be_the_best(
    better: float, worse: float, foreign: bool, promoted: bool
) -> None:
    """P(worse than the best confirmed) is 0.9 throughout."""
    loop = Loop(config(), System(), to(size=55))
    loop.run(5)
    study = loop.solver._study
    assert study.deployment.deployed["size"] == 55
    running = Standing(windows=2, worse=worse, better=better)
    found = Comparison(running, Standing(windows=3), Standing(), worse_than_best=0.9, foreign=foreign)
    case = case_of(study, found)
    assert isinstance(guard.finding(case, 0.0), Promoted) is promoted


def test_where_neither_has_a_chance_to_keep_the_limits_and_none_is_farther_beyond_none_is_worse() -> None:
    hopeless, chance = Standing(windows=2, worse=0.99, holds=0.01), Standing(windows=2, worse=0.99, holds=0.3)
    assert guard._worse(hopeless, Standing(windows=2, holds=0.02)) == 0.0
    assert guard._worse(chance, Standing(windows=2, holds=0.32)) == 0.99, "utility among equals that may hold"
    assert guard._worse(replace(hopeless, farther=0.9), Standing(windows=2, holds=0.02)) == 0.9
    assert guard._worse(replace(hopeless, farther=0.75), Standing(windows=2, holds=0.02)) == 0.0, "so says much noise"


@pytest.mark.parametrize(("holds", "collapsed", "back"), [(0.7, False, True), (0.4, False, True), (0.7, True, False)])
def test_what_collapsed_is_left_for_a_last_good_that_did_not_however_long_it_had_held(
    holds: float, collapsed: bool, back: bool
) -> None:
    given = config(constraints={"p99_ms": {"max": 15}}, guardrails={"windows_to_promote": 50})
    loop = Loop(given, System(), to(size=55))
    loop.run(5)
    study = loop.solver._study
    limit = study.config.goals.limits[0]
    running = Standing(windows=9, holds=1.0, collapsed=True)
    good = Standing(windows=3, holds=holds, collapsed=collapsed)
    case = case_of(study, Comparison(running, good, Standing(), breach=1.0, breached=limit))
    assert isinstance(guard.finding(case, 0.0), Suspected) is back


def test_what_has_collapsed_is_worse_than_what_is_a_little_beyond_a_limit() -> None:
    fell, mild = Standing(windows=2, worse=0.1, holds=0.4, collapsed=True), Standing(windows=2, worse=0.9, holds=0.35)
    assert (guard._worse(fell, mild), guard._worse(mild, fell)) == (1.0, 0.0)
    assert guard._worse(fell, replace(mild, holds=0.9)) == fell.worse, "a last_good that keeps its limits is none of it"
    assert guard._worse(replace(fell, worse=0.3), fell) == 0.3


@pytest.mark.parametrize(("windows", "recover"), [(0, True), (3, False)])
def test_a_broken_limit_is_left_where_nothing_is_known_of_last_good_since_the_world_changed(
    windows: int, recover: bool
) -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.run(5)
    study = loop.solver._study
    found = Comparison(Standing(windows=2, holds=0.1), Standing(windows=windows, holds=0.5), Standing())
    case = case_of(study, found)
    assert (guard.verdict(case) == guard.Search(recover=True)) is recover


@pytest.mark.parametrize(("p", "goal"), [(0.4, Goal.RECOVER), (0.6, Goal.IMPROVE)])
def test_what_the_model_expects_to_break_a_limit_now_is_left_before_its_windows_prove_it(p: float, goal: Goal) -> None:
    goals: list[Goal] = []

    def propose(study: Any, request: Any) -> Proposal:
        goals.append(request.goal)
        return Proposal(study.deployment.may_run, "stay")

    loop = Loop(config(constraints={"p99_ms": {"max": 1000}}), System(), propose)
    script: Any = loop.solver.script
    script.describe = lambda study, params: ({}, p)
    loop.run(6)
    assert goals[-1] is goal


# ---- safe mode ----


def trouble(**rails: Any) -> Loop:
    """Regressions until safe mode."""
    loop = Loop(config(guardrails={"max_rollbacks_per_hour": 1} | rails), System(worse_above_50), to(size=60))
    for _ in range(60):
        loop.step()
        if loop.status["phase"] == "safe mode":
            return loop
    raise AssertionError("no safe mode")


def test_more_regressions_than_allowed_are_safe_mode_at_last_good() -> None:
    loop = trouble()
    assert loop.status["guard"]["regressions_last_hour"] == 2
    spent = loop.status["budget"]["spent"]
    held = loop.step()
    assert held is not None
    assert (held.kind, dict(held)) == ("hold", HERE)
    assert loop.status["budget"]["spent"] == spent + 1, "holds of safe mode cost"


def test_regressions_more_than_an_hour_apart_are_not_added_up() -> None:
    loop = Loop(config(guardrails={"max_rollbacks_per_hour": 1}), System(worse_above_50), to(size=60), window_s=2000.0)
    loop.run(40)
    assert [e.label for e in loop.events(Labelled)].count(Label.REGRESSION) > 3
    assert not loop.events(SafeModeEntered)


def test_thrashing_is_safe_mode_too() -> None:
    loop = Loop(config(guardrails={"max_rollbacks_per_hour": 0}), System(), to(size=55))
    loop.run(3)
    for _ in range(3):
        assert loop.step().kind != "hold"
        loop.solver.rollback()
        loop.step()
    assert loop.solver.ask_one().kind == "hold"
    assert loop.events(SafeModeEntered)[0].reason == "thrashing: 3 rollbacks within an hour"


def test_in_safe_mode_a_manual_change_is_taken_back() -> None:
    loop = trouble()
    loop.solver.seed([{"params": HERE | {"size": 47}, "values": {"qps": 100.0}}])
    back = loop.solver.ask_one()
    assert (back.kind, dict(back), back.reason) == ("rollback", HERE, "safe mode")


def test_a_failure_keeps_safe_mode_from_ending_early() -> None:
    loop = trouble()
    loop.step(status="failed")
    assert {c.kind for c in loop.run(12)} == {"hold"}


def test_a_manual_change_keeps_safe_mode_from_ending_early() -> None:
    """Someone else tunes too: what last_good does alone was not seen for long enough."""
    loop = trouble()
    loop.solver.seed([{"params": HERE | {"size": 47}, "values": {"qps": 100.0}}])
    assert [c.kind for c in loop.run(13)] == ["rollback"] + ["hold"] * 12
    assert loop.status["phase"] == "safe mode"


def test_safe_mode_ends_by_its_timer() -> None:
    loop = trouble()
    loop.clock.pass_s(3601.0)
    assert loop.solver.ask_one().kind == "explore"
    assert loop.events(SafeModeLeft)[0].reason == "the timer ran out"


def test_safe_mode_ends_by_calm_windows() -> None:
    loop = trouble()
    begin = len(loop.candidates)
    loop.until("explore", most=12)
    assert len(loop.candidates) - begin == 10, "ten calm windows, of which one was the first of safe mode"
    assert [c.kind for c in loop.candidates[begin:-1]] == ["hold"] * (len(loop.candidates) - begin - 1)
    assert "10 windows" in loop.events(SafeModeLeft)[0].reason


def test_safe_mode_ends_by_the_operator() -> None:
    loop = trouble()
    loop.solver.resume()
    assert loop.status["guard"]["safe_mode"] is None
    assert loop.solver.ask_one().kind == "explore"


def test_without_trouble_there_is_no_safe_mode() -> None:
    loop = Loop(config(), System(better_above_50), to(size=60))
    loop.run(30)
    assert not loop.events(SafeModeEntered)


# ---- what came late, and what is old ----


OLD = {"qps": 40.0, "p99_ms": 900.0}


@pytest.mark.parametrize("said", [{"status": "failed"}, {"values": OLD}])
def test_a_late_row_triggers_nothing(said: dict[str, Any]) -> None:
    loop = Loop(config(constraints={"p99_ms": {"max": 50}}, pending_ttl_s=100), System(), to(size=55))
    loop.run(3)
    expired = loop.solver.ask_one()
    loop.clock.pass_s(101.0)
    loop.step()
    loop.solver.seed([{"params": expired, "id": expired.id} | said])
    assert loop.solver.history().iloc[-1]["role"] == "late"
    assert loop.step().kind != "rollback"
    assert not loop.events(Suspected)


@pytest.mark.parametrize("said", [{"status": "failed"}, {"values": OLD, "time": 1e5}])
def test_an_old_row_triggers_nothing(said: dict[str, Any]) -> None:
    loop = Loop(config(constraints={"p99_ms": {"max": 50}}), System(), to(size=55))
    loop.until("explore")
    loop.solver.seed([{"params": loop.candidates[-1], "history": True} | said] * 5)
    assert loop.step().kind != "rollback"
    assert not loop.events(Suspected)


def test_old_rows_promote_nothing() -> None:
    loop = Loop(config(guardrails={"windows_to_promote": 3}), System(better_above_50), to(size=55))
    loop.until("explore")
    loop.solver.seed([{"params": HERE | {"size": 55}, "history": True, "values": {"qps": 130.0}} for _ in range(4)])
    loop.solver.ask_one()
    assert loop.status["last_good"]["params"] == HERE


def test_a_relative_limit_is_not_void_because_what_it_is_relative_to_was_not_measured() -> None:
    loop = Loop(config(constraints={"p99_ms": {"max": "1.1*baseline"}}), System(), to(size=55))
    for _ in range(9):
        assert loop.step(values={"qps": 100.0, "p99_ms": None}) == HERE
    assert "no window of what runs is complete" in loop.solver.ask_one().reason
    loop.run(2)
    assert loop.status["baseline"]["p99_ms"] == pytest.approx(10.0, rel=0.05)
