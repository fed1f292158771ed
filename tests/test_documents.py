"""What the README shows is true: its Python runs as it stands."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
