"""Closed-loop problems with noise, and how a recommendation is scored on them: the truth is known, the arms see noise.

All on [0, 1]^d, minimised; noise is Gaussian, its standard deviation a share of the range (max - min over a Sobol
set), unless a problem measures in another way. A case is a function of (name, seed) alone: the function where it is
random, the initial points, the noise of each evaluation. Shapes: X (n, d), F (n, m) true outcomes. Public: PROBLEMS,
Problem, Knob, Case, case, regret, front_score, nondominated; solver_config, result, point, names, outcome_names: the
same to our solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from scipy.optimize import minimize
from scipy.stats import qmc

from arqon_gp.simulators import ConnectionPool

Function = Callable[[np.ndarray], np.ndarray]  # (n, d) -> (n, m)
Random = np.random.Generator
DENSE = 2**14  # Sobol points for ranges, minima and fronts
FEATURES = 1024  # random Fourier features of a GP sample
POLISHED = 10  # of the dense set, by a local search
FRONT_ROUNDS, FRONT_CHILDREN, FRONT_MOST = 4, 10, 500
MARGIN = 0.1  # the reference point lies this share of the range beyond the front's worst corner


@dataclass(frozen=True, slots=True)
class Knob:
    """What a coordinate u of the unit cube means: a number from `low` to `high`, or one of `choices` names."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: int = 0

    @property
    def levels(self) -> np.ndarray | None:
        """The coordinates it can take; None: any."""
        if self.choices:
            return np.linspace(0.0, 1.0, self.choices)
        return np.array([self.unit(v) for v in range(int(self.low), int(self.high) + 1)]) if self.whole else None

    def unit(self, value: Any) -> float:
        """The coordinate of a value."""
        if self.choices:
            return int(value[1:]) / (self.choices - 1)
        low, high, at = (np.log(v) if self.log else v for v in (self.low, self.high, value))
        return float((at - low) / (high - low))

    def value(self, u: float) -> Any:
        """The value at a coordinate, of its type."""
        if self.choices:
            return f"c{round(u * (self.choices - 1))}"
        low, high = (np.log(v) if self.log else v for v in (self.low, self.high))
        found = low + u * (high - low)
        found = float(np.exp(found) if self.log else found)
        return round(found) if self.whole else min(max(found, self.low), self.high)


Measure = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Problem:
    """`noise`: standard deviation of each outcome as a share of its range. `best`: the known minimum; `optimal`: inputs
    (k, d) of the known front; `reference`: the point (m,) beyond which nothing counts: found numerically where they are
    None. `knobs`: what the coordinates are, default: plain numbers. `measure(x, f, z, scale)`: the window (m,) at x
    (d,) of truth f, for normal draws z (m,) and ranges `scale` (m,), where it is not f + noise scale z. `gross`: share
    of windows that are moved by one to five ranges either way.
    """

    d: int
    noise: tuple[float, ...]
    make: Callable[[Random], Function]
    best: float | None = None
    optimal: np.ndarray | None = None
    reference: tuple[float, ...] | None = None
    knobs: tuple[Knob, ...] = ()
    measure: Measure | None = None
    gross: float = 0.0

    def snapped(self, X: np.ndarray) -> np.ndarray:
        """Points (n, d), each coordinate at the nearest one that its knob can take."""
        X = np.clip(X, 0.0, 1.0)
        for i, knob in enumerate(self.knobs):
            levels = knob.levels
            if levels is not None:
                X[:, i] = levels[np.abs(X[:, [i]] - levels).argmin(axis=1)]
        return X

    @property
    def m(self) -> int:
        """Number of outcomes."""
        return len(self.noise)


@dataclass(frozen=True, slots=True)
class Case:
    """One function with its initial points X (n0, d) and the noise (n0 + asks, m) that every arm gets, in raw units."""

    problem: Problem
    function: Function
    X: np.ndarray
    noise: np.ndarray
    draws: np.ndarray  # the same before it was scaled: standard normal
    gross: np.ndarray  # (n0 + asks, m) what outliers add, in ranges
    scale: np.ndarray  # (m,) range of each outcome
    best: float  # minimum, one outcome
    reference: np.ndarray  # (m,) reference point, several outcomes
    hypervolume: float  # of the front above it

    def observe(self, x: np.ndarray, number: int) -> np.ndarray:
        """(d,) -> (m,): the outcome of evaluation `number` (the initial points are the first)."""
        f, measure = self.function(x[None, :])[0], self.problem.measure
        plain = f + self.noise[number] if measure is None else measure(x, f, self.draws[number], self.scale)
        return np.asarray(plain + self.scale * self.gross[number])


def case(name: str, seed: int, asks: int) -> Case:
    """The case of a seed; its generator is default_rng([crc32(name), seed]): function, initial points, noise."""
    problem, random = (PROBLEMS | MANY_KNOBS)[name], np.random.default_rng([crc32(name.encode()), seed])
    function = problem.make(random)
    initial = 2 * (problem.d + 1)
    X = problem.snapped(qmc.Sobol(problem.d, rng=random).random(2 ** int(np.ceil(np.log2(initial))))[:initial])
    draws = random.standard_normal((initial + asks, problem.m))
    hit = random.random((len(draws), 1)) < problem.gross
    gross = hit * random.choice([-1.0, 1.0], draws.shape) * random.uniform(1.0, 5.0, draws.shape)
    dense = problem.snapped(qmc.Sobol(problem.d, rng=np.random.default_rng(0)).random(DENSE))
    F = function(dense)
    scale = np.ptp(F, axis=0)
    best, reference, volume = np.nan, np.zeros(problem.m), np.nan
    if problem.m == 1:
        best = _minimum(problem, function, dense, F[:, 0]) if problem.best is None else problem.best
    else:
        front = _front(function, dense, F) if problem.optimal is None else function(problem.optimal)
        reference = front.max(axis=0) + MARGIN * scale if problem.reference is None else np.array(problem.reference)
        volume = hypervolume(front, reference)
    noise = draws * scale * np.array(problem.noise)
    return Case(problem, function, X, noise, draws, gross, scale, best, reference, volume)


def regret(of: Case, x: np.ndarray) -> float:
    """True value at x above the minimum, in percent of the range."""
    return float(100.0 * (of.function(x[None, :])[0, 0] - of.best) / of.scale[0])


def front_score(of: Case, X: np.ndarray) -> float:
    """1 - the hypervolume of the true outcomes at X (n, d) over that of the reference front, in percent."""
    return float(100.0 * (1.0 - hypervolume(of.function(X), of.reference) / of.hypervolume))


def _minimum(problem: Problem, function: Function, dense: np.ndarray, f: np.ndarray) -> float:
    """By a local search from the best of the dense set, over the coordinates that may take any value."""
    best, fixed = float(f.min()), [knob.levels is not None for knob in problem.knobs] or [False] * problem.d
    for start in dense[np.argsort(f)[:POLISHED]]:
        cube = [(x, x) if at else (0.0, 1.0) for x, at in zip(start, fixed, strict=True)]
        best = min(best, float(minimize(lambda x: function(x[None, :])[0, 0], start, bounds=cube).fun))
    return best


def _front(function: Function, dense: np.ndarray, F: np.ndarray) -> np.ndarray:
    """The dense set's front, then a few rounds of small steps from it, each half as wide as the last."""
    random, keep = np.random.default_rng(0), nondominated(F)
    X, F = dense[keep], F[keep]
    for i in range(FRONT_ROUNDS):
        if len(X) > FRONT_MOST:
            chosen = random.choice(len(X), FRONT_MOST, replace=False)
            X, F = X[chosen], F[chosen]
        steps = random.normal(scale=0.04 * 0.5**i, size=(FRONT_CHILDREN, *X.shape))
        children = np.clip(X + steps, 0.0, 1.0).reshape(-1, X.shape[1])
        X, F = np.vstack([X, children]), np.vstack([F, function(children)])
        keep = nondominated(F)
        X, F = X[keep], F[keep]
    return F


def nondominated(F: np.ndarray) -> np.ndarray:
    """(n, m) minimised -> the indices of the rows that no other row dominates."""
    left = np.argsort(F.sum(axis=1), kind="stable")  # a row can only be dominated by one before it
    found = []
    while len(left):
        first, left = left[0], left[1:]
        found.append(first)
        left = left[(F[left] < F[first]).any(axis=1)]
    return np.array(found)


def hypervolume(F: np.ndarray, reference: np.ndarray) -> float:
    """Volume dominated by the rows of F (n, 2 or 3), minimised, below the reference point."""
    F = F[(reference > F).all(axis=1)]
    if not len(F):
        return 0.0
    F = F[nondominated(F)]
    if F.shape[1] == 2:
        return _area(F, reference)
    F = F[np.argsort(F[:, 2])]
    depths = np.diff(np.append(F[:, 2], reference[2]))
    return float(sum(depth * _area(F[: i + 1, :2], reference) for i, depth in enumerate(depths) if depth > 0))


def _area(F: np.ndarray, reference: np.ndarray) -> float:
    F = F[np.argsort(F[:, 0])]
    widths = np.diff(np.append(F[:, 0], reference[0]))
    return float(widths @ (reference[1] - np.minimum.accumulate(F[:, 1])))


# ---- the functions -----------------------------------------------------------------------------------------------


def _branin(X: np.ndarray) -> np.ndarray:
    u, v = 15.0 * X[:, 0] - 5.0, 15.0 * X[:, 1]
    bowl = (v - 5.1 / (4 * np.pi**2) * u**2 + 5.0 / np.pi * u - 6.0) ** 2
    return (bowl + 10.0 * (1.0 - 1.0 / (8 * np.pi)) * np.cos(u) + 10.0)[:, None]


def _currin(X: np.ndarray) -> np.ndarray:
    u, v = X[:, 0], np.maximum(X[:, 1], 1e-12)
    top = 2300 * u**3 + 1900 * u**2 + 2092 * u + 60
    return ((1.0 - np.exp(-0.5 / v)) * top / (100 * u**3 + 500 * u**2 + 4 * u + 20))[:, None]


_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def _hartmann6(X: np.ndarray) -> np.ndarray:
    inside = (_A * (X[:, None, :] - _P) ** 2).sum(axis=-1)
    return -(np.exp(-inside) @ np.array([1.0, 1.2, 3.0, 3.2]))[:, None]


def _levy(X: np.ndarray) -> np.ndarray:
    w = 1.0 + (20.0 * X - 11.0) / 4.0
    middle = (w[:, :-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:, :-1] + 1) ** 2)
    last = (w[:, -1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[:, -1]) ** 2)
    return (np.sin(np.pi * w[:, 0]) ** 2 + middle.sum(axis=1) + last)[:, None]


def _dtlz2(X: np.ndarray) -> np.ndarray:
    """DTLZ2 with three outcomes; the front is the unit sphere's octant, where the last coordinates are 1/2."""
    a, b = 0.5 * np.pi * X[:, 0], 0.5 * np.pi * X[:, 1]
    far = 1.0 + ((X[:, 2:] - 0.5) ** 2).sum(axis=1)
    return np.column_stack([far * np.cos(a) * np.cos(b), far * np.cos(a) * np.sin(b), far * np.sin(a)])


_DTLZ2_OPTIMAL = np.array([[a, b, 0.5, 0.5] for a in np.linspace(0, 1, 40) for b in np.linspace(0, 1, 40)])


def _gp_sample(random: Random, d: int) -> Function:
    """A Matern-5/2 GP sample by random Fourier features; lengthscales uniform in [.2, .8], one a coordinate, times
    sqrt(d / 3): as rough as one of three coordinates."""
    lengthscales = random.uniform(0.2, 0.8, d) * np.sqrt(d / 3.0)
    spread = np.sqrt(random.chisquare(5, FEATURES) / 5.0)  # the spectral density is a Student t of 2 nu = 5
    W = random.standard_normal((FEATURES, d)) / spread[:, None] / lengthscales
    phases, weights = random.uniform(0.0, 2 * np.pi, FEATURES), random.standard_normal(FEATURES)
    return lambda X: (np.sqrt(2.0 / FEATURES) * np.cos(X @ W.T + phases) @ weights)[:, None]


def _ackley(X: np.ndarray) -> np.ndarray:
    """On [-10, 15]^d, so that the minimum is not in the middle."""
    Z = 25.0 * X - 10.0
    bowl = 20.0 * (1.0 - np.exp(-0.2 * np.sqrt((Z**2).mean(axis=1))))
    return (bowl + np.e - np.exp(np.cos(2.0 * np.pi * Z).mean(axis=1)))[:, None]


def _pool(X: np.ndarray) -> np.ndarray:
    """The connection pool of the simulators: queries lost a second, log of the p99 in ms, share of errors."""
    pool, found = ConnectionPool(load_per_s=_POOL_LOAD), []
    for x in X:
        params = {name: knob.value(u) for name, knob, u in zip(_POOL_NAMES, _POOL_KNOBS, x, strict=True)}
        rate, p99, errors = pool.truth(params).values()
        found.append((_POOL_LOAD - rate, np.log(p99), errors))
    return np.array(found)


_POOL_LOAD = 600.0
_POOL_NAMES = "pool_size", "max_idle_time_s", "connection_timeout_ms"
_POOL_KNOBS = Knob(5, 100, whole=True), Knob(30, 600), Knob(100, 5000, log=True)


def _pool_window(x: np.ndarray, f: np.ndarray, z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """0.5 % noise of the throughput, 8 % of the p99, 10 % of the errors."""
    lost, log_p99, errors = f
    rate = (_POOL_LOAD - lost) * (1.0 + 0.005 * z[0])
    return np.array([_POOL_LOAD - rate, log_p99 + 0.08 * z[1], np.clip(errors * (1.0 + 0.1 * z[2]), 0.0, 1.0)])


def _mixed(random: Random) -> Function:
    """A bowl in two log numbers and two whole ones, whose bottom and depth depend on the choice, with a ripple."""
    centres, depth = random.uniform(0.15, 0.85, (_MIXED_KNOBS[4].choices, 4)), random.uniform(0.0, 0.4, 4)
    weights = random.uniform(0.5, 2.0, 4)

    def function(X: np.ndarray) -> np.ndarray:
        which = np.rint(X[:, 4] * (len(centres) - 1)).astype(int)
        off = X[:, :4] - centres[which]
        ripple = 0.05 * (1.0 - np.cos(6.0 * np.pi * off[:, :2])).sum(axis=1)
        return np.asarray((off**2 @ weights + ripple + depth[which])[:, None])

    return function


_MIXED_KNOBS = (
    Knob(1e-3, 1e3, log=True), Knob(0.1, 100, log=True), Knob(1, 64, log=True, whole=True), Knob(0, 8, whole=True),
    Knob(choices=4),
)  # fmt: skip


def _growing(x: np.ndarray, f: np.ndarray, z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Noise of 1 % of the range where the first coordinate is 0, of 25 % where it is 1."""
    return np.asarray(f + (0.01 + 0.24 * x[0]) * scale * z)


def _among(d: int, function: Function) -> Function:
    """The same where only the first d coordinates matter."""
    return lambda X: function(X[:, :d])


def _fixed(*functions: Function) -> Callable[[Random], Function]:
    return lambda random: lambda X: np.hstack([function(X) for function in functions])


def _samples(m: int, d: int = 3) -> Callable[[Random], Function]:
    def make(random: Random) -> Function:
        functions = [_gp_sample(random, d) for _ in range(m)]
        return lambda X: np.hstack([function(X) for function in functions])

    return make


PROBLEMS = {
    "branin2": Problem(2, (0.02,), _fixed(_branin), best=0.39788735772973816),
    "hart6": Problem(6, (0.05,), _fixed(_hartmann6), best=-3.32236801141551),
    "levy4": Problem(4, (0.02,), _fixed(_levy), best=0.0),
    "gp3": Problem(3, (0.075,), _samples(1)),
    "gp3hi": Problem(3, (0.20,), _samples(1)),
    "bc2": Problem(2, (0.01, 0.02), _fixed(_branin, _currin)),
    "gp3x2": Problem(3, (0.075, 0.075), _samples(2)),
    "gp3x3": Problem(3, (0.075, 0.075, 0.075), _samples(3)),
    "dtlz2x3": Problem(4, (0.05, 0.05, 0.05), _fixed(_dtlz2), optimal=_DTLZ2_OPTIMAL),
    "branin2_5": Problem(2, (0.05,), _fixed(_branin), best=0.39788735772973816),
    "branin2_grows": Problem(2, (0.0,), _fixed(_branin), best=0.39788735772973816, measure=_growing),
    "hart6_gross": Problem(6, (0.05,), _fixed(_hartmann6), best=-3.32236801141551, gross=0.05),
    "hart6_of_20": Problem(20, (0.05,), _fixed(_among(6, _hartmann6)), best=-3.32236801141551),
    "ackley5": Problem(5, (0.02,), _fixed(_ackley), best=0.0),
    "mixed5": Problem(5, (0.05,), _mixed, knobs=_MIXED_KNOBS),
    "pool3": Problem(
        3, (0.0, 0.0, 0.0), _fixed(_pool), knobs=_POOL_KNOBS, measure=_pool_window,
        reference=(40.0, np.log(130.0), 0.01),
    ),
}  # fmt: skip


MANY_KNOBS = {
    "hart6_of_20": PROBLEMS["hart6_of_20"],
    "ackley20": Problem(20, (0.02,), _fixed(_ackley), best=0.0),
    "levy30": Problem(30, (0.02,), _fixed(_levy), best=0.0),
    "gp30": Problem(30, (0.05,), _samples(1, 30)),
    "hart6_of_50": Problem(50, (0.05,), _fixed(_among(6, _hartmann6)), best=-3.32236801141551),
}


def solver_config(d: int, m: int, reference: np.ndarray, *, seed: int, knobs: tuple[Knob, ...] = ()) -> dict[str, Any]:
    """d knobs, m minimised outcomes without weights, every ask by the model."""
    knobs = knobs or (Knob(),) * d
    config: dict[str, Any] = {
        "seed": seed,
        "budget": 100_000,
        "probe_ratio": 0.0,
        "bounds": {name: _bounds(knob) for name, knob in zip(names("x", d), knobs, strict=True)},
    }
    if m > 1:
        config["objectives"] = {
            name: {"direction": "min", "threshold": float(r)}
            for name, r in zip(outcome_names(m), reference, strict=True)
        }
    return config


def _bounds(knob: Knob) -> dict[str, Any]:
    if knob.choices:
        return {"type": "categorical", "choices": [f"c{i}" for i in range(knob.choices)]}
    kind, scale = {"type": "int"} if knob.whole else {}, {"scale": "log"} if knob.log else {}
    return {"min": knob.low, "max": knob.high} | kind | scale


def result(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """One result known before the first ask."""
    return {
        "params": dict(zip(names("x", len(x)), x.tolist(), strict=True)),
        "values": dict(zip(outcome_names(len(y)), y.tolist(), strict=True)),
    }


def point(params: dict[str, Any]) -> np.ndarray:
    """Params as a row (d,)."""
    return np.array([params[name] for name in names("x", len(params))], dtype=float)


def outcome_names(m: int) -> list[str]:
    """What our solver calls the m outcomes."""
    return ["value"] if m == 1 else names("y", m)


def names(letter: str, count: int) -> list[str]:
    """A letter with the numbers from 0."""
    return [f"{letter}{i}" for i in range(count)]
