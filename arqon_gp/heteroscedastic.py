"""Noise that grows or falls along a knob, where the evidence says so: its logarithm is linear, b' (x - 1/2).

A row's noise variance is s_i = noise share_i exp(b' z_i). With a = A r and A = (K + D)^-1 the score of the features
F = (1, Z), whose first one is the common noise, is g = F' s (a^2 - diag A) / 2, their information
I = F' (s s' * A * A) F / 2; the scatter of the windows inside a stay adds F' (ss / s - dof) / 2 and F' dof F / 2. b has
a normal prior, and is found by Fisher scoring; its evidence is Laplace's, and has to pay for it, so that data of even
noise keep the plain model. (Goldberg et al. 1998, "Regression with input-dependent noise", with a linear log noise.)
Public: Slope, slope_of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arqon_gp.knobs import Floats
from arqon_gp.rows import NOISE_PRIOR, Rows
from arqon_kernels import LogPosterior

SLOPE_STD = 3.0  # of b: from one end of a knob to the other the window std changes by a factor e^1.5
LEAST_EVIDENCE = 2.0  # nats
LEAST_WORTH = 0.0  # nats that one step of scoring promises, below which no other is made
LEAST_ROWS = 12
STEPS, MOST_STEP, LEAST_GAIN = 8, 2.0, 0.01
NOISE_PRECISION = NOISE_PRIOR[1] ** -2

Fit = Callable[[LogPosterior, Floats], tuple[Floats, float]]


@dataclass(frozen=True, slots=True)
class Slope:
    """b (p,), the hyperparameters fitted with it and their log density, and the price of b: what to take off that."""

    b: Floats
    theta: Floats
    value: float
    price: float


def slope_of(rows: Rows, density_of: Callable[[Floats], LogPosterior], theta: Floats, fit: Fit) -> Slope | None:
    """The best slope of the rows' log noise, None where the first step promises that it does not pay. Whether it does,
    its price tells: it has to gain LEAST_EVIDENCE beyond that.

    `density_of(b)`: the density with it; `theta`: the fit without; `fit` climbs from given hyperparameters.
    """
    p = rows.Z.shape[1]
    if p == 0 or len(rows.y) + rows.dof < LEAST_ROWS:
        return None
    b, at = np.zeros(p), theta
    fitted = float(density_of(b)(theta)[0])
    for turn in range(2):
        b, at, information = _scored(rows, density_of, b, at, fitted + _own(rows, b), turn == 0)
        if information is None:
            return None
        at, fitted = fit(density_of(b), at)
    assert information is not None
    return Slope(b, at, fitted, _cost(information) - _own(rows, b))


def _own(rows: Rows, b: Floats) -> float:
    """What the density of the rows leaves out: the prior of b, but for its constant, and how it scales the scatter."""
    return -0.5 * float(b @ b) / SLOPE_STD**2 - 0.5 * float(rows.scatter.dof @ (rows.scatter.Z @ b))


def _scored(
    rows: Rows, density_of: Callable[[Floats], LogPosterior], b: Floats, theta: Floats, value: float, first: bool
) -> tuple[Floats, Floats, Floats | None]:
    """b, the hyperparameters with their noise, and the information, after some steps of scoring from the log posterior
    `value`.

    No information where the first of all steps promises too little.
    """
    information: Floats | None = None
    for step in range(STEPS):
        gradient, information = _score(rows, density_of(b), b, theta)
        if first and step == 0 and _worth(gradient, information) < LEAST_WORTH:
            return b, theta, None
        way = np.linalg.solve(information, gradient)
        way *= min(1.0, MOST_STEP / max(float(np.abs(way).max()), 1e-12))
        before = value
        for _ in range(4):
            there, noise = b + way[1:], np.append(theta[:-1], theta[-1] + way[0])
            found = density_of(there)(noise)[0] + _own(rows, there)
            if found > value:
                b, theta, value = there, noise, float(found)
                break
            way = way / 3.0
        if value < before + LEAST_GAIN:
            break
    return b, theta, information


def _score(rows: Rows, density: LogPosterior, b: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Gradient (1 + p,) and information, priors included, of the log posterior in log noise and b."""
    a, A = density.inverse(theta)
    noise, scatter = math.exp(theta[-1]), rows.scatter
    s, F = noise * density.share, np.column_stack([np.ones(len(rows.y)), rows.Z])
    S = np.column_stack([np.ones(len(scatter.dof)), scatter.Z])
    v = (noise + rows.within_floor) * np.exp(scatter.Z @ b)
    gradient = 0.5 * F.T @ (s * (a * a - A.diagonal())) + 0.5 * S.T @ (scatter.ss / v - scatter.dof)
    sF = s[:, None] * F
    information = 0.5 * sF.T @ (A * A) @ sF + 0.5 * S.T @ (scatter.dof[:, None] * S)
    prior = np.append(NOISE_PRECISION, np.full(len(b), SLOPE_STD**-2))
    gradient -= prior * np.append(theta[-1] - NOISE_PRIOR[0] + 1.0 / NOISE_PRECISION, b)
    return gradient, information + np.diag(prior)


def _worth(gradient: Floats, information: Floats) -> float:
    """The evidence that one step promises: half the squared score of b, what the noise explains of it left out, less
    what b costs. (At b = 0 its prior has no slope.)"""
    left = gradient[1:] - information[1:, 0] * gradient[0] / information[0, 0]
    return 0.5 * float(left @ np.linalg.solve(_of_slope(information), left)) - _cost(information)


def _cost(information: Floats) -> float:
    """What the evidence of b takes off: how much narrower its posterior is than its prior."""
    inner = _of_slope(information)
    return 0.5 * float(np.linalg.slogdet(inner)[1]) + len(inner) * math.log(SLOPE_STD)


def _of_slope(information: Floats) -> Floats:
    """The information on b, the noise unknown."""
    return np.asarray(information[1:, 1:] - np.outer(information[1:, 0], information[0, 1:]) / information[0, 0])
