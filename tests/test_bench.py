"""Each bench runs and writes sane figures; how fast they are is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import many_knobs, parity, problems, record

ROOT = Path(__file__).parents[1]


def start(tmp_path: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"bench.{name}", *arguments, "--out", str(tmp_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run(tmp_path: Path, name: str, *arguments: str) -> dict[str, Any]:
    done = start(tmp_path, name, *arguments)
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"date", "machine", "settings", "figures"} == set(written)
    assert written["machine"]["versions"]["torch"]
    figures: dict[str, Any] = written["figures"]
    return figures


def peers_are_installed() -> None:
    for name in ("optuna", "egobox"):
        pytest.importorskip(name, reason="the extra bench is not installed")


def test_null_counts_labels_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    figures = run(tmp_path, "null", "--studies", "1", "--windows", "8")
    assert (figures["blind"]["windows"], figures["context"]["windows"]) == (8, 8)
    before = (tmp_path / "null.json").stat().st_mtime_ns
    assert run(tmp_path, "null", "--studies", "1", "--windows", "8") == figures
    assert (tmp_path / "null.json").stat().st_mtime_ns == before, "the cell was there"


def test_soak_reports_memory_along_the_way(tmp_path: Path) -> None:
    figures = run(tmp_path, "soak", "--steps", "60")
    assert figures["from_step"] == 12
    assert figures["growth"] == round(figures["rss_mib"][str(figures["to_step"])] / figures["rss_mib"]["12"], 4)
    assert figures["step_ms"].keys() == figures["rss_mib"].keys() >= {"10", "20"}
    assert "<svg" in (tmp_path / "soak.svg").read_text()


def test_active_reports_what_is_lost_by_place(tmp_path: Path) -> None:
    figures = run(tmp_path, "active", "--smoke")
    still, drift = figures["cells"].values()
    assert abs(still["spread"][0]) < 0.5 > abs(still["near"][0])
    assert 0.0 <= drift["spread"][0] < 0.05 > drift["near"][0] >= 0.0
    assert figures["worst"] == max(row[place][0] for row in (still, drift) for place in ("spread", "near"))


def test_endless_reports_asks_seeding_and_memory_by_length(tmp_path: Path) -> None:
    figures = run(tmp_path, "endless", "--smoke")
    assert list(figures) == [
        *(f"{study}, n={n}" for study in ("free", "guarded", "context") for n in (1000, 3000)),
        "allowed",
        "passed",
    ]
    for cell in list(figures.values())[:6]:
        assert 0.0 < cell["ask_ms"][0] <= cell["ask_ms"][1]
        assert cell["asked_mb"] > 0.0 < cell["seed_s"]


def test_regression_reports_shares_with_intervals(tmp_path: Path) -> None:
    figures = run(tmp_path, "regression", "--trials", "40")
    assert list(figures) == ["30%, known by 10", "20%, known by 20"]
    for found in figures.values():
        shares = found["rolled_back"]
        assert shares["within 1"]["share"] <= shares["within 3"]["share"] <= 1.0
        low, high = shares["within 3"]["interval_95"]
        assert low < shares["within 3"]["share"] <= high + 1e-9
    large, small = (found["rolled_back"]["within 1"]["share"] for found in figures.values())
    assert large > small


def test_latency_times_us_and_the_peers_in_one_run_and_a_fresh_process(tmp_path: Path) -> None:
    peers_are_installed()
    figures = run(tmp_path, "latency", "--smoke")
    assert list(figures) == ["d=3, m=1, n=10", "d=3, m=3, n=10", "guarded, n=6", "fresh process"]
    for name in list(figures)[:2]:
        cell = figures[name]
        for peer in ("optuna_gp", "egobox", "botorch_loop"):
            median, low, high = cell[f"{peer}_ms"]
            assert 0.0 < low <= median <= high
            # of one repeat: what the peer took, by the mean of our steps
            assert median / cell["arqon_gp_ms"][2] <= cell[f"vs_{peer}"][0] * 1.01
            assert cell[f"vs_{peer}"][0] * 0.99 <= median / cell["arqon_gp_ms"][1]
    fresh = figures["fresh process"]
    assert fresh["ratio"][0] == pytest.approx(fresh["arqon_gp_s"][0] / fresh["import_torch_s"][0], rel=0.01)
    assert 50.0 < fresh["import_torch_mib"][0] < 1000.0


def test_latency_goes_on_where_it_stopped_and_judges_by_the_gates(tmp_path: Path) -> None:
    peers_are_installed()
    cell = {
        "arqon_gp_ms": [2.0] * 3,
        "optuna_gp_ms": [30.0] * 3,
        "egobox_ms": [8.0] * 3,
        "botorch_loop_ms": [200.0] * 3,
    }
    cell |= {"vs_optuna_gp": [15.0] * 3, "vs_egobox": [4.0] * 3, "vs_botorch_loop": [100.0] * 3}
    record.write("latency", {"d=3, m=1, n=25": cell}, settings={}, folder=tmp_path)
    done = start(tmp_path, "latency", "--table")
    assert "| botorch_loop | 2.0 | 200.0 | 100.00x [100.00, 100.00] | 25x | 60x | met, stretch too |" in done.stdout
    assert "| optuna_gp | 2.0 | 30.0 | 15.00x [15.00, 15.00] | 10x | 20x | met |" in done.stdout
    assert "| egobox | 2.0 | 8.0 | 4.00x [4.00, 4.00] | 5x | 10x | missed |" in done.stdout


def test_acquisition_compares_with_botorchs_optimizer_and_with_every_point_of_a_mixed_space(tmp_path: Path) -> None:
    peers_are_installed()
    figures = run(tmp_path, "acquisition", "--smoke", "--problems", "branin2", "mixed")
    assert figures["all"]["cases"] == 6
    assert 0.9 < figures["problems"]["mixed"]["worst"] <= 1.0 + 1e-6, "nothing is worth more than the best point"
    assert figures["problems"]["branin2"]["median"] > 0.9
    before = (tmp_path / "acquisition.jsonl").read_text()
    assert run(tmp_path, "acquisition", "--smoke", "--problems", "branin2", "mixed") == figures
    assert (tmp_path / "acquisition.jsonl").read_text() == before, "the cells were there"


def test_parity_runs_every_arm_on_shared_points_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    peers_are_installed()
    few = ("--smoke", "--problems", "branin2", "bc2")
    figures = run(tmp_path, "parity", *few, "--shard", "0/2")
    path = tmp_path / "parity-pilot.jsonl"
    assert len(path.read_text().splitlines()) == 3, "a half: one problem, three arms"
    assert not figures["complete"]
    path.write_text(path.read_text()[:-9])  # killed in the middle of a line
    figures = run(tmp_path, "parity", *few)
    assert figures["complete"]
    assert figures["errors"] == []
    for name in ("branin2", "bc2"):
        assert {figures["problems"][name][arm]["seeds"] for arm in ("arqon", "botorch", "botorch_ours")} == {1}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    assert len(lines) == 6
    for name in ("branin2", "bc2"):
        assert len({line["start"] for line in lines if line["problem"] == name}) == 1, (
            "the arms share what they begin with"
        )
    assert all(line["seen"] <= line["start"] and line["seen"] <= line["score"] for line in lines)


def test_parity_judges_by_the_registered_margins(tmp_path: Path) -> None:
    peers_are_installed()
    few = ("--summary", "--problems", "branin2", "gp3x3")

    def verdict(shift: dict[str, float]) -> tuple[int, dict[str, Any]]:
        lines = []
        for name in ("branin2", "gp3x3"):
            for i in range(100):
                for arm, score in (
                    ("arqon", 5.0),
                    ("botorch", 5.0 + shift[name] + 0.1 * (-1) ** i),
                    ("botorch_ours", 5.0),
                ):
                    line = {
                        "problem": name,
                        "seed": parity.FIRST_SEED + i,
                        "arm": arm,
                        "asks": 20,
                        "score": score,
                        "seen": 1.0,
                    }
                    lines.append(line | {"ask_ms": 1.0, "fallbacks": {}})
        (tmp_path / "parity.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = start(tmp_path, "parity", *few)
        return done.returncode, json.loads((tmp_path / "parity.json").read_text())["figures"]

    code, figures = verdict({"branin2": 0.0, "gp3x3": 1.0})
    assert (code, figures["registered"]["botorch"]["passed"]) == (0, True)
    mean, low, high = figures["all"]["botorch - arqon, score"]
    assert low < mean < high
    assert mean == pytest.approx(0.5, abs=0.06)
    code, figures = verdict({"branin2": -3.0, "gp3x3": 3.0})
    assert (code, figures["registered"]["botorch"]["clearly_worse"]) == (1, ["branin2"]), (
        "good on average is not enough"
    )
    code, figures = verdict({"branin2": -2.1, "gp3x3": -1.95})
    assert code == 1
    assert figures["registered"]["botorch"]["lower_bound"] < -2.0


def test_hypervolumes_by_hand() -> None:
    one = np.array([[0.0, 0.0, 0.0]])
    assert problems.hypervolume(one, np.array([1.0, 2.0, 3.0])) == pytest.approx(6.0)
    three = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0], [0.9, 0.9, 0.9], [2.0, 0.0, 0.0]])
    # three boxes of 1/4, whose three pairs share 1/8, all of them the same 1/8
    assert problems.hypervolume(three, np.ones(3)) == pytest.approx(0.5)
    two = np.array([[0.2, 0.6], [0.6, 0.2], [0.6, 0.6]])
    assert problems.hypervolume(two, np.ones(2)) == pytest.approx(0.8 * 0.4 + 0.4 * 0.4)
    assert problems.hypervolume(two + 1.0, np.ones(2)) == 0.0


def test_a_case_is_a_function_of_name_and_seed() -> None:
    for name, problem in problems.PROBLEMS.items():
        case = problems.case(name, 20_001, 3)
        assert case.X.shape == (2 * (problem.d + 1), problem.d)
        assert case.noise.shape == (len(case.X) + 3, problem.m)
        if problem.m == 1:
            assert problems.regret(case, case.X[0]) >= 0.0
        else:
            assert 0.0 < problems.front_score(case, case.X) <= 100.0
    first, same, other = (problems.case("gp3", seed, 3) for seed in (20_001, 20_001, 20_002))
    assert first.observe(first.X[0], 4) == same.observe(same.X[0], 4)
    assert (first.X != other.X).all()
    assert first.function(first.X[:1]) != other.function(first.X[:1])


def test_known_optima_have_no_regret_and_known_fronts_no_gap() -> None:
    branin = problems.case("branin2", 20_000, 1)
    assert problems.regret(branin, np.array([(np.pi + 5) / 15, 2.275 / 15])) == pytest.approx(0.0, abs=1e-6)
    assert problems.regret(problems.case("levy4", 20_000, 1), np.full(4, 0.55)) == pytest.approx(0.0, abs=1e-6)
    best = np.array([0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573])
    assert problems.regret(problems.case("hart6", 20_000, 1), best) == pytest.approx(0.0, abs=1e-3)
    dtlz = problems.case("dtlz2x3", 20_000, 1)
    assert np.linalg.norm(dtlz.function(np.array([[0.3, 0.8, 0.5, 0.5]]))) == pytest.approx(1.0)
    # the box to the reference point less the eighth of the unit ball
    assert dtlz.hypervolume == pytest.approx(dtlz.reference.prod() - np.pi / 6, rel=0.04)


def test_a_result_file_names_machine_versions_and_date(tmp_path: Path) -> None:
    written = json.loads(record.write("x", {"a": 1}, settings={"b": 2}, folder=tmp_path).read_text())
    assert (written["figures"], written["settings"]) == ({"a": 1}, {"b": 2})
    assert written["machine"]["processor"]
    assert len(written["date"]) == 10


def test_every_committed_result_was_written_by_a_bench() -> None:
    for path in record.RESULTS.glob("*.json"):
        assert (ROOT / "bench" / f"{path.stem}.py").exists()
        assert json.loads(path.read_text())["machine"]["versions"]


def test_what_a_trust_region_gains_is_paired_by_seed() -> None:
    def line(arm: str, seed: int, score: float) -> dict[str, Any]:
        return {"problem": "gp30", "seed": seed, "evaluations": 100, "arm": arm, "score": score}

    lines = [line("region", 1, 1.0), line("everywhere", 1, 4.0), line("region", 2, 2.0), line("everywhere", 2, 7.0)]
    lines.append(line("region", 3, 99.0))  # its partner is not there yet
    found = many_knobs.summary(lines)["gp30, 100"]
    assert (found["seeds"], found["region"], found["everywhere"]) == (2, 1.5, 5.5)
    assert found["gain"] == [4.0, 2.04, 5.96]  # 4 +- 1.96 * sqrt(2) / sqrt(2)
    loop = many_knobs.loop("hart6_of_20", 66_000, 43, "everywhere")
    assert 0.0 < loop["score"] < 150.0
