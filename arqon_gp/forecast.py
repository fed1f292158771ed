"""What the context will be in the next windows, as it has gone on lately. No model.

A random walk with drift, for each context on its own: the next window adds the median step of the last ones, where
these agree, and its doubt is their spread (Hyndman and Athanasopoulos 2021, sections 5.2 and 5.5; robust, for traffic
has spikes), which adds up where the steps themselves go on rising or falling. What stands still for some windows and
then jumps, a whole hour, a number of replicas, steps from jump to jump. A cycle is gone round the shorter way. Units:
native, of a log context its natural logarithm, so that a std is a share of it. Public: Step, Seen, scaled, native,
span, after, steps, ahead, unmoved, as_before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from arqon_gp.cliffs import NORMAL_MAD
from arqon_gp.knobs import Floats, Real, wrapped
from arqon_gp.records import Context

LATEST = 8  # windows, or jumps, that tell how the context goes on
Seen = tuple[tuple[int, float], ...]  # the number of a window, and what was told of a context then; in order
SURE = 2.0  # standard errors from which on a step is one
FEW = 2.8  # by 1 + FEW / n the spread of n steps is wider: 1.64 stds are to be the central 90 % with LATEST windows
NEAR, FEWEST = 0.03, 6  # of a cycle, either way, and windows there that tell what a context is at that hour


@dataclass(frozen=True, slots=True)
class Step:
    """By how much a context moves a window, and the std of that; `common`: the share of its variance that all windows
    to come have in common."""

    step: float = 0.0
    std: float = 0.0
    common: float = 0.0

    def doubt(self, windows: float) -> float:
        """The std after so many windows."""
        return self.std * math.sqrt(windows + self.common * windows**2)


def scaled(of: Real, value: float) -> float:
    """A native value in the units of forecasts; what has no logarithm counts as the lower bound."""
    return math.log(value if value > 0.0 else of.low) if of.log else value


def native(of: Real, value: float) -> float:
    """The native value of one in the units of forecasts."""
    return math.exp(value) if of.log else value


def span(of: Real) -> float:
    """The range of a context in the units of forecasts."""
    return scaled(of, of.high) - scaled(of, of.low)


def after(seen: Seen, told: Iterable[tuple[int, float]]) -> Seen:
    """What was told, and what was told since, of which the last one comes first: of equal ones in a row the first
    counts, and of those that go on how long it has been so."""
    found: list[tuple[int, float]] = []
    for number, value in chain(told, reversed(seen)):
        if len(found) > 1 and found[-1][1] == value:
            found.pop()
        elif len(found) == LATEST:
            break
        found.append((number, value))
    return tuple(reversed(found))


def steps(seen: Seen, of: Real) -> Step:
    """The step of one context, from what was told of it; over a gap, and while it stood still, it is taken to have
    moved evenly, unless it stands for longer than ever."""
    stands = len(seen) > 1 and seen[-1][1] == seen[-2][1]
    moved = seen[:-1] if stands else seen
    if len(moved) < 3:
        return Step()
    numbers, values = np.array([(number, scaled(of, value)) for number, value in moved], dtype=float).T
    apart, windows = np.diff(values), np.diff(numbers)
    if of.periodic:
        apart = (apart + 0.5 * span(of)) % span(of) - 0.5 * span(of)
    each, n = apart / windows, float(len(apart))
    middle = float(np.median(each))
    spread, common = NORMAL_MAD * float(np.median(np.abs(each - middle))), 1.0 / n + _trend(each)
    if spread == 0.0 and (np.ptp(np.sign(apart)) or np.ptp(windows)):  # most are the same; the others are no spikes
        n = float(windows.sum())
        middle, common = float(apart.sum()) / n, 1.0 / n
        spread = math.sqrt(float((np.square(apart - middle * windows) / windows).sum()) / len(apart))
    sure = abs(middle) > SURE * spread / math.sqrt(n)
    if stands and seen[-1][0] - numbers[-1] > windows.max():
        sure = False
    std = (1.0 + FEW / n) * math.hypot(spread, 0.0 if sure else middle)
    return Step(middle if sure else 0.0, std, common)


def _trend(steps: Floats) -> float:
    """How far steps (n,) follow those before them, from 0, by chance, to 1: less the ratio of von Neumann (1941)."""
    variance = float(steps.var(ddof=1))
    return max(1.0 - 0.5 * float(np.square(np.diff(steps)).mean()) / variance, 0.0) if variance > 0.0 else 0.0


def unmoved(seen: Seen, of: Real, windows: float) -> float:
    """The std of what was seen to move once at most, so many windows after it was told last: it may have jumped
    anywhere, with a chance by Laplace's rule of succession."""
    if sum(a != b for (_, a), (_, b) in pairwise(seen)) > 1:
        return 0.0
    return span(of) / math.sqrt(12.0) * windows / (seen[-1][0] - seen[0][0] + 1.0 + windows)


def as_before(phases: Floats, values: Floats, here: Floats) -> tuple[float, float] | None:
    """Mean and std of what a context will be where all cycles are `here` (p,), by what it was (n,) near there, at
    `phases` (n, p) of them; None where that was seldom."""
    apart = np.abs(phases - here)
    then = values[(np.minimum(apart, 1.0 - apart) <= NEAR).all(axis=1)]
    if len(then) < FEWEST:
        return None
    return float(then.mean()), float(then.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(then))


def ahead(
    context: Context, found: Mapping[str, Step], of: Sequence[Real], windows: float, stds: float = 0.0
) -> Context:
    """The context so many windows later, and so many stds further the way it goes; within the range of each."""
    moved: Context = {}
    for one in of:
        step = found.get(one.name, Step())
        further = stds * step.doubt(max(windows, 1.0))
        here = float(context[one.name])
        value = native(one, scaled(one, here) + windows * step.step + further)
        inside = min(max(value, min(one.low, here)), max(one.high, here))
        moved[one.name] = wrapped(one, value) if one.periodic else inside
    return moved
