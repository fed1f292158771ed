"""The demo: a real SQLite database under load gets faster while it runs, and no limit is ever broken.

Public: Settings, play.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text
from scipy import special

from arqon_gp import plots, runner
from arqon_gp.config import Config, parse
from arqon_gp.errors import SystemFailed
from arqon_gp.knobs import Categorical, Floats, Knob
from arqon_gp.plots import COLOURS
from arqon_gp.records import Params, Scalar
from arqon_gp.runner import Step
from arqon_gp.solver import ArqonSolver
from arqon_gp.systems.sqlite import SqliteSystem
from arqon_kernels.warm import is_warm, warm

SETTLE_S = 0.25  # discarded after a change: connections are opened, caches are cold
WARM_UP_S = 3.0  # discarded at the start: a database that was just written is still being flushed
MOST_DECISIONS = 15  # shown, fewer where the terminal is low
START: Params = {"pool_size": 4, "cache_mb": 2.0, "wal_autocheckpoint": 20}


@dataclass(frozen=True, slots=True)
class Settings:
    """What `arqon-gp demo` was told."""

    folder: Path | None
    windows: int
    window_s: float
    pairs: int
    plain: bool


def config(windows: int) -> dict[str, Any]:
    """The study of the demo: the seed's utility, one change a second, steps of a few connections."""
    return {
        "seed": 42,
        "name": "sqlite-demo",
        "budget": windows,
        "settle_s": SETTLE_S,
        "bounds": {
            "pool_size": {"type": "int", "min": 1, "max": 24, "initial": START["pool_size"]},
            "cache_mb": {"min": 0.5, "max": 64, "scale": "log", "initial": START["cache_mb"]},
            "wal_autocheckpoint": {
                "type": "int",
                "min": 4,
                "max": 8192,
                "scale": "log",
                "initial": START["wal_autocheckpoint"],
            },
        },
        "objectives": {
            "queries_per_second": {"direction": "maximize", "weight": 10},
            "p99_latency_ms": {"direction": "minimize", "weight": 1},
            "error_rate": {"direction": "minimize", "weight": 1000},
        },
        "guardrails": {
            "max_delta": {"pool_size": 4, "cache_mb": {"ratio": 2}, "wal_autocheckpoint": {"ratio": 4}},
            "max_updates_per_second": 1,
            "rollback_on_regression": True,
            "max_rollbacks_per_hour": 20,
        },
    }


def play(settings: Settings) -> int:
    """Tune, compare, draw; the exit status (130 when interrupted)."""
    console = Console()
    folder = settings.folder or Path("demo-output") / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    study = parse(config(settings.windows))
    console.print(f"[bold]Arqon GP[/] tunes SQLite on disk under 16 concurrent clients; everything is kept in {folder}")
    if not is_warm():
        with console.status("compiling the numerics, once an installation: one to two minutes"):
            warm()
    system = SqliteSystem(folder / "demo.db")
    try:
        with ArqonSolver(study, journal=f"sqlite:///{folder / 'journal.db'}") as solver:
            return _tune(console, settings, study, solver, system, folder)
    finally:
        system.close()


def _tune(
    console: Console, settings: Settings, study: Config, solver: ArqonSolver, system: SqliteSystem, folder: Path
) -> int:
    running = dict(solver.status()["deployed"])
    with console.status("making the database and warming up"):
        system.apply(running)
        system.observe(WARM_UP_S)
    view = (
        _Lines(console, solver, study) if settings.plain or not console.is_terminal else _View(console, solver, study)
    )
    resume = (
        f"arqon-gp demo --dir {shlex.quote(str(folder))} --windows {settings.windows} "
        f"--window-s {settings.window_s:g} --pairs {settings.pairs}{' --plain' * settings.plain}"
    )
    try:
        with view:
            runner.run(solver, system, window_s=settings.window_s, running=running, show=view.show)
        recommended = solver.recommend()
        compare(console, system, study, recommended.params, settings)
    except (KeyboardInterrupt, SystemFailed) as stop:
        failed = isinstance(stop, SystemFailed)
        if solver.status()["phase"] == "finished":
            said = f"the study is finished, only the comparison is not\nrecommended: {solver.recommend().params}\n"
            said += f"compare again: {resume}"
        else:
            said = runner.farewell(solver, resume)
        console.print(f"\n[bold]stopped[/]{escape(f': {stop}') if failed else '.'}\n{escape(said)}", soft_wrap=True)
        return 1 if failed else 130
    picture = plots.tuning(solver, study, folder / "tuning.png")
    console.print(f"picture: {picture}    journal: {folder / 'journal.db'}", soft_wrap=True)
    return 0


# ---- the comparison at the end ------------------------------------------------------------


def compare(console: Console, system: SqliteSystem, study: Config, recommended: Params, settings: Settings) -> None:
    """Start and recommended config measured again, side by side: neighbours and disk move the score more than knobs."""
    if recommended == study.start:
        console.print("recommended: the start config; nothing better was found that is sure")
        return
    console.print(f"\nmeasuring again, interleaved, {settings.pairs} windows each: start and recommended config")
    order = [study.start, recommended]
    rows: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    with console.status("") as shown:
        for i in range(settings.pairs):
            shown.update(f"pair {i + 1} of {settings.pairs}")
            for which in (0, 1) if i % 2 == 0 else (1, 0):
                system.apply(order[which])
                system.observe(SETTLE_S)
                rows[which].append(system.observe(settings.window_s))
    names = [o.name for o in study.goals.objectives]
    utility = study.goals.utility({}, {})
    Y = [np.array([[row[name] for name in names] for row in rows[which]]) for which in (0, 1)]
    table = Table("", "start", "recommended", "difference (95 % interval)", title=None)
    for j, name in enumerate(names):
        table.add_row(name, *_means(Y[0][:, j], Y[1][:, j]))
    table.add_row("utility", *_means(utility(Y[0]), utility(Y[1])), style="bold")
    console.print(table)
    console.print(f"start       {_short(study.start)}\nrecommended {_short(recommended)}")


def _means(a: Floats, b: Floats) -> tuple[str, str, str]:
    mean, half = paired_interval(b - a)
    low, high = _number(mean - half, "+"), _number(mean + half, "+")
    return _number(float(a.mean())), _number(float(b.mean())), f"{_number(mean, '+')} [{low}, {high}]"


def paired_interval(difference: Floats) -> tuple[float, float]:
    """Mean of paired differences (n,) and half the width of its 95 % t interval."""
    n = len(difference)
    if n < 2:
        return float(difference.mean()), math.inf
    return float(difference.mean()), float(special.stdtrit(n - 1, 0.975) * difference.std(ddof=1) / math.sqrt(n))


# ---- what is shown meanwhile ------------------------------------------------------------


class _Lines:
    """One line a window, for logs and pipes."""

    def __init__(self, console: Console, solver: ArqonSolver, study: Config) -> None:
        self.console, self.solver, self.study = console, solver, study

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, step: Step) -> None:
        """Print a finished window."""
        if step.outcomes is None:
            return
        score = _utility(self.study, step.outcomes)
        c = step.candidate
        self.console.print(
            f"{step.number:3d} {c.kind:9s} utility {_number(score):>7s}  {_short(c)}  {c.reason}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class _View:
    """Running config inside its step box, outcomes with intervals, decisions with reasons, progress."""

    def __init__(self, console: Console, solver: ArqonSolver, study: Config) -> None:
        self.solver, self.study = solver, study
        self.decisions: list[Text] = []
        self.step: Step | None = None
        self.seen: dict[str, float] = {}
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self.task = self.progress.add_task("budget", total=study.budget)
        self.live = Live(console=console, refresh_per_second=2, transient=False)

    def __enter__(self) -> _View:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def show(self, step: Step) -> None:
        """Draw a window that begins, or one that ended."""
        self.step = step
        if step.outcomes is None:
            c = step.candidate
            self.decisions.append(Text.assemble((f"{c.id:>4} {c.kind:9s} ", COLOURS[c.kind]), c.reason))
        else:
            self.seen = step.outcomes
        status = self.solver.status()
        self.progress.update(self.task, completed=status["budget"]["spent"], description=f"{status['phase']:9s}")
        self.live.update(
            Group(self._config(status), self._outcomes(status["baseline"]), self._decisions(), self.progress)
        )

    def _config(self, status: dict[str, Any]) -> Table:
        table = Table("knob", "runs", "may become", "last good", "bounds", title="running config", expand=True)
        running = self.step.candidate if self.step else status["deployed"]
        for knob in self.study.space:
            box = status["guard"]["step_box"][knob.name]
            table.add_row(
                knob.name,
                Text(_number(running[knob.name]), style="bold"),
                _choices(box) if isinstance(box, list) else f"{_number(box['min'])} .. {_number(box['max'])}",
                _number(status["last_good"]["params"][knob.name]),
                _bounds(knob),
            )
        return table

    def _outcomes(self, baseline: dict[str, float]) -> Table:
        interval = Column("95 % interval", no_wrap=True)
        table = Table("outcome", "start", "last window", "predicted", interval, expand=True)
        predicted = (self.step.candidate.predicted if self.step else None) or {}
        for o in self.study.goals.objectives:
            p = predicted.get(o.name)
            table.add_row(
                o.name,
                _number(baseline[o.name]) if baseline else "",
                _number(self.seen[o.name]) if self.seen else "",
                _number(p.mean) if p else "no model yet",
                f"{_number(p.lower)} .. {_number(p.upper)}" if p else "",
            )
        means = {name: p.mean for name, p in predicted.items()}
        start, last, mean = (_number(_utility(self.study, y)) if y else "" for y in (baseline, self.seen, means))
        table.add_row("utility", start, Text(last, style="bold"), mean, "")
        return table

    def _decisions(self) -> Panel:
        """The latest, as many as the terminal has lines for: a view that is too high would lose its end."""
        console, others = self.live.console, 15 + len(self.study.space.knobs) + len(self.study.goals.objectives)
        room = min(MOST_DECISIONS, max(1, console.height - others))
        shown: list[Text] = []
        for text in reversed(self.decisions):
            room -= len(text.wrap(console, console.width - 4))
            if room < 0 and shown:
                break
            shown.insert(0, text)
        return Panel(Group(*shown), title="decisions", title_align="left")


def _choices(choices: Sequence[Scalar]) -> str:
    return ", ".join(str(choice) for choice in choices)


def _bounds(knob: Knob) -> str:
    if isinstance(knob, Categorical):
        return _choices(knob.choices)
    return f"{_number(knob.low)} .. {_number(knob.high)}"


def _utility(study: Config, outcomes: dict[str, float]) -> float:
    row = np.array([outcomes[o.name] for o in study.goals.objectives])
    return float(study.goals.utility({}, {})(row))


def _number(value: Any, sign: str = "") -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def _short(params: Params) -> str:
    return "{" + ", ".join(f"{name}: {_number(value)}" for name, value in params.items()) + "}"
