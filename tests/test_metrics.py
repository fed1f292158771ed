"""The metrics, read back by Prometheus's own parser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from arqon_gp import ArqonSolver, Prediction
from arqon_gp.advice import Proposal
from arqon_gp.journal import MemoryJournal
from tests import test_drift
from tests.conftest import FakeClock, Make
from tests.scripted import Loop, Propose, Script, ScriptedSolver, to
from tests.test_guard import System, worse_above_50
from tests.test_guard import config as guard_config

CONFIG: dict[str, Any] = {
    "seed": 1,
    "name": "pool",
    "budget": 20,
    "bounds": {"size": {"type": "int", "min": 0, "max": 100, "initial": 50}},
    "guardrails": {"max_delta": [10]},
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def read(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """(sample name, study) -> value, summed over other labels but buckets."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if "le" not in sample.labels:
                name = (sample.name, sample.labels["study"])
                found[name] = found.get(name, 0.0) + sample.value
    return found


def test_the_seeds_four_names_count_what_they_say(make: Make, registry: CollectorRegistry, clock: FakeClock) -> None:
    solver = make(CONFIG, registry=registry)
    for _ in range(4):
        candidate = solver.ask_one()
        clock.pass_s(300.0)
        solver.seed([{"params": candidate, "value": 1.0, "cost": 300.0}])
    seen = read(registry)
    assert seen["arqon_history_len", "pool"] == 4
    assert seen["arqon_ask_total", "pool"] == 4
    assert seen["arqon_tell_total", "pool"] == 4
    rate = seen["arqon_eval_duration_seconds_sum", "pool"] / seen["arqon_eval_duration_seconds_count", "pool"]
    assert rate == pytest.approx(300.0), "the seed's PromQL"
    assert seen["arqon_budget_left", "pool"] == 16


def test_a_correction_is_no_second_evaluation(make: Make, registry: CollectorRegistry, clock: FakeClock) -> None:
    solver = make(CONFIG, registry=registry)
    candidate = solver.ask_one()
    for value in (1.0, 2.0):
        clock.pass_s(300.0)
        solver.seed([{"params": candidate, "value": value, "id": candidate.id}])
    seen = read(registry)
    assert seen["arqon_eval_duration_seconds_count", "pool"] == 1
    assert seen["arqon_eval_duration_seconds_sum", "pool"] == 300.0


def test_values_that_have_no_logarithm_are_counted(make: Make, registry: CollectorRegistry) -> None:
    given = CONFIG | {"objectives": {"p99_ms": "min"}, "constraints": {"wait_s": {"max": 3}, "rss": {"max": 5}}}
    solver = make(given, registry=registry)
    first = solver.ask_one()
    for p99, wait in ((0.0, 1.0), (-1.0, 0.0), (None, 1.0), (2.0, 1.0)):
        values = {"p99_ms": p99, "wait_s": wait, "rss": 0.0}
        solver.seed([{"params": solver.ask_one(), "values": values}])
    assert read(registry)["arqon_nonpositive_values_total", "pool"] == 3
    assert solver.status()["model"]["nonpositive"] == {"p99_ms": 2, "wait_s": 1}
    solver.seed([{"params": first, "id": first.id, "values": {"p99_ms": 1.0, "wait_s": 0.0, "rss": 0.0}}])
    assert solver.status()["model"]["nonpositive"] == {"p99_ms": 1, "wait_s": 2}, "as corrected"


def test_every_family_is_there_at_zero_from_the_start(make: Make, registry: CollectorRegistry) -> None:
    make(CONFIG, registry=registry)
    seen = read(registry)
    names = {name for name, study in seen if study == "pool"}
    assert {
        "arqon_history_len", "arqon_ask_total", "arqon_tell_total", "arqon_eval_duration_seconds_sum",
        "arqon_ask_duration_seconds_count", "arqon_decisions_total", "arqon_guard_refusals_total",
        "arqon_rollbacks_total", "arqon_suspicions_total", "arqon_repeated_results_total", "arqon_fallbacks_total",
        "arqon_safe_mode", "arqon_best_value", "arqon_hypervolume", "arqon_budget_left", "arqon_drift_score",
        "arqon_interval_coverage", "arqon_device",
    } <= names  # fmt: skip
    counted = {name: value for (name, _), value in seen.items() if not name.endswith("_created")}
    assert set(counted.values()) == {0.0}


def test_the_evaluation_histogram_reaches_hours(make: Make, registry: CollectorRegistry, clock: FakeClock) -> None:
    solver = make(CONFIG, registry=registry)
    first = solver.ask_one()
    clock.pass_s(5_000.0)
    solver.seed([{"params": first, "value": 1.0}])
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    assert families["arqon_eval_duration_seconds"].type == "histogram"
    buckets = {
        float(sample.labels["le"]): sample.value
        for sample in families["arqon_eval_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert (buckets[3600.0], buckets[7200.0], buckets[float("inf")]) == (0.0, 1.0, 1.0)
    assert {families[name].type for name in ("arqon_ask", "arqon_tell")} == {"counter"}
    assert families["arqon_history_len"].type == "gauge"


def watched(registry: CollectorRegistry, propose: Propose) -> Loop:
    """A guarded study whose metrics go to this registry."""
    given = guard_config(guardrails={"max_rollbacks_per_hour": 0})
    loop = Loop(given, System(worse_above_50), propose)
    loop.solver.close()
    loop.solver = ScriptedSolver(given, journal=loop.journal, registry=registry, clock=loop.clock)
    loop.solver.script = Script(propose)
    return loop


def test_refusals_are_counted_by_limit(registry: CollectorRegistry) -> None:
    watched(registry, to(size=90)).run(4)
    for limit, count in (("size", 1), ("wait", 0), ("bounds", 0)):
        assert registry.get_sample_value("arqon_guard_refusals_total", {"study": "default", "limit": limit}) == count


def test_what_the_guard_found_is_counted_and_safe_mode_shown(registry: CollectorRegistry) -> None:
    watched(registry, to(size=60)).until("hold")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"study": "default"} | labels)

    assert value("arqon_suspicions_total", label="regression") == 1
    assert value("arqon_suspicions_total", label="drift") == 0
    assert value("arqon_safe_mode") == 1
    assert value("arqon_best_value") == pytest.approx(100.0, rel=0.02), "the mean utility of last_good"


def test_the_share_of_outcomes_inside_their_interval_is_shown(registry: CollectorRegistry) -> None:
    predicted = {"qps": Prediction(100.0, 90.0, 110.0)}
    journal, clock = MemoryJournal(), FakeClock()
    with ScriptedSolver(guard_config(), journal=journal, registry=registry, clock=clock) as solver:
        solver.script = Script(lambda study, request: Proposal(study.deployment.deployed, "stay", predicted))
        for qps in (100.0, 100.0, 100.0, 95.0, 112.0, 90.0, 108.0):
            solver.seed([{"params": solver.ask_one(), "values": {"qps": qps}}])
        share = registry.get_sample_value("arqon_interval_coverage", {"study": "default"})
    assert share == 0.75, "three of the four that were predicted"


def test_below_the_floor_of_an_outcome_all_is_inside_an_interval_that_reaches_it(registry: CollectorRegistry) -> None:
    predicted = {"errors": Prediction(1e-4, 0.97e-4, 1.03e-4)}
    given = guard_config(constraints={"errors": {"max": 0.01}})
    with ScriptedSolver(given, journal=MemoryJournal(), registry=registry, clock=FakeClock()) as solver:
        solver.script = Script(lambda study, request: Proposal(study.deployment.deployed, "stay", predicted))
        for errors in (0.0, 0.0, 0.0, 0.0, 1e-6, 2e-4, 1.02e-4):
            solver.seed([{"params": solver.ask_one(), "values": {"qps": 100.0, "errors": errors}}])
        share = registry.get_sample_value("arqon_interval_coverage", {"study": "default"})
    assert share == 0.75


def test_drift_is_shown_as_it_is_found(make: Make, registry: CollectorRegistry) -> None:
    solver = make(test_drift.PLAIN | {"name": "pool"}, registry=registry)
    scores, rng = [], np.random.default_rng(0)
    for i in range(60):
        candidate = solver.ask_one()
        assert candidate is not None
        solver.seed([{"params": candidate, "values": {"qps": (100.0 if i < 40 else 70.0) + rng.normal()}}])
        scores.append(read(registry)["arqon_drift_score", "pool"])
    assert max(scores[20:40]) < 1.0 <= max(scores[40:44])
    assert read(registry)["arqon_regime", "pool"] == solver.status()["regime"] == 1


def test_an_endless_study_has_an_infinite_budget_left(make: Make, registry: CollectorRegistry) -> None:
    make(CONFIG | {"budget": None}, registry=registry).ask_one()
    assert registry.get_sample_value("arqon_budget_left", {"study": "pool"}) == math.inf


def test_a_reopened_study_shows_its_history_at_once(make: Make, registry: CollectorRegistry) -> None:
    journal = MemoryJournal()
    with make(CONFIG, journal=journal) as solver:
        solver.seed([{"params": solver.ask_one(), "value": 1.0}])
    make(CONFIG, journal=journal, registry=registry)
    assert registry.get_sample_value("arqon_history_len", {"study": "pool"}) == 1.0
    assert registry.get_sample_value("arqon_tell_total", {"study": "pool"}) == 0.0, "counters count this process"


def test_warm_start_feeds_no_evaluation_time(make: Make, registry: CollectorRegistry) -> None:
    solver = make(CONFIG, registry=registry)
    solver.seed([{"params": {"size": 50}, "value": 1.0}] * 5)
    seen = read(registry)
    assert seen["arqon_history_len", "pool"] == 5
    assert seen["arqon_eval_duration_seconds_count", "pool"] == 0


def test_two_solvers_of_one_name_share_a_registry_and_close_removes_only_its_own(registry: CollectorRegistry) -> None:
    first, second = ArqonSolver(CONFIG, registry=registry), ArqonSolver(CONFIG, registry=registry)
    other = ArqonSolver(CONFIG | {"name": "cache"}, registry=registry)
    second.ask_one()
    seen = read(registry)
    assert seen["arqon_ask_total", "pool"] == 0
    assert seen["arqon_ask_total", "pool#2"] == 1
    first.close()
    seen = read(registry)
    assert {study for _, study in seen} == {"pool#2", "cache"}
    again = ArqonSolver(CONFIG, registry=registry)
    assert {study for _, study in read(registry)} == {"pool", "pool#2", "cache"}
    for solver in (second, other, again):
        solver.close()
    assert read(registry) == {}


def test_the_default_registry_is_the_global_one() -> None:
    from prometheus_client import REGISTRY

    with ArqonSolver(CONFIG | {"name": "global"}):
        assert REGISTRY.get_sample_value("arqon_history_len", {"study": "global"}) == 0.0
    assert REGISTRY.get_sample_value("arqon_history_len", {"study": "global"}) is None


def test_decisions_refusals_repeats_and_rollbacks_are_counted(make: Make, registry: CollectorRegistry) -> None:
    solver = make(CONFIG, registry=registry)
    for _ in range(4):
        candidate = solver.ask_one()
        row = {"params": dict(candidate), "value": 1.0, "id": candidate.id}
        solver.seed([row])
        solver.seed([row])
    solver.rollback()
    solver.seed([{"params": solver.ask_one(), "value": 1.0}])

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"study": "pool"} | labels)

    assert value("arqon_decisions_total", kind="start") == 3
    assert value("arqon_decisions_total", kind="probe") == 1
    assert value("arqon_decisions_total", kind="rollback") == 1
    assert value("arqon_rollbacks_total") == 1
    assert value("arqon_repeated_results_total") == 4
    assert value("arqon_best_value") == 1.0, "without objectives the raw value"


def test_a_broken_observer_does_not_break_a_decision(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make(CONFIG)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk of the observer is full")

    monkeypatch.setattr(solver._metrics, "asked", fail)
    monkeypatch.setattr(solver._metrics, "told", fail)
    candidate = solver.ask_one()
    solver.seed([{"params": candidate, "value": 1.0}])
    assert solver.get_history_len() == 1
