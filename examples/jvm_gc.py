"""JVM garbage collector tuning, against a simulated JVM. `python examples/jvm_gc.py [budget]`."""

import json
import sys

from arqon_gp import ArqonSolver
from arqon_gp.simulators import JvmGc

config = {
    "seed": 42,
    "budget": 100,
    "bounds": {
        "heap_size_gb": {"min": 4, "max": 32},
        "new_ratio": {"min": 1, "max": 8},
        "survivor_ratio": {"min": 2, "max": 32},
        "max_gc_pause_ms": {"min": 50, "max": 500}
    }
}

config["budget"] = int(sys.argv[1]) if len(sys.argv) > 1 else config["budget"]  # for a quick look

jvm = JvmGc(seed=1)


def flags(params: dict[str, float]) -> list[str]:
    """What the JVM is restarted with."""
    heap, pause = round(params["heap_size_gb"] * 1024), round(params["max_gc_pause_ms"])
    ratio, survivor = round(params["new_ratio"]), round(params["survivor_ratio"])
    return [f"-Xmx{heap}m", f"-XX:NewRatio={ratio}", f"-XX:SurvivorRatio={survivor}", f"-XX:MaxGCPauseMillis={pause}"]


with ArqonSolver(json.dumps(config)) as solver:
    while (candidate := solver.ask_one()) is not None:
        metrics = jvm.observe(candidate)  # a service would restart with flags(candidate) and measure for some minutes
        score = metrics["requests_per_second"] - 5 * metrics["p99_latency_ms"] - 1000 * metrics["error_rate"]
        solver.seed(json.dumps([{"params": candidate, "value": -score, "cost": 300.0}]))
    best = solver.recommend().params

print(json.dumps({"recommended": best, "flags": flags(best)}))
