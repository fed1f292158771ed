"""The guard: where one may go, what is good, and when it goes back. CONTRACT 3 and 4, driven without a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from arqon_gp import RateLimited, RequestError
from arqon_gp.advice import Goal, Proposal
from arqon_gp.records import Label, Labelled, Promoted, SafeModeEntered, SafeModeLeft, Suspected
from tests.conftest import FakeClock, Make
from tests.scripted import Loop, to

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


def test_a_cancelled_candidate_that_runs_is_what_runs() -> None:
    loop = Loop(config(), System(), to(size=57))
    loop.run(3)
    candidate = loop.solver.ask_one()
    loop.solver.cancel(candidate.id, applied=True)
    assert loop.status["deployed"]["size"] == 57
    with pytest.raises(RequestError, match="is no unanswered candidate"):
        loop.solver.cancel(candidate.id)


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


def test_last_good_contradicting_its_level_twice_is_drift_without_a_rollback() -> None:
    system = System()
    loop = Loop(config(), system)
    loop.run(8)
    system.level = 60.0
    after = loop.run(4)
    assert [e.label for e in loop.events(Labelled)] == [Label.DRIFT]
    assert "rollback" not in [c.kind for c in after]
    assert loop.events(Labelled)[0].since == 8


def test_a_failed_window_rolls_back_at_once() -> None:
    loop = Loop(config(), System(), to(size=60))
    loop.run(3)
    loop.step(status="failed")
    back = loop.step()
    assert back is not None
    assert (back.kind, dict(back), back.reason) == ("rollback", HERE, "its window failed")
    loop.solver.ask_one()
    assert [e.label for e in loop.events(Labelled)] == [Label.REGRESSION]


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


def test_when_what_runs_is_last_good_there_is_no_rollback() -> None:
    loop = Loop(config(), System())
    loop.run(3)
    for _ in range(4):
        loop.step(status="failed")
    assert "rollback" not in [c.kind for c in loop.candidates]
    assert not loop.events(Suspected)


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


def test_safe_mode_ends_by_its_timer() -> None:
    loop = trouble()
    loop.clock.pass_s(3601.0)
    assert loop.solver.ask_one().kind == "explore"
    assert loop.events(SafeModeLeft)[0].reason == "the timer ran out"


def test_safe_mode_ends_by_calm_windows() -> None:
    loop = trouble()
    begin = len(loop.candidates)
    loop.until("explore", most=12)
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
