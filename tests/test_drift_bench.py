"""bench/drift.py and its arms: legal steps on every system, cells that repeat, and what the summary makes of lines."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from arqon_gp.simulators import SYSTEMS, Moving
from arqon_gp.simulators.moving import WINDOW
from bench import drift, live
from bench.parity import append
from tests.test_bench import peers_are_installed

SEED = drift.FIRST_PILOT_SEED + 9_000  # none of the pilots


SHORT = {
    "gp_60": 12,
    "gp_all": 12,
    "tpe_all": 12,
    "arqon_blind": 6,
    "oracle": 6,
    "oracle_tenth": 12,
}  # windows of the slow ones


def noise(of: Moving, number: int) -> dict[str, float]:
    """Outcomes that break a limit every few windows."""
    random = np.random.default_rng([SEED, number])
    rate, *others = of.plant.weights
    usual = {name: of.plant.limits.get(name, 0.01) for name in others}
    return {rate: 100.0 + random.normal()} | {
        n: v * float(np.exp(0.5 * random.normal() - 0.5)) for n, v in usual.items()
    }


def play(of: Moving, arm: live.Live, windows: int) -> list[live.Config]:
    """What it ran, from its start on."""
    ran = [arm.start]
    for number in range(windows):
        ran.append(arm.ask(number * WINDOW))
        arm.tell(ran[-1], noise(of, number), number * WINDOW)
    return ran


# ---- the arms ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # optuna: experimental
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_arm_moves_by_legal_steps(system: str) -> None:
    peers_are_installed()
    of = Moving(SYSTEMS[system], SEED)
    for name, arm in live.ARMS.items():
        ran = play(of, arm(of, SEED, 25), SHORT.get(name, 25))
        assert [drift.over_steps(of.config(), *pair) for pair in itertools.pairwise(ran)] == [0] * (len(ran) - 1), name
        assert (ran[0] == live.initial(of)) or name == "best_static"


def test_an_ask_knows_what_the_last_window_counted_not_what_its_own_will() -> None:
    of, counted = Moving(SYSTEMS["pool"], SEED), []
    arm = live.Arqon(of, SEED, 3, sees=True)
    for number in range(3):
        params = arm.ask(number * WINDOW)
        counted.append(arm.solver.status()["context"]["arrivals"])
        arm.tell(params, noise(of, number), number * WINDOW)
        assert arm.solver.history()["context_arrivals"].iloc[-1] == of.context(number * WINDOW)["arrivals"]
    assert counted[1:] == [of.context(number * WINDOW)["arrivals"] for number in range(2)]


def test_over_steps_are_counted_by_knob() -> None:
    of = Moving(SYSTEMS["cache"], SEED)
    here = live.initial(of)
    assert drift.over_steps(of.config(), here, here | {"eviction_policy": "lfu", "ttl_seconds": 140.0}) == 0
    assert drift.over_steps(of.config(), here, here | {"ttl_seconds": 140.1}) == 1
    assert drift.over_steps(of.config(), here, here | {"ttl_seconds": 99.0, "max_memory_mb": 1700.0}) == 2
    assert drift.over_steps(of.config(), here, here | {"eviction_policy": "fifo"}) == 1
    low = here | {"ttl_seconds": 10.0}
    assert drift.over_steps(of.config(), low, low | {"ttl_seconds": 9.0}) == 1
    pool = Moving(SYSTEMS["pool"], SEED)
    assert drift.over_steps(pool.config(), live.initial(pool), live.initial(pool) | {"pool_size": 40.5}) == 1


def outcomes(of: Moving, *, rate: float = 100.0, broken: bool = False) -> dict[str, float]:
    rate_name, p99, *shares = of.plant.weights
    return {rate_name: rate, p99: 1e4 * broken, **dict.fromkeys(shares, 0.0)}


def test_after_a_broken_limit_the_next_window_goes_back_to_the_last_config_that_kept_them() -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    one, two, three = (
        {"pool_size": n, "max_idle_time_s": 120.0, "connection_timeout_ms": 1000.0} for n in (20, 23, 26)
    )
    plan = iter([one, two, three, three, three])
    arm = live.Adaptive(of, SEED, 9, strategy=lambda seed: lambda past: next(plan))
    for params in (one, two):
        assert arm.ask(0.0) == params
        assert arm.back is None
        arm.tell(params, outcomes(of), 0.0)
    arm.tell(arm.ask(0.0), outcomes(of, broken=True), 0.0)
    assert (arm.ask(0.0), arm.back) == (two, two)
    arm.tell(two, outcomes(of, broken=True), 0.0)
    assert (arm.ask(0.0), arm.back) == (one, one), "the latest window of that one counts"
    arm.tell(one, outcomes(of, broken=True), 0.0)
    assert (arm.ask(0.0), arm.back) == (three, None), "nothing is left to go back to"


def test_a_way_back_of_several_steps_is_one_rollback() -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    start = live.initial(of)
    arm = live.Adaptive(of, SEED, 9, strategy=lambda seed: lambda past: past.here | {"pool_size": 100})
    arm.past.configs, arm.past.values, arm.past.kept = [start], [1.0], [True]
    arm.past.here = start | {"pool_size": 36}
    arm.tell(arm.past.here, outcomes(of, broken=True), 0.0)
    seen = []
    for _ in range(3):
        params = arm.ask(0.0)
        seen.append((params["pool_size"], arm.back is not None))
        arm.tell(params, outcomes(of, broken=params["pool_size"] != 18), 0.0)
    assert seen == [(30, True), (24, False), (18, False)]
    assert arm.ask(0.0)["pool_size"] == 24, "the strategy goes on"


def test_a_broken_limit_costs_a_tenth_of_the_usual_score() -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    arm = live.Adaptive(of, SEED, 9, strategy=lambda seed: live.walk)
    for rate in (10.0, 30.0):
        arm.tell(arm.start, outcomes(of, rate=rate), 0.0)
    seen = outcomes(of, rate=20.0) | {"p99_latency_ms": 1201.0, "error_rate": 0.011}
    arm.tell(arm.start, seen, 0.0)
    worth = 200.0 - 1201.0 - 11.0  # its size is 1012: the median of 100, 300 and 1012 is 300
    assert arm.past.values == [100.0, 300.0, pytest.approx(worth - 2 * 0.1 * 300.0)]


def test_local_search_repeats_what_was_better_and_leaves_what_was_worse() -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    arm = live.Adaptive(of, SEED, 9, strategy=live.LocalSearch)
    ran = []
    for rate in (100.0, 110.0, 105.0, 110.0, 120.0):
        ran.append(arm.ask(0.0))
        arm.tell(ran[-1], outcomes(of, rate=rate), 0.0)
    start, better, worse, again, other = ran
    (knob,) = [name for name in start if better[name] != start[name]]
    assert worse[knob] - better[knob] == pytest.approx(better[knob] - start[knob])  # type: ignore[operator]
    assert again == better
    assert [name for name in start if other[name] != again[name]] not in ([], [knob])


# ---- the cells -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["arqon", "tpe_60", "local_search", "optimum"])
def test_a_cell_repeats_to_the_last_digit(arm: str) -> None:
    if arm == "tpe_60":
        peers_are_installed()
    one, two = (drift.cell("queue", SEED, arm, 13) for _ in range(2))
    assert "error" not in one
    assert {k: v for k, v in one.items() if k != "ms"} == {k: v for k, v in two.items() if k != "ms"}
    assert len(one["scores"]) == 13


def test_a_rollback_is_right_where_the_config_left_was_worse_or_broke_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    rates = {40: 10.0, 45: 9.95, 50: 9.85}
    monkeypatch.setattr(Moving, "truth", lambda self, params, at: outcomes(of, rate=rates[params["pool_size"]]))
    (good, level, worse) = ({"pool_size": n} for n in rates)
    assert drift._right(of, worse, good, WINDOW)
    assert not drift._right(of, level, good, WINDOW)
    monkeypatch.setattr(Moving, "truth", lambda self, params, at: outcomes(of, broken=at == 0.0))
    assert drift._right(of, level, good, WINDOW)
    assert not drift._right(of, level, good, 2 * WINDOW)


# ---- the summary ---------------------------------------------------------------------------------------------------


def line(arm: str, scores: list[float], broken: list[int] | None = None, **more: Any) -> dict[str, Any]:
    shown = {"system": "pool", "seed": drift.FIRST_SEED, "arm": arm, "windows": len(scores), "scores": scores}
    shown |= {"over_steps": 0, "rollbacks": {"right": 1, "wrong": 2}, "ms": 3.0, "broken": broken or []}
    return shown | more


def test_the_reference_is_the_best_that_keeps_the_limits() -> None:
    lines = [
        line("optimum", [10.0, 10.0, 10.0, 10.0], [3]),
        line("arqon", [9.0, 12.0, 14.0, 8.0], [2, 3]),
        line("static", [4.0, 4.0, 4.0, 4.0], [3]),
        line("static", [1.0, 1.0, 1.0, 1.0], seed=drift.FIRST_SEED + 1),
    ]
    figures = drift.summary(lines, drift.FIRST_SEED, 2, 4)["systems"]["pool"]
    assert figures["arqon"]["regret"] == pytest.approx((1 + 0 + 0 + 2) / 4)
    assert figures["optimum"]["regret"] == pytest.approx((0 + 2 + 0 + 0) / 4)
    assert figures["static"]["regret"] == pytest.approx((6 + 8 + 6 + 6) / 4)
    assert figures["static"]["seeds"] == 1, "without an optimum nothing is said of a seed"
    assert (figures["arqon"]["breaches"], figures["optimum"]["breaches"]) == (2.0, 1.0)
    assert (figures["arqon"]["right"], figures["arqon"]["wrong"]) == (1, 2)
    assert figures["static"]["arqon"] == {"regret": 0.75, "breaches": 2.0, "difference": [5.75, 5.75, 5.75]}
    kept = [line("optimum", [10.0], [0]), line("arqon", [7.0]), line("static", [5.0])]
    shown = drift.summary(kept, drift.FIRST_SEED, 1, 1)["systems"]["pool"]
    assert [shown[arm]["regret"] for arm in ("optimum", "arqon", "static")] == [0.0, 0.0, 2.0]


def test_the_oracle_that_pays_steps_anywhere_in_one_window_of_ten() -> None:
    of = Moving(SYSTEMS["pool"], SEED)
    paying, best = live.ARMS["oracle_tenth"](of, SEED, 25), live.ARMS["oracle"](of, SEED, 25)
    for number in range(12):
        ran, at = paying.ask(number * WINDOW), number * WINDOW
        assert (ran == best.ask(at)) is (number not in (0, 10)), number
        best.here = ran  # type: ignore[attr-defined]


def test_what_the_oracle_that_pays_finds_sets_no_mark() -> None:
    lines = [line("optimum", [10.0]), line("arqon", [7.0]), line("oracle_tenth", [12.0])]
    assert drift.summary(lines, drift.FIRST_SEED, 1, 1)["systems"]["pool"]["arqon"]["regret"] == 3.0


def test_differences_are_paired_by_seed() -> None:
    lines = []
    for i in range(4):
        more = {"seed": drift.FIRST_SEED + i}
        lines += [line("optimum", [10.0 + i], **more), line("arqon", [8.0], **more), line("static", [7.0], **more)]
    row = drift.summary(lines, drift.FIRST_SEED, 4, 1)["systems"]["pool"]["static"]
    assert row["regret"] == pytest.approx(3.0 + 1.5)
    assert row["arqon"]["difference"] == [1.0, 1.0, 1.0]


def test_recovery_counts_the_windows_until_the_regret_is_as_before() -> None:
    regret = np.concatenate([np.full(20, 2.0), np.full(5, 10.0), np.full(25, 2.0)])
    # 12 windows that hold k of the 5 bad ones: 2 + 8 k / 12 <= 3 where k <= 1
    assert drift.recovery(regret, 20, 2.0) == 4
    assert drift.recovery(np.full(50, 2.0), 20, 2.0) == 0
    assert drift.recovery(np.full(50, 9.0), 20, 2.0) == 19, "never: all there are"
    assert drift.recovery(regret, 45, 2.0) is None


def test_one_that_is_always_bad_never_recovers() -> None:
    step = int(Moving(SYSTEMS["pool"], drift.FIRST_SEED).scenario.step_at // WINDOW) + 1
    after = 40
    ours = [90.0] * step + [50.0] * 5 + [90.0] * (after - 5)
    lines = [line("optimum", [100.0] * (step + after)), line("arqon", ours)]
    lines += [line("static", [20.0] * (step + after)), line("tpe_60", [60.0] * (step + after))]
    shown = drift.summary(lines, drift.FIRST_SEED, 1, step + after)["systems"]["pool"]
    never = after - drift.AHEAD + 1
    assert [shown[arm]["recovery"] for arm in ("arqon", "static", "tpe_60")] == [4, never, never]


def counted(
    regret: dict[str, float], broken: dict[str, int], over: int = 0, seeds: int = 10, without: str = ""
) -> dict[str, Any]:
    """The verdict on cells of `windows` windows with these regrets and numbers of breaches."""
    lines = []
    for system, i, arm in itertools.product(SYSTEMS, range(seeds), drift.CELLS):
        if i >= drift.FEWER_SEEDS.get(arm, drift.SEEDS) or arm == without:
            continue
        lost = regret.get(f"{arm} {system}", regret.get(arm, 5.0)) if arm != "optimum" else 0.0
        where = list(range(broken.get(arm, 0)))
        more = {"system": system, "seed": drift.FIRST_SEED + i, "over_steps": over * (arm == "arqon")}
        lines.append(line(arm, [100.0 - lost] * 20, where, **more))
    return dict(drift.summary(lines, drift.FIRST_SEED, 10, 20)["registered"])


def test_it_judges_by_what_was_registered() -> None:
    good, breaches = {"arqon": 2.0, "tpe_60": 4.0}, {"arqon": 2, "tpe_60": 4, "local_search": 1}
    passed = counted(good, breaches)
    assert passed["passed"]
    assert passed["won"] == list(SYSTEMS)
    assert (passed["breaches"], passed["breaches_of_best_baselines"]) == (8.0, 16.0)
    assert not counted(good, breaches, seeds=9)["complete"]
    assert not counted(good, breaches, over=1)["passed"]
    assert not counted(good, breaches | {"arqon": 3})["passed"]
    assert not counted(good | {"tpe_60": 3.9}, breaches)["passed"]
    assert not counted(good | {"gp_60": 3.9}, breaches)["passed"]
    assert not counted(good | {"best_static": 2.0}, breaches)["passed"]
    assert counted(good | {"static": 2.5, "oracle": 0.5, "arqon_blind": 1.0}, breaches)["passed"], "no baselines"
    near = counted(good | {"oracle_tenth": 1.0, "oracle_tenth jvm": 1.7}, breaches)
    assert (near["passed"], near["stretch"]) == (True, ["jvm"]), "no baseline either"
    assert counted(good, breaches, without="oracle_tenth")["passed"]
    assert not counted(good, breaches, without="oracle")["complete"]
    one = counted(good | {"tpe_60 jvm": 3.9}, breaches)
    assert (one["passed"], one["won"]) == (True, ["pool", "cache", "queue"])
    assert not counted(good | {"tpe_60 jvm": 3.9, "best_static pool": 1.0}, breaches)["passed"]


def test_the_summary_is_written_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in [line("optimum", [10.0] * 24), line("arqon", [7.0] * 12 + [9.0] * 12), line("oracle", [10.0] * 24)]:
        append(tmp_path / "drift.jsonl", one)
    monkeypatch.setattr("logging.disable", lambda level: None)  # it is a process's own, and would last
    monkeypatch.setattr("sys.argv", ["drift", "--summary", "--windows", "24", "--out", str(tmp_path)])
    assert drift.main() == 1, "cells are missing"
    assert json.loads((tmp_path / "drift.json").read_text())["figures"]["registered"]["complete"] is False
    drawn = ElementTree.parse(tmp_path / "drift.svg").getroot()
    curves = [
        path
        for path in drawn.iter("{http://www.w3.org/2000/svg}path")
        if "stroke: #000000; stroke-width: 2" in path.get("style", "")
    ]
    assert len(curves) == 2, "arqon's on the pool, and in the legend"


def test_every_system_and_seed_is_on_one_shard() -> None:
    seeds, systems = range(6), list(SYSTEMS)
    parts = [list(drift.wanted(systems, seeds, (i, 2))) for i in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(itertools.product(systems, seeds))
    assert {system for system, _ in parts[0]} == set(systems)
