"""ask + tell beside the peers, in one run on one pinned core and one thread: what the engine's targets are judged by.

n noisy observations of d knobs, then tell and ask again. Each repeat runs every peer once in turn, ours OUR_STEPS times
(their mean is the pair's, so that a refit every few steps is in it); a ratio is the median over repeats of peer / ours,
with minimum and maximum. Between two the process is left to come to rest, so that work prepared in the background
disturbs nobody's time; in between our own steps it is not. A peer whose step takes over SLOW_S takes part in the first
repeat alone. Two more tables: a guarded study with three weighted outcomes, without peers; and a fresh process from
import to its first model-based ask beside `import torch`. Resumable cell by cell. Settings: bench/peers.py.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers  # first: it sets the number of threads

# isort: split
import numpy as np
import torch
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import record
from bench.soak import config as guarded_config
from bench.soak import observe

REPEATS, OUR_STEPS, FRESH_REPEATS = 7, 3, 7
SLOW_S, REST_S = 20.0, 2.0
GUARDED_SIZES = (10, 25, 50)
CENTRES = (0.4, 0.15, 0.75)  # of the outcomes' bowls
NOISE = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """d knobs, m outcomes, n observations; gates and stretches of issue 4, as ratios, by peer."""

    d: int
    m: int
    n: int
    gates: tuple[tuple[str, float, float], ...] = ()

    @property
    def name(self) -> str:
        """Its key in the result."""
        return f"d={self.d}, m={self.m}, n={self.n}"


ONE = (("botorch_loop", 25.0, 60.0), ("optuna_gp", 10.0, 20.0), ("egobox", 5.0, 10.0))
LONG = (("optuna_gp", 40.0, 100.0),)
THREE = (("botorch_loop", 60.0, 150.0), ("optuna_gp", 12.0, 25.0), ("egobox", 4.0, 8.0))
WIDE = (("optuna_gp", 10.0, 20.0),)
CELLS = (
    *(Cell(3, 1, n, {25: ONE, 100: ONE, 800: LONG}.get(n, ())) for n in (10, 25, 50, 100, 200, 400, 800)),
    *(Cell(3, 3, n, THREE if n in (25, 100) else ()) for n in (10, 25, 50, 100)),
    *(Cell(10, 1, n, WIDE) for n in (50, 200, 400)),
)
FRESH_GATE, FRESH_STRETCH, FRESH_MIB = 1.0, 0.5, 200.0
SMOKE = (Cell(3, 1, 10), Cell(3, 3, 10))


def bowls(m: int) -> peers.Objective:
    """m smooth bowls with a ripple, minimised, and noise."""

    def objective(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
        values = [((x - c) ** 2).sum() + 0.05 * np.sin(12.0 * (x + c)).sum() for c in CENTRES[:m]]
        return np.array(values) + NOISE * random.standard_normal(m)

    return objective


def cell(of: Cell, names: list[str], repeats: int) -> dict[str, Any]:
    """Median, minimum and maximum of ask + tell, ms, and of the paired ratios peer / ours."""
    random, objective = np.random.default_rng([of.n, of.d, of.m]), bowls(of.m)
    X = random.random((of.n, of.d))
    Y = np.array([objective(x, random) for x in X])
    reference = np.array([max(c, 1.0 - c) ** 2 * of.d for c in CENTRES[: of.m]])  # about as high as a bowl gets
    made = {name: peers.PEERS[name](X, Y, objective, reference) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    ratios: dict[str, list[float]] = {name: [] for name in names if name != "arqon_gp"}
    for _ in range(repeats):
        rest()
        ours = [timed(made["arqon_gp"]) for _ in range(OUR_STEPS)]
        times["arqon_gp"] += ours
        for name in ratios:
            if times[name] and times[name][0] > 1000.0 * SLOW_S:
                continue
            rest()
            times[name].append(timed(made[name]))
            ratios[name].append(times[name][-1] / statistics.mean(ours))
    shown: dict[str, Any] = {"cell": of.name, "d": of.d, "m": of.m, "n": of.n, "repeats": repeats}
    shown |= {f"{name}_ms": spread(ms) for name, ms in times.items()}
    return shown | {f"vs_{name}": spread(of) for name, of in ratios.items()}


def timed(peer: peers.Peer) -> float:
    """One step, ms."""
    began = time.perf_counter()
    peer.step()
    return 1000.0 * (time.perf_counter() - began)


def rest() -> None:
    """Wait until no thread of this process works, REST_S at most."""
    until = time.monotonic() + REST_S
    while time.monotonic() < until:
        worked = time.process_time()
        time.sleep(0.02)
        if time.process_time() - worked < 0.002:
            return


def spread(values: list[float]) -> list[float]:
    """Median, minimum, maximum."""
    return [round(float(x), 3) for x in (statistics.median(values), min(values), max(values))]


def guarded_cell(n: int) -> dict[str, Any]:
    """The steps n - 5 to n of a guarded study with three weighted outcomes."""
    random, now, ms = np.random.default_rng(0), [1e9], []
    config = guarded_config(1000)
    with ArqonSolver(config, registry=CollectorRegistry(), clock=lambda: now[0], device="cpu") as solver:
        candidate = solver.ask_one()
        for step in range(n):
            assert candidate is not None
            now[0] += 60.0
            result = {"params": candidate, "id": candidate.id, "values": observe(candidate, random)}
            began = time.perf_counter()
            solver.seed([result])
            candidate = solver.ask_one()
            if step >= n - 5:
                ms.append(1000.0 * (time.perf_counter() - began))
    return {"cell": f"guarded, n={n}", "n": n, "arqon_gp_ms": spread(ms)}


# ---- a fresh process ---------------------------------------------------------------------------------------------

TAIL = """
import json, resource
from pathlib import Path
seconds = time.perf_counter() - began
status = Path("/proc/self/status")  # ru_maxrss would count the parent's memory at the fork
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
import sys
print(json.dumps({"s": seconds, "mib": peak / 1024, "torch": "torch" in sys.modules}))
"""
TORCH = "import time\nbegan = time.perf_counter()\nimport torch\n" + TAIL
FIRST_ASK = (
    """
import time
began = time.perf_counter()
from arqon_gp import ArqonSolver
def bowl(x): return sum((v - 0.4) ** 2 for v in x)
rows = [[(7 * i % 30) / 30, (11 * i % 31) / 31, (13 * i % 37) / 37] for i in range(30)]
solver = ArqonSolver({"seed": 1, "budget": 100, "probe_ratio": 0.0, "bounds": {n: {"min": 0, "max": 1} for n in "abc"}})
solver.seed([{"params": dict(zip("abc", x)), "value": bowl(x) + 0.01 * (i % 5)} for i, x in enumerate(rows)])
assert solver.ask_one().kind == "explore"
"""
    + TAIL
)


def fresh(repeats: int) -> dict[str, Any]:
    """Import to first model-based ask in a fresh process, caches warm, beside `import torch`, in turn."""
    fresh_process(FIRST_ASK)  # fills what is cached on disk
    pairs = [(fresh_process(FIRST_ASK), fresh_process(TORCH)) for _ in range(repeats)]
    ours, torch_alone = ([pair[i] for pair in pairs] for i in (0, 1))
    return {
        "cell": "fresh process",
        "repeats": repeats,
        "arqon_gp_s": spread([x["s"] for x in ours]),
        "import_torch_s": spread([x["s"] for x in torch_alone]),
        "ratio": spread([a["s"] / b["s"] for a, b in pairs]),
        "arqon_gp_mib": spread([x["mib"] for x in ours]),
        "import_torch_mib": spread([x["mib"] for x in torch_alone]),
        "arqon_gp_imports_torch": any(x["torch"] for x in ours),
    }


def fresh_process(code: str) -> dict[str, Any]:
    """What the code printed, run in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---- what is shown -----------------------------------------------------------------------------------------------


def verdict(value: float, gate: float, stretch: float) -> str:
    """Of a ratio that should be large."""
    return "met, stretch too" if value >= stretch else "met" if value >= gate else "missed"


def table(figures: dict[str, Any], cells: tuple[Cell, ...]) -> str:
    """Markdown: each peer of each cell, with the gate where there is one."""
    lines = [
        "| cell | peer | Arqon GP, ms | peer, ms | ratio [min, max] | gate | stretch | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for of in [c for c in cells if c.name in figures]:
        c, gates = figures[of.name], {name: bounds for name, *bounds in of.gates}
        for name in [name for name in peers.PEERS if f"vs_{name}" in c]:
            ratio, low, high = c[f"vs_{name}"]
            judged = " |  | "
            if name in gates:
                gate, stretch = gates[name]
                judged = f"{gate:g}x | {stretch:g}x | {verdict(ratio, gate, stretch)}"
            ms = f"{c['arqon_gp_ms'][0]:.1f} | {c[f'{name}_ms'][0]:.1f}"
            lines.append(f"| {of.name} | {name} | {ms} | {ratio:.2f}x [{low:.2f}, {high:.2f}] | {judged} |")
    for c in [c for name, c in figures.items() if name.startswith("guarded")]:
        lines.append(f"| {c['cell']}, 3 weighted | | {c['arqon_gp_ms'][0]:.1f} | | | | | |")
    if "fresh process" in figures:
        c = figures["fresh process"]
        ratio, low, high = c["ratio"]
        state = "met, stretch too" if ratio <= FRESH_STRETCH else "met" if ratio <= FRESH_GATE else "missed"
        ms = f"{1000 * c['arqon_gp_s'][0]:.0f} | {1000 * c['import_torch_s'][0]:.0f}"
        judged = f"<= {FRESH_GATE:g}x | <= {FRESH_STRETCH:g}x | {state}"
        lines.append(
            f"| fresh process to first ask | import torch | {ms} | {ratio:.2f}x [{low:.2f}, {high:.2f}] | {judged} |"
        )
        mib, torch_mib = c["arqon_gp_mib"][0], c["import_torch_mib"][0]
        lines.append(
            f"| its memory, MiB | import torch | {mib:.0f} | {torch_mib:.0f} | | <= {FRESH_MIB:g} | "
            f"| {'met' if mib <= FRESH_MIB else 'missed'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two small cells")
    parser.add_argument("--peers", nargs="+", choices=list(peers.PEERS)[1:], default=list(peers.PEERS)[1:])
    parser.add_argument("--table", action="store_true", help="print what is there; runs nothing")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    names = ["arqon_gp", *given.peers]
    cells, repeats, guarded, fresh_repeats = (
        (SMOKE, 1, (6,), 1) if given.smoke else (CELLS, REPEATS, GUARDED_SIZES, FRESH_REPEATS)
    )
    settings: dict[str, Any] = {
        "peers": {name: peers.SETTINGS[name] for name in names},
        "cells": [of.name for of in cells],
        "repeats": repeats,
        "our_steps": OUR_STEPS,
        "threads": 1,
    }
    path = given.out / "latency.json"
    figures: dict[str, Any] = {}
    if path.exists() and (given.table or json.loads(path.read_text())["settings"] == settings):
        figures = json.loads(path.read_text())["figures"]
    if not given.table:
        peers.load_fused_kernel(wanted="botorch_loop" in names and not given.smoke)
        todo = {of.name: lambda of=of: cell(of, names, repeats) for of in cells}
        todo |= {f"guarded, n={n}": lambda n=n: guarded_cell(n) for n in guarded}
        todo |= {"fresh process": lambda: fresh(fresh_repeats)}
        for name in [name for name in todo if name not in figures]:
            figures[name] = todo[name]() | {"botorch_fused_kernel": peers.logei_is_fused()}
            print(figures[name], file=sys.stderr)
            record.write("latency", figures, settings=settings, folder=given.out)
    print(table(figures, cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
