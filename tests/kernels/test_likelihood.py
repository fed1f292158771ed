"""The log posterior: against SciPy's densities, the torch reference, gpytorch and differences; honest where data are
degenerate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import lognorm, multivariate_normal

from arqon_gp.config import parse
from arqon_gp.mode import log_posterior
from arqon_gp.rows import NOISE_PRIOR, NOISE_RANGE, Rows, Scatter, Settings
from arqon_gp.twin import single_task_gp
from arqon_kernels import LogPosterior, covariance
from arqon_kernels._torch.likelihood import log_posterior as reference
from arqon_kernels.covariance import CATEGORY, CONTEXT, CONTEXT_CYCLE, CYCLE, NUMBER, TIME
from tests.by_gpytorch import objective

KINDS = [
    [NUMBER],
    [NUMBER] * 4,
    [CATEGORY],
    [CYCLE, CYCLE],
    [TIME],
    [CONTEXT, CONTEXT],
    [NUMBER, CATEGORY, CATEGORY],
    [NUMBER, TIME],
    [NUMBER, CONTEXT],
    [NUMBER, CYCLE, CONTEXT, CONTEXT_CYCLE, CATEGORY, TIME, NUMBER],
]
SCATTER = {"ss": 3.7, "dof": 9.0, "within_floor": 0.02}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shares": {"shares": True},
    "floors": {"floors": True},
    "scatter": {"shares": True, "floors": True, "more": SCATTER},
    "fixed noise": {"fixed": True, "shares": True},
}


def density(kinds: list[int], variant: str, n: int = 11, device: str | None = None) -> LogPosterior:
    given, d = VARIANTS[variant], len(kinds)
    random = np.random.default_rng([n, *kinds])
    X = random.random((n, d))
    for i, kind in enumerate(kinds):
        if kind == CATEGORY:
            X[:, i] = random.integers(0, 3, n) / 2.0
    return LogPosterior(
        X,
        random.normal(size=n) + np.sin(5 * X[:, 0]),
        1.0 / random.integers(1, 6, n) if given.get("shares") else np.ones(n),
        0.05 * random.random(n) if given.get("floors") else np.zeros(n),
        np.array(kinds),
        lengthscale_loc=random.normal(size=d),
        lengthscale_scale=random.uniform(0.5, 2.0, d),
        noise_prior=None if given.get("fixed") else (1.0, 2.0),
        **given.get("more", {}),
        device=device,
    )


def by_scipy(p: LogPosterior, theta: np.ndarray) -> tuple[float, float]:
    """The density and the mean: generalized least squares, then SciPy's normal and lognormal densities."""
    scale, noise = np.exp(theta[:-1]), math.exp(theta[-1])
    K = covariance(p.X, p.X, scale, p.kinds) + np.diag(noise * p.share + p.floor)
    weight = np.linalg.inv(K).sum(axis=0)
    constant = float(weight @ p.y / weight.sum())
    value = float(multivariate_normal.logpdf(p.y, np.full(len(p.y), constant), K))
    value += float(lognorm.logpdf(scale, p.lengthscale_scale, scale=np.exp(p.lengthscale_loc)).sum())
    if p.noise_prior is not None:
        loc, width = p.noise_prior
        value += float(lognorm.logpdf(noise, width, scale=math.exp(loc)))
    variance = noise + p.within_floor
    return value - 0.5 * p.dof * math.log(variance) - 0.5 * p.ss / variance, constant


def thetas(d: int) -> list[np.ndarray]:
    random = np.random.default_rng(d)
    return [np.append(random.uniform(-2.0, 1.5, d), log_noise) for log_noise in (-6.0, -2.0, 1.0)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_the_value_and_the_mean_are_those_of_scipy(kinds: list[int], variant: str) -> None:
    p = density(kinds, variant)
    for theta in thetas(len(kinds)):
        value, constant = by_scipy(p, theta)
        assert p(theta)[0] == pytest.approx(value, rel=1e-8, abs=1e-8)
        assert p.constant(theta) == pytest.approx(constant, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_value_and_gradient_are_those_of_the_reference(kinds: list[int], variant: str) -> None:
    p = density(kinds, variant)
    tensors = [torch.as_tensor(x) for x in (p.X, p.y, p.share, p.floor)]
    for theta in thetas(len(kinds)):
        there = torch.tensor(theta, requires_grad=True)
        expected = reference(
            there,
            *tensors,
            kinds,
            lengthscale_loc=torch.as_tensor(p.lengthscale_loc),
            lengthscale_scale=torch.as_tensor(p.lengthscale_scale),
            noise_prior=p.noise_prior,
            ss=p.ss,
            dof=p.dof,
            within_floor=p.within_floor,
        )
        expected.backward()
        assert there.grad is not None
        value, gradient = p(theta)
        assert value == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(gradient, there.grad.numpy(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_the_gradient_is_that_of_central_differences(kinds: list[int], variant: str) -> None:
    p, h = density(kinds, variant), 1e-3
    for theta in thetas(len(kinds)):
        _, gradient = p(theta)
        for i in range(len(theta) - (p.noise_prior is None)):
            step = h * np.eye(len(theta))[i]
            f = [p(theta + k * step)[0] for k in (-2, -1, 1, 2)]
            expected = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
            assert gradient[i] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        if p.noise_prior is None:
            assert gradient[-1] == 0.0, "the noise is given"


@pytest.mark.parametrize("n", [1, 2, 3, 33, 64])
def test_odd_sizes_are_no_exception_to_it(n: int) -> None:
    p = density([NUMBER, CATEGORY, CONTEXT], "scatter", n)
    theta = np.array([-0.4, 0.2, 0.1, -2.5])
    assert p(theta)[0] == pytest.approx(by_scipy(p, theta)[0], rel=1e-8)
    first, gradient = p(theta)
    p(theta + 1.0)
    again, gradient_again = p(theta)
    assert first == again, "the scratch arrays carry nothing over"
    np.testing.assert_array_equal(gradient, gradient_again)


SPACE = {
    "seed": 1,
    "bounds": {
        "x": {"min": 0, "max": 1},
        "c": {"type": "categorical", "choices": ["a", "b", "c"]},
        "y": {"min": 0, "max": 1},
        "e": {"type": "categorical", "choices": ["a", "b"]},
    },
}


@pytest.mark.parametrize("learned", [True, False])
def test_it_is_n_times_the_objective_of_gpytorch_up_to_a_constant(learned: bool) -> None:
    space, random, n = parse(SPACE).space, np.random.default_rng(4), 12
    X = random.random((n, 4))
    X[:, 1], X[:, 3] = random.integers(0, 3, n), random.integers(0, 2, n)
    scatter = Scatter(np.zeros((1, 2)), np.array([2.5]), np.array([6.0]))
    rows = Rows(
        X, random.normal(size=n), X[:, [0, 2]], 1.0 / random.integers(1, 4, n), np.ones(n, dtype=bool),
        0.03 * random.random(n), scatter, 0.01, 0.0, 1.0, (), np.arange(n),
    )  # fmt: skip
    settings = Settings(space, ("value",), frozenset() if learned else frozenset({"value"}))
    ours = log_posterior(rows, settings, learned=learned)
    differences = []
    for _ in range(5):
        theta = random.uniform(-1.5, 1.0, 5)
        theta[-1] = theta[-1] if learned else math.log(1e-6)
        scale = np.exp(theta)
        h = {
            "lengthscale": scale[[0, 2]].tolist(),
            "category": scale[[1, 3]].tolist(),
            "noise": [scale[-1]],
            "mean": [ours.constant(theta)],  # gpytorch has the mean as a parameter: at its best
        }
        model = single_task_gp(rows, settings, h, torch.device("cpu"), learned=learned)
        theirs = objective(model, rows)
        theirs.train()
        with torch.no_grad():
            value = float(theirs(model(*model.train_inputs), model.train_targets))
        differences.append(ours(theta)[0] - n * value)
    # gpytorch divides ss, dof and priors by n with the rest
    np.testing.assert_allclose(differences, differences[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_on_a_torch_device_it_is_the_same(kinds: list[int], variant: str) -> None:
    ours, there = density(kinds, variant), density(kinds, variant, device="cpu")
    for theta in thetas(len(kinds)):
        with torch.no_grad():  # a caller's
            (value, gradient), (other, other_gradient) = ours(theta), there(theta)
        assert other == pytest.approx(value, rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(other_gradient, gradient, rtol=1e-7, atol=1e-7)
        assert there.constant(theta) == pytest.approx(ours.constant(theta), rel=1e-9, abs=1e-9)
        for a, b in zip(there.inverse(theta), ours.inverse(theta), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def test_on_a_torch_device_the_climb_ends_at_the_same_maximum_and_where_it_is_told_to() -> None:
    ours, there = density([NUMBER, NUMBER], "scatter", 30), density([NUMBER, NUMBER], "scatter", 30, "cpu")
    box = np.array([0.0, 0.0, -3.0]), np.full(3, -5.0), np.full(3, 3.0)
    (x, value), (y, other) = ours.climb(*box, 100), there.climb(*box, 100)
    assert other == pytest.approx(value, abs=1e-3)
    np.testing.assert_allclose(y, x, atol=0.02)
    start, at_start = there.climb(*box, 100, lambda: True)
    np.testing.assert_array_equal(start, box[0])
    assert at_start == pytest.approx(there(box[0])[0])
    assert at_start < other
    assert there.climb(*box, 0)[1] == pytest.approx(at_start)


def test_on_a_torch_device_what_is_not_positive_definite_is_minus_infinity_too() -> None:
    p = LogPosterior(
        np.full((3, 1), 0.5), np.arange(3.0), np.ones(3), np.full(3, -0.1), np.array([NUMBER]),
        lengthscale_loc=np.zeros(1), lengthscale_scale=np.ones(1), noise_prior=NOISE_PRIOR, device="cpu",
    )  # fmt: skip
    theta = np.log([1.0, 1e-4])
    assert p(theta)[0] == p.climb(theta, theta - 1, theta + 0.1, 9)[1] == -math.inf
    with pytest.raises(np.linalg.LinAlgError):
        p.inverse(theta)


DEGENERATE = {
    "one point": (np.array([[0.5, 0.5]]), np.array([0.0])),
    "duplicates": (np.full((6, 2), 0.3), np.arange(6.0)),
    "duplicates alike": (np.full((6, 2), 0.3), np.ones(6)),
    "constant outcomes": (np.random.default_rng(0).random((8, 2)), np.zeros(8)),
    "nearly singular": (0.3 + 1e-9 * np.arange(20.0).reshape(10, 2), np.sin(np.arange(10.0))),
    "a fine grid": (np.linspace(0, 1, 60).repeat(2).reshape(60, 2), np.linspace(-1, 1, 60)),
    "huge outcomes": (np.random.default_rng(0).random((8, 2)), 1e12 * np.arange(8.0)),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("noise", [NOISE_RANGE[0], 1e-6, 1e-12, 1e-17, NOISE_RANGE[1]])
@pytest.mark.parametrize("scale", [0.025, 1.0, 1e4])
def test_degenerate_data_give_finite_numbers_or_minus_infinity(name: str, noise: float, scale: float) -> None:
    X, y = DEGENERATE[name]
    n = len(y)
    p = LogPosterior(
        X, y, np.ones(n), np.zeros(n), np.array([NUMBER, NUMBER]),
        lengthscale_loc=np.full(2, 1.7), lengthscale_scale=np.full(2, math.sqrt(3)), noise_prior=NOISE_PRIOR,
    )  # fmt: skip
    value, gradient = p(np.log([scale, scale, noise]))
    assert math.isfinite(value) or value == -math.inf
    assert np.isfinite(gradient).all()
    if noise >= NOISE_RANGE[0]:
        assert math.isfinite(value), "within the range that is searched nothing is singular"


def test_what_is_not_positive_definite_is_minus_infinity_with_no_gradient() -> None:
    p = LogPosterior(
        np.full((3, 1), 0.5), np.arange(3.0), np.ones(3), np.full(3, -0.1), np.array([NUMBER]),
        lengthscale_loc=np.zeros(1), lengthscale_scale=np.ones(1), noise_prior=NOISE_PRIOR,
    )  # fmt: skip
    value, gradient = p(np.log([1.0, 1e-4]))
    assert value == -math.inf
    np.testing.assert_array_equal(gradient, np.zeros(2))
