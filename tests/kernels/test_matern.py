"""Matern-5/2: the compiled body against the torch reference, its gradient against autograd, and the formula by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arqon_kernels import matern52, matern52_vjp

SHAPES = [(1, 1, 1), (1, 5, 3), (7, 1, 2), (13, 11, 4), (33, 17, 1), (64, 65, 10), (0, 3, 2)]


def points(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng([n, m, d])
    A, B = random.random((n, d)), random.random((m, d))
    if n and m:
        B[0] = A[0]  # coincident points
    return A, B, random.uniform(0.05, 3.0, d)


def test_the_value_by_hand() -> None:
    s = math.sqrt(5) * 0.5  # r = 1 / 2
    expected = (1 + s + s * s / 3) * math.exp(-s)
    assert matern52(np.array([[0.0]]), np.array([[1.0]]), np.array([2.0]))[0, 0] == pytest.approx(expected, rel=1e-15)
    assert matern52(np.array([[0.3]]), np.array([[0.3]]), np.array([2.0]))[0, 0] == 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_compiled_body_is_the_reference(shape: tuple[int, int, int]) -> None:
    A, B, scale = points(*shape)
    expected = matern52(*(torch.as_tensor(x) for x in (A, B, scale))).numpy()
    np.testing.assert_allclose(matern52(A, B, scale), expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_the_gradient_is_that_of_autograd(shape: tuple[int, int, int]) -> None:
    A, B, scale = points(*shape)
    G = np.random.default_rng(1).normal(size=(len(A), len(B)))
    inputs = [torch.tensor(x, requires_grad=True) for x in (A, B, scale)]
    (matern52(*inputs) * torch.as_tensor(G)).sum().backward()
    for ours, theirs in zip(matern52_vjp(A, B, scale, G), inputs, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_the_reference_passes_a_gradient_check_where_points_are_apart_and_where_they_meet() -> None:
    A, B, scale = (torch.tensor(x, requires_grad=True) for x in points(4, 3, 2))
    assert torch.autograd.gradcheck(matern52, (A, B, scale), atol=1e-6)


def test_far_points_are_uncorrelated_and_near_ones_nearly_one() -> None:
    far = matern52(np.array([[0.0]]), np.array([[1e6]]), np.array([1.0]))
    near = matern52(np.array([[0.0]]), np.array([[1e-9]]), np.array([1.0]))
    assert far[0, 0] == 0.0
    assert near[0, 0] == pytest.approx(1.0, abs=1e-15)


def test_nan_stays_in_its_row() -> None:
    A, B, scale = points(5, 4, 3)
    clean = matern52(A, B, scale)
    A[2, 1] = np.nan
    found = matern52(A, B, scale)
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(clean, 2, axis=0))


def test_strided_and_integer_inputs_are_taken() -> None:
    A, B, scale = points(6, 4, 3)
    wide = np.repeat(A, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(matern52(np.asfortranarray(wide), B, scale), matern52(A, B, scale))
    assert matern52(np.array([[0, 1]]), np.array([[1, 1]]), np.array([1, 1])).shape == (1, 1)


@pytest.mark.parametrize(
    ("A", "B", "scale", "says"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), np.ones(3), "expected shapes"),
        (np.zeros(3), np.zeros((2, 3)), np.ones(3), "expected shapes"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.ones(2), "expected shapes"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(1), "positive"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.array([np.nan]), "positive"),
    ],
)
def test_what_does_not_fit_is_refused(A: np.ndarray, B: np.ndarray, scale: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        matern52(A, B, scale)
    with pytest.raises(ValueError, match=r"G: expected shape|expected"):
        matern52_vjp(A, B, scale, np.zeros((9, 9)))
