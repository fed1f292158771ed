"""The figures of concepts.md, from real studies: `python docs/figures.py` writes docs/figures/*.svg."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from arqon_gp.config import parse
from arqon_gp.dataset import training_set
from arqon_gp.history import History
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Settings
from arqon_gp.surrogate import OutcomeGP, fit

FOLDER = Path(__file__).parent / "figures"
SIZE = (8.0, 3.6)
POOL = {"pool_size": {"min": 5, "max": 100}}


def fitted(config: dict[str, Any], windows: list[tuple[float, float]]) -> OutcomeGP:
    """The posterior of the one outcome after these windows of a pool size."""
    checked, history = parse(config), History()
    (name,) = checked.goals.modelled
    for size, value in windows:
        history = history.apply(Told((Observation({"pool_size": size}, {name: value}, Role.WINDOW),), 0.0))
    data = training_set(history, checked.space, checked.goals)
    settings = Settings(checked.space, checked.goals.modelled, checked.exact, checked.goals.better)
    return fit(data, settings, {})[name]


def band(axes: Axes, gp: OutcomeGP, *, log: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the posterior with its central 95 %; sizes, mean and std in model space."""
    u = np.linspace(0.0, 1.0, 200)
    mean, variance = gp.predict(u[:, None])
    sizes, std = 5 + 95 * u, np.sqrt(variance)
    low, middle, high = ((np.exp(y) if log else y) for y in (mean - 1.96 * std, mean, mean + 1.96 * std))
    axes.fill_between(sizes, low, high, color="tab:blue", alpha=0.2, label="95 % of what is not known")
    axes.plot(sizes, middle, color="tab:blue", label="expected")
    return sizes, mean, std


def noise() -> Figure:
    """Windows, stays, an outlier, and what is believed."""
    random, windows = np.random.default_rng(3), []
    for size in (8, 14, 20, 26, 32, 38, 42, 48, 52, 57, 62, 68, 74, 80, 86, 92):
        count = {38: 5, 62: 8}.get(size, 1)
        true = 500.0 - 0.09 * (size - 62) ** 2
        windows += [(float(size), true + 18.0 * random.normal()) for _ in range(count)]
    windows += [(45.0, 700.0)]
    config = {"seed": 1, "bounds": POOL, "objectives": {"qps": "max"}}
    gp = fitted(config, windows)
    figure, outliers = Figure(figsize=SIZE, layout="constrained"), [int(i) for i in gp.hyperparameters["outliers"]]
    axes = figure.add_subplot()
    band(axes, gp)
    axes.plot(*zip(*windows, strict=True), "o", color="0.3", markersize=4, label="windows")
    axes.plot(*zip(*(windows[i] for i in outliers), strict=True), "rx", markersize=10, label="outlier, by evidence")
    axes.set(xlabel="pool_size", ylabel="qps")
    axes.legend(fontsize=8, ncols=2)
    return figure


def constraints() -> Figure:
    """A limit, the probability that it holds, and where one may go."""
    random = np.random.default_rng(5)
    windows = [
        (float(s), float(30 + 0.03 * (s - 30) ** 2) * float(np.exp(0.06 * random.normal())))
        for s in (10, 18, 26, 34, 42, 50, 58)
    ]
    config = {"seed": 1, "bounds": POOL, "objectives": {"p99_latency_ms": "min"}}
    gp = fitted(config, windows)
    figure, limit = Figure(figsize=SIZE, layout="constrained"), 48.0
    above, below = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    sizes, mean, std = band(above, gp, log=True)
    above.plot(*zip(*windows, strict=True), "o", color="0.3", markersize=4, label="windows")
    above.axhline(limit, color="tab:red", label="limit: at most 48 ms")
    above.set(ylabel="p99, ms", yscale="log")
    above.legend(fontsize=8)
    from scipy.special import ndtr

    held = ndtr((np.log(limit) - mean) / std)
    below.plot(sizes, held, color="tab:red")
    below.fill_between(sizes, 0, 1, where=(held >= 0.95).tolist(), color="tab:green", alpha=0.15)
    below.axhline(0.95, color="0.5", linewidth=0.8)
    below.set(xlabel="pool_size", ylabel="P(limit holds)", ylim=(0, 1.02))
    return figure


def objectives() -> Figure:
    """A front with intervals, its thresholds, and the config that the default utility names."""
    random = np.random.default_rng(2)
    config = {
        "seed": 4,
        "budget": 36,
        "bounds": POOL | {"idle_s": {"min": 30, "max": 600}},
        "objectives": {
            "qps": {"direction": "max", "threshold": 250},
            "p99_latency_ms": {"direction": "min", "threshold": 60},
        },
    }
    seen = []
    with ArqonSolver(config, registry=CollectorRegistry()) as solver:
        while (point := solver.ask_one()) is not None:
            load, idle = (point["pool_size"] - 5) / 95, (point["idle_s"] - 30) / 570
            values = {
                "qps": 500 * load**0.6 * (1 - 0.2 * (idle - 0.6) ** 2) * (1 + 0.03 * random.normal()),
                "p99_latency_ms": 15 * np.exp(1.6 * load**2 + (idle - 0.5) ** 2 + 0.08 * random.normal()),
            }
            seen.append(tuple(values.values()))
            solver.seed([{"params": point, "values": values}])
        front, best = solver.pareto_front(), solver.recommend()
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*seen, strict=True), "o", color="0.6", markersize=4, label="windows")
    for i, one in enumerate(front):
        x, y = (one.outcomes[name] for name in ("qps", "p99_latency_ms"))  # type: ignore[index]
        axes.plot([x.lower, x.upper], [y.mean, y.mean], color="tab:blue", linewidth=1)
        axes.plot([x.mean, x.mean], [y.lower, y.upper], color="tab:blue", linewidth=1)
        axes.plot(x.mean, y.mean, "o", color="tab:blue", markersize=5, label=None if i else "pareto_front(), with 95 %")
    x, y = (best.outcomes[name] for name in ("qps", "p99_latency_ms"))  # type: ignore[index]
    axes.plot(x.mean, y.mean, "*", color="tab:red", markersize=14, label="recommend(): the default utility")
    axes.axvline(250, color="0.5", linewidth=0.8)
    axes.axhline(60, color="0.5", linewidth=0.8, label="thresholds")
    axes.set(xlabel="qps", ylabel="p99, ms")
    axes.legend(fontsize=8)
    return figure


def main(folder: Path = FOLDER) -> None:
    """Write them all."""
    rcParams["svg.hashsalt"] = "arqon-gp"
    folder.mkdir(parents=True, exist_ok=True)
    for make in (noise, objectives, constraints):
        make().savefig(folder / f"{make.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
