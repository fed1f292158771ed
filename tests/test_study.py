"""When the hyperparameters are sought again: a rule over the journal, the same in every process."""

from __future__ import annotations

from typing import Any

from arqon_gp.config import parse
from arqon_gp.records import Label, Labelled, Observation, Opened, Refitted, Role, Told
from arqon_gp.study import OFTEN, Study

CONFIG: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}}
FITTED = Refitted({"value": {"lengthscale": [0.5], "category": [], "noise": [0.1], "mean": [0.0]}})


def told(study: Study, n: int, **more: Any) -> Study:
    for _ in range(n):
        study = study.apply(Told((Observation({"x": 0.5}, {"value": 1.0}, Role.WINDOW, **more),), 0.0))
    return study


def study(n: int) -> Study:
    """A study of n windows, fitted to all of them."""
    return told(Study.new(parse(CONFIG)).apply(Opened({}, 0.0)), n).apply(FITTED)


def test_while_it_costs_little_every_tell_is_followed_by_a_fit() -> None:
    assert told(Study.new(parse(CONFIG)), 1).refit_due
    assert not study(10).refit_due
    assert told(study(OFTEN - 1), 1).refit_due


def test_then_every_fifth_and_then_after_two_percent_more_rows() -> None:
    assert [told(study(OFTEN), k).refit_due for k in (1, 4, 5)] == [False, False, True]
    assert [told(study(500), k).refit_due for k in (9, 10, 11)] == [False, True, True]


def test_a_failure_a_correction_or_a_new_regime_is_followed_by_a_fit_at_once() -> None:
    fitted = study(2 * OFTEN)
    assert told(fitted, 1, failed=True).refit_due
    assert told(fitted, 1).apply(Labelled(Label.DRIFT, "sank", 0.0, since=2 * OFTEN)).refit_due
    corrected = told(Study.new(parse(CONFIG)), OFTEN, id="a").apply(FITTED)
    by = Observation({"x": 0.5}, {"value": 2.0}, Role.CORRECTION, id="a")
    assert corrected.apply(Told((by,), 0.0)).refit_due


def test_where_nothing_could_be_fitted_it_is_tried_again() -> None:
    empty = told(Study.new(parse(CONFIG)), 3).apply(Refitted({}))
    assert not empty.refit_due
    assert told(empty, 1).refit_due
