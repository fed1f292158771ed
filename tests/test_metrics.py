"""The metrics, read back by Prometheus's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from arqon_gp import ArqonSolver
from tests.conftest import FakeClock, Make

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
