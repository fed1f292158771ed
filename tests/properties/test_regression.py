"""Power: a true 30 % regression at 10 % Gaussian noise, last_good known by 10 windows, is rolled back in 3 windows."""

from __future__ import annotations

import numpy as np

from tests.scripted import Loop, to
from tests.test_guard import HERE, config

TRIALS = 240
WINDOWS = 3


def windows_until_back(rng_seed: int) -> int | None:
    """Windows the worse config ran before the rollback; None if it still ran after so many."""
    random = np.random.default_rng(rng_seed)

    def measure(params: dict[str, int]) -> dict[str, float]:
        return {"qps": (70.0 if params["size"] > 50 else 100.0) + 10.0 * random.normal()}

    loop = Loop(config(), measure, to(size=60))
    loop.solver.seed([{"params": HERE, "values": measure(HERE)} for _ in range(9)])
    loop.step()
    for ran in range(WINDOWS + 1):
        candidate = loop.solver.ask_one()
        if ran and candidate == HERE:
            assert candidate.kind == "rollback"
            return ran
        assert candidate["size"] == 60
        loop.step()
    return None


def test_a_true_regression_is_rolled_back_within_three_windows_in_95_percent_of_trials() -> None:
    found = [windows_until_back(rng_seed) for rng_seed in range(TRIALS)]
    assert sum(ran is not None for ran in found) >= 0.95 * TRIALS
