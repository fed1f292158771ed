"""status, explain, recommend and history: plain data about every phase."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, Prediction, RequestError
from arqon_gp.advice import Proposal
from tests.conftest import Make
from tests.scripted import Loop, to
from tests.test_guard import HERE, System, config, worse_above_50


def test_status_is_plain_data_in_every_phase() -> None:
    loop = Loop(config(budget=30, guardrails={"max_rollbacks_per_hour": 1}), System(worse_above_50), to(size=60))
    phases = [loop.status["phase"]]
    loop.solver.pause()
    phases.append(loop.status["phase"])
    loop.solver.resume()
    for _ in range(100):
        json.dumps(loop.status, allow_nan=False)
        if loop.step() is None:
            break
        phases.append(loop.status["phase"])
    assert {"start", "paused", "search", "label", "safe mode", "finished"} <= {*phases, loop.status["phase"]}


def test_status_names_what_an_operator_asks_for() -> None:
    loop = Loop(config(constraints={"p99_ms": {"max": "1.1*baseline"}}), System(), to(size=55))
    loop.run(4)
    status = loop.status
    assert status["deployed"] == HERE | {"size": 55}
    assert status["last_good"] == {"params": HERE, "confirmed": True}
    assert status["guard"]["step_box"] == {"size": {"min": 45, "max": 60}, "wait": {"min": 4.0, "max": 6.0}}
    assert status["utility"]["weights"] == {"qps": 1.0}
    assert status["limits"] == ["p99_ms <= 1.1*baseline"]
    assert status["budget"]["spent"] == 4
    expected = math.sqrt((2 * 5.0**2 + 2 * 0.0) / 4)  # 5 % for two degrees of freedom, and three windows that agree
    assert status["model"]["window_std"]["utility"] == pytest.approx(expected, rel=0.01)


def _scribble(on: Any) -> None:
    """Write over everything in it that can be written to."""
    for of in on.values() if isinstance(on, dict) else on if isinstance(on, list | tuple) else ():
        _scribble(of)
    if isinstance(on, dict):
        on.update(dict.fromkeys([*on, "more"], -1.0))
    elif isinstance(on, list):
        on.append("more")


def test_what_is_done_to_an_answer_changes_nothing_in_the_study(make: Make) -> None:
    """Nor what is done to rows that were told: the journal in memory holds what was accepted."""
    solver = make(
        {
            "seed": 1,
            "bounds": {"x": {"min": 0, "max": 1}},
            "context": {"load": {"min": 0, "max": 9}},
            "guardrails": {"max_delta": [0.1]},
        }
    )

    def told() -> list[Any]:
        known = [*solver.windows(), *(solver.explain(of["id"]) for of in solver.windows()), solver.recommend()]
        return [solver.status(), *known, solver.history().to_json()]

    for n in range(6):
        candidate = solver.ask_one({"load": 4.0 + n})
        assert candidate is not None
        row = {"params": dict(candidate), "values": {"value": n % 2 + candidate["x"]}, "context": {"load": 4.0 + n}}
        solver.seed([row])
        before = repr(told())
        for answer in (candidate, candidate.predicted, row):
            _scribble(answer)
        assert repr(told()) == before
    assert candidate.predicted  # the model's
    found = solver.recommend()
    for answer in (*told(), solver.importance(), found.params, found.outcomes):
        _scribble(answer)
    table = solver.history()
    table.loc[:, "x"] = 9.0
    assert repr(told()) == before


def test_status_shows_what_the_front_has_to_beat() -> None:
    """The threshold; else the baseline worsened by 10 %; else, without guardrails, what the front itself says."""
    goals = {"qps": "max", "p99_ms": "min", "misses": {"direction": "min", "threshold": 7}}
    loop = Loop(config(objectives=goals), lambda p: {"qps": 100.0, "p99_ms": 20.0, "misses": 3.0}, to(size=55))
    loop.run(4)
    assert loop.status["utility"]["reference"] == {"qps": 90.0, "p99_ms": 22.0, "misses": 7.0}
    loop = Loop(config(objectives=goals) | {"guardrails": None}, lambda p: {})
    assert loop.status["utility"]["reference"] == {"qps": None, "p99_ms": None, "misses": 7.0}


def test_explain_tells_why_where_and_what_came_of_it() -> None:
    loop = Loop(config(), System(worse_above_50), to(size=60))
    back = loop.until("rollback")
    told = loop.solver.explain(back.id)
    assert told["kind"] == "rollback"
    assert told["deployed"]["size"] == 60
    assert told["last_good"] == told["params"] == HERE
    assert told["result"]["params"] == HERE
    assert any("worse than last_good" in finding for finding in told["findings"])
    json.dumps(told, allow_nan=False)
    for id in ("99", "1h1", "x"):
        with pytest.raises(RequestError, match="no such candidate"):
            loop.solver.explain(id)


def test_every_kind_of_candidate_is_explained_as_plain_data() -> None:
    """Two studies in which each kind occurs, told by the journal after the fact."""

    def there_and_back(study: Any, request: Any) -> Proposal:
        good = study.guard.last_good
        return Proposal(good | {"size": good["size"] + 10 * study.deployment.runs(good)}, "there and back")

    loop = Loop(config(probe_ratio=0.01, budget=40), System(worse_above_50), there_and_back)
    loop.until("probe")
    loop.until("rollback")
    loop.solver.pause()
    loop.step()
    loop.solver.resume()
    loop.run(100)
    short = Loop(config(budget=5), System(), to(size=55))
    short.run(5)
    issued = {str(c.kind): (study.solver, c) for study in (loop, short) for c in study.candidates}
    assert set(issued) == {"start", "probe", "explore", "replicate", "hold", "rollback", "settle"}
    for kind, (solver, candidate) in issued.items():
        told = solver.explain(candidate.id)
        json.dumps(told, allow_nan=False)
        assert (told["kind"], told["params"], told["reason"]) == (kind, candidate, candidate.reason)
        assert told["issued_at"] == candidate.issued_at
        assert told["change"] == (dict(candidate) != told["deployed"])
        assert told["pending"] is False
        assert told["result"]["params"] == candidate
        for knob, value in candidate.items():
            assert told["step_box"][knob]["min"] <= value <= told["step_box"][knob]["max"]


def test_what_is_pending_is_explained_with_what_is_expected_of_it() -> None:
    predicted = {"qps": Prediction(100.0, 90.0, 110.0)}
    loop = Loop(config(), System(), lambda s, r: Proposal(HERE | {"size": 55}, "why not", predicted, 3.0, 0.97, 0.1))
    loop.run(3)
    told = loop.solver.explain(loop.solver.ask_one().id)
    assert told["predicted"] == {"qps": {"mean": 100.0, "lower": 90.0, "upper": 110.0}}
    assert (told["expected_improvement"], told["p_limits"], told["fallback"]) == (3.0, 0.97, None)
    assert (told["pending"], told["result"]) == (True, None)


def test_windows_tells_of_each_result_of_a_candidate_what_explain_tells() -> None:
    loop = Loop(config(), System(worse_above_50), to(size=60))
    loop.solver.seed([{"params": HERE, "values": {"qps": 99.0}}])
    loop.until("rollback")
    loop.step(status="failed")
    pending = loop.solver.ask_one()
    windows = loop.solver.windows()
    json.dumps(windows, allow_nan=False)
    told = loop.solver.history().iloc[1:]
    assert [w["id"] for w in windows] == list(told["id"]) == [c.id for c in loop.candidates]
    assert windows == [
        loop.solver.explain(c.id) | {"utility": w["utility"]} for c, w in zip(loop.candidates, windows, strict=True)
    ]
    assert [w["utility"] for w in windows[:-1]] == list(told["qps"])[:-1]
    assert windows[-1]["utility"] is None, "a failure has none"
    assert pending.id not in [w["id"] for w in windows]


def test_a_recommendation_has_intervals_that_hold_the_truth(make: Make) -> None:
    """With the model: qps is 100 everywhere, with noise of 2; eight windows tell it to within about 1."""
    solver: ArqonSolver = make(config(budget=8, constraints={"p99_ms": {"max": 15}}))
    assert solver.recommend().outcomes is None
    random = np.random.default_rng(3)
    while (candidate := solver.ask_one()) is not None:
        values = {"qps": 100.0 + 2.0 * random.normal(), "p99_ms": 10.0 + 0.2 * random.normal()}
        solver.seed([{"params": candidate, "values": values}])
    recommended = solver.recommend()
    assert recommended.outcomes is not None
    assert list(recommended.outcomes) == ["qps", "p99_ms"]
    qps = recommended.outcomes["qps"]
    assert qps.lower < 100.0 < qps.upper
    assert qps.lower < qps.mean < qps.upper
    assert 0.5 < qps.upper - qps.lower < 8.0, "free of noise: narrower than the window's own 7.8"
    assert recommended.p_limits == pytest.approx(1.0, abs=0.05)
    history = solver.history()
    runs = (history[["size", "wait"]] == list(recommended.params.values())).all(axis=1)
    assert recommended.windows == runs.sum()
    status = solver.status()
    json.dumps(status, allow_nan=False)
    assert status["model"]["device"] == "cpu"
    assert set(status["model"]["hyperparameters"]) == {"qps", "p99_ms"}


def test_status_and_recommendation_before_any_result(make: Make) -> None:
    guarded, free = make(config()), make({"seed": 1, "name": "free", "bounds": {"x": {"min": 0, "max": 2}}})
    for solver in (guarded, free):
        json.dumps(solver.status(), allow_nan=False)
    assert guarded.status()["last_good"] == {"params": HERE, "confirmed": False}
    assert (free.status()["last_good"], free.status()["guard"]) == (None, None)
    assert free.status()["budget"]["left"] is None
    assert free.recommend().params == {"x": 1.0}


def test_probing_searching_and_watching_are_phases() -> None:
    quiet: dict[str, Any] = {"improvement": 0.0}
    loop = Loop(
        config(budget=None),
        System(),
        lambda s, r: Proposal(HERE | {"size": 50 + len(s.history) % 3}, "little", **quiet),
    )
    phases = []
    for _ in range(60):
        loop.step()
        phases.append(loop.status["phase"])
        json.dumps(loop.status, allow_nan=False)
        if phases[-1] == "watching":
            break
    assert {"start", "probe", "search", "watching"} <= set(phases)


def test_history_is_a_row_a_result_in_order_of_arrival(make: Make) -> None:
    solver: ArqonSolver = make(config())
    assert list(solver.history().columns)[:5] == ["id", "eval_id", "kind", "role", "status"]
    assert len(solver.history()) == 0
    solver.seed([{"params": HERE, "values": {"qps": 3.0}, "cost": 5.0, "time": 7.0}])
    first = solver.ask_one()
    solver.seed([{"params": first, "values": {"qps": 4.0, "rss": 9.0}}])
    history = solver.history()
    assert list(history["role"]) == ["warm", "window"]
    assert history["kind"].isna().tolist() == [True, False]
    assert history["kind"][1] == "start"
    assert list(history["qps"]) == [3.0, 4.0]
    assert list(history["cost"]) == [5.0, 1.0]
    assert history["rss"].isna().tolist() == [True, False]


FRONT: dict[str, Any] = {
    "seed": 1,
    "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}},
    "objectives": {"qps": "max", "cost": "min"},
}


def of_two(x: float, y: float) -> dict[str, float]:
    """The front is y = 0: qps and cost grow with x; y costs both."""
    return {"qps": 100.0 + 20.0 * x - 30.0 * y, "cost": 5.0 + 4.0 * x**2 + 6.0 * y}


def seeded(solver: ArqonSolver, more: dict[str, float] | None = None) -> ArqonSolver:
    random = np.random.default_rng(0)
    for x in np.linspace(0.0, 1.0, 6):
        for y in (0.0, 0.4, 1.0):
            values = {name: v + 0.05 * random.normal() for name, v in (of_two(x, y) | (more or {})).items()}
            solver.seed([{"params": {"x": x, "y": y}, "values": values}])
    return solver


def test_the_front_is_of_measured_configs_that_no_other_dominates(make: Make) -> None:
    front = seeded(make(FRONT)).pareto_front()
    assert [one.params["y"] for one in front] == [0.0] * 6
    assert [one.params["x"] for one in front] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    for one in front:
        assert (one.windows, one.p_limits) == (1, 1.0)
        assert one.outcomes is not None
        truth = of_two(float(one.params["x"]), 0.0)
        assert all(of.lower - 0.1 <= truth[name] <= of.upper + 0.1 for name, of in one.outcomes.items())


def test_the_front_keeps_the_limits_and_is_empty_where_none_does(make: Make) -> None:
    tight = seeded(make(FRONT | {"constraints": {"cost": {"max": 7.0}}, "name": "tight"})).pareto_front()
    assert [config.params["x"] for config in tight] == pytest.approx([0.6, 0.4, 0.2, 0.0])
    assert seeded(make(FRONT | {"constraints": {"cost": {"max": 1.0}}, "name": "none"})).pareto_front() == []
    assert make(FRONT | {"name": "new"}).pareto_front() == []


def test_the_front_of_one_objective_is_its_best_config(make: Make) -> None:
    solver = make({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "name": "one"})
    solver.seed([{"params": {"x": 0.1 * i}, "value": (0.1 * i - 0.3) ** 2} for i in range(11)])
    assert [config.params["x"] for config in solver.pareto_front()] == [pytest.approx(0.3)]


def test_the_step_box_of_a_periodic_knob_goes_over_its_seam(make: Make) -> None:
    bounds = {"hour": {"type": "int", "min": 0, "max": 24, "scale": "periodic", "initial": 23}}
    bounds |= {"phase": {"min": 0, "max": 1, "scale": "periodic", "initial": 0.0}}  # type: ignore[dict-item]
    solver = make({"seed": 1, "bounds": bounds, "guardrails": {"max_delta": [2, 0.1]}})
    box = solver.status()["guard"]["step_box"]
    assert box["hour"] == {"min": 21, "max": 1}
    assert box["phase"] == pytest.approx({"min": 0.9, "max": 0.1})


def test_no_column_of_the_history_hides_another(make: Make) -> None:
    taken = {name: {"min": 0, "max": 1, "initial": 0.5} for name in ("cost", "context_load", "x")}
    solver = make({"seed": 1, "bounds": taken, "context": {"load": {"min": 0, "max": 10}}})
    given = {"cost": 0.1, "context_load": 0.2, "x": 0.3}
    control = {"params": given, "values": {"value": 9.0}}
    values = {"value": 1.0, "load": 7.0, "time": 8.0, "outcome_time": 6.0, "control_value": 5.0}
    solver.seed([{"params": given, "values": values, "cost": 3.0, "context": {"load": 4.0}, "control": control}])
    found = solver.history()
    assert found.columns.is_unique
    shown = {0.1, 0.2, 0.3, 1.0, 7.0, 8.0, 6.0, 5.0, 9.0, 3.0, 4.0}
    assert shown <= set(found.iloc[0].tolist())
    assert (found["cost"][0], found["knob_cost"][0], found["context_load"][0]) == (3.0, 0.1, 4.0)
