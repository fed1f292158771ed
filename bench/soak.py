"""Soak: 500 guarded steps in one process with a journal on disk. Does resident memory stay flat?

At step 500 it may be at most 1.1 times what it was at step 100 (exit status 1 else). Three weighted outcomes and the
real model: every ask fits, searches or replicates.
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
EVERY = 20


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    random, now, process = np.random.default_rng(0), [1_700_000_000.0], psutil.Process()
    rss: dict[int, float] = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal = f"sqlite:///{folder}/soak.db"
        with ArqonSolver(
            config(given.steps), journal=journal, registry=CollectorRegistry(), clock=lambda: now[0], device="cpu"
        ) as solver:
            step = 0
            while (candidate := solver.ask_one()) is not None:
                step += 1
                now[0] += 60.0
                values = observe(candidate, random)
                solver.seed([{"params": candidate, "id": candidate.id, "values": values, "cost": 60.0}])
                if step % EVERY == 0:
                    gc.collect()
                    rss[step] = round(process.memory_info().rss / 2**20, 1)
                    print(step, rss[step], f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
            status = solver.status()
    first, last = max(EVERY, given.steps // 5 // EVERY * EVERY), max(rss)
    growth = rss[last] / rss[first]
    figures = {
        "growth": round(growth, 4),
        "allowed": MOST_GROWTH,
        "from_step": first,
        "to_step": last,
        "rss_mib": rss,
        "seconds": round(time.perf_counter() - began, 1),
        "history_len": status["history_len"],
        "fallbacks": status["model"]["fallbacks"],
    }
    record.write("soak", figures, settings={"steps": given.steps}, folder=given.out)
    print(json.dumps({k: figures[k] for k in ("growth", "allowed", "seconds")}))
    return int(growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
