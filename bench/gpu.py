"""The torch path on CUDA and on the CPU: posterior and acquisition at the same points, and each device's candidate.

Each device fits the same study: the log posterior densities lie within 0.01 nats. With the CPU's hyperparameters both
agree at 256 points within rtol 1e-6; the value of each device's candidate, judged on the CPU, is within 1 % of the
other's (exit status 1 else). One ask is timed on both, for the ratio alone.
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

from arqon_gp import torch_path
from arqon_gp.config import parse
from arqon_gp.design import sobol, spread
from arqon_gp.device import deterministic
from arqon_gp.history import Dataset, History, training_set
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Hyperparameters, Settings, lengthscales, rows_of
from arqon_gp.surrogate import Surrogate, log_posterior, restore
from bench import record

POINTS = 256
RTOL = 1e-6
VALUE_RTOL = 0.01
DENSITY_ATOL = 0.01  # nats
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
    fits = [torch_path.seek(data, settings, str(device), {}, 0) for device in devices]
    if any(torch.device(where).type != device.type for (_, where), device in zip(fits, devices, strict=True)):
        raise RuntimeError(f"asked for {devices}, fitted on {[where for _, where in fits]}")
    surrogate = restore(data, settings, fits[0][0])
    asked, seconds = [], []
    for device in devices:
        for _ in range(2):  # the first one compiles and allocates
            with deterministic(0):
                began = time.perf_counter()
                found = ask(surrogate, data, device)
                elapsed = time.perf_counter() - began
        asked.append(found)
        seconds.append(elapsed)
    posterior = [surrogate.botorch_model(str(d)).posterior(torch.as_tensor(X, device=d)) for d in devices]
    means, variances = ([getattr(p, part).detach().cpu().numpy() for p in posterior] for part in ("mean", "variance"))
    logs = [values(target, X, device) for (target, _), device in zip(asked, devices, strict=True)]
    best = [float(values(asked[0][0], x[None, :], devices[0])[0]) for _, x in asked]
    density = [_density(found["value"], data, settings) for found, _ in fits]
    return {
        "n": n,
        "density_diff": abs(density[0] - density[1]),
        "mean_rel": _relative(*means),
        "variance_rel": _relative(*variances),
        "acquisition_rel": float(np.abs(np.expm1(logs[0] - logs[1])).max()),
        "candidate_value_rel": abs(np.expm1(best[0] - best[1])),
        "ask_s": {"cpu": seconds[0], str(other): seconds[1]},
    }


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
    parser.add_argument("--n", type=int, nargs="+", default=[25, 100, 400])
    given = parser.parse_args()
    cells = [compare(n, torch.device(given.device)) for n in given.n]
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    record.write("gpu", {"device": name, "cells": cells}, settings={"points": POINTS}, folder=given.out)
    print(json.dumps(cells, indent=1))
    worst = max(max(c[key] for key in ("mean_rel", "variance_rel", "acquisition_rel")) for c in cells)
    apart = max(c["candidate_value_rel"] for c in cells), max(c["density_diff"] for c in cells)
    return int(worst > RTOL or apart[0] > VALUE_RTOL or apart[1] > DENSITY_ATOL)


if __name__ == "__main__":
    sys.exit(main())
