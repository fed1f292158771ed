"""The command line and its demo: a short run to the end, an interrupted one that goes on, and the live view."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from rich.console import Console

from arqon_gp import Prediction, __version__, cli
from arqon_gp.advice import Proposal
from arqon_gp.config import parse
from arqon_gp.demo import Settings, _tune, _View, compare, paired_interval
from arqon_gp.demo import config as demo_config
from arqon_gp.errors import SystemFailed
from arqon_gp.journal.sqlite import SqliteJournal
from arqon_gp.records import Issued, Told
from arqon_gp.runner import Step
from tests.scripted import Loop

TINY = ["demo", "--windows", "8", "--window-s", "0.2", "--pairs", "2", "--plain", "--dir"]


def events(folder: Path, *types: type) -> list[Any]:
    journal = SqliteJournal(folder / "journal.db")
    try:
        return [event for event in journal.read("sqlite-demo", 0) if isinstance(event, types)]
    finally:
        journal.close()


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in (("--help", "demo"), ("--version", f"arqon-gp {__version__}")):
        with pytest.raises(SystemExit) as ended:
            cli.main([option])
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    for wrong in ([], ["tune"], ["demo", "--windows", "many"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(wrong)
        assert ended.value.code == 2
    assert "usage: arqon-gp" in capsys.readouterr().err


def test_without_its_extra_the_demo_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "arqon_gp.demo", None)
    assert cli.main([*TINY, str(tmp_path)]) == 2
    assert "pip install 'arqon-gp[demo]'" in capsys.readouterr().err


def test_an_interrupted_demo_changes_nothing_and_goes_on_in_the_same_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C as a terminal sends it, to the whole process group; then the printed command, to the end."""
    command = [sys.executable, "-u", "-c", "import sys; from arqon_gp.cli import main; sys.exit(main())"]
    first = subprocess.Popen(
        [*command, *TINY, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a job in the background
    )  # fmt: skip
    assert first.stdout is not None
    for line in first.stdout:
        if re.match(r" +2 start ", line):
            os.killpg(first.pid, signal.SIGINT)
            break
    said, complaints = first.communicate(timeout=60)
    assert (first.returncode, complaints) == (130, "")
    accepted = len(events(tmp_path, Told))
    assert accepted in (2, 3)
    deployed = "{'pool_size': 4, 'cache_mb': 2.0, 'wal_autocheckpoint': 20}"
    said = " ".join(said.split())
    assert f"runs now: {deployed}" in said
    assert f"last good: {deployed}" in said
    resume = re.search(r"resume: arqon-gp (demo --dir \S+ --windows 8 --window-s 0.2 --pairs 2 --plain)", said)
    assert resume is not None
    assert cli.main(["demo", "--dir", str(tmp_path), "--windows", "9"]) == 2
    assert "created with another config (budget: 8 in the journal, 9 given)" in capsys.readouterr().err
    again = subprocess.run(
        [*command, *resume[1].split()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (again.returncode, again.stderr) == (0, "")
    told, issued = events(tmp_path, Told), events(tmp_path, Issued)
    assert sum(row.spends for e in told for row in e.observations) == 8, "the budget goes on, it does not begin anew"
    assert len({e.id for e in issued}) == len(issued)
    assert [e.kind for e in issued].count("start") == 3, "what was measured before the interrupt still counts"
    end = " ".join(again.stdout.split())
    assert f"picture: {tmp_path}/tuning.png" in end
    compared = re.search(r"utility │ +\S+ │ +\S+ │ +\S+ \[\S+, \S+\]", end)
    assert compared or "recommended: the start config; nothing better was found that is sure" in end
    height, width, _ = image.imread(tmp_path / "tuning.png").shape
    assert min(height, width) > 800


def test_start_and_recommended_config_are_compared_side_by_side() -> None:
    study = parse(demo_config(8))
    calls: list[Any] = []

    class Server:
        def apply(self, params: Any) -> None:
            calls.append(params)

        def observe(self, window_s: float) -> dict[str, float]:
            size = calls[-1]["pool_size"]
            return {"queries_per_second": 100.0 * size + len(calls), "p99_latency_ms": 50.0, "error_rate": 0.01}

    better = study.start | {"pool_size": 8}
    console = Console(width=120, file=io.StringIO(), record=True)
    compare(console, Server(), study, better, Settings(None, 8, 1.0, 3, True))  # type: ignore[arg-type]
    assert [c["pool_size"] for c in calls] == [4, 8, 8, 4, 4, 8], "neither is always the first"
    said = console.export_text()
    # 401, 404, 405 and 802, 803, 806 differ by 401, 399 and 401: mean 400.33, half width 4.303 x 1.155 / sqrt(3) = 2.87
    assert re.search(r"queries_per_second .* 403 .* 804 .* \+400 \[\+397, \+403\]", said)
    assert re.search(r"utility .* \+4,003 \[\+3,975, \+4,032\]", said)
    assert "recommended {pool_size: 8" in said


def test_the_interval_of_paired_differences_is_students() -> None:
    mean, half = paired_interval(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3.0
    assert half == pytest.approx(3.182446 * np.sqrt(14.0 / 3.0) / 2.0, rel=1e-6)
    assert paired_interval(np.array([1.0])) == (1.0, np.inf)


def test_the_live_view_shows_config_box_outcomes_decisions_and_progress() -> None:
    given = demo_config(20) | {"probe_ratio": 0}
    there = {"pool_size": 8, "cache_mb": 4.0, "wal_autocheckpoint": 80}
    predicted = {
        "queries_per_second": Prediction(512.0, 480.0, 544.0),
        "p99_latency_ms": Prediction(41.0, 36.0, 47.0),
        "error_rate": Prediction(0.02, 0.01, 0.03),
    }
    outcomes = {"queries_per_second": 500.0, "p99_latency_ms": 40.0, "error_rate": 0.01}
    loop = Loop(given, lambda p: outcomes, lambda s, r: Proposal(there, "because it says so", predicted))
    loop.run(3)
    loop.clock.pass_s(1.0)
    console = Console(force_terminal=True, width=100, height=60, record=True, file=io.StringIO())
    with _View(console, loop.solver, parse(given)) as view:
        candidate = loop.solver.ask_one()
        view.show(Step(4, candidate, True))
        loop.solver.seed([{"params": candidate, "values": outcomes, "id": candidate.id}])
        view.show(Step(4, candidate, True, outcomes))
    shown = console.export_text().splitlines()[-40:]

    def line(*words: str) -> str:
        return next((text for text in reversed(shown) if all(word in text for word in words)), "")

    assert "running config" in line("running config")
    assert re.search(r"pool_size +│ 8 +│ 4 \.\. 8 +│ 4 +│ 1 \.\. 24", line("pool_size", "1 .. 24"))
    assert re.search(r"cache_mb +│ 4 +│ 2 \.\. 4 +│ 2 +│ 0.5 \.\. 64", line("cache_mb"))
    assert re.search(r"queries_per_second +│ 500 +│ 500 +│ 512 +│ 480 \.\. 544", line("queries_per_second"))
    utility = r"utility +│ 4,950 +│ 4,950 +│ 5,059 +│"
    assert re.search(utility, line("utility")), "10 x 500 - 40 - 1000 x 0.01, and 10 x 512 - 41 - 1000 x 0.02"
    assert re.search(r"4 explore +because it says so", line("because it says so"))
    assert re.search(r"4/20", line("4/20"))


def test_a_knob_of_choices_shows_them_and_a_low_terminal_the_latest_decisions() -> None:
    knob = {"type": "categorical", "choices": ["lru", "lfu", "arc"], "initial": "lfu"}
    given = demo_config(20) | {"probe_ratio": 0, "bounds": {"policy": knob}, "guardrails": {"max_delta": {"policy": 1}}}
    outcomes = {"queries_per_second": 500.0, "p99_latency_ms": 40.0, "error_rate": 0.01}
    loop = Loop(given, lambda p: outcomes)
    console = Console(force_terminal=True, width=80, height=22, record=True, file=io.StringIO())
    with _View(console, loop.solver, parse(given)) as view:
        for number in range(1, 8):
            candidate = loop.solver.ask_one()
            candidate.reason = f"reason {number}"
            view.show(Step(number, candidate, True))
            loop.solver.seed([{"params": candidate, "values": outcomes, "id": candidate.id}])
        panel = Console(width=80, record=True, file=io.StringIO())
        panel.print(view.live.get_renderable())
    shown = panel.export_text()
    assert len(shown.splitlines()) < 22
    assert re.search(r"policy +│ lfu +│ lru, lfu, arc +│ lfu +│ lru, lfu, arc", shown)
    assert [int(n) for n in re.findall(r"reason (\d)", shown)] == [5, 6, 7], "22 lines less 18 of tables, one spare"


def stopped(solver: Any, system: Any, folder: Path) -> tuple[int, str]:
    console = Console(width=300, file=io.StringIO(), record=True)
    given = Settings(folder, 8, 0.0, 2, True)
    status = _tune(console, given, parse(demo_config(8)), solver, system, folder)
    return status, console.export_text()


class Dead:
    """A system that answers so many times, and then raises."""

    def __init__(self, ends: BaseException, at: int) -> None:
        self.ends, self.left = ends, at

    def apply(self, params: Any) -> None:
        pass

    def observe(self, window_s: float) -> dict[str, float]:
        self.left -= 1
        if self.left < 0:
            raise self.ends
        return {"queries_per_second": 500.0, "p99_latency_ms": 40.0, "error_rate": 0.01}


def test_a_dead_load_ends_the_demo_like_an_interrupt_and_says_why(tmp_path: Path) -> None:
    loop = Loop(demo_config(8), dict)
    status, said = stopped(loop.solver, Dead(SystemFailed("the load process ended with status 1"), 3), tmp_path)
    assert status == 1
    assert "stopped: the load process ended with status 1" in said
    assert f"--dir {tmp_path} --windows 8" in said
    assert "or, not reported yet" not in said, "what is not reported is what runs"
    assert loop.solver.get_history_len() == 2


def test_an_interrupted_comparison_says_that_the_study_is_finished(tmp_path: Path) -> None:
    there = {"pool_size": 8, "cache_mb": 4.0, "wal_autocheckpoint": 80}
    loop = Loop(demo_config(8), lambda p: Dead(KeyboardInterrupt(), 9).observe(1.0))
    loop.run(8)
    loop.solver.script.best_is = there
    assert loop.solver.ask_one() is None
    found = loop.solver.recommend()
    better = dataclasses.replace(found, params=there)
    loop.solver.recommend = lambda: better
    status, said = stopped(loop.solver, Dead(KeyboardInterrupt(), 3), tmp_path)
    assert status == 130
    assert "stopped." in said
    assert "the study is finished, only the comparison is not" in said
    assert f"recommended: {there}" in said
    assert "compare again: arqon-gp demo" in said
    assert "runs now" not in said
