"""Box decompositions: their volumes against brute force and botorch, the torch cells, and what a front may hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume

from arqon_kernels._cpu import boxes as compiled
from arqon_kernels.boxes import decompose, decompose_all, most_boxes

KINDS = ["plain", "ties", "duplicates", "dominated", "below", "negative", "nan", "one value"]


def front(kind: str, P: int, m: int, seed: int) -> np.ndarray:
    random = np.random.default_rng([P, m, seed])
    F = random.normal(size=(P, m))
    if kind == "ties":
        F = np.round(F)
    elif kind == "duplicates":
        F = np.repeat(F, 2, axis=0)[:P]
    elif kind == "dominated":
        F[P // 2 :] = F[: P - P // 2] - random.random((P - P // 2, m))
    elif kind == "below":
        F[:, 0] -= 1.0
    elif kind == "negative":
        F -= 10.0
    elif kind == "nan" and P:
        F[P // 2, m - 1] = np.nan
    elif kind == "one value":
        F[:] = 0.5
    return F


def volume(F: np.ndarray, reference: np.ndarray) -> float:
    """The dominated hypervolume by inclusion and exclusion of every subset."""
    F = F[(reference < F).all(axis=1)]
    total = 0.0
    for size in range(1, len(F) + 1):
        for subset in itertools.combinations(F, size):
            total -= (-1) ** size * float(np.prod(np.min(subset, axis=0) - reference))
    return total


def improvement(point: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    return float(np.prod(np.clip(np.minimum(point, upper) - lower, 0.0, None), axis=-1).sum())


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_boxes_hold_what_a_point_adds_to_the_hypervolume(kind: str, m: int) -> None:
    reference = np.full(m, -1.0)
    random = np.random.default_rng(m)
    for P, seed in itertools.product((0, 1, 2, 3, 5, 8), range(4)):
        F = front(kind, P, m, seed)
        lower, upper = decompose(F, reference)
        for point in (*random.normal(0.3, 1.0, (4, m)), *F[:2], np.full(m, -1.0), np.full(m, 9.0)):
            if np.isnan(point).any():
                continue
            expected = volume(np.vstack((F, point)), reference) - volume(F, reference)
            assert improvement(point, lower, upper) == pytest.approx(expected, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("m", [2, 3])
def test_a_large_front_agrees_with_botorch(m: int) -> None:
    F = np.random.default_rng(m).normal(size=(64, m))
    if m == 3:  # a front of many points: on a sphere
        F = np.abs(F) / np.linalg.norm(F, axis=1, keepdims=True)
    reference = np.full(m, -0.5)
    hypervolume = Hypervolume(torch.as_tensor(reference))
    lower, upper = decompose(F, reference)
    for point in np.random.default_rng(1).normal(0.7, 0.5, (8, m)):
        with_it, without = (hypervolume.compute(torch.as_tensor(x)) for x in (np.vstack((F, point)), F))
        assert improvement(point, lower, upper) == pytest.approx(with_it - without, rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_boxes_are_the_cells_of_the_reference_put_together(kind: str, m: int) -> None:
    reference = np.full(m, -1.0)
    F = front(kind, 7, m, 3)
    F = F[~np.isnan(F).any(axis=1)]
    lower, upper = decompose(F, reference)
    cells = [x.numpy() for x in decompose(torch.as_tensor(F), torch.as_tensor(reference))]
    for point in np.random.default_rng(5).normal(size=(50, m)):
        assert improvement(point, lower, upper) == pytest.approx(improvement(point, *cells), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_two_boxes_overlap_and_none_is_flat(kind: str, m: int) -> None:
    lower, upper = decompose(front(kind, 12, m, 1), np.full(m, -1.0))
    assert (lower < upper).all()
    for a, b in itertools.combinations(range(len(lower)), 2):
        assert (np.minimum(upper[a], upper[b]) <= np.maximum(lower[a], lower[b])).any()


def test_two_points_by_hand() -> None:
    lower, upper = decompose(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    assert lower.tolist() == [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
    assert upper.tolist() == [[np.inf, np.inf], [np.inf, 2.0], [np.inf, 1.0]]


def test_one_point_of_three_objectives_needs_three_boxes() -> None:
    lower, upper = decompose(np.ones((1, 3)), np.zeros(3))
    assert len(lower) == most_boxes(1, 3) == 3
    assert improvement(np.full(3, 2.0), lower, upper) == 7.0


@pytest.mark.parametrize("m", [2, 3])
def test_no_front_needs_more_boxes_than_promised_and_a_full_one_needs_as_many(m: int) -> None:
    for kind, seed in itertools.product(KINDS, range(20)):
        assert len(decompose(front(kind, 11, m, seed), np.full(m, -9.0))[0]) <= most_boxes(11, m)
    angle = np.linspace(0.1, 1.4, 11)
    F = np.stack((np.cos(angle), np.sin(angle), *[np.random.default_rng(0).random(11)] * (m - 2)), axis=1)
    assert len(decompose(F, np.full(m, -9.0))[0]) == most_boxes(11, m)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_many_fronts_at_once_give_each_its_own_boxes_and_edges(kind: str, m: int) -> None:
    reference = np.full(m, -1.0)
    F = np.stack([front(kind, 9, m, seed) for seed in range(7)])
    found = decompose_all(F, reference)
    assert found.lower.shape == (7, found.count.max(), m)
    assert found.edges.shape == (7, m, found.edge_count.max())
    for s, count in enumerate(found.count):
        lower, upper = decompose(F[s], reference)
        np.testing.assert_array_equal(found.lower[s, :count], lower)
        np.testing.assert_array_equal(found.upper[s, :count], upper)
        assert np.isinf(found.lower[s, count:]).all()
        for j in range(m):
            edges = found.edges[s, j, : found.edge_count[s, j]]
            np.testing.assert_array_equal(edges, np.unique(np.concatenate((lower[:, j], upper[:, j]))))
            np.testing.assert_array_equal(edges[found.lower_index[s, :count, j]], lower[:, j])
            np.testing.assert_array_equal(edges[found.upper_index[s, :count, j]], upper[:, j])
            assert np.isinf(found.edges[s, j, found.edge_count[s, j] - 1 :]).all()


@pytest.mark.parametrize("m", [2, 3])
def test_what_stood_in_the_outputs_does_not_matter(m: int) -> None:
    F, reference = front("plain", 8, m, 2), np.full(m, -1.0)
    lower, upper = (np.full((most_boxes(8, m), m), np.nan) for _ in range(2))
    count = compiled.decompose(F, reference, lower, upper)
    assert np.isfinite(lower[:count]).all()
    assert not np.isnan(upper[:count]).any()
    assert np.isnan(lower[count:]).all()


@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 0, 3), (0, 0, 2)])
def test_no_sample_and_no_point_are_taken(shape: tuple[int, int, int]) -> None:
    found = decompose_all(np.empty(shape), np.zeros(shape[-1]))
    assert found.count.tolist() == [1] * shape[0]


def test_integer_and_strided_fronts_are_taken() -> None:
    F = np.array([[1, 2], [2, 1]])
    wide = np.repeat(F, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(decompose(np.asfortranarray(wide), [0, 0])[0], decompose(F, np.zeros(2))[0])


@pytest.mark.parametrize(
    ("F", "reference", "says"),
    [
        (np.zeros((2, 4)), np.zeros(4), "m = 2 or 3"),
        (np.zeros((2, 3)), np.zeros(2), "expected shapes"),
        (np.zeros(2), np.zeros(2), "expected shapes"),
        (np.zeros((2, 2)), np.array([0.0, -np.inf]), "finite"),
    ],
)
def test_what_does_not_fit_is_refused(F: np.ndarray, reference: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decompose(F, reference)
    with pytest.raises(ValueError, match=says):
        decompose_all(F[None], reference)
