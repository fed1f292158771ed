"""The house stands as planned: lint, types, import contracts, the public names, and no torch before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
    """Top-level packages loaded once this code ran in a fresh interpreter."""
    code += "\nimport json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
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


def test_the_public_names_are_these() -> None:
    assert sorted(arqon_gp.__all__) == [
        "ArqonError", "ArqonProbe", "ArqonSolver", "Candidate", "ClosedError", "Config", "ConfigError",
        "ConfigMismatch", "FitError", "JournalError", "Kind", "NotSupportedYet", "Prediction", "RateLimited",
        "Recommendation", "RequestError", "ResultError", "StudyHeld", "SystemFailed", "__version__", "config_schema",
    ]  # fmt: skip
    assert all(hasattr(arqon_gp, name) for name in arqon_gp.__all__)
    assert sorted(arqon_kernels.__all__) == ["matern52", "matern52_vjp"]


def test_a_call_that_a_later_version_brings_is_absent_not_a_stub() -> None:
    public = {name for name in vars(arqon_gp.ArqonSolver) if not name.startswith("_")}
    assert public == {
        "ask", "ask_one", "cancel", "close", "explain", "get_history_len", "history", "pause", "recommend", "resume",
        "rollback", "seed", "status", "tell", "windows",
    }  # fmt: skip


def test_the_version_of_the_package_is_the_one_of_the_changelog() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert arqon_gp.__version__ == declared
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text()
