"""A connection pool before a database that slows as connections contend, with bursts of about a minute.

Calm and busy spells of mean `burst_s` alternate, the arrivals two fifths below and above the mean; each is taken as
settled (pointwise stationary, Green & Kolesar 1991). When a burst finds the pool exhausted it fills up, one connection
after another; a connection idle for max_idle_time_s closes. The service slows as the universal scalability law says
(Gunther 2007, eq. 4.31), so a pool beyond its peak is a lock convoy; every open connection takes memory from the
database's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from arqon_gp.simulators.moving import Array, Conditions, Knob, Swings
from arqon_gp.simulators.waiting import Station, quantile, station

_MOST = 100


@dataclass(frozen=True, slots=True)
class Pool:
    """Times in s. Wear slows the database's own work; the step multiplies the wait for what is upstream of it."""

    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("pool_size", 18, 5, _MOST, 6, whole=True),
        Knob("max_idle_time_s", 120.0, 30, 600, 60),
        Knob("connection_timeout_ms", 1000.0, 100, 5000, 500),
    )
    swings: ClassVar[Swings] = Swings((80.0, 86.0), (0.45, 0.55), (0.6, 0.8), (0.01, 0.02), (1.3, 1.5))
    weights: ClassVar[dict[str, float]] = {"queries_per_second": 10.0, "p99_latency_ms": -1.0, "error_rate": -1000.0}
    limits: ClassVar[dict[str, float]] = {"p99_latency_ms": 1200.0, "error_rate": 0.01}

    work: float = 0.022
    upstream: float = 0.060
    contention: float = 0.005  # share of the work that waits for others
    crosstalk: float = 0.0009  # share that each pair costs
    memory: float = 0.06  # growth of the work for each open connection
    burst: float = 0.4
    burst_s: float = 60.0
    setup: float = 0.25  # opening one connection, times the step

    def service(self, busy: Array, opened: Array, now: Conditions) -> Array:
        """Mean service (s) of a query where `busy` connections work and `opened` are open."""
        contended = 1.0 + self.contention * (busy - 1.0) + self.crosstalk * busy * (busy - 1.0)
        return self.upstream * now.step + self.work * now.wear * (contended + self.memory * opened)

    def outcomes(self, P: dict[str, Array], now: Conditions) -> dict[str, Array]:
        """queries_per_second answered, p99_latency_ms (one turned away has taken its time-out), error_rate."""
        size, timeout = np.rint(P["pool_size"]), P["connection_timeout_ms"] / 1000.0
        calm, busy = now.arrivals * (1.0 - self.burst), now.arrivals * (1.0 + self.burst)
        need = calm * (self.upstream * now.step + 1.5 * self.work * now.wear)
        kept = np.minimum(size, np.rint(need + 2.5 * np.sqrt(need)))  # what a calm spell uses, so never idle for long
        expired = np.exp(-P["max_idle_time_s"] / self.burst_s)  # share of the calm spells that outlast the idle time
        filling = (size - kept) * self.setup * now.step
        ramp = np.minimum(expired * filling / self.burst_s, 1.0)  # share of a busy spell
        warm, half = kept + (size - kept) * (1.0 - expired), 0.5 * (size + kept)
        quiet, loud = 0.5 * (1.0 - self.burst) * np.ones_like(ramp), 0.5 * (1.0 + self.burst)  # shares of the queries
        states = (
            (quiet, self._spell(calm, size, warm, timeout, now)),
            (loud * (1.0 - ramp), self._spell(busy, size, size, timeout, now)),
            (loud * ramp, self._spell(busy, half, half, timeout, now)),
        )
        errors = sum(share * s.lost for share, s in states)
        p99 = quantile(lambda t: np.asarray(sum(share * s.tail(t) for share, s in states)), len(size))
        done = now.arrivals * (1.0 - np.asarray(errors))
        return {"queries_per_second": done, "p99_latency_ms": 1000.0 * p99, "error_rate": np.asarray(errors)}

    def _spell(self, arrivals: float, size: Array, opened: Array, timeout: Array, now: Conditions) -> Station:
        numbers = np.arange(1.0, _MOST + 1.0)
        return station(np.full(len(size), arrivals), size, self.service(numbers, opened[:, None], now), timeout)
