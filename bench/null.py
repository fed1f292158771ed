"""The null test: a response that no knob moves, heavy-tailed p99, load doubling halfway. Who cries wolf?

10,000 windows in all: studies of 250 windows, guarded, with the real model; then as many where the load is told as a
context. Counted are suspicions labelled regression; at most 1 in 1,000 windows is allowed in either (exit status 1
else). Each study is a cell: a run that was stopped goes on. A fake clock, so that nothing waits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from arqon_gp.journal import MemoryJournal
from arqon_gp.records import Label, Labelled, Told
from bench import record

MOST_PER_THOUSAND = 1.0
EARLY, UNSETTLED = 50, 75  # windows at the start, and after the load has doubled
WINDOW_S = 60.0
NAMES = {"blind": False, "context": True}


def config(seed: int, budget: int | None, *, context: bool) -> dict[str, Any]:
    """A pool that is tuned for the seed's score; with `context` its load is told."""
    return ({"context": {"load": {"min": 0.5, "max": 4.0, "scale": "log"}}} if context else {}) | {
        "seed": seed,
        "budget": budget,
        "bounds": {
            "pool_size": {"type": "int", "min": 5, "max": 100, "initial": 30},
            "max_idle_time_s": {"min": 30, "max": 600, "initial": 120},
        },
        "objectives": {
            "queries_per_second": {"direction": "maximize", "weight": 10},
            "p99_latency_ms": {"direction": "minimize", "weight": 1},
        },
        "guardrails": {"max_delta": {"pool_size": 10, "max_idle_time_s": 60}},
    }


class Indifferent:
    """Outcomes that depend on the load alone: throughput with 5 % noise, p99 lognormal with 30 %, one window in 50 far
    out.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def observe(self, *, doubled: bool) -> dict[str, float]:
        """One window."""
        r, load = self.random, 2.0 if doubled else 1.0
        spike = r.random() < 0.02
        return {
            "queries_per_second": 400.0 * load * (1.0 + 0.05 * r.normal()) * (0.6 if spike else 1.0),
            "p99_latency_ms": 40.0 * load * float(np.exp(0.3 * r.normal())) * (4.0 if spike else 1.0),
        }


def study(seed: int, windows: int, *, endless: bool, context: bool) -> dict[str, Any]:
    """One study of so many windows."""
    journal, system, now = MemoryJournal(), Indifferent(seed), [1_700_000_000.0]
    given = config(seed, None if endless else windows, context=context)
    began, told = time.perf_counter(), 0
    with ArqonSolver(
        given, journal=journal, registry=CollectorRegistry(), clock=lambda: now[0], device="cpu"
    ) as solver:
        while told < windows:
            doubled = told >= windows // 2
            seen = {"load": 2.0 if doubled else 1.0} if context else None
            if (candidate := solver.ask_one(seen)) is None:
                break
            now[0] += WINDOW_S
            told += 1
            row = {"params": candidate, "id": candidate.id, "values": system.observe(doubled=doubled), "cost": WINDOW_S}
            solver.seed([row | {"context": seen}])
        recommended = solver.recommend().params
    labels: dict[str, list[int]] = {label.value: [] for label in Label}
    told = 0
    for event in journal.read("default", 0):
        told += isinstance(event, Told)
        if isinstance(event, Labelled):
            labels[event.label.value].append(told)
    return {
        "seed": seed,
        "endless": endless,
        "context": context,
        "windows": told,
        "doubled_after": windows // 2,
        "labels_at_window": labels,
        "recommended": recommended,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--windows", type=int, default=250)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    path = given.out / "null.json"
    settings = {"studies": given.studies, "windows": given.windows, "first_seed": 100}
    cells: list[dict[str, Any]] = []
    if path.exists() and (kept := json.loads(path.read_text()))["settings"] == settings:
        cells = kept["figures"]["studies"]
    figures: dict[str, Any] = {}
    for i in range(len(cells), 2 * given.studies):
        number, context = i % given.studies, i >= given.studies
        cells.append(study(100 + number, given.windows, endless=i % 2 == 1, context=context))
        print(cells[-1], file=sys.stderr)
        figures = summary(cells)
        record.write("null", figures, settings=settings, folder=given.out)
    figures = figures or summary(cells)
    print(json.dumps({k: v for k, v in figures.items() if k != "studies"}, indent=1))
    rates = [of["regressions_per_1000"] for of in (figures["blind"], figures["context"]) if of]
    return int(max(rates) > MOST_PER_THOUSAND)


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Labels over all studies, without and with the context."""
    parts = {name: [cell for cell in cells if cell["context"] is told] for name, told in NAMES.items()}
    shown = {name: _labels(part) if part else {} for name, part in parts.items()}
    return shown | {"allowed_per_1000": MOST_PER_THOUSAND, "studies": cells}


def _labels(cells: list[dict[str, Any]]) -> dict[str, Any]:
    windows = sum(cell["windows"] for cell in cells)
    count = {label.value: sum(len(cell["labels_at_window"][label.value]) for cell in cells) for label in Label}
    found = [(at, cell["doubled_after"]) for cell in cells for at in cell["labels_at_window"]["regression"]]
    early = sum(at <= EARLY for at, _ in found)
    after = sum(doubled < at <= doubled + UNSETTLED for at, doubled in found)
    return {
        "windows": windows,
        "labels": count,
        "regressions": {"early": early, "after the load doubled": after, "else": len(found) - early - after},
        "regressions_per_1000": 1000.0 * count["regression"] / windows,
    }


if __name__ == "__main__":
    sys.exit(main())
