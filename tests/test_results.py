"""What a result means: identities, order, corrections, failures, the budget. CONTRACT 5, sentence by sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, ResultError
from arqon_gp.records import Told
from tests.conftest import FakeClock, Make

BOUNDS: dict[str, Any] = {
    "size": {"type": "int", "min": 1, "max": 50, "initial": 20},
    "wait": {"min": 0.0, "max": 10.0, "step": 0.5, "initial": 5.0},
    "policy": {"type": "categorical", "choices": ["lru", "lfu"], "initial": "lru"},
}
HERE = {"size": 20, "wait": 5.0, "policy": "lru"}


def free(**more: Any) -> dict[str, Any]:
    return {"seed": 3, "bounds": BOUNDS, "budget": 8, "probe_ratio": 1.0} | more


def guarded(**more: Any) -> dict[str, Any]:
    return free(guardrails={"max_delta": [5, 1, 1]}) | more


def row(params: Any, value: Any = 1.0, **more: Any) -> dict[str, Any]:
    return {"params": dict(params), "value": value} | more


@pytest.fixture
def pool(make: Make) -> Callable[..., ArqonSolver]:
    return lambda **more: make(guarded(**more))


def roles(solver: ArqonSolver) -> list[str]:
    return list(solver.history()["role"])


def test_with_the_id_of_a_candidate_a_row_closes_that_candidate(make: Make) -> None:
    solver = make(free())
    batch = solver.ask(3)
    assert batch is not None
    solver.seed([row(batch[1], id=batch[1].id)])
    assert solver.status()["pending"] == [batch[0].id, batch[2].id]
    assert solver.ask() == [batch[0], batch[2]]


def test_the_id_may_be_told_as_a_number(make: Make) -> None:
    solver = make(free())
    first, second = solver.ask(2)
    solver.seed([row(HERE | {"size": 33}, id=int(second.id))])
    assert solver.status()["pending"] == [first.id]


def test_rows_without_id_close_the_candidates_they_equal(make: Make) -> None:
    solver = make(free())
    batch = solver.ask(3)
    assert batch is not None
    off = dict(batch[2]) | {"wait": batch[2]["wait"] + 1e-12}
    solver.seed([row(off), row(batch[0])])
    assert solver.status()["pending"] == [batch[1].id]
    assert list(solver.history()["id"]) == [batch[2].id, batch[0].id]


def test_one_row_left_over_closes_the_one_candidate_pending_and_says_what_ran(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    edited = dict(candidate) | {"size": 22}
    solver.seed([row(edited)])
    status = solver.status()
    assert status["pending"] == []
    assert status["deployed"] == edited
    assert solver.explain(candidate.id)["result"]["params"] == edited


def test_edited_params_with_the_id_are_what_ran(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    solver.seed([row(HERE | {"wait": 5.25}, id=candidate.id)])
    assert solver.status()["deployed"]["wait"] == 5.25, "off the grid, kept as it ran"


def test_several_rows_left_over_under_guardrails_are_refused_whole(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    rows = [row(candidate), row(HERE | {"size": 30}), row(HERE | {"size": 31})]
    with pytest.raises(ResultError, match=r"Invalid seed data: 2 rows without id.*id.*history"):
        solver.seed(rows)
    assert solver.get_history_len() == 0
    assert solver.status()["pending"] == [candidate.id]


def test_several_rows_left_over_without_guardrails_are_extra_data(make: Make) -> None:
    solver = make(free())
    batch = solver.ask(2)
    solver.seed([row(HERE | {"size": 30}), row(HERE | {"size": 31})])
    assert roles(solver) == ["extra", "extra"]
    assert solver.status()["pending"] == [c.id for c in batch or []]


def test_history_rows_close_and_move_nothing_and_are_free(
    pool: Any, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    solver = pool()
    clock.pass_s(100)
    candidate = solver.ask_one()
    elsewhere = HERE | {"size": 40}
    solver.seed([row(elsewhere, history=True), row(elsewhere, time=clock.now - 1.0)])
    status = solver.status()
    assert roles(solver) == ["history", "history"]
    assert caplog.text.count("a result is from before what was handed out, by its time") == 1, "one of them says so"
    assert status["pending"] == [candidate.id]
    assert status["deployed"] == HERE
    assert status["budget"]["spent"] == 0


def test_a_time_after_a_candidate_was_handed_out_closes_it_though_another_came_later(
    make: Make, clock: FakeClock
) -> None:
    solver = make(free())
    (first,) = solver.ask(1)
    clock.pass_s(100.0)
    (second,) = solver.ask(1)
    solver.seed([row(first, time=clock.now - 50.0)])
    assert solver.status()["pending"] == [second.id]
    solver.seed([row(second, time=clock.now - 50.0)])
    assert solver.status()["pending"] == [second.id], "measured before the second was handed out"
    assert roles(solver) == ["late", "history"]
    solver.seed([row(HERE | {"size": 31}, time=clock.now - 150.0)])
    assert roles(solver)[-1] == "history", "before any of them"
    solver.seed([row(second, time=clock.now)])
    assert solver.status()["pending"] == []


def test_a_window_that_ended_before_a_pause_closes_its_candidate(pool: Any, clock: FakeClock) -> None:
    solver = pool()
    candidate = solver.ask_one()
    clock.pass_s(70.0)
    solver.pause()
    assert solver.ask_one().kind == "hold"
    solver.seed([row(candidate, time=clock.now - 10.0)])
    assert solver.status()["pending"] == []
    assert list(solver.history()["id"]) == [candidate.id]


def test_a_row_with_a_candidates_id_closes_it_even_with_an_early_time(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    solver.seed([row(candidate, id=candidate.id, time=1.0)])
    assert solver.status()["pending"] == []


def test_with_nothing_pending_other_params_are_a_manual_change(pool: Any) -> None:
    solver = pool()
    solver.seed([row(solver.ask_one())])
    solver.seed([row(HERE | {"size": 23})])
    assert solver.status()["deployed"]["size"] == 23


def test_late_rows_feed_the_model_and_cost_but_move_nothing(pool: Any) -> None:
    solver = pool(pending_ttl_s=10.0)
    first = solver.ask_one()
    solver.seed([row(first | {"size": 23})])
    spent = solver.status()["budget"]["spent"]
    second = solver.ask_one()
    solver.seed([row(HERE | {"size": 21}, 99.0, id=second.id)])
    solver.cancel(solver.ask_one().id, applied=False)
    third = solver.ask_one()
    solver.seed([row(third, id=third.id)])
    before = solver.status()
    late = solver.explain(second.id)
    assert late["result"] is not None
    assert spent == 1
    solver.seed([row(HERE | {"size": 24}, 5.0, id=str(int(third.id) - 1))])
    after = solver.status()
    assert roles(solver)[-1] == "late"
    assert after["deployed"] == before["deployed"]
    assert after["last_good"] == before["last_good"]
    assert after["budget"]["spent"] == before["budget"]["spent"] + 1
    assert after["history_len"] == before["history_len"] + 1


def test_the_same_id_with_the_same_values_changes_nothing(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    for _ in range(3):
        solver.seed([row(candidate, 1.5, id=candidate.id)])
    solver.seed([row(candidate, 1.5, id=candidate.id), row(candidate, 1.5, id=candidate.id)])
    assert solver.get_history_len() == 1
    assert solver.status()["budget"]["spent"] == 1


def test_the_same_id_with_a_missing_value_again_changes_nothing(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    for _ in range(2):
        solver.seed([row(candidate, math.nan, id=candidate.id)])
    assert solver._study.history.rows[0].values == {"value": None}
    assert len([e for e in solver._journal.read("default", 0) if isinstance(e, Told)]) == 1


def test_the_same_id_with_other_values_is_a_correction(pool: Any) -> None:
    solver = pool()
    candidate = solver.ask_one()
    solver.seed([row(candidate, 1.5, id=candidate.id)])
    solver.seed([row(candidate, 2.5, id=candidate.id)])
    assert list(solver.history()["value"]) == [2.5]
    assert solver.status()["budget"]["spent"] == 1
    solver.seed([row(candidate, None, id=candidate.id, status="failed")])
    assert list(solver.history()["status"]) == ["failed"]


def test_the_same_params_without_id_are_a_replicate(pool: Any) -> None:
    solver = pool()
    solver.seed([row(solver.ask_one(), 1.0)])
    solver.seed([row(HERE, 2.0)])
    assert list(solver.history()["value"]) == [1.0, 2.0]
    assert solver.status()["budget"]["spent"] == 2


def test_warm_start_rows_are_free_and_their_own_ids_are_identities(make: Make) -> None:
    solver = make(free())
    solver.seed([row(HERE, 1.0, id="mine"), row(HERE, 2.0)])
    solver.seed([row(HERE, 1.0, id="mine"), row(HERE | {"size": 3}, 9.0, id="other")])
    assert solver.get_history_len() == 3
    assert solver.status()["budget"]["spent"] == 0
    solver.seed([row(HERE, 7.0, id="mine")])
    assert list(solver.history()["value"]) == [7.0, 2.0, 9.0]


def test_after_the_first_ask_an_unknown_id_is_refused(pool: Any) -> None:
    solver = pool()
    solver.ask_one()
    with pytest.raises(ResultError, match="id 'mine' is no candidate of this study"):
        solver.seed([row(HERE, id="mine")])
    solver.seed([row(HERE, id="mine", history=True)])
    assert solver.get_history_len() == 1


def test_without_guardrails_a_loop_gets_exactly_budget_candidates(make: Make) -> None:
    solver = make(free(budget=7))
    asked = 0
    while (candidate := solver.ask_one()) is not None:
        asked += 1
        solver.seed([row(candidate, float(candidate["size"]))])
    assert asked == 7
    assert solver.status()["budget"]["left"] == 0
    assert solver.ask_one() is None
    assert solver.ask() is None


def test_a_cost_budget_ends_the_study(make: Make) -> None:
    solver = make(free(budget=None, budget_cost=100.0))
    asked = 0
    while (candidate := solver.ask_one()) is not None:
        asked += 1
        solver.seed([row(candidate, 1.0, cost=25.0)])
    assert asked == 4


def test_holds_are_free_and_never_pending(make: Make, clock: FakeClock) -> None:
    solver = make(guarded(guardrails={"max_delta": [5, 1, 1], "max_updates_per_second": 0.1}, budget=30))
    for _ in range(3):
        solver.seed([row(solver.ask_one())])
    change = solver.ask_one()
    solver.seed([row(change)])
    held = solver.ask_one()
    assert change.kind == "probe"
    assert held.kind == "hold"
    spent = solver.status()["budget"]["spent"]
    assert solver.status()["pending"] == []
    solver.seed([row(held)])
    again = solver.ask_one()
    assert again.kind == "hold"
    assert again.id != held.id
    solver.seed([row(again, id=again.id), row(again, id=again.id)])
    assert solver.status()["budget"]["spent"] == spent
    assert solver.get_history_len() == 6


@pytest.mark.parametrize("value", [math.nan, None])
def test_nan_and_null_are_no_value_of_that_outcome(make: Make, value: Any) -> None:
    solver = make(guarded(objectives={"a": "min", "b": "max"}))
    candidate = solver.ask_one()
    solver.seed([{"params": candidate, "values": {"a": 1.0, "b": value}}])
    candidate = solver.ask_one()
    solver.seed([{"params": candidate, "values": {"a": 2.0}}])
    assert list(solver.history()["a"]) == [1.0, 2.0]
    assert solver.history()["b"].isna().all()
    assert list(solver.history()["status"]) == ["ok", "ok"]


@pytest.mark.parametrize("more", [{"value": math.inf}, {"value": -math.inf}, {"value": 1.0, "status": "failed"}])
def test_inf_and_failed_are_failures_without_values(pool: Any, more: dict[str, Any]) -> None:
    solver = pool()
    solver.seed([{"params": solver.ask_one()} | more])
    assert list(solver.history()["status"]) == ["failed"]
    assert solver.history()["value"].isna().all()


def test_bare_nan_and_infinity_parse_in_json(pool: Any) -> None:
    solver = pool()
    params = json.dumps(dict(solver.ask_one()))
    solver.seed(f'[{{"params": {params}, "value": NaN}}]')
    solver.seed(f'[{{"params": {params}, "value": -Infinity}}]')
    assert list(solver.history()["status"]) == ["ok", "failed"]


def test_out_of_bounds_is_kept(pool: Any) -> None:
    solver = pool()
    solver.ask_one()
    solver.seed([row(HERE | {"size": 60})])
    assert solver.status()["deployed"]["size"] == 60
    assert list(solver.history()["size"]) == [60]
    assert solver.status()["guard"]["out_of_bounds"]


BAD_ROWS = [
    ({"value": 1.0}, "row 1: params: expected an object"),
    ({"params": HERE | {"policy": "mru"}, "value": 1.0}, "row 1: policy: 'mru' is no choice"),
    ({"params": HERE | {"size": "big"}, "value": 1.0}, "row 1: size: 'big' is not a finite number"),
    ({"params": HERE | {"size": math.nan}, "value": 1.0}, "row 1: size: nan is not a finite number"),
    ({"params": HERE | {"size": 10**400}, "value": 1.0}, "row 1: size: 10000"),
    ({"params": HERE | {"speed": 1}, "value": 1.0}, "row 1: unknown knob 'speed'; the knobs are size, wait, policy"),
    ({"params": {"size": 20, "wait": 5.0}, "value": 1.0}, "row 1: knob 'policy' is missing"),
    ({"params": HERE}, "row 1: value is missing"),
    ({"params": HERE, "value": "fast"}, "row 1: value: expected a number or null, found 'fast'"),
    ({"params": HERE, "value": 1.0, "status": "meh"}, "row 1: status"),
    ({"params": HERE, "value": 1.0, "cost": -1}, "row 1: cost: expected a finite number >= 0"),
    ({"params": HERE, "value": 1.0, "worth": 1}, "row 1: unknown key 'worth'; allowed: params"),
    ({"params": HERE, "value": 1.0, "context": 3}, "row 1: context: expected an object of what was observed, found 3"),
    ({"params": HERE, "value": 1.0, "context": {"hour": 3}}, "row 1: context.hour: not in the context; the config of"),
    ({"params": HERE, "value": 1.0, "sem": 1, "n": 3, "std": 1}, "row 1: give sem, or n and std, not both"),
    ({"params": HERE, "value": 1.0, "n": 3}, "row 1: n and std go together"),
    ({"params": HERE, "value": 1.0, "values": {"value": 2.0}}, "row 1: value is given twice: 1.0, and 2.0 in values"),
    ({"params": HERE, "value": 1.0, "sem": {"rss": 1}}, "row 1: sem.rss: no such outcome; these are known: value"),
    ({"params": HERE, "value": 1.0, "cost": 1e308}, "row 1: cost: expected a finite number >= 0"),
    ({"params": HERE, "value": 1.0, "time": 1.7e12}, "row 1: time: expected unix seconds, found 1700000000000.0; are"),
    ({"params": HERE, "value": 1.0, "time": math.inf}, "row 1: time: expected a finite number, found inf"),
    ({"params": HERE, "value": 1.0, "time": -(10**400)}, "row 1: time: expected a finite number, found -10000"),
    ({"params": HERE, "value": 1.0, "time": "now"}, "row 1: time: expected a number"),
    ({"params": HERE, "value": True}, "row 1: value: expected a number or null, found True"),
    ({"params": HERE, "value": 1.0, "id": True}, "row 1: id: expected the id of a candidate"),
    ({"params": HERE, "value": 1.0, "eval_id": 1.5}, "row 1: eval_id: expected a number or a text, found 1.5"),
    ({"params": HERE, "value": 1.0, "history": "yes"}, "row 1: history: expected true or false"),
    ({"params": HERE, "status": None}, "row 1: value is missing"),
    ("text", "row 1: expected an object, found str"),
]


@pytest.mark.parametrize(("bad", "says"), BAD_ROWS)
@pytest.mark.parametrize(("call", "prefix"), [("seed", "Invalid seed data: "), ("tell", "Invalid results: ")])
def test_a_bad_row_is_named_and_nothing_of_its_batch_is_taken(
    pool: Any, bad: Any, says: str, call: str, prefix: str
) -> None:
    solver = pool()
    candidate = solver.ask_one()
    before = solver.status()
    with pytest.raises(ResultError) as caught:
        getattr(solver, call)([row(candidate), bad])
    assert str(caught.value).startswith(prefix + says)
    assert solver.status() == before
    assert solver.get_history_len() == 0


def test_what_may_be_left_out_may_be_null(pool: Any) -> None:
    solver = pool()
    optional = ("id", "eval_id", "cost", "sem", "n", "std", "status", "time", "history")
    solver.seed([row(solver.ask_one(), **dict.fromkeys(optional), values=None)])
    assert roles(solver) == ["window"]
    assert list(solver.history()["cost"]) == [1.0]


def test_the_same_value_twice_is_one(pool: Any) -> None:
    solver = pool()
    solver.seed([row(solver.ask_one(), 2.0, values={"value": 2})])
    assert list(solver.history()["value"]) == [2.0]


@pytest.mark.parametrize("text", ["{", '{"params": {}}', "12", '"x"'])
def test_what_is_no_list_of_rows_is_refused(pool: Any, text: str) -> None:
    with pytest.raises(ResultError, match=r"^Invalid seed data: "):
        pool().seed(text)


def test_a_scalar_value_is_refused_where_there_are_objectives(make: Make) -> None:
    solver = make(guarded(objectives={"a": "min"}))
    with pytest.raises(ResultError, match="value: this study has objectives; give values"):
        solver.seed([row(HERE)])


def test_a_standard_error_without_a_name_needs_a_single_objective(make: Make) -> None:
    solver = make(guarded(objectives={"a": "min", "b": "max"}))
    values = {"a": 1.0, "b": 2.0}
    for given in ({"sem": 0.5}, {"std": 0.5, "n": 4}):
        with pytest.raises(ResultError, match=r"with several objectives give one by name: \{a, b\}"):
            solver.seed([{"params": HERE, "values": values} | given])
    solver.seed([{"params": HERE, "values": values, "std": {"a": 0.5, "b": None}, "n": 4}])
    assert solver._study.history.rows[0].sem == {"a": 0.25}


def test_values_beside_value_are_tracked(pool: Any) -> None:
    solver = pool()
    solver.seed([row(solver.ask_one(), 1.0, values={"rss_mb": 100.0}, eval_id="run 7")])
    history = solver.history()
    assert list(history["rss_mb"]) == [100.0]
    assert list(history["eval_id"]) == ["run 7"]


@pytest.mark.parametrize(
    "params",
    [
        {"size": True, "wait": 1.0, "policy": "lru"},
        {"wait": 1, "size": True, "policy": "lru"},
        {"size": 1, "wait": np.ones(2), "policy": "lru"},
        {"size": 1, "wait": 1.0, "policy": "lru", "x": 1},
        {"size": 1, "wait": 1.0},
    ],
)
def test_params_that_only_look_like_those_of_the_row_before_are_checked(pool: Any, params: Any) -> None:
    solver = pool()
    with pytest.raises(ResultError, match=r"Invalid seed data: row 2: .*(size|wait|policy|x)"):
        solver.seed([row({"size": 1, "wait": True + 0.0, "policy": "lru"})] * 2 + [row(params)])


def test_params_are_read_row_by_row(pool: Any) -> None:
    solver = pool()
    told = [{"size": 1, "wait": 1.0, "policy": "lru"}, {"size": 1.0, "wait": 1, "policy": "lru"}]
    told += [{"size": 2, "wait": 1.0, "policy": "lru"}, {"wait": 2, "size": 1.0, "policy": "lru"}]
    solver.seed([row(params) for params in told])
    found = solver.history()
    assert [(x, type(x)) for x in found["size"]] == [(x, int) for x in (1, 1, 2, 1)]
    assert [(x, type(x)) for x in found["wait"]] == [(x, float) for x in (1.0, 1.0, 1.0, 2.0)]


def test_numpy_numbers_are_numbers(pool: Any) -> None:
    solver = pool()
    params = {"size": np.int64(20), "wait": np.float32(5.0), "policy": "lru"}
    solver.ask_one()
    solver.seed([row(params, np.float64(2.5))])
    assert solver.status()["deployed"] == HERE


def test_asked_again_without_a_result_it_is_the_same_candidate_until_its_ttl(pool: Any, clock: FakeClock) -> None:
    solver = pool(pending_ttl_s=60.0)
    first = solver.ask_one()
    clock.pass_s(59.0)
    again = solver.ask_one()
    assert (again, again.id, again.issued_at) == (first, first.id, first.issued_at)
    clock.pass_s(1.0)
    assert solver.ask_one().id != first.id
    assert first.id not in solver.status()["pending"]


def test_asked_again_after_cancel_it_is_another_candidate(pool: Any) -> None:
    solver = pool()
    first = solver.ask_one()
    solver.cancel(first.id)
    assert solver.ask_one().id != first.id


def test_standard_errors_come_as_sem_or_std_and_n(make: Make) -> None:
    solver = make(free())
    given = [{"sem": 0.5}, {"std": 2.0, "n": 16}, {"sem": 0}, {"std": 2.0, "n": 1}]
    solver.seed([row(HERE, i, **more) for i, more in enumerate(given)])
    study = solver._study
    assert [r.sem for r in study.history.rows] == [{"value": 0.5}, {"value": 0.5}, {}, {}]


def test_a_warm_start_that_is_told_again_is_nothing_new(make: Make) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})
    warm = [{"id": "w1", "params": {"x": 0.2}, "value": 1.0}]
    solver.seed(warm)
    solver.ask_one()
    solver.seed(warm)
    assert solver.get_history_len() == 1
    solver.seed([warm[0] | {"value": 2.0}])
    assert list(solver.history()["value"]) == [2.0], "another value is a correction"
    with pytest.raises(ResultError, match="no candidate of this study"):
        solver.seed([warm[0] | {"id": "w2"}])


@pytest.mark.parametrize("value", [1.7976931348623157e308, -2e100, 10**400])
def test_what_some_exporters_say_for_infinity_is_a_failure(make: Make, value: float) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})
    solver.seed([{"params": {"x": 0.2}, "value": value}, {"params": {"x": 0.3}, "value": 1e99}])
    assert list(solver.history()["status"]) == ["failed", "ok"]


def test_a_knob_told_absurdly_far_out_leaves_the_model_as_good_as_it_was(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})
    solver.seed([{"params": {"x": x}, "value": 5.0} for x in (1e300, -1e300, 10.0**308)])
    for _ in range(10):
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "value": (candidate["x"] - 0.3) ** 2}])
    assert solver.recommend().params["x"] == pytest.approx(0.3, abs=0.03)
    assert not caplog.records, "a fit that fails says so"


@pytest.mark.parametrize("sem", [1e49, 1.8e300])
@pytest.mark.parametrize("name", ["size", "latency_ms"])
def test_an_absurd_standard_error_tells_nothing(make: Make, name: str, sem: float) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {name: "min"}})
    for i in range(8):
        candidate = solver.ask_one()
        value = 1.0 + (candidate["x"] - 0.3) ** 2
        solver.seed([{"params": candidate, "values": {name: value if i else 1e-90}, "sem": 0.1 if i else sem}])
    assert solver.ask_one() is not None
    assert math.isfinite(solver.recommend().outcomes[name].mean)
    assert not solver.status()["model"]["fallbacks"]


def test_a_warm_start_with_the_ids_of_candidates_may_be_told_again(make: Make) -> None:
    bounds = {"x": {"min": 0, "max": 1}}
    solver = make({"seed": 1, "bounds": bounds, "guardrails": {"max_delta": [0.1]}})
    warm = [{"id": str(i), "params": {"x": 0.1 * i}, "value": 1.0 + i} for i in (1, 2, 3)]
    solver.seed(warm)
    candidate = solver.ask_one()
    assert candidate.id == "1"
    solver.seed(warm)
    assert (solver.get_history_len(), solver.status()["pending"]) == (3, ["1"])
    assert solver.status()["deployed"] == {"x": pytest.approx(0.3)}
    solver.seed([{"id": "1", "params": candidate, "value": 4.0}])
    assert solver.status()["pending"] == []
