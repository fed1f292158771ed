"""Compiled code: kept by the content of its sources, made ahead of the first ask, never in the way of an exit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arqon_kernels import cache, warm


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that holds nothing."""
    monkeypatch.setattr(warm, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_what_was_warmed_is_said_on_disk_and_not_done_again(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(warm, "_steps", lambda: iter([lambda: done.append(1), lambda: done.append(2)]))
    assert not warm.is_warm()
    thread = warm.warm_in_background()
    assert thread is not None
    thread.join()
    assert (done, warm.is_warm()) == ([1, 2], True)
    assert warm.warm_in_background() is None


def test_it_stops_between_two_steps_and_does_not_call_that_done(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(warm, "_steps", lambda: iter([lambda: done.append(1), lambda: done.append(2)]))
    warm.warm(lambda: not done)
    assert (done, warm.is_warm()) == ([1], False)


def test_after_warming_an_ask_compiles_nothing() -> None:
    code = """
from numba.core import event
from arqon_kernels.warm import warm
warm()
compiled = []
class Seen(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].__name__)
    def on_end(self, e): pass
event.register("numba:compile", Seen())
import numpy as np
from prometheus_client import CollectorRegistry
from arqon_gp import ArqonSolver
for objectives in (None, {"a": "min", "b": "max"}, {"a": "min", "b_ms": "min", "c": "max"}):
    bounds = {"x": {"min": 0, "max": 1}, "n": {"type": "int", "min": 1, "max": 9}, "c": {"type": "bool"}}
    config = {"seed": 1, "budget": 80, "probe_ratio": 0.0, "bounds": bounds}
    random = np.random.default_rng(0)
    if objectives:
        config["objectives"] = objectives
    with ArqonSolver(config, registry=CollectorRegistry()) as solver:
        for i in range(70):
            params = {"x": random.random(), "n": int(random.integers(1, 10)), "c": bool(i % 2)}
            values = {name: 1.0 + random.random() for name in objectives or ["value"]}
            solver.seed([{"params": params, "values": values}])
        solver.ask_one()
        solver.recommend()
print(compiled)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_process_that_ends_at_once_is_not_held_for_long(tmp_path: Path) -> None:
    code = """
from arqon_kernels import warm
import time
warm._steps = lambda: iter([lambda: time.sleep(0.05)] * 1000)
warm.warm_in_background()
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=20)


def test_where_no_folder_can_be_written_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "mkdir", refused)
    cache.cache_folder.cache_clear()
    try:
        assert cache.cache_folder() is None
    finally:
        cache.cache_folder.cache_clear()
