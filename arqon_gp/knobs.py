"""A knob, the domains it may move in, and the way between its native values and the unit interval.

A knob is a Real, an Integer or a Categorical. Encoding: numbers to [0, 1] linearly or by their logarithm, the k-th of n
choices to k / (n - 1). Values out of bounds encode outside [0, 1], in the rows of a model at most REACH far: from a
value of 1e300 nothing is learned but that it was far out; a log knob at or below zero encodes like its lower bound,
because it has no logarithm; a special value stands at NOWHERE. On a periodic knob `high` is `low` again: its
values are those from `low` up to below `high`, and a domain of it is an arc, whose ends may lie beyond the bounds.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arqon_gp.records import Scalar

Floats = npt.NDArray[np.float64]
GRID_TOLERANCE = 1e-9  # of one grid step, or of the range
REACH = (-1.0, 2.0)  # unit coordinates: as far out of the bounds as these are apart
NOWHERE = 0.5  # the unit coordinate of a number that has no effect: as far from one end as from the other


@dataclass(frozen=True, slots=True)
class Real:
    """A float between `low` and `high`, on the grid `low + k step` if a step is given; or one of the `special` values,
    outside of that range, which mean something else: 0 = off. `passing`: time, of which nothing comes back."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    periodic: bool = False
    special: tuple[float, ...] = ()
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number between `low` and `high` in steps of `step`; or one of the `special` values."""

    name: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    periodic: bool = False
    special: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `choices`, which are neighbours of each other if `ordered`; a bool is Categorical((False, True))."""

    name: str
    choices: tuple[Scalar, ...]
    ordered: bool = False


Number = Real | Integer
Knob = Real | Integer | Categorical


@dataclass(frozen=True, slots=True)
class Interval:
    """All floats from `low` to `high`; of a periodic knob an arc, the whole circle if it is as long."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Steps:
    """The grid points number `first` to `last` (inclusive) of a knob; of a periodic one an arc."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Options:
    """The choices one may take, in the knob's order."""

    choices: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Of a knob with special values: a domain of its ordinary ones, or None, and some of the special ones."""

    ordinary: Interval | Steps | None
    special: tuple[Scalar, ...]


Domain = Interval | Steps | Options | Split


def grid_value(knob: Number, index: int) -> float | int:
    """Grid point number `index` of a knob with a step."""
    index = index % grid_size(knob) if knob.periodic else index
    match knob:
        case Integer():
            return knob.low + index * knob.step
        case Real():
            return float(f"{knob.low + index * (knob.step or 0.0):.12g}")  # 0.1 + 0.2 is 0.3 to the reader


def grid_size(knob: Number) -> int:
    """How many grid points a knob with a step has."""
    return math.floor((knob.high - knob.low) / (knob.step or 1.0) + GRID_TOLERANCE) + (not knob.periodic)


def wrapped(knob: Number, value: float) -> float:
    """The same point of a periodic knob from `low` up to below `high`; other knobs' values as they are."""
    if not knob.periodic or knob.low <= value < knob.high:
        return value
    inside = knob.low + (value - knob.low) % (knob.high - knob.low)
    return inside if inside < knob.high else knob.low  # rounding


def unit(knob: Knob, value: Scalar) -> float:
    """One native value in the unit cube."""
    match knob:
        case Categorical():
            return knob.choices.index(value) / max(len(knob.choices) - 1, 1)
        case Real() | Integer():
            number = float(value)
            if number in knob.special:
                return NOWHERE
            if not knob.log:
                return (number - knob.low) / (knob.high - knob.low)
            number = number if number > 0 else float(knob.low)
            return math.log(number / knob.low) / math.log(knob.high / knob.low)


def unit_all(knob: Knob, values: Sequence[Scalar]) -> Floats:
    """Native values (n,) in the unit cube, but for time within REACH."""
    if isinstance(knob, Categorical):
        return np.array([unit(knob, value) for value in values])
    numbers = np.array(values, dtype=float)
    if knob.log:
        found = np.log(np.where(numbers > 0, numbers, knob.low) / knob.low) / math.log(knob.high / knob.low)
    else:
        found = (numbers - knob.low) / (knob.high - knob.low)
    found = found if isinstance(knob, Real) and knob.passing else np.clip(found, *REACH)
    return np.asarray(np.where(np.isin(numbers, knob.special), NOWHERE, found) if knob.special else found)


def trends(knobs: Sequence[Knob], U: Floats) -> Floats:
    """What a level may follow (n, p) of these columns U (n, d) of the unit cube: numbers, two waves of a period."""
    columns = [np.zeros((len(U), 0))]
    for knob, u in zip(knobs, U.T, strict=True):
        if isinstance(knob, Real) and knob.periodic:
            angles = 2.0 * math.pi * u[:, None] * np.array([1.0, 2.0])
            columns += [np.sin(angles), np.cos(angles)]
        else:
            columns.append(u[:, None] - 0.5)
    return np.hstack(columns)


def from_unit(knob: Number, u: float) -> float:
    """The native value of a unit coordinate, before any grid."""
    if knob.log:
        return float(knob.low * math.exp(u * math.log(knob.high / knob.low)))
    return float(knob.low + u * (knob.high - knob.low))


def whole_domain(knob: Knob) -> Domain:
    """Everything the bounds allow."""
    if isinstance(knob, Categorical):
        return Options(knob.choices)
    return Split(ordinary_domain(knob), knob.special) if knob.special else ordinary_domain(knob)


def ordinary_domain(knob: Number) -> Interval | Steps:
    """Everything from `low` to `high`."""
    if isinstance(knob, Real) and knob.step is None:
        return Interval(knob.low, knob.high)
    return Steps(0, grid_size(knob) - 1)


def is_special(knob: Knob, value: Scalar) -> bool:
    """Whether a native value is one of the knob's special ones."""
    return not isinstance(knob, Categorical) and value in knob.special


def nearest(knob: Knob, value: float, domain: Domain) -> Scalar:
    """The value of a numeric domain nearest to `value`; a tie goes down. A special value is near itself alone, and left
    for an ordinary one where it is not in the domain."""
    match domain, knob:
        case Split(ordinary, special), (Real() | Integer()):
            if ordinary is None or value in special:
                return min(special, key=lambda s: abs(float(s) - value))
            return nearest(knob, value, ordinary)
        case Interval(low, high), (Real() | Integer()):
            value = _turned(knob, value, low, high, knob.high - knob.low)
            inside = wrapped(knob, min(max(value, low), high))
            return int(inside) if isinstance(knob, Integer) and float(inside).is_integer() else inside
        case Steps(first, last), (Real() | Integer()):
            index = _turned(knob, (value - knob.low) / (knob.step or 1.0), first, last, grid_size(knob))
            return grid_value(knob, min(max(math.ceil(index - 0.5), first), last))
    raise TypeError(f"{knob.name} is not a number")


def _turned(knob: Number, value: float, low: float, high: float, round: float) -> float:
    """The turn of a periodic value that is nearest to the middle of an arc, so that clipping finds the nearer end."""
    return value + round * math.floor((0.5 * (low + high) - value) / round + 0.5) if knob.periodic else value


def holds(knob: Knob, value: Scalar, domain: Domain) -> bool:
    """Whether the domain holds the value (a grid domain only its grid points)."""
    if is_special(knob, value):
        return isinstance(domain, Split) and value in domain.special
    if not isinstance(knob, Categorical) and wrapped(knob, float(value)) != float(value):
        return False  # another turn of a periodic knob, or NaN
    match domain, knob:
        case Split(ordinary, _), _:
            return ordinary is not None and holds(knob, value, ordinary)
        case Options(choices), _:
            return value in choices
        case Interval(low, high), (Real() | Integer()):
            return low <= _turned(knob, float(value), low, high, knob.high - knob.low) <= high
        case Steps(first, last), (Real() | Integer()):
            k = _turned(knob, (float(value) - knob.low) / (knob.step or 1.0), first, last, grid_size(knob))
            return abs(k - round(k)) <= GRID_TOLERANCE * max(1.0, abs(k)) and first <= round(k) <= last
    return False


def values(knob: Knob, domain: Domain) -> Sequence[Scalar] | None:
    """All values of a domain that has finitely many, in order, special ones first; None for an interval."""
    match domain, knob:
        case Split(ordinary, special), _:
            rest = () if ordinary is None else values(knob, ordinary)
            return None if rest is None else [*special, *rest]
        case Options(choices), _:
            return choices
        case Steps(first, last), (Real() | Integer()):
            return [grid_value(knob, k) for k in range(first, last + 1)]
    return None


def coordinates(knob: Knob, domain: Domain) -> list[float]:
    """The unit coordinates of a domain's values in order, of an interval its ends; an arc lies in one piece.

    The whole circle has half a turn more at each end, so that a search need not stop where it was cut open. Of special
    values there are none.
    """
    match domain, knob:
        case Split(ordinary, _), _:
            return [NOWHERE] if ordinary is None else coordinates(knob, ordinary)
        case Interval(low, high), (Real() | Integer()) if knob.periodic and high - low >= knob.high - knob.low:
            return [-0.5, 1.5]
        case Interval(low, high), _:
            return [unit(knob, low), unit(knob, high)]
        case Steps(first, last), (Real() | Integer()) if knob.periodic:
            return [k / grid_size(knob) for k in range(first, last + 1)]
    return sorted(unit(knob, value) for value in values(knob, domain) or ())


def ends(knob: Knob, domain: Domain) -> tuple[float, float]:
    """The first and the last of a domain's coordinates."""
    if isinstance(domain, Split):
        return (NOWHERE, NOWHERE) if domain.ordinary is None else ends(knob, domain.ordinary)
    if isinstance(domain, Steps) and not isinstance(knob, Categorical) and not knob.periodic:
        return unit(knob, grid_value(knob, domain.first)), unit(knob, grid_value(knob, domain.last))
    found = coordinates(knob, domain)
    return found[0], found[-1]


def distance(knob: Number, a: float, b: float) -> float:
    """How far apart two values are, on a periodic knob the shorter way round."""
    apart = abs(a - b)
    return min(apart % (knob.high - knob.low), -apart % (knob.high - knob.low)) if knob.periodic else apart


def same(knob: Knob, a: Scalar, b: Scalar) -> bool:
    """Equal up to float noise, 1e-9 of the range: 12 is 12.0, and 0.1 + 0.2 is 0.3."""
    if isinstance(knob, Categorical) or is_special(knob, a) or is_special(knob, b):
        return a == b
    return distance(knob, float(a), float(b)) <= GRID_TOLERANCE * (knob.high - knob.low)


def check_value(knob: Knob, value: object) -> Scalar:
    """A native value as the knob holds it: off-grid and out-of-bounds numbers are kept as they are."""
    if isinstance(knob, Categorical):
        value = value.item() if isinstance(value, np.generic) else value
        for choice in knob.choices:
            if choice == value and isinstance(value, bool | numbers.Real | str):
                return choice
        raise ValueError(f"{knob.name}: {value!r} is no choice; the choices are {list(knob.choices)}")
    number = value if type(value) is float else as_float(value)  # most are; a call takes its time
    if number is None or not math.isfinite(number):
        raise ValueError(f"{knob.name}: {value!r:.60} is not a finite number")
    number = wrapped(knob, number) if knob.periodic else number
    return int(number) if isinstance(knob, Integer) and number.is_integer() else number


def as_float(value: object) -> float | None:
    """A number as a float, of an int that is too large for one infinity; None for what is none, booleans too."""
    value = value.item() if isinstance(value, np.generic) else value
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def decoded(knob: Knob, u: float, domain: Domain) -> Scalar:
    """The value of a domain nearest to a unit coordinate; a special one only where there is no other."""
    if isinstance(domain, Split) and domain.ordinary is not None:
        domain = domain.ordinary
    match knob:
        case Categorical():
            options = domain.choices if isinstance(domain, Options) else knob.choices
            return min(options, key=lambda choice: abs(unit(knob, choice) - u))
        case Real() | Integer():
            return nearest(knob, from_unit(knob, min(max(u, REACH[0]), REACH[1])), domain)
