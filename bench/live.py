"""The loops that bench/drift.py runs beside each other on a live system: what runs in the next window, and its result.

Nobody may move a knob further than its max_delta a window. Peers maximise the score they saw less PENALTY of its usual
size for each broken limit, and all obey one SLO rule: after a window that broke a limit the next one goes back, by a
legal step, to the last config whose latest window broke none (if there is one). Arqon GP has its own guard instead.
Public: ARMS, ADAPTIVE, Live, toward.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from arqon_gp.records import Kind
from arqon_gp.simulators import Moving
from arqon_gp.simulators.moving import WINDOW, Knob, Outcomes, Params, Value

PENALTY = 0.1  # of the median size of the scores seen so far, for each broken limit
RECENT = 60  # windows that tpe_60 and gp_60 look back
STATICS = 300  # Sobol configs that best_static is chosen from, beside the initial one
EXPLORES = 10  # windows, of which oracle_tenth explores one
EFFECT = 0.02
EPOCH = 1_700_000_000.0  # of the fake clock

Config = dict[str, Value]


class Live(Protocol):
    """One loop. `start`: what runs before the first window; `back`: where the last ask began to go back to, if so."""

    start: Config
    back: Config | None

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""

    def tell(self, params: Config, outcomes: Outcomes, at: float) -> None:
        """What this window measured."""


# ---- ours --------------------------------------------------------------------------------------------------------


class Arqon:
    """ArqonSolver without an end, told the context or blind; a fake clock that goes on a window at a time.

    An ask knows the hour, and the arrivals that the last window counted; the result says what its own window counted.
    """

    def __init__(self, of: Moving, seed: int, windows: int, *, sees: bool) -> None:
        self.of, self.sees, self.start = of, sees, initial(of)
        self.back: Config | None = None
        self.now, self.here, self.returning = EPOCH, initial(of), False
        config = of.config() | {"seed": seed} | ({"context": expected(of)} if sees else {})
        config["guardrails"] |= {"min_effect": effect(of)}
        self.solver = ArqonSolver(
            config,
            registry=CollectorRegistry(),
            clock=lambda: self.now,
            device="cpu",
        )

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""
        self.now = EPOCH + at
        counted = self._context(at - WINDOW) if at > 0.0 else {}
        found = self.solver.ask_one(context={**counted, "hour": self.of.context(at)["hour"]} if self.sees else None)
        assert found is not None, "a study without a budget has no end"
        self.candidate, before = found, self.returning
        self.returning = found.kind is Kind.ROLLBACK
        begins = self.returning and not before and dict(found) != self.here
        self.back = dict(self.solver.status()["last_good"]["params"]) if begins else None
        return dict(found)

    def tell(self, params: Config, outcomes: Outcomes, at: float) -> None:
        """What this window measured."""
        self.now, self.here = EPOCH + at + WINDOW, params
        row = {"params": params, "id": self.candidate.id, "values": outcomes, "cost": WINDOW}
        self.solver.seed([row | ({"context": self._context(at)} if self.sees else {})])

    def _context(self, at: float) -> dict[str, float]:
        seen = self.of.context(at)
        return {name: seen[name] for name in expected(self.of)}


def effect(of: Moving) -> float:
    """The smallest difference in the score that matters to an operator: EFFECT of the limit of the p99."""
    p99 = list(of.plant.weights)[1]
    return EFFECT * abs(of.plant.weights[p99]) * of.plant.limits[p99]


def expected(of: Moving) -> dict[str, Any]:
    """The context of the config: arrivals in a range that an operator knows beforehand with room to spare, the hour."""
    swings = of.plant.swings
    low = 0.8 * swings.arrivals[0] * (1.0 - swings.amplitude[1]) * swings.weekend[0]
    high = 1.2 * swings.arrivals[1] * (1.0 + swings.amplitude[1])
    return {"arrivals": {"min": round(low, 1), "max": round(high, 1)}, "hour": {"period": 24}}


# ---- those that do not learn -------------------------------------------------------------------------------------


class Static:
    """One config all along."""

    def __init__(self, of: Moving, seed: int, windows: int) -> None:
        self.start = initial(of)
        self.back: Config | None = None

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""
        return self.start

    def tell(self, params: Config, outcomes: Outcomes, at: float) -> None:
        """Nothing is learned."""


class BestStatic(Static):
    """In hindsight: of STATICS Sobol configs and the initial one those that truly break a limit in the fewest windows
    of the run, and of them the one with the highest mean true score. It runs there from the start."""

    def __init__(self, of: Moving, seed: int, windows: int) -> None:
        super().__init__(of, seed, windows)
        from scipy.stats import qmc

        knobs = of.plant.knobs
        U = qmc.Sobol(len(knobs), rng=np.random.default_rng([seed, 7])).random(512)[:STATICS]
        configs = [initial(of), *({k.name: _value(k, u) for k, u in zip(knobs, row, strict=True)} for row in U)]
        P = {k.name: np.array([k.choices.index(c[k.name]) if k.choices else c[k.name] for c in configs]) for k in knobs}
        broken, scores = np.zeros(len(configs)), np.zeros(len(configs))
        for number in range(windows):
            Y = of.plant.outcomes(P, of.conditions(number * WINDOW))
            broken += np.logical_or.reduce([Y[name] > limit for name, limit in of.plant.limits.items()])
            scores += sum(w * Y[name] for name, w in of.plant.weights.items())
        self.start = configs[int(np.lexsort((-scores, broken))[0])]


class Oracle(Static):
    """Each window the truly best config within max_delta of the last; it looks no further ahead."""

    def __init__(self, of: Moving, seed: int, windows: int) -> None:
        super().__init__(of, seed, windows)
        self.of, self.here = of, self.start

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""
        self.here = self.of.optimum(at, near=self.here)[0]
        return self.here


class PayingOracle(Oracle):
    """The same, but one window in EXPLORES is a uniformly random legal step away."""

    def __init__(self, of: Moving, seed: int, windows: int) -> None:
        super().__init__(of, seed, windows)
        self.random = np.random.default_rng([seed, 78])

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""
        if round(at / WINDOW) % EXPLORES:
            return super().ask(at)
        self.here = _stepped(self.of.plant.knobs, self.here, self.random)
        return self.here


# ---- the adaptive peers ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Past:
    """The windows so far: what ran, what it was worth (with the penalty), and whether it kept the limits."""

    knobs: tuple[Knob, ...]
    here: Config
    random: np.random.Generator
    configs: list[Config] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)

    def good(self) -> Config | None:
        """The last config whose latest window kept the limits."""
        broken: list[Config] = []
        for config, kept in zip(reversed(self.configs), reversed(self.kept), strict=True):
            if kept and config not in broken:
                return config
            broken.append(config)
        return None


Strategy = Callable[[Past], Config]  # what to run next, legal or not


class Adaptive:
    """A strategy that keeps to max_delta and obeys the SLO rule."""

    def __init__(self, of: Moving, seed: int, windows: int, *, strategy: Callable[[int], Strategy]) -> None:
        self.of, self.start = of, initial(of)
        self.back: Config | None = None
        self.target: Config | None = None  # what the SLO rule goes back to
        self.past = Past(of.plant.knobs, self.start, np.random.default_rng([seed, 77]))
        self.strategy, self.sizes = strategy(seed), list[float]()

    def ask(self, at: float) -> Config:
        """What runs in the window that begins at `at`."""
        past = self.past
        good = past.good() if past.kept and not past.kept[-1] else None
        self.back = good if good != self.target else None
        self.target = good
        return toward(past.knobs, past.here, good or self.strategy(past))

    def tell(self, params: Config, outcomes: Outcomes, at: float) -> None:
        """What this window measured."""
        score, past = self.of.score(outcomes), self.past
        self.sizes.append(abs(score))
        over = sum(outcomes[name] > limit for name, limit in self.of.plant.limits.items())
        past.here = params
        past.configs.append(params)
        past.values.append(score - PENALTY * statistics.median(self.sizes) * over)
        past.kept.append(not over)


def walk(past: Past) -> Config:
    """A uniformly random legal step."""
    return _stepped(past.knobs, past.here, past.random)


class LocalSearch:
    """One knob at a time, by a quarter to all of its max_delta: a better window is kept and the same step repeated, a
    worse one is left for what ran before, which is measured again."""

    def __init__(self, seed: int) -> None:
        self.base: Config = {}
        self.asked: Config = {}
        self.worth, self.turn, self.share = 0.0, 0, 0.0

    def __call__(self, past: Past) -> Config:
        """What to run next."""
        self.asked = self._next(past)
        return self.asked

    def _next(self, past: Past) -> Config:
        if not past.values:
            self.base = past.here
            return self.base
        if past.here != self.asked:  # the SLO rule went elsewhere
            self.base, self.worth, self.share = past.here, past.values[-1], 0.0
        elif past.here == self.base:
            self.worth = past.values[-1]
        elif past.values[-1] > self.worth:
            self.base, self.worth = past.here, past.values[-1]
        else:
            self.share = 0.0
            return self.base
        if not self.share:
            self.turn += 1
            self.share = float(past.random.uniform(0.25, 1.0) * past.random.choice([-1.0, 1.0]))
        knob = past.knobs[self.turn % len(past.knobs)]
        return past.here | {knob.name: self._moved(knob, past.here[knob.name])}

    def _moved(self, knob: Knob, here: Value) -> Value:
        if knob.choices:
            return knob.choices[(knob.choices.index(str(here)) + 1) % len(knob.choices)]
        step = self.share * knob.delta
        if knob.whole:
            step = math.copysign(max(1.0, abs(step)), step)
        wanted = float(here) + step if knob.low <= float(here) + step <= knob.high else float(here) - step
        return round(wanted) if knob.whole else wanted


class Optuna:
    """A sampler of optuna with its defaults, told afresh each window what ran in the last windows, or in all."""

    def __init__(self, seed: int, *, sampler: str, last: int | None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna, self.seed, self.last = optuna, seed, last
        self.more = {"deterministic_objective": False} if sampler == "GPSampler" else {}
        self.sampler = getattr(optuna.samplers, sampler)

    def __call__(self, past: Past) -> Config:
        """What to run next."""
        spaces = {k.name: self._space(k) for k in past.knobs}
        number = len(past.values)
        study = self.optuna.create_study(
            direction="maximize", sampler=self.sampler(seed=1000 * self.seed + number, **self.more)
        )
        first = 0 if self.last is None else max(0, number - self.last)
        made = partial(self.optuna.trial.create_trial, distributions=spaces)
        rows = zip(past.configs[first:], past.values[first:], strict=True)
        study.add_trials([made(params=config, value=value) for config, value in rows])
        return dict(study.ask(spaces).params)

    def _space(self, knob: Knob) -> Any:
        of = self.optuna.distributions
        if knob.choices:
            return of.CategoricalDistribution(knob.choices)
        if knob.whole:
            return of.IntDistribution(int(knob.low), int(knob.high))
        return of.FloatDistribution(knob.low, knob.high)


# ---- legal steps -------------------------------------------------------------------------------------------------


def initial(of: Moving) -> Config:
    """What runs before anyone tunes."""
    return {k.name: k.initial for k in of.plant.knobs}


def toward(knobs: tuple[Knob, ...], here: Params, wanted: Params) -> Config:
    """As near to what is wanted as one step within the bounds and max_delta comes; a choice may always change."""
    return {k.name: wanted[k.name] if k.choices else _clipped(k, here[k.name], wanted[k.name]) for k in knobs}


def _clipped(knob: Knob, here: Value, wanted: Value) -> Value:
    low, high = _reach(knob, here)
    value = min(max(float(wanted), low), high)
    return round(value) if knob.whole else value


def _reach(knob: Knob, here: Value) -> tuple[float, float]:
    return max(knob.low, float(here) - knob.delta), min(knob.high, float(here) + knob.delta)


def _stepped(knobs: tuple[Knob, ...], here: Params, random: np.random.Generator) -> Config:
    return {k.name: _within(k, here[k.name], random.random()) for k in knobs}


def _within(knob: Knob, here: Value, u: float) -> Value:
    """A value that is one legal step from here, u in [0, 1)."""
    if knob.choices:
        return _value(knob, u)
    low, high = _reach(knob, here)
    return int(low + u * (high - low + 1.0)) if knob.whole else float(low + u * (high - low))


def _value(knob: Knob, u: float) -> Value:
    """A value of the whole range, u in [0, 1)."""
    if knob.choices:
        return knob.choices[int(u * len(knob.choices))]
    return round(knob.low + u * (knob.high - knob.low)) if knob.whole else float(knob.low + u * (knob.high - knob.low))


def _peer(strategy: Callable[[int], Strategy]) -> Callable[[Moving, int, int], Live]:
    return partial(Adaptive, strategy=strategy)


ADAPTIVE: dict[str, Callable[[Moving, int, int], Live]] = {
    "random_walk": _peer(lambda seed: walk),
    "local_search": _peer(LocalSearch),
    "tpe_all": _peer(lambda seed: Optuna(seed, sampler="TPESampler", last=None)),
    "tpe_60": _peer(lambda seed: Optuna(seed, sampler="TPESampler", last=RECENT)),
    "gp_all": _peer(lambda seed: Optuna(seed, sampler="GPSampler", last=None)),
    "gp_60": _peer(lambda seed: Optuna(seed, sampler="GPSampler", last=RECENT)),
}
ARMS: dict[str, Callable[[Moving, int, int], Live]] = {
    "arqon": partial(Arqon, sees=True),
    "arqon_blind": partial(Arqon, sees=False),
    "static": Static,
    **ADAPTIVE,
    "best_static": BestStatic,
    "oracle": Oracle,
    "oracle_tenth": PayingOracle,
}  # each made from (system, seed, windows)
