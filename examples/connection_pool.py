"""Connection pool tuning, against a simulated pool. `python examples/connection_pool.py [budget]`."""

import sys
from types import SimpleNamespace

from arqon_gp.simulators import ConnectionPool

# ---- what a service brings: a pool that can be reconfigured, and its metrics. Here it is simulated. ----


class Pool:
    """Remembers its config; a window takes no time."""

    def __init__(self) -> None:
        self.simulator, self.params = ConnectionPool(seed=1), {}

    def reconfigure(self, pool_size: int, max_idle_time: float, timeout: float) -> None:
        """Hot reload."""
        self.params = {"pool_size": pool_size, "max_idle_time_s": max_idle_time, "connection_timeout_ms": timeout}


def observe_db_metrics(duration_s: int) -> SimpleNamespace:
    """What the metrics of `duration_s` seconds would say."""
    return SimpleNamespace(**db_pool.simulator.observe(db_pool.params))


db_pool = Pool()

# ---- the loop ----

import json
from arqon_gp import ArqonSolver

config = {
    "seed": 42,
    "budget": 500,
    "bounds": {
        "pool_size": {"min": 5, "max": 100},
        "max_idle_time_s": {"min": 30, "max": 600},
        "connection_timeout_ms": {"min": 100, "max": 5000}
    }
}

config["budget"] = int(sys.argv[1]) if len(sys.argv) > 1 else config["budget"]  # for a quick look

solver = ArqonSolver(json.dumps(config))

while True:
    candidate = solver.ask_one()
    if candidate is None:
        break
    
    # Apply new pool config (hot reload)
    db_pool.reconfigure(
        pool_size=int(candidate["pool_size"]),
        max_idle_time=candidate["max_idle_time_s"],
        timeout=candidate["connection_timeout_ms"]
    )
    
    # Observe for 5 minutes
    metrics = observe_db_metrics(duration_s=300)
    
    # Multi-objective: high throughput, low p99, low errors
    score = (
        metrics.queries_per_second * 10
        - metrics.p99_latency_ms
        - metrics.error_rate * 1000
    )
    
    solver.seed(json.dumps([{
        "params": candidate,
        "value": -score,  # Minimize negative score = maximize
        "cost": 300.0
    }]))

# ---- what came of it ----

print(json.dumps({"recommended": solver.recommend().params, "runs": db_pool.params}))
