"""Shared by all tests: a registry of its own for every solver, a clock that stands until it is moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver

settings.register_profile(
    "arqon", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)
settings.load_profile("arqon")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")


class FakeClock:
    """Unix seconds that pass only when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Make = Callable[..., ArqonSolver]


@pytest.fixture
def make(clock: FakeClock) -> Iterator[Make]:
    """ArqonSolver(config) with the fake clock and a fresh registry; closed at the end of the test."""
    made: list[ArqonSolver] = []

    def build(config: Any, **options: Any) -> ArqonSolver:
        options = {"registry": CollectorRegistry(), "clock": clock, "device": "cpu"} | options
        made.append(ArqonSolver(config, **options))
        return made[-1]

    yield build
    for solver in made:
        solver.close()
