"""The simulated systems: their truth, their noise, and the cliffs where they fail."""

from __future__ import annotations

import numpy as np
import pytest

from arqon_gp.simulators import ConnectionPool, JvmGc

POOL = {"pool_size": 50, "max_idle_time_s": 120, "connection_timeout_ms": 1000}
JVM = {"heap_size_gb": 16, "new_ratio": 3, "survivor_ratio": 8, "max_gc_pause_ms": 200}


def test_the_same_seed_is_the_same_system() -> None:
    a, b, c = ConnectionPool(3), ConnectionPool(3), ConnectionPool(4)
    assert [a.observe(POOL) for _ in range(3)] == [b.observe(POOL) for _ in range(3)]
    assert a.observe(POOL) != c.observe(POOL)
    assert a.truth(POOL) == c.truth(POOL)


def test_windows_scatter_around_the_truth_with_a_heavy_p99() -> None:
    system = ConnectionPool(0)
    windows = [system.observe(POOL) for _ in range(2000)]
    qps = np.array([w["queries_per_second"] for w in windows])
    p99 = np.array([w["p99_latency_ms"] for w in windows])
    truth = system.truth(POOL)
    assert qps.mean() == pytest.approx(truth["queries_per_second"], rel=0.005)
    assert qps.std() == pytest.approx(0.03 * truth["queries_per_second"], rel=0.1)
    assert p99.min() >= truth["p99_latency_ms"]


def test_a_pool_too_small_is_exhausted_and_one_too_large_contends() -> None:
    sizes = np.arange(5, 101)
    truths = [ConnectionPool().truth(POOL | {"pool_size": int(s)}) for s in sizes]
    qps = np.array([t["queries_per_second"] for t in truths])
    p99 = np.array([t["p99_latency_ms"] for t in truths])
    assert truths[0]["error_rate"] > 0.5
    assert 35 <= sizes[np.argmax(10 * qps - p99)] <= 80
    assert p99[-1] > 1.3 * p99.min()
    assert p99[0] > 1000.0, "everyone waits for the time-out"


def test_a_heap_too_small_is_out_of_memory() -> None:
    assert JvmGc().truth(JVM | {"heap_size_gb": 4})["error_rate"] == 0.9
    assert JvmGc().truth(JVM)["error_rate"] < 0.01
    assert JvmGc().truth(JVM | {"heap_size_gb": 32})["p99_latency_ms"] > JvmGc().truth(JVM)["p99_latency_ms"]
