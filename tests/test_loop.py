"""The live loop over a system that only notes what it is told: what is applied, measured, reported, and left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import ResultError, runner
from arqon_gp.journal import MemoryJournal
from arqon_gp.journal.sqlite import SqliteJournal
from arqon_gp.runner import Step
from tests.conftest import Make
from tests.scripted import Loop, Script, ScriptedSolver, to
from tests.test_guard import HERE, config

THERE = HERE | {"size": 55}


class Notebook:
    """A System that notes its calls; `stop_at`: the observation at which Ctrl-C is pressed."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.stop_at = stop_at

    def apply(self, params: Any) -> None:
        self.calls.append(("apply", params))

    def observe(self, window_s: float) -> dict[str, float]:
        self.calls.append(("observe", window_s))
        if len(self.observed) == self.stop_at:
            raise KeyboardInterrupt
        return {"qps": 100.0 + len(self.observed)}

    def close(self) -> None:
        raise AssertionError("the loop closes nothing that it did not open")

    @property
    def applied(self) -> list[Any]:
        return [value for name, value in self.calls if name == "apply"]

    @property
    def observed(self) -> list[Any]:
        return [value for name, value in self.calls if name == "observe"]


def loop(**more: Any) -> Loop:
    return Loop(config(budget=6, **more), lambda params: {}, to(size=55))


def test_only_a_change_is_applied_and_only_after_it_the_settling_time_is_discarded() -> None:
    driven, system = loop(settle_s=0.5), Notebook()
    shown: list[Step] = []
    count = runner.run(driven.solver, system, window_s=2.0, running=HERE, show=shown.append)
    assert system.calls[:3] == [("observe", 2.0)] * 3, "the start config runs already"
    assert system.calls[3:6] == [("apply", THERE), ("observe", 0.5), ("observe", 2.0)]
    changes = [b for a, b in zip([HERE, *system.applied], system.applied, strict=False) if a != b]
    assert changes == system.applied, "nothing is applied twice in a row"
    history = driven.solver.history()
    assert count == len(history) == system.observed.count(2.0)
    assert list(history["cost"]) == [2.0] * count
    assert history["qps"][3] == 105.0, "the fifth observation: the fourth was discarded"
    assert [(s.number, s.outcomes is None) for s in shown] == [
        (n, before) for n in range(1, count + 1) for before in (True, False)
    ]
    assert [s.changed for s in shown[::2]] == [False, False, False, True, *(s.changed for s in shown[8::2])]


def test_what_is_not_known_to_run_is_applied_first() -> None:
    driven, system = loop(), Notebook()
    runner.run(driven.solver, system, window_s=1.0)
    assert system.calls[0] == ("apply", HERE)


def test_the_context_is_read_for_the_ask_before_a_window_and_for_its_result_after_it(make: Make) -> None:
    config = {"seed": 1, "budget": 4, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}}
    solver, system = make(config | {"context": {"load": {"min": 0, "max": 1000}}}), Notebook()
    count = runner.run(solver, system, window_s=1.0, context=lambda: {"load": 10.0 * len(system.calls)})
    asked = [one.context["load"] for one in solver._study.deployment.issued]
    told = list(solver.history()["context_load"])
    assert count == len(asked) == len(told) == 4
    assert told == [10.0 * (1 + i) for i, name in enumerate(name for name, _ in system.calls) if name == "observe"]
    assert asked == [0.0, *told[:-1]]


@pytest.mark.parametrize("broken", [OSError("no collector"), {"lod": 1.0}])
def test_a_window_whose_context_cannot_be_read_is_not_lost(make: Make, broken: Any) -> None:
    config = {"seed": 1, "budget": 4, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}}
    solver, system = make(config | {"context": {"load": {"min": 0, "max": 1000}}}), Notebook()

    def context() -> dict[str, float]:
        if len(system.calls) < 3:
            return {"load": 10.0}
        if isinstance(broken, OSError):
            raise broken
        return broken

    with pytest.raises((OSError, ResultError)):
        runner.run(solver, system, window_s=1.0, context=context)
    measured = [name for name, _ in system.calls].count("observe")
    assert list(solver.history()["context_load"]) == [10.0] * measured
    assert solver.status()["pending"] == []


def test_at_the_end_the_system_runs_what_is_recommended() -> None:
    driven, system = loop(), Notebook()
    runner.run(driven.solver, system, window_s=1.0, running=HERE)
    assert driven.solver.ask_one() is None
    assert system.applied[-1] == driven.solver.recommend().params == driven.status["deployed"]


def test_ctrl_c_changes_nothing_and_the_loop_goes_on_with_the_same_candidate() -> None:
    driven, system = loop(), Notebook(stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        runner.run(driven.solver, system, window_s=1.0, running=HERE)
    assert system.calls[-2:] == [("apply", THERE), ("observe", 1.0)], "nothing after the interrupt"
    assert driven.solver.get_history_len() == 3
    assert driven.solver.ask_one().id == driven.status["pending"][0] == "4"
    again = Notebook()
    runner.run(driven.solver, again, window_s=1.0)
    assert again.calls[0] == ("apply", THERE), "handed out before the interrupt, measured now"


class Interrupted:
    """A database connection on which Ctrl-C arrives with the end of one commit."""

    def __init__(self, db: Any) -> None:
        self.db, self.armed = db, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        done = self.db.execute(sql, *values)
        if self.armed and sql == "COMMIT":
            self.armed = False
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("call", ["ask", "seed", "pause"])
def test_ctrl_c_while_the_journal_commits_does_not_part_it_from_the_study(call: str, tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "journal.db"))
    journal._db = connection = Interrupted(journal._db)  # type: ignore[assignment]
    solver = ScriptedSolver(config(), journal=journal, registry=CollectorRegistry())
    solver.script = Script(to(size=55))
    calls = {
        "ask": solver.ask_one,
        "seed": lambda: solver.seed([{"params": HERE, "values": {"qps": 101.0}}]),
        "pause": solver.pause,
    }
    connection.armed = True
    with pytest.raises(KeyboardInterrupt):
        calls[call]()
    assert solver.get_history_len() == (call == "seed")
    assert solver.status()["pending"] == (["1"] if call == "ask" else [])
    assert solver.status()["phase"] == ("paused" if call == "pause" else "start")
    candidate = solver.ask_one()
    solver.seed([{"params": candidate, "values": {"qps": 100.0}, "id": candidate.id}])
    before = solver.status()
    solver.close()
    with ScriptedSolver(config(), journal=f"sqlite:///{tmp_path}/journal.db", registry=CollectorRegistry()) as again:
        assert again.status()["history_len"] == before["history_len"]


def test_ctrl_c_before_the_journal_has_written_takes_nothing() -> None:
    class Refusing(MemoryJournal):
        armed = False

        def append(self, *given: Any) -> None:
            if self.armed:
                raise KeyboardInterrupt
            super().append(*given)

    journal = Refusing()
    solver = ScriptedSolver(config(), journal=journal, registry=CollectorRegistry())
    solver.script = Script(to(size=55))
    journal.armed = True
    with pytest.raises(KeyboardInterrupt):
        solver.ask_one()
    journal.armed = False
    assert solver.status()["pending"] == []
    assert solver.ask_one().id == "1"
    solver.close()


def test_the_farewell_says_what_runs_what_is_good_and_how_to_go_on() -> None:
    driven, system = loop(), Notebook(stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        runner.run(driven.solver, system, window_s=1.0, running=HERE)
    assert runner.farewell(driven.solver, "arqon-gp demo --dir here").splitlines() == [
        f"runs now:  {HERE}",
        f"or, not reported yet:  {THERE}",
        f"last good: {HERE}",
        "nothing was changed on the way out, and no accepted result is lost",
        "resume:    arqon-gp demo --dir here",
    ]


def test_the_farewell_without_guardrails_knows_no_last_good(make: Make) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})
    told = runner.farewell(solver, "again")
    assert "last good: not kept (no guardrails)" in told
    assert "not reported yet" not in told


def test_what_was_told_weighs_little_and_is_explained_from_the_journal(make: Make) -> None:
    solver = make({"seed": 1, "budget": 12, "probe_ratio": 0.3, "bounds": {"x": {"min": 0, "max": 1}}})
    seen = []
    while (candidate := solver.ask_one()) is not None:
        seen.append(candidate)
        solver.seed([{"params": candidate, "id": candidate.id, "value": (candidate["x"] - 0.3) ** 2}])
    *told, last = solver._study.deployment.issued
    assert len(told) == 11
    assert {(one.reason, one.predicted) for one in told} == {("", None)}
    assert last.predicted is not None
    rows = solver._study.history.rows
    assert all(row.params is one.params for row, one in zip(rows, (*told, last), strict=True))
    for candidate in seen:
        explained = solver.explain(candidate.id)
        assert explained["reason"] == candidate.reason
        shown = explained["predicted"] or {}
        assert {name: p["mean"] for name, p in shown.items()} == {
            n: p.mean for n, p in (candidate.predicted or {}).items()
        }
    assert solver._metrics._predictions == sum(candidate.predicted is not None for candidate in seen)


def test_one_that_is_not_told_yet_keeps_what_it_was_handed_out_with(make: Make) -> None:
    solver = make({"seed": 1, "budget": 12, "probe_ratio": 0.2, "bounds": {"x": {"min": 0, "max": 1}}})
    for _ in range(4):
        candidate = solver.ask_one()
        assert candidate is not None
        solver.seed([{"params": candidate, "id": candidate.id, "value": (candidate["x"] - 0.3) ** 2}])
    first, second = solver.ask(2)
    assert solver._study.deployment.issued[-2].predicted == first.predicted is not None
    solver.seed([{"params": second, "id": second.id, "value": 0.1}])
    assert solver._study.deployment.issued[-2].reason == first.reason
