"""The live loop: ask, apply, wait, observe, report, until the study is finished or someone stops it.

Whatever ends it, nothing is changed on the way out: the system runs what it ran. Public: Step, run, farewell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from arqon_gp.records import Candidate, Params
from arqon_gp.solver import ArqonSolver
from arqon_gp.systems import System


@dataclass(frozen=True, slots=True)
class Step:
    """One window: what was handed out, whether it was a change, and what was measured (None before)."""

    number: int
    candidate: Candidate
    changed: bool
    outcomes: dict[str, float] | None = None


def run(
    solver: ArqonSolver,
    system: System,
    *,
    window_s: float,
    running: Params | None = None,
    context: Callable[[], Mapping[str, Any]] = dict,
    show: Callable[[Step], None] = lambda step: None,
) -> int:
    """Drive a system until ask_one() says None; the number of windows measured.

    window_s: seconds observed a window; after a change the config's `settle_s` are discarded first. running: what the
    system is known to run. `context` reads what is known now of the config's context: for an ask before each window,
    and for its result after it: where it raises then, or is refused, the window is told without it, and that error ends
    the loop. `show` is called before each window with what will run, and after it with the outcomes.
    """
    settle_s = float(solver.status()["settle_s"])
    number = 0
    while (candidate := solver.ask_one(context())) is not None:
        number += 1
        changed = running is None or dict(candidate) != running
        show(Step(number, candidate, changed))
        if changed:
            system.apply(dict(candidate))
            running = dict(candidate)
            if settle_s > 0:
                system.observe(settle_s)
        outcomes = system.observe(window_s)
        told = {"params": candidate, "values": outcomes, "id": candidate.id, "cost": window_s}
        try:
            solver.seed([told | {"context": context()}])
        except Exception:
            solver.seed([told])  # no measured window is lost
            raise
        show(Step(number, candidate, changed, outcomes))
    return number


def farewell(solver: ArqonSolver, resume: str) -> str:
    """What an operator has to know when the loop was stopped before its end."""
    status = solver.status()
    good = status["last_good"]["params"] if status["last_good"] else "not kept (no guardrails)"
    lines = [f"runs now:  {status['deployed']}"]
    if status["in_doubt"] and status["in_doubt"][-1] != status["deployed"]:
        lines.append(f"or, not reported yet:  {status['in_doubt'][-1]}")
    return "\n".join(
        [
            *lines,
            f"last good: {good}",
            "nothing was changed on the way out, and no accepted result is lost",
            f"resume:    {resume}",
        ]
    )
