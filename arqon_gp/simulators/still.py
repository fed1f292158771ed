"""Simulated systems with a known truth, for examples and notebooks: a connection pool, a JVM's garbage collector.

Each has `truth(params)`, the noise-free outcomes, and `observe(params)`, one noisy window: throughput with a few
percent of normal noise, p99 with a lognormal tail. Failures are cliffs: an exhausted pool, a heap too small for what
lives in it. Public: ConnectionPool, JvmGc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Params = Mapping[str, float]
Outcomes = dict[str, float]


class ConnectionPool:
    """A pool of database connections under an open load of `load_per_s` queries a second.

    Knobs: pool_size, max_idle_time_s, connection_timeout_ms. Queueing by Sakasegawa's approximation of the M/M/c wait
    (1977, eq. 3); the service time grows with the connections that contend for the database.
    """

    def __init__(self, seed: int = 0, *, load_per_s: float = 900.0, noise: float = 0.03) -> None:
        self._random, self._load, self._noise = np.random.default_rng(seed), load_per_s, noise

    def truth(self, params: Params) -> Outcomes:
        """queries_per_second, p99_latency_ms, error_rate without noise."""
        size, idle = max(1.0, float(params["pool_size"])), float(params["max_idle_time_s"])
        timeout = float(params["connection_timeout_ms"]) / 1000.0
        service = 0.030 * (1.0 + (size / 70.0) ** 2) + 0.010 * math.exp(-idle / 90.0)  # contention, cold connections
        use = self._load * service / size
        if use >= 1.0:  # exhausted: everyone waits as long as allowed, and the rest is turned away
            wait, errors = timeout, 1.0 - 1.0 / use
        else:
            wait = service * use ** (math.sqrt(2.0 * (size + 1.0)) - 1.0) / (size * (1.0 - use))
            errors = math.exp(-timeout / (wait + 0.08))
        done = self._load * (1.0 - errors) * (1.0 - 0.04 * idle / 600.0)  # idle connections cost memory
        p99 = 1000.0 * (2.2 * service + 4.6 * wait) + 4.0 * timeout
        return {"queries_per_second": done, "p99_latency_ms": p99, "error_rate": errors}

    def observe(self, params: Params) -> Outcomes:
        """One window."""
        return _noisy(self.truth(params), self._random, self._noise)


class JvmGc:
    """A JVM with 6 GB of live data. Knobs: heap_size_gb, new_ratio, survivor_ratio, max_gc_pause_ms."""

    def __init__(self, seed: int = 0, *, live_gb: float = 6.0, noise: float = 0.03) -> None:
        self._random, self._live, self._noise = np.random.default_rng(seed), live_gb, noise

    def truth(self, params: Params) -> Outcomes:
        """requests_per_second, p99_latency_ms, error_rate without noise."""
        heap, target = float(params["heap_size_gb"]), float(params["max_gc_pause_ms"])
        young = heap / (float(params["new_ratio"]) + 1.0)
        survivor = young / (float(params["survivor_ratio"]) + 2.0)
        old = heap - young
        if old < 0.7 * self._live:  # the old generation cannot hold what lives: out of memory
            return {"requests_per_second": 50.0, "p99_latency_ms": 5000.0, "error_rate": 0.9}
        minor = 0.08 / young  # share of time in minor collections
        promoted = 0.04 * math.exp(-survivor / 0.3)  # too small survivors promote early
        major = 0.05 * self._live / max(old - 0.6 * self._live, 0.2)
        hurry = 0.03 * math.exp(-target / 120.0)  # short pauses cost throughput
        overhead = minor + promoted + major + hurry
        pause = 12.0 * young + 0.15 * target + 4.0 * heap
        return {
            "requests_per_second": 2000.0 / (1.0 + overhead),
            "p99_latency_ms": 20.0 + pause + 300.0 * overhead,
            "error_rate": 0.002 + 0.05 * overhead**2,
        }

    def observe(self, params: Params) -> Outcomes:
        """One window."""
        return _noisy(self.truth(params), self._random, self._noise)


def _noisy(truth: Outcomes, random: np.random.Generator, noise: float) -> Outcomes:
    rate, p99, errors = truth.items()
    return {
        rate[0]: rate[1] * (1.0 + noise * random.normal()),
        p99[0]: p99[1] * math.exp(4.0 * noise * abs(random.normal())),
        errors[0]: min(1.0, max(0.0, errors[1] * (1.0 + 5.0 * noise * random.normal()))),
    }
