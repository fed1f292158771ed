"""Endless histories: does an ask cost the same after 10^3 and after 10^6 results, and how much memory do they take?

Three studies of three knobs, each seeded with n results in batches of 1,000 in a process of its own: without guardrails
(results spread over the space); under them, endless, with three weighted outcomes (stays of a few windows, as a live
loop leaves them); and the same under a load that is told as a context, which swings within a day and moves the optimum,
with the time of each window, one a minute. Then ASKS rounds: of each length in turn ask, REST_S, and tell, so that the
lengths meet the same machine, whose speed may change by the minute.
Figures: the median and the largest of an ask and of a tell, the time of seeding, and resident memory above that after
`import arqon_gp`: when everything was seeded, and after the asks, by when the engine is loaded, too.

Passed (exit status 0) if the median ask at every n is at most 2 times that at 1,000, 10^6 results are seeded within
20 s, and are held in 300 MB above import.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import record
from bench.soak import config as guarded_config
from bench.soak import observe

SIZES, SMOKE = (1_000, 10_000, 100_000, 1_000_000), (1_000, 3_000)
BATCH, ASKS, REST_S = 1_000, 40, 0.05
MOST_TIMES, MOST_SECONDS, MOST_MB = 2.0, 20.0, 300.0
STUDIES = ("free", "guarded", "context")
BEGAN, WINDOW_S, DAY_S = 1.7e9, 60.0, 86_400.0
LATELY = {"pool_size": 58, "max_idle_time_s": 280.0, "connection_timeout_ms": 850.0}

Row = dict[str, Any]


def load_at(seconds: float) -> float:
    """Requests a second, by the time of day."""
    return 550.0 + 400.0 * math.sin(2.0 * math.pi * seconds / DAY_S)


def window(study: str, params: dict[str, Any], at: float, random: np.random.Generator) -> Row:
    """What is told of a window that began `at`, in s: a noisy bowl in three knobs, or the pool of `soak`."""
    if study == "free":
        value = sum((x - 0.4) ** 2 for x in params.values()) + 0.05 * random.standard_normal()
        return {"params": params, "values": {"value": value}}
    if study == "guarded":
        return {"params": params, "values": observe(params, random)}
    load = load_at(at)
    values = observe(params | {"pool_size": params["pool_size"] + 30 - 0.06 * load}, random)
    values["queries_per_second"] *= load / 550.0
    return {"params": params, "values": values, "context": {"load": load}, "time": at}


def config(study: str) -> dict[str, Any]:
    """An endless study."""
    if study == "free":
        return {"seed": 1, "bounds": {name: {"min": 0, "max": 1} for name in "xyz"}}
    guarded = {key: value for key, value in guarded_config(1).items() if key != "budget"}
    return guarded | ({"context": {"load": {"min": 100, "max": 1000}}} if study == "context" else {})


def batches(study: str, n: int, random: np.random.Generator) -> Iterator[list[Row]]:
    """n results in batches."""
    for begin in range(0, n, BATCH):
        size = min(BATCH, n - begin)
        if study == "free":
            configs = [dict(zip("xyz", x, strict=True)) for x in random.random((size, 3)).tolist()]
        else:
            configs = stays(size, random)
        yield [window(study, params, BEGAN + WINDOW_S * (begin + i), random) for i, params in enumerate(configs)]


def stays(n: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Configs of n windows: stays of 1 to 20 at places that are visited again and again; the last one runs."""
    places = [
        {
            "pool_size": int(random.integers(40, 80)),
            "max_idle_time_s": 30.0 * int(random.integers(5, 15)),
            "connection_timeout_ms": 100.0 * int(random.integers(5, 15)),
        }
        for _ in range(n // 10)
    ]
    configs = [place for place in places for _ in range(int(random.integers(1, 20)))]
    return (configs + [LATELY] * n)[: n - 5] + [LATELY] * 5


def cell(study: str, n: int) -> Iterator[list[float]]:
    """One study after n results, in a process of its own, because memory is what is measured: the time of seeding, in
    s, and memory above import then, in MB; after each ask and tell their times, in ms, and memory.
    """
    process, random, now = psutil.Process(), np.random.default_rng(0), BEGAN + WINDOW_S * n
    imported = process.memory_info().rss

    def taken() -> float:
        return (process.memory_info().rss - imported) / 1e6

    with ArqonSolver(config(study), registry=CollectorRegistry(), clock=lambda: now, device="cpu") as solver:
        seconds = 0.0
        for batch in batches(study, n, random):
            began = time.perf_counter()
            solver.seed(batch)
            seconds += time.perf_counter() - began
        gc.collect()
        yield [seconds, taken()]
        for k in count(1):
            context = {"load": load_at(now)} if study == "context" else None
            began = time.perf_counter()
            candidate = solver.ask_one(context)
            asked = time.perf_counter()
            assert candidate is not None
            result = window(study, candidate, now, random) | {"id": candidate.id}
            now += WINDOW_S
            time.sleep(REST_S)  # a window: what is prepared in the background comes to its end
            told = time.perf_counter()
            solver.seed([result])
            tell_s = time.perf_counter() - told
            assert solver.get_history_len() == n + k
            yield [1000.0 * (asked - began), 1000.0 * tell_s, taken()]


def lengths(study: str, sizes: Sequence[int], asks: int) -> list[dict[str, Any]]:
    """What each length of a study takes: seeded one after the other, asked in turn."""
    with ExitStack() as open_cells:
        cells = [open_cells.enter_context(Cell(study, n)) for n in sizes]
        rounds = np.zeros((asks, len(cells), 3))
        for k in range(asks):  # to and fro: what one began in the background may meet the ask of the next
            for i in range(len(cells))[:: 1 if k % 2 else -1]:
                rounds[k, i] = cells[i].step()
    settled = rounds[asks // 4 :]  # the first ones measure the start, and compile or load the engine
    first = float(np.median(settled[:, 0, 0]))
    return [
        {
            "n": n,
            "ask_ms": spread(settled[:, i, 0]),
            "tell_ms": spread(settled[:, i, 1]),
            "seed_s": round(cell.seeded[0], 2),
            "seeded_mb": round(cell.seeded[1], 1),
            "asked_mb": round(float(rounds[-1, i, 2]), 1),
            "times": round(float(np.median(settled[:, i, 0])) / first, 2),
        }
        for i, (n, cell) in enumerate(zip(sizes, cells, strict=True))
    ]


class Cell:
    """A cell in a process of its own, which takes its next step when it is told to."""

    def __init__(self, study: str, n: int) -> None:
        command = [sys.executable, "-m", "bench.endless", "--cell", study, str(n)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seeded = self.step()

    def step(self) -> list[float]:
        """What the cell yields next."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of its input is its end


def spread(values: np.ndarray) -> list[float]:
    """Median and maximum."""
    return [round(float(np.median(values)), 2), round(float(np.max(values)), 2)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="short histories")
    parser.add_argument("--sizes", type=int, nargs="+", help="other lengths; the first is what the others are held to")
    parser.add_argument("--cell", nargs=2, metavar=("STUDY", "N"), help="one cell: a step, as JSON, for each line read")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    if given.cell:
        for _, step in zip(sys.stdin, cell(given.cell[0], int(given.cell[1])), strict=False):
            print(json.dumps(step), flush=True)
        return 0
    sizes, asks = tuple(given.sizes or (SMOKE if given.smoke else SIZES)), 8 if given.smoke else ASKS
    figures: dict[str, Any] = {}
    for study in STUDIES:
        for found in lengths(study, sizes, asks):
            figures[f"{study}, n={found['n']}"] = found
            print(study, found, file=sys.stderr)
    passed = all(
        of["times"] <= MOST_TIMES and of["seed_s"] <= MOST_SECONDS and of["asked_mb"] <= MOST_MB
        for of in figures.values()
    )
    allowed = {"times": MOST_TIMES, "seed_s": MOST_SECONDS, "mb": MOST_MB}
    settings = {"sizes": sizes, "batch": BATCH, "asks": asks, "rest_s": REST_S}
    record.write("endless", figures | {"allowed": allowed, "passed": passed}, settings=settings, folder=given.out)
    print(f"passed: {passed}")
    return int(not passed and not given.smoke)


if __name__ == "__main__":
    sys.exit(main())
