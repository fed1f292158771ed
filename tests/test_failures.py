"""Failed windows: a region that fails is left alone, one that failed by chance is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import Make

CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 40,
    "bounds": {"x": {"min": 0, "max": 1, "initial": 0.3}, "y": {"min": 0, "max": 1, "initial": 0.3}},
    "objectives": {"qps": "max"},
}
Fails = Callable[[np.ndarray], bool]


def tuned(make: Make, fails: Fails, *, guarded: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """The points asked, whether their windows failed, and the noise-free value of what is recommended."""
    config = CONFIG | ({"guardrails": {"max_delta": [0.1, 0.1]}} if guarded else {})
    solver, rng = make(config), np.random.default_rng(5)
    points, failed = [], []
    while (candidate := solver.ask_one()) is not None:
        points.append([candidate["x"], candidate["y"]])
        failed.append(fails(np.array(points[-1])))
        result: dict[str, Any] = {"params": candidate, "id": candidate.id}
        value = 10.0 * sum(points[-1]) + 0.2 * rng.normal()
        solver.seed([result | ({"status": "failed"} if failed[-1] else {"values": {"qps": value}})])
    best = solver.recommend().params
    return np.array(points), np.array(failed), 10.0 * (best["x"] + best["y"])


@pytest.mark.parametrize("guarded", [False, True])
def test_a_region_that_fails_is_left_alone(make: Make, guarded: bool) -> None:
    """The better half of the space fails: the best is at the edge, and most of what is asked is on this side of it."""
    points, failed, value = tuned(make, lambda p: p.sum() > 1.2, guarded=guarded)
    assert 10.5 < value < 12.0
    assert failed.mean() < (0.25 if guarded else 0.5)
    later = range(15, len(points))
    again = [i for i in later if failed[i] and (np.abs(points[:i][failed[:i]] - points[i]).max(axis=1) < 0.05).any()]
    assert len(again) < 0.2 * len(later), "asked again beside one that failed"
    assert points[failed].sum(axis=1).max() < (1.6 if guarded else 2.1)


@pytest.mark.parametrize("guarded", [False, True])
def test_failures_by_chance_do_not_close_a_region(make: Make, guarded: bool) -> None:
    chance = np.random.default_rng(1)
    _, failed, value = tuned(make, lambda _: chance.random() < 0.08, guarded=guarded)
    assert failed.any()
    assert value > (17.0 if guarded else 19.0), "6 at the start, 20 at the best"
