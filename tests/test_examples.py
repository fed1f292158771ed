"""The seed's two examples run as they stand, and what they recommend is better than where they began."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arqon_gp.simulators import ConnectionPool, JvmGc

EXAMPLES = Path(__file__).parents[1] / "examples"

POOL_CONFIG = """\
config = {
    "seed": 42,
    "budget": 500,
    "bounds": {
        "pool_size": {"min": 5, "max": 100},
        "max_idle_time_s": {"min": 30, "max": 600},
        "connection_timeout_ms": {"min": 100, "max": 5000}
    }
}
"""
POOL_LOOP = """\
solver = ArqonSolver(json.dumps(config))

while True:
    candidate = solver.ask_one()
    if candidate is None:
        break

    # Apply new pool config (hot reload)
    db_pool.reconfigure(
        pool_size=int(candidate["pool_size"]),
        max_idle_time=candidate["max_idle_time_s"],
        timeout=candidate["connection_timeout_ms"]
    )

    # Observe for 5 minutes
    metrics = observe_db_metrics(duration_s=300)

    # Multi-objective: high throughput, low p99, low errors
    score = (
        metrics.queries_per_second * 10
        - metrics.p99_latency_ms
        - metrics.error_rate * 1000
    )

    solver.seed(json.dumps([{
        "params": candidate,
        "value": -score,  # Minimize negative score = maximize
        "cost": 300.0
    }]))
"""
JVM_CONFIG = """\
config = {
    "seed": 42,
    "budget": 100,
    "bounds": {
        "heap_size_gb": {"min": 4, "max": 32},
        "new_ratio": {"min": 1, "max": 8},
        "survivor_ratio": {"min": 2, "max": 32},
        "max_gc_pause_ms": {"min": 50, "max": 500}
    }
}
"""


@pytest.mark.parametrize(
    ("name", "block"),
    [("connection_pool", POOL_CONFIG), ("connection_pool", POOL_LOOP), ("jvm_gc", JVM_CONFIG)],
)
def test_the_seeds_code_stands_in_the_example(name: str, block: str) -> None:
    text = re.sub(r"[ \t]+\n", "\n", (EXAMPLES / f"{name}.py").read_text())
    assert block in text
    assert "from arqon_gp import ArqonSolver" in text


def run(name: str, budget: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), str(budget)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def pool_score(params: dict[str, float]) -> float:
    truth = ConnectionPool().truth(params)
    return truth["queries_per_second"] * 10 - truth["p99_latency_ms"] - truth["error_rate"] * 1000


def jvm_score(params: dict[str, float]) -> float:
    truth = JvmGc().truth(params)
    return truth["requests_per_second"] - 5 * truth["p99_latency_ms"] - 1000 * truth["error_rate"]


def test_the_pool_example_ends_near_the_best_pool() -> None:
    found = run("connection_pool", 40)
    centre = {"pool_size": 52.5, "max_idle_time_s": 315.0, "connection_timeout_ms": 2550.0}
    small = centre | {"pool_size": 20.0}
    recommended = pool_score(found["recommended"])
    assert recommended > pool_score(centre)
    assert recommended > pool_score(small) + 1000
    ran = found["runs"]
    assert ran["pool_size"] == int(found["recommended"]["pool_size"]), "at the end the recommended config runs"


def test_the_jvm_example_ends_far_from_the_cliff() -> None:
    found = run("jvm_gc", 40)
    centre = {"heap_size_gb": 18.0, "new_ratio": 4.5, "survivor_ratio": 17.0, "max_gc_pause_ms": 275.0}
    assert jvm_score(found["recommended"]) > jvm_score(centre)
    assert [flag.partition("=")[0] for flag in found["flags"]][1:] == [
        "-XX:NewRatio", "-XX:SurvivorRatio", "-XX:MaxGCPauseMillis",
    ]  # fmt: skip
