"""What an operator wants tried next: by legal steps, as far as they are not worse, and never against the guard."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, RequestError
from arqon_gp.records import Dequeued, Enqueued
from tests.conftest import Make
from tests.scripted import Loop, ScriptedSolver
from tests.test_guard import HERE, System, config, worse_above_50

FREE: dict[str, Any] = {"seed": 1, "budget": 10, "bounds": {"x": {"min": 0, "max": 1}, "n": {"type": "int", "max": 9}}}
FREE["bounds"]["n"]["min"] = 0


def loop_of(share: Any = lambda params: 1.0, **more: Any) -> Loop:
    """After the start windows; the script would stay where it is."""
    loop = Loop(config(**more), System(share))
    loop.run(3)
    return loop


def test_without_guardrails_it_is_the_next_candidate_and_the_search_goes_on(make: Make) -> None:
    solver = make(FREE)
    solver.enqueue({"x": 0.25, "n": 7})
    solver.enqueue({"x": 0.75, "n": 2})
    for wish in ({"x": 0.25, "n": 7}, {"x": 0.75, "n": 2}):
        candidate = solver.ask_one()
        assert candidate == wish
        assert (candidate.kind, candidate.reason) == ("explore", "enqueued by the operator")
        solver.seed([{"params": candidate, "value": 1.0}])
    assert solver.status()["enqueued"] == []
    third = solver.ask_one()
    assert third is not None
    assert "enqueued" not in third.reason


def test_a_pending_candidate_comes_first(make: Make) -> None:
    solver = make(FREE)
    pending = solver.ask_one()
    solver.enqueue({"x": 0.25, "n": 7})
    assert solver.ask_one() == pending
    solver.seed([{"params": pending, "value": 1.0}])
    assert solver.ask_one() == {"x": 0.25, "n": 7}


def test_under_guardrails_it_is_reached_by_legal_steps_each_confirmed() -> None:
    loop = loop_of()
    loop.solver.enqueue({"size": 83, "wait": 5.0})
    assert loop.status["enqueued"] == [{"size": 83, "wait": 5.0}]
    for _ in range(30):
        if loop.step() == {"size": 83, "wait": 5.0}:
            break
    sizes = list(dict.fromkeys(c["size"] for c in loop.candidates[3:]))
    assert sizes == [60, 70, 80, 83]
    last = loop.candidates[-1]
    assert (last.kind, last.reason, loop.status["enqueued"]) == ("explore", "enqueued by the operator", [])
    steps = [c for c in loop.candidates if c["size"] in (60, 70, 80) and c.kind == "explore"]
    assert {c.reason for c in steps} == {"towards what the operator enqueued"}


def test_a_regression_on_the_way_gives_it_up() -> None:
    loop = loop_of(worse_above_50)
    loop.solver.enqueue({"size": 83, "wait": 5.0})
    loop.until("rollback")
    assert loop.status["enqueued"] == []
    loop.run(6)
    assert max(c["size"] for c in loop.candidates) == 60, "never tried again"
    assert loop.status["deployed"] == HERE


def test_what_no_legal_step_leads_to_is_given_up_and_said_so() -> None:
    loop = loop_of(guardrails={"max_delta": [0, 1.0]})
    loop.solver.enqueue({"size": 60, "wait": 6.5})
    loop.run(12)
    assert {c["size"] for c in loop.candidates} == {50}, "frozen"
    assert loop.status["enqueued"] == []
    (event,) = loop.events(Dequeued)
    assert event.reason == "no legal step leads nearer to what was enqueued"
    assert any("dequeued" in finding for window in loop.solver.windows() for finding in window["findings"])


def test_what_runs_already_is_measured_again() -> None:
    loop = loop_of()
    loop.solver.enqueue(HERE)
    candidate = loop.step()
    assert candidate is not None
    assert (candidate.kind, dict(candidate), candidate.reason) == ("replicate", HERE, "enqueued by the operator")
    assert loop.status["enqueued"] == []


def test_it_waits_for_the_rate_limit_and_for_a_pause() -> None:
    loop = loop_of(guardrails={"max_updates_per_second": 1 / 3600})
    loop.solver.enqueue({"size": 55, "wait": 5.0})
    loop.solver.pause()
    assert loop.solver.ask_one().kind == "hold"
    loop.solver.resume()
    assert loop.step()["size"] == 55, "the first change"
    loop.solver.enqueue({"size": 50, "wait": 5.0})
    kinds = [loop.step() for _ in range(4)]
    assert {c["size"] for c in kinds} == {55}
    assert loop.status["enqueued"]


def test_it_survives_a_restart() -> None:
    loop = loop_of()
    loop.solver.enqueue({"size": 58, "wait": 5.5})
    again = ScriptedSolver(config(), journal=loop.journal, registry=CollectorRegistry(), clock=loop.clock)
    again.script = loop.solver.script
    assert again.status()["enqueued"] == [{"size": 58, "wait": 5.5}]
    assert again.ask_one() == {"size": 58, "wait": 5.5}
    assert len(loop.events(Enqueued)) == 1


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"x": 0.5}, "enqueue: knob 'n' is missing"),
        ({"x": 0.5, "n": 3, "z": 1}, "enqueue: unknown knob 'z'"),
        ({"x": 1.5, "n": 3}, "enqueue: x = 1.5 is out of bounds or off the grid"),
        ({"x": 0.5, "n": 3.5}, "enqueue: n = 3.5 is out of bounds or off the grid"),
        ({"x": "high", "n": 3}, "enqueue: x: 'high' is not a finite number"),
    ],
)
def test_a_config_that_cannot_run_is_refused_and_changes_nothing(make: Make, wish: dict[str, Any], says: str) -> None:
    solver = make(FREE)
    with pytest.raises(RequestError, match=says.replace("(", r"\(")):
        solver.enqueue(wish)
    assert solver.status()["enqueued"] == []


def test_at_the_end_nothing_more_is_tried(make: Make) -> None:
    solver: ArqonSolver = make(FREE | {"budget": 2})
    while (candidate := solver.ask_one()) is not None:
        solver.seed([{"params": candidate, "value": candidate["x"]}])
    with pytest.raises(RequestError, match="the study settles at the recommended config"):
        solver.enqueue({"x": 0.5, "n": 3})


def test_it_wakes_a_study_that_watches(make: Make) -> None:
    solver = make({key: value for key, value in FREE.items() if key != "budget"} | {"noise": {"value": "exact"}})
    for _ in range(60):
        candidate = solver.ask_one()
        if candidate.reason == "watching":
            break
        solver.seed([{"params": candidate, "value": 1.0}])
    assert solver.status()["phase"] == "watching"
    solver.seed([{"params": candidate, "value": 1.0}])
    solver.enqueue({"x": 0.125, "n": 1})
    assert solver.ask_one() == {"x": 0.125, "n": 1}


def test_the_way_back_inside_the_limits_comes_first() -> None:
    loop = loop_of(constraints={"p99_ms": {"max": 5.0}})
    loop.solver.enqueue({"size": 55, "wait": 5.0})
    candidate = loop.step()
    assert candidate == HERE, "the script stays; what runs breaks its limit, so the search is for a way out"
    assert loop.status["enqueued"] == [{"size": 55, "wait": 5.0}]
