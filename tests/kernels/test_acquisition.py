"""The acquisition's value and gradient for every goal: reference, differences, plain Monte Carlo over the candidate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from arqon_kernels import acquisition as kernel
from arqon_kernels import covariance
from arqon_kernels._cpu.acquisition import gradient_there, value_only
from arqon_kernels._cpu.samples import workspace
from arqon_kernels._torch import acquisition as reference
from arqon_kernels.acquisition import AUGMENTATION, FEASIBLE, HYPERVOLUME, MEAN, PENALTY, UTILITY, Problem
from arqon_kernels.covariance import CATEGORY, CONTEXT, CYCLE, NUMBER, TIME


class Case(NamedTuple):
    goal: int
    weight: tuple[float, ...]
    is_log: tuple[bool, ...]
    limits: int = 0  # on the last outcome that is no objective, then on the first objective
    floor: bool = False
    centre: bool = False


CASES = {
    "linear": Case(UTILITY, (-1.0,), (False,)),
    "linear, limits": Case(UTILITY, (1.0,), (False,), limits=2),
    "two linear": Case(UTILITY, (-1.0, 0.3), (False, False), limits=1),
    "log cost": Case(UTILITY, (-1.0,), (True,)),
    "log gain": Case(UTILITY, (2.0,), (True,), limits=2),
    "mixed": Case(UTILITY, (0.7, -1.3), (False, True), limits=1),
    "mixed the other way": Case(UTILITY, (1.3, -0.7, -0.2), (True, False, True)),
    "two logs": Case(UTILITY, (-1.0, -0.4), (True, True)),
    "log gain and cost": Case(UTILITY, (1.5, -0.4), (True, True), limits=1),
    "log cost and gain": Case(UTILITY, (-0.4, 1.5), (True, True)),
    "front of two": Case(HYPERVOLUME, (-1.0, 1.0), (False, False)),
    "front of two, logs": Case(HYPERVOLUME, (-2.0, -0.5), (True, False), limits=2),
    "front of two, floor": Case(HYPERVOLUME, (-1.0, 0.5), (False, True), floor=True, centre=True),
    "front of three": Case(HYPERVOLUME, (-1.0, 1.0, -1.0), (False, False, True), limits=1),
    "front of three, floor": Case(HYPERVOLUME, (1.0, 0.4, -2.0), (False, True, False), 1, floor=True, centre=True),
    "limits": Case(FEASIBLE, (1.0,), (False,), limits=2),
    "mean": Case(MEAN, (-1.0,), (False,)),
    "mean of weights": Case(MEAN, (-1.0, 0.5), (True, False)),
    "mean of weights, limits": Case(MEAN, (-1.0, 0.5), (True, False), limits=1),
    "Chebyshev": Case(MEAN, (-1.0, 0.5, 1.0), (True, False, True), centre=True),
    "Chebyshev, limits": Case(MEAN, (-1.0, 0.5), (False, True), limits=2, centre=True),
}
KINDS = {
    "numbers": [NUMBER, NUMBER],
    "one": [NUMBER],
    "all kinds": [NUMBER, CATEGORY, CYCLE, TIME, CONTEXT, NUMBER],
}
ABOVE = [0.0, 3.0, 40.0]  # stds by which what is to be beaten lies higher: near, far, beyond what exp can say


def problem(case: Case, kinds: list[int], above: float = 0.0, N: int = 9, S: int = 7) -> Problem:
    """Random outcomes whose posterior at x is that of N points; a front or a level of the points themselves."""
    random = np.random.default_rng([case.goal, len(case.weight), N, S, *kinds])
    o, m, d = len(case.weight), len(case.weight) + (case.limits > 0), len(kinds)
    S = 1 if case.goal in (FEASIBLE, MEAN) else S
    Z = random.random((N, d))
    Z[:, np.array(kinds) == CATEGORY] = random.integers(0, 3, (N, 1)) / 2.0
    scale, constant = random.uniform(0.3, 1.0, (m, d)), 0.2 * random.normal(size=m)
    A, R, f = [], np.zeros((m, N + 2, N)), []
    for j in range(m):
        K = covariance(Z, Z, scale[j], np.array(kinds)) + 0.1 * np.eye(N)
        R[j, :N] = np.linalg.inv(np.linalg.cholesky(K))  # two rows of zeros are padding
        drawn = random.normal(size=(N, 1)) + 0.3 * random.normal(size=(N, S))
        A.append(R[j].T @ R[j] @ drawn)
        f.append(drawn + constant[j])
    shift, spread = random.uniform(-0.3, 0.3, m), random.uniform(0.5, 1.5, m)
    u = np.stack([shift[j] + spread[j] * f[j] for j in range(o)], axis=-1)  # N x S x o
    is_log, weight = np.array(case.is_log), np.array(case.weight)
    if case.goal == HYPERVOLUME:
        u = u + np.where(is_log, min(above, 2.0), above) * np.sign(weight)
    Y = np.where(is_log, np.exp(u), u)
    best = (Y @ weight).max(axis=0)
    if case.goal == UTILITY:
        best = best * np.exp(above * np.sign(best)) if is_log.all() else best + above * np.abs(weight).sum()
    signs, boxes = np.sign(weight), kernel.NO_EDGES
    if case.goal == HYPERVOLUME:
        front = np.ascontiguousarray((Y * signs).transpose(1, 0, 2))
        boxes = kernel.boxes(front, front.min(axis=(0, 1)) - 0.3, signs, is_log)
    limit_outcome = np.array([m - 1, 0][: case.limits], dtype=np.int64)
    return Problem(
        goal=case.goal, ZT=np.ascontiguousarray(Z.T), kinds=np.array(kinds), lengthscale=scale, constant=constant,
        A=np.array(A), R=R, shift=shift, scale=spread, is_log=is_log, weight=weight,
        centre=Y.mean(axis=(0, 1)) if case.centre else np.empty(0),
        draws=random.normal(size=(o, S)), best=best, limit_outcome=limit_outcome,
        limit_side=np.array([1.0, -1.0][: case.limits]), limit_at=np.array([0.2, -0.3][: case.limits]),
        log_confidence=math.log(0.8), floor=0.2 if case.floor else -math.inf, floor_width=0.4, boxes=boxes,
    )  # fmt: skip


def points(kinds: list[int], n: int = 5) -> np.ndarray:
    X = np.random.default_rng([n, *kinds]).random((n, len(kinds)))
    X[:, np.array(kinds) == CATEGORY] = np.array([0.0, 0.5, 1.0, 0.5, 0.0])[:n, None]
    return X


def ours(p: Problem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient by scratch that held NaN before."""
    w, gradient = workspace(p, p.A.shape[2]), np.full(len(x), np.nan)
    for scratch in w:
        scratch[...] = np.nan if scratch.dtype == float else scratch
    value = value_only(p, x, w)
    gradient_there(p, x, gradient, w)
    return value, gradient


@pytest.mark.parametrize("above", ABOVE)
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_reference(name: str, kinds: str, above: float) -> None:
    p, knobs = problem(CASES[name], KINDS[kinds], above), np.isin(KINDS[kinds], (NUMBER, CYCLE))
    for x in points(KINDS[kinds]):
        there = torch.tensor(x[None, :], requires_grad=True)
        expected = reference.value(p, there)
        expected.sum().backward()
        assert there.grad is not None
        value, gradient = ours(p, x)
        assert value == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)
        size = float(np.abs(gradient).max())
        np.testing.assert_allclose(gradient[knobs], there.grad.numpy()[0][knobs], rtol=1e-6, atol=1e-7 * (1 + size))
        np.testing.assert_array_equal(gradient[~knobs], 0.0)


@pytest.mark.parametrize("above", ABOVE)
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_central_differences(name: str, kinds: str, above: float) -> None:
    p = problem(CASES[name], KINDS[kinds], above)
    w = workspace(p, p.A.shape[2])
    for x in points(KINDS[kinds]):
        value, gradient = ours(p, x)
        if abs(value) > 1e20:
            continue  # of the difference of two such numbers no digit is left
        size = float(np.abs(gradient).max())
        h = 1e-5 / max(1.0, size / 1e3)  # a smaller step meets fewer kinks of the Chebyshev value
        for i in np.flatnonzero(np.isin(KINDS[kinds], (NUMBER, CYCLE))):
            f = [value_only(p, x + k * h * np.eye(len(x))[i], w) for k in (-2, -1, 1, 2)]
            expected = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
            assert gradient[i] == pytest.approx(expected, rel=1e-5, abs=1e-6 * (1 + size))


def by_monte_carlo(p: Problem, x: np.ndarray, count: int = 400_000) -> tuple[float, float]:
    """exp of the value and its standard error, by draws of the candidate's outcomes given each sample."""
    random, means, variance = np.random.default_rng(0), [], 0.0
    m, S, o = len(p.constant), p.A.shape[2], len(p.weight)
    for s in range(S):
        z = np.empty((count, m))
        for j in range(m):
            k = covariance(x[None, :], p.ZT.T, p.lengthscale[j], p.kinds)[0]
            std = math.sqrt(1.0 - float(((p.R[j] @ k) ** 2).sum()))
            z[:, j] = p.constant[j] + k @ p.A[j][:, s] + std * random.normal(size=count)
        u = p.shift[:o] + p.scale[:o] * z[:, :o]
        Y = np.where(p.is_log, np.exp(u), u)
        gain, held = np.ones(count), np.ones(count)
        if p.goal == UTILITY:
            gain = np.maximum(Y @ p.weight - p.best[s], 0.0)
        elif p.goal == HYPERVOLUME:
            gain = _hypervolume_gain(p, s, Y * np.sign(p.weight))
        for j, side, at in zip(p.limit_outcome, p.limit_side, p.limit_at, strict=True):
            held *= side * (at - z[:, j]) >= 0.0
        means.append(float(gain.mean() * held.mean()))  # independent given the sample, as the formula has it
        variance += float((gain * held).var()) / count
    return float(np.mean(means)), math.sqrt(variance) / S


def _hypervolume_gain(p: Problem, s: int, h: np.ndarray) -> np.ndarray:
    boxes, gain = p.boxes, np.zeros(len(h))
    for b in range(boxes.number[s]):
        lower, upper = (
            [boxes.edges[s, j, index[s, b, j]] for j in range(h.shape[1])]
            for index in (boxes.lower_index, boxes.upper_index)
        )
        gain += np.maximum(np.minimum(h, upper) - lower, 0.0).prod(axis=1)
    return gain


def drawn(case: Case) -> bool:
    """Whether some log outcome is drawn, not integrated."""
    return case.goal == UTILITY and any(case.is_log) and len(case.is_log) > 1


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.goal != MEAN and not case.floor and not drawn(case)]
)
def test_the_value_is_that_of_plain_monte_carlo_over_the_candidate(name: str) -> None:
    p = problem(CASES[name], [NUMBER, NUMBER], above=-4.0, S=3)
    p = p._replace(limit_at=5.0 * p.limit_at)
    largest = 0.0
    for x in points([NUMBER, NUMBER], 3):
        expected, error = by_monte_carlo(p, x)
        largest = max(largest, expected)
        assert math.exp(ours(p, x)[0]) == pytest.approx(expected, abs=4.5 * error + 1e-7)
    assert largest > 0.02, "not all of them are hopeless"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if drawn(case)])
def test_drawn_log_outcomes_give_the_same_in_the_mean_over_many_samples(name: str) -> None:
    p, many, random = problem(CASES[name], [NUMBER, NUMBER], above=-4.0, S=2), 100_000, np.random.default_rng(1)
    wide = p._replace(
        A=np.repeat(p.A, many, axis=2),
        best=np.repeat(p.best, many),
        draws=random.normal(size=(len(p.weight), 2 * many)),
    )
    largest = 0.0
    for x in points([NUMBER, NUMBER], 3):
        expected, error = by_monte_carlo(p, x)
        largest = max(largest, expected)
        assert math.exp(ours(wide, x)[0]) == pytest.approx(expected, rel=0.04, abs=5 * error + 1e-7)
    assert largest > 0.02, "not all of them are hopeless"


def test_one_linear_outcome_by_hand() -> None:
    p = problem(CASES["linear"], [NUMBER], N=1, S=1)._replace(
        ZT=np.array([[0.0]]), lengthscale=np.array([[1.0]]), constant=np.zeros(1), A=np.array([[[0.0]]]),
        R=np.array([[[0.8]]]), shift=np.array([5.0]), scale=np.array([2.0]), best=np.array([-4.0]),
    )  # fmt: skip
    # at the point itself: u ~ N(5, (2 x 0.6)^2), U = -u, E[(U + 4)_+] with z = -1 / 1.2
    z = -1.0 / 1.2
    expected = 1.2 * (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) + z * 0.5 * math.erfc(-z / math.sqrt(2)))
    assert ours(p, np.array([0.0]))[0] == pytest.approx(math.log(expected), rel=1e-13)


def test_the_probability_of_the_limits_by_hand() -> None:
    p = problem(CASES["limits"], [NUMBER])._replace(
        A=np.zeros((2, 9, 1)), R=np.zeros((2, 1, 9)), constant=np.array([-0.1, 0.1])
    )
    # limits: at or below 0.2 of N(0.1, 1), and at or above -0.3 of N(-0.1, 1)
    expected = math.log(0.5 * math.erfc(-0.1 / math.sqrt(2))) + math.log(0.5 * math.erfc(-0.2 / math.sqrt(2)))
    assert ours(p, np.array([0.4]))[0] == pytest.approx(expected, rel=1e-13)


def test_the_mean_by_hand_with_and_without_its_penalty() -> None:
    case = CASES["Chebyshev, limits"]
    p = problem(case, [NUMBER])._replace(
        A=np.zeros((3, 9, 1)), R=np.zeros((3, 1, 9)), constant=np.array([0.1, 0.2, 0.0]),
        shift=np.array([1.0, 0.5, 0.0]), scale=np.array([2.0, 0.5, 1.0]), centre=np.array([1.0, 1.0]),
        limit_at=np.array([9.0, -9.0]),
    )  # fmt: skip
    parts = (-1.0 * (1.2 - 1.0), 0.5 * (math.exp(0.6 + 0.125) - 1.0))
    utility = min(parts) + AUGMENTATION * sum(parts)
    assert ours(p, np.array([0.4]))[0] == pytest.approx(utility, rel=1e-12)
    half = p._replace(limit_at=np.array([0.0, -9.0]))  # P(N(0, 1) <= 0) = 1 / 2, wanted are 0.8
    expected = utility + PENALTY * (math.log(0.5) - math.log(0.8))
    assert ours(half, np.array([0.4]))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_at_a_point_that_is_known_exactly_the_value_is_no_nan(name: str) -> None:
    case = CASES[name]
    p = problem(case, [NUMBER, NUMBER])
    exact = [np.linalg.inv(np.linalg.cholesky(covariance(p.ZT.T, p.ZT.T, scale))) for scale in p.lengthscale]
    known = np.random.default_rng(0).normal(size=(len(exact), 9, p.A.shape[2]))
    p = p._replace(R=np.array(exact), A=np.array([R.T @ R @ f for R, f in zip(exact, known, strict=True)]))
    for x in p.ZT.T:
        value, gradient = ours(p, x)
        assert math.isfinite(value) or value == -math.inf
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["linear", "log cost", "mixed", "front of two", "limits", "mean of weights, limits"])
def test_nan_is_not_hidden(name: str) -> None:
    p = problem(CASES[name], [NUMBER, NUMBER])
    assert math.isnan(ours(p, np.array([math.nan, 0.5]))[0])
    for j in range(len(p.constant)):
        A = p.A.copy()
        A[j, 2, -1] = math.nan
        if j < len(p.weight) or CASES[name].limits:
            assert math.isnan(ours(p._replace(A=A), np.array([0.4, 0.5]))[0])


def test_what_cannot_be_reached_is_minus_infinity_with_no_gradient() -> None:
    p = problem(CASES["log cost"], [NUMBER, NUMBER])
    value, gradient = ours(p._replace(best=np.full(7, 0.1)), np.array([0.4, 0.5]))  # a cost below -0.1
    assert value == -math.inf
    np.testing.assert_array_equal(gradient, 0.0)


def test_where_no_sample_reaches_its_level_there_is_still_a_slope_towards_it() -> None:
    p = problem(CASES["two logs"], [NUMBER, NUMBER])
    p = p._replace(best=np.full(7, -1e-6))  # cheaper than anything that is drawn
    x = np.array([0.4, 0.5])
    value, gradient = ours(p, x)
    assert -2.0 * kernel.OUT_OF_REACH < value < -0.9 * kernel.OUT_OF_REACH
    assert ours(p, x + 0.01 * gradient / np.linalg.norm(gradient))[0] > value


@pytest.mark.parametrize("name", ["linear, limits", "log gain and cost", "front of three, floor"])
def test_fewer_samples_are_the_first_ones(name: str) -> None:
    p = problem(CASES[name], [NUMBER, NUMBER])
    fewer = p._replace(A=np.ascontiguousarray(p.A[:, :, :3]), draws=p.draws[:, :3].copy(), best=p.best[:3].copy())
    if p.goal == HYPERVOLUME:
        fewer = fewer._replace(boxes=kernel.Edges(*(np.ascontiguousarray(x[:3]) for x in p.boxes)))
    X = points([NUMBER, NUMBER])
    np.testing.assert_allclose(kernel.values(p, X, 3), kernel.values(fewer, X, 3), rtol=1e-12)
    np.testing.assert_allclose(kernel.values(p, X, 7), [ours(p, x)[0] for x in X], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 17, 64])
def test_odd_sizes(n: int) -> None:
    for name in ("mixed", "front of three"):
        p: Any = problem(CASES[name], [NUMBER, NUMBER, NUMBER], N=n, S=5)
        x = np.array([0.2, 0.7, 0.4])
        expected = reference.value(p, torch.as_tensor(x[None, :])).item()
        assert ours(p, x)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)
