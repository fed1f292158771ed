"""Everything at once: weights, a limit on what is no objective, context, whole, log, choice and switch knobs."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from arqon_gp import limits
from tests.conftest import FakeClock, Make

CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": {
        "pool": {"min": 4, "max": 128, "scale": "log", "type": "int", "initial": 34},
        "timeout_s": {"min": 0.5, "max": 10.0, "initial": 5.0},
        "codec": {"type": "categorical", "choices": ["none", "lz4", "zstd"], "initial": "none"},
        "batching": {"type": "bool", "initial": False},
        "batch": {"min": 1, "max": 64, "type": "int", "scale": "log", "initial": 4, "active_if": {"batching": True}},
    },
    "objectives": {
        "qps": {"direction": "maximize", "weight": 4.0},
        "p99_ms": {"direction": "minimize", "weight": 1.0},
        "cost": {"direction": "minimize", "weight": 1.0},
    },
    "constraints": {"p99_ms": {"max": 250}, "memory_mb": {"max": 900}},
    "context": {"load": {"min": 10, "max": 120}, "hour": {"period": 24}},
    "guardrails": {
        "max_delta": {
            "pool": {"ratio": 1.25},
            "timeout_s": 1.0,
            "codec": 1,
            "batching": 1,
            "batch": {"ratio": 2.0, "special": 1},
        }
    },
}
WEIGHTS = {"qps": 4.0, "p99_ms": -1.0, "cost": -1.0}
NOISE = {"qps": 0.01, "p99_ms": 0.08, "cost": 0.001, "memory_mb": 0.01}


def truth(params: dict[str, Any], load: float) -> dict[str, float]:
    """A service that saturates: off its capacity p99 jumps; a large pool costs, and waits for itself."""
    each = {"none": 2.0, "lz4": 2.3, "zstd": 2.1}[params["codec"]]
    batch = params["batch"] if params["batching"] else 1
    capacity = each * params["pool"] * (1.0 + 0.25 * math.exp(-(((math.log(batch) - 2.5) / 0.9) ** 2)))
    use = load / capacity
    p99 = 12.0 + 2.0 * (params["pool"] / 20.0) ** 2 + 4.0 / max(1.0 - use, 0.02) + 2.0 * math.log(batch)
    p99 = 400.0 + 1200.0 * (use - 0.97) if use > 0.97 else p99 + 2.0 * math.log(params["timeout_s"] / 3.0) ** 2
    memory = 150.0 + 9.0 * params["pool"] * (1.2 if params["codec"] == "zstd" else 1.0)
    return {"qps": min(load, capacity), "p99_ms": p99, "cost": 1.2 * params["pool"], "memory_mb": memory}


def utility(params: dict[str, Any], load: float) -> float:
    of = truth(params, load)
    return sum(weight * of[name] for name, weight in WEIGHTS.items())


def broken(params: dict[str, Any], load: float) -> bool:
    of = truth(params, load)
    return of["p99_ms"] > 250.0 or of["memory_mb"] > 900.0


def optimum(load: float) -> float:
    found = ((pool, codec, batch) for pool, codec, batch in product(range(4, 129), ("none", "lz4"), (0, 8, 12, 16)))
    configs = (
        {"pool": pool, "timeout_s": 3.0, "codec": codec, "batching": batch > 0, "batch": batch or 1}
        for pool, codec, batch in found
    )
    return max(utility(params, load) for params in configs if not broken(params, load))


def test_all_of_it_is_tuned_together_while_the_traffic_moves(make: Make, clock: FakeClock) -> None:
    solver, rng = make(CONFIG), np.random.default_rng(1)
    config = solver._study.config
    assert config.guardrails is not None
    got, best, beyond, before = [], [], 0, config.start
    for i in range(130):
        load = 60.0 + 40.0 * math.sin(2.0 * math.pi * (i / 96.0 - 0.1))
        context = {"load": load, "hour": i / 4.0 % 24.0}
        candidate = solver.ask_one(context)
        assert candidate is not None
        assert not limits.broken(config.space, config.guardrails.steps, [before], dict(candidate))
        clock.pass_s(900.0)
        values = {name: x * math.exp(NOISE[name] * rng.normal()) for name, x in truth(candidate, load).items()}
        row = {"params": candidate, "id": candidate.id, "values": values, "context": context}
        solver.seed([row])
        before = dict(candidate)
        got.append(utility(before, load))
        best.append(optimum(load))
        beyond += broken(before, load)
    late = slice(len(got) // 2, None)
    assert np.mean(got[late]) > 0.85 * np.mean(best[late])
    assert beyond <= 8
    assert solver.status()["model"]["fallbacks"] == {}
