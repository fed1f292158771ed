"""On a CUDA device: fit, propose, and the same study as on the CPU. The whole comparison is bench/gpu.sh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.device import CUDA_ROWS
from arqon_gp.records import Label, Labelled
from arqon_gp.rows import WITHIN, Settings
from arqon_gp.surrogate import restore, seek
from bench import gpu
from tests import test_cliffs, test_drift, test_heteroscedastic
from tests.conftest import FakeClock
from tests.test_drift import CONFIG

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@CUDA
def test_an_ask_runs_on_the_gpu() -> None:
    config = gpu.CONFIG | {"budget": 12, "probe_ratio": 0.5}
    with ArqonSolver(config, registry=CollectorRegistry(), device="cuda") as solver:
        while (candidate := solver.ask_one()) is not None:
            solver.seed([{"params": candidate, "value": (candidate["a"] - 0.4) ** 2}])
        assert solver.status()["model"]["device"].startswith("cuda")
        assert solver.status()["model"]["fallbacks"] == {}


@CUDA
def test_auto_takes_the_gpu_for_a_long_history_with_its_outliers() -> None:
    random = np.random.default_rng(0)
    X = random.random((CUDA_ROWS + 100, 3))
    y = ((X - 0.4) ** 2).sum(axis=1) + 0.05 * random.standard_normal(len(X))
    y[7] += 5.0
    rows = [{"params": dict(zip("abc", x, strict=True)), "value": v} for x, v in zip(X.tolist(), y, strict=True)]
    with ArqonSolver(gpu.CONFIG, registry=CollectorRegistry()) as solver:
        solver.seed(rows[: CUDA_ROWS - 1])
        solver.ask_one()
        assert solver.status()["model"]["device"] == "cpu"
        solver.seed(rows[CUDA_ROWS - 1 :])
        for _ in range(3):
            candidate = solver.ask_one()
            assert candidate is not None
            solver.seed([{"params": candidate, "value": sum((v - 0.4) ** 2 for v in candidate.values())}])
        model = solver.status()["model"]
        assert model["device"].startswith("cuda")
        assert model["fallbacks"] == {}
        assert len(model["outliers"]["value"]) == 1


@CUDA
def test_cuda_and_cpu_agree() -> None:
    cell = gpu.compare(40, torch.device("cuda"))
    assert max(cell[key] for key in ("mean_rel", "variance_rel", "acquisition_rel")) < gpu.RTOL
    assert cell["candidate_value_rel"] < gpu.VALUE_RTOL
    assert cell["density_diff"] < gpu.DENSITY_ATOL


@CUDA
def test_a_loop_that_drifts_runs_on_the_gpu(make: Callable[..., ArqonSolver], clock: FakeClock) -> None:
    config = test_drift.PLAIN | {
        "objectives": {"qps": {"direction": "max", "weight": 1.0}},
        "context": {"load": {"min": 0, "max": 1}},
        "guardrails": {"max_delta": [0.15], "min_effect": 3.0},
    }
    solver, rng = make(config, device="cuda"), np.random.default_rng(2)
    for i in range(90):
        load = 0.5 + 0.5 * np.sin(i / 8.0)
        candidate = solver.ask_one(context={"load": load})
        assert candidate is not None
        qps = test_drift.world(float(candidate["x"]), 0.3 if i < 45 else 0.8) + 20.0 * load + rng.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps}, "context": {"load": load}}])
        clock.pass_s(300.0)
    status = solver.status()
    assert status["model"]["device"].startswith("cuda")
    assert status["model"]["fallbacks"] == {}
    assert status["regime"] == 1
    assert solver.recommend().params["x"] == pytest.approx(0.8, abs=0.12)


def two_regimes() -> tuple[Dataset, Settings]:
    study = test_drift.study_of(test_drift.rows_of_worlds(0.2, 0.8, each=24))
    data = training_set(study.apply(Labelled(Label.DRIFT, "", 0.0, since=24)).history, CONFIG.space, CONFIG.goals)
    return data, Settings(CONFIG.space, CONFIG.goals.modelled, CONFIG.exact, {"qps": 1})


SOUGHT: dict[str, Callable[[], tuple[Dataset, Settings]]] = {
    "steep": lambda: test_cliffs.measured()[:2],
    "slope": lambda: (test_heteroscedastic.sample(0, 20.0), test_heteroscedastic.SETTINGS),
    "time": lambda: test_drift.drifting_data(0.007)[:2],
    "regime": two_regimes,
}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
@pytest.mark.parametrize("sought", SOUGHT)
def test_torch_finds_the_hyperparameters_that_the_engine_finds(sought: str, device: str) -> None:
    data, settings = SOUGHT[sought]()
    engine, torch_path = (seek(data, settings, {}, device=where) for where in (None, device))
    there = f"p99_ms{WITHIN}" in engine if sought == "steep" else any(h[sought] for h in engine.values())
    assert there, "what is sought"
    assert engine.keys() == torch_path.keys()
    for name, found in engine.items():
        for part, values in found.items():
            assert torch_path[name][part] == pytest.approx(values, rel=1e-3, abs=1e-3), (name, part)
    ours, theirs = (restore(data, settings, engine, device=where) for where in (None, device))
    for gp, other in zip((*ours.outcomes, *ours.inner), (*theirs.outcomes, *theirs.inner), strict=True):
        X = np.random.default_rng(0).random((16, gp.rows.X.shape[1]))
        X[:, gp.settings.regime] = np.arange(16)[:, None] % 2
        for mine, its in zip(gp.predict(X), other.predict(X), strict=True):
            np.testing.assert_allclose(its, mine, rtol=1e-6, atol=1e-8)


def test_the_comparison_itself_finds_a_device_equal_to_itself() -> None:
    cell = gpu.compare(12, torch.device("cpu"))
    assert cell["mean_rel"] == cell["acquisition_rel"] == cell["candidate_value_rel"] == cell["density_diff"] == 0.0


def test_the_comparison_would_see_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu.values

    def off_on_the_second(target: object, X: object, device: object, seen: list[int] = []) -> object:  # noqa: B006
        seen.append(1)
        return real(target, X, device) * (1.0 + 1e-5 * (len(seen) == 2))  # type: ignore[arg-type]

    monkeypatch.setattr(gpu, "values", off_on_the_second)
    assert gpu.compare(12, torch.device("cpu"))["acquisition_rel"] > gpu.RTOL
    assert (Path(gpu.__file__).parent / "gpu.sh").exists()
