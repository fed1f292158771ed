"""The knobs together: boxes, conditions and rules, and the way of a config into the unit cube and back.

A `Box` is one domain a knob; of a space with rules or conditions only a part of it may be gone to. A knob with special
values has a second column, which says whether it is at one of them, and which; there, and while a knob has no effect,
its first column stands at NOWHERE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arqon_gp.knobs import (
    NOWHERE,
    Categorical,
    Domain,
    Floats,
    Interval,
    Knob,
    Options,
    Split,
    Steps,
    check_value,
    decoded,
    holds,
    is_special,
    nearest,
    same,
    unit,
    unit_all,
    values,
    whole_domain,
)
from arqon_gp.records import Params, Scalar
from arqon_gp.rules import Rule


@dataclass(frozen=True, slots=True)
class Condition:
    """A knob has an effect only while another one, a categorical, is at one of these choices."""

    knob: str
    on: str
    choices: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """One domain a knob, in the order of the space's knobs."""

    domains: tuple[Domain, ...]

    @property
    def single(self) -> bool:
        """Whether the box holds one point only."""
        return all(_size_is_one(domain) for domain in self.domains)

    @property
    def empty(self) -> bool:
        """Whether the box holds no point."""
        return any(_is_empty(domain) for domain in self.domains)


def _size_is_one(domain: Domain) -> bool:
    match domain:
        case Interval(low, high):
            return low == high
        case Steps(first, last):
            return first == last
        case Options(choices):
            return len(choices) == 1
        case Split(ordinary, special):
            return len(special) == 1 if ordinary is None else not special and _size_is_one(ordinary)


def _is_empty(domain: Domain) -> bool:
    match domain:
        case Interval(low, high):
            return low > high
        case Steps(first, last):
            return first > last
        case Options(choices):
            return not choices
        case Split(ordinary, special):
            return not special and (ordinary is None or _is_empty(ordinary))


@dataclass(frozen=True, slots=True)
class Space:
    """The knobs in the order of the config's bounds; when which of them has an effect (`conditions`, those of a knob
    after those of what it depends on), and what must hold between them."""

    knobs: tuple[Knob, ...]
    conditions: tuple[Condition, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __iter__(self) -> Iterator[Knob]:
        return iter(self.knobs)

    @property
    def names(self) -> list[str]:
        """Knob names in order."""
        return [knob.name for knob in self.knobs]

    @property
    def whole(self) -> Box:
        """Everything the bounds allow."""
        return Box(tuple(whole_domain(knob) for knob in self.knobs))

    @property
    def split(self) -> list[int]:
        """Numbers of the knobs with special values, in the order of their second columns."""
        return [i for i, knob in enumerate(self.knobs) if not isinstance(knob, Categorical) and knob.special]

    @property
    def irregular(self) -> bool:
        """Whether the space is more, or less, than a box."""
        return bool(self.conditions or self.rules or self.split)

    def switches(self, knob: Knob) -> bool:
        """Whether a knob has special values or conditions."""
        special = not isinstance(knob, Categorical) and bool(knob.special)
        return special or any(condition.knob == knob.name for condition in self.conditions)

    def inactive(self, params: Mapping[str, Scalar]) -> set[str]:
        """Names of the knobs without effect in a config; those that depend on them have none either."""
        gone: set[str] = set()
        for condition in self.conditions:
            if condition.on in gone or params.get(condition.on) not in condition.choices:
                gone.add(condition.knob)
        return gone

    def broken_rule(self, params: Params) -> Rule | None:
        """The first rule that a config breaks; rules that speak of an inactive knob are silent."""
        gone = self.inactive(params) if self.rules else set()
        return next((r for r in self.rules if gone.isdisjoint(r.knobs) and not r.holds(params)), None)

    def encode(self, params: Params) -> Floats:
        """One config as a row of unit coordinates: one a knob, then the second columns of those with special values."""
        return np.asarray(self.encode_all([params])[0])

    def encode_all(self, configs: Sequence[Params]) -> Floats:
        """Several configs as rows (n, d) of unit coordinates."""
        columns = [unit_all(knob, [params[knob.name] for params in configs]) for knob in self.knobs]
        for i in self.split:
            columns.append(_second(self.knobs[i], [params[self.knobs[i].name] for params in configs]))
        X = np.ascontiguousarray(np.array(columns).T.reshape(len(configs), len(columns)))
        if self.conditions:
            for x, params in zip(X, configs, strict=True):
                for name in self.inactive(params):
                    i = self.names.index(name)
                    x[i] = 0.0 if isinstance(self.knobs[i], Categorical) else NOWHERE
                    if i in self.split:
                        x[len(self.knobs) + self.split.index(i)] = 0.0
        return X

    def decode(self, x: Sequence[float] | Floats, box: Box) -> Params:
        """The config of the box nearest to a row of unit coordinates, special values and conditions left out."""
        return {
            knob.name: decoded(knob, float(u), domain)
            for knob, u, domain in zip(self.knobs, x, box.domains, strict=False)
        }

    def nearest(self, params: Params, box: Box, otherwise: Params) -> Params:
        """The point of a box nearest to a config in every knob; `otherwise` says which choice, or special value, where
        that one is not in it."""
        found: Params = {}
        for knob, domain in zip(self.knobs, box.domains, strict=True):
            value = params[knob.name]
            if is_special(knob, value) and not holds(knob, value, domain):
                value = otherwise[knob.name]
            if not isinstance(knob, Categorical):
                found[knob.name] = nearest(knob, float(value), domain)
            elif knob.ordered:
                found[knob.name] = decoded(knob, unit(knob, value), domain)
            else:
                wanted = value, otherwise[knob.name], *(values(knob, domain) or ())
                found[knob.name] = next(choice for choice in wanted if holds(knob, choice, domain))
        return found

    def contains(self, params: Params, box: Box) -> bool:
        """Whether every value lies in its domain and every rule is kept."""
        return self.broken_rule(params) is None and all(
            holds(knob, params[knob.name], domain) for knob, domain in zip(self.knobs, box.domains, strict=True)
        )

    def in_bounds(self, params: Params) -> bool:
        """Within min and max, or special, on the grid or off it, and every rule kept."""
        return not self.out_of_bounds(params) and self.broken_rule(params) is None

    def out_of_bounds(self, params: Params) -> list[str]:
        """Names of the knobs beyond their min or max."""
        return [
            knob.name
            for knob in self.knobs
            if not isinstance(knob, Categorical)
            and params[knob.name] not in knob.special
            and not knob.low <= float(params[knob.name]) <= knob.high
        ]

    def same(self, a: Params, b: Params) -> bool:
        """Whether two configs are one, up to float noise, grid rounding and what has no effect."""
        gone = self.inactive(a) & self.inactive(b)
        return all(knob.name in gone or same(knob, a[knob.name], b[knob.name]) for knob in self.knobs)

    def carried(self, params: Params, last: Params) -> Params:
        """The config with the last values of the knobs that have no effect: they wait for their return."""
        return params | {name: last[name] for name in self.inactive(params)}

    def check(self, params: Mapping[str, object], last: Params | None = None) -> Params:
        """The params as native values in knob order; ValueError names an unknown or missing knob or a bad value. Knobs
        without effect need not be there: they are as they were `last`."""
        known = {knob.name: check_value(knob, params[knob.name]) for knob in self.knobs if knob.name in params}
        if len(known) < len(params):
            unknown = next(name for name in params if name not in known)
            raise ValueError(f"unknown knob {unknown!r}; the knobs are {', '.join(self.names)}")
        gone = self.inactive(known) if last and self.conditions else set()
        if len(known) < len(self.knobs) and (missing := [n for n in self.names if n not in known and n not in gone]):
            raise ValueError(f"knob {missing[0]!r} is missing; give a value for each of {', '.join(self.names)}")
        return {name: last[name] if name in gone else known[name] for name in self.names} if last and gone else known


def _second(knob: Knob, chosen: Sequence[Scalar]) -> Floats:
    """0 for an ordinary value, k / n for the k-th of n special ones."""
    special = () if isinstance(knob, Categorical) else knob.special
    return np.array([(special.index(v) + 1) / len(special) if v in special else 0.0 for v in chosen])
