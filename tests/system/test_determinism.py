"""Same config, same results in the same order: same candidates, in any process and after any restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from arqon_gp import ArqonSolver

config, stop, journal = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
results = [0]
with ArqonSolver(config, journal=journal, clock=lambda: 1e9 + 60.0 * results[0], device="cpu") as solver:
    results[0] = solver.get_history_len()
    while results[0] < stop and (c := solver.ask_one()) is not None:
        print(json.dumps([c.id, c.kind, c.reason, dict(c)]))
        merit = (c["size"] - 60) ** 2 / 50 + (c["policy"] == "lru") + 0.3 * ((results[0] * 7919) % 13 - 6) / 6
        solver.seed([{"params": c, "id": c.id, "values": {"cost": merit, "p99_ms": 10 + merit}}])
        results[0] += 1
    print(json.dumps(solver.recommend().params))
"""
CONFIG: dict[str, Any] = {
    "seed": 5,
    "budget": 10,
    "bounds": {
        "size": {"type": "int", "min": 1, "max": 100, "initial": 30},
        "wait": {"min": 0.1, "max": 100, "scale": "log", "initial": 1.0},
        "policy": {"type": "categorical", "choices": ["lru", "lfu"], "initial": "lru"},
    },
    "objectives": {"cost": "min"},
    "constraints": {"p99_ms": {"max": 60}},
    "probe_ratio": 0.3,
}


def run(config: dict[str, Any], stop: int, journal: str, hash_seed: str) -> list[Any]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(config), str(stop), journal]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("rails", [None, {"max_delta": [10, {"ratio": 2}, 1]}], ids=["free", "guarded"])
def test_two_processes_and_a_restart_in_the_middle_give_the_same_candidates(
    rails: dict[str, Any] | None, tmp_path: Path
) -> None:
    config = CONFIG | ({"guardrails": rails} if rails else {})
    whole = run(config, 99, "", hash_seed="1")
    journal = f"sqlite:///{tmp_path}/journal.db"
    first = run(config, 6, journal, hash_seed="2")
    second = run(config, 99, journal, hash_seed="3")
    assert [*first[:-1], *second] == whole
    assert any("expected" in line[2] for line in whole[:-1]), "the model chose some of them"
