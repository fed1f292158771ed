"""Pictures of a study. Public: tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arqon_gp.config import Config
from arqon_gp.knobs import Categorical

if TYPE_CHECKING:
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
    """What can tell its windows: an ArqonSolver."""

    def windows(self) -> list[dict[str, Any]]:
        """Each result of a candidate, explained."""


def tuning(solver: Told, config: Config, path: str | Path) -> Path:
    """A PNG: the utility of each window, coloured by kind, and each knob over time inside its step box.

    Needs matplotlib (the extra `demo`).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    windows = solver.windows()
    knobs = [knob for knob in config.space if not isinstance(knob, Categorical)]
    figure, axes = pyplot.subplots(1 + len(knobs), 1, sharex=True, figsize=(9, 2.6 * (1 + len(knobs))))
    axes = [axes] if not knobs else list(axes)
    _utility(axes[0], windows)
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


def _utility(axis: Axes, windows: list[dict[str, Any]]) -> None:
    for kind, colour in COLOURS.items():
        shown = [(i, w["utility"]) for i, w in enumerate(windows, 1) if w["kind"] == kind and w["utility"] is not None]
        if shown:
            axis.scatter([i for i, _ in shown], [u for _, u in shown], color=colour, label=kind, s=22)
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
