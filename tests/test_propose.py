"""The model's advice when things go wrong: fits that fail, devices full or absent, and what the process keeps."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from arqon_gp import ArqonSolver, RequestError, device, propose
from arqon_gp.device import deterministic, on_device, resolve
from arqon_gp.errors import FitError
from tests.conftest import Make

CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 30,
    "probe_ratio": 0.0,
    "bounds": {"x": {"type": "int", "min": 0, "max": 100, "initial": 50}, "y": {"min": 0, "max": 1, "initial": 0.5}},
    "guardrails": {"max_delta": [10, 0.1]},
}


def started(solver: ArqonSolver) -> ArqonSolver:
    """After the start windows: the next ask needs the model."""
    for i in range(3):
        solver.seed([{"params": solver.ask_one(), "value": 1.0 + 0.1 * i}])
    return solver


def fail(*_: Any, **__: Any) -> Any:
    raise FitError("no start converged")


@pytest.mark.parametrize("error", [FitError, RuntimeError, ValueError, ZeroDivisionError])
@pytest.mark.parametrize("what", ["fit", "acquisition.maximize"])
def test_ask_one_never_raises_for_numerics_but_falls_back_inside_the_box(
    make: Make, monkeypatch: pytest.MonkeyPatch, what: str, error: type[Exception]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error("singular")

    solver = started(make(CONFIG))
    monkeypatch.setattr(f"arqon_gp.propose.{what}", broken)
    candidate = solver.ask_one()
    assert candidate is not None
    assert "a random legal step: the model failed" in candidate.reason
    assert abs(candidate["x"] - 50) <= 10
    assert abs(candidate["y"] - 0.5) <= 0.1
    assert solver.explain(candidate.id)["fallback"]
    assert sum(solver.status()["model"]["fallbacks"].values()) >= 1
    registry = solver._metrics._of.fallbacks
    counted = sum(s.value for m in registry.collect() for s in m.samples if s.name == "arqon_fallbacks_total")
    assert counted >= 1


def test_out_of_memory_on_the_gpu_is_answered_on_the_cpu_in_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried: list[str] = []

    def run(where: torch.device) -> str:
        tried.append(where.type)
        if where.type == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert on_device(torch.device("cuda"), run) == ("done", torch.device("cpu"))
    assert tried == ["cuda", "cpu"]


def test_an_ask_whose_gpu_is_full_is_answered_by_the_model_on_the_cpu(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(data: Any, settings: Any, where: torch.device, warm: Any) -> Any:
        if where.type == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(data, settings, where, warm)

    real = propose.fit
    solver = started(make(CONFIG))
    monkeypatch.setattr(propose, "resolve", lambda wanted: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(propose, "fit", full)
    candidate = solver.ask_one()
    assert candidate is not None
    assert "highest noisy expected improvement" in candidate.reason
    assert solver.status()["model"]["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"device 'cuda': torch finds no CUDA device"):
        resolve("cuda")
    assert resolve("auto") == torch.device("cpu")


def test_threads_and_random_streams_of_the_process_are_as_before() -> None:
    torch.manual_seed(7)
    random.seed(7)
    threads, expected = torch.get_num_threads(), (torch.rand(3), random.random())
    torch.manual_seed(7)
    random.seed(7)
    with deterministic(1):
        assert torch.get_num_threads() == 1
        first = torch.rand(3)
        random.random()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]
    with deterministic(1):
        assert torch.equal(torch.rand(3), first)


def test_freed_memory_is_given_back_only_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())
    with deterministic(0):
        pass


def test_the_prediction_of_a_candidate_is_an_interval_of_the_next_window(make: Make) -> None:
    solver = started(make(CONFIG))
    candidate = solver.ask_one()
    assert candidate is not None
    predicted = candidate.predicted
    assert predicted is not None
    p = predicted["value"]
    assert p.lower < p.mean < p.upper
    free = solver.recommend().outcomes
    assert free is not None
    assert free["value"].upper - free["value"].lower < p.upper - p.lower, "without the noise of a window"
