"""When the hyperparameters are sought again: a rule over the journal, the same in every process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from arqon_gp.config import parse
from arqon_gp.records import Issued, Kind, Label, Labelled, Observation, Opened, Prediction, Refitted, Role, Told
from arqon_gp.study import FEW, MANY, OFTEN, Study

CONFIG: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}}
FITTED = Refitted({"value": {"lengthscale": [0.5], "category": [], "noise": [0.1], "mean": [0.0]}})


def asked(study: Study, n: int, **more: Any) -> Study:
    """n candidates, each answered by one result."""
    for _ in range(n):
        study = told(study.apply(issued(study)), 1, **more)
    return study


def issued(study: Study) -> Issued:
    n = len(study.deployment.issued) + 1
    return Issued(str(n), n, Kind.EXPLORE, {"x": 0.5}, "", 0.0, True)


def told(study: Study, n: int, **more: Any) -> Study:
    for _ in range(n):
        study = study.apply(Told((Observation({"x": 0.5}, {"value": 1.0}, Role.WINDOW, **more),), 0.0))
    return study


def study(n: int, **more: Any) -> Study:
    """A study of n windows, fitted to all of them."""
    return told(Study.new(parse(CONFIG | more)).apply(Opened({}, 0.0)), n).apply(FITTED)


def test_while_it_costs_little_every_ask_is_preceded_by_a_fit_and_a_long_one_only_after_more_results() -> None:
    assert told(Study.new(parse(CONFIG)), 1).refit_due
    assert not study(10).refit_due
    assert asked(study(10), 1).refit_due
    assert [asked(study(OFTEN), k).refit_due for k in (5, 6)] == [False, True], "the last result is left out"
    assert [asked(study(500), k).refit_due for k in (10, 11)] == [False, True]
    assert [asked(study(9000), k).refit_due for k in (64, 65)] == [False, True], "64 at most"


def test_a_fit_leaves_out_what_came_since_the_last_candidate_unless_that_is_little_or_much() -> None:
    few, some = asked(study(FEW - 2), 1), asked(study(FEW), 2)
    assert few.basis is few.history
    assert len(some.basis) == len(some.history) - 1
    assert len(some.apply(FITTED).based or ()) == len(some.history) - 1
    much = told(some, MANY)
    assert much.basis is much.history
    assert much.refit_due


def test_what_the_next_fit_is_of_is_known_while_its_result_is_waited_for() -> None:
    before = asked(study(FEW), 1)
    before = before.apply(issued(before))
    assert before.ahead is before.history
    after = told(before, 1)
    assert after.basis is before.ahead, "the result does not change it"
    assert after.ahead is None, "nothing is waited for"
    assert told(before, 1, failed=True).basis is not before.ahead
    long = study(500)
    assert long.apply(issued(long)).ahead is None, "no fit is due"


def test_a_failure_a_correction_or_a_new_regime_is_followed_by_a_fit_of_everything_at_once() -> None:
    fitted = study(2 * OFTEN)
    opened = told(fitted, 1).apply(Labelled(Label.DRIFT, "sank", 0.0, since=2 * OFTEN))
    one = told(Study.new(parse(CONFIG)), OFTEN, id="a").apply(FITTED)
    by = Observation({"x": 0.5}, {"value": 2.0}, Role.CORRECTION, id="a")
    for changed in (told(fitted, 1, failed=True), opened, one.apply(Told((by,), 0.0))):
        assert changed.refit_due
        assert changed.basis is changed.history


@pytest.mark.parametrize(("value", "strange"), [(4.0, False), (7.0, True), (-5.0, True)])
def test_a_window_that_is_far_off_is_followed_by_a_fit_of_everything_at_once(value: float, strange: bool) -> None:
    """Predicted were 1 and a std of 1: a fit says whether it is an outlier, and the next window whether it was."""
    fitted = study(2 * OFTEN, guardrails={})
    expected = {"value": Prediction(1.0, 1.0 - 1.96, 1.0 + 1.96)}

    def window(before: Study, value: float) -> Study:
        asked = replace(issued(before), predicted=expected)
        row = Observation({"x": 0.5}, {"value": value}, Role.WINDOW, id=asked.id, kind=Kind.EXPLORE)
        return before.apply(asked).apply(Told((row,), 0.0))

    assert not window(study(2 * OFTEN), value).refit_due, "without guardrails nothing is left at once"
    off = window(fitted, value)
    assert off.refit_due is strange
    if strange:
        assert off.basis is off.history
        fitted = off.apply(FITTED)
        assert not fitted.refit_due
        assert not window(fitted, 1.0).refit_due


def test_where_nothing_could_be_fitted_it_is_tried_again() -> None:
    empty = told(Study.new(parse(CONFIG)), 3).apply(Refitted({}))
    assert not empty.refit_due
    assert told(empty, 1).refit_due
