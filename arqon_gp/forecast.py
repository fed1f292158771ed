"""What the context will be in the next windows, as it has gone on lately. No model.

A random walk with drift, for each context on its own: the next window adds the median step of the last ones, where
these agree, and its doubt is their spread (Hyndman and Athanasopoulos 2021, section 5.2; robust, for traffic has
spikes). A cycle is gone round the shorter way. Public: Step, steps, ahead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arqon_gp.cliffs import NORMAL_MAD
from arqon_gp.knobs import Real, wrapped
from arqon_gp.records import Context

LATEST = 8  # windows that tell how the context goes on
Seen = tuple[tuple[int, float], ...]  # the number of a window, and what was told of a context then; in order
SURE = 2.0  # standard errors from which on a step is one


@dataclass(frozen=True, slots=True)
class Step:
    """By how much a context moves a window, and the std of that, native units."""

    step: float = 0.0
    std: float = 0.0


def steps(seen: Seen, of: Real) -> Step:
    """The step of one context, from what was told of it; over a gap it is taken to have moved evenly."""
    if len(seen) < 3:
        return Step()
    numbers, values = np.array(seen).T
    apart, span = np.diff(values), of.high - of.low
    if of.periodic:
        apart = (apart + 0.5 * span) % span - 0.5 * span
    apart /= np.diff(numbers)
    middle = float(np.median(apart))
    spread = NORMAL_MAD * float(np.median(np.abs(apart - middle)))
    sure = abs(middle) > SURE * spread / math.sqrt(len(apart))
    return Step(middle if sure else 0.0, math.hypot(spread, 0.0 if sure else middle))


def ahead(
    context: Context, found: Mapping[str, Step], of: Sequence[Real], windows: float, stds: float = 0.0
) -> Context:
    """The context so many windows later, and so many stds further the way it goes; within the range of each."""
    moved: Context = {}
    for one in of:
        step = found.get(one.name, Step())
        further = stds * step.std * math.sqrt(max(windows, 1.0))
        here = float(context[one.name])
        value = here + windows * step.step + further
        inside = min(max(value, min(one.low, here)), max(one.high, here))
        moved[one.name] = wrapped(one, value) if one.periodic else inside
    return moved
