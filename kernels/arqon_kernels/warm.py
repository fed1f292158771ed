"""Compile everything that an ask may need, once an installation, so that no ask waits for a compiler.

Public: warm, warm_in_background, is_warm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np

from arqon_kernels import acquisition as kernel
from arqon_kernels.acquisition import Domain, Problem
from arqon_kernels.cache import cache_folder
from arqon_kernels.covariance import CATEGORY, NUMBER, covariance
from arqon_kernels.factor import append, drop, root
from arqon_kernels.likelihood import LogPosterior
from arqon_kernels.posterior import moments, weights

DONE = "warm"  # the file that says so, beside the compiled code


def is_warm() -> bool:
    """Whether all compiled code is on disk already."""
    folder = cache_folder()
    return folder is not None and (folder / DONE).exists()


def warm(going_on: Callable[[], bool] = lambda: True) -> None:
    """Compile what is not compiled yet (one to two minutes on a new machine); stops between two steps when told to."""
    for step in _steps():
        if not going_on():
            return
        step()
    if (folder := cache_folder()) is not None:
        (folder / DONE).touch()


def warm_in_background() -> threading.Thread | None:
    """Warm in a thread that ends with the main thread, at the latest when its present step is done; None if warm."""
    if is_warm():
        return None
    thread = threading.Thread(target=warm, args=(threading.main_thread().is_alive,), name="arqon-warm", daemon=False)
    thread.start()
    return thread


def _steps() -> Iterator[Callable[[], object]]:
    X = np.random.default_rng(0).random((9, 2))
    yield lambda: _density(X)
    yield lambda: _root(X)
    for kinds in ([NUMBER, NUMBER], [NUMBER, CATEGORY]):
        yield lambda kinds=kinds: covariance(X, X, np.ones(2), kinds)  # type: ignore[misc]
    for goal, count in ((kernel.UTILITY, 1), (kernel.HYPERVOLUME, 2), (kernel.HYPERVOLUME, 3), (kernel.MEAN, 1)):
        yield lambda goal=goal, count=count: _maximize(_problem(X, goal, count))  # type: ignore[misc]


def _root(X: np.ndarray) -> None:
    K = covariance(X, X, np.ones(X.shape[1])) + np.eye(len(X))
    made = drop(append(root(K[:-1, :-1]), K[-1, :-1], K[-1, -1]), 0)
    moments(made, weights(made, np.ones(len(made))), K[1:, 1:])


def _density(X: np.ndarray) -> None:
    n, d = X.shape
    rows = X, X[:, 0].copy(), np.ones(n), np.zeros(n), np.array([NUMBER] * d)
    prior = {"lengthscale_loc": np.zeros(d), "lengthscale_scale": np.ones(d), "noise_prior": (1.0, 2.0)}
    density = LogPosterior(*rows, **prior)  # type: ignore[arg-type]
    density(np.zeros(d + 1))
    density.climb(np.zeros(d + 1), np.full(d + 1, -5.0), np.full(d + 1, 5.0), 1)
    density.constant(np.zeros(d + 1))


def _problem(X: np.ndarray, goal: int, count: int) -> Problem:
    n, d = X.shape
    samples = 1 if goal == kernel.MEAN else 4
    front = np.random.default_rng(1).random((samples, 3, count))
    is_log, sign = np.zeros(count, dtype=bool), np.ones(count)
    edges = kernel.boxes(front, -np.ones(count), sign, is_log) if goal == kernel.HYPERVOLUME else kernel.NO_EDGES
    if goal == kernel.HYPERVOLUME:
        kernel.front_counts(front)
    return Problem(
        goal=goal, ZT=np.ascontiguousarray(X.T), kinds=np.zeros(d, dtype=np.int64), lengthscale=np.ones((count, d)),
        constant=np.zeros(count),
        A=np.ones((count, n, samples)) / n, R=np.zeros((count, n, n)), shift=np.zeros(count), scale=np.ones(count),
        is_log=is_log, weight=sign, centre=np.empty(0), draws=np.zeros((count, samples)), best=np.zeros(samples),
        limit_outcome=np.zeros(0, dtype=np.int64), limit_side=np.zeros(0), limit_at=np.zeros(0), log_confidence=0.0,
        floor=-np.inf, floor_width=1.0, boxes=edges,
    )  # fmt: skip


def _maximize(p: Problem) -> None:
    d, samples = len(p.ZT), p.A.shape[2]
    domain = Domain(
        np.zeros(d), np.ones(d), np.array([kernel.CONTINUOUS, kernel.GRID]), np.array([0, 2]), np.array([2, 2]),
        np.array([0.0, 1.0, 0.0, 1.0]),
    )  # fmt: skip
    X = p.ZT.T.copy()
    kernel.values(p, X, samples)
    X = np.ascontiguousarray(X[kernel.apart(X, np.arange(len(X)), 2, 0.1)])
    kernel.climb(p, domain, X, samples, 1)
    kernel.polish(p, domain, X, samples, 1)
