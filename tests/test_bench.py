"""Each bench runs and writes sane figures; how fast they are is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import record

ROOT = Path(__file__).parents[1]


def run(tmp_path: Path, name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"bench.{name}", *arguments, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"date", "machine", "settings", "figures"} == set(written)
    assert written["machine"]["versions"]["torch"]
    figures: dict[str, Any] = written["figures"]
    return figures


def test_null_counts_labels_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    figures = run(tmp_path, "null", "--studies", "1", "--windows", "8")
    assert figures["windows"] == 8
    before = (tmp_path / "null.json").stat().st_mtime_ns
    assert run(tmp_path, "null", "--studies", "1", "--windows", "8") == figures
    assert (tmp_path / "null.json").stat().st_mtime_ns == before, "the cell was there"


def test_soak_reports_memory_along_the_way(tmp_path: Path) -> None:
    figures = run(tmp_path, "soak", "--steps", "20")
    assert figures["growth"] == 1.0
    assert figures["rss_mib"]["20"] > 50


def test_regression_reports_shares_with_intervals(tmp_path: Path) -> None:
    shares = run(tmp_path, "regression", "--trials", "40")["rolled_back"]
    assert shares["within 1"]["share"] <= shares["within 3"]["share"] <= 1.0
    low, high = shares["within 3"]["interval_95"]
    assert low < shares["within 3"]["share"] <= high + 1e-9


def test_latency_times_us_and_the_peers_in_one_run(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra bench is not installed")
    figures = run(tmp_path, "latency", "--smoke")
    cell = figures["one objective"][0]
    assert {"n", "arqon_gp_ms", "optuna_gp_ms", "botorch_loop_ms", "vs_optuna_gp", "vs_botorch_loop"} <= set(cell)
    assert cell["vs_optuna_gp"] == pytest.approx(cell["optuna_gp_ms"][0] / cell["arqon_gp_ms"][0], rel=0.01)


def test_a_result_file_names_machine_versions_and_date(tmp_path: Path) -> None:
    written = json.loads(record.write("x", {"a": 1}, settings={"b": 2}, folder=tmp_path).read_text())
    assert (written["figures"], written["settings"]) == ({"a": 1}, {"b": 2})
    assert written["machine"]["processor"]
    assert len(written["date"]) == 10


def test_every_committed_result_was_written_by_a_bench() -> None:
    for path in record.RESULTS.glob("*.json"):
        assert (ROOT / "bench" / f"{path.stem}.py").exists()
        assert json.loads(path.read_text())["machine"]["versions"]
