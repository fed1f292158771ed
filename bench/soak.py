"""Soak: 5,000 guarded steps in one process with a journal on disk. Does resident memory stay flat, and an ask quick?

At the last step memory may be at most 1.1 times what it was after a fifth of them (exit status 1 else). Three weighted
outcomes and the real model: every ask fits, searches or replicates. soak.svg draws memory and the time of a step.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import record

MOST_GROWTH = 1.1
MOST_POINTS = 100  # along the way


def config(steps: int) -> dict[str, Any]:
    """The seed's pool with three outcomes."""
    return {
        "seed": 7,
        "budget": steps,
        "bounds": {
            "pool_size": {"type": "int", "min": 5, "max": 100, "initial": 20},
            "max_idle_time_s": {"min": 30, "max": 600, "initial": 120},
            "connection_timeout_ms": {"min": 100, "max": 5000, "scale": "log", "initial": 1000},
        },
        "objectives": {
            "queries_per_second": {"direction": "maximize", "weight": 10},
            "p99_latency_ms": {"direction": "minimize", "weight": 1},
            "error_rate": {"direction": "minimize", "weight": 1000},
        },
        "guardrails": {"max_delta": [10, 60, {"ratio": 1.5}], "max_rollbacks_per_hour": 1000},
    }


def observe(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    """One window of a pool whose optimum lies at 60 connections, 300 s, 800 ms."""
    off = ((params["pool_size"] - 60) / 60) ** 2 + ((params["max_idle_time_s"] - 300) / 600) ** 2
    off += 0.1 * np.log(params["connection_timeout_ms"] / 800) ** 2
    merit = float(np.exp(-off))
    return {
        "queries_per_second": 500 * merit * (1 + 0.05 * random.normal()),
        "p99_latency_ms": 30 / merit * float(np.exp(0.2 * random.normal())),
        "error_rate": abs(0.02 * (1 - merit) + 0.002 * random.normal()),
    }


def plot(rss: dict[int, float], step_ms: dict[int, float], path: Path) -> None:
    """Memory and time along the way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot(list(rss), list(rss.values()), color="tab:blue")
    above.set(ylabel="resident, MiB", ylim=(0, None))
    below.plot(list(step_ms), list(step_ms.values()), color="tab:orange")
    below.set(ylabel="a step, ms", xlabel="step", ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    random, now, process = np.random.default_rng(0), [1_700_000_000.0], psutil.Process()
    rss: dict[int, float] = {}
    step_ms: dict[int, float] = {}
    every = max(1, given.steps // MOST_POINTS)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal = f"sqlite:///{folder}/soak.db"
        with ArqonSolver(
            config(given.steps), journal=journal, registry=CollectorRegistry(), clock=lambda: now[0], device="cpu"
        ) as solver:
            step, lap = 0, time.perf_counter()
            while (candidate := solver.ask_one()) is not None:
                step += 1
                now[0] += 60.0
                values = observe(candidate, random)
                solver.seed([{"params": candidate, "id": candidate.id, "values": values, "cost": 60.0}])
                if step % every == 0:
                    step_ms[step] = round(1000.0 * (time.perf_counter() - lap) / every, 1)
                    gc.collect()
                    rss[step] = round(process.memory_info().rss / 2**20, 1)
                    print(step, rss[step], step_ms[step], f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
                    lap = time.perf_counter()
            status = solver.status()
    first, last = max(every, given.steps // 5 // every * every), max(rss)
    growth = rss[last] / rss[first]
    figures = {
        "growth": round(growth, 4),
        "allowed": MOST_GROWTH,
        "from_step": first,
        "to_step": last,
        "rss_mib": rss,
        "step_ms": step_ms,
        "seconds": round(time.perf_counter() - began, 1),
        "history_len": status["history_len"],
        "fallbacks": status["model"]["fallbacks"],
    }
    plot(rss, step_ms, given.out / "soak.svg")
    record.write("soak", figures, settings={"steps": given.steps}, folder=given.out)
    print(json.dumps({k: figures[k] for k in ("growth", "allowed", "seconds")}))
    return int(growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
