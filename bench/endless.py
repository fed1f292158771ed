"""Endless histories: does an ask cost the same after 10^3 and after 10^6 results, and how much memory do they take?

Three studies of three knobs, each seeded with n results in batches of 1,000 in a process of its own: without guardrails
(results spread over the space); under them, endless, with three weighted outcomes (stays of a few windows, as a live
loop leaves them); and the same under a load that is told as a context, which swings within a day and moves the optimum,
with the time of each window, one a minute. Then ASKS times ask and tell, one after the other with REST_S between.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def cell(study: str, n: int, asks: int) -> dict[str, Any]:
    """One study after n results; in a process of its own, because memory is what is measured."""
    process, random, now = psutil.Process(), np.random.default_rng(0), [BEGAN + WINDOW_S * n]
    imported = process.memory_info().rss
    with ArqonSolver(config(study), registry=CollectorRegistry(), clock=lambda: now[0], device="cpu") as solver:
        seconds = 0.0
        for batch in batches(study, n, random):
            began = time.perf_counter()
            solver.seed(batch)
            seconds += time.perf_counter() - began
        gc.collect()
        seeded, ask_ms, tell_ms = process.memory_info().rss, [], []
        for _ in range(asks):
            context = {"load": load_at(now[0])} if study == "context" else None
            began = time.perf_counter()
            candidate = solver.ask_one(context)
            asked = time.perf_counter()
            assert candidate is not None
            result = window(study, candidate, now[0], random) | {"id": candidate.id}
            now[0] += WINDOW_S
            time.sleep(REST_S)  # a window: what is prepared in the background comes to its end
            told = time.perf_counter()
            solver.seed([result])
            tell_ms.append(1000.0 * (time.perf_counter() - told))
            ask_ms.append(1000.0 * (asked - began))
        assert solver.get_history_len() == n + asks
        asked_mb = process.memory_info().rss
    return {
        "n": n,
        "ask_ms": spread(ask_ms[asks // 4 :]),  # the first ones measure the start, and compile or load the engine
        "tell_ms": spread(tell_ms[asks // 4 :]),
        "seed_s": round(seconds, 2),
        "seeded_mb": round((seeded - imported) / 1e6, 1),
        "asked_mb": round((asked_mb - imported) / 1e6, 1),
    }


def spread(values: list[float]) -> list[float]:
    """Median and maximum."""
    return [round(float(np.median(values)), 2), round(float(np.max(values)), 2)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="short histories")
    parser.add_argument("--sizes", type=int, nargs="+", help="other lengths; the first is what the others are held to")
    parser.add_argument("--cell", nargs=3, metavar=("STUDY", "N", "ASKS"), help="one cell, printed as JSON")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    if given.cell:
        study, n, asks = given.cell
        print(json.dumps(cell(study, int(n), int(asks))))
        return 0
    sizes, asks = tuple(given.sizes or (SMOKE if given.smoke else SIZES)), 8 if given.smoke else ASKS
    figures: dict[str, Any] = {}
    for study in STUDIES:
        for n in sizes:
            command = [sys.executable, "-m", "bench.endless", "--cell", study, str(n), str(asks)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            found["times"] = round(found["ask_ms"][0] / figures.get(f"{study}, n={sizes[0]}", found)["ask_ms"][0], 2)
            figures[f"{study}, n={n}"] = found
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
