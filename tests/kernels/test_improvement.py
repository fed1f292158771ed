"""Expected hypervolume improvement: against the torch reference, quadrature, botorch, and far below the front."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions.non_dominated import NondominatedPartitioning
from botorch.utils.testing import MockModel, MockPosterior

from arqon_kernels._cpu import improvement as compiled
from arqon_kernels.boxes import Boxes, decompose_all
from arqon_kernels.improvement import log_expected_hvi, log_expected_hvi_gradient

KINDS = [  # sign and is_log of three objectives, of which two take the first two
    ([1.0, 1.0, 1.0], [False, False, False]),
    ([-1.0, 1.0, -1.0], [False, False, False]),
    ([-1.0, -1.0, -1.0], [True, True, True]),
    ([1.0, 1.0, 1.0], [True, True, True]),
    ([-1.0, 1.0, 1.0], [True, False, True]),
]
SHAPES = [(1, 0, 2), (1, 1, 2), (1, 1, 3), (5, 3, 2), (7, 4, 3), (3, 8, 2), (4, 8, 3), (2, 13, 3), (3, 0, 3)]
Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Boxes]


def case(kind: int, shape: tuple[int, int, int], std: float = 0.4, below: float = 0.0) -> Case:
    """mean (S, m), std (m,), sign, is_log, boxes: fronts of outcomes near 0, the candidate `below` them."""
    S, P, m = shape
    random = np.random.default_rng([kind, *shape])
    sign, is_log = np.array(KINDS[kind][0][:m]), np.array(KINDS[kind][1][:m])

    def objective(u: np.ndarray) -> np.ndarray:
        return np.where(is_log, sign * np.exp(u), sign * u)

    F = objective(0.5 * random.normal(size=(S, P, m)))
    if P > 2:
        F[:, 1] = F[:, 0]  # a duplicate, and a tie
        F[:, 2, 0] = F[:, 0, 0]
    mean = 0.3 * random.normal(size=(S, m)) - sign * below
    return mean, std * np.array([1.0, 0.7, 1.3])[:m], sign, is_log, decompose_all(F, objective(-1.2 * sign))


def by_quadrature(mean: np.ndarray, std: np.ndarray, sign: np.ndarray, is_log: np.ndarray, boxes: Boxes) -> float:
    """The mean over samples of E[HVI], psi(lower) - psi(upper) = E[(min(h, upper) - lower)_+] on a fine grid of u."""
    z = np.linspace(-9, 9, 200_001)
    weight = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    total = 0.0
    for s in range(len(mean)):
        for k in range(boxes.count[s]):
            product = 1.0
            for j in range(len(std)):
                u = mean[s, j] + std[j] * z
                h = sign[j] * (np.exp(u) if is_log[j] else u)
                gain = np.minimum(h, boxes.upper[s, k, j]) - boxes.lower[s, k, j]
                product *= float(weight @ np.maximum(gain, 0.0))
            total += product
    return total / len(mean)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("shape", [(1, 0, 2), (2, 3, 2), (2, 3, 3)])
def test_the_value_is_the_integral(kind: int, shape: tuple[int, int, int]) -> None:
    arguments = case(kind, shape)
    # the grid's kinks at the edges cost it (18 / 200,000)^2 of the second derivative
    assert math.exp(log_expected_hvi(*arguments)) == pytest.approx(by_quadrature(*arguments), rel=1e-7)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("below", [0.0, 3.0, 12.0])
def test_value_and_gradients_are_those_of_the_reference(kind: int, shape: tuple[int, int, int], below: float) -> None:
    mean, std, sign, is_log, boxes = case(kind, shape, below=below)
    inputs = [torch.tensor(x, requires_grad=True) for x in (mean, std)]
    expected = log_expected_hvi(*inputs, sign, is_log, boxes)
    expected.backward()
    value, *gradients = log_expected_hvi_gradient(mean, std, sign, is_log, boxes)
    assert value == pytest.approx(expected.item(), rel=1e-11, abs=1e-10)
    for ours, theirs in zip(gradients, inputs, strict=True):
        assert theirs.grad is not None
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("P", [1, 5, 12])
def test_linear_outcomes_agree_with_botorch(P: int, m: int) -> None:
    mean, std, sign, is_log, _ = case(0, (1, 1, m))
    F, reference = np.random.default_rng([P, m]).normal(0, 0.5, (P, m)), np.full(m, -1.3)
    partitioning = NondominatedPartitioning(torch.as_tensor(reference), torch.as_tensor(F))
    posterior = MockPosterior(mean=torch.as_tensor(mean)[None], variance=torch.as_tensor(std**2)[None, None])
    theirs = ExpectedHypervolumeImprovement(MockModel(posterior), reference.tolist(), partitioning)
    expected = theirs(torch.zeros(1, 1, 1, dtype=torch.double)).item()
    found = log_expected_hvi(mean, std, sign, is_log, decompose_all(F[None], reference))
    assert math.exp(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("m", [2, 3])
def test_the_gradient_is_that_of_the_value_also_with_a_small_std(kind: int, m: int) -> None:
    for std, below in itertools.product((0.3, 0.008), (0.0, 1.5)):
        mean, scale, sign, is_log, boxes = case(kind, (3, 6, m), std, below)
        _, grad_mean, grad_std = log_expected_hvi_gradient(mean, scale, sign, is_log, boxes)

        def along(step: float, a: np.ndarray, b: np.ndarray, arguments: Case) -> float:
            mean, scale, *rest = arguments
            return float(log_expected_hvi(mean + step * a, scale + step * b, *rest))

        random = np.random.default_rng(m)
        for _ in range(3):
            a, b, h = random.normal(size=(3, m)), random.normal(size=m), 1e-3 * std
            f = [along(k * h, a, b, (mean, scale, sign, is_log, boxes)) for k in (-2, -1, 1, 2)]
            expected = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
            assert (a * grad_mean).sum() + b @ grad_std == pytest.approx(expected, rel=1e-6, abs=1e-7 / std)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("m", [2, 3])
def test_the_rescue_in_logs_is_the_sum(kind: int, m: int) -> None:
    mean, std, sign, is_log, boxes = case(kind, (5, 7, m), below=1.0)
    value, grad_mean, grad_std = log_expected_hvi_gradient(mean, std, sign, is_log, boxes)
    logs = compiled.edge_logs(boxes.edges, sign, is_log)
    mean_2, std_2, work = (
        np.full_like(mean, np.nan),
        np.full_like(std, np.nan),
        np.full((3, m, *logs.shape[::2]), np.nan),
    )
    indices = (boxes.lower_index, boxes.upper_index, boxes.count)
    found = compiled.rescue(mean, std, sign, is_log, boxes.edges, logs, boxes.edge_count, *indices, mean_2, std_2, work)
    assert found == pytest.approx(value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(mean_2, grad_mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(std_2, grad_std, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("m", [2, 3])
def test_candidates_rank_however_far_below_the_front(kind: int, m: int) -> None:
    values = []
    for below in np.arange(0.0, 30.0, 0.25):
        value, grad_mean, grad_std = log_expected_hvi_gradient(*case(kind, (4, 6, m), below=below))
        assert math.isfinite(value)
        assert np.isfinite(grad_mean).all()
        assert np.isfinite(grad_std).all()
        values.append(value)
    assert (np.diff(values) < 0).all()
    assert values[-1] < -1000


def test_the_two_ways_meet_where_one_takes_over() -> None:
    mean, std, sign, is_log, boxes = case(0, (4, 6, 3))
    low, high = 0.0, 30.0
    for _ in range(60):  # to the candidate whose sum is 1e-280
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if log_expected_hvi(mean - middle, std, sign, is_log, boxes) > math.log(1e-280)
            else (low, middle)
        )
    slope = log_expected_hvi_gradient(mean - low, std, sign, is_log, boxes)[1].sum()
    above, below = (log_expected_hvi(mean - x, std, sign, is_log, boxes) for x in (low - 1e-6, low + 1e-6))
    assert above - below == pytest.approx(2e-6 * slope, rel=1e-5)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("std", [1e-9, 1e-30, 0.0])
def test_a_vanishing_std_gives_the_improvement_itself_and_never_nan(kind: int, m: int, std: float) -> None:
    for below in (-1.0, 0.0, 2.0):
        mean, scale, sign, is_log, boxes = case(kind, (3, 5, m), std, below)
        h = np.where(is_log, sign * np.exp(mean), sign * mean)
        gains = np.clip(
            np.minimum(h[:, None], boxes.upper) - np.where(np.isinf(boxes.lower), 1e9, boxes.lower), 0, None
        )
        expected = gains.prod(axis=-1).sum() / 3
        value, grad_mean, grad_std = log_expected_hvi_gradient(mean, scale, sign, is_log, boxes)
        assert not np.isnan(value)
        assert not np.isnan(grad_mean).any()
        assert not np.isnan(grad_std).any()
        if expected > 1e-3:
            assert math.exp(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("m", [2, 3])
def test_what_cannot_improve_is_minus_infinity_with_no_gradient(m: int) -> None:
    boxes = decompose_all(np.ones((2, 1, m)), np.full(m, 0.5))  # -exp(u) never reaches 0.5
    value, *gradients = log_expected_hvi_gradient(np.zeros((2, m)), np.ones(m), -np.ones(m), np.ones(m, bool), boxes)
    assert value == -math.inf
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0.0)


def test_an_exponential_outcome_against_a_reference_below_zero_by_hand() -> None:
    boxes = decompose_all(np.empty((1, 0, 2)), np.array([-1.0, -2.0]))  # E[HVI] = (E h_0 + 1) (E h_1 + 2)
    value = log_expected_hvi(np.array([[0.1, 0.2]]), np.array([0.5, 0.3]), np.ones(2), np.ones(2, bool), boxes)
    assert math.exp(value) == pytest.approx((math.exp(0.225) + 1) * (math.exp(0.245) + 2), rel=1e-14)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("m", [2, 3])
def test_without_slopes_it_is_the_same_whatever_stood_in_the_scratch(kind: int, m: int) -> None:
    mean, std, sign, is_log, boxes = case(kind, (5, 6, m))
    table = np.full((3, *mean.T.shape, boxes.edges.shape[-1]), np.nan)
    logs = compiled.edge_logs(boxes.edges, sign, is_log)
    compiled.fill_table(mean, std, sign, is_log, boxes.edges, logs, table)
    parts = [compiled.volume(s, boxes.lower_index[s], boxes.upper_index[s], boxes.count[s], table) for s in range(5)]
    assert math.log(np.mean(parts)) == pytest.approx(log_expected_hvi(mean, std, sign, is_log, boxes), abs=1e-13)


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("size", [0.4, 0.004])
def test_nan_is_not_hidden(kind: int, size: float) -> None:
    mean, std, sign, is_log, boxes = case(kind, (3, 4, 3), size)
    for j in range(3):
        spoilt = mean.copy()
        spoilt[1, j] = np.nan
        assert math.isnan(log_expected_hvi(spoilt, std, sign, is_log, boxes))
        assert math.isnan(log_expected_hvi(mean, np.where(np.arange(3) == j, np.nan, std), sign, is_log, boxes))


def test_what_does_not_fit_is_refused() -> None:
    mean, std, sign, is_log, boxes = case(0, (3, 4, 3))
    with pytest.raises(ValueError, match="expected shapes"):
        log_expected_hvi(mean[:2], std, sign, is_log, boxes)
    with pytest.raises(ValueError, match="signs"):
        log_expected_hvi(mean, std, 2 * sign, is_log, boxes)
    with pytest.raises(ValueError, match="std"):
        log_expected_hvi(mean, -std, sign, is_log, boxes)
