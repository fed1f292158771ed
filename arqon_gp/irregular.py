"""The point of an irregular space where an acquisition is largest: one with rules between knobs, special values or
conditions, which no box holds.

Points spread over it, each made legal, and good ones are improved by moves of a few knobs that get smaller from round
to round, each pulled back to where the rules hold; then the numbers of the best are climbed, all else as it is. Public:
best_in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from arqon_gp.deadline import Deadline
from arqon_gp.design import placed, recurrence, spread_one
from arqon_gp.knobs import Categorical, Domain, Floats, Knob, Split, decoded, ends, is_special, unit
from arqon_gp.legal import Region
from arqon_gp.records import Params, Scalar

RAW, CHILDREN, PARENTS, CLIMBED = 256, 96, 6, 3
WIDTHS = (0.3, 0.1, 0.03, 0.01)  # of the box: stds of the moves of each round
WIDE = 0.1  # moves smaller than this change numbers only
SWITCHES = 0.2  # of the moves of a knob with special values enter or leave them
APART = 1e-3  # of the cube: points nearer than this are one

Values = Callable[[Floats], Floats]
Climb = Callable[[Floats, list[int]], Floats]


def best_in(
    values: Values,
    climbed: Climb | None,
    region: Region,
    good: Sequence[Params],
    rng: np.random.Generator,
    deadline: Deadline,
) -> Params:
    """The config of the region where `values` (r,) of rows X (r, d) are largest. `good`: measured ones to look near.

    `climbed(x, fixed)`: a row moved uphill in the box with these columns as they are; None: there is no such way.
    """
    space, d = region.space, len(region.space.knobs)
    some = [placed(region, u, rng) for u in recurrence(d, RAW, rng.random(d))]
    found = [p for p in (*good, region.here) if region.contains(p)] + some
    value = values(space.encode_all(found))
    for width in WIDTHS:
        if deadline.passed():
            break
        parents = _best(region, found, value, PARENTS)
        children = [_moved(region, parents[i % len(parents)], width, rng) for i in range(CHILDREN)]
        found, value = parents + children, values(space.encode_all(parents + children))
    best = _best(region, found, value, CLIMBED)
    if climbed is not None and not deadline.passed():
        ruled = {name for rule in space.rules for name in rule.knobs}
        within = [_climbed(region, params, climbed, ruled) for params in best]  # keeps the rules whatever they are
        best += within + [region.pulled(_climbed(region, params, climbed, set()), params) for params in within]
    return best[int(np.argmax(values(space.encode_all(best))))]


def _best(region: Region, found: Sequence[Params], value: Floats, most: int) -> list[Params]:
    """The best ones, each once."""
    chosen: list[Params] = []
    rows: list[Floats] = []
    for i in np.argsort(-value, kind="stable").tolist():
        x = region.space.encode(found[i])
        if all(np.abs(x - row).max() > APART for row in rows):
            chosen.append(found[i])
            rows.append(x)
        if len(chosen) == most:
            break
    return chosen


def _moved(region: Region, params: Params, width: float, rng: np.random.Generator) -> Params:
    """The config with some knobs moved, legal."""
    space, d = region.space, len(region.space.knobs)
    which = rng.random(d) < max(0.3, 2.0 / d)
    which[rng.integers(d)] = True
    moved = dict(params)
    for i in np.flatnonzero(which).tolist():
        knob, domain = space.knobs[i], region.box.domains[i]
        moved[knob.name] = _moved_one(knob, domain, params[knob.name], width, rng)
    return region.pulled(moved, params)


def _moved_one(knob: Knob, domain: Domain, value: Scalar, width: float, rng: np.random.Generator) -> Scalar:
    switches = isinstance(domain, Split) and (is_special(knob, value) or rng.random() < SWITCHES)
    if switches or (isinstance(knob, Categorical) and not knob.ordered):
        return spread_one(knob, domain, rng.random()) if width >= WIDE else value
    low, high = ends(knob, domain)
    u = unit(knob, value) + width * (high - low) * float(rng.normal())
    return decoded(knob, min(max(u, low), high), domain)


def _climbed(region: Region, params: Params, climbed: Climb, still: set[str]) -> Params:
    """The config with its numbers moved uphill; those that are `still`, choices that others depend on, special values
    and knobs without effect stay as they are."""
    space, box = region.space, region.box
    still = still | space.inactive(params) | {condition.on for condition in space.conditions}
    if region.returns:
        still |= space.inactive(region.here)
    fixed = [i for i, knob in enumerate(space) if knob.name in still or is_special(knob, params[knob.name])]
    moved = space.decode(climbed(space.encode(params), fixed), box)
    return moved | {space.knobs[i].name: params[space.knobs[i].name] for i in fixed}
