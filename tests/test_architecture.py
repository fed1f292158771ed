"""The house stands as planned: lint, types, import contracts, the public names, and no torch before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import arqon_gp
import arqon_kernels

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
    ],
    ids=["lint", "format", "types", "import contracts"],
)
def test_the_house_rules_hold(command: list[str]) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def modules_after(code: str) -> set[str]:
    """Modules loaded once this code ran in a fresh interpreter."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


GUARDED = """
from arqon_gp import ArqonSolver
config = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "guardrails": {}}
with ArqonSolver(config) as solver:
    assert solver.ask_one().kind == "start"
"""


@pytest.mark.parametrize("code", ["import arqon_gp", "import arqon_gp.cli", "import arqon_kernels", GUARDED])
def test_torch_is_not_loaded_before_a_model_is_needed(code: str) -> None:
    assert not modules_after(code) & {"torch", "botorch", "gpytorch", "optuna", "matplotlib", "rich"}


PLAIN: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1, "initial": 0.5}}, "objectives": {"qps": "max"}}
FRONT = PLAIN | {"objectives": {"qps": "max", "p99_ms": "min"}}
NEXT = """
from arqon_gp import ArqonSolver
with ArqonSolver({config!r}, journal={journal!r}, device="cpu") as solver:
    candidate = solver.ask_one()
    assert candidate.reason.startswith("the highest noisy expected"), candidate.reason
    solver.seed([{{"params": candidate, "values": {{"qps": 1.0, "p99_ms": 1.0}}}}])
    solver.recommend(), solver.status(), solver.explain(candidate.id)
    model = solver.status()["model"]
    assert (model["device"], model["fallbacks"]) == ("cpu", {{}}), model
"""


def told_before_the_model(config: dict[str, Any], asks: int, **options: Any) -> int:
    """Ask and tell until the model chooses a candidate, so many times at the most; how often was told."""
    with arqon_gp.ArqonSolver(config, registry=CollectorRegistry(), device="cpu", **options) as solver:
        for told in range(asks):
            candidate = solver.ask_one()
            assert candidate is not None
            if candidate.reason.startswith("the highest noisy expected"):
                return told
            values = {"qps": candidate["x"], "p99_ms": 1.0 + candidate["x"] ** 2}
            solver.seed([{"params": candidate, "values": values}])
    return asks


@pytest.mark.parametrize(
    "config",
    [
        PLAIN | {"budget": 60},
        PLAIN | {"constraints": {"p99_ms": {"max": 3.0}}, "guardrails": {}, "probe_ratio": 0.0},
        FRONT,
        FRONT | {"guardrails": {}, "probe_ratio": 0.0},
    ],
    ids=["one objective", "guarded, with a limit", "two objectives", "two objectives, guarded"],
)
def test_a_model_based_ask_on_the_cpu_loads_no_torch_and_nothing_else_that_is_slow(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """In a fresh process, as after a restart; the recommendation too."""
    journal = f"sqlite:///{tmp_path}/journal.db"
    before = told_before_the_model(config, asks=40)
    told_before_the_model(config, asks=before, journal=journal)
    loaded = modules_after(NEXT.format(config=config, journal=journal))
    slow = {"torch", "botorch", "gpytorch", "linear_operator", "pandas", "scipy.stats", "scipy.optimize", "matplotlib"}
    assert sorted(loaded & slow) == []


def test_the_public_names_are_these() -> None:
    assert sorted(arqon_gp.__all__) == [
        "ArqonError", "ArqonProbe", "ArqonSolver", "Candidate", "ClosedError", "Config", "ConfigError",
        "ConfigMismatch", "FitError", "JournalError", "Kind", "NotSupportedYet", "Prediction", "RateLimited",
        "Recommendation", "RequestError", "ResultError", "StudyHeld", "SystemFailed", "__version__", "config_schema",
    ]  # fmt: skip
    assert all(hasattr(arqon_gp, name) for name in arqon_gp.__all__)
    assert sorted(arqon_kernels.__all__) == ["LogPosterior", "covariance", "minimize"]
    assert all(hasattr(arqon_kernels, name) for name in arqon_kernels.__all__)


def test_a_call_that_a_later_version_brings_is_absent_not_a_stub() -> None:
    public = {name for name in vars(arqon_gp.ArqonSolver) if not name.startswith("_")}
    assert public == {
        "ask", "ask_one", "cancel", "close", "enqueue", "explain", "get_history_len", "history", "importance",
        "pareto_front", "pause", "recommend", "resume", "rollback", "seed", "status", "tell", "windows",
    }  # fmt: skip


def test_the_version_of_the_package_is_the_one_of_the_changelog() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert arqon_gp.__version__ == declared
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text()
