"""The moving systems' formulas against discrete-event simulations that share their constants and nothing else.

Each simulation plays single queries, keys, batches or collections; only the scale is smaller (fewer arrivals, shorter
spells), by the plant's own fields. Tolerances stand with each case's outcomes; errors within one point of a per cent or
the stated share; on a cliff only its side is asked for.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import simpy

from arqon_gp.simulators import Conditions
from arqon_gp.simulators.cache import Cache
from arqon_gp.simulators.jvm import Jvm
from arqon_gp.simulators.pool import Pool
from arqon_gp.simulators.queue import Queue

Events = Generator[Any, Any, None]
Outcomes = dict[str, float]


def formula(plant: Any, params: dict[str, float], now: Conditions) -> Outcomes:
    found = plant.outcomes({k: np.array([float(v)]) for k, v in params.items()}, now)
    return {name: float(v[0]) for name, v in found.items()}


def p99(times: list[float]) -> float:
    return float(np.quantile(times, 0.99))


class Slots:
    """Servers first come, first served; who waits longer than `patience` leaves. `grow` adds one."""

    def __init__(self, env: simpy.Environment, free: int) -> None:
        self.env, self.free, self.busy, self.waiting = env, free, 0, deque[simpy.Event]()

    def take(self, patience: float) -> Generator[Any, Any, bool]:
        """Whether one was got in time."""
        if self.free > 0:
            self.free, self.busy = self.free - 1, self.busy + 1
            return True
        turn = self.env.event()
        self.waiting.append(turn)
        yield turn | self.env.timeout(patience)
        if not turn.triggered:
            self.waiting.remove(turn)
        return turn.triggered

    def give(self) -> None:
        self.busy -= 1
        self.grow()

    def grow(self) -> None:
        if self.waiting:
            self.busy += 1
            self.waiting.popleft().succeed()
        else:
            self.free += 1


def pool(plant: Pool, params: dict[str, float], now: Conditions, spells: int, random: np.random.Generator) -> Outcomes:
    """Connections taken last in, first out; the idle close; a burst fills the pool, who waits in a calm opens one."""
    env, size, patience = simpy.Environment(), int(params["pool_size"]), params["connection_timeout_ms"] / 1000.0
    slots, took, lost = Slots(env, size), list[float](), 0
    idle, opening, calm = list[float](), 0, [True]  # moments since when the free ones are idle, oldest first
    idle += [0.0] * size

    def query() -> Events:
        nonlocal lost, opening
        came = env.now
        if not slots.free and slots.busy + opening < size and (calm[0] or not opening):
            opening += 1
            env.process(opened())
        if slots.free:
            idle.pop()
        if not (yield from slots.take(patience)):
            lost += 1
            took.append(patience)
            return
        open_now = slots.busy + slots.free
        mean = float(plant.service(np.array(slots.busy), np.array(open_now), now))
        yield env.timeout(random.exponential(mean))
        if not slots.waiting:
            idle.append(env.now)
        slots.give()
        took.append(env.now - came)

    def opened() -> Events:
        nonlocal opening
        yield env.timeout(plant.setup * now.step)
        opening -= 1
        if not slots.waiting:
            idle.append(env.now)
        slots.grow()

    def filled() -> Events:
        nonlocal opening
        while slots.busy + slots.free + opening < size and not calm[0]:
            opening += 1
            yield from opened()

    def closing() -> Events:
        while True:
            yield env.timeout(plant.burst_s / 100.0)
            while idle and idle[0] < env.now - params["max_idle_time_s"]:
                idle.pop(0)
                slots.free -= 1

    def arrivals() -> Events:
        lengths = -plant.burst_s * np.log1p(-(np.arange(spells) + 0.5) / spells)
        order = [random.permutation(lengths), random.permutation(lengths)]
        for spell in range(2 * spells):
            calm[0] = spell % 2 == 0
            if not calm[0]:
                env.process(filled())
            rate, end = (
                now.arrivals * (1.0 - plant.burst * (1 if calm[0] else -1)),
                env.now + order[spell % 2][spell // 2],
            )
            while env.now < end:
                yield env.timeout(random.exponential(1.0 / rate))
                env.process(query())

    env.process(closing())
    done = env.process(arrivals())
    env.run(done)
    seconds, offered = env.now, len(took)
    return {
        "queries_per_second": (offered - lost) / seconds,
        "p99_latency_ms": 1000 * p99(took),
        "error_rate": lost / offered,
    }


def cache(plant: Cache, params: dict[str, Any], now: Conditions, until: float, random: np.random.Generator) -> Outcomes:
    """Keys one by one; what is being fetched is fetched again by the next who asks; the first half warms up."""
    env, ttl, room = simpy.Environment(), params["ttl_seconds"], int(params["max_memory_mb"] / plant.size)
    lfu = params["eviction_policy"] == 1
    slots, took, lost, stale = Slots(env, int(plant.slots / now.step)), list[float](), 0, 0.0
    kept: OrderedDict[int, float] = OrderedDict()
    swapped = 1.0 - (plant.host - plant.neighbours * now.arrivals) / (params["max_memory_mb"] * now.wear)
    popularity = np.arange(1, plant.objects + 1) ** -plant.skew
    popularity /= popularity.sum()
    trend, scans = plant.trend * now.fresh, plant.scans * (1.0 - now.fresh)
    catalogue = now.arrivals * (1.0 - trend - scans)
    asked = dict(enumerate(1000.0 * catalogue * popularity))  # how often so far
    least: list[tuple[float, int]] = []
    births, updates = now.arrivals * trend / plant.asked, plant.updates * (1.0 + plant.newer * now.fresh)

    def insert(key: int) -> None:
        if key not in kept and len(kept) >= room:
            for old in [k for k, at in islice(kept.items(), 20) if env.now - at > ttl]:
                del kept[old]
        if key not in kept and len(kept) >= room:
            if not lfu:
                kept.popitem(last=False)
            else:
                while least and (least[0][1] not in kept or least[0][0] < asked[least[0][1]]):
                    _, old = heapq.heappop(least)
                    if old in kept:
                        heapq.heappush(least, (asked[old], old))
                if asked[key] <= least[0][0]:
                    return
                del kept[heapq.heappop(least)[1]]
        kept[key] = env.now
        kept.move_to_end(key)
        if lfu:
            heapq.heappush(least, (asked[key], key))

    def fetch(key: int) -> Events:
        nonlocal lost
        came = env.now
        if not (yield from slots.take(plant.patience)):
            lost += came > until / 2.0
            took.append(plant.hit + plant.patience)
            return
        yield env.timeout(random.exponential(float(plant.service(np.array(slots.busy), now))))
        slots.give()
        insert(key)
        took.append(plant.hit + env.now - came)

    def arrivals() -> Events:
        nonlocal stale
        keys, n, warm = random.choice(plant.objects, 2**18, p=popularity), 0, False
        while env.now < until:
            yield env.timeout(random.exponential(1.0 / now.arrivals))
            if not warm and env.now > until / 2.0:
                warm = True
                took.clear()
            n += 1
            u = random.random()
            key = int(keys[n % 2**18])
            if u < scans:
                key = -2 * n
            elif u < scans + trend:
                key = -2 * int(births * (env.now + 1e3 - random.random() * plant.life)) - 1
            asked[key] = asked.get(key, 0.0) + 1.0
            age = env.now - kept[key] if key in kept else math.inf
            if age > ttl:
                kept.pop(key, None)
                env.process(fetch(key))
            else:
                took.append(plant.hit + (random.random() < swapped) * random.exponential(plant.fault))
                stale += (env.now > until / 2.0) * -math.expm1(-updates * age)
                if not lfu:
                    kept.move_to_end(key)

    env.run(env.process(arrivals()))
    n = len(took)
    return {
        "requests_per_second": (n - lost) / (until / 2.0),
        "p99_latency_ms": 1000.0 * p99(took),
        "error_rate": lost / n,
        "stale_rate": stale / n,
    }


def queue(
    plant: Queue, params: dict[str, float], now: Conditions, until: float, random: np.random.Generator
) -> Outcomes:
    """Batches to the consumer that holds fewest; not acknowledged in time, one is delivered once more, at the end."""
    env, visible = simpy.Environment(), params["visibility_timeout_s"]
    size, prefetch = int(params["batch_size"]), int(params["prefetch_count"])
    most = max(1, prefetch // size)
    mean = plant.overhead + plant.work * now.wear * (1.0 + plant.memory * prefetch) * size
    consumers = [simpy.Store(env) for _ in range(round(plant.consumers / now.step))]
    holds, latest, broker = [0] * len(consumers), [0.0] * len(consumers), deque[Batch]()
    took, twice, within, messages = list[float](), 0, 0, 0

    def dispatch() -> None:
        while broker and min(holds) < most:
            chosen = min(range(len(holds)), key=lambda i: (holds[i], latest[i]))
            holds[chosen], latest[chosen] = holds[chosen] + 1, env.now
            batch = broker.popleft()
            consumers[chosen].put(batch)
            if not batch.again:
                env.process(clock(batch))

    def clock(batch: Batch) -> Events:
        nonlocal twice
        yield env.timeout(visible)
        if not batch.done:
            twice += not batch.died
            broker.append(Batch(batch.came, again=True, done=not batch.died))
            dispatch()

    def consume(me: int) -> Events:
        nonlocal within
        while True:
            batch = yield consumers[me].get()
            if most == 1:
                yield env.timeout(plant.trip * math.ceil(size / prefetch))
            yield env.timeout(mean * (1.0 - plant.spread) + random.exponential(plant.spread * mean))
            batch.died = not batch.again and random.random() < plant.crash
            if not batch.died and not batch.done:
                batch.done = True
                took.extend(env.now - batch.came)
                within += size * (env.now <= until)
            holds[me] -= 1
            dispatch()

    def arrivals() -> Events:
        nonlocal messages
        while env.now < until:
            came = env.now + np.cumsum(random.exponential(1.0 / now.arrivals, size))
            yield env.timeout(came[-1] - env.now)
            messages += size
            broker.append(Batch(came))
            dispatch()

    for me in range(len(consumers)):
        env.process(consume(me))
    env.run(env.process(arrivals()))
    env.run(4.0 * until)
    return {
        "messages_per_second": within / until,
        "p99_latency_s": p99(took),
        "error_rate": min(1.0, twice * size / messages + 1.0 - within / messages),
    }


@dataclass
class Batch:
    came: np.ndarray
    again: bool = False
    done: bool = False
    died: bool = False


def jvm(plant: Jvm, params: dict[str, float], now: Conditions, until: float, random: np.random.Generator) -> Outcomes:
    """Requests allocate, collections stop the clock that all work runs by; `stopped` is how long it stood so far."""
    env, target = simpy.Environment(), params["max_gc_pause_ms"] / 1000.0
    young = params["heap_size_gb"] / (params["new_ratio"] + 1.0)
    survivor = young / (params["survivor_ratio"] + 2.0)
    free = params["heap_size_gb"] - young - plant.alive(now)
    eden = min(young - 2.0 * survivor, plant.eden * target)
    pieces = math.ceil(plant.mark * plant.alive(now) / target)
    filled, last, old, stopped, lost, left = 0.0, 0.0, 0.0, 0.0, 0, 0
    cores, took = Slots(env, plant.cores), list[float]()
    shares, lives = np.array(plant.kinds).T
    aged: list[tuple[int, np.ndarray]] = []  # collections survived, GB of each kind: oldest first
    work = plant.work * (1.0 + plant.paging * (params["heap_size_gb"] / 32.0) ** 2)

    def request(early: float = 0.0) -> Events:
        """`early`: so long before the clock went on again."""
        nonlocal filled, lost
        came = env.now + stopped - early
        got = yield from cores.take(plant.patience)
        if env.now + stopped - came > plant.patience or not got:
            lost += 1
            took.append(plant.patience)
            if got:
                cores.give()
            return
        filled += random.exponential(plant.allocation * now.step)
        if filled >= eden:
            minor()
        yield env.timeout(random.exponential(work))
        cores.give()
        took.append(env.now + stopped - came)

    def pause(seconds: float) -> None:
        nonlocal stopped
        stopped += seconds
        for early in sorted(random.random(random.poisson(now.arrivals * seconds)) * seconds, reverse=True):
            env.process(request(float(early)))

    def minor() -> None:
        nonlocal filled, last, old, left, aged
        passed, last = env.now + stopped - last, env.now + stopped
        ages = passed * (np.arange(200) + 0.5) / 200.0
        new = filled * shares * np.exp(-ages[:, None] / lives).mean(axis=0)
        aged = [(n + 1, gb * np.exp(-passed / lives)) for n, gb in aged] + [(1, new)]
        filled, copied = 0.0, sum(float(gb.sum()) for _, gb in aged)
        over = copied - survivor
        while aged and (aged[0][0] > 15 or over > 0.0):
            n, gb = aged.pop(0)
            part = 1.0 if n > 15 else min(1.0, over / float(gb.sum()))
            over, old = over - part * float(gb.sum()), old + part * float(gb.sum())
            if part < 1.0:
                aged.insert(0, (n, (1.0 - part) * gb))
        if old > free:
            old, left = 0.0, left + pieces
        this = left if left > pieces else min(left, 1)  # no room before all is done
        left -= this
        pause(plant.start + plant.copy * copied + this * (plant.mark * plant.alive(now) / pieces + plant.start))

    def arrivals() -> Events:
        warm = False
        while env.now + stopped < until:
            if not warm and env.now + stopped > 0.2 * until:
                warm = True
                took.clear()
            yield env.timeout(random.exponential(1.0 / now.arrivals))
            env.process(request())

    env.run(env.process(arrivals()))
    errors = lost / len(took)
    return {
        "requests_per_second": now.arrivals * (1.0 - errors),
        "p99_latency_ms": 1000 * p99(took),
        "error_rate": errors,
    }


POOL = replace(Pool(), burst_s=20.0, setup=Pool().setup / 3.0)  # bursts and filling three times as fast
CACHE = replace(  # a tenth of the objects, a fifth of the traffic
    Cache(), objects=5000, size=0.8, slots=Cache().slots / 5.0, neighbours=5.0 * Cache().neighbours
)
QUEUE, JVM = Queue(), Jvm()
Case = tuple[Any, tuple[float, ...], Conditions, float]

# plant, params, conditions, what the simulation runs for (pool: spells, else s). Of each system: the initial config,
# the optimum at the day's least and highest traffic and at the highest after the step, and others. Measured on seed 1,
# 27 Nov 2026: rate within 1.1 %, p99 within 6 % (pool), 7 % (cache), 10 % (queue), 13 % (JVM), stale within 7 %.
# Close to a cliff they differ by more, and mostly the formula falls first.
REGULAR: list[Case] = [
    (POOL, (18, 120.0, 1000.0), Conditions(83.0, 1.01), 12),
    (POOL, (8, 30.0, 175.0), Conditions(37.0, 1.01), 12),
    (POOL, (28, 30.0, 120.0), Conditions(133.0), 12),
    (POOL, (39, 30.0, 125.0), Conditions(133.0, 1.02, 1.5), 12),
    (POOL, (24, 10.0, 1000.0), Conditions(110.0), 12),
    (POOL, (60, 40.0, 1000.0), Conditions(90.0), 12),
    (CACHE, (120.0, 1500.0, 0), Conditions(220.0), 960.0),
    (CACHE, (110.0, 3200.0, 0), Conditions(190.0, fresh=0.2), 960.0),
    (CACHE, (40.0, 2400.0, 0), Conditions(390.0, 1.02, fresh=0.75), 240.0),
    (CACHE, (45.0, 2350.0, 0), Conditions(400.0, 1.03, 1.25, 0.75), 240.0),
    (CACHE, (190.0, 2900.0, 1), Conditions(270.0, 1.02, fresh=0.0), 960.0),
    (CACHE, (200.0, 2900.0, 1), Conditions(270.0, 1.03, 1.25, 0.02), 960.0),
    (CACHE, (80.0, 2400.0, 1), Conditions(250.0, fresh=1.0), 240.0),
    (QUEUE, (20, 40, 5.0), Conditions(82.0, 1.01), 15000.0),
    (QUEUE, (7, 14, 2.3), Conditions(44.0), 15000.0),
    (QUEUE, (27, 27, 3.7), Conditions(118.0), 15000.0),
    (QUEUE, (52, 52, 5.5), Conditions(118.0, 1.02, 1.25), 15000.0),
    (QUEUE, (40, 20, 8.0), Conditions(80.0), 15000.0),
    (JVM, (16.0, 2, 8, 200.0), Conditions(504.0, 1.02), 300.0),
    (JVM, (16.8, 8, 27, 107.0), Conditions(280.0), 600.0),
    (JVM, (26.3, 8, 18, 185.0), Conditions(710.0, 1.02), 600.0),
    (JVM, (26.7, 8, 10, 500.0), Conditions(710.0, 1.04, 1.3), 600.0),
    (JVM, (24.0, 1, 30, 500.0), Conditions(400.0), 300.0),
]
BEYOND: list[Case] = [
    (POOL, (12, 40.0, 500.0), Conditions(90.0), 12),  # exhausted
    (POOL, (100, 40.0, 1000.0), Conditions(175.0, 1.02, 1.5), 12),  # a lock convoy
    (CACHE, (120.0, 1500.0, 0), Conditions(400.0, 1.03, 1.3, 0.5), 240.0),  # a stampede
    (CACHE, (120.0, 1500.0, 1), Conditions(400.0, fresh=1.0), 240.0),  # fashions that LFU does not admit
    (CACHE, (80.0, 4000.0, 0), Conditions(400.0, 1.03), 240.0),  # memory that the host does not have
    (QUEUE, (27, 84, 3.7), Conditions(118.0), 300.0),  # a storm of redelivery
    (QUEUE, (20, 40, 5.0), Conditions(118.0, 1.02, 1.25), 300.0),  # overhead takes all
    (QUEUE, (5, 10, 10.0), Conditions(50.0), 300.0),
    (JVM, (8.0, 2, 20, 150.0), Conditions(600.0, 1.0, 1.4), 150.0),  # out of memory
    (JVM, (16.0, 2, 8, 400.0), Conditions(920.0, 1.05, 1.4), 300.0),
]


def both(case: Case) -> tuple[Outcomes, Outcomes]:
    plant, values, now, until = case
    params = {knob.name: v for knob, v in zip(plant.knobs, values, strict=True)}
    played: Any = {Pool: pool, Cache: cache, Queue: queue, Jvm: jvm}[type(plant)]
    return formula(plant, params, now), played(plant, params, now, until, np.random.default_rng(1))


def named(case: Case) -> str:
    return f"{type(case[0]).__name__} {case[1]} {case[2].arrivals:g}"


@pytest.mark.parametrize("case", REGULAR, ids=named)
def test_where_a_system_works_the_formula_is_what_single_events_add_up_to(case: Case) -> None:
    truth, played = both(case)
    (rate, worst, errors), *_ = [list(truth)[:3]]
    assert played[rate] == pytest.approx(truth[rate], rel=0.03)
    assert played[worst] == pytest.approx(truth[worst], rel=0.15)
    assert played[errors] == pytest.approx(truth[errors], abs=0.006)
    if "stale_rate" in truth:
        assert played["stale_rate"] == pytest.approx(truth["stale_rate"], rel=0.2)


@pytest.mark.parametrize("case", BEYOND, ids=named)
def test_beyond_a_cliff_both_have_fallen(case: Case) -> None:
    broken = list[list[str]]()
    for outcomes in both(case):
        broken.append([name for name, limit in case[0].limits.items() if outcomes[name] > limit])
    assert broken[0] == broken[1] != []
