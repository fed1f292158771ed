"""The simulated systems: their truth, their noise, and the cliffs where they fail."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from arqon_gp.config import parse
from arqon_gp.simulators import SYSTEMS, ConnectionPool, JvmGc, Moving
from arqon_gp.simulators.moving import DAY, WINDOW
from bench.live import _value
from tests.conftest import FakeClock, Make

POOL = {"pool_size": 50, "max_idle_time_s": 120, "connection_timeout_ms": 1000}
JVM = {"heap_size_gb": 16, "new_ratio": 3, "survivor_ratio": 8, "max_gc_pause_ms": 200}


def test_the_same_seed_is_the_same_system() -> None:
    a, b, c = ConnectionPool(3), ConnectionPool(3), ConnectionPool(4)
    assert [a.observe(POOL) for _ in range(3)] == [b.observe(POOL) for _ in range(3)]
    assert a.observe(POOL) != c.observe(POOL)
    assert a.truth(POOL) == c.truth(POOL)


@pytest.mark.parametrize(
    ("name", "scores", "rate"),
    [
        ("pool", [75.4322, 225.7967, 78.9136], 55.387165),
        ("cache", [770.6998, 1366.3908, 1004.3794], 1067.681472),
        ("queue", [190.8137, 412.1174, 286.9971], 56.852428),
        ("jvm", [3272.299, 5939.8671, 4404.2906], 352.637506),
    ],
)
def test_the_systems_are_frozen(name: str, scores: list[float], rate: float) -> None:
    """As they were on 2026-11-27: the initial config at the start, at noon and after 1.4 days, and one window."""
    of = Moving(SYSTEMS[name], 1)
    start = {knob.name: knob.initial for knob in of.plant.knobs}
    found = [of.score(of.truth(start, at)) for at in (0.0, 0.5 * DAY, 1.4 * DAY)]
    assert found == pytest.approx(scores, rel=1e-5)
    assert next(iter(of.observe(start, WINDOW).values())) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "sums", "best"),
    [
        (
            "pool",
            [962.7224, 1045.0193, 4960.5086, 5042.0858, 945.8047, 1030.1788, 1177.9021, 1245.6184],
            [533.173, 141.869],
        ),
        (
            "cache",
            [1944.1274, 1551.8831, 2190.4006, 1730.7948, 3130.964, 1680.2854, 2138.1667, 1685.7526],
            [1458.379, 1100.743],
        ),
        ("queue", [112.093, 87.3074, 1015.3553, 1012.1468, 141.0424, 116.2108, 154.2576, 130.684], [433.063, 307.109]),
        (
            "jvm",
            [1663.9868, 1511.4383, 859.7784, 641.4686, 1256.7589, 716.5704, 1607.0932, 857.5662],
            [6147.419, 4618.826],
        ),
    ],
)
def test_so_is_what_lies_elsewhere_and_what_is_best(name: str, sums: list[float], best: list[float]) -> None:
    """All outcomes together of four random configs, and the best score, at noon and after 1.4 days."""
    of, moments = Moving(SYSTEMS[name], 1), (0.5 * DAY, 1.4 * DAY)
    configs = [
        {knob.name: _value(knob, u) for knob, u in zip(of.plant.knobs, row, strict=True)}
        for row in np.random.default_rng(0).random((4, len(of.plant.knobs)))
    ]
    found = [sum(of.truth(config, at).values()) for config in configs for at in moments]
    assert found == pytest.approx(sums, rel=1e-5)
    assert [of.optimum(at)[1] for at in moments] == pytest.approx(best, rel=1e-4)


def test_windows_scatter_around_the_truth_with_a_heavy_p99() -> None:
    system = ConnectionPool(0)
    windows = [system.observe(POOL) for _ in range(2000)]
    qps = np.array([w["queries_per_second"] for w in windows])
    p99 = np.array([w["p99_latency_ms"] for w in windows])
    truth = system.truth(POOL)
    assert qps.mean() == pytest.approx(truth["queries_per_second"], rel=0.005)
    assert qps.std() == pytest.approx(0.03 * truth["queries_per_second"], rel=0.1)
    assert p99.min() >= truth["p99_latency_ms"]


def test_a_pool_too_small_is_exhausted_and_one_too_large_contends() -> None:
    sizes = np.arange(5, 101)
    truths = [ConnectionPool().truth(POOL | {"pool_size": int(s)}) for s in sizes]
    qps = np.array([t["queries_per_second"] for t in truths])
    p99 = np.array([t["p99_latency_ms"] for t in truths])
    assert truths[0]["error_rate"] > 0.5
    assert 35 <= sizes[np.argmax(10 * qps - p99)] <= 80
    assert p99[-1] > 1.3 * p99.min()
    assert p99[0] > 1000.0, "everyone waits for the time-out"


def test_a_heap_too_small_is_out_of_memory() -> None:
    assert JvmGc().truth(JVM | {"heap_size_gb": 4})["error_rate"] == 0.9
    assert JvmGc().truth(JVM)["error_rate"] < 0.01
    assert JvmGc().truth(JVM | {"heap_size_gb": 32})["p99_latency_ms"] > JvmGc().truth(JVM)["p99_latency_ms"]


NAMES = list(SYSTEMS)
HOURS = np.arange(0.5, 48.0, 3.0) * 3600.0


@cache
def moving(name: str, seed: int = 0) -> Moving:
    return Moving(SYSTEMS[name], seed)


def static(system: Moving) -> dict[str, Any]:
    return {knob.name: knob.initial for knob in system.plant.knobs}


def steps(system: Moving, a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest move of a knob, in its max_delta."""
    return max(abs(a[k.name] - b[k.name]) / k.delta for k in system.plant.knobs if not k.choices)


def sample(system: Moving, n: int) -> dict[str, np.ndarray]:
    """{knob: (n,)}: a Sobol sequence over the bounds, corners too."""
    U = qmc.Sobol(len(system.plant.knobs), rng=np.random.default_rng(0)).random(n)
    U = np.concatenate([U, np.array(list(itertools.product((0.0, 1.0), repeat=U.shape[1])))])
    found = {}
    for u, knob in zip(U.T, system.plant.knobs, strict=True):
        low, high = (0, len(knob.choices) - 1) if knob.choices else (knob.low, knob.high)
        found[knob.name] = np.rint(low + u * (high - low)) if knob.whole or knob.choices else low + u * (high - low)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_window_is_a_function_of_seed_params_and_time(name: str) -> None:
    a, b, other = moving(name), Moving(SYSTEMS[name], 0), moving(name, 1)
    params = static(a)
    b.observe(params, 0.0)
    for at in (150.0, 90_000.0):
        assert a.observe(params, at) == b.observe(params, at)
        assert a.context(at) == b.context(at)
        assert a.observe(params, at) != other.observe(params, at)
    assert a.scenario != other.scenario
    code = f"from arqon_gp.simulators import *; print(Moving(SYSTEMS[{name!r}], 0).observe({params!r}, 150.0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(a.observe(params, 150.0)), "in another process"


@pytest.mark.parametrize("name", NAMES)
def test_two_configurations_in_one_window_see_the_same_noise(name: str) -> None:
    system, at = moving(name), 4000.0
    best, _ = system.optimum(at)
    ratios = []
    for params in (best, static(system)):
        seen, truth = system.observe(params, at), system.truth(params, at)
        ratios.append([seen[n] / truth[n] for n in list(truth)[:2]])
    assert ratios[0] == pytest.approx(ratios[1])
    later = system.observe(best, at + 300.0), system.truth(best, at + 300.0)
    assert [later[0][n] / later[1][n] for n in list(later[1])[:2]] != pytest.approx(ratios[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_sane_over_the_whole_box_and_a_week(name: str) -> None:
    system = moving(name)
    P = sample(system, 512)
    for at in (0.0, 40_000.0, 130_000.0, 600_000.0):
        now = system.conditions(at)
        (_, rate), (_, worst), *shares = system.plant.outcomes(P, now).items()
        assert np.isfinite(rate).all()
        assert np.isfinite(worst).all()
        assert (rate >= 0.0).all()
        assert (rate <= now.arrivals * (1.0 + 1e-9)).all()
        assert (worst > 0.0).all()
        for share, values in shares:
            assert ((values >= 0.0) & (values <= 1.0)).all(), share


def merit(system: Moving, P: dict[str, np.ndarray], at: float) -> np.ndarray:
    """The scores, -inf where a limit is broken."""
    outcomes = system.plant.outcomes(P, system.conditions(at))
    scores = np.asarray(sum(w * outcomes[n] for n, w in system.plant.weights.items()))
    return np.where(np.all([outcomes[n] <= v for n, v in system.plant.limits.items()], axis=0), scores, -np.inf)


def polished(system: Moving, at: float) -> float:
    """The highest score of a dense sample whose best five are improved by normal steps that shrink."""
    P, random, found = sample(system, 4096), np.random.default_rng(0), []
    values = merit(system, P, at)
    for start in np.argsort(-values)[:5]:
        here, value, size = {n: v[start] for n, v in P.items()}, values[start], 0.1
        while size > 2e-4:
            there = {}
            for k in system.plant.knobs:
                steps = size * (k.high - k.low) * random.standard_normal(48) * (random.random(48) < 0.6)
                if k.whole:
                    steps = np.rint(steps + random.choice([-0.5, 0.0, 0.5], 48))
                there[k.name] = here[k.name] + (0.0 if k.choices else 1.0) * steps
                there[k.name] = there[k.name] if k.choices else np.clip(there[k.name], k.low, k.high)
            tried = merit(system, there, at)
            top = int(tried.argmax())
            if tried[top] > value:
                here, value = {n: v[top] for n, v in there.items()}, tried[top]
            else:
                size *= 0.75
        found.append(value)
    return float(max(found))


def noise_std(system: Moving, params: dict[str, Any], at: float) -> float:
    """Of the score of one window, gross ones apart."""
    there = system.conditions(at)
    truth, draws = system.truth(params, at), []
    for seed in range(60):
        other = Moving(system.plant, seed)
        other.scenario = system.scenario
        assert other.conditions(at) == there
        draws.append(system.score(other.observe(params, at)) - system.score(truth))
    return float(1.4826 * np.median(np.abs(np.array(draws) - np.median(draws))))


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_what_brute_force_and_a_greedy_walk_find(name: str) -> None:
    system = moving(name)
    for hour in (2.0, 14.0, 38.0):
        at = 3600.0 * hour
        best, score = system.optimum(at)
        truth = system.truth(best, at)
        assert not system.breaches(truth)
        assert system.score(truth) == pytest.approx(score)
        short = max(0.002 * abs(score), 0.2 * noise_std(system, best, at))
        assert score >= polished(system, at) - short
        here, walked = best, score
        for _ in range(3):
            here, walked = system.optimum(at, near=here)
        assert walked <= score + short


@pytest.mark.parametrize("name", NAMES)
def test_there_is_something_to_gain_by_following(name: str) -> None:
    system = moving(name)
    lost, static_broken, broken, std = [], 0, 0, 0.0
    for at in HOURS:
        best, score = system.optimum(at)
        truth, std = system.truth(static(system), at), noise_std(system, best, at)
        lost.append((score - system.score(truth)) / std)
        static_broken += system.breaches(truth)
        broken += system.breaches(system.truth(best, at))
    assert np.mean(lost) > 3.0, "in standard deviations of one window's score"
    assert 0.05 * len(HOURS) < static_broken < 0.6 * len(HOURS)
    assert broken == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_is_that_of_a_window_and_its_rate_is_what_was_counted(name: str) -> None:
    system, at = moving(name), 4000.0
    params = system.optimum(at)[0]
    (rate, done), (p99, worst), *_ = system.truth(params, at).items()
    n = 300.0 * system.conditions(at).arrivals
    logs = []
    for seed in range(400):
        other = Moving(system.plant, seed)
        other.scenario = system.scenario
        seen = other.observe(params, at)
        assert seen[rate] / other.context(at)["arrivals"] == pytest.approx(done / system.conditions(at).arrivals)
        logs.append((seen[rate] / done - 1.0, np.log(seen[p99] / worst)))
    counted, tail = np.array(logs).T
    assert counted.std() == pytest.approx(n**-0.5, rel=0.15)
    tail = tail[np.abs(tail) < 0.3]  # but for the gross ones
    assert tail.std() == pytest.approx(np.hypot(0.03, 1.0 / (np.sqrt(0.01 * n) * np.log(100.0))), rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_moves_by_more_than_two_steps_and_a_legal_step_is_never_better(name: str) -> None:
    system = moving(name)
    path = [system.optimum(at) for at in HOURS]
    assert max(steps(system, a[0], b[0]) for a, b in itertools.combinations(path, 2)) > 2.0
    near, score = system.optimum(HOURS[4], near=path[0][0])
    assert steps(system, near, path[0][0]) <= 1.0 + 1e-9
    assert score <= path[4][1] + 0.002 * abs(path[4][1])

    def over(params: dict[str, Any]) -> float:
        truth = system.truth(params, HOURS[4])
        return max(truth[n] / limit for n, limit in system.plant.limits.items())

    assert over(near) <= max(1.0, over(path[0][0])) + 1e-9, "to stay is legal"


@pytest.mark.parametrize("name", NAMES)
def test_the_score_follows_the_traffic_so_its_level_is_no_merit(name: str) -> None:
    system = moving(name)
    levels = [system.optimum(at)[1] for at in HOURS]
    arrivals = [system.conditions(at).arrivals for at in HOURS]
    lost = [score - system.score(system.truth(static(system), at)) for at, score in zip(HOURS, levels, strict=True)]
    assert np.corrcoef(levels, arrivals)[0, 1] > 0.9
    assert np.ptp(levels) > 2.0 * np.median(lost), "a day swings it by more than the static default loses"
    assert np.mean(lost) > 0.0


def test_a_scenario_is_daily_traffic_ageing_and_one_step() -> None:
    made = [moving("pool", seed).scenario for seed in range(20)]
    assert all(80 <= s.arrivals <= 86 and 0.7 <= s.step_at / 86400 <= 1.3 and 1.3 <= s.step <= 1.5 for s in made)
    assert len({s.peak_h for s in made}) == 20
    scenario = made[0]
    before, after = scenario.conditions(scenario.step_at - 1.0), scenario.conditions(scenario.step_at)
    assert (before.step, after.step) == (1.0, scenario.step)
    assert scenario.conditions(2 * 86400.0).wear == pytest.approx(1.0 + 2.0 * scenario.ageing)
    saturday, friday = ((day * 86400.0 - scenario.start_at) + 3600 * scenario.peak_h for day in (5, 4))
    ratio = scenario.conditions(saturday).arrivals / scenario.conditions(friday).arrivals
    assert ratio == pytest.approx(scenario.weekend, rel=0.15), "but for the wander"


@pytest.mark.parametrize("name", NAMES)
def test_a_guarded_study_runs_on_its_config(name: str, make: Make, clock: FakeClock) -> None:
    system = moving(name)
    config = system.config() | {"seed": 1, "name": f"moving {name}"}
    assert list(parse(config).space.names) == [knob.name for knob in system.plant.knobs]
    solver = make(config)
    for window in range(30):
        candidate = solver.ask_one()
        assert candidate is not None
        values = system.observe(candidate, 300.0 * window + 150.0)
        clock.pass_s(300.0)
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
