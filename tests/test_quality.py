"""bench/quality.py: its problems, its cells and its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import problems
from bench.problems import PROBLEMS, Knob, case, regret
from tests.test_bench import peers_are_installed, start

PEERS = ("botorch", "optuna_gp", "optuna_tpe", "ax", "random")


@pytest.mark.parametrize(
    ("knob", "value", "unit"),
    [
        (Knob(), 0.25, 0.25),
        (Knob(10, 30), 15.0, 0.25),
        (Knob(1, 100, log=True), 10.0, 0.5),
        (Knob(0, 8, whole=True), 2, 0.25),
        (Knob(1, 64, log=True, whole=True), 8, 0.5),
        (Knob(choices=5), "c1", 0.25),
    ],
)
def test_a_knob_maps_the_unit_interval_to_its_values_and_back(knob: Knob, value: Any, unit: float) -> None:
    assert knob.unit(value) == pytest.approx(unit)
    assert knob.value(unit) == pytest.approx(value) if not knob.choices else knob.value(unit) == value
    assert type(knob.value(unit)) is type(value)
    if knob.levels is not None:
        assert unit in [pytest.approx(at) for at in knob.levels]
        assert all(knob.unit(knob.value(at)) == pytest.approx(at) for at in knob.levels)


def test_points_are_put_on_the_grids_of_their_knobs() -> None:
    problem = PROBLEMS["mixed5"]
    X = problem.snapped(np.random.default_rng(0).random((50, 5)))
    for i, knob in enumerate(problem.knobs):
        assert knob.levels is None or np.isin(X[:, i], knob.levels).all()
    np.testing.assert_array_equal(problem.snapped(X.copy()), X)


def test_the_noise_is_what_the_problem_says() -> None:
    grows = case("branin2_grows", 60_000, 2000)
    left, right = (
        np.array([grows.observe(np.array([u, 0.5]), i)[0] for i in range(2000)]) / grows.scale for u in (0.0, 1.0)
    )
    assert left.std() == pytest.approx(0.01, rel=0.1)
    assert right.std() == pytest.approx(0.25, rel=0.1)
    gross = case("hart6_gross", 60_000, 2000)
    off = np.array([gross.observe(gross.X[0], i)[0] for i in range(2000)]) - gross.function(gross.X[:1])[0, 0]
    far = np.abs(off / gross.scale[0]) > 0.5
    assert far.mean() == pytest.approx(0.05, abs=0.015)
    assert 0.3 < (off[far] > 0).mean() < 0.7
    assert off[~far].std() / gross.scale[0] == pytest.approx(0.05, rel=0.1)


def test_known_optima_have_no_regret() -> None:
    best = np.array([0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573])
    assert regret(case("ackley5", 60_000, 1), np.full(5, 0.4)) == pytest.approx(0.0, abs=1e-9)
    assert regret(case("hart6_of_20", 60_000, 1), np.append(best, np.full(14, 0.3))) == pytest.approx(0.0, abs=1e-3)
    mixed = case("mixed5", 60_000, 1)
    everywhere = mixed.problem.snapped(np.random.default_rng(1).random((20_000, 5)))
    assert (mixed.function(everywhere)[:, 0] >= mixed.best).all()


def test_every_arm_runs_on_mixed_knobs_and_several_outcomes_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    peers_are_installed()
    few = (
        "--smoke",
        "--problems",
        "mixed5",
        "pool3",
        "--arms",
        "arqon",
        "botorch",
        "optuna_gp",
        "optuna_tpe",
        "random",
    )
    done = start(tmp_path, "quality", *few)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "quality-pilot.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["problem"], line["arm"]) for line in lines} == {
        (name, arm) for name in ("mixed5", "pool3") for arm in ("arqon", "botorch", "optuna_gp", "optuna_tpe", "random")
    }
    assert [line for line in lines if "error" in line] == []
    assert all(0.0 <= line["score"] <= 100.0 for line in lines)
    assert start(tmp_path, "quality", *few).returncode == 0
    assert len(path.read_text().splitlines()) == len(lines), "the cells were there"


def write(path: Path, score_of: Callable[[str, int, str], float], seeds: int = 10) -> None:
    from bench import quality

    lines = [
        {"problem": name, "seed": quality.FIRST_SEED + i, "arm": arm, "score": score_of(name, i, arm), "ask_ms": 1.0}
        for name in quality.EVALUATIONS
        for i in range(seeds)
        for arm in ("arqon", *PEERS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_it_judges_by_what_was_registered(tmp_path: Path) -> None:
    peers_are_installed()

    def verdict(score_of: Callable[[str, int, str], float], seeds: int = 10) -> dict[str, Any]:
        write(tmp_path / "quality.jsonl", score_of, seeds)
        done = start(tmp_path, "quality", "--summary")
        found = json.loads((tmp_path / "quality.json").read_text())["figures"]["registered"]
        assert done.returncode == int(not found["passed"]), done.stderr
        return dict(found)

    good = verdict(lambda name, i, arm: 5.0 + 0.1 * i + (arm != "arqon"))
    assert good["passed"]
    assert good["best_mean_rank"] == "arqon"
    assert "<svg" in (tmp_path / "quality.svg").read_text()
    assert not verdict(lambda name, i, arm: 5.0 + (arm != "arqon"), seeds=9)["complete"]
    wide = verdict(lambda name, i, arm: 5.0 + (arm != "arqon") * (1.0 + 9.0 * (-1) ** i))
    assert not wide["complete"], "the intervals are too wide, and more seeds may be added"
    ranked = verdict(lambda name, i, arm: 5.0 - 0.5 * (arm == "ax"))
    assert (ranked["passed"], ranked["best_mean_rank"]) == (False, "ax")
    worse = verdict(lambda name, i, arm: 5.0 + (arm != "arqon") * (-4.0 if name == "levy4" else 1.0))
    assert (worse["passed"], worse["clearly_worse"]) == (False, ["levy4"])
    missed = verdict(lambda name, i, arm: 7.0 + (arm != "arqon"))
    assert (missed["passed"], missed["targets_missed"]) == (False, ["hart6_of_20"])


def test_seeds_are_added_where_an_interval_is_wide(tmp_path: Path) -> None:
    peers_are_installed()
    from bench import quality

    path = tmp_path / "quality.jsonl"
    write(path, lambda name, i, arm: 5.0 + (arm != "arqon") * (9.0 * (-1) ** i if name == "bc2" else 1.0))
    first = quality.FIRST_SEED
    asked = list(quality.wanted(path, first, 12, (0, 1)))
    assert [pair for pair in asked if pair[1] >= first + 10] == [("bc2", first + 10), ("bc2", first + 11)]
    halves = [list(quality.wanted(path, first, 12, (i, 2))) for i in (0, 1)]
    assert sorted(halves[0] + halves[1]) == sorted(asked)
    assert {name for name, _ in halves[0]} == set(quality.EVALUATIONS), "no problem is always on one shard"


def test_ranks_share_ties_and_count_each_problem_once() -> None:
    peers_are_installed()
    from bench import quality

    first = quality.FIRST_SEED
    found = {("bc2", first + i, arm): float(arm != "arqon") for i in range(3) for arm in quality.ARMS}
    found |= {("levy4", first, arm): float(arm == "arqon") for arm in quality.ARMS}
    shown = quality.ranks(found, first)
    assert shown["arqon"] == pytest.approx(0.5)
    assert shown["ax"] == pytest.approx((0.6 + 0.4) / 2)
    assert problems.nondominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist() == [0, 1]
