"""kill -9 at random moments of a run: no accepted result is lost, and the next candidate is that of an undisturbed run.

A child tunes with a journal on disk and says what it asked and what was accepted; it is killed, half of the time
anywhere, half of the time within 20 ms of a candidate, where results and candidates are being written. The next child
goes on. In the end an undisturbed run in memory has to give the same candidates; of a hold all but its number, for one
that nobody answered is followed by the next. Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

import arqon_gp.propose  # noqa: F401  # torch, once, before the children are forked
from arqon_gp import ArqonSolver, Kind
from bench import record

KILLS_A_STUDY = 50
LONGEST_S = 0.7
WRITING_S = 0.02

Said = list[Any]


def config(seed: int) -> dict[str, Any]:
    """A guarded study without a budget, so that it never ends before the kills do."""
    return {
        "seed": seed,
        "bounds": {
            "size": {"type": "int", "min": 1, "max": 100, "initial": 20},
            "wait": {"min": 0.1, "max": 100, "scale": "log", "initial": 1.0},
        },
        "guardrails": {"max_delta": [10, {"ratio": 2}]},
    }


def measure(number: int, params: dict[str, Any]) -> float:
    """The result of window `number`: the same whoever measures it."""
    noise = float(np.random.default_rng([17, number]).normal())
    return (params["size"] - 60) ** 2 / 100 + float(np.log(params["wait"] / 10)) ** 2 + 0.5 * noise


def drive(seed: int, journal: str | None, windows: int | None, pipe: int | None = None) -> list[Said]:
    """Ask and tell; what was said: ["open", n], ["ask", n, id, kind, params], ["told", n]."""
    said: list[Said] = []

    def say(*words: Any) -> None:
        said.append(list(words))
        if pipe is not None:
            os.write(pipe, (json.dumps(words) + "\n").encode())

    results = [0]
    solver = ArqonSolver(
        config(seed),
        journal=journal,
        registry=CollectorRegistry(),
        clock=lambda: 1e9 + 60.0 * results[0],
        device="cpu",
    )
    results[0] = solver.get_history_len()
    say("open", results[0])
    while windows is None or results[0] < windows:
        candidate = solver.ask_one()
        assert candidate is not None
        name = None if candidate.kind is Kind.HOLD else candidate.id
        say("ask", results[0], name, candidate.kind.value, dict(candidate))
        row = {"params": candidate, "id": candidate.id, "value": measure(results[0], candidate)}
        solver.seed([row])
        results[0] += 1
        say("told", results[0])
    solver.close()
    return said


def kill_one(seed: int, journal: str, random: np.random.Generator) -> list[Said]:
    """What a child said until it was killed at a random moment."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        try:
            drive(seed, journal, None, theirs)
        finally:
            os._exit(1)  # it should have been killed
    os.close(theirs)
    text = b""
    if random.random() < 0.5:
        time.sleep(random.uniform(0.0, LONGEST_S))
    else:
        wanted = int(random.integers(1, 3))
        while text.count(b'"ask"') < wanted and select.select([ours], [], [], 60.0)[0]:
            if not (more := os.read(ours, 65536)):
                break
            text += more
        time.sleep(random.uniform(0.0, WRITING_S))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while more := os.read(ours, 65536):
        text += more
    os.close(ours)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {text[-500:]!r}"
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def study(seed: int, kills: int, folder: Path) -> dict[str, Any]:
    """One study, killed again and again, then compared with an undisturbed one."""
    random, journal = np.random.default_rng([4, seed]), f"sqlite:///{folder}/{seed}.db"
    accepted, asked, lost, differ = 0, {}, 0, 0
    for _ in range(kills):
        for what, n, *rest in kill_one(seed, journal, random):
            match what:
                case "open":
                    lost += max(0, accepted - n)
                    accepted = max(accepted, n)
                case "ask":
                    differ += asked.setdefault(n, rest) != rest
                case "told":
                    accepted = n
    final = drive(seed, journal, accepted + 3)
    for what, n, *rest in final:
        differ += what == "ask" and asked.setdefault(n, rest) != rest
    undisturbed = {n: rest for what, n, *rest in drive(seed, None, accepted + 3) if what == "ask"}
    differ += sum(undisturbed[n] != rest for n, rest in asked.items())
    return {"seed": seed, "kills": kills, "windows": accepted + 3, "lost": lost, "different": differ}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    cells, left = [], given.kills
    with tempfile.TemporaryDirectory() as folder:
        for seed in count(1):
            cells.append(study(seed, min(left, KILLS_A_STUDY), Path(folder)))
            print(cells[-1], file=sys.stderr)
            left -= cells[-1]["kills"]
            if left <= 0:
                break
    figures = {key: sum(cell[key] for cell in cells) for key in ("kills", "windows", "lost", "different")}
    record.write("kill", figures | {"studies": cells}, settings={"kills": given.kills}, folder=given.out)
    print(json.dumps(figures))
    return int(figures["lost"] > 0 or figures["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
