"""Where the acquisition is largest in a box: screening, then projected BFGS with a search of the grids, compiled.

Columns that are grids or categories never leave their values: a numeric grid is first relaxed to its interval, then
snapped, then searched value by value.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled
from arqon_kernels._cpu.acquisition import gradient_there, value_only
from arqon_kernels._cpu.bfgs import DONE, STEPS, VALUE, accept, judge, propose, state
from arqon_kernels._cpu.samples import Work, workspace
from arqon_kernels.acquisition import CHOICE, CONTINUOUS, GRID, Domain, Problem

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LEAST_SLOPE = 1e-5
ROUGH, TOLERANCE = 1e-3, 1e-6  # of the log value, while starts are compared and at the end
MOST_ROUNDS = 8
MOST_CHOICES = 64  # values of one column looked at in one round


@compiled
def apart(X: Floats, order: Integers, most: int, gap: float) -> Integers:
    chosen, count = np.empty(most, np.int64), 0
    for r in order:
        if count == most:
            break
        alone = True
        for c in range(count):
            farthest = 0.0
            for i in range(X.shape[1]):
                farthest = max(farthest, abs(X[r, i] - X[chosen[c], i]))
            if farthest <= gap:
                alone = False
                break
        if alone:
            chosen[count] = r
            count += 1
    return chosen[:count]


@compiled
def move_all(p: Problem, domain: Domain, X: Floats, samples: int, steps: int, polish: bool) -> Floats:
    """Move each start of X (r, d) uphill, in place; the values (r,). One function, so that it is compiled once.

    To polish: climb where nothing is a grid and search the grids, in turn; else grids are relaxed, then snapped.
    """
    w, found = workspace(p, samples), np.empty(len(X))
    movable, tolerance, grids = np.empty(len(domain.role), np.bool_), TOLERANCE if polish else ROUGH, False
    for i in range(len(domain.role)):
        movable[i] = domain.role[i] == CONTINUOUS or (domain.role[i] == GRID and not polish)
        grids |= domain.role[i] >= GRID
    for r in range(len(X)):
        for _ in range(MOST_ROUNDS):
            found[r] = _climb(p, domain, X[r], movable, steps, tolerance, w)
            if not grids:
                break
            if not polish:
                _snap(domain, X[r])
                found[r] = value_only(p, X[r], w)
                break
            better = _step_grids(p, domain, X[r], found[r], w)
            if not better > found[r] + TOLERANCE:
                break
            found[r] = better
    return found


@compiled
def _snap(domain: Domain, x: Floats) -> None:
    """Numeric grid columns to their nearest value."""
    for i in range(len(x)):
        if domain.role[i] == GRID:
            x[i] = domain.values[domain.first[i] + _nearest(domain, i, x[i])]


@compiled
def _nearest(domain: Domain, i: int, at: float) -> int:
    values = domain.values[domain.first[i] : domain.first[i] + domain.size[i]]
    k = int(np.searchsorted(values, at))
    if k == len(values) or (k > 0 and at - values[k - 1] <= values[k] - at):
        k -= 1
    return k


@compiled
def _step_grids(p: Problem, domain: Domain, x: Floats, value: float, w: Work) -> float:
    """One round over the grid columns: each is moved to its best neighbour (1, 2, 4, ... steps away) or choice."""
    for i in range(len(x)):
        if domain.role[i] < GRID or domain.size[i] < 2:
            continue
        count, here = domain.size[i], _nearest(domain, i, x[i])
        best, at = value, here
        everything = domain.role[i] == CHOICE or count <= 8
        reach = count if everything else 2 * int(math.log2(count)) + 2
        for c in range(min(reach, MOST_CHOICES)):
            k = c
            if not everything:
                k = here + (1 << (c // 2)) * (1 if c % 2 == 0 else -1)
            if k == here or k < 0 or k >= count:
                continue
            x[i] = domain.values[domain.first[i] + k]
            found = value_only(p, x, w)
            if found > best:
                best, at = found, k
        x[i] = domain.values[domain.first[i] + at]
        value = best
    return value


@compiled
def _climb(
    p: Problem, domain: Domain, x: Floats, movable: npt.NDArray[np.bool_], steps: int, tolerance: float, w: Work
) -> float:
    """Projected BFGS from x, in place, over the movable columns; the value reached."""
    low, high = x.copy(), x.copy()
    for i in range(len(x)):
        if movable[i]:
            low[i], high[i] = domain.low[i], domain.high[i]
    # the first step goes a tenth of the box at the most: the value is a logarithm, its slope no length
    s = state(low, high, x, LEAST_SLOPE, tolerance, 0.1)
    value = value_only(p, s.x, w)
    if not math.isfinite(value):
        return value
    gradient = np.empty(len(x))
    gradient_there(p, s.x, gradient, w)
    s.numbers[VALUE] = -value
    s.gradient[:] = -gradient
    propose(s)
    while s.counts[DONE] == 0 and s.counts[STEPS] < steps:
        value = value_only(p, s.there, w)
        if judge(s, -value):
            gradient_there(p, s.there, gradient, w)
            accept(s, -value, -gradient)
    x[:] = s.x
    return float(-s.numbers[VALUE])
