"""The covariance: the bodies against the torch reference, its rows against autograd, and the formula by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arqon_kernels import covariance
from arqon_kernels._cpu.covariance import row, row_vjp
from arqon_kernels.covariance import CATEGORY, CONTEXT, CONTEXT_CYCLE, CYCLE, NUMBER, TIME

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
SHAPES = [(1, 1), (1, 5), (7, 1), (13, 11), (33, 17), (64, 65)]
KINDS = [
    [NUMBER],
    [CATEGORY],
    [CYCLE],
    [TIME],
    [CONTEXT],
    [CONTEXT_CYCLE],
    [NUMBER] * 3,
    [NUMBER] * 10,
    [CATEGORY, CATEGORY, CATEGORY],
    [NUMBER, CATEGORY, NUMBER, CATEGORY],
    [CYCLE, NUMBER, CONTEXT_CYCLE],
    [NUMBER, TIME, CONTEXT],
    [CONTEXT_CYCLE, TIME, CATEGORY, CYCLE, CONTEXT, NUMBER, CATEGORY],
]


def points(n: int, m: int, kinds: list[int]) -> Case:
    """A (n, d), B (m, d), lengthscale, kinds: categories are codes, some points coincide, some lie a cycle apart."""
    random, d = np.random.default_rng([n, m, *kinds]), len(kinds)
    A, B = random.random((n, d)), random.random((m, d))
    for i, kind in enumerate(kinds):
        if kind == CATEGORY:
            A[:, i], B[:, i] = random.integers(0, 3, n) / 2.0, random.integers(0, 3, m) / 2.0
    if n and m:
        B[0] = A[0]
    if n > 2 and m > 2:
        B[1] = A[1] + np.isin(kinds, (CYCLE, CONTEXT_CYCLE))
    return A, B, random.uniform(0.05, 3.0, d), np.array(kinds)


def reference(A: np.ndarray, B: np.ndarray, scale: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    found = covariance(*(torch.as_tensor(x) for x in (A, B, scale)), kinds)
    return np.asarray(found.numpy())


def matern(r: float) -> float:
    s = math.sqrt(5) * r
    return (1 + s + s * s / 3) * math.exp(-s)


@pytest.mark.parametrize(
    ("kind", "a", "b", "scale", "expected"),
    [
        (NUMBER, 0.0, 1.0, 2.0, matern(0.5)),
        (NUMBER, 0.3, 0.3, 2.0, 1.0),
        (CONTEXT, 0.0, 1.0, 2.0, matern(0.5)),
        (CATEGORY, 0.0, 0.5, 2.0, math.exp(-0.5)),
        (CATEGORY, 0.5, 0.5 + 1e-6, 2.0, 1.0),
        (CYCLE, 0.0, 0.5, 2.0, matern(1 / (2 * math.pi))),
        (CYCLE, 0.1, 0.9, 0.1, matern(math.sin(0.2 * math.pi) / math.pi / 0.1)),
        (CYCLE, 0.0, 1.0, 0.1, 1.0),
        (CONTEXT_CYCLE, 0.0, 0.25, 1.0, matern(math.sqrt(0.5) / math.pi)),
        (TIME, 3.0, 1.0, 4.0, math.exp(-0.5)),
    ],
)
def test_one_column_by_hand(kind: int, a: float, b: float, scale: float, expected: float) -> None:
    found = covariance(np.array([[a]]), np.array([[b]]), np.array([scale]), np.array([kind]))
    assert found[0, 0] == pytest.approx(expected, rel=1e-14)


def test_knobs_share_one_distance_context_another_and_the_rest_decays_exponentially() -> None:
    kinds = [NUMBER, CYCLE, CONTEXT, CONTEXT, CATEGORY, CATEGORY, TIME]
    A, B = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]), np.array([[0.3, 0.5, 0.6, 0.8, 1.0, 0.0, 2.0]])
    scale = np.array([1.0, 1.0, 2.0, 2.0, 0.5, 0.1, 5.0])
    knobs = matern(math.sqrt(0.09 + 1 / math.pi**2))
    away = (1 / 0.5 + 0.0) / 2 + 2.0 / 5.0  # categories by their mean, the second one does not differ
    expected = knobs * matern(1.0 / 2.0) * math.exp(-away)
    assert covariance(A, B, scale, kinds)[0, 0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_matrix_is_the_reference(shape: tuple[int, int], kinds: list[int]) -> None:
    case = points(*shape, kinds)
    found = covariance(*case)
    assert found.shape == shape
    np.testing.assert_allclose(found, reference(*case), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_their_slopes_are_those_of_the_reference(shape: tuple[int, int], kinds: list[int]) -> None:
    A, Z, scale, kind = points(*shape, kinds)
    g = np.random.default_rng(1).normal(size=len(Z))
    knobs = np.isin(kind, (NUMBER, CYCLE))
    for x in A[:4]:
        k, by_r2, gradient = np.full(len(Z), np.nan), np.full(len(Z), np.nan), np.zeros(len(scale))
        row(x, np.ascontiguousarray(Z.T), scale, kind, k, by_r2)
        np.testing.assert_allclose(k, covariance(x[None, :], Z, scale, kind)[0], rtol=1e-12, atol=1e-300)
        row_vjp(x, np.ascontiguousarray(Z.T), scale, kind, g, by_r2, gradient)
        there = torch.tensor(x, requires_grad=True)
        (
            covariance(there[None, :], torch.as_tensor(Z), torch.as_tensor(scale), kind)[0] * torch.as_tensor(g)
        ).sum().backward()
        assert there.grad is not None
        np.testing.assert_allclose(gradient[knobs], there.grad.numpy()[knobs], rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(gradient[~knobs], 0.0)
        again = gradient.copy()
        row_vjp(x, np.ascontiguousarray(Z.T), scale, kind, g, by_r2, gradient)
        np.testing.assert_allclose(gradient, 2.0 * again, rtol=1e-12)


def test_the_slope_in_the_squared_distance_is_that_of_finite_differences_and_finite_where_points_meet() -> None:
    kind, one = np.array([NUMBER]), np.array([1.0])
    found = {}
    for r in (0.0, 0.4, 3.0):
        k, by_r2 = np.empty(1), np.empty(1)
        row(np.array([r]), np.zeros((1, 1)), one, kind, k, by_r2)
        found[r] = by_r2[0]
    assert found[0.0] == pytest.approx(-5 / 6, rel=1e-15)
    for r in (0.4, 3.0):
        t, h = r * r, 1e-5
        expected = (matern(math.sqrt(t + h)) - matern(math.sqrt(t - h))) / (2 * h)
        assert found[r] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_the_reference_passes_a_gradient_check_also_where_points_meet(kinds: list[int]) -> None:
    A, B, scale, kind = points(4, 3, kinds)
    if TIME in kinds:
        B[0, np.array(kinds) == TIME] += 0.1  # |a - b| has a kink where they meet
    inputs = tuple(torch.tensor(x, requires_grad=True) for x in (A, B, scale))
    assert torch.autograd.gradcheck(lambda *x: covariance(*x, kind), inputs, atol=1e-6)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_a_covariance_of_points_with_themselves_is_symmetric_one_on_the_diagonal_and_no_less_than_semidefinite(
    kinds: list[int],
) -> None:
    A, _, scale, kind = points(40, 1, kinds)
    K = covariance(A, A, scale, kind)
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_array_equal(np.diag(K), 1.0)
    assert np.linalg.eigvalsh(K).min() > -1e-12


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_points_have_no_covariances(n: int, m: int) -> None:
    for kinds in ([NUMBER, NUMBER], [NUMBER, CATEGORY, TIME]):
        case = points(n, m, kinds)
        assert covariance(*case).shape == (n, m)
        assert reference(*case).shape == (n, m)
        row(np.zeros(len(kinds)), np.ascontiguousarray(case[1].T), case[2], case[3], np.empty(m), np.empty(m))


def test_far_points_are_uncorrelated_and_near_ones_nearly_one() -> None:
    far = covariance(np.array([[0.0]]), np.array([[1e6]]), np.array([1.0]))
    near = covariance(np.array([[0.0]]), np.array([[1e-9]]), np.array([1.0]))
    assert 0.0 <= far[0, 0] < 1e-280, "the exponent is cut at 700"
    assert near[0, 0] == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("column", [0, 1, 3, 4, 5, 6])  # a code that is NaN is another category
def test_nan_stays_in_its_row(column: int) -> None:
    A, B, scale, kinds = points(5, 4, [NUMBER, CYCLE, CATEGORY, TIME, CONTEXT, CONTEXT_CYCLE, NUMBER])
    clean = covariance(A, B, scale, kinds)
    A[2, column] = np.nan
    found = covariance(A, B, scale, kinds)
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(clean, 2, axis=0))
    k, by_r2 = np.empty(5), np.empty(5)
    row(B[0], np.ascontiguousarray(A.T), scale, kinds, k, by_r2)
    assert np.isnan(k).tolist() == [False, False, True, False, False]


def test_strided_integer_and_listed_inputs_are_taken() -> None:
    A, B, scale, kinds = points(6, 4, [NUMBER] * 3)
    wide = np.repeat(A, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(covariance(np.asfortranarray(wide), B, scale), covariance(A, B, scale, kinds))
    np.testing.assert_array_equal(covariance(A, B, scale.tolist(), [0, 0, 0]), covariance(A, B, scale))
    assert covariance(np.array([[0, 1]]), np.array([[1, 1]]), np.array([1, 1])).shape == (1, 1)


@pytest.mark.parametrize(
    ("A", "B", "scale", "kinds", "says"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), np.ones(3), None, "expected shapes"),
        (np.zeros(3), np.zeros((2, 3)), np.ones(3), None, "expected shapes"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.ones(2), None, "expected shapes"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.ones(3), [0, 0], "expected shapes"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(1), None, "positive"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.array([np.nan]), None, "positive"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.ones(1), [6], "kinds: expected 0 to 5"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.ones(1), [-1], "kinds: expected 0 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(
    A: np.ndarray, B: np.ndarray, scale: np.ndarray, kinds: list[int] | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        covariance(A, B, scale, kinds)
