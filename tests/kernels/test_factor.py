"""The root of a covariance's inverse: made, appended to and dropped from, against the torch reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arqon_kernels import covariance
from arqon_kernels._torch.factor import root as reference
from arqon_kernels.covariance import CATEGORY, NUMBER
from arqon_kernels.factor import append, drop, root, root_of

SIZES = [1, 2, 3, 4, 5, 17, 64, 131]


def matrix(n: int, noise: float = 1e-3) -> np.ndarray:
    X = np.random.default_rng(n).random((n, 3))
    K: np.ndarray = covariance(X, X, np.full(3, 0.7))
    return K + noise * np.eye(n)


def expected(K: np.ndarray) -> np.ndarray:
    return reference(torch.as_tensor(K)).numpy()


@pytest.mark.parametrize("n", SIZES)
def test_the_root_is_the_references_and_reads_the_lower_triangle_alone(n: int) -> None:
    K = matrix(n)
    np.testing.assert_allclose(root(K), expected(K), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(root(np.tril(K)), root(K))


@pytest.mark.parametrize("n", SIZES)
def test_rows_appended_one_by_one_give_the_root_of_all(n: int) -> None:
    K = matrix(n)
    grown = root(K[:1, :1])
    for i in range(1, n):
        grown = append(grown, K[i, :i], K[i, i])
    np.testing.assert_allclose(grown, expected(K), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", SIZES)
def test_a_dropped_row_leaves_the_root_of_the_others(n: int) -> None:
    K = matrix(n)
    for row in {0, n // 2, n - 1}:
        rest = np.delete(np.delete(K, row, 0), row, 1)
        found = drop(root(K), row)
        np.testing.assert_array_equal(found, np.tril(found))
        assert (np.diag(found) > 0.0).all()
        np.testing.assert_allclose(found, expected(rest), rtol=1e-8, atol=1e-8)


def test_append_then_drop_gives_what_was_there() -> None:
    K = matrix(9)
    before = root(K[:8, :8])
    np.testing.assert_array_equal(drop(append(before, K[8, :8], K[8, 8]), 8), before)


def test_a_row_that_repeats_another_needs_its_noise() -> None:
    K = matrix(6, noise=0.0)
    with pytest.raises(np.linalg.LinAlgError, match="appended to 6"):
        append(root(K), K[3], 0.9)
    grown = append(root(K), K[3], 1.0 + 1e-6)
    repeated = np.block([[K, K[:, 3:4]], [K[3:4], np.ones((1, 1))]]) + np.diag([0.0] * 6 + [1e-6])
    np.testing.assert_allclose(grown @ repeated @ grown.T, np.eye(7), atol=1e-6)


@pytest.mark.parametrize("K", [np.ones((5, 5)) - 1e-9 * np.eye(5), -np.eye(3), np.full((2, 2), np.nan)])
def test_what_is_not_positive_definite_is_refused(K: np.ndarray) -> None:
    with pytest.raises(np.linalg.LinAlgError, match=f"of {len(K)} rows"):
        root(K)


@pytest.mark.parametrize("row", [-1, 4])
def test_a_row_that_is_not_there_cannot_be_dropped(row: int) -> None:
    with pytest.raises(IndexError, match=f"expected 0 to 3, found {row}"):
        drop(root(matrix(4)), row)


def test_points_and_noise_give_it_by_the_engine_and_on_a_torch_device() -> None:
    X = np.random.default_rng(7).random((7, 2))
    X[:, 1] = [0, 0.5, 1, 0, 0.5, 1, 0.5]
    scale, kinds, noise = np.array([0.7, 2.0]), np.array([NUMBER, CATEGORY]), np.linspace(0.01, 0.1, 7)
    K = covariance(X, X, scale, kinds) + np.diag(noise)
    for device in (None, "cpu"):
        np.testing.assert_allclose(root_of(X, scale, kinds, noise, device), expected(K), rtol=1e-9, atol=1e-9)
        with pytest.raises(np.linalg.LinAlgError):
            root_of(X, scale, kinds, noise - 1.0, device)
