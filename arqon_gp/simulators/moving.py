"""A system whose optimum moves: what happens to it (Scenario), what holds at a moment (Conditions), and its windows.

A Plant is the physics: outcomes of configurations under conditions, without noise. `Moving(plant, seed)` puts it under
the seed's scenario. Times `at` are seconds since the start. Everything is a function of (plant, seed, params, at).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np

Array = np.ndarray
Value = float | int | str
Params = Mapping[str, Value]
Outcomes = dict[str, float]

DAY, WINDOW = 86400.0, 300.0
_STEP_DAYS = (0.7, 1.3)  # the dependency changes within these days
_MANY, _TURNS = (64, 40), (40, 25)  # configurations and generations of a search: anywhere, near another
_PATH, _SHARE = 0.03, 0.08  # std of log p99 and of the log of a share, beside the counting: from one window to the next
# jobs and neighbours move a system by a few per cent (assumed), its errors more, as they come in bunches
_GAIN = 1e-4  # of the score, less than that is not gone on for
_GROSS, _GROSS_FACTOR = 0.01, 2.0  # share of windows whose p99 is so many times what it would be: a backup, a deploy


@dataclass(frozen=True, slots=True)
class Knob:
    """From `low` to `high` with at most `delta` a step, or one of `choices`."""

    name: str
    initial: Value
    low: float = 0.0
    high: float = 1.0
    delta: float = 1.0
    whole: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Swings:
    """The ranges that a seed's scenario is drawn from."""

    arrivals: tuple[float, float]  # a second, mean of a weekday
    amplitude: tuple[float, float]  # of the day's swing, a share of the mean
    weekend: tuple[float, float]  # level of Saturday and Sunday, a share of a weekday
    ageing: tuple[float, float]  # growth of the wear, a day
    step: tuple[float, float]  # size of the step in what the system depends on, a factor


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds at a moment, the same for every configuration."""

    arrivals: float  # a second
    wear: float = 1.0  # factor >= 1: what ageing has done
    step: float = 1.0  # 1 before the dependency changed, the scenario's factor after it
    fresh: float = 0.5  # 0 to 1: share of new things in the demand, highest four hours before the traffic's peak


@dataclass(frozen=True, slots=True)
class Scenario:
    """Diurnal traffic with weekends and a small wander, steady ageing, and one step at `step_at`."""

    arrivals: float
    amplitude: float
    weekend: float
    ageing: float
    step: float
    step_at: float
    start_at: float  # s since Monday 0:00 when `at` = 0
    peak_h: float  # hour of the day's highest traffic
    wander: tuple[tuple[float, float], ...]  # (period s, phase) of three sines of 2 % each

    @classmethod
    def draw(cls, swings: Swings, random: np.random.Generator) -> Scenario:
        """Of these ranges, each uniform; the start on Monday to Wednesday, the peak between 13 and 19 h."""
        ranges = (swings.arrivals, swings.amplitude, swings.weekend, swings.ageing, swings.step)
        level, amplitude, weekend, ageing, step = (float(random.uniform(*r)) for r in ranges)
        step_at = float(DAY * random.uniform(*_STEP_DAYS))
        start, peak = float(DAY * random.integers(3)), float(random.uniform(13.0, 19.0))
        wander = tuple((float(3600 * random.uniform(1.0, 8.0)), float(random.uniform(0.0, math.tau))) for _ in range(3))
        return cls(level, amplitude, weekend, ageing, step, step_at, start, peak, wander)

    def conditions(self, at: float) -> Conditions:
        """At `at`. The weekend sets in and ends within three hours around midnight."""
        hour, weekday = self.clock(at)
        day = math.cos(math.tau * (hour - self.peak_h) / 24.0)
        hours = (weekday * 24.0 + hour - 120.0 + 84.0) % 168.0 - 84.0  # since Saturday 0:00, -84 to 84
        off = min(1.0, max(0.0, 0.5 + hours / 3.0), max(0.0, 0.5 + (48.0 - hours) / 3.0))
        drift = sum(0.02 * math.sin(math.tau * at / period + phase) for period, phase in self.wander)
        arrivals = self.arrivals * (1.0 + self.amplitude * day) * (1.0 + off * (self.weekend - 1.0)) * math.exp(drift)
        fresh = 0.5 + 0.5 * math.cos(math.tau * (hour - self.peak_h + 4.0) / 24.0)
        return Conditions(
            arrivals, 1.0 + self.ageing * at / DAY, self.step if at >= self.step_at else 1.0, round(fresh, 12)
        )

    def clock(self, at: float) -> tuple[float, int]:
        """Hour of the day (0 to 24) and weekday (0 = Monday)."""
        since = self.start_at + at
        return since % DAY / 3600.0, int(since // DAY) % 7


class Plant(Protocol):
    """The physics of a system. The first outcome is a rate, the second its p99, the third its share of errors."""

    knobs: ClassVar[tuple[Knob, ...]]  # in the order of bounds and max_delta
    swings: ClassVar[Swings]
    weights: ClassVar[dict[str, float]]  # of each outcome in the score, negative where less is better
    limits: ClassVar[dict[str, float]]  # the service-level objectives: an outcome's maximum

    def outcomes(self, P: dict[str, Array], now: Conditions) -> dict[str, Array]:
        """Of k configurations {knob: (k,)} (a categorical as the index of its choice), without noise, each (k,)."""


class Moving:
    """A plant, one of SYSTEMS, under the scenario of a seed."""

    def __init__(self, plant: Plant, seed: int = 0) -> None:
        self.plant, self.seed = plant, seed
        self.scenario = Scenario.draw(plant.swings, np.random.default_rng([seed, 1]))
        self._best = lru_cache(maxsize=None)(self._search)

    def conditions(self, at: float) -> Conditions:
        """What holds at `at`."""
        return self.scenario.conditions(at)

    def truth(self, params: Params, at: float) -> Outcomes:
        """The outcomes without noise at `at`, s, as if the system had settled there. `params` has every knob of the
        plant, KeyError else; values are not checked."""
        P = {k.name: np.array([k.choices.index(str(params[k.name])) if k.choices else float(params[k.name])])
             for k in self.plant.knobs}  # fmt: skip
        return {name: float(v[0]) for name, v in self.plant.outcomes(P, self.conditions(at)).items()}

    def observe(self, params: Params, at: float) -> Outcomes:
        """The noisy window number at // 300 s; its noise depends on the seed and that number alone.

        The rate is the truth's share of the arrivals counted in this window. The p99 of n requests with an exponential
        tail has a relative std of 1 / (sqrt(0.01 n) log 100): the order statistic's, by the delta method.
        """
        (rate, done), (p99, worst), *shares = self.truth(params, at).items()
        arrivals = self.conditions(at).arrivals
        random = np.random.default_rng([self.seed, 2, int(at // WINDOW)])
        z, gross = random.standard_normal(1 + len(shares)), random.random() < _GROSS
        noise = math.hypot(_PATH, 1.0 / (math.sqrt(0.01 * arrivals * WINDOW) * math.log(100.0)))
        seen = {rate: done / arrivals * self._counted(at), p99: worst * math.exp(noise * z[0])}
        seen[p99] *= _GROSS_FACTOR if gross else 1.0
        for (name, share), normal in zip(shares, z[1:], strict=True):  # binomial, where there is something to count
            spread = math.hypot(_SHARE, 1.0 / math.sqrt(max(1.0, share * arrivals * WINDOW)))
            seen[name] = min(1.0, share * math.exp(spread * normal))
        return seen

    def context(self, at: float) -> dict[str, float]:
        """What an operator sees and nobody controls: hour, weekday, and the arrivals a second counted in the window."""
        hour, weekday = self.scenario.clock(at)
        return {"hour": hour, "weekday": float(weekday), "arrivals": self._counted(at)}

    def _counted(self, at: float) -> float:
        """Arrivals a second as counted in this window: Poisson, so the relative std is 1 / sqrt(their number)."""
        arrivals = self.conditions(at).arrivals
        z = np.random.default_rng([self.seed, 3, int(at // WINDOW)]).standard_normal()
        return float(arrivals * (1.0 + z / math.sqrt(arrivals * WINDOW)))

    def config(self) -> dict[str, Any]:
        """The parts of an arqon config that the system gives: bounds, objectives, constraints, guardrails."""
        bounds = {k.name: _bounds(k) for k in self.plant.knobs}
        goals = {n: {"direction": "max" if w > 0 else "min", "weight": abs(w)} for n, w in self.plant.weights.items()}
        limits = {n: {"max": v} for n, v in self.plant.limits.items()}
        deltas = [int(k.delta) if k.choices or k.whole else k.delta for k in self.plant.knobs]
        return {"bounds": bounds, "objectives": goals, "constraints": limits, "guardrails": {"max_delta": deltas}}

    def score(self, outcomes: Mapping[str, float]) -> float:
        """The utility: the weighted sum of the outcomes. It follows the traffic, so its level is no merit."""
        return sum(w * outcomes[name] for name, w in self.plant.weights.items())

    def breaches(self, outcomes: Mapping[str, float]) -> bool:
        """Whether a service-level objective is broken."""
        return any(outcomes[name] > limit for name, limit in self.plant.limits.items())

    def optimum(self, at: float, near: Params | None = None) -> tuple[dict[str, Value], float]:
        """The configuration with the highest score that keeps the limits, or breaks them least, and that score.

        With `near`: the best within max_delta of it.
        """
        now, names = self.conditions(at), [k.name for k in self.plant.knobs]
        params, score, merit = self._best(now, tuple(near[n] for n in names) if near else None)
        while near is None:  # on from there by legal steps, as long as that helps
            there = self._best(now, tuple(params[n] for n in names))
            if there[2] <= merit + _GAIN * abs(merit):
                break
            params, score, merit = there
        return dict(params), score

    def _search(self, now: Conditions, near: tuple[Value, ...] | None) -> tuple[dict[str, Value], float, float]:
        """The best configuration, its score, and that less what its worst breach costs; for each choice on its own."""
        knobs, (many, turns) = (self.plant.knobs, _MANY) if near is None else (_boxed(self.plant.knobs, near), _TURNS)
        numbers, choice = [k for k in knobs if not k.choices], next((k for k in knobs if k.choices), None)
        start = _sequence(many, len(numbers))
        if near is not None:  # to stay is legal
            stay = [v for k, v in zip(knobs, near, strict=True) if not k.choices]
            start[0] = [(float(v) - k.low) / (k.high - k.low) for k, v in zip(numbers, stay, strict=True)]
        best: tuple[dict[str, Value], float, float] = ({}, 0.0, -math.inf)
        for index in range(len(choice.choices) if choice else 1):

            def valued(U: Array, index: int = index) -> tuple[dict[str, Array], Array, Array]:
                P = {k.name: _value(k, U[:, i]) for i, k in enumerate(numbers)}
                P |= {choice.name: np.full(len(U), index)} if choice else {}
                outcomes = self.plant.outcomes(P, now)
                scores = np.asarray(sum(w * outcomes[name] for name, w in self.plant.weights.items()))
                over = np.maximum.reduce([outcomes[n] / limit - 1.0 for n, limit in self.plant.limits.items()])
                return P, scores, np.where(over > 0.0, -1e6 * (1.0 + over), scores)

            P, scores, merit = valued(_evolved(lambda U: valued(U)[2], start, turns)[None, :])
            if merit[0] > best[2]:
                best = {k.name: _plain(k, P[k.name][0]) for k in knobs}, float(scores[0]), float(merit[0])
        return best


def _evolved(merit: Callable[[Array], Array], start: Array, turns: int) -> Array:
    """The best in the unit cube by differential evolution towards it (Storn & Price 1997), from `start` (n, d)."""
    random, U, values = np.random.default_rng(0), start, merit(start)
    for _ in range(turns):
        one, other = U[random.permutation(len(U))], U[random.permutation(len(U))]
        step = random.uniform(0.3, 0.9, (len(U), 1)) * (U[values.argmax()] - U + one - other)
        there = np.clip(U + np.where(random.random(U.shape) < 0.9, step, 0.0), 0.0, 1.0)
        found = merit(there)
        U, values = np.where((found > values)[:, None], there, U), np.maximum(found, values)
    return np.asarray(U[values.argmax()])


def _bounds(knob: Knob) -> dict[str, Any]:
    """As a config states it."""
    if knob.choices:
        return {"type": "categorical", "choices": list(knob.choices), "initial": knob.initial}
    return {"type": "int" if knob.whole else "float", "min": knob.low, "max": knob.high, "initial": knob.initial}


def _boxed(knobs: tuple[Knob, ...], near: tuple[Value, ...]) -> tuple[Knob, ...]:
    """The knobs within their `delta` of these values."""
    return tuple(
        k if k.choices else replace(k, low=max(k.low, float(v) - k.delta), high=min(k.high, float(v) + k.delta))
        for k, v in zip(knobs, near, strict=True)
    )


def _value(knob: Knob, u: Array) -> Array:
    """(k,) in [0, 1] -> (k,) in the knob's own units."""
    x = knob.low + u * (knob.high - knob.low)
    return np.asarray(np.rint(x) if knob.whole else x)


def _plain(knob: Knob, x: float) -> Value:
    """One value, of its Python type."""
    return knob.choices[int(x)] if knob.choices else int(x) if knob.whole else float(x)


def _sequence(n: int, d: int) -> Array:
    """(n, d) points that fill the unit cube: multiples of powers of the d-dimensional golden ratio (Roberts 2018)."""
    ratio = 1.5
    for _ in range(50):
        ratio = (1.0 + ratio) ** (1.0 / (d + 1.0))
    return np.asarray((0.5 + np.arange(1, n + 1)[:, None] * ratio ** -np.arange(1.0, d + 1.0)) % 1.0)
