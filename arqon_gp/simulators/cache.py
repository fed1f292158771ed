"""A cache before a slow store: a catalogue of Zipf popularity, passing fashions, and scans that nobody asks for twice.

Hit ratios by the characteristic time of Che, Tung & Wang (2002, eq. 2-4), after which LRU evicts what nobody asked for,
with a time to live that hits do not renew (Fofack et al. 2014). LRU takes whatever comes; LFU goes by how often it was
asked for, so fashions and scans only where room is left (TinyLFU, Einziger et al. 2017). Fetches slow one another down,
and who asks while an entry is being fetched asks the store too: a slow store is stampeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from arqon_gp.simulators.moving import Array, Conditions, Knob, Swings
from arqon_gp.simulators.waiting import quantile, station


@dataclass(frozen=True, slots=True)
class Cache:
    """Times in s, sizes in MB. Wear fragments the memory and slows the store; the step divides what its API allows."""

    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("ttl_seconds", 120.0, 10, 600, 20),
        Knob("max_memory_mb", 1500.0, 200, 4000, 150),
        Knob("eviction_policy", "lru", choices=("lru", "lfu")),
    )
    swings: ClassVar[Swings] = Swings((1380.0, 1500.0), (0.35, 0.42), (0.6, 0.8), (0.01, 0.02), (1.2, 1.3))
    weights: ClassVar[dict[str, float]] = {
        "requests_per_second": 1.0,
        "p99_latency_ms": -1.0,
        "error_rate": -1000.0,
        "stale_rate": -12000.0,
    }
    limits: ClassVar[dict[str, float]] = {"p99_latency_ms": 400.0, "error_rate": 0.01}

    objects: int = 50_000
    skew: float = 0.9
    size: float = 0.08
    slots: float = 72.0  # fetches that the store's API allows at once
    fetch: float = 0.030  # alone
    crowding: float = 3.0  # growth of a fetch where all slots are taken
    patience: float = 1.0
    trend: float = 0.35  # largest share of the demand that fashions are
    asked: float = 20.0  # requests for one of them ...
    life: float = 60.0  # ... in its life
    scans: float = 0.20  # largest share of the demand
    updates: float = 0.00006  # a second and object, and ...
    newer: float = 9.0  # ... so many times that more where all is fresh
    host: float = 4200.0
    neighbours: float = 0.9  # MB of the host for each request a second
    hit: float = 0.002
    fault: float = 0.120  # a page that was swapped out

    def classes(self) -> tuple[Array, Array]:
        """Share of the catalogue's demand for one object, and number of objects, in 60 classes of equal popularity."""
        edges = np.unique(np.rint(np.geomspace(1.0, self.objects + 1.0, 64))).astype(int)
        weight = np.arange(1, self.objects + 1) ** -self.skew
        mass, count = np.add.reduceat(weight, edges[:-1] - 1) / weight.sum(), np.diff(edges)
        return mass / count, count.astype(float)

    def service(self, busy: Array, now: Conditions) -> Array:
        """Mean time (s) of a fetch where so many are under way."""
        return self.fetch * now.wear * (1.0 + self.crowding * busy / self.slots)

    def outcomes(self, P: dict[str, Array], now: Conditions) -> dict[str, Array]:
        """requests_per_second answered, p99_latency_ms, error_rate, stale_rate: share of answers that were outdated."""
        ttl, memory, lru = P["ttl_seconds"], P["max_memory_mb"], P["eviction_policy"] == 0
        share, count = self.classes()
        trend, scans, pace = self.trend * now.fresh, self.scans * (1.0 - now.fresh), self.asked / self.life
        rate, room = now.arrivals * (1.0 - trend - scans) * share, memory / self.size
        passing = now.arrivals * trend / self.asked, now.arrivals * scans
        recent = np.full(len(ttl), np.inf)
        if lru.any():
            low, high = np.full(len(ttl), -3.0), np.full(len(ttl), 9.0)  # of its logarithm
            for _ in range(24):
                middle = 0.5 * (low + high)
                known, new = self._held(np.exp(middle), ttl, rate, count, *passing)
                less = known.sum(axis=1) + new < room
                low, high = np.where(less, middle, low), np.where(less, high, middle)
            recent = np.where(lru, np.exp(high), np.inf)
        stay, stay_trend = _stay(rate, recent[:, None], ttl[:, None]), _stay(pace, recent, ttl)
        known, new = self._held(recent, ttl, rate, count, *passing)
        left = room[:, None] - np.cumsum(known, axis=1)
        fits = np.where(lru[:, None], 1.0, np.clip((left + known) / known, 0.0, 1.0))  # the most popular first ...
        admitted = np.where(lru, 1.0, np.clip(left[:, -1] / np.maximum(new, 1e-9), 0.0, 1.0))  # ... the others if left
        hit_trend = admitted * (1.0 - 1.0 / self.asked) * pace * stay_trend / (1.0 + pace * stay_trend)
        service = np.tile(self.service(np.arange(1.0, self.slots + 1.0), now), (len(ttl), 1))
        slow, lost = service[:, 0], np.zeros(len(ttl))
        slots, patience = np.full(len(ttl), self.slots / now.step), np.full(len(ttl), self.patience)
        for _ in range(10):  # misses make fetches slow, and slow fetches make misses
            late = rate * slow[:, None]
            hits = fits * rate * stay / (rate * stay + (1.0 + late) / (1.0 - lost[:, None]))
            hit = ((rate * count * hits).sum(axis=1)) / now.arrivals + trend * hit_trend
            store = station(now.arrivals * (1.0 - hit), slots, service, patience)
            slow, lost = 0.5 * (slow + store.mean), 0.5 * (lost + store.lost)
        free = self.host - self.neighbours * now.arrivals
        swapped = hit * np.clip(1.0 - free / (memory * now.wear), 0.0, 1.0)
        p99 = quantile(lambda t: (1.0 - hit) * store.tail(t) + swapped * np.exp(-t / self.fault), len(ttl))
        errors = (1.0 - hit) * store.lost
        updates = self.updates * (1.0 + self.newer * now.fresh)
        stale = (rate * count * hits * _outdated(updates * stay)).sum(axis=1) / now.arrivals
        stale += trend * hit_trend * _outdated(updates * np.minimum(stay_trend, self.life))
        return {
            "requests_per_second": now.arrivals * (1.0 - errors),
            "p99_latency_ms": 1000.0 * (self.hit + p99),
            "error_rate": errors,
            "stale_rate": stale,
        }

    def _held(
        self, recent: Array, ttl: Array, rate: Array, count: Array, born: float, scanned: float
    ) -> tuple[Array, Array]:
        """(k, n) objects of the catalogue and (k,) others in the cache, where one not asked for `recent` s has left."""
        stay, stay_trend = _stay(rate, recent[:, None], ttl[:, None]), _stay(self.asked / self.life, recent, ttl)
        lives = self.life + np.minimum(recent, 0.5 * ttl)  # after the last request, too
        full = self.asked / self.life * stay_trend
        known = count * rate * stay / (1.0 + rate * stay)
        return known, born * lives * full / (1.0 + full) + scanned * np.minimum(recent, ttl)


def _stay(rate: Array | float, recent: Array, ttl: Array) -> Array:
    """Mean time (s) that an entry asked for at `rate` stays: to its time to live, or until the first gap of `recent`.

    Nobody leaves before `recent`; then a share that had no second request leaves, and the rest at a constant rate that
    gives the mean without a time to live, (exp(rate recent) - 1) / rate.
    """
    x = np.minimum(rate * recent, 30.0)
    first = np.minimum(recent, ttl)
    rest = np.maximum(np.expm1(x) - x, 1e-12) / rate
    asked = -np.expm1(-x)
    return np.asarray(first + rest * -np.expm1(-asked * (ttl - first) / rest))


def _outdated(x: Array) -> Array:
    """Share of answers older than the last update, where x = updates during a stay, ages uniform in it."""
    return np.asarray(1.0 - -np.expm1(-x) / np.maximum(x, 1e-12))
