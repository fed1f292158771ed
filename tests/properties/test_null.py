"""The null test in small: a response that no knob moves, heavy-tailed p99, load doubling halfway; the real model.

bench/null.py runs the 1,000 windows; this is one of its studies, 150 windows long.
"""

from __future__ import annotations

import pytest

from bench import null

WINDOWS = 150
MOST_REGRESSIONS = 1  # 5 in 1,000 windows


@pytest.mark.parametrize("context", [False, True])
def test_a_response_that_no_knob_moves_is_hardly_ever_called_a_regression(context: bool) -> None:
    study = null.study(2, WINDOWS, endless=True, context=context)
    labels = study["labels_at_window"]
    assert study["windows"] == WINDOWS
    assert len(labels["regression"]) <= MOST_REGRESSIONS
    seen = any(WINDOWS // 2 < window <= WINDOWS // 2 + 10 for window in labels["drift"])
    assert seen is not context, "the load doubled for all, which is drift unless it was told"
