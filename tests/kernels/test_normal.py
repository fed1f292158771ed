"""Normal and lognormal tails: against the torch reference, quadrature and scipy, down to where nothing else reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch

from arqon_kernels import normal
from arqon_kernels._cpu import normal as compiled

OPTIONS = ["log_put", "log_call"]
STDS = [1e-9, 1e-6, 1e-3, 0.0099, 0.0101, 0.1, 0.7, 3.0, 20.0]


def log_p(d: float, std: float) -> float:
    """log(Phi(d) - exp(std^2 / 2 - std d) Phi(d - std)) by quadrature of std int_0^inf exp(-std t) Phi(d - t) dt."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    width = min(40.0 / std, d + 40.0) if d > 0 else 40.0 / (0.5 + std - d)  # beyond it is less than 1e-17 of all
    cuts = np.linspace(0.0, width, 41)
    t = (cuts[:-1, None] + np.diff(cuts)[:, None] * (nodes + 1) / 2).ravel()
    w = (np.diff(cuts)[:, None] * weights / 2).ravel()
    log_integrand = -std * t + scipy.special.log_ndtr(d - t)
    top = log_integrand.max()
    return math.log(std) + top + math.log(w @ np.exp(log_integrand - top))


def difference(f: object, at: tuple[float, ...], i: int, h: float) -> float:
    """The derivative in argument i by a central difference of fourth order."""

    def shifted(k: int) -> float:
        return float(f(*(x + k * h if j == i else x for j, x in enumerate(at))))  # type: ignore[operator]

    return (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * h)


def test_the_values_by_hand() -> None:
    assert normal.log_ndtr(0.0) == pytest.approx(-math.log(2), rel=1e-15)
    assert normal.log_ei(1.5, 2.0, 1.5) == pytest.approx(math.log(2 / math.sqrt(2 * math.pi)), rel=1e-15)
    tenth = 0.07965567455405798  # Black: 2 Phi(0.1) - 1, at the money forward, std 0.2
    assert normal.log_call(-0.02, 0.2, 0.0) == pytest.approx(math.log(tenth), rel=1e-14)
    assert normal.log_put(-0.02, 0.2, 0.0) == pytest.approx(math.log(tenth), rel=1e-14)


def test_erfcx_is_that_of_scipy() -> None:
    x = np.concatenate((-np.geomspace(1e-12, 25, 200), [0.0], np.geomspace(1e-12, 1e12, 800)))
    found = np.array([compiled.erfcx(v) for v in x])
    np.testing.assert_allclose(found[x >= 0], scipy.special.erfcx(x[x >= 0]), rtol=2e-15)
    np.testing.assert_allclose(found[x < 0], scipy.special.erfcx(x[x < 0]), rtol=1e-12)  # exp(625) has no more


def test_the_branchless_exponential_is_that_of_the_library() -> None:
    a = np.concatenate((np.linspace(-708, 708, 2001), np.linspace(-0.5, 0.5, 1001), np.geomspace(1e-300, 1e-3, 50)))
    value, less = np.array([compiled.exp_and_expm1(v) for v in a]).T
    np.testing.assert_allclose(value, np.exp(a), rtol=5e-16)
    np.testing.assert_allclose(less, np.expm1(a), rtol=2e-15)


def test_log_ndtr_is_the_reference_with_its_slope() -> None:
    points = np.concatenate((-np.geomspace(1e-9, 1e6, 300), np.linspace(-5.01, 9, 300), [1e-300]))
    z = torch.tensor(points, requires_grad=True)
    expected = normal.log_ndtr(z)
    expected.sum().backward()
    value, slope = normal.log_ndtr_slope(points)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-13)
    assert z.grad is not None
    x = -points[points < -100]
    np.testing.assert_allclose(slope[points < -100], x + 1 / x - 2 / x**3 + 10 / x**5, rtol=1e-14)
    near = points >= -100  # torch's own derivative loses z^2 eps below
    np.testing.assert_allclose(slope[near], z.grad.numpy()[near], rtol=1e-11)


def test_log_ei_is_the_reference_with_its_slopes() -> None:
    z = np.concatenate((-np.geomspace(1e-9, 1e6, 400), np.linspace(-8, 8, 201), np.geomspace(1e-3, 1e6, 50)))
    mean, std = 0.3 + 2.0 * z, np.full_like(z, 2.0)
    inputs = [torch.tensor(x, requires_grad=True) for x in (mean, std, np.full_like(z, 0.3))]
    expected = normal.log_ei(*inputs)
    expected.sum().backward()
    value, *slopes = normal.log_ei_slopes(mean, std, 0.3)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(slopes, inputs, strict=True):
        assert theirs.grad is not None
        # erfcx leaves the reference z^2 eps between -1 and -40, and its derivative z^4 eps
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-9, atol=1e-15)


def test_log_ei_far_below_follows_its_series() -> None:
    for z in (-100.0, -1e3, -1e6):
        u = 1 / z**2
        series = math.log1p(-3 * u + 15 * u**2 - 105 * u**3 + 945 * u**4)
        expected = -0.5 * z * z - 0.5 * math.log(2 * math.pi) - 2 * math.log(-z) + series
        value, in_mean, in_std, in_best = normal.log_ei_slopes(z, 1.0, 0.0)
        assert value == pytest.approx(expected, rel=1e-15)
        assert in_mean == -in_best == pytest.approx(-z + 2 / -z, rel=10 / z**4 + 1e-15)
        assert in_std == pytest.approx(z * z + 3, rel=10 / z**4 + 1e-15)


@pytest.mark.parametrize("std", STDS)
def test_options_are_the_integral_of_their_payoff(std: float) -> None:
    for d in (-37.0, -8.0, -1.0, -0.3 * std, 0.0, 0.3 * std, 0.5 * std, std, 1.0 + std, 7.0 + std):
        log_strike = 0.4
        mean = log_strike - d * std
        d = (log_strike - mean) / std
        # the arguments' own rounding moves d by 1e-16 / std, and the log by d times that
        slack = 2e-13 * (1 + abs(d)) + 2e-16 * (1 + abs(d)) / std
        assert normal.log_put(mean, std, log_strike) == pytest.approx(log_strike + log_p(d, std), abs=slack)
        forward = mean + 0.5 * std**2
        assert normal.log_call(mean, std, log_strike) == pytest.approx(forward + log_p(std - d, std), abs=slack)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("std", [0.05, 0.3, 1.0, 2.5])
def test_options_are_the_reference_with_its_gradient(name: str, std: float) -> None:
    d = np.concatenate((np.linspace(-12, 12, 97), np.linspace(-0.2 * std, 1.2 * std, 15)))
    log_strike = np.full_like(d, -0.7)
    inputs = [torch.tensor(x, requires_grad=True) for x in (log_strike - d * std, np.full_like(d, std), log_strike)]
    expected = getattr(normal, name)(*inputs)
    expected.sum().backward()
    value, *slopes = getattr(normal, name + "_slopes")(*(x.detach().numpy() for x in inputs))
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-11, atol=1e-10)
    for ours, theirs in zip(slopes, inputs, strict=True):
        assert theirs.grad is not None
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("std", [1e-3, 0.0095, 0.0101, 0.4, 5.0])
def test_the_slopes_are_those_of_the_value(name: str, std: float) -> None:
    value, slopes = getattr(normal, name), getattr(normal, name + "_slopes")
    for d in (-30.0, -2.0, 0.2 * std, 0.9 * std, 2.0 + std):
        at = (-d * std, std, 0.0)
        found = slopes(*at)[1:]
        for i in range(3):
            expected = difference(value, at, i, 1e-3 * std)
            assert found[i] == pytest.approx(expected, rel=1e-7, abs=1e-9 / std)


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_jumps_where_the_branches_meet(name: str) -> None:
    slopes = getattr(normal, name + "_slopes")
    std = compiled.SERIES
    for d in (-30.0, -1.0, 0.3 * std, 2.0):
        below, above = (slopes(-d * s, s, 0.0) for s in (np.nextafter(std, 0), std))
        np.testing.assert_allclose(below, above, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("std", STDS)
def test_the_vectorised_passes_are_the_logs(std: float) -> None:
    d = np.concatenate((np.linspace(-37, 37, 149), np.linspace(-0.1 * std, 1.1 * std, 13)))
    expected = np.array([compiled.log_option(x, std) for x in d]).T
    expected[1:] *= np.exp(expected[0])
    for call in (True, False):
        value, slope, density = d.copy(), np.full_like(d, np.nan), np.full_like(d, np.nan)
        compiled.option_pass(std, call, value, slope, density)
        np.testing.assert_allclose(np.log(value), expected[0], rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(slope, expected[1 if call else 2], rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(density, expected[3], rtol=1e-11)
    gain = d * std
    logs = np.array([compiled.log_ei(x, std, 0.0) for x in gain]).T
    slope, density = np.full_like(d, np.nan), np.full_like(d, np.nan)
    compiled.linear_pass(std, -1.0, gain, slope, density)
    np.testing.assert_allclose(gain, np.exp(logs[0]), rtol=1e-12)
    np.testing.assert_allclose(slope, -np.exp(logs[0]) * logs[1], rtol=1e-12)
    np.testing.assert_allclose(density, np.exp(logs[0]) * logs[2], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("std", [0.0, 1e-300, 1e-9])
def test_a_vanishing_std_leaves_the_payoff_itself(std: float) -> None:
    assert normal.log_ei(1.0, std, 0.25) == pytest.approx(math.log(0.75), rel=1e-15)
    assert normal.log_put(0.0, std, 1.0) == pytest.approx(math.log(math.e - 1), rel=1e-14)
    assert normal.log_call(1.0, std, 0.0) == pytest.approx(math.log(math.e - 1), rel=1e-14)
    for mean, at in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        for found in (normal.log_ei_slopes, normal.log_put_slopes, normal.log_call_slopes):
            assert np.isfinite(found(mean, std, at)).all()


def test_nan_stays_where_it_is_and_arguments_broadcast() -> None:
    mean = np.array([[0.0, np.nan, 1.0]])
    for name in ("log_ei", *OPTIONS):
        found = getattr(normal, name)(mean, np.array([[0.5], [2.0]]), 0.3)
        assert found.shape == (2, 3)
        np.testing.assert_array_equal(np.isnan(found), [[False, True, False]] * 2)


def test_a_negative_std_is_refused() -> None:
    for name in ("log_ei", *OPTIONS):
        with pytest.raises(ValueError, match="std"):
            getattr(normal, name)(0.0, -1.0, 0.0)
