"""The minimiser in a box: valleys, bounds, walls, starts that are no good."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arqon_kernels import minimize

Floats = np.ndarray
FREE = (np.full(2, -5.0), np.full(2, 5.0))


def rosenbrock(x: Floats) -> tuple[float, Floats]:
    a, b = x
    value = (1 - a) ** 2 + 100 * (b - a * a) ** 2
    return float(value), np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])


def bowl(centre: Floats, weight: Floats) -> object:
    return lambda x: (float((weight * (x - centre) ** 2).sum()), 2 * weight * (x - centre))


def test_the_valley_of_rosenbrock_is_followed_to_its_end() -> None:
    x, value = minimize(rosenbrock, np.array([-1.2, 1.0]), *FREE, most_steps=200, value_tolerance=0.0)
    np.testing.assert_allclose(x, [1.0, 1.0], atol=1e-3)
    assert value < 1e-6


@pytest.mark.parametrize("start", [[-2.0, -3.0], [0.5, 2.0], [-1.0, 0.5]])
def test_a_box_that_cuts_the_valley_off_has_its_minimum_on_the_bound(start: list[float]) -> None:
    x, value = minimize(
        rosenbrock, np.array(start), np.full(2, -3.0), np.array([0.5, 2.0]), most_steps=200, value_tolerance=0.0
    )
    np.testing.assert_allclose(x, [0.5, 0.25], atol=1e-4)
    assert value == pytest.approx(0.25, abs=1e-6)


def test_a_minimum_outside_is_the_nearest_corner_or_face() -> None:
    weight = np.array([1.0, 30.0, 4.0])
    f = bowl(np.array([3.0, -2.0, 0.3]), weight)
    x, value = minimize(f, np.full(3, 0.5), np.zeros(3), np.ones(3), gradient_tolerance=1e-8)  # type: ignore[arg-type]
    np.testing.assert_allclose(x, [1.0, 0.0, 0.3], atol=1e-7)
    assert value == pytest.approx(4.0 + 120.0, rel=1e-9)


def test_a_badly_scaled_bowl_takes_few_steps() -> None:
    calls: list[Floats] = []
    f = bowl(np.array([0.3, -0.4, 0.1, 0.9]), np.array([1e-2, 1.0, 30.0, 1e3]))

    def counted(x: Floats) -> tuple[float, Floats]:
        calls.append(x)
        return f(x)  # type: ignore[operator,no-any-return]

    x, _ = minimize(counted, np.zeros(4), np.full(4, -2.0), np.full(4, 2.0), gradient_tolerance=1e-6, value_tolerance=0)
    np.testing.assert_allclose(x, [0.3, -0.4, 0.1, 0.9], atol=1e-3)
    assert len(calls) < 60


@pytest.mark.parametrize("nothing", [math.inf, math.nan, -math.inf])
def test_what_is_not_finite_is_a_wall(nothing: float) -> None:
    centre = np.array([0.9, 0.2])

    def walled(x: Floats) -> tuple[float, Floats]:
        if x[0] > 0.5:
            return nothing, np.full(2, math.nan)
        return float(((x - centre) ** 2).sum()), 2 * (x - centre)

    x, value = minimize(walled, np.zeros(2), *FREE, value_tolerance=0.0)
    assert math.isfinite(value)
    assert x[0] <= 0.5
    assert value < 0.85, "where it began"
    assert value == walled(x)[0]


def test_a_start_outside_begins_at_the_nearest_point_of_the_box() -> None:
    seen: list[Floats] = []

    def f(x: Floats) -> tuple[float, Floats]:
        seen.append(x.copy())
        return float((x**2).sum()), 2 * x

    start = np.array([9.0, -9.0])
    x, value = minimize(f, start, np.full(2, -1.0), np.full(2, 2.0), gradient_tolerance=1e-6)
    np.testing.assert_array_equal(seen[0], [2.0, -1.0])
    np.testing.assert_array_equal(start, [9.0, -9.0])
    assert all(((s >= -1) & (s <= 2)).all() for s in seen), "it never looks outside"
    assert value == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(x, 0.0, atol=1e-5)


@pytest.mark.parametrize("nothing", [math.inf, math.nan, -math.inf])
def test_a_start_without_a_value_is_infinity(nothing: float) -> None:
    x, value = minimize(lambda x: (nothing, np.full(2, math.nan)), np.array([7.0, 0.0]), *FREE)
    assert value == math.inf
    np.testing.assert_array_equal(x, [5.0, 0.0])


def test_a_gradient_that_is_nan_ends_where_it_was() -> None:
    x, value = minimize(lambda x: (1.0, np.full(2, math.nan)), np.array([1.0, 0.0]), *FREE)
    np.testing.assert_array_equal(x, [1.0, 0.0])
    assert value == 1.0


def test_a_box_of_one_point_is_that_point() -> None:
    at = np.array([0.3, 0.4])
    x, value = minimize(rosenbrock, np.zeros(2), at, at)
    np.testing.assert_array_equal(x, at)
    assert value == rosenbrock(at)[0]
