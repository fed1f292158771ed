"""The point of a box where an acquisition is largest: one batch of starts, screened, climbed and polished.

Starts are points spread over the box and points near the best measured ones; all are on the grids of the box. The
compiled part is arqon_kernels/_cpu/maximize.py. Public: maximize, climbed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from arqon_gp.deadline import NEVER, Deadline
from arqon_gp.design import recurrence
from arqon_gp.knobs import Categorical, Floats, Interval, Split, coordinates
from arqon_gp.rows import Integers
from arqon_gp.space import Box, Space
from arqon_kernels import acquisition as kernel
from arqon_kernels.acquisition import CHOICE, CONTINUOUS, FIXED, GRID, Domain, Problem

RAW, NEAR, STARTS = 640, 160, 12
FRONT_RAW, FRONT_NEAR, FRONT_STARTS = 256, 64, 8  # a value of the hypervolume costs more, its hills are wider
POLISHED, FRONT_POLISHED = 4, 2
SCREEN_SAMPLES, FRONT_SCREEN_SAMPLES, CLIMB_SAMPLES = 16, 8, 32
CLIMB_STEPS, FRONT_CLIMB_STEPS, POLISH_STEPS = 12, 6, 40
APART = 0.05  # of the box: starts nearer than this would climb the same hill
NEAREST, FARTHEST = 0.003, 0.3  # of the box: stds of the points near good ones
MOST_GRID_POINTS = 10_000  # of one knob; a finer grid is searched as an interval and rounded to its nearest point


def maximize(
    p: Problem, space: Space, box: Box, good: Floats, rng: np.random.Generator, deadline: Deadline = NEVER
) -> tuple[Floats, float]:
    """The point (d,) of the box, on its grids, and its value. `good` (g, d): measured points to look near.

    When the time is over, the best start that was polished, else climbed, else screened.
    """
    domain = _domain(space, box)
    if (domain.role == FIXED).all():
        return domain.low, float(kernel.values(p, domain.low[None, :], p.A.shape[2])[0])
    front = p.goal == kernel.HYPERVOLUME
    good = good + np.where(_periodic(space), np.rint(0.5 * (domain.low + domain.high) - good), 0.0)  # on the same arc
    X = _starts(domain, good, rng, *(FRONT_RAW, FRONT_NEAR) if front else (RAW, NEAR))
    screened = kernel.values(p, X, min(FRONT_SCREEN_SAMPLES if front else SCREEN_SAMPLES, p.A.shape[2]))
    kept = _apart(X, screened, domain, FRONT_STARTS if front else STARTS)
    X, found = X[kept], screened[kept]
    samples, steps = min(CLIMB_SAMPLES, p.A.shape[2]), FRONT_CLIMB_STEPS if front else CLIMB_STEPS
    X, found = _moved(X, found, lambda X: kernel.climb(p, domain, X, samples, steps), deadline)
    kept = _apart(X, found, domain, FRONT_POLISHED if front else POLISHED)
    X, found = X[kept], found[kept]
    X, found = _moved(X, found, lambda X: kernel.polish(p, domain, X, p.A.shape[2], POLISH_STEPS), deadline)
    best = int(np.argmax(found))
    return X[best], float(found[best])


def climbed(p: Problem, space: Space, box: Box, x: Floats, fixed: Sequence[int]) -> Floats:
    """A row (d,) moved uphill in the box, with these columns, and all second ones, as they are."""
    domain, X, still = _domain(space, box), x[None, :].copy(), [*fixed, *range(len(space.knobs), len(x))]
    domain.low[still], domain.high[still], domain.role[still] = x[still], x[still], FIXED
    kernel.polish(p, domain, X, p.A.shape[2], POLISH_STEPS)
    return np.asarray(X[0])


def _moved(X: Floats, value: Floats, move: Callable[[Floats], Floats], deadline: Deadline) -> tuple[Floats, Floats]:
    """The starts, moved in place, and their values; with a deadline those there was time for, or the best one as it
    was."""
    if deadline.never:
        return X, move(X)
    found: list[float] = []
    for r in range(len(X)):
        if deadline.passed():
            break
        found.append(float(move(X[r : r + 1])[0]))
    return (X[: len(found)], np.array(found)) if found else (X[:1], value[:1])


def _domain(space: Space, box: Box) -> Domain:
    low, high, flat = [], [], list[float]()
    role, first, size = [], [], []
    for knob, domain in zip(space, box.domains, strict=True):
        ordered = coordinates(knob, domain)
        low.append(ordered[0])
        high.append(ordered[-1])
        first.append(len(flat))
        size.append(len(ordered))
        flat += ordered
        if ordered[0] == ordered[-1]:
            role.append(FIXED)
        elif isinstance(knob, Categorical) and not knob.ordered:
            role.append(CHOICE)
        else:
            ordinary = domain.ordinary if isinstance(domain, Split) else domain
            role.append(CONTINUOUS if isinstance(ordinary, Interval) or len(ordered) > MOST_GRID_POINTS else GRID)
    for _ in space.split:
        low, high, role, first, size = [*low, 0.0], [*high, 0.0], [*role, FIXED], [*first, 0], [*size, 0]
    return Domain(np.array(low), np.array(high), np.array(role), np.array(first), np.array(size), np.array(flat))


def _periodic(space: Space) -> npt.NDArray[np.bool_]:
    return np.array([not isinstance(knob, Categorical) and knob.periodic for knob in space])


def _starts(domain: Domain, good: Floats, rng: np.random.Generator, raw: int, near: int) -> Floats:
    """`raw` points spread over the domain and `near` points around the good ones, on the grids."""
    d, width = len(domain.low), domain.high - domain.low
    X = domain.low + recurrence(d, raw, rng.random(d)) * width
    if len(good):
        centre = np.clip(good[np.arange(near) % len(good)], domain.low, domain.high)
        std = NEAREST * (FARTHEST / NEAREST) ** rng.random((near, 1))
        moved = rng.random((near, d)) < max(0.3, 2.0 / d)  # few columns at a time where there are many
        X = np.vstack([X, np.clip(centre + moved * std * width * rng.normal(size=(near, d)), domain.low, domain.high)])
    for i in np.flatnonzero(domain.role >= GRID):
        grid = domain.values[domain.first[i] : domain.first[i] + domain.size[i]]
        if domain.role[i] == CHOICE:  # every choice as often as the others
            fresh = rng.random(len(X)) < 0.5
            fresh[:raw] = True
            drawn = grid[np.minimum((rng.random(len(X)) * len(grid)).astype(int), len(grid) - 1)]
            X[:, i] = np.where(fresh, drawn, X[:, i])
        k = np.clip(np.searchsorted(grid, X[:, i]), 1, len(grid) - 1)
        X[:, i] = np.where(X[:, i] - grid[k - 1] <= grid[k] - X[:, i], grid[k - 1], grid[k])
    return np.ascontiguousarray(X)


def _apart(X: Floats, value: Floats, domain: Domain, most: int) -> Integers:
    """Rows of the best starts, none near a better one while others are left."""
    width = np.where(domain.high > domain.low, domain.high - domain.low, 1.0)
    return kernel.apart(X / width, np.argsort(-value, kind="stable"), most, APART)
