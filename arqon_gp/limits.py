"""Where one may go: pure geometry of max_delta, and the rate of changes.

A move is legal when every knob stays within its step limit of every anchor: what was last reported, each candidate that
may run since, and last_good. `box` is built so that float arithmetic agrees: for any value v of it |v - anchor| <=
delta, on a periodic knob the shorter way round. Where several anchors leave two arcs of a circle, the box is the longer
one. Public: box, scaled, broken, legal, steps_between, step_towards, retry_after_s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from arqon_gp.knobs import (
    GRID_TOLERANCE,
    Categorical,
    Domain,
    Integer,
    Interval,
    Knob,
    Options,
    Real,
    Split,
    Steps,
    distance,
    grid_size,
    grid_value,
    is_special,
    ordinary_domain,
    wrapped,
)
from arqon_gp.legal import one_by_one
from arqon_gp.records import Params, Scalar
from arqon_gp.space import Box, Condition, Space
from arqon_gp.steps import Absolute, MayChange, Places, Ratio, StepLimit, Switch

N = TypeVar("N", int, float)
StepLimits = Sequence[StepLimit]
TURN_ROUNDING = 1e-12  # of the range of a periodic knob


def box(space: Space, steps: StepLimits, anchors: Iterable[Params], within: Box | None = None) -> Box:
    """The points of the bounds (or of a box) within one step of every anchor; `.empty` when there is none."""
    domains = list((within or space.whole).domains)
    for anchor in anchors:
        for i, (knob, step) in enumerate(zip(space, steps, strict=True)):
            domains[i] = _within(knob, step, anchor[knob.name], domains[i])
        for name, kept in _kept(space, steps, anchor).items():
            i = space.names.index(name)
            domain = domains[i]
            assert isinstance(domain, Options)
            domains[i] = Options(tuple(c for c in domain.choices if c in kept))
    return Box(tuple(domains))


def _kept(space: Space, steps: StepLimits, anchor: Params) -> dict[str, set[Scalar]]:
    """What the knobs that others depend on may be, so that none gains or loses its effect which may not.

    Of the conditions of a knob that has none, the first that is not met stays so.
    """
    kept: dict[str, set[Scalar]] = {}
    gone = space.inactive(anchor) if space.conditions else set()
    knobs = {knob.name: knob for knob in space}
    for name in _bound(space, steps):
        chain = _chain(space, name)
        if name in gone:
            first = next(c for c in chain if anchor[c.on] not in c.choices)
            other = knobs[first.on]
            assert isinstance(other, Categorical)
            wanted = {first.on: set(other.choices) - set(first.choices)}
        else:
            wanted = {condition.on: set(condition.choices) for condition in chain}
        for on, choices in wanted.items():
            kept[on] = kept.get(on, choices) & choices
    return kept


def _bound(space: Space, steps: StepLimits) -> list[str]:
    """Names of the knobs that may neither gain nor lose their effect."""
    conditional = {condition.knob for condition in space.conditions}
    return [
        knob.name
        for knob, step in zip(space, steps, strict=True)
        if knob.name in conditional and isinstance(step, Switch) and not step.allowed
    ]


def _chain(space: Space, name: str) -> list[Condition]:
    """All conditions that must be met for a knob to have an effect."""
    own = [condition for condition in space.conditions if condition.knob == name]
    return own + [further for condition in own for further in _chain(space, condition.on)]


def scaled(space: Space, steps: StepLimits, fraction: float) -> tuple[StepLimit, ...]:
    """A fraction of each step limit, but never less than one grid step; a free knob gets that fraction of its range.

    Nothing enters or leaves a special value, gains or loses its effect.
    """
    return tuple(_scaled_whole(space, knob, step, fraction) for knob, step in zip(space, steps, strict=True))


def _scaled_whole(space: Space, knob: Knob, step: StepLimit, fraction: float) -> StepLimit:
    less = _scaled(knob, step.step if isinstance(step, Switch) else step, fraction)
    return (
        less if isinstance(less, Switch) or not space.switches(knob) else Switch(less or MayChange(True), allowed=False)
    )


def _scaled(knob: Knob, step: StepLimit, fraction: float) -> StepLimit:
    match step, knob:
        case Absolute(delta), (Real() | Integer()) if delta > 0:
            return Absolute(max(fraction * delta, float(knob.step or 0.0)))
        case Ratio(factor, floor), _:
            return Ratio(factor**fraction, floor)
        case Places(count), _:
            return Places(max(1, int(fraction * count))) if count else step
        case None, Categorical(ordered=True):
            return Places(max(1, int(fraction * (len(knob.choices) - 1))))
        case None, (Real() | Integer()) if knob.log:
            return Ratio((knob.high / knob.low) ** fraction, float(knob.step or 0.0))
        case None, (Real() | Integer()):
            return Absolute(max(fraction * (knob.high - knob.low), float(knob.step or 0.0)))
    return step


def broken(space: Space, steps: StepLimits, anchors: Iterable[Params], params: Params) -> list[str]:
    """Names of the knobs whose step limit a move to `params` would break."""
    names = {}
    for anchor in anchors:
        for knob, step in zip(space, steps, strict=True):
            if not _permits(knob, step, anchor[knob.name], params[knob.name]):
                names[knob.name] = True
        if space.conditions:
            changed = space.inactive(anchor) ^ space.inactive(params)
            names |= {name: True for name in _bound(space, steps) if name in changed}
    return list(names)


def legal(space: Space, steps: StepLimits, here: Params, there: Params) -> bool:
    """Whether one step may lead from one config to the other (and so back)."""
    return not broken(space, steps, [here], there)


def steps_between(space: Space, steps: StepLimits, here: Params, there: Params) -> float:
    """How many legal steps lead from one config to the other; inf when none do."""
    count, at = 0, here
    while not legal(space, steps, at, there):
        further = step_towards(space, steps, at, there)
        if further is None or count > 10_000:
            return math.inf
        at, count = further, count + 1
    return count + (not space.same(at, there))


def step_towards(space: Space, steps: StepLimits, here: Params, there: Params) -> Params | None:
    """The config one legal step from `here` that is nearest to `there` in every knob; None when nothing can move.

    On a grid knob the step ends on the grid, except that it may end at `there` itself or stay at `here`. Where that
    would break a rule, or give or take an effect that may not change, the knobs move one after the other, as far as
    they can.
    """
    moved = {
        knob.name: _knob_towards(knob, step, here[knob.name], there[knob.name])
        for knob, step in zip(space, steps, strict=True)
    }
    if space.irregular and not _may_be(space, steps, here, moved):
        moved = one_by_one(space, here, moved, lambda params: _may_be(space, steps, here, params))
    return None if space.same(moved, here) else moved


def _may_be(space: Space, steps: StepLimits, here: Params, params: Params) -> bool:
    """Whether a step keeps the rules, if they hold where it begins, and the effects that may not change."""
    kept = space.broken_rule(params) is None or space.broken_rule(here) is not None
    return kept and not broken(space, steps, [here], params)


def retry_after_s(min_interval_s: float, changed_at: float | None, now: float) -> float:
    """Seconds until the rate limit allows the next change; 0 when it may come now."""
    if changed_at is None or min_interval_s <= 0:
        return 0.0
    return max(0.0, changed_at + min_interval_s - now)


def _reach(knob: Real | Integer, step: Absolute | Ratio, value: float) -> tuple[float, float]:
    """Lowest and highest value one step from `value`, such that the check below holds in float arithmetic too."""
    match step:
        case Absolute(delta):
            if knob.periodic:  # what rounding may add when a value is brought back into the bounds is left out
                delta = max(0.0, min(delta, 0.5 * (knob.high - knob.low)) - TURN_ROUNDING * (knob.high - knob.low))
            low, high = value - delta, value + delta
        case Ratio(factor, floor):
            low, high = min(value / factor, value - floor), max(value * factor, value + floor)
    while low < value and not _permits(knob, step, value, low):
        low = math.nextafter(low, value)
    while high > value and not _permits(knob, step, value, high):
        high = math.nextafter(high, value)
    return low, high


def _within(knob: Knob, step: StepLimit, anchor: Scalar, domain: Domain) -> Domain:
    match knob, step, domain:
        case _, None, _:
            return domain
        case _, Switch(inner, allowed), Split(ordinary, special):
            if is_special(knob, anchor):
                return domain if allowed else Split(None, tuple(s for s in special if s == anchor))
            near = None if ordinary is None else _within(knob, inner, anchor, ordinary)
            assert near is None or isinstance(near, Interval | Steps)
            return Split(near, special if allowed else ())
        case _, Switch(inner), _:
            return _within(knob, inner, anchor, domain)
        case Categorical(), MayChange(allowed), Options(choices):
            return domain if allowed else Options(tuple(c for c in choices if c == anchor))
        case Categorical(), Places(), Options(choices):
            return Options(tuple(c for c in choices if _permits(knob, step, anchor, c)))
        case ((Real() | Integer()), (Absolute() | Ratio()), Interval(a, b)):
            turn = knob.high - knob.low
            return Interval(*_common(knob, (a, b), _reach(knob, step, float(anchor)), turn, turn))
        case ((Real() | Integer()), Absolute(delta=0.0), Steps()):
            pinned = float(anchor)  # on the grid or off it: a frozen knob stays what it is
            return Interval(max(pinned, knob.low), min(pinned, knob.high))
        case ((Real() | Integer()), (Absolute() | Ratio()), Steps(first, last)):
            low, high = ((end - knob.low) / float(knob.step or 1.0) for end in _reach(knob, step, float(anchor)))
            ends = math.ceil(low - GRID_TOLERANCE), math.floor(high + GRID_TOLERANCE)
            return Steps(*_common(knob, (first, last), ends, grid_size(knob), grid_size(knob) - 1))
    raise TypeError(f"step limit {step} does not fit knob {knob}")


def _common(knob: Real | Integer, a: tuple[N, N], b: tuple[N, N], turn: N, whole: N) -> tuple[N, N]:
    """What two intervals have in common; the ends crossed where that is nothing. Of two arcs of a circle, which is
    `whole` long and repeats after a `turn`, the longer piece.
    """
    if not knob.periodic:
        return max(a[0], b[0]), min(a[1], b[1])
    if a[1] - a[0] >= whole:
        return b
    pieces = [(max(a[0], b[0] + k * turn), min(a[1], b[1] + k * turn)) for k in (-1, 0, 1)]
    return a if b[1] - b[0] >= whole else max(pieces, key=lambda piece: piece[1] - piece[0])


def _permits(knob: Knob, step: StepLimit, here: Scalar, there: Scalar) -> bool:
    match step:
        case None:
            return True
        case Switch(inner, allowed):
            if is_special(knob, here) or is_special(knob, there):
                return allowed or here == there
            return _permits(knob, inner, here, there)
        case MayChange(allowed):
            return allowed or here == there
        case Places(count):
            return isinstance(knob, Categorical) and abs(_place(knob, there) - _place(knob, here)) <= count
        case Absolute(delta):
            if isinstance(knob, Categorical):
                return False
            slack = GRID_TOLERANCE * float(knob.step or 0.0)  # grid noise
            return distance(knob, float(there), float(here)) <= delta + slack
        case Ratio(factor, floor):
            a, b = sorted((float(here), float(there)))
            return b - a <= floor or (a > 0 and b <= a * factor * (1 + GRID_TOLERANCE))


def _knob_towards(knob: Knob, step: StepLimit, here: Scalar, there: Scalar) -> Scalar:
    if _permits(knob, step, here, there):
        return there
    if isinstance(step, Switch):
        special = is_special(knob, here) or is_special(knob, there)
        return here if special else _knob_towards(knob, step.step, here, there)
    if isinstance(knob, Categorical):
        way = _place(knob, there) - _place(knob, here)
        return (
            knob.choices[_place(knob, here) + int(math.copysign(step.count, way))] if isinstance(step, Places) else here
        )
    if not isinstance(step, Absolute | Ratio):
        return here
    start, goal = float(here), float(there)
    if knob.periodic and abs(goal - start) > 0.5 * (knob.high - knob.low):  # the shorter way round
        goal -= math.copysign(knob.high - knob.low, goal - start)
    low, high = _reach(knob, step, start)
    target = min(max(goal, low), high)
    if isinstance(ordinary_domain(knob), Interval):
        return wrapped(knob, target)
    grid = float(knob.step or 1.0)
    k = (target - knob.low) / grid
    k = math.floor(k + GRID_TOLERANCE) if goal > start else math.ceil(k - GRID_TOLERANCE)
    towards = (knob.low + k * grid - start) * (goal - start) > 0
    value = grid_value(knob, k)
    return value if towards and _permits(knob, step, here, value) else here


def _place(knob: Categorical, choice: Scalar) -> int:
    return knob.choices.index(choice)
