"""status, explain, history and the picture: plain data about every phase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import image

from arqon_gp import ArqonSolver, RequestError, plots
from arqon_gp.config import parse
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
    assert status["model"]["window_std"]["utility"] == pytest.approx(1.0, abs=0.9)


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


def test_the_picture_is_an_image_of_the_windows(tmp_path: Path) -> None:
    loop = Loop(config(), System(worse_above_50), to(size=60))
    loop.run(12)
    path = plots.tuning(loop.solver, parse(config()), tmp_path / "tuning.png")
    height, width, _ = image.imread(path).shape
    assert width > 800
    assert height > 800, "utility and two knobs"
