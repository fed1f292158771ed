"""Forgetting: how fast what was measured of an outcome stops being true, where the evidence says that it does.

The covariance of two moments of one config falls by e^(-|t - t'| / scale) (Bogunovic et al. 2016, "Time-varying
Gaussian process bandit optimization", eq. 3, with a learned rate): it has no memory of how it came, so jumps are
followed as slow drift is. Data that do not drift keep the model without time. Public: forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from arqon_gp.knobs import Floats
from arqon_gp.mode import FIT_STEPS, limits_of, log_posterior
from arqon_gp.rows import Hyperparameters, Rows, Settings, lengthscales

LEAST_ROWS = 20
TRIED = (0.1, 0.3, 1.0, 3.0)  # scales in units of TIME_UNIT, from the best of which the fit climbs
LEAST_EVIDENCE = 3.0  # nats that forgetting has to gain


def forgetting(
    rows: Rows,
    timed: Rows,
    settings: Settings,
    h: Hyperparameters,
    *,
    learned: bool,
    stop: Callable[[], bool],
    device: str | None,
) -> tuple[Floats, float] | None:
    """The logs (d + 1,) of the lengthscales, that of time among them, and of the noise, and the constant mean, where
    they tell the rows better than the fit `h` without time does; else None.

    `timed`: the rows with the time as an input, which the settings have.
    """
    if len(rows.y) < LEAST_ROWS or stop():
        return None
    plain = settings.drifting(time=False, regimes=settings.regimes)
    without = np.log(np.append(lengthscales(h, plain), h["noise"][0]))
    value = float(log_posterior(rows, plain, learned=learned, device=device)(without)[0])
    density = log_posterior(timed, settings, learned=learned, device=device)
    starts = []
    for scale in (*TRIED, *h.get("time", [])):
        theta = np.log(np.append(lengthscales(h | {"time": [scale]}, settings), h["noise"][0]))
        starts.append((float(density(theta)[0]), theta))
    begun, start = max(starts, key=lambda pair: pair[0])
    if not begun > value:
        return None
    theta, reached = density.climb(start, *limits_of(settings, learned=learned), FIT_STEPS, stop)
    if not (math.isfinite(reached) and reached > value + LEAST_EVIDENCE):
        return None
    return theta, density.constant(theta)
