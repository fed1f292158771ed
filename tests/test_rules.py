"""Rules between knobs: what they may say, what they mean, and that they are never executed."""

from __future__ import annotations

import math

import pytest

from arqon_gp.rules import parse


@pytest.mark.parametrize(
    ("text", "given", "holds"),
    [
        ("a <= b", {"a": 2, "b": 2}, True),
        ("a < b", {"a": 2, "b": 2}, False),
        ("b >= a", {"a": 3, "b": 2}, False),
        ("2 * a + b / 4 - 1 > 3", {"a": 1, "b": 8}, False),
        ("2 * a + b / 4 - 1 > 2.5", {"a": 1, "b": 8}, True),
        ("1 < b / a <= 4", {"a": 2, "b": 8}, True),
        ("1 < b / a <= 4", {"a": 2, "b": 9}, False),
        ("-a ** 2 < 0", {"a": 3}, True),
        ("max(a, b, 5) <= 5", {"a": 1, "b": 6}, False),
        ("min(a) <= 1", {"a": 1}, True),
        ("sqrt(a) + log(b) + exp(0) + abs(-1) >= 5", {"a": 9, "b": 1}, True),
        ("pool.size * 2 <= 10", {"pool.size": 5}, True),
        ("on + 1 <= 1", {"on": False}, True),
        ("1 / a >= 0", {"a": 0}, False),
        ("log(a) <= 9", {"a": -1}, False),
        ("a ** 0.5 <= 9", {"a": -1}, False),
        ("exp(a) > 1", {"a": 1e6}, False),
    ],
)
def test_a_rule_holds_where_its_arithmetic_says_so(text: str, given: dict[str, float], holds: bool) -> None:
    assert parse("rule", text).holds(given) is holds


def test_a_rule_names_its_knobs_in_order_and_once() -> None:
    assert parse("rule", "max(a, pool.size) * a <= b.c.d").knobs == ("a", "pool.size", "b.c.d")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a <=", "is no expression"),
        ("a", "is no comparison"),
        ("a == b", "is no comparison"),
        ("a <= b and b <= c", "is no comparison"),
        ("1 <= 2", "speaks of no knob"),
        ("__import__('os').getpid() <= a", "is not understood"),
        ("a.b() <= 1", "is not understood"),
        ("sqrt(a, b) <= 1", "is not understood"),
        ("max(a, key=b) <= 1", "is not understood"),
        ("a % 2 <= 1", "is not understood"),
        ("a[0] <= 1", "is not understood"),
        ("'a' <= b", "is not understood"),
        ("True <= a", "is not understood"),
        ("(lambda: a) <= 1", "is not understood"),
        ("[a for a in b] <= a", "is not understood"),
    ],
)
def test_what_is_not_arithmetic_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse("rule", text)


def test_a_power_of_powers_ends_at_once() -> None:
    assert parse("rule", "9 ** 9 ** 9 ** 9 > a").holds({"a": 1}) is False
    assert parse("rule", "9 ** 99 > a").holds({"a": math.inf}) is False
