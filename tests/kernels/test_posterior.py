"""Posterior moments against solves in torch, on odd sizes and where rows repeat each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arqon_kernels import covariance
from arqon_kernels._torch.posterior import moments as reference
from arqon_kernels.factor import root
from arqon_kernels.posterior import moments, weights


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("q", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 67])
def test_mean_and_explained_variance_are_those_of_the_reference(n: int, q: int, repeated: bool) -> None:
    random = np.random.default_rng([n, q])
    X, at, y = random.random((n, 3)), random.random((q, 3)), random.normal(size=n)
    if repeated:
        X[n // 2 :] = X[0]
    K, k = covariance(X, X, np.full(3, 0.7)) + 1e-3 * np.eye(n), covariance(at, X, np.full(3, 0.7))
    found = moments(root(K), weights(root(K), y), k)
    expected = reference(*(torch.as_tensor(x) for x in (K, y, k)))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-8, atol=1e-9)


def test_no_rows_explain_nothing() -> None:
    none = np.zeros((0, 0))
    mean, explained = moments(none, weights(none, np.zeros(0)), np.zeros((3, 0)))
    assert mean.tolist() == explained.tolist() == [0.0, 0.0, 0.0]


def test_at_a_row_without_noise_all_is_explained_and_the_mean_is_the_value() -> None:
    X = np.linspace(0.0, 1.0, 6)[:, None]
    K, y = covariance(X, X, np.array([0.3])), np.sin(7.0 * X[:, 0])
    mean, explained = moments(root(K), weights(root(K), y), K)
    np.testing.assert_allclose(mean, y, atol=1e-9)
    np.testing.assert_allclose(explained, 1.0, atol=1e-9)
