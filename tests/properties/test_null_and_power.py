"""Who cries wolf, and who sleeps: the guard where nothing matters, and where a change is truly bad."""

from __future__ import annotations

import numpy as np

from bench import null, regression


def test_a_response_that_no_knob_moves_ends_in_at_most_one_regression_of_150_windows() -> None:
    found = null.study(seed=1, windows=150, endless=True)
    assert found["windows"] == 150
    assert len(found["labels_at_window"]["regression"]) <= 1, "5 in 1,000"


def test_a_true_regression_of_30_percent_at_10_percent_noise_is_back_within_3_windows_in_95_of_100() -> None:
    windows = np.array([regression.windows_until_rollback(seed) for seed in range(120)])
    low, _ = regression.wilson(int((windows <= 3).sum()), len(windows))
    assert (windows <= 3).mean() >= 0.95, np.bincount(windows)
    assert low > 0.88


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = regression.wilson(95, 100)
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
