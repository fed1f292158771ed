"""What was measured, as a fold: identities, corrections, the budget, regimes, and the rows a surrogate learns from."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arqon_gp.config import parse
from arqon_gp.dataset import TrainingSets, known_variance, training_set
from arqon_gp.history import History
from arqon_gp.levels import levels
from arqon_gp.records import Kind, Label, Labelled, Observation, Role, Told
from arqon_gp.view import View

A, B, C = {"x": 0.0}, {"x": 0.5}, {"x": 1.0}
CONFIG = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})


def row(params: Any, value: float | None = 1.0, role: Role = Role.WINDOW, **more: Any) -> Observation:
    return Observation(dict(params), {"value": value}, role, **more)


def told(history: History, *rows: Observation) -> History:
    return history.apply(Told(rows, 0.0))


def drifted(history: History, since: int) -> History:
    return history.apply(Labelled(Label.DRIFT, "sank", 0.0, since=since))


def test_a_regime_begins_at_its_first_row() -> None:
    history = drifted(drifted(told(History(), *[row(A)] * 6), 2), 5)
    assert history.regime == 2
    assert history.excerpt().regime.tolist() == [0, 0, 1, 1, 1, 2]
    assert [i for i, _ in history.windows(A)] == [5]
    assert [i for i, _ in history.windows(A, since=1)] == [1, 2, 3, 4, 5]


def test_a_label_that_is_no_drift_opens_no_regime() -> None:
    history = told(History(), row(A))
    assert history.apply(Labelled(Label.REGRESSION, "worse", 0.0)) is history


def test_an_identity_is_of_a_candidate_or_of_the_callers_own() -> None:
    history = told(History(), row(A, 1.0, Role.WARM, id="1"), row(B, 2.0, id="1", kind=Kind.START), row(C, 3.0))
    found = [history.find("1", of_candidate=of) for of in (False, True)]
    assert [o.values["value"] for o in found if o] == [1.0, 2.0]
    assert history.find("2", of_candidate=True) is None


def test_a_correction_replaces_what_was_measured_and_nothing_else() -> None:
    history = told(
        History(),
        row(A, 1.0, Role.WARM, id="1"),
        row(B, 2.0, id="1", kind=Kind.START, sem={"value": 0.5}, time=7.0, cost=3.0),
        row(C, 3.0, id="2", kind=Kind.START),
    )
    by = row(B, 9.0, Role.CORRECTION, id="1", kind=Kind.START, failed=True, spends=False, sem={"value": 0.1})
    now = told(history, by)
    assert [o.values["value"] for o in now.rows] == [1.0, 9.0, 3.0]
    assert [o.failed for o in now.rows] == [False, True, False]
    assert now.rows[1].sem == {"value": 0.1}
    assert (now.rows[1].role, now.rows[1].time, now.rows[1].cost) == (Role.WINDOW, 7.0, 3.0)
    assert (now.spent, now.spent_cost) == (history.spent, history.spent_cost) == (3, 5.0)


def test_what_is_free_spends_neither_results_nor_cost() -> None:
    history = told(History(), row(A, cost=5.0), row(A, cost=7.0, spends=False), row(B, cost=0.5))
    assert (history.spent, history.spent_cost) == (2, 5.5)


def test_a_standard_error_of_a_log_outcome_is_relative() -> None:
    goals = parse(
        {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"p99_ms": "min", "qps": "max"}}
    ).goals
    observed = Observation(A, {"p99_ms": 20.0, "qps": 100.0}, Role.WINDOW, sem={"p99_ms": 2.0, "qps": 3.0})
    assert known_variance([observed], goals)[0] == pytest.approx([0.01, 9.0])
    none = Observation(A, {"p99_ms": None, "qps": 100.0}, Role.WINDOW)
    assert known_variance([none], goals).tolist() == [[0.0, 0.0]]


def three_regimes() -> History:
    """A at 1, 3 and B at 2; then A at 12 (twice) and B at 13; then B at 23 and 23, and C at 5."""
    history = told(History(), row(A, 1.0), row(A, 3.0), row(B, 2.0))
    history = told(drifted(history, 3), row(A, 12.0), row(A, 12.0), row(B, 13.0))
    return told(drifted(history, 6), row(B, 23.0), row(B, 23.0), row(C, 5.0))


def test_levels_are_chained_from_regime_to_regime_by_what_was_measured_in_both() -> None:
    found = levels(three_regimes(), CONFIG.goals)
    # regime 0 to 1: A by 12 - 2 = 10 with weight 1 / (1/2 + 1/2) = 1, B by 11 with weight 1 / (1 + 1) = 1/2:
    # 15.5 / 1.5 = 10.333; regime 1 to 2: B alone, by 10, with weight 1 / (1 + 1/2) = 2/3
    assert found.shift[:, 0] == pytest.approx([31 / 3 + 10, 10, 0])
    # A's windows 1, 3 around 2: a sum of squares of 2 on 3 degrees of freedom (A twice, and B's last two)
    assert found.variance[:, 0] == pytest.approx([2 / 3 / 1.5 + 2 / 3 / (2 / 3), 2 / 3 / (2 / 3), 0])


def test_a_regime_that_shares_no_config_with_the_next_is_hardly_known() -> None:
    history = told(drifted(told(History(), row(A, 1.0), row(A, 3.0)), 2), row(B, 9.0))
    found = levels(history, CONFIG.goals)
    assert found.shift[:, 0].tolist() == [0.0, 0.0]
    assert found.variance[:, 0] == pytest.approx([100 * 2.0, 0.0])


def test_where_no_config_is_shared_those_next_to_the_change_tell_how_far_the_level_moved() -> None:
    """Of 0 .. 6 the last five, whose median is 4, and of 14, 16, 18 all: by 12. Two configs apart, twice the variance
    10 + 8 around the medians, on six degrees of freedom: 6. A level that moves by 4 is not surely one that moved."""
    history = told(History(), *[row({"x": 0.01 * i, "y": 0.5}, float(i)) for i in range(7)])
    after = [row({"x": 0.5 + 0.01 * i, "y": 0.5}, float(i)) for i in (14, 16, 18)]
    found = levels(told(drifted(history, 7), *after), CONFIG.goals)
    assert found.shift[:, 0].tolist() == [12.0, 0.0]
    assert found.variance[:, 0] == pytest.approx([2 * 18 / 6, 0.0])
    near = levels(
        told(drifted(history, 7), *[replace(r, values={"value": r.values["value"] - 8}) for r in after]), CONFIG.goals
    )
    assert (near.shift[0, 0], near.variance[0, 0]) == (0.0, 0.0), "of configs that were measured once the noise is none"


def test_stays_are_rows_at_the_level_of_the_current_regime() -> None:
    data = training_set(three_regimes(), CONFIG.space, CONFIG.goals)
    assert data.params == (A, B, A, B, B, C)
    assert data.X[:, 0].tolist() == [0.0, 0.5, 0.0, 0.5, 0.5, 1.0]
    shift = 31 / 3 + 10
    assert data.Y[:, 0] == pytest.approx([2 + shift, 2 + shift, 22, 23, 23, 5])
    assert data.count[:, 0].tolist() == [2, 1, 2, 1, 2, 1]
    assert data.floor[:, 0] == pytest.approx([4 / 9 + 1, 4 / 9 + 1, 1, 1, 0, 0])
    ss, dof = data.stays.scatter(0, lambda W: np.zeros(len(W)))
    assert (ss.sum(), dof.sum(), data.within_floor[0]) == (2.0, 3.0, 0.0)


def test_one_config_in_two_regimes_is_two_stays() -> None:
    history = told(drifted(told(History(), row(A, 1.0)), 1), row(A, 2.0))
    assert training_set(history, CONFIG.space, CONFIG.goals).count[:, 0].tolist() == [1, 1]


def test_failures_and_missing_values_are_windows_without_a_value() -> None:
    failed = Observation(A, {}, Role.WINDOW, failed=True)
    history = told(History(), row(A, 4.0, sem={"value": 2.0}), row(A, 6.0, sem={"value": 1.0}), row(A, None), failed)
    data = training_set(told(history, row(B, None)), CONFIG.space, CONFIG.goals)
    assert (data.failed.tolist(), data.tried.tolist()) == ([1, 0], [4, 1])
    assert data.count[:, 0].tolist() == [2, 0]
    assert data.Y[0, 0] == 5.0
    assert math.isnan(data.Y[1, 0])
    assert data.floor[0, 0] == pytest.approx((4 + 1) / 2**2), "of the mean of two"
    assert data.within_floor[0] == pytest.approx((4 + 1) / 2), "of one window"
    assert np.isfinite(data.X).all()


def stays_of(*values: float | None, before: int = 12) -> list[tuple[float, float]]:
    """Mean and count of the stays of windows at C, after windows at A worth 0 to 11, whose robust std is 4.4."""
    rows = [row(A, float(i)) for i in range(before)] + [row(C, value) for value in values]
    data = training_set(told(History(), *rows), CONFIG.space, CONFIG.goals)
    assert data.count.sum() == before + sum(value is not None for value in values), "no window is lost"
    kept = [
        (float(y), float(n)) for k, y, n in zip(data.keys, data.Y[:, 0], data.count[:, 0], strict=True) if k == (1.0,)
    ]
    return kept[-len(values) :]


def test_a_window_that_contradicts_its_stay_is_a_row_of_its_own() -> None:
    assert stays_of(5.0, 6.0, 7.0) == [(6.0, 3.0)]
    assert stays_of(5.0, 6.0, 90.0, 7.0, 5.0) == [(5.5, 2.0), (90.0, 1.0), (6.0, 2.0)]
    assert stays_of(5.0, 90.0, 91.0) == [(5.0, 1.0), (90.5, 2.0)], "windows that agree are what the config does"
    assert stays_of(5.0, 30.0) == [(17.5, 2.0)], "what is known scatters as much"
    assert stays_of(5.0, 90.0, before=10) == [(47.5, 2.0)], "too little is known to say so"
    assert stays_of(5.0, None, 90.0, 91.0) == [(5.0, 1.0), (90.5, 2.0)]


def test_whether_a_window_contradicts_depends_on_those_before_it_alone() -> None:
    rows = [row(A, float(i)) for i in range(12)] + [row(C, y) for y in (5.0, 90.0, 6.0, 7.0, -80.0, 6.0)]
    sets, history, shapes = TrainingSets(CONFIG.space, CONFIG.goals), History(), []
    for one in rows:
        history = told(history, one)
        shapes.append(sets.of(history))
    whole = training_set(history, CONFIG.space, CONFIG.goals)
    np.testing.assert_array_equal(shapes[-1].Y, whole.Y)
    for earlier, later in itertools.pairwise(shapes):
        settled = len(earlier.Y) - 1  # the last stay may grow
        np.testing.assert_array_equal(earlier.Y[:settled], later.Y[:settled])


@pytest.mark.parametrize("last", [1.0, 99.0])
def test_a_study_may_begin_with_a_long_stay(last: float) -> None:
    """From the first result on, and longer than the windows that are looked at; a row is of 16 windows at most."""
    random = np.random.default_rng(0)
    rows = [row(A, 1.0 + 0.1 * random.normal()) for _ in range(70)]
    at_once = told(History(), *rows, row(A, last))
    one_by_one = History()
    for one in (*rows, row(A, last)):
        one_by_one = told(one_by_one, one)
    for history in (at_once, one_by_one):
        data = training_set(history, CONFIG.space, CONFIG.goals)
        assert data.count[:, 0].tolist() == [16] * 4 + ([7] if last == 1.0 else [6, 1])


def test_minus_one_and_minus_two_are_two_configs_though_python_hashes_them_alike() -> None:
    history = told(History(), *[row({"x": -1.0})] * 200, *[row({"x": -2.0})] * 200)
    for x, last in ((-1.0, 199), (-2.0, 399)):
        assert [i for i, _ in history.windows({"x": x}, most=1)] == [last]
        assert history.count({"x": x}) == 200


def test_old_rows_belong_to_the_regime_of_their_time_and_say_nothing_of_how_a_config_stands() -> None:
    at = [float(60 * i) for i in range(8)]
    history = drifted(told(History(), *(row(A, time=t) for t in at)), 4)
    history = told(
        history,
        *(row(A, 9.0, role, time=t) for role in (Role.HISTORY, Role.LATE) for t in (30.0, 230.0, 250.0)),
        row(A, 9.0, Role.HISTORY),
        row(A, time=10.0),
    )
    assert history.excerpt().regime.tolist() == [0] * 4 + [1] * 4 + [0, 0, 1, 0, 0, 1, 1, 1]
    assert [i for i, _ in history.live(A)] == [4, 5, 6, 7, 15]
    assert [i for i, _ in history.live(A, since=0, most=3)] == [6, 7, 15]


def test_one_row_without_a_time_makes_all_of_a_history_go_by_their_order() -> None:
    rows = [row({"x": i / 2200.0}, time=None if i == 500 else 60.0 * i + 86400.0 * (i > 800)) for i in range(2200)]
    history = History(view=View(CONFIG.inputs, CONFIG.goals))
    for i in range(0, 2200, 100):
        history = told(history, *rows[i : i + 100])
    assert history.excerpt().at[-1] == history.judged([]).at[-1] == 2199.0


def test_what_is_in_view_knows_of_corrections() -> None:
    """A row of long ago was the best by far, because somebody mistyped it."""
    rows = [row({"x": i / 2200.0}, -1e6 if i == 500 else 1.0, id=str(i)) for i in range(2200)]
    history = told(History(view=View(CONFIG.inputs, CONFIG.goals)), *rows)
    assert history.view is not None
    assert 500 in history.view.extremes
    history = told(history, replace(rows[500], values={"value": 1.0}, role=Role.CORRECTION))
    assert history.view is not None
    assert np.nanmin(history.view.values[..., 0]) == 1.0
    assert history.view.ends.max() == 1.0
    history = told(history, replace(rows[3], values={"value": 2.0}, role=Role.CORRECTION))
    assert history.view is not None
    assert 3 in history.view.extremes
    seen = history.view.seen
    assert told(history, replace(rows[-1], values={"value": 3.0}, role=Role.CORRECTION)).view is history.view
    assert seen <= 2199, "which was not looked at yet"


def test_a_regime_that_is_back_is_linked_to_itself() -> None:
    """Between the two was another world, in which the best is elsewhere: chained over it, all would be shifted."""

    def world(best: float, *xs: float) -> list[Observation]:
        return [row({"x": x}, 100.0 - 40.0 * (x - best) ** 2) for x in xs for _ in range(2)]

    history = drifted(told(History(), *world(0.3, 0.5, 0.45, 0.4), *world(0.7, 0.4, 0.45, 0.7)), 6)
    history = told(history, *world(0.3, 0.7, 0.5)).apply(Labelled(Label.DRIFT, "", 0.0, since=12, like=0))
    shift = levels(history, CONFIG.goals).shift[:, 0]
    assert shift[[0, 2]].tolist() == pytest.approx([0.0, 0.0])
    nowhere = drifted(told(History(), *world(0.3, 0.5), *world(0.7, 0.9)), 2)
    nowhere = told(nowhere, *world(0.3, 0.4)).apply(Labelled(Label.DRIFT, "", 0.0, since=4, like=0))
    assert levels(nowhere, CONFIG.goals).shift[0, 0] == 0.0, "no config in both, but the same world"


def test_an_old_row_is_of_its_own_regime_though_nothing_else_in_view_is() -> None:
    history = History(view=View(CONFIG.inputs, CONFIG.goals))
    for number in range(4):
        at = 1500 * number
        history = told(history, *(row(A, time=60.0 * (at + i)) for i in range(1500)))
        history = drifted(history, len(history) - 1)
    history = told(history, *(row(A, time=60.0 * (6000 + i)) for i in range(900)), row(A, role=Role.HISTORY, time=96e3))
    excerpt = history.judged([A])
    assert excerpt.kinds[excerpt.regime[-1]] == 1
    assert excerpt.kinds[-1] == 4, "the present one"


def test_a_config_is_judged_by_what_it_was_in_earlier_regimes_too() -> None:
    history = told(History(view=View(CONFIG.inputs, CONFIG.goals)), *[row(A, 7.0)] * 3, *[row(B)] * 700)
    history = told(drifted(history, 703), *[row(B)] * 700)
    assert [o.values["value"] for o in history.judged([A]).rows].count(7.0) >= 3


def test_a_regime_begins_when_the_first_window_of_it_did() -> None:
    history = told(History(), *(row(A, time=60.0 * i) for i in range(8)))
    history = told(history, row(A, time=10.0, role=Role.HISTORY), row(A, time=480.0))
    assert drifted(history, 8).begun == (None, 480.0)
