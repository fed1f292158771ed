"""CUDA beside the CPU: do they agree, from how many rows is CUDA quicker, and what do more rows tell?

Agreement, torch on both: each device fits the same study, and the log posterior densities lie within 0.01 nats; with
the CPU's hyperparameters both agree at 256 points within rtol 1e-6; the value of each device's candidate, judged on the
CPU, is within 1 % of the other's (exit status 1 else).

Crossover: a cold fit and conditioning on all rows of the same study, by the engine on one CPU thread and on CUDA; the
engine searches for both, BoTorch's search on CUDA is timed beside it. Worth: nats of log density of a held-out window
that the active set used with CUDA gains over the engine's; at points spread out and near the minimum, mean over seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arqon_gp import acquisition, torch_path
from arqon_gp.acquisition import Aim
from arqon_gp.active import MOST_CUDA_ROWS, MOST_ROWS, active_set
from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.design import sobol, spread
from arqon_gp.device import deterministic
from arqon_gp.history import History
from arqon_gp.maximize import maximize
from arqon_gp.mode import log_posterior
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Hyperparameters, Settings, lengthscales, rows_of
from arqon_gp.surrogate import Surrogate, restore, seek
from arqon_gp.threads import one_thread
from bench import active, record
from bench.problems import case

POINTS = 256
RTOL = 1e-6
VALUE_RTOL = 0.01
DENSITY_ATOL = 0.01  # nats
SIZES = (100, 200, 300, 400, 500, 800, 1200, 2000, 3000, 4000)
ENGINE_S = 15.0  # a size that takes the engine longer is its last
WORTH_SIZES, WORTH_PROBLEMS, WORTH_SEEDS, FIRST_SEED = (800, 2000, 4000), ("hart6", "levy4", "branin2"), 2, 41_000
CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": {name: {"min": 0, "max": 1} for name in ("a", "b", "c")},
}


def history(n: int) -> History:
    """A noisy bowl at n Sobol points."""
    config, random, found = parse(CONFIG), np.random.default_rng(0), History()
    for u in sobol(3, n, 5):
        params = spread(config.space, config.space.whole, u)
        value = float(((u - 0.4) ** 2).sum() + 0.02 * random.normal())
        found = found.apply(Told((Observation(params, {"value": value}, Role.WINDOW),), 0.0))
    return found


def ask(surrogate: Surrogate, data: Dataset, device: torch.device) -> tuple[Any, np.ndarray]:
    """The acquisition on a device, and its maximiser."""
    config = parse(CONFIG)
    shape = torch_path.frame(surrogate, config.goals, config.goals.utility({}, {}), data.X, device)
    none = np.zeros((0, 3))
    target = torch_path.build(surrogate, shape, [], data.X, none, signs=None, reference=None, rng_seed=3)
    return target, torch_path.maximize(target, config.space, config.space.whole, device)


def values(target: Any, X: np.ndarray, device: torch.device) -> np.ndarray:
    """log acquisition at points (n, d)."""
    with torch.no_grad():
        return np.asarray(target(torch.as_tensor(X, device=device).unsqueeze(-2)).cpu().numpy())


def compare(n: int, other: torch.device) -> dict[str, Any]:
    """One study of n points on both devices."""
    config, devices = parse(CONFIG), (torch.device("cpu"), other)
    data = training_set(history(n), config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled)
    X = sobol(3, POINTS, 9)
    fits = [seek(data, settings, {}, device=str(device)) for device in devices]
    surrogate, asked = restore(data, settings, fits[0]), []
    for device in devices:
        with deterministic(0):
            asked.append(ask(surrogate, data, device))
    posterior = [surrogate.botorch_model(str(d)).posterior(torch.as_tensor(X, device=d)) for d in devices]
    means, variances = ([getattr(p, part).detach().cpu().numpy() for p in posterior] for part in ("mean", "variance"))
    logs = [values(target, X, device) for (target, _), device in zip(asked, devices, strict=True)]
    best = [float(values(asked[0][0], x[None, :], devices[0])[0]) for _, x in asked]
    density = [_density(found["value"], data, settings) for found in fits]
    return {
        "n": n,
        "density_diff": abs(density[0] - density[1]),
        "mean_rel": _relative(*means),
        "variance_rel": _relative(*variances),
        "acquisition_rel": float(np.abs(np.expm1(logs[0] - logs[1])).max()),
        "candidate_value_rel": abs(np.expm1(best[0] - best[1])),
    }


def crossover(sizes: list[int], device: str) -> list[dict[str, Any]]:
    """Seconds of each part of an ask, by the engine and on the device, at each size."""
    config = parse(CONFIG)
    settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
    aim, random = Aim(config.goals, config.goals.utility({}, {}), ()), np.random.default_rng(0)
    cells: list[dict[str, Any]] = []
    for n in (sizes[0], *sizes):  # the first one compiles and allocates
        data = training_set(history(n), config.space, config.goals)
        cell: dict[str, Any] = {"n": n}
        for name, where in (("engine", None), ("device", device)):
            if name == "engine" and cells and cells[-1].get("engine", {}).get("all_s", ENGINE_S) >= ENGINE_S:
                continue
            with one_thread():
                times = [time.perf_counter()]
                known = seek(data, settings, {}, device=where)
                times.append(time.perf_counter())
                surrogate = restore(data, settings, known, device=where)
                times.append(time.perf_counter())
                target = acquisition.problem(surrogate, data, aim, np.zeros((0, 3)), random)
                maximize(target, config.space, config.space.whole, data.X[:8], random)
                times.append(time.perf_counter())
            parts = dict(zip(("fit_s", "condition_s", "search_s"), np.diff(times).tolist(), strict=True))
            cell[name] = parts | {"all_s": times[-1] - times[0]}
        began = time.perf_counter()
        with deterministic(0):
            ask(surrogate, data, torch.device(device))
        cell["botorch_search_s"] = time.perf_counter() - began
        if "engine" in cell:
            cell["ratio"] = cell["engine"]["all_s"] / cell["device"]["all_s"]
        cells.append(cell)
        print(json.dumps(cell), file=sys.stderr, flush=True)
    return cells[1:]


def worth(problem: str, n: int, seed: int, device: str) -> dict[str, float]:
    """Nats a held-out window, by place, that the active set of the device gains over the engine's."""
    of, random = case(problem, seed, 0), np.random.default_rng([n, seed])
    data, settings = active.history_of(of, n, random)
    gps = []
    for most, where in ((MOST_ROWS, None), (MOST_CUDA_ROWS, device)):
        first = data.rows(active_set(data, settings, {}, most))
        chosen = data.rows(active_set(data, settings, seek(first, settings, {}, device=where), most))
        gps.append(restore(chosen, settings, seek(chosen, settings, {}, device=where), device=where)["value"])
    few, many = gps
    found = {}
    for place, X in zip(("spread", "near"), active.points(of, active.HELD_OUT, random), strict=True):
        y = active.windows(of, X, random)
        found[place] = float(active.density(many, X, y).mean() - active.density(few, X, y).mean())
    print(problem, n, seed, found, file=sys.stderr, flush=True)
    return found


def _density(h: Hyperparameters, data: Dataset, settings: Settings) -> float:
    """Log posterior density of one outcome's hyperparameters."""
    theta = np.log(np.append(lengthscales(h, settings), h["noise"][0]))
    return float(log_posterior(rows_of(data, settings, "value"), settings, learned=True)(theta)[0])


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(a), 1e-12)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--n", type=int, nargs="+", default=[25, 100, 400], help="sizes of the agreement")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="... of the crossover")
    given = parser.parse_args()
    cells = [compare(n, torch.device(given.device)) for n in given.n]
    print(json.dumps(cells, indent=1))
    settings = {"points": POINTS, "seeds": WORTH_SEEDS, "first_seed": FIRST_SEED, "engine_threads": 1}
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu",
        "agreement": cells,
        "crossover": crossover(given.sizes, given.device),
        "most_rows": {"engine": MOST_ROWS, "device": MOST_CUDA_ROWS},
        "worth": {},
    }
    quicker = [cell["n"] for cell in figures["crossover"] if cell.get("ratio", 0.0) > 1.0]
    figures["quicker_from"] = min(quicker, default=None)
    record.write("gpu", figures, settings=settings, folder=given.out)
    for n in (n for n in WORTH_SIZES if n <= max(given.sizes)):
        for problem in WORTH_PROBLEMS:
            each = [worth(problem, n, FIRST_SEED + i, given.device) for i in range(WORTH_SEEDS)]
            figures["worth"][f"{problem}, n={n}"] = {at: float(np.mean([e[at] for e in each])) for at in each[0]}
        record.write("gpu", figures, settings=settings, folder=given.out)
    worst = max(max(c[key] for key in ("mean_rel", "variance_rel", "acquisition_rel")) for c in cells)
    apart = max(c["candidate_value_rel"] for c in cells), max(c["density_diff"] for c in cells)
    return int(worst > RTOL or apart[0] > VALUE_RTOL or apart[1] > DENSITY_ATOL)


if __name__ == "__main__":
    sys.exit(main())
