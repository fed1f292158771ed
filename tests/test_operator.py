"""What the operator may do: pause, resume, rollback, cancel, close; journaled, and in their order of precedence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, ClosedError, JournalError, RequestError
from arqon_gp.journal import MemoryJournal
from arqon_gp.records import Event, Paused, Resumed, RollbackOrdered
from tests.conftest import Make
from tests.scripted import Loop, ScriptedSolver, to
from tests.test_guard import HERE, System, config, trouble


def loop_at(size: int = 55) -> Loop:
    loop = Loop(config(), System(), to(size=size))
    loop.run(4)
    return loop


def test_pause_holds_what_runs_and_results_still_count() -> None:
    loop = loop_at()
    loop.solver.pause()
    held = loop.run(3)
    assert [(c.kind, c["size"]) for c in held] == [("hold", 55)] * 3
    assert loop.status["phase"] == "paused"
    assert loop.solver.get_history_len() == 7
    loop.solver.resume()
    assert loop.solver.ask_one().kind != "hold"
    assert [type(e) for e in loop.events(Paused, Resumed)] == [Paused, Resumed]


def test_what_was_ordered_survives_a_restart() -> None:
    loop = loop_at()
    loop.solver.rollback()
    loop.solver.pause()
    loop.solver.close()
    again = ScriptedSolver(config(), journal=loop.journal, registry=CollectorRegistry(), clock=loop.clock)
    again.script = loop.solver.script
    with again:
        assert (again.status()["phase"], again.ask_one().kind) == ("paused", "hold")
        again.resume()
        assert again.ask_one().kind == "rollback"


def test_a_pause_goes_before_safe_mode_and_resume_ends_both() -> None:
    loop = trouble()
    loop.solver.pause()
    assert loop.solver.ask_one().reason == "paused by the operator"
    loop.solver.resume()
    assert loop.status["guard"]["safe_mode"] is None
    assert loop.solver.ask_one().kind == "explore"


def test_a_rollback_to_what_runs_already_changes_nothing() -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.run(3)
    loop.solver.rollback()
    assert not loop.status["guard"]["rollback_ordered"]
    assert loop.solver.ask_one().kind == "explore"


def test_a_superseded_candidate_is_unanswered_and_its_result_comes_late() -> None:
    loop = loop_at()
    loop.solver.script.propose_next = to(size=52)
    superseded = loop.solver.ask_one()
    assert superseded["size"] == 52
    loop.solver.rollback()
    back = loop.solver.ask_one()
    assert loop.status["pending"] == [back.id]
    assert [params["size"] for params in loop.status["in_doubt"]] == [52, 50]
    loop.solver.seed([{"params": superseded, "id": superseded.id, "values": {"qps": 100.0}}])
    assert loop.status["deployed"]["size"] == 55, "a late row never says what runs"
    loop.solver.seed([{"params": back, "id": back.id, "values": {"qps": 100.0}}])
    assert (loop.status["deployed"], loop.status["in_doubt"]) == (HERE, [])
    assert loop.status["budget"]["spent"] == 5, "four windows and the late one; the rollback is free"


def test_a_pause_goes_before_an_ordered_rollback() -> None:
    loop = loop_at()
    loop.solver.rollback()
    loop.solver.pause()
    assert loop.solver.ask_one().kind == "hold"
    loop.solver.resume()
    assert loop.solver.ask_one().kind == "rollback"
    assert loop.events(RollbackOrdered)


def test_an_ordered_rollback_supersedes_what_is_pending_and_is_done_once() -> None:
    loop = loop_at()
    pending = loop.solver.ask_one()
    loop.solver.rollback()
    back = loop.step()
    assert back is not None
    assert (back.kind, dict(back), back.reason) == ("rollback", HERE, "ordered by the operator")
    assert pending.id not in loop.status["pending"]
    assert not loop.status["guard"]["rollback_ordered"]
    assert loop.solver.ask_one().kind != "rollback"


def test_a_rollback_without_guardrails_is_refused(make: Make) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})
    with pytest.raises(RequestError, match="without guardrails there is no last_good"):
        solver.rollback()


@pytest.mark.parametrize("id", ["99", "x", "1h1", ""])
def test_an_unknown_id_cannot_be_cancelled(id: str) -> None:
    loop = loop_at()
    open_id = loop.solver.ask_one().id
    with pytest.raises(RequestError, match=f"these are: {open_id}"):
        loop.solver.cancel(id)


def test_after_close_every_call_says_so_and_close_is_idempotent(make: Make) -> None:
    solver: ArqonSolver = make(config())
    solver.close()
    solver.close()
    for call in (solver.ask_one, solver.status, solver.recommend, solver.pause, lambda: solver.seed([])):
        with pytest.raises(ClosedError, match="was closed"):
            call()


def test_a_solver_whose_journal_cannot_be_written_is_closed_all_the_same() -> None:
    class Full(MemoryJournal):
        closed = full = False

        def append(self, study: str, after: int, events: Sequence[Event]) -> None:
            if self.full:
                raise JournalError("the disk is full")
            super().append(study, after, events)

        def close(self) -> None:
            self.closed = True

    journal, registry = Full(), CollectorRegistry()
    solver = ArqonSolver({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}}, journal=journal, registry=registry)
    assert registry.get_sample_value("arqon_history_len", {"study": "default"}) == 0.0
    journal.full = True
    with pytest.raises(JournalError, match="the disk is full"):
        solver.close()
    assert journal.closed
    assert registry.get_sample_value("arqon_history_len", {"study": "default"}) is None
    solver.close()
    with pytest.raises(ClosedError):
        solver.ask_one()


def test_a_solver_is_a_context(make: Make) -> None:
    with make(config()) as solver:
        solver.ask_one()
    with pytest.raises(ClosedError):
        solver.ask_one()


def test_more_than_one_candidate_at_once_is_refused_under_guardrails(make: Make) -> None:
    solver = make(config())
    with pytest.raises(RequestError, match="one live system runs one config"):
        solver.ask(2)
    assert solver.ask() == [HERE]
    for q in (0, -1, 1.5, True):
        with pytest.raises(RequestError, match="q: expected a whole number"):
            make(config(name=f"q{q}")).ask(q)


@pytest.mark.parametrize("device", ["tpu", "cuda:", "", None])
def test_an_unknown_device_is_refused_at_once(make: Make, device: Any) -> None:
    with pytest.raises(RequestError, match=r"device: expected .auto., .cpu., .cuda. or .cuda:1., found "):
        make(config(), device=device)
