"""The live loop, the SQLite system under a real load, the demo and the command line."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from arqon_gp import ArqonSolver, cli, demo, runner
from arqon_gp.config import parse
from arqon_gp.systems.sqlite import SqliteSystem
from tests.conftest import Make


class FakeSystem:
    """Remembers what it was told; stops the loop at a window, if it is to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.log: list[Any] = []
        self.stop_at = stop_at

    def apply(self, params: dict[str, Any]) -> None:
        self.log.append(("apply", params["x"]))

    def observe(self, window_s: float) -> dict[str, float]:
        self.log.append(("observe", window_s))
        if self.stop_at is not None and sum(entry == ("observe", 2.0) for entry in self.log) == self.stop_at:
            raise KeyboardInterrupt
        return {"qps": 1.0}

    def close(self) -> None:
        self.log.append(("close",))


CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 9,
    "settle_s": 0.5,
    "bounds": {"x": {"type": "int", "min": 0, "max": 100, "initial": 50}},
    "objectives": {"qps": "max"},
    "guardrails": {"max_delta": [10]},
}


def test_the_loop_applies_changes_discards_settle_s_and_reports_every_window(make: Make) -> None:
    solver, system, shown = make(CONFIG), FakeSystem(), []
    number = runner.run(solver, system, window_s=2.0, running={"x": 50}, show=shown.append)
    assert number == solver.get_history_len() == sum(entry == ("observe", 2.0) for entry in system.log)
    for i, entry in enumerate(system.log):
        if entry[0] == "apply":
            assert system.log[i + 1 : i + 3] == [("observe", 0.5), ("observe", 2.0)]
    assert system.log.count(("observe", 0.5)) == sum(entry[0] == "apply" for entry in system.log)
    assert [step.outcomes is None for step in shown] == [True, False] * number
    assert ("close",) not in system.log


def test_stopped_in_a_window_nothing_is_changed_or_lost_and_the_farewell_says_what_runs(make: Make) -> None:
    solver, system = make(CONFIG), FakeSystem(stop_at=5)
    with pytest.raises(KeyboardInterrupt):
        runner.run(solver, system, window_s=2.0, running={"x": 50})
    assert system.log[-1] == ("observe", 2.0)
    assert solver.get_history_len() == 4
    text = runner.farewell(solver, "arqon-gp demo --dir here")
    status = solver.status()
    assert f"runs now:  {status['deployed']}" in text
    assert str(status["in_doubt"][-1]) in text
    assert f"last good: {status['last_good']['params']}" in text
    assert "resume:    arqon-gp demo --dir here" in text


def test_a_real_database_under_load_is_measured_and_its_knobs_are_in_force(tmp_path: Path) -> None:
    system = SqliteSystem(tmp_path / "load.db", clients=4)
    try:
        system.apply({"pool_size": 2, "cache_mb": 1.0, "wal_autocheckpoint": 50})
        seen = system.observe(0.5)
        assert all(math.isfinite(v) for v in seen.values())
        assert seen["queries_per_second"] > 10
        assert seen["p99_latency_ms"] > 0
        assert 0 <= seen["error_rate"] <= 1
        assert list(seen) == ["queries_per_second", "p99_latency_ms", "error_rate"]
        with sqlite3.connect(tmp_path / "load.db") as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.close()
        pid = system._process.pid
    finally:
        system.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (tmp_path / "load.db").exists(), "the data stays"


def test_a_load_process_that_died_is_an_error_and_no_hang(tmp_path: Path) -> None:
    system = SqliteSystem(tmp_path / "load.db", clients=2)
    system._process.kill()
    with pytest.raises(RuntimeError, match="the load process ended"):
        system.observe(0.1)
    system.close()


def demo_arguments(folder: Path) -> list[str]:
    return ["demo", "--dir", str(folder), "--windows", "8", "--window-s", "0.2", "--pairs", "2", "--plain"]


def test_the_demo_tunes_compares_and_draws_and_an_interrupted_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, windows = SqliteSystem.observe, []

    def interrupted(self: SqliteSystem, window_s: float) -> dict[str, float]:
        windows.append(window_s)
        if len(windows) == 4:
            raise KeyboardInterrupt
        return real(self, window_s)

    monkeypatch.setattr(demo, "compare", lambda console, *_: console.print("compared"))
    with monkeypatch.context() as patch:
        patch.setattr(SqliteSystem, "observe", interrupted)
        assert cli.main(demo_arguments(tmp_path)) == 130
    said = capsys.readouterr().out
    assert "stopped." in said
    assert f"arqon-gp demo --dir {tmp_path}" in said.replace("\n", "")
    assert cli.main(demo_arguments(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "start" in said
    assert "compared" in said
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")
    with ArqonSolver(
        demo.config(8), journal=f"sqlite:///{tmp_path / 'journal.db'}", registry=CollectorRegistry()
    ) as solver:
        assert solver.status()["budget"]["spent"] == 8


class TwoLevels:
    """2,000 queries a second with a small pool, 3,000 with a large one."""

    def __init__(self) -> None:
        self.size, self.order = 0, []

    def apply(self, params: dict[str, Any]) -> None:
        self.size = params["pool_size"]
        self.order.append(self.size)

    def observe(self, window_s: float) -> dict[str, float]:
        wobble = 10.0 * (len(self.order) % 3)
        return {"queries_per_second": 1000.0 * self.size + wobble, "p99_latency_ms": 10.0, "error_rate": 0.0}


def test_the_comparison_is_interleaved_and_has_an_interval_of_95_percent(capsys: pytest.CaptureFixture[str]) -> None:
    study, system = parse(demo.config(40)), TwoLevels()
    recommended = study.start | {"pool_size": 6}
    settings = demo.Settings(None, 40, 0.1, 4, True)
    demo.compare(Console(width=120), system, study, recommended, settings)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert system.order == [4, 6, 6, 4, 4, 6, 6, 4]
    assert "difference (95 % interval)" in said
    assert "utility" in said
    assert "+20,0" in said or "+19,9" in said, "10 x 2,000 more"


def test_the_interval_of_paired_differences_is_students() -> None:
    import numpy as np

    mean, half = demo.paired_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert mean == 2.5
    assert half == pytest.approx(3.18245 * 1.290994 / 2.0, rel=1e-4)
    assert demo.paired_interval(np.array([1.0]))[1] == math.inf


def test_the_live_view_shows_config_box_outcomes_decisions_and_progress(make: Make) -> None:
    study = parse(demo.config(40))
    solver = make(study)
    console = Console(width=110, height=50, force_terminal=True, record=True)
    view = demo._View(console, solver, study)
    with view:
        for _ in range(4):
            candidate = solver.ask_one()
            view.show(runner.Step(1, candidate, False))
            values = {"queries_per_second": 4321.0, "p99_latency_ms": 12.5, "error_rate": 0.001}
            solver.seed([{"params": candidate, "values": values, "id": candidate.id}])
            view.show(runner.Step(1, candidate, False, values))
    text = console.export_text()
    for shown in (
        "running config",
        "may become",
        "pool_size",
        "95 % interval",
        "4,321",
        "what runs now is measured first",
    ):
        assert shown in text, shown
    assert "4/40" in text


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, says in (("--help", "demo"), ("--version", "arqon-gp 0.")):
        with pytest.raises(SystemExit) as caught:
            cli.main([flag])
        assert caught.value.code == 0
        assert says in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([])
