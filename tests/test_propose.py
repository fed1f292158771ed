"""The model's advice when things go wrong: fits that fail, devices full or absent, and what the process keeps."""

from __future__ import annotations

import math
import random
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_info, threadpool_limits

from arqon_gp import ArqonSolver, RequestError, device, propose, search, torch_path
from arqon_gp.advice import Goal, Request
from arqon_gp.background import Background
from arqon_gp.choice import Choice
from arqon_gp.deadline import Deadline
from arqon_gp.device import deterministic, on_device, resolve
from arqon_gp.errors import FitError
from arqon_gp.knobs import Interval
from arqon_gp.maximize import maximize
from arqon_gp.records import Kind
from arqon_gp.space import Box
from arqon_gp.surrogate import restore, seek
from arqon_gp.way_out import least_excess
from arqon_kernels import LogPosterior, factor
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
@pytest.mark.parametrize("what", ["propose.seek", "search.maximize", "propose.acquisition.problem"])
@pytest.mark.parametrize("guarded", [True, False])
def test_ask_one_never_raises_for_numerics_but_holds_or_takes_a_legal_step(
    make: Make, monkeypatch: pytest.MonkeyPatch, what: str, error: type[Exception], guarded: bool
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error("singular")

    solver = started(make(CONFIG)) if guarded else make(FREE | {"probe_ratio": 0.0})
    if not guarded:
        solver.seed(warm_rows(8))
    monkeypatch.setattr(f"arqon_gp.{what}", broken)
    candidate = solver.ask_one()
    assert candidate is not None
    if guarded:
        assert "hold what runs: the model failed" in candidate.reason
        assert (candidate.kind, dict(candidate)) == (Kind.REPLICATE, {"x": 50, "y": 0.5})
    else:
        assert "a random legal step: the model failed" in candidate.reason
        assert 0 <= candidate["x"] <= 1
        assert 0 <= candidate["y"] <= 1
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


FULL = torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("what", ["frame", "maximize"])
def test_a_search_whose_gpu_is_full_is_made_on_the_cpu(make: Make, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Whatever step the memory runs out in; the device "cuda" is the CPU in disguise."""
    real, failed = getattr(torch_path, what), []

    def full(*given: Any, **more: Any) -> Any:
        if any(isinstance(x, torch.device) and x.type == "cuda" for x in given):
            failed.append(what)
            raise FULL
        return real(*given, **more)

    solver = started(make(CONFIG))
    monkeypatch.setattr("arqon_gp.acquisition.supports", lambda aim: False)
    monkeypatch.setattr(propose, "place", lambda wanted, rows: "cuda")
    monkeypatch.setattr(propose, "_torch", lambda device: "cpu")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    if what == "maximize":
        real_frame = torch_path.frame
        monkeypatch.setattr(torch_path, "frame", lambda *given: real_frame(*given[:-1], torch.device("cpu")))
    monkeypatch.setattr(torch_path, what, full)
    candidate = solver.ask_one()
    assert candidate is not None
    assert failed
    assert "highest noisy expected improvement" in candidate.reason
    assert solver.status()["model"]["fallbacks"] == {}


@pytest.mark.parametrize("what", ["seek", "restore"])
def test_a_fit_whose_gpu_is_full_is_made_by_the_engine(make: Make, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    solver, real, failed = make(FREE | {"probe_ratio": 0.0}), getattr(propose, what), []
    solver.seed(warm_rows(8))
    monkeypatch.setattr(propose, "place", lambda wanted, rows: "cuda:7")
    monkeypatch.setattr(propose, "MOST_CUDA_ROWS", 2)

    def full(*given: Any) -> Any:
        if "cuda:7" in given:
            failed.append(what)
            raise FULL
        return real(*given)

    monkeypatch.setattr(propose, what, full)
    if what == "restore":
        monkeypatch.setattr(propose, "seek", lambda *given: seek(*given[:-1], None))
    candidate = solver.ask_one()
    assert failed
    assert candidate is not None
    assert "highest noisy expected improvement" in candidate.reason
    assert solver.status()["model"]["device"] == "cpu"
    assert solver.status()["model"]["fallbacks"] == {}
    assert solver._model._fitted is not None
    assert len(solver._model._fitted.data.X) == 8, "the engine's active set, not the GPU's"


def test_a_failed_refit_goes_on_with_the_last_hyperparameters_and_is_counted(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = started(make(CONFIG))
    candidate = solver.ask_one()
    assert candidate is not None
    known = solver._study.hyperparameters
    solver.seed([{"params": candidate, "value": 1.1}])
    monkeypatch.setattr("arqon_gp.propose.seek", fail)
    again = solver.ask_one()
    assert again is not None
    assert "the model failed" not in again.reason
    assert "highest noisy expected improvement" in again.reason
    assert solver._study.hyperparameters == known
    assert solver.status()["model"]["fallbacks"] == {"fit": 1}
    counted = {
        s.labels["cause"]: s.value
        for m in solver._metrics._of.fallbacks.collect()
        for s in m.samples
        if s.name == "arqon_fallbacks_total"
    }
    assert counted["fit"] == 1


def test_what_runs_is_not_held_where_it_breaks_a_limit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = make(CONFIG | {"objectives": {"value": "min"}, "constraints": {"heat": {"max": 1.0}}})
    for _ in range(3):
        solver.seed([{"params": solver.ask_one(), "values": {"value": 1.0, "heat": 5.0}}])
    monkeypatch.setattr("arqon_gp.search.maximize", fail)
    candidate = solver.ask_one()
    assert candidate is not None
    assert "a random legal step: the model failed" in candidate.reason
    assert dict(candidate) != {"x": 50, "y": 0.5}


@pytest.mark.parametrize(("rung", "failures"), [("jitter", 1), ("jitter", 3), ("other_start", 1), ("other_start", 2)])
def test_each_rung_of_the_numerical_ladder_still_gives_a_candidate_of_the_model_and_is_counted(
    make: Make, monkeypatch: pytest.MonkeyPatch, rung: str, failures: int
) -> None:
    solver, left = make(FREE | {"probe_ratio": 0.0}), [failures]
    solver.seed(warm_rows(8))
    root, climb, diagonals = factor.root, LogPosterior.climb, list[float]()

    def singular(K: Any) -> Any:
        diagonals.append(K[0, 0])
        left[0] -= 1
        if left[0] >= 0:
            raise np.linalg.LinAlgError("not positive definite")
        return root(K)

    def nowhere(density: Any, theta: Any, *given: Any) -> Any:
        left[0] -= 1
        return (theta, -math.inf) if left[0] >= 0 else climb(density, theta, *given)

    if rung == "jitter":
        monkeypatch.setattr("arqon_gp.surrogate.factor.root", singular)
    else:
        monkeypatch.setattr(LogPosterior, "climb", nowhere)
    candidate = solver.ask_one()
    assert candidate is not None
    assert "highest noisy expected improvement" in candidate.reason
    assert solver.status()["model"]["fallbacks"] == {rung: failures}
    assert all(after > before for before, after in pairwise(diagonals[: failures + 1]))
    exported = [s for m in solver._metrics._of.fallbacks.collect() for s in m.samples if s.name.endswith("_total")]
    assert {s.labels["cause"]: s.value for s in exported}[rung] == failures


def test_where_neither_a_fit_nor_the_last_hyperparameters_do_what_runs_is_held(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = started(make(CONFIG))
    candidate = solver.ask_one()
    assert candidate is not None
    solver.seed([{"params": candidate, "value": 1.1}])
    monkeypatch.setattr("arqon_gp.propose.seek", fail)
    monkeypatch.setattr("arqon_gp.propose.restore", fail)
    again = solver.ask_one()
    assert again is not None
    assert "hold what runs: the model failed" in again.reason
    assert dict(again) == dict(candidate)


def test_another_process_goes_on_with_what_the_first_one_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"seed": 1, "budget": 40, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}
    journal = f"sqlite:///{tmp_path}/journal.db"
    with ArqonSolver(config, journal=journal, registry=CollectorRegistry(), device="cpu") as first:
        for _ in range(10):
            candidate = first.ask_one()
            assert candidate is not None
            first.seed([{"params": candidate, "value": (candidate["x"] - 0.3) ** 2}])
        (known,) = first.ask(q=1)
        assert known.reason.startswith("the highest noisy expected improvement")
    monkeypatch.setattr("arqon_gp.propose.seek", fail)  # nothing was told since: nothing is fitted again
    with ArqonSolver(config, journal=journal, registry=CollectorRegistry(), device="cpu") as second:
        (fresh,) = second.ask(q=1)
        assert fresh.id != known.id
        assert fresh.reason.startswith("the highest noisy expected improvement")
        model = second.status()["model"]
        assert (model["device"], model["fallbacks"]) == ("cpu", {})


FREE = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}


def warm_rows(n: int) -> list[dict[str, Any]]:
    X = np.random.default_rng(0).random((n, 2))
    return [{"params": {"x": x, "y": y}, "value": (x - 0.3) ** 2 + 0.1 * np.sin(40.0 * y)} for x, y in X.tolist()]


def answer(solver: ArqonSolver) -> None:
    candidate = solver.ask_one()
    assert candidate is not None
    value = (candidate["x"] - 0.3) ** 2 + 0.1 * np.sin(40.0 * candidate["y"])
    solver.seed([{"params": candidate, "id": candidate.id, "value": value}])


def test_a_prepared_fit_whose_gpu_is_full_is_made_by_the_engine(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = propose.seek, []

    def full(*given: Any) -> Any:
        if threading.current_thread().name.startswith("arqon-fit"):
            failed.append("cuda:7" in given)
            raise FULL
        return real(*given[:-1], None)

    solver = make(FREE)
    solver.seed(warm_rows(20))
    monkeypatch.setattr(propose, "place", lambda wanted, rows: "cuda:7")
    monkeypatch.setattr(propose, "restore", lambda *given: restore(*given[:-1], None))
    monkeypatch.setattr(propose, "seek", full)
    for _ in range(4):
        answer(solver)
    assert failed[0], "the first one was sought on the device"
    assert solver.status()["model"]["fallbacks"] == {}


def test_a_gpu_is_for_long_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_nvidia", lambda: True)
    monkeypatch.setattr(device, "resolve", lambda wanted: torch.device("cuda:0" if wanted == "auto" else wanted))
    few, many = device.CUDA_ROWS - 1, device.CUDA_ROWS
    assert [device.place("auto", rows) for rows in (few, many)] == ["cpu", "cuda:0"]
    assert [device.place("cpu", many), device.place("cuda:1", few)] == ["cpu", "cuda:1"]
    monkeypatch.setattr(device, "_has_nvidia", lambda: False)
    assert device.place("auto", many) == "cpu"


def test_a_fit_prepared_on_another_device_is_not_taken(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver, devices = make(FREE), []
    solver.seed(warm_rows(20))
    monkeypatch.setattr(propose, "place", lambda wanted, rows: "cuda:7" if len(devices) > 1 else "cpu")
    monkeypatch.setattr(propose, "restore", lambda *given: restore(*given[:-1], None))

    def sought(*given: Any) -> Any:
        devices.append((threading.current_thread().name.partition("_")[0], given[-1]))
        return seek(*given[:-1], None)

    monkeypatch.setattr(propose, "seek", sought)
    for _ in range(3):
        answer(solver)
    assert devices[:3] == [("MainThread", None), ("arqon-fit", None), ("MainThread", "cuda:7")]


@pytest.mark.parametrize("n", [20, 330])
def test_a_fit_that_was_ready_one_waited_for_and_one_of_another_process_give_the_same_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    taken: list[bool] = []
    real = Background.take

    def take(self: Any, key: Any, timeout_s: Any) -> Any:
        found = real(self, key, timeout_s)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(Background, "take", take)
    told = {}
    for how in ("ready", "waited for", "another process"):
        journal = f"sqlite:///{tmp_path}/{how}.db"
        solver = ArqonSolver(FREE, journal=journal, registry=CollectorRegistry(), device="cpu")
        solver.seed(warm_rows(n))
        taken.clear()
        for _ in range(8):
            answer(solver)
            if how == "ready" and (job := solver._advisor._background._job) is not None:
                job.future.result()
            if how == "another process":
                solver.close()
                solver = ArqonSolver(FREE, journal=journal, registry=CollectorRegistry(), device="cpu")
        told[how] = [row.params for row in solver._study.history.rows[n:]]
        assert any(taken) == (how != "another process")
        solver.close()
    assert told["ready"] == told["waited for"] == told["another process"]


def test_a_result_that_changes_the_fit_cancels_what_was_prepared(make: Make) -> None:
    solver = make(FREE)
    solver.seed(warm_rows(20))
    for _ in range(2):
        answer(solver)
    candidate = solver.ask_one()
    assert candidate is not None
    assert solver._advisor._background._job is not None
    solver.seed([{"params": candidate, "id": candidate.id, "status": "failed"}])
    assert solver._advisor._background._job is None
    solver.ask_one()
    assert len(solver._study.based or ()) == len(solver._study.history), "the failure is learnt from at once"


def test_a_prepared_fit_that_takes_longer_than_the_ask_may_is_stopped_and_said_to_be(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(rows: Any, settings: Any, warm: Any, stop: Any, *_: Any) -> Any:
        while not stop():
            time.sleep(0.001)
        return warm

    solver = make(FREE | {"strategy_params": {"max_ask_s": 0.2}})
    solver.seed(warm_rows(20))
    for _ in range(2):
        answer(solver)
    monkeypatch.setattr("arqon_gp.propose.seek", endless)
    answer(solver)
    candidate = solver.ask_one()
    assert candidate is not None
    assert "cut short by max_ask_s" in candidate.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_ask_for_a_device_that_is_not_there_is_misuse_not_a_numerical_failure(make: Make) -> None:
    solver = started(make(CONFIG, device="cuda"))
    with pytest.raises(RequestError, match=r"device 'cuda': torch finds no CUDA device"):
        solver.ask_one()


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


def threads_of_blas() -> dict[str, int]:
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_threads_of_linear_algebra_are_as_before_after_an_ask(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver, inside = started(make(CONFIG)), []
    real = maximize

    def watched(*given: Any) -> Any:
        inside.append(set(threads_of_blas().values()))
        return real(*given)

    monkeypatch.setattr(search, "maximize", watched)
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads_of_blas()
        assert set(before.values()) == {2}
        solver.ask_one()
        assert threads_of_blas() == before
    assert inside
    assert all(threads == {1} for threads in inside)


def test_they_are_as_before_also_where_the_model_failed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = started(make(CONFIG))
    monkeypatch.setattr("arqon_gp.search.maximize", fail)
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads_of_blas()
        solver.ask_one()
        assert threads_of_blas() == before


def test_four_objectives_are_botorchs_and_leave_the_streams_of_the_process_as_they_were(make: Make) -> None:
    config = {"seed": 1, "budget": 20, "bounds": CONFIG["bounds"], "objectives": dict.fromkeys("abcd", "min")}
    solver, random_before = make(config), random.getstate()
    threads, before = torch.get_num_threads(), torch.get_rng_state()
    reasons = []
    for _ in range(8):
        candidate = solver.ask_one()
        assert candidate is not None
        reasons.append(candidate.reason)
        x, y = candidate["x"] / 100, candidate["y"]
        solver.seed([{"params": candidate, "values": {"a": x, "b": y, "c": (x - y) ** 2, "d": 1 - x * y}}])
    assert reasons[-1].startswith("the highest noisy expected hypervolume improvement")
    assert solver.status()["model"]["fallbacks"] == {}
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == random_before
    assert torch.get_num_threads() == threads


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


# ---- max_ask_s --------------------------------------------------------------------------


class Over(Deadline):
    """A deadline that passed before the ask began."""

    def passed(self, share: float = 1.0) -> bool:
        self.cut = True
        return True


def test_an_ask_that_is_not_cut_is_the_one_without_a_deadline(make: Make) -> None:
    patient = started(make(CONFIG))
    limited = started(make(CONFIG | {"name": "limited", "strategy_params": {"max_ask_s": 600, "mine": [1]}}))
    for i in range(4):
        one, other = patient.ask_one(), limited.ask_one()
        assert one is not None
        assert other is not None
        assert dict(one) == dict(other)
        assert limited.explain(other.id)["fallback"] is None
        patient.seed([{"params": one, "value": 1.0 + 0.1 * i}])
        limited.seed([{"params": other, "value": 1.0 + 0.1 * i}])
    assert limited.status()["model"]["fallbacks"] == {}


def test_an_ask_whose_time_is_over_says_so_and_keeps_the_limits(make: Make) -> None:
    solver = started(make(CONFIG | {"strategy_params": {"max_ask_s": 1e-9}}))
    candidate = solver.ask_one()
    assert candidate is not None
    assert "cut short by max_ask_s" in candidate.reason
    assert abs(candidate["x"] - 50) <= 10
    assert abs(candidate["y"] - 0.5) <= 0.1
    assert solver.explain(candidate.id)["fallback"] == "max_ask_s"
    assert solver.status()["model"]["fallbacks"] == {"max_ask_s": 1}
    totals = [s for m in solver._metrics._of.fallbacks.collect() for s in m.samples if s.name.endswith("_total")]
    assert {s.labels["cause"]: s.value for s in totals if s.value} == {"max_ask_s": 1}


def test_a_fit_whose_time_is_over_stays_at_the_last_hyperparameters(make: Make) -> None:
    solver = started(make(CONFIG))
    solver.ask_one()
    advisor, study = solver._advisor, solver._study
    found = advisor.outlook(study)
    assert found is not None
    known = {"value": {"lengthscale": [0.7, 0.3], "category": [], "noise": [0.2], "mean": [0.0]}}
    settings = found.surrogate.settings
    climbed, stayed = (seek(found.data, settings, known, lambda stop=stop: stop)["value"] for stop in (False, True))
    cold = seek(found.data, settings, {}, lambda: True)["value"]
    assert stayed["lengthscale"] == pytest.approx([0.7, 0.3]) or stayed == cold
    assert climbed["lengthscale"] != pytest.approx(stayed["lengthscale"])


def test_a_search_whose_time_is_over_returns_the_best_screened_point_of_the_box(make: Make) -> None:
    solver = started(make(CONFIG))
    solver.ask_one()
    advisor, space = solver._advisor, solver._study.config.space
    found = advisor.outlook(solver._study)
    assert found is not None
    request = Request(Goal.IMPROVE, space.whole, solver._study.config.start, 5)
    search: Any = Choice(found, solver._yardstick(), request, (), "cpu", lambda rung: None).search
    good, streams = space.encode_all(search.good), [np.random.default_rng(0) for _ in range(2)]
    x, screened = maximize(search.target, space, space.whole, good, streams[0], Over(1.0))
    _, best = maximize(search.target, space, space.whole, good, streams[1])
    assert space.contains(space.decode(x, space.whole), space.whole)
    assert screened <= best + 0.1, "16 samples judge what is screened"


@pytest.mark.parametrize(("limit", "sought"), [(100.0, "least beyond the limits"), (330.0, "the highest P")])
def test_out_of_a_broken_limit_the_way_is_where_it_breaks_least_unless_it_may_hold(
    make: Make, limit: float, sought: str
) -> None:
    """p99 grows by 1,000 a range; on the right, where it is worse, little is known: there it is likelier to hold."""
    solver = make({
        "seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"},
        "constraints": {"p99": {"max": limit}},
    })  # fmt: skip
    random = np.random.default_rng(0)
    rows = [
        {"params": {"x": x}, "values": {"qps": 1.0, "p99": 1000 * x + random.normal()}}
        for x in np.linspace(0.3, 0.5, 30)
    ]
    solver.seed(rows)
    solver.ask_one()
    study, space = solver._study, solver._study.config.space
    request = Request(Goal.RECOVER, Box((Interval(0.3, 0.9),)), {"x": 0.4}, 5)
    proposal = solver._advisor.propose(study, solver._yardstick(), request)
    assert proposal.reason.startswith(f"recover: {sought}")
    assert proposal.params["x"] < 0.32
    found = solver._advisor.outlook(study)
    assert found is not None
    assert space.contains(proposal.params, request.box)
    if limit == 100.0:
        low, high = found.p_limits([{"x": 0.3}, {"x": 0.9}])
        assert high > low, "the highest P would lead the other way"
        scale = found.surrogate["p99"].rows.scale
        assert least_excess(found, [{"x": 0.4}])[0] * scale == pytest.approx(300.0, abs=3.0)
