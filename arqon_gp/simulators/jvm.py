"""A service on a JVM: minor collections that copy survivors, major ones that mark what lives, and their pauses.

Cost model of Jones, Hosking & Moss (The Garbage Collection Handbook, 2012, sections 3.3 and 9.5): a minor collection
costs what survives, a major one what lives, and comes as often as the free old generation fills. What survives is the
flow of two kinds of objects with exponential lifetimes; what the survivor space cannot hold is promoted early. The
pause target limits the eden and cuts major work into pieces, each on top of a minor pause at a fixed cost. A pause p
delays whoever comes in the p / (1 - use) until its backlog is served, by up to p. Spells with and without pieces are
taken as settled, but for a backlog that grows where they ask for more than the cores have; there p99 is 15 to 30 %
above the discrete events (and 12 % below them at night), elsewhere within 5 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from arqon_gp.simulators.moving import WINDOW, Array, Conditions, Knob, Swings
from arqon_gp.simulators.waiting import quantile, station

_UNIFORM, _SHUFFLED = (0.1, 0.3, 0.5, 0.7, 0.9), (0.5, 0.1, 0.9, 0.3, 0.7)


@dataclass(frozen=True, slots=True)
class Jvm:
    """Times in s, sizes in GB. Wear makes the live set grow; the step multiplies what a request allocates."""

    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("heap_size_gb", 16.0, 4, 32, 1.5),
        Knob("new_ratio", 3, 1, 8, 1, whole=True),
        Knob("survivor_ratio", 12, 2, 32, 3, whole=True),
        Knob("max_gc_pause_ms", 200.0, 50, 500, 40),
    )
    swings: ClassVar[Swings] = Swings((480.0, 530.0), (0.4, 0.5), (0.55, 0.75), (0.02, 0.04), (1.2, 1.4))
    weights: ClassVar[dict[str, float]] = {"requests_per_second": 10.0, "p99_latency_ms": -2.0, "error_rate": -1000.0}
    limits: ClassVar[dict[str, float]] = {"p99_latency_ms": 400.0, "error_rate": 0.01}

    cores: int = 16
    work: float = 0.011
    paging: float = 0.3  # growth of the work where the heap takes all 32 GB from the file cache, by its square
    live: float = 4.5
    sessions: float = 0.0012  # live for each request a second
    allocation: float = 0.0011  # of a request
    kinds: tuple[tuple[float, float], ...] = ((0.93, 0.15), (0.07, 10.0))  # share of the allocation, mean lifetime
    start: float = 0.015  # of a pause
    copy: float = 0.50  # for each GB that survives
    mark: float = 0.22  # for each GB that lives
    eden: float = 3.0  # for each second of the pause target: what the JVM thinks it can collect
    patience: float = 1.0

    def outcomes(self, P: dict[str, Array], now: Conditions) -> dict[str, Array]:
        """requests_per_second answered, p99_latency_ms, error_rate."""
        heap, target = P["heap_size_gb"], P["max_gc_pause_ms"] / 1000.0
        young = heap / (np.maximum(np.rint(P["new_ratio"]), 1.0) + 1.0)
        survivor = young / (np.maximum(np.rint(P["survivor_ratio"]), 1.0) + 2.0)
        flow = now.arrivals * self.allocation * now.step
        eden = np.minimum(young - 2.0 * survivor, self.eden * target)
        minor, promoted = self._minor(eden, survivor, flow)
        free = np.maximum(heap - young - self.alive(now), 0.02)
        work = self.mark * self.alive(now)
        pieces = np.ceil(work / target)
        mixed = pieces * promoted / free * eden / flow  # share of the pauses that carry a piece
        larger = minor + (work / pieces + self.start) * np.maximum(mixed, 1.0)
        mixed = np.minimum(mixed, 1.0)
        every = eden / flow
        load = now.arrivals * self.work * (1.0 + self.paging * (heap / 32.0) ** 2) / self.cores
        plain = self._spell(minor, every, load, WINDOW + 0.0 * heap, now)
        busy = self._spell(larger, every, load, pieces * every, now)
        share = np.minimum(
            mixed * (1.0 + busy[2] / (pieces * every) / np.maximum(1.0 - load - minor / every, 0.05)), 1.0
        )
        errors = (1.0 - mixed) * plain[1] + mixed * busy[1]
        p99 = quantile(lambda t: (1.0 - share) * plain[0](t) + share * busy[0](t), len(heap))
        return {
            "requests_per_second": now.arrivals * (1.0 - errors),
            "p99_latency_ms": 1000.0 * p99,
            "error_rate": errors,
        }

    def _spell(
        self, pause: Array, every: Array, load: Array, lasts: Array, now: Conditions
    ) -> tuple[Callable[[Array], Array], Array, Array]:
        """Tail of the latency, share of errors and largest backlog (s) where a `pause` comes `every` so many seconds.

        Where that is too much work for the cores, the backlog grows as long as the spell `lasts`, or to the patience.
        """
        k, stopped = (
            len(pause),
            pause / np.maximum(every, load * every + pause),
        )  # who waits for a core allocates nothing
        use = load / (1.0 - stopped)
        backlog = np.maximum(use - 1.0, 0.0) * lasts
        grown = np.minimum(backlog, self.patience)
        service = np.minimum(use, 0.9) * self.cores / now.arrivals
        rates = np.full(k, now.arrivals), np.full(k, float(self.cores))
        cores = station(*rates, np.tile(service[:, None], self.cores), np.full(k, self.patience))
        hit = np.minimum(stopped / (1.0 - np.minimum(use, 0.9)), 1.0)

        def tail(t: Array) -> Array:
            both = zip(_UNIFORM, _SHUFFLED, strict=True)
            delayed = [cores.tail(t - np.minimum(grown * v + pause * u, self.patience)) for u, v in both]
            alone = [cores.tail(t - grown * v) for v in _SHUFFLED]
            return np.asarray(((1.0 - hit) * sum(alone) + hit * sum(delayed)) / len(_UNIFORM))

        lost = np.maximum(1.0 - self.patience / np.maximum(backlog, self.patience), 0.0) * (
            1.0 - 1.0 / np.maximum(use, 1.0)
        )
        return tail, np.minimum(1.0, cores.lost + lost + hit * np.maximum(1.0 - self.patience / pause, 0.0)), grown

    def alive(self, now: Conditions) -> float:
        """GB that live in the old generation."""
        return self.live * now.wear + self.sessions * now.arrivals

    def _minor(self, eden: Array, survivor: Array, flow: float) -> tuple[Array, Array]:
        """Pause (s) of a minor collection, and what is promoted (GB/s), where an eden fills at `flow` (GB/s)."""
        every = eden / flow
        (short, soon), (rest, long) = self.kinds
        new = flow * short * soon * -np.expm1(-every / soon)
        middling = flow * rest * long * -np.expm1(-every / long)
        aged = flow * rest * long * -np.expm1(-15.0 * every / long)  # of at most 15 collections, the JVM's limit
        share = np.minimum(1.0, survivor / (new + middling))  # of the newest that finds room
        kept = np.where(share < 1.0, share * middling, np.minimum(aged, survivor - new))
        lasting, passing = kept * np.exp(-every / long), np.where(share < 1.0, share * new * np.exp(-every / soon), 0.0)
        early = (1.0 - share) * new + passing
        return self.start + self.copy * (new + middling + lasting + passing), (
            early + middling - kept + lasting
        ) / every
