"""Pictures of a study. Public: tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arqon_gp.config import Config
from arqon_gp.space import Categorical

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

COLOURS = {
    "start": "#7f7f7f",
    "probe": "#9467bd",
    "explore": "#1f77b4",
    "replicate": "#17becf",
    "hold": "#bcbd22",
    "rollback": "#d62728",
    "settle": "#2ca02c",
}


class Told(Protocol):
    """What can tell its history and its reasons: an ArqonSolver."""

    def history(self) -> pandas.DataFrame:
        """Every result."""

    def explain(self, id: str) -> dict[str, Any]:
        """Why a candidate was handed out."""


def tuning(solver: Told, config: Config, path: str | Path) -> Path:
    """A PNG: the utility of each window, coloured by kind, and each knob over time inside its step box.

    Needs matplotlib (the extra `demo`).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    history = solver.history()
    windows = [solver.explain(id) for id in history.loc[history["kind"].notna(), "id"]]  # those of candidates
    knobs = [knob for knob in config.space if not isinstance(knob, Categorical)]
    figure, axes = pyplot.subplots(1 + len(knobs), 1, sharex=True, figsize=(9, 2.6 * (1 + len(knobs))))
    axes = [axes] if not knobs else list(axes)
    _utility(axes[0], windows, config)
    for axis, knob in zip(axes[1:], knobs, strict=True):
        _knob(axis, windows, knob.name)
        if knob.log:
            axis.set_yscale("log")
    axes[-1].set_xlabel("window")
    figure.suptitle(f"{config.name}: utility, and each knob inside its step box")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return Path(path)


def _utility(axis: Axes, windows: list[dict[str, Any]], config: Config) -> None:
    objectives = config.goals.objectives
    weights = [o.sign * (1.0 if o.weight is None else o.weight) for o in objectives]
    for kind, colour in COLOURS.items():
        shown = [(i, w["result"]["values"]) for i, w in enumerate(windows, 1) if w["kind"] == kind]
        whole = [(i, values) for i, values in shown if all(values.get(o.name) is not None for o in objectives)]
        scores = [sum(w * values[o.name] for w, o in zip(weights, objectives, strict=True)) for _, values in whole]
        if whole:
            axis.scatter([i for i, _ in whole], scores, color=colour, label=kind, s=22)
    axis.set_ylabel("utility")
    if axis.collections:
        axis.legend(ncols=len(COLOURS), fontsize=7, loc="lower right")
    axis.grid(alpha=0.3)


def _knob(axis: Axes, windows: list[dict[str, Any]], name: str) -> None:
    x = range(1, len(windows) + 1)
    low, high = ([w["step_box"][name][end] for w in windows] for end in ("min", "max"))
    axis.fill_between(x, low, high, step="mid", color="#1f77b4", alpha=0.15, label="step box")
    axis.step(x, [w["result"]["params"][name] for w in windows], where="mid", color="#1f77b4", label="runs")
    axis.step(
        x, [w["last_good"][name] for w in windows], where="mid", color="#2ca02c", ls="--", lw=1, label="last good"
    )
    axis.set_ylabel(name)
    axis.legend(fontsize=7, loc="lower right", ncols=3)
    axis.grid(alpha=0.3)
