"""Control rows: what another instance measured in the same window takes out what moved both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, ResultError
from arqon_gp.config import parse
from arqon_gp.dataset import TrainingSets
from arqon_gp.history import History
from arqon_gp.levels import levels, paired
from arqon_gp.records import Control, Label, Labelled, Observation, Role, Told
from arqon_gp.yardstick import yardstick
from tests.conftest import Make

CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 30,
    "bounds": {"x": {"min": 0, "max": 1, "initial": 0.5}},
    "objectives": {"qps": "max"},
}
GUARDED = CONFIG | {"guardrails": {"max_delta": [0.1]}}
GOALS = parse(
    CONFIG | {"objectives": {"qps": {"direction": "max", "weight": 1}, "p99_ms": {"direction": "min", "weight": 1}}}
).goals


def row(x: float, qps: float, control: float | None = None, at: float = 0.5, **more: Any) -> Observation:
    beside = None if control is None else Control({"x": at}, {"qps": control} | more.pop("beside", {}))
    return Observation({"x": x}, {"qps": qps} | more, Role.WINDOW, control=beside)


def test_a_value_is_corrected_by_what_its_control_was_above_its_mean() -> None:
    rows = [row(0.1, 10.0, 95.0), row(0.2, 20.0, 105.0), row(0.3, 30.0), row(0.4, 40.0, 7.0, at=0.9)]
    given = np.array([[10.0, 1.0], [20.0, 1.0], [30.0, 1.0], [40.0, 1.0]])
    found = paired(given, rows, GOALS)
    assert found[:, 0] == pytest.approx([15.0, 15.0, 30.0, 40.0]), "the mean of a config's controls is their level"
    assert (found[:, 1] == 1.0).all(), "an outcome that the control has not got is as it was"
    assert given[0, 0] == 10.0
    plain = [row(0.1, 10.0), row(0.2, 20.0)]
    assert paired(given[:2], plain, GOALS) is not None
    assert (paired(given[:2], plain, GOALS) == given[:2]).all()


def test_a_log_outcome_is_corrected_by_a_ratio() -> None:
    rows = [row(0.1, 1.0, 1.0, beside={"p99_ms": 10.0}), row(0.2, 1.0, 1.0, beside={"p99_ms": 40.0})]
    given = np.array([[1.0, math.log(8.0)], [1.0, math.log(8.0)]])
    assert np.exp(paired(given, rows, GOALS)[:, 1]) == pytest.approx([16.0, 4.0])


def test_the_training_set_grows_by_one_row_as_if_it_had_been_made_at_once() -> None:
    config = parse(CONFIG)
    rows = [row(0.1 * i, 10.0 + i, None if i % 3 == 0 else 100.0 + (-1) ** i * i) for i in range(10)]
    sets, history = TrainingSets(config.space, config.goals), History()
    for one in rows:
        history = history.apply(Told((one,), 0.0))
        grown = sets.of(history)
    whole = TrainingSets(config.space, config.goals).of(history)
    np.testing.assert_array_equal(grown.Y, whole.Y)
    np.testing.assert_allclose(whole.Y, paired(np.array([[r.values["qps"]] for r in rows]), rows, config.goals))


def test_the_step_between_two_regimes_is_that_of_paired_values() -> None:
    config = parse(CONFIG)
    rows = [row(0.1, 10.0, 100.0), row(0.1, 12.0, 102.0), row(0.1, 25.0, 110.0), row(0.1, 27.0, 112.0)]
    history = History().apply(Told(tuple(rows), 0.0)).apply(Labelled(Label.DRIFT, "moved", 0.0, since=2))
    assert levels(history, config.goals).shift[:, 0] == pytest.approx([5.0, 0.0]), "15 in all, 10 of them traffic"


def tuned(make: Make, *, control: bool) -> tuple[ArqonSolver, float]:
    """A loop beside traffic that swings the value by 100 times what the knob does, and the regret at its end."""
    solver, random = make(CONFIG | {"name": f"control {control}"}), np.random.default_rng(3)
    while (candidate := solver.ask_one()) is not None:
        traffic = 100.0 * random.normal()
        value = traffic - 10.0 * (candidate["x"] - 0.8) ** 2 + 0.05 * random.normal()
        result: dict[str, Any] = {"params": candidate, "id": candidate.id, "values": {"qps": value}}
        if control:
            beside = traffic - 10.0 * 0.3**2 + 0.05 * random.normal()
            result["control"] = {"params": {"x": 0.5}, "values": {"qps": beside}}
        solver.seed([result])
    return solver, 10.0 * (solver.recommend().params["x"] - 0.8) ** 2


def test_a_control_takes_the_traffic_out_of_the_search(make: Make) -> None:
    solver, regret = tuned(make, control=True)
    assert regret < 0.05
    assert solver.status()["model"]["window_std"]["qps"] < 3.0
    assert tuned(make, control=False)[0].status()["model"]["window_std"]["qps"] > 10.0
    shown = solver.history()
    assert "control_qps" in shown
    assert shown["control_qps"].notna().all()


def after_a_slump(make: Make, *, control: bool) -> ArqonSolver:
    """Ten windows, then traffic halves while the next change runs: a regression, unless the control says otherwise."""
    solver, random = make(GUARDED | {"name": f"slump {control}"}), np.random.default_rng(0)
    changed = 0
    for _ in range(18):
        candidate = solver.ask_one()
        assert candidate is not None
        changed += candidate["x"] != 0.5
        traffic = 0.5 if changed else 1.0
        values = {"qps": traffic * (100.0 + random.normal())}
        result: dict[str, Any] = {"params": candidate, "id": candidate.id, "values": values}
        if control:
            result["control"] = {"params": {"x": 0.5}, "values": {"qps": traffic * (100.0 + random.normal())}}
        solver.seed([result])
    return solver


def test_a_slump_that_the_control_shares_is_no_regression(make: Make) -> None:
    assert any(w["kind"] == "rollback" for w in after_a_slump(make, control=False).windows())
    assert not any(w["kind"] == "rollback" for w in after_a_slump(make, control=True).windows())


def test_a_limit_holds_for_what_ran_whatever_the_control_says(make: Make) -> None:
    solver = make(GUARDED | {"constraints": {"rss": {"max": 10}}, "name": "limited"})
    kinds = []
    for _ in range(12):
        candidate = solver.ask_one()
        assert candidate is not None
        kinds.append(candidate.kind.value)
        over = 20.0 if candidate["x"] != 0.5 else 5.0
        values = {"qps": 100.0 + 0.01 * len(kinds), "rss": over + 0.01 * len(kinds)}
        beside = {"params": {"x": 0.5}, "values": {"qps": 100.0, "rss": over}}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values, "control": beside}])
    assert kinds[:5] == ["start", "start", "start", "probe", "rollback"], "by its first window"


def test_utilities_are_of_paired_values_in_raw_units() -> None:
    objectives = {"qps": {"direction": "max", "weight": 2}, "p99_ms": {"direction": "min", "weight": 1}}
    config = parse(CONFIG | {"objectives": objectives})
    rows = [
        row(0.1, 10.0, 95.0, p99_ms=8.0, beside={"p99_ms": 10.0}),
        row(0.2, 20.0, 105.0, p99_ms=8.0, beside={"p99_ms": 40.0}),
    ]
    history = History().apply(Told(tuple(rows), 0.0))
    yard = yardstick(history, config, {})
    assert yard.windows.value[:, 0] == pytest.approx([2 * 15.0 - 16.0, 2 * 15.0 - 4.0])
    assert yard.windows.value[:, yard.windows.column("qps")] == pytest.approx([15.0, 15.0])
    limited = parse(CONFIG | {"objectives": objectives, "constraints": {"qps": {"min": 5}}})
    yard = yardstick(history, limited, {})
    assert yard.windows.value[:, yard.windows.column("qps")] == pytest.approx([10.0, 20.0]), "a limit is of what ran"
    assert yard.windows.value[:, 0] == pytest.approx([2 * 15.0 - 16.0, 2 * 15.0 - 4.0])


@pytest.mark.parametrize(
    ("control", "says"),
    [
        (5, "control: expected {params, values}, found 5"),
        ({"params": {"x": 0.5}, "values": {"qps": 1}, "id": "1"}, "control: expected {params, values}, found"),
        ({"values": {"qps": 1}}, "control.params: expected an object of knob values, found None"),
        ({"params": {"y": 0.5}, "values": {"qps": 1}}, "control: unknown knob 'y'"),
        ({"params": {"x": 0.5}}, "control: value is missing"),
        ({"params": {"x": 0.5}, "values": {"qps": "fast"}}, "control: qps: expected a number or null"),
    ],
)
def test_a_bad_control_is_refused_and_nothing_taken(make: Make, control: Any, says: str) -> None:
    solver = make(CONFIG)
    with pytest.raises(ResultError) as caught:
        solver.seed([{"params": {"x": 0.1}, "values": {"qps": 1}, "control": control}])
    assert f"Invalid seed data: row 0: {says}" in str(caught.value)
    assert solver.get_history_len() == 0


def test_a_corrected_control_is_a_correction(make: Make) -> None:
    solver = make(CONFIG)
    candidate = solver.ask_one()
    assert candidate is not None
    result = {"params": candidate, "id": candidate.id, "values": {"qps": 1.0}}
    for value, corrected in ((1.0, 0), (1.0, 0), (2.0, 1), (math.inf, 2)):
        solver.seed([result | {"control": {"params": {"x": 0.5}, "values": {"qps": value}}}])
        assert (len(solver._study.history), solver._study.history.corrected) == (1, corrected)
    control = solver._study.history.rows[0].control
    assert control is not None
    assert control.values == {"qps": None}, "infinite: not measured"
