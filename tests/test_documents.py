"""What the README shows is true: its Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, config_schema
from arqon_gp.results import KEYS

ROOT = Path(__file__).parents[1]


def blocks(document: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


class Pool:
    """A pool that gets better with connections, and windows that take their time on a clock of their own."""

    def __init__(self) -> None:
        self.now, self.random = 1_000_000.0, np.random.default_rng(0)
        self.runs: list[dict[str, Any]] = []

    def reconfigure(self, **params: Any) -> None:
        self.runs.append(params)

    def observe(self, duration_s: float) -> dict[str, float]:
        self.now += duration_s
        merit = 1.0 - ((self.runs[-1]["pool_size"] - 60) / 100) ** 2
        return {
            "queries_per_second": 500 * merit * self.random.normal(1.0, 0.02),
            "p99_latency_ms": 20 / merit * self.random.lognormal(0.0, 0.1),
            "error_rate": 0.01,
        }


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pool:
    found = Pool()
    monkeypatch.setattr(time, "time", lambda: found.now)
    monkeypatch.chdir(tmp_path)
    return found


def test_the_loop_of_the_readme_tunes_a_pool_in_legal_steps(pool: Pool) -> None:
    code = blocks("README.md")[0].replace('"budget": 60', '"budget": 20')
    exec(code, {"db_pool": pool, "observe_db_metrics": pool.observe})
    sizes = [run["pool_size"] for run in pool.runs]
    assert sizes[0] == 20
    assert abs(np.diff(sizes)).max() <= 10
    assert abs(sizes[-1] - 60) < 40, "better than where it began"


def test_the_plain_optimizer_of_the_readme_finds_the_minimum() -> None:
    space: dict[str, Any] = {}
    exec(blocks("README.md")[1], space)
    best = space["solver"].recommend().params
    space["solver"].close()
    assert best["x"] ** 2 + best["y"] ** 2 < 0.1


def test_the_figures_of_the_concepts_are_drawn_from_real_studies(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra demo is not installed")
    found = re.findall(r"\(figures/(\w+)\.svg\)", (ROOT / "docs/concepts.md").read_text())
    done = subprocess.run(
        [sys.executable, "docs/figures.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(found)
    assert all("<svg" in (ROOT / f"docs/figures/{name}.svg").read_text() for name in found)


def test_the_same_problem_in_optuna_and_here(capsys: pytest.CaptureFixture[str]) -> None:
    optuna = pytest.importorskip("optuna", reason="the extra bench is not installed")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    random = np.random.default_rng(0)

    def measure(timeout_ms: float, workers: int, policy: str) -> float:
        off = np.log(timeout_ms / 100) ** 2 / 5 + ((workers - 40) / 30) ** 2 + 0.5 * (policy != "lfu")
        return float(off + 0.05 * random.normal())

    theirs, ours = blocks("docs/from-optuna.md")
    assert len([line for line in ours.splitlines() if line.strip()]) <= 10
    space: dict[str, Any] = {"measure": measure}
    for code in (theirs.replace("n_trials=40", "n_trials=12"), ours):
        exec(code, space)
    space["solver"].close()
    shown = [eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert shown[0].keys() == shown[1].keys() == {"timeout_ms", "workers", "policy"}
    assert shown[1]["policy"] == "lfu"
    assert measure(**shown[1]) < 0.3


def test_the_reference_names_all_that_a_study_shows() -> None:
    text, registry = (ROOT / "docs" / "reference.md").read_text(), CollectorRegistry()
    config: dict[str, Any] = {
        "seed": 1,
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.5}},
        "context": {"load": {"min": 0, "max": 10}},
        "guardrails": {"max_delta": [0.1]},
        "exploration_budget": 0.2,
    }
    with ArqonSolver(config, registry=registry) as solver:
        for _ in range(4):
            candidate = solver.ask_one({"load": 5})
            solver.seed([{"params": candidate, "value": 1.0}])
        status, columns = solver.status(), list(solver.history().columns)
        shown = [
            *status,
            *(key for name in ("guard", "budget", "exploration", "drift", "model") for key in status[name]),
        ]
        shown += [*solver.windows()[-1], *(name for name in columns if name not in ("context_load", "x", "value"))]
        metrics = [sample.name for family in registry.collect() for sample in family.samples]
    shown += {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics if not name.endswith("_created")}
    assert [name for name in shown if f"`{name}`" not in text] == []


def test_the_reference_names_all_that_a_study_takes() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    schema = config_schema()
    keys = [*schema["properties"], *schema["$defs"]["GuardrailsModel"]["properties"], *KEYS]
    assert [key for key in keys if f"`{key}`" not in text] == []


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/*.md")), ids=lambda path: path.name
)
def test_no_heading_and_no_long_line_of_a_document_stands_twice(document: Path) -> None:
    lines = [line for line in document.read_text().splitlines() if line.startswith("#") or len(line) > 80]
    assert [line for line in set(lines) if lines.count(line) > 1] == []
