"""Context: what nobody controls is an input of the model, and windows are compared as of one and the same context."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy import special

from arqon_gp import ArqonSolver, ConfigError, JournalError, RequestError, ResultError, limits
from arqon_gp.advice import Change
from arqon_gp.comparison import Question, compare
from arqon_gp.config import parse
from arqon_gp.dataset import CELLS, TrainingSets
from arqon_gp.guarded import _as_world, _remembered
from arqon_gp.history import History
from arqon_gp.knobs import Real
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import (
    Baselined,
    Issued,
    Kind,
    Label,
    Labelled,
    Observation,
    Prediction,
    Role,
    Situated,
    Suspected,
    Told,
)
from arqon_gp.study import Study
from arqon_gp.yardstick import yardstick
from tests.conftest import FakeClock, Make

BOUNDS = {"x": {"min": 0, "max": 1, "initial": 0.5}}
LOAD = {"load": {"min": 100, "max": 1000}}
FREE: dict[str, Any] = {"seed": 1, "bounds": BOUNDS, "context": LOAD, "objectives": {"qps": "max"}}
LIVE: dict[str, Any] = FREE | {"guardrails": {"max_delta": [0.1]}}


def row(x: float, load: float | None = None, qps: float = 1.0, **more: Any) -> dict[str, Any]:
    context = {} if load is None else {"context": {"load": load}}
    return {"params": {"x": x}, "values": {"qps": qps}, **context, **more}


# ---- config and results --------------------------------------------------------------------------------------------


def test_a_context_is_a_number_in_a_range_or_one_with_a_period() -> None:
    given = {"load": {"min": 1, "max": 100, "scale": "log"}, "hour": {"period": 24}, "disk": {"min": 0, "max": 5}}
    config = parse(FREE | {"context": given})
    assert config.context == (
        Real("load", 1.0, 100.0, log=True),
        Real("hour", 0.0, 24.0, periodic=True),
        Real("disk", 0.0, 5.0),
    )
    assert config.usual == {"load": pytest.approx(10.0), "hour": 12.0, "disk": 2.5}
    assert (config.space.names, config.inputs.names) == (["x"], ["x", "load", "hour", "disk"])
    plain = parse(FREE | {"context": {}})
    assert plain.inputs is plain.space


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"load": {}}, "context.load: needs min and max, or period; found neither"),
        ({"load": {"min": 1}}, "context.load: needs min and max, or period; found min"),
        ({"load": {"min": 1, "max": 2, "period": 3}}, "context.load: needs min and max, or period; found min, max, "),
        ({"load": {"min": 2, "max": 1}}, "context.load: min must be below max; found min 2, max 1"),
        ({"load": {"min": 0, "max": 1, "scale": "log"}}, "context.load: scale log needs min > 0; found 0"),
        ({"hour": {"period": 24, "scale": "log"}}, "context.hour: scale log has no meaning with a period"),
        ({"hour": {"period": -1}}, "context.hour.period: "),
        ({"x": {"period": 24}}, "context.x: a knob has this name; give another one"),
        ({"qps": {"period": 24}}, "context.qps: an outcome has this name; give another one"),
        ({"load": {"min": 1, "max": 2, "step": 1}}, "context.load: unknown key 'step'; allowed: min, max"),
    ],
)  # fmt: skip
def test_a_context_that_makes_no_sense_is_refused(context: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(FREE | {"context": context})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"lod": 3}, "row 0: context.lod: not in the context; it has load"),
        ({"load": "high"}, "row 0: context.load: expected a number or null, found 'high'"),
        ({"load": math.inf}, "row 0: context.load: expected a finite number"),
        ([1], "row 0: context: expected an object of what was observed, found [1]"),
    ],
)
def test_a_wrong_context_of_a_result_is_refused_and_changes_nothing(make: Make, context: Any, said: str) -> None:
    solver = make(FREE)
    with pytest.raises(ResultError) as caught:
        solver.seed([row(0.5) | {"context": context}])
    assert said in str(caught.value)
    assert solver.get_history_len() == 0
    with pytest.raises(RequestError, match=r"^context"):
        solver.ask_one(context)
    assert solver.status()["context"] == {"load": 550.0}


def test_what_is_not_told_is_as_it_was_last(make: Make) -> None:
    solver = make(FREE | {"context": LOAD | {"hour": {"period": 24}}})
    solver.seed([row(0.1)])
    solver.seed([row(0.2, 300.0)])
    solver.seed([row(0.3) | {"context": {"hour": 25, "load": None}}])
    candidate = solver.ask_one({"load": 900})
    assert candidate is not None
    solver.seed([row(candidate["x"], id=candidate.id)])
    solver.seed([row(0.4, 200.0, history=True)])
    assert list(solver.history()["context_load"]) == [550.0, 300.0, 300.0, 900.0, 200.0]
    assert list(solver.history()["context_hour"]) == [12.0, 12.0, 1.0, 1.0, 1.0]
    assert solver.status()["context"] == {"load": 900.0, "hour": 1.0}, "history says nothing of now"
    solver.seed([row(candidate["x"], 950.0, id=candidate.id)])
    assert list(solver.history()["context_load"])[3] == 950.0, "another context is a correction"
    assert solver.get_history_len() == 5


def test_a_gap_in_a_context_is_not_known(make: Make) -> None:
    solver = make(FREE)
    candidate = solver.ask_one({"load": 300.0})
    assert solver.ask_one({"load": math.nan}) == candidate
    solver.seed([row(0.5) | {"context": {"load": math.nan}}])
    assert list(solver.history()["context_load"]) == [300.0]


def test_no_extrapolation_reaches_farther_than_once_the_range(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    solver = make(FREE)
    for load, taken in ((640_000.0, 1900.0), (1200.0, 1200.0), (-5e9, -800.0)):
        solver.ask_one({"load": load})
        assert solver.status()["context"] == {"load": taken}
        assert f"context.load: {load:g} is outside its range, 100 to 1000" in caplog.text
    caplog.clear()
    solver.seed([row(0.5, 300.0), row(0.5, 2000.0), row(0.5, 3000.0)])
    assert [record.message for record in caplog.records] == [
        "context.load: results were measured outside its range, 100 to 1000"
    ]
    log = make(FREE | {"context": {"load": {"min": 1, "max": 100, "scale": "log"}}})
    log.ask_one({"load": 1e12})
    assert log.status()["context"] == {"load": pytest.approx(1e4)}


def test_far_outside_its_range_a_window_has_to_say_that_a_limit_is_broken(make: Make) -> None:
    solver = make(LIVE | {"constraints": {"p99": {"max": 50}}})
    for i in range(8):
        candidate = solver.ask_one({"load": 200.0 + 40.0 * i})
        assert candidate is not None
        values = {"qps": 1.0, "p99": 10.0 + 0.04 * (200.0 + 40.0 * i)}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
    for load in (1800.0, 640_000.0):
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        assert candidate == solver.status()["last_good"]["params"], "measured before it is left"


def test_without_a_context_nothing_of_it_is_kept(make: Make) -> None:
    solver = make({"seed": 1, "bounds": BOUNDS})
    solver.seed([{"params": {"x": 0.5}, "value": 1.0}])
    assert solver.status()["context"] == {}
    assert solver._study.history.rows[0].context == {}
    with pytest.raises(RequestError, match="the config of this study has no context"):
        solver.ask_one({"load": 3})


# ---- journal -------------------------------------------------------------------------------------------------------


def test_a_context_is_written_down_when_it_changes_and_a_restart_goes_on_from_it(tmp_path: Path) -> None:
    journal, loads = f"sqlite:///{tmp_path}/j.db", [300.0, 300.0, 700.0, 900.0, 400.0, 400.0, 800.0]

    def run(restart: bool) -> tuple[list[Any], int]:
        where, seen = (journal if restart else None), []
        solver = ArqonSolver(LIVE, journal=where, registry=CollectorRegistry(), clock=lambda: 5.0, device="cpu")
        for load in loads:
            candidate = solver.ask_one({"load": load})
            assert candidate is not None
            assert list(candidate) == ["x"]
            seen.append((candidate.id, candidate, candidate.kind, candidate.predicted))
            solver.seed([row(candidate["x"], qps=10 * load - abs(candidate["x"] - 0.7), id=candidate.id)])
            if restart:
                solver.close()
                solver = ArqonSolver(LIVE, journal=where, registry=CollectorRegistry(), clock=lambda: 5.0, device="cpu")
        told = [event for event in solver._journal.read("default", 0) if isinstance(event, Situated)]
        assert [solver.explain(of[0])["context"]["load"] for of in seen] == loads
        solver.close()
        return seen, len(told)

    assert run(restart=True) == run(restart=False)
    assert run(restart=False)[1] == 5


# ---- the model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [{"min": 0, "max": 24}, {"period": 24}])
def test_the_best_config_of_each_context_is_found_and_remembered(make: Make, scale: dict[str, Any]) -> None:
    """The optimum moves from 0.2 to 0.8; afterwards both are known, without another window. The level moves by a
    hundred times as much as any config is worth.
    """
    solver, random = make(FREE | {"context": {"hour": scale}, "probe_ratio": 0.0}), np.random.default_rng(0)

    def best(hour: float) -> float:
        return 0.5 - 0.3 * math.cos(2.0 * math.pi * hour / 24.0)

    def level(hour: float) -> float:
        return 1200.0 * (1.0 - math.cos(2.0 * math.pi * hour / 24.0)) if "period" in scale else 100.0 * hour

    late = []
    for i in range(60):
        hour = float(i * 3 % 24)
        candidate = solver.ask_one({"hour": hour})
        assert candidate is not None
        late.append(abs(candidate["x"] - best(hour)))
        value = level(hour) - 50.0 * (candidate["x"] - best(hour)) ** 2 + 0.2 * random.normal()
        solver.seed([row(candidate["x"], qps=value, id=candidate.id)])
    assert np.mean(late[-16:]) < 0.12, "nothing depends on the level"
    for hour in (0.0, 6.0, 12.0, 21.0):
        found = solver.recommend({"hour": hour})
        assert found.params["x"] == pytest.approx(best(hour), abs=0.1), hour
        assert found.outcomes is not None
        assert found.outcomes["qps"].mean == pytest.approx(level(hour), abs=60.0)
    assert solver.status()["context"] == {"hour": 9.0}, "a question changes nothing"
    assert list(solver.importance()) == ["x"]


def test_the_weekday_peak_comes_back_within_a_few_asks(make: Make, clock: FakeClock) -> None:
    """Two hours a window; the best x is 0.2 by night, 0.32 at noon of a weekend and 0.8 at that of a weekday, two steps
    away. Traffic moves the level by 45 times as much as the wrong x costs."""
    config = LIVE | {
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.2}},
        "context": {"hour": {"period": 24}, "weekday": {"period": 7}},
        "guardrails": {"max_delta": [0.3], "min_effect": 1.0},
    }
    solver, rng, off = make(config), np.random.default_rng(0), {}
    for i in range(17 * 12):
        day, hour = i // 12, 2.0 * (i % 12)
        busy = (0.5 - 0.5 * math.cos(2.0 * math.pi * (hour - 2.0) / 24.0)) * (1.0 if day % 7 < 5 else 0.2)
        best = 0.2 + 0.6 * busy
        candidate = solver.ask_one({"hour": hour, "weekday": float(day % 7)})
        clock.pass_s(7200.0)
        qps = 1000.0 + 800.0 * busy - 50.0 * (candidate["x"] - best) ** 2 + 0.3 * rng.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps}}])
        off[day, hour] = abs(candidate["x"] - best)
    for day in (14, 15, 16):  # after a weekend, and on the next days
        assert max(off[day, 12.0], off[day, 14.0]) < 0.2, "the third ask after eight o'clock, and the fourth"
        assert max(off[day, hour] for hour in (0.0, 2.0, 4.0, 22.0)) < 0.2, "and the night after it"
    weekend = [off[day, 2.0 * i] for day in (12, 13) for i in range(12)]
    assert np.mean(weekend) < 0.25, "a weekday's config is 0.4 off and more"


def test_a_limit_is_judged_in_the_present_context(make: Make) -> None:
    solver = make(FREE | {"constraints": {"p99": {"max": 100}}, "probe_ratio": 0.0})
    rows = []
    for load in np.linspace(100, 1000, 10):
        for x in (0.0, 0.5, 1.0):
            rows.append(row(x, load, 100 * x) | {"values": {"qps": 100 * x, "p99": 0.1 * load * (0.4 + x)}})
    solver.seed(rows)
    calm, busy = (solver.recommend({"load": load}) for load in (200.0, 1000.0))
    assert calm.params["x"] == pytest.approx(1.0, abs=0.01)
    assert busy.params["x"] == pytest.approx(0.6, abs=0.1)
    candidates = [solver.ask_one({"load": 1000.0}) for _ in range(1)]
    assert candidates[0] is not None
    assert candidates[0]["x"] < 0.75


def test_four_objectives_are_sought_in_the_present_context_too(make: Make) -> None:
    """By BoTorch, which searches the same inputs."""
    names = ("a", "b", "c", "d")
    solver = make(FREE | {"objectives": dict.fromkeys(names, "min"), "probe_ratio": 0.0})
    for load in (100.0, 400.0, 700.0, 1000.0):
        for x in (0.1, 0.5, 0.9):
            values = {name: (x - load / 1000.0) ** 2 + 0.01 * i for i, name in enumerate(names)}
            solver.seed([{"params": {"x": x}, "values": values, "context": {"load": load}}])
    low, high = (solver.ask(1, {"load": load}) for load in (200.0, 900.0))
    assert low is not None
    assert high is not None
    assert low[0]["x"] < high[0]["x"]
    assert solver.status()["model"]["fallbacks"] == {}


def windows(history: History, *rows: tuple[float, float, float]) -> History:
    told = tuple(Observation({"x": x}, {"qps": y}, Role.WINDOW, context={"load": load}) for x, load, y in rows)
    return history.apply(Told(told, 0.0))


def test_windows_of_one_config_in_alike_contexts_are_one_stay() -> None:
    config = parse(FREE)
    cell = 900.0 / CELLS
    history = windows(
        History(),
        (0.5, 100.0, 1.0), (0.5, 100.0 + 0.4 * cell, 3.0), (0.5, 100.0 + 1.5 * cell, 5.0), (0.5, 100.0, 7.0),
    )  # fmt: skip
    data = TrainingSets(config.inputs, config.goals).of(history)
    assert data.count[:, 0].tolist() == [2, 1, 1]
    assert data.X[:, 1] == pytest.approx([0.2 / CELLS, 1.5 / CELLS, 0.0])
    assert data.Y[:, 0].tolist() == [2.0, 5.0, 7.0]
    assert len(data.distinct) == 1, "and all are windows of one config"


def test_the_step_between_regimes_is_told_by_windows_of_one_context() -> None:
    """Traffic doubles with the regime: what only traffic did is no drift."""
    config = parse(FREE)
    history = windows(History(), (0.5, 200.0, 2000.0), (0.7, 200.0, 2100.0), (0.5, 900.0, 9000.0))
    history = history.apply(Labelled(Label.DRIFT, "", 0.0, since=3))
    history = windows(history, (0.5, 900.0, 8500.0), (0.7, 900.0, 9000.0))
    data = TrainingSets(config.inputs, config.goals).of(history)
    assert data.Y[:, 0] == pytest.approx([1500.0, 1600.0, 8500.0, 8500.0, 9000.0])


# ---- the guard -----------------------------------------------------------------------------------------------------


def study_of(config: dict[str, Any], *rows: tuple[float, float, float]) -> Study:
    study = Study.new(parse(config))
    for x, load, y in rows:
        observed = Observation({"x": x}, {"qps": y}, Role.WINDOW, context={"load": load})
        study = study.apply(Told((observed,), 0.0))
    return study


@pytest.mark.parametrize("few", [1000, 8])
def test_windows_are_compared_as_of_the_present_context(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """10 a unit of load: 0.7 is better by 200 wherever it is measured, though its windows came when less was on."""
    monkeypatch.setattr("arqon_gp.outlook.FEW_CELLS", few)
    random = np.random.default_rng(0)
    loads = np.linspace(300.0, 900.0, 25)
    rows = [(0.5, load, 10 * load + 5 * random.normal()) for load in loads]
    rows += [(0.7, load, 10 * load + 200.0 + 5 * random.normal()) for load in (700.0, 710.0, 720.0, 730.0)]
    study = study_of(LIVE, *rows).apply(Situated({"load": 800.0}, 0.0))
    shifts = ModelAdvisor(study.config, device="cpu").shifts(study, study.history.excerpt())
    yard = yardstick(study.history, study.config, {}, shifts)
    assert yard.windows.measured[:, 0] == pytest.approx([y for _, _, y in rows])
    now = yard.windows.value[:, 0]
    assert now[:25] == pytest.approx(8000.0, abs=60.0)
    assert now[25:] == pytest.approx(8200.0, abs=160.0)
    assert yard.noise["utility"].std < 60.0, "traffic is no noise"
    assert yard.windows.doubt is not None
    std = np.sqrt(yard.windows.doubt[:, 0])
    near = int(np.argmin(np.abs(loads - 800.0)))
    mistrust = 0.25 * (now[25] - yard.windows.measured[25, 0])
    if few > 25:
        assert std[near] < 100.0 < std[25], "a window of far away says little of here"
        assert std[25] == pytest.approx(mistrust, rel=0.1)
    else:
        assert std[near] < std[25] < 0.5 * mistrust, "25 contexts that the model told right"


def test_a_window_of_a_context_far_away_decides_nothing() -> None:
    """last_good has twenty windows, all where there was little traffic; what runs has three, here. No shift was ever
    seen, so it may be anything.
    """
    random = np.random.default_rng(0)
    rows = [(0.5, 200.0, 2000.0 + 20.0 * random.normal()) for _ in range(20)]
    rows += [(0.6, 200.0, 2000.0 + 20.0 * random.normal()) for _ in range(3)]
    rows += [(0.6, 900.0, 3000.0 + 20.0 * random.normal()) for _ in range(3)]
    study = study_of(LIVE, *rows).apply(Situated({"load": 900.0}, 0.0))
    advisor = ModelAdvisor(study.config, device="cpu")
    yard = yardstick(study.history, study.config, {}, advisor.shifts(study, study.history.excerpt()))
    question = Question(running={"x": 0.6}, last_good={"x": 0.5})
    found = compare(question, yard, study.config, lambda params, other: None)
    assert 0.1 < found.running.better < 0.9
    assert yard.foreign({"x": 0.5})
    assert not yard.foreign({"x": 0.6})
    unseen = study_of(LIVE, *rows[:23]).apply(Situated({"load": 900.0}, 0.0))
    shifts = ModelAdvisor(unseen.config, device="cpu").shifts(unseen, unseen.history.excerpt())
    assert shifts is not None
    assert np.sqrt(shifts.variance).min() > 400.0, "of 2,000"


def test_in_a_new_context_last_good_is_measured_before_anything_is_tried(make: Make, clock: FakeClock) -> None:
    solver, random = make(LIVE), np.random.default_rng(0)
    for load in [200.0] * 30 + [900.0]:
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        value = 10.0 * load - 100.0 * (candidate["x"] - 0.6) ** 2 + random.normal()
        solver.seed([row(candidate["x"], load, value, id=candidate.id)])
        clock.pass_s(300.0)
    assert candidate.kind == "replicate"
    assert candidate.reason == "what is found here is compared with last_good: it is measured first"


def test_what_runs_is_measured_in_a_new_context_before_it_is_left(make: Make, clock: FakeClock) -> None:
    """It is not last_good, which is not measured here."""
    solver, random = make(LIVE), np.random.default_rng(0)
    for load in [200.0] * 30:
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        value = 10.0 * load - 100.0 * (candidate["x"] - 0.6) ** 2 + random.normal()
        solver.seed([row(candidate["x"], load, value, id=candidate.id)])
        clock.pass_s(300.0)
    good = solver.status()["last_good"]["params"]["x"]
    solver.seed([row(good + 0.01, 200.0, 2000.0)])
    found = solver.ask_one({"load": 900.0})
    assert (found["x"], found.reason) == (pytest.approx(good + 0.01), "what runs is measured here before it is left")
    solver.seed([row(found["x"], 900.0, 9000.0, id=found.id)])
    assert solver.ask_one({"load": 900.0}).reason != found.reason, "once"


def test_where_the_context_never_rests_last_good_is_not_measured_for_ever(make: Make, clock: FakeClock) -> None:
    """Between two windows the load moves the outcome by far more than the noise."""
    solver, rng = make(LIVE), random.Random(0)
    reasons = []
    for i in range(40):
        load = 100.0 + 22.0 * i
        clock.pass_s(300.0)
        candidate = solver.ask_one(context={"load": load})
        assert candidate is not None
        reasons.append("measured first" in candidate.reason)
        solver.seed([row(candidate["x"], load, load**2 + rng.gauss(0.0, 1.0), id=candidate.id)])
    assert any(reasons)
    assert not any(a and b and c for a, b, c in zip(reasons[3:], reasons[4:], reasons[5:], strict=False))


def test_a_baseline_is_as_it_would_be_in_the_present_context() -> None:
    config = LIVE | {"constraints": {"qps": {"min": "0.9*baseline"}}}
    rows = [(0.5, 300.0, 3000.0), (0.5, 300.0, 3003.0), (0.5, 300.0, 2997.0)]
    study = study_of(config, *rows).apply(Baselined({"qps": 3000.0}, 0.0))
    for load in np.linspace(350.0, 900.0, 12):
        for x in (0.3, 0.5, 0.55):
            told = Observation({"x": x}, {"qps": 10 * load * (x + 0.5)}, Role.WINDOW, context={"load": load})
            study = study.apply(Told((told,), 0.0))
    study = study.apply(Situated({"load": 800.0}, 0.0))
    advisor = ModelAdvisor(study.config, device="cpu")
    shifts = advisor.shifts(study, study.history.excerpt())
    assert shifts is not None
    assert shifts.baseline["qps"] == pytest.approx(8000.0, rel=0.02)
    assert study.baseline == {"qps": 3000.0}
    good, bad = (advisor.describe(study, {"x": x}) for x in (0.5, 0.3))
    assert good is not None
    assert bad is not None
    assert good[1] > 0.9 > 0.2 > bad[1], "x = 0.3 has 6400 of 8000"


def traffic(make: Make, clock: FakeClock, *, context: bool) -> ArqonSolver:
    """Traffic is 145 or 620 for 12 windows each, 10 a query; 0.6 is as good as anything."""
    solver, random = make({k: v for k, v in LIVE.items() if context or k != "context"}), np.random.default_rng(1)
    for i in range(120):
        load = 145.0 if i // 12 % 2 else 620.0
        candidate = solver.ask_one({"load": load} if context else None)
        assert candidate is not None
        value = 10.0 * load * (1.0 - 0.3 * (candidate["x"] - 0.6) ** 2) * (1.0 + 0.01 * random.normal())
        extra = {"context": {"load": load}} if context else {}
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": value}} | extra])
        clock.pass_s(300.0)
    return solver


def alarms(solver: ArqonSolver) -> int:
    return sum(isinstance(event, Suspected | Labelled) for event in solver._journal.read("default", 0))


def test_traffic_is_no_regression_where_the_context_is_known(make: Make, clock: FakeClock) -> None:
    assert alarms(traffic(make, clock, context=True)) <= 2
    assert alarms(traffic(make, clock, context=False)) >= 6, "the test would see it"


def test_a_bad_step_is_taken_back_while_traffic_moves(make: Make, clock: FakeClock) -> None:
    solver, random, windows = make(LIVE), np.random.default_rng(3), 0
    for i in range(90):
        load = 500.0 + 300.0 * math.sin(2.0 * math.pi * i / 96.0)
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        windows += candidate["x"] > 0.65
        value = (0.8 if candidate["x"] > 0.65 else 1.0) * 10.0 * load * (1.0 + 0.01 * random.normal())
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": value}, "context": {"load": load}}])
        clock.pass_s(300.0)
        if i == 40:
            solver.enqueue({"x": 0.7})
        if windows and candidate["x"] <= 0.65:
            break
    assert 1 <= windows <= 3


# ---- rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False])
def test_a_study_at_rest_watches_and_wakes_where_a_context_promises_more(
    make: Make, clock: FakeClock, live: bool
) -> None:
    config = LIVE | {"guardrails": {"max_delta": [0.2], "min_effect": 2.0}} if live else FREE
    solver, random, watched, x = make(config), np.random.default_rng(0), 0, 0.5

    def tell(load: float, candidate: Any) -> None:
        best = 0.5 if load < 500 else 0.9
        value = load - 100.0 * (candidate["x"] - best) ** 2 + 0.3 * random.normal()
        solver.seed([row(candidate["x"], load, value, id=candidate.id)])
        clock.pass_s(300.0)

    for _ in range(60):
        candidate = solver.ask_one({"load": 200.0})
        assert candidate is not None
        watched += candidate.reason.startswith("watching")
        tell(200.0, candidate)
    assert watched > 10
    assert solver.status()["target"] is None
    for _ in range(40):
        candidate = solver.ask_one({"load": 900.0})
        assert candidate is not None
        x = candidate["x"]
        tell(900.0, candidate)
    assert x == pytest.approx(0.9, abs=0.15)
    back = []
    for _ in range(16):
        candidate = solver.ask_one({"load": 200.0})
        assert candidate is not None
        back.append(candidate["x"])
        tell(200.0, candidate)
    assert back[-1] == pytest.approx(0.5, abs=0.15), "what was best there comes back"


# ---- the trend -----------------------------------------------------------------------------------------------------


def fitted(*rows: tuple[float, float, float]) -> tuple[Any, ModelAdvisor, Study]:
    study = study_of(FREE, *rows)
    advisor = ModelAdvisor(study.config, device="cpu")
    outlook = advisor.outlook(study)
    assert outlook is not None
    return outlook.fitted["qps"], advisor, study


def test_the_doubt_of_a_trend_is_that_of_a_kernel_that_is_linear_in_the_context() -> None:
    random = np.random.default_rng(0)
    X = random.random((12, 2))
    gp, _, study = fitted(*((x, 100.0 + 900.0 * c, 300.0 * c + np.sin(5 * x) + 0.1 * random.normal()) for x, c in X))
    at = random.random((5, 2)) * [1.0, 2.0]
    centre = (gp.rows.X[:, 1] - 0.5).mean()

    def k(A: np.ndarray, B: np.ndarray) -> np.ndarray:
        slopes = [Z[:, 1:] - 0.5 - centre for Z in (A, B)]
        return np.asarray(gp.k(A, B) + slopes[0] @ slopes[1].T / gp.rows.ridge)

    K = k(gp.rows.X, gp.rows.X) + np.diag(gp.hyperparameters["noise"][0] * gp.rows.share + gp.rows.floor)
    expected = k(at, at) - k(at, gp.rows.X) @ np.linalg.solve(K, k(gp.rows.X, at))
    np.testing.assert_allclose(gp.joint(at)[1] / gp.rows.scale**2, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(gp.predict(at)[1] / gp.rows.scale**2, np.diag(expected), rtol=1e-6, atol=1e-9)
    assert gp.rows.trend == pytest.approx([300.0], rel=0.1)
    assert study.config.inputs.names == ["x", "load"]


def test_what_the_context_alone_makes_is_known_exactly() -> None:
    """Throughput is demand, as long as all of it is served: whatever the knobs are, none of it is their merit."""
    random = np.random.default_rng(0)
    loads = 300.0 + 40.0 * np.cumsum(random.random(16))
    rows = [(x, load, 2.0 * load) for x, load in zip(np.repeat(random.random(8), 2).tolist(), loads, strict=True)]
    gp, advisor, study = fitted(*rows)
    assert len(gp.rows.y) < len(rows), "windows in one cell of the context are one row"
    assert gp.rows.trend == pytest.approx([1800.0], rel=1e-3)
    described = advisor.describe(study.apply(Situated({"load": 350.0}, 0.0)), {"x": 0.5})
    assert described is not None
    found = described[0]["qps"]
    assert found.mean == pytest.approx(700.0, abs=1.0)
    assert found.upper - found.lower < 0.01 * 900.0
    assert math.sqrt(gp.noise) < 0.001 * 900.0, "nor is what moves within a row its noise"


def test_nor_does_the_depth_of_a_cliff_set_the_scale_of_what_the_context_leaves() -> None:
    loads = np.linspace(300.0, 700.0, 20).tolist()
    rows = [(0.03 * i, load, 2.0 * load + math.sin(i)) for i, load in enumerate(loads)]
    scales = [fitted(*rows, (1.0, 500.0, depth))[0].rows.scale for depth in (-1e5, -1e6)]
    assert scales[1] == pytest.approx(scales[0], rel=0.1)


def test_a_context_that_was_never_seen_is_known_as_little_as_the_outcome_is_large() -> None:
    random = np.random.default_rng(0)
    rows = [(x, 200.0, 1000.0 + random.normal()) for x in random.random(20).tolist()]
    _, advisor, study = fitted(*rows)

    def width(study: Study, load: float) -> float:
        found = (advisor.predict(study.apply(Situated({"load": load}, 0.0)), {"x": 0.5}) or {})["qps"]
        return (found.upper - found.lower) / (2 * 1.96)

    assert width(study, 200.0) < 3.0
    assert 200.0 < width(study, 900.0) < 2000.0
    seen = Observation({"x": 0.5}, {"qps": 4000.0}, Role.WINDOW, context={"load": 900.0})
    told = study.apply(Told((seen, seen, seen), 0.0))
    assert width(told, 900.0) < 0.2 * width(study, 900.0)


def test_a_limit_is_broken_by_a_window_as_it_was(make: Make) -> None:
    """In the rush hour it was; that it would not be now is another question."""
    config = LIVE | {"constraints": {"errors": {"max": 10.0}}}
    random, study = np.random.default_rng(0), Study.new(parse(config))
    for load in np.linspace(200.0, 900.0, 20):
        values = {"qps": 1.0, "errors": load / 100.0 + 0.01 * random.normal()}
        study = study.apply(Told((Observation({"x": 0.5}, values, Role.WINDOW, context={"load": load}),), 0.0))
    last = Observation({"x": 0.5}, {"qps": 1.0, "errors": 12.0}, Role.WINDOW, context={"load": 900.0})
    study = study.apply(Told((last,), 0.0)).apply(Situated({"load": 200.0}, 0.0))
    yard = yardstick(
        study.history, study.config, {}, ModelAdvisor(study.config, device="cpu").shifts(study, study.history.excerpt())
    )
    question = Question(running={"x": 0.5}, last_good={"x": 0.5})
    found = compare(question, yard, study.config, lambda params, other: None)
    assert yard.windows.value[-1, yard.windows.column("errors")] < 8.0
    assert found.breach > 0.95


def test_windows_are_shown_as_they_were_measured(make: Make) -> None:
    solver = make(LIVE)
    for load in (200.0, 900.0, 400.0, 600.0):
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        solver.seed([row(candidate["x"], load, load, id=candidate.id)])
    assert [of["utility"] for of in solver.windows()] == [200.0, 900.0, 400.0, 600.0]


def test_the_yardstick_follows_the_context(make: Make) -> None:
    solver, values = make(LIVE), []
    for load in (200.0, 400.0, 600.0, 800.0):
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        solver.seed([row(candidate["x"], load, 10.0 * load, id=candidate.id)])
    for load in (300.0, 700.0):
        solver.ask_one({"load": load})
        values.append(float(np.median(solver._yardstick().windows.value[:, 0])))
    assert values == pytest.approx([3000.0, 7000.0], rel=0.05)


def test_drift_wakes_a_study_that_is_at_rest() -> None:
    plain = parse({name: part for name, part in LIVE.items() if name != "context"})
    study = Study.new(plain)
    little = Issued("1", 1, Kind.EXPLORE, {"x": 0.5}, "little", 0.0, True, negligible=True)
    for _ in range(5):
        assert not study.at_rest
        study = study.apply(little)
    assert study.at_rest
    assert not study.apply(Labelled(Label.DRIFT, "", 0.0, since=0)).at_rest
    situated = Study.new(parse(LIVE))
    for _ in range(5):
        situated = situated.apply(little)
    assert not situated.at_rest, "what does not pay in one context may in the next"


# ---- what nobody told ----------------------------------------------------------------------------------------------


def test_a_limit_relative_to_the_baseline_is_judged_in_one_context(make: Make, clock: FakeClock) -> None:
    """The latency follows the load alone: no config ever breaks the limit, and nothing is worse for the load."""
    relative = {
        "objectives": {"qps": {"direction": "max", "weight": 1}},
        "constraints": {"latency": {"max": "1.3*baseline"}},
        "guardrails": {"max_delta": [0.1], "min_effect": 1.0},
    }
    solver, rng = make(LIVE | relative), np.random.default_rng(0)
    for i in range(60):
        load = [200.0, 800.0][i // 6 % 2]
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        assert candidate.kind is not Kind.ROLLBACK
        assert i < 12 or "recover" not in candidate.reason
        clock.pass_s(300.0)
        qps = 100.0 - 20.0 * (candidate["x"] - 0.3) ** 2 + 0.3 * rng.normal()
        values = {"qps": qps, "latency": (10.0 + 0.15 * load) * (1.0 + 0.01 * rng.normal())}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])


def test_a_forecast_is_no_measurement_that_the_next_one_rests_on(make: Make) -> None:
    solver = make(LIVE)
    for i in range(8):
        candidate = solver.ask_one({"load": 200.0 + 10.0 * i})
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    for _ in range(20):
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    rows = solver._study.history.rows
    assert [row.guessed for row in rows] == [()] * 8 + [("load",)] * 20
    assert rows[15].context["load"] == pytest.approx(340.0), "the trend, for as long as it was seen"
    assert rows[-1].context["load"] == pytest.approx(340.0)
    solver.ask_one()
    assert solver.status()["context_doubt"]["load"] == pytest.approx(140.0), "14 windows more of what it was"
    assert solver.recommend({"load": 900.0}).outcomes is not None
    solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    assert solver.status()["context_doubt"]["load"] == pytest.approx(140.0), "that window made it no less"
    solver.ask_one({"load": 400.0})
    assert solver.status()["context_doubt"] == {}


def test_a_gap_is_as_many_windows_as_it_lasted(make: Make, clock: FakeClock) -> None:
    """The load rose by 10 a window of 5 minutes, from 200; then nobody measured anything for three hours."""
    solver = make(LIVE)

    def window(load: float | None) -> None:
        candidate = solver.ask_one(None if load is None else {"load": load})
        clock.pass_s(300.0)
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])

    def expected() -> tuple[float, float]:
        solver.ask_one()
        status = solver.status()
        return status["context"]["load"], status["context_doubt"]["load"]

    for i in range(8):
        window(200.0 + 10.0 * i)
    clock.pass_s(100.0)
    assert expected() == pytest.approx((280.0, 0.0), abs=1e-6), "the next window, begun a little late"
    solver.seed([row(0.5, 280.0)])
    clock.pass_s(3 * 3600.0)
    load, doubt = expected()
    assert load == pytest.approx(350.0), "the trend, for as long as it was seen"
    assert doubt == pytest.approx(300.0), "37 windows from the last, seven of which the trend was seen for"
    clock.pass_s(300.0)
    solver.seed([{"params": {"x": 0.5}, "values": {"qps": 1.0}}])
    assert solver._study.history.rows[-1].vague
    window(660.0)
    assert expected()[0] == pytest.approx(670.0), "38 windows later, at the same pace"


def test_rows_of_before_the_first_ask_tell_nothing_of_how_long_a_window_is(make: Make, clock: FakeClock) -> None:
    solver = make(LIVE)
    for i in range(8):
        clock.pass_s(0.01)
        solver.seed([row(0.5, 200.0 + 10.0 * i)])
    clock.pass_s(60.0)
    solver.ask_one()
    assert solver.status()["context"]["load"] == pytest.approx(280.0)


def test_limits_have_to_hold_at_every_corner_of_what_two_contexts_may_be(make: Make) -> None:
    solver = make(LIVE | {"context": LOAD | {"hits": {"min": 0, "max": 1}}})
    for i in range(12):
        told = {"load": 500.0 + 40.0 * (-1) ** (i // 2), "hits": 0.5 + 0.05 * (-1) ** i}
        candidate = solver.ask_one(told)
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    solver.ask_one()
    situation = solver._study.situation
    middle, corners = situation.soon[0], situation.soon[1:5]
    away = {(c["load"] > middle["load"], c["hits"] > middle["hits"]) for c in corners}
    assert len(away) == 4
    for name, std in situation.doubt.items():
        assert [abs(float(c[name]) - float(middle[name])) for c in corners] == pytest.approx([1.64 * std] * 4)


def test_nothing_is_explored_where_nobody_tells_the_context_any_more(make: Make) -> None:
    solver, rng = make(LIVE), np.random.default_rng(0)

    def window(told: dict[str, float] | None, **more: Any) -> Any:
        candidate = solver.ask_one(told)
        qps = 10.0 + 5.0 * candidate["x"] + 0.1 * rng.normal()
        solver.seed([{"params": candidate, "values": {"qps": qps}, **more}])
        return candidate

    for i in range(8):
        window({"load": 500.0 + 300.0 * (-1) ** i})
    silent = [window(None) for _ in range(6)]
    assert solver._study.history.rows[-1].vague
    assert {c.kind for c in silent[2:]} == {Kind.REPLICATE}
    assert silent[-1].reason.endswith("nobody tells the context any more, so that nothing can be learned")
    window(None, context={"load": 640.0})
    assert "nobody" not in window(None).reason, "the results tell it"


def test_the_mean_of_a_log_outcome_of_which_little_is_known_is_no_more_than_its_interval(make: Make) -> None:
    solver = make(FREE | {"objectives": {"p99_ms": "min"}, "context": LOAD | {"hour": {"period": 24}}})
    solver.seed([row(0.5) | {"values": {"p99_ms": 40.0}, "context": {"load": 700.0, "hour": 8.0}}])
    shown = solver.recommend(context={"load": 300.0}).outcomes["p99_ms"]
    assert shown.upper > 1e4 * shown.lower
    assert shown.mean == pytest.approx(shown.upper)


@pytest.mark.parametrize("breaks", [False, True])
def test_what_is_only_expected_to_break_in_a_context_that_nobody_tells_is_not_left(
    make: Make, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    """The model is sure that a limit breaks where it thinks the load has gone; the windows tell of that, or do not."""
    solver = make(LIVE | {"constraints": {"p99": {"max": 100}}})

    def window(told: dict[str, float] | None, p99: float) -> Any:
        candidate = solver.ask_one(told)
        solver.seed([{"params": candidate, "values": {"qps": 10.0, "p99": p99}}])
        return candidate

    for i in range(12):
        window({"load": 500.0 + 300.0 * (-1) ** i}, 50.0 + 0.1 * i)
    describe = ModelAdvisor.describe
    sure = lambda self, study, params: (describe(self, study, params)[0], 0.0)  # noqa: E731
    monkeypatch.setattr(ModelAdvisor, "describe", sure)
    window(None, 300.0 if breaks else 50.0)
    reasons = [window(None, 300.0 if breaks else 50.0).reason for _ in range(6)]
    assert any("recover" in reason for reason in reasons) is breaks


def test_what_was_measured_before_the_context_was_told_teaches_nothing_once_it_is(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """At a load of 200, which nobody tells: it is learned as that in the middle of the range, while there is no other,
    and the log says so."""
    solver, rng = make(LIVE), np.random.default_rng(0)

    def window(**more: Any) -> None:
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "values": {"qps": 200.0 + rng.normal()}, **more}])

    for _ in range(12):
        window()
    assert "context.load was never told: 550, the middle of its range, is taken until it is" in caplog.text
    assert caplog.text.count("was never told") == 1
    assert solver.history()["learned"].all()
    window(context={"load": 200.0})
    assert solver.history()["learned"].sum() == 1
    assert solver.status()["context_doubt"].keys() == set()
    for _ in range(2):
        window(context={"load": 200.0})
    outcome = solver.recommend(context={"load": 200.0}).outcomes["qps"]
    assert outcome.mean == pytest.approx(200.0, abs=5.0)
    wide = solver.recommend(context={"load": 550.0}).outcomes["qps"]
    assert wide.upper - wide.lower > 20.0 * (outcome.upper - outcome.lower) / 4.0


@pytest.mark.parametrize("first", ["history", "correction"])
def test_it_is_a_window_that_tells_it_or_one_that_is_corrected(make: Make, first: str) -> None:
    """Old figures with a context say nothing of where the system is; five windows after them do not tell it either."""
    solver = make(LIVE)
    for i in range(5):
        if i == 2 and first == "history":
            solver.seed([row(0.4, 200.0, 100.0, history=True)])
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": 200.0 + i}}])
    assert solver.history()["learned"].all()
    if first == "history":
        solver.seed([row(candidate["x"], 200.0, 204.0)])
    else:
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": 204.0}, "context": {"load": 200.0}}])
    assert solver.history()["learned"].sum() == (2 if first == "history" else 1)


def test_what_was_told_by_rows_of_before_is_not_said_to_be_untold(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    solver = make(LIVE)
    solver.seed([row(0.5, 900.0, 1.0)] * 3)
    candidate = solver.ask_one()
    solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": 1.0}}])
    assert "was never told" not in caplog.text


def test_a_forecast_at_the_end_of_its_range_may_be_beyond_it(make: Make) -> None:
    solver = make(LIVE | {"context": {"load": {"min": 100, "max": 1000}, "hour": {"period": 24}}})
    for load, hour in ((880.0, 23.0), (960.0, 23.5), (1000.0, 23.75), (1000.0, 23.9)):
        solver.seed([row(0.5) | {"context": {"load": load, "hour": hour}}])
    solver.ask_one()
    (below, above), (early, late) = solver._study.situation.sides
    load = solver._study.context["load"]
    assert above["load"] - load == pytest.approx(load - below["load"])
    assert above["load"] > 1000.0
    assert 12.0 < early["hour"] < 24.0 > 12.0 > late["hour"] >= 0.0


def test_an_outcome_that_follows_a_forecast_is_predicted_as_well_as_that_is_known(make: Make) -> None:
    """qps is 2 a unit of load: a load that is known to a std of s is a qps that is known to 2 s at the best."""
    solver, rng = make(LIVE), np.random.default_rng(0)
    for _ in range(40):
        load = 500.0 + 60.0 * rng.normal()
        solver.seed([row(0.5, load, 2.0 * load + rng.normal())])
    solver.ask_one()
    study = solver._study
    load, std = study.context["load"], study.situation.doubt["load"]
    assert std > 30.0
    sure, unsure = (
        solver._advisor.outlook(one).intervals({"x": 0.5}, noise=True)["qps"]
        for one in (study.elsewhere({"load": load}), study)
    )
    assert unsure.mean == pytest.approx(sure.mean)
    assert sure.upper - sure.lower < 12.0
    assert unsure.upper - unsure.lower == pytest.approx(2 * 1.96 * math.hypot(2.0 * std, 1.0), rel=0.1)


def test_where_an_outcome_is_at_its_best_in_the_expected_context_it_will_be_worse_in_any_other(make: Make) -> None:
    """qps is 1,000 at a load of 500 and less by the square of what that is off, so its slope says nothing there."""
    solver = make(LIVE | {"constraints": {"qps": {"min": 900}}})
    rng, loads = np.random.default_rng(0), np.random.default_rng(1).permutation(np.linspace(200.0, 800.0, 41))
    for load in [*loads.tolist(), 500.0]:
        solver.seed([row(0.5, load, 1000.0 - 0.01 * (load - 500.0) ** 2 + rng.normal())])
    solver.ask_one()
    study = solver._study
    load, std = study.context["load"], study.situation.doubt["load"]
    assert (load, std > 60.0) == (500.0, True)
    found = solver._advisor.outlook(study)
    qps = found.intervals({"x": 0.5}, noise=False)["qps"]
    assert qps.mean == pytest.approx(1000.0 - 0.01 * std**2, abs=0.1 * 0.01 * std**2)
    assert qps.mean - qps.lower == pytest.approx(1.96 * 0.01 * math.sqrt(2.0) * std**2, rel=0.15)
    p = float(special.ndtr((qps.mean - 900.0) / ((qps.mean - qps.lower) / 1.96)))
    assert solver.recommend().p_limits == pytest.approx(p)
    assert found.p_limits([{"x": 0.5}])[0] > 0.99, "were the load known"


def test_what_spans_decades_is_expected_by_factors(make: Make) -> None:
    solver = make(LIVE | {"context": {"load": {"min": 1, "max": 100_000, "scale": "log"}}})

    def expected(loads: list[float]) -> tuple[float, float, tuple[str, ...]]:
        for load in loads:
            solver.seed([row(0.5, load)])
        solver.ask_one()
        situation = solver._study.situation
        return float(situation.context["load"]), situation.doubt["load"], situation.vague

    load, doubt, vague = expected([2.0 * 1.5**i for i in range(10)])
    assert (load, doubt, vague) == (pytest.approx(2.0 * 1.5**10), pytest.approx(0.0, abs=1e-9), ())
    load, doubt, vague = expected([10.0, 800.0, 30.0] * 4)
    assert load == pytest.approx(30.0, rel=1e-6)
    assert doubt > 1.0, "a share of it"
    assert vague == ("load",)


def test_what_an_ask_tells_of_the_context_is_what_the_next_one_expects(make: Make) -> None:
    solver = make(LIVE | {"context": LOAD | {"hour": {"period": 24}}})
    for i in range(8):
        candidate = solver.ask_one({"load": 200.0 + 10.0 * i, "hour": 3.0})
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    solver.pause()
    for told, load in ((None, 280.0), ({"load": 900.0}, 900.0), (None, 900.0), ({"hour": 5.0}, 900.0), (None, 900.0)):
        solver.ask_one(told)
        assert solver.status()["context"]["load"] == pytest.approx(load)
    assert solver.status()["context"]["hour"] == 5.0
    solver.seed([row(0.5, 290.0)])
    solver.ask_one()
    assert solver.status()["context"]["load"] == pytest.approx(300.0), "a window has told more since"


def test_the_result_of_an_earlier_candidate_was_measured_where_that_was_for(make: Make) -> None:
    solver = make(FREE)
    low, high = ((solver.ask(1, context={"load": load}) or [])[0] for load in (150.0, 900.0))
    for candidate in (low, high):
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": 1.0}}])
    assert list(solver.history()["context_load"]) == [150.0, 900.0]
    assert solver.explain(low.id)["context"] == solver.explain(low.id)["result"]["context"] == {"load": 150.0}


def test_what_was_not_told_for_long_is_not_known(make: Make) -> None:
    solver = make(LIVE | {"context": LOAD | {"hour": {"period": 24}}})

    def windows(n: int, **told: float) -> None:
        for _ in range(n):
            candidate = solver.ask_one(told or None)
            solver.seed([{"params": candidate, "values": {"qps": 1.0}}])

    for i in range(8):
        windows(1, load=500.0 + 90.0 * (-1) ** i, hour=float(3 * i % 24))
    windows(200)
    solver.seed([row(0.5, 300.0, history=True) for _ in range(200)])
    solver.ask_one()
    doubt = solver.status()["context_doubt"]
    assert doubt["load"] == 900.0, "anything in its range"
    assert doubt["hour"] == 6.0, "a quarter of the day either way"
    hours = [context["hour"] for context in solver._study.situation.soon[:3]]
    assert abs(hours[1] - hours[0]) > 8.0, "no way round the clock and back"


def test_old_rows_of_a_config_do_not_make_the_way_to_another_context_more_doubtful(make: Make) -> None:
    solver, rng = make(LIVE), np.random.default_rng(0)
    for _ in range(9):
        load = float(rng.uniform(300.0, 700.0))
        candidate = solver.ask_one({"load": load})
        solver.seed([{"params": candidate, "values": {"qps": load / 5.0 + 0.5 * rng.normal()}}])
    good = solver.status()["last_good"]["params"]

    def doubt() -> float:
        windows = solver._yardstick().windows
        rows = windows.rows(good, windows.regimes[-1])
        assert windows.doubt is not None
        return float((windows.doubt[rows, 0] / len(rows)).max())

    before = doubt()
    solver.seed([row(good["x"], 500.0, 100.0, history=True) for _ in range(300)])
    assert doubt() < 2.0 * before


def test_far_out_of_its_range_a_broken_limit_is_left_once_a_window_has_shown_it(make: Make) -> None:
    objectives = {"objectives": {"qps": {"direction": "max", "weight": 1.0}}, "constraints": {"p99_ms": {"max": 50}}}
    solver, rng, broken = make(LIVE | objectives | {"seed": 3}), random.Random(2), []
    for i in range(17):
        load = rng.uniform(300.0, 700.0) if i < 8 else rng.uniform(1100.0, 1900.0)
        candidate = solver.ask_one({"load": load})
        assert candidate is not None
        qps = load / 5.0 * (1.0 - (candidate["x"] - 0.8) ** 2) + rng.gauss(0.0, 0.5)
        p99 = 20.0 * math.exp(load / 900.0 * 2.0 * candidate["x"] - 0.5 + rng.gauss(0.0, 0.03))
        broken += [round(candidate["x"], 6)] if p99 > 50.0 else []
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps, "p99_ms": p99}}])
    assert broken
    assert max(map(broken.count, broken)) <= 3, "it does not stay where it breaks"


@pytest.mark.parametrize(
    ("holds", "there", "kind"),
    [
        (0.9, 800.0, Kind.ROLLBACK),
        (0.4, 800.0, Kind.REPLICATE),
        (0.0, 800.0, Kind.REPLICATE),
        (0.4, 320.0, Kind.ROLLBACK),
    ],
)
def test_last_good_is_gone_back_to_only_where_it_is_expected_to_keep_the_limits(
    make: Make, monkeypatch: pytest.MonkeyPatch, holds: float, there: float, kind: Kind
) -> None:
    """It kept them under a load of 300; under one of 800 what was tried has collapsed. Where it ran lately, under a
    load like that, it is gone back to whatever is expected: that it did not collapse there is known."""
    monkeypatch.setattr(ModelAdvisor, "holds", lambda *_: holds)
    solver, rng = make(LIVE | {"constraints": {"p99": {"max": 50}}}), np.random.default_rng(0)

    def window() -> dict[str, Any]:
        candidate = solver.ask_one({"load": 300.0})
        assert candidate is not None
        p99, load = (200.0, there) if dict(candidate) == wish else (20.0, 300.0)
        values = {"qps": 100.0 + rng.normal(), "p99": p99 + 0.2 * rng.normal()}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values, "context": {"load": load}}])
        return dict(candidate)

    wish: dict[str, Any] = {}
    for _ in range(6):
        window()
    wish = {"x": round(float(solver.status()["last_good"]["params"]["x"]) + 0.05, 2)}
    solver.enqueue(wish)
    assert any(window() == wish for _ in range(4))
    good = solver.status()["last_good"]["params"]
    back = solver.ask_one({"load": there})
    assert back is not None
    assert back.kind is kind
    assert (dict(back) == good) == (kind is Kind.ROLLBACK)


@pytest.mark.parametrize(("holds", "pays", "goes"), [(0.99, True, True), (0.9, True, False), (0.99, False, False)])
def test_the_way_to_what_was_best_here_has_to_keep_the_limits_and_to_pay(holds: float, pays: bool, goes: bool) -> None:
    """0.95 is asked; whether limits broke near the next step counts, too, which the outcomes alone do not tell."""
    config = parse(LIVE | {"constraints": {"p99": {"max": 50}}})
    assert config.guardrails is not None
    here, best = {"x": 0.5}, {"x": 0.9}
    guard = SimpleNamespace(confirmed=[(best, 0)], suspended=False, last_good=here)
    deployment = SimpleNamespace(may_run=here, anchors=[here])
    study = SimpleNamespace(config=config, context={"load": 300.0}, guard=guard, deployment=deployment)
    advisor = SimpleNamespace(
        best=lambda *_: best,
        gain=lambda *_: 1e9,
        holds=lambda *_: holds,
        pays=lambda *_: pays,
        describe=lambda *_: ({}, 1.0),
    )
    turn: Any = SimpleNamespace(study=study, advisor=advisor, yard=SimpleNamespace(min_effect=1.0))
    box = limits.box(config.space, config.guardrails.steps, [here])
    step = _remembered(turn, config.guardrails, box)
    assert step == ({"x": pytest.approx(0.6)} if goes else None)


# ---- what nobody told ----------------------------------------------------------------------------------------------


def served(make: Make) -> tuple[ArqonSolver, Callable[[int], dict[str, float]]]:
    """A study that knows the qps, ten times the load, and what a window at some load has."""
    solver, rng = make(LIVE | {"objectives": {"qps": {"direction": "max", "weight": 1.0}}}), np.random.default_rng(0)

    def values(load: float) -> dict[str, float]:
        return {"qps": 10.0 * load * (1.0 + 0.01 * rng.normal())}

    solver.seed([row(0.5, load) | {"values": values(load)} for load in range(100, 1000, 30)])
    return solver, values


def expected(solver: ArqonSolver, load: float) -> Prediction:
    solver.ask_one({"load": load})
    outcomes = solver.recommend().outcomes
    assert outcomes is not None
    return outcomes["qps"]


def test_from_results_that_do_not_tell_their_context_no_model_learns(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    solver, values = served(make)
    before = expected(solver, 900.0)
    assert "do not tell their context" not in caplog.text
    solver.seed([row(0.5, history=True) | {"values": values(200.0)} for _ in range(60)])
    assert "60 results do not tell their context" in caplog.text
    now = expected(solver, 900.0)
    assert now.mean == pytest.approx(before.mean, rel=1e-6)
    assert now.upper - now.lower == pytest.approx(before.upper - before.lower, rel=1e-3)
    assert solver.get_history_len() == 90, "they are kept"


def test_nor_from_windows_of_a_forecast_that_nobody_trusts(make: Make) -> None:
    solver, values = served(make)
    for i in range(40):
        load = 550.0 + 400.0 * math.sin(i / 4.0)
        candidate = solver.ask_one({"load": load} if i < 20 else None)
        solver.seed([{"params": candidate, "id": candidate.id, "values": values(load)}])
    vague = [row.vague for row in solver._study.history.rows]
    assert not any(vague[:50])
    assert all(vague[52:])
    shown, last = solver.history(), solver.windows()[-1]
    assert list(shown["learned"]) == [not one for one in vague]
    assert list(shown["guessed"][50:]) == ["load"] * 20
    assert last["guessed"] == last["result"]["guessed"] == ["load"]
    assert solver.windows()[0]["guessed"] == []
    assert solver.status()["regime"] == 0, "nothing has changed"
    assert expected(solver, 400.0).mean == pytest.approx(4000.0, rel=0.05)


def test_a_correction_may_tell_the_context(make: Make) -> None:
    solver = make(LIVE | {"constraints": {"qps": {"min": "0.5*baseline"}}})
    candidates = []
    for i in range(8):
        candidates.append(solver.ask_one({"load": 200.0 + 10.0 * i}))
        wrong = {"context": {"load": 900.0}} if i in (0, 7) else {}
        solver.seed([row(candidates[i]["x"], id=candidates[i].id) | wrong])
    assert solver.status()["context"] == {"load": 900.0}
    for i in (0, 7):
        solver.seed([row(candidates[i]["x"], 200.0 + 10.0 * i, id=candidates[i].id)])
    assert list(solver.history()["context_load"]) == [200.0 + 10.0 * i for i in range(8)]
    assert solver.status()["context"] == {"load": 270.0}
    assert [one.context["load"] for one in solver._study.started] == [200.0, 210.0, 220.0], "of the baseline"
    solver.ask_one()
    assert solver.status()["context"]["load"] == pytest.approx(280.0)
    assert solver.status()["context_doubt"] == {"load": pytest.approx(0.0)}


def test_a_correction_of_the_latest_window_does_not_undo_what_an_ask_told(make: Make) -> None:
    solver = make(LIVE)
    candidate = solver.ask_one({"load": 300.0})
    solver.seed([row(candidate["x"], id=candidate.id)])
    solver.pause()
    solver.ask_one({"load": 310.0})
    solver.seed([row(candidate["x"], 200.0, id=candidate.id)])
    assert solver.status()["context"] == {"load": 310.0}


def test_after_the_end_another_context_is_answered_by_what_is_best_there(make: Make) -> None:
    solver, rng = make(FREE | {"budget": 14, "probe_ratio": 0.0}), np.random.default_rng(0)
    for i in range(14):
        candidate = solver.ask_one({"load": 200.0 if i % 2 else 900.0})
        best = 0.2 if i % 2 else 0.9
        qps = 100.0 - 100.0 * (candidate["x"] - best) ** 2 + 0.1 * rng.normal()
        solver.seed([row(candidate["x"], qps=qps, id=candidate.id)])
    assert solver.ask_one() is None
    target = solver.status()["target"]
    assert solver.recommend().params == target
    assert solver.recommend({"load": 200.0}).params["x"] == pytest.approx(0.2, abs=0.1)
    assert solver.recommend({"load": 900.0}).params["x"] == pytest.approx(0.9, abs=0.1)


def test_contexts_in_another_order_are_another_study(tmp_path: Path, make: Make) -> None:
    """Hyperparameters are written down by column."""
    config = FREE | {"context": LOAD | {"hour": {"period": 24}}}
    make(config, journal=f"sqlite:///{tmp_path / 'a.db'}").close()
    other = FREE | {"context": {"hour": {"period": 24}} | LOAD}
    with pytest.raises(JournalError, match="context"):
        make(other, journal=f"sqlite:///{tmp_path / 'a.db'}")


@pytest.mark.parametrize(
    ("context", "loud", "change", "like"),
    [
        (LOAD, False, Change(3, "qps", 9.0, None), 2),
        (LOAD, True, None, 2),
        (LOAD, True, Change(3, "qps", 9.0, None), None),
        (LOAD, True, Change(3, "qps", 9.0, 0), 0),
        ({}, False, None, None),
        ({}, False, Change(3, "qps", 9.0, None), None),
        ({}, False, Change(3, "qps", 9.0, 0), 0),
    ],
)
def test_a_drift_of_last_good_is_another_world_under_a_context_only_if_the_evidence_says_so_and_may_be_one_of_before(
    context: dict[str, Any], loud: bool, change: Change | None, like: int | None
) -> None:
    """Traffic near a cliff makes last_good sink, too; then the guard begins anew, and the model knows what it knew."""
    turn: Any = SimpleNamespace(
        study=SimpleNamespace(
            context=context,
            drift=SimpleNamespace(loud={"qps"} if loud else set()),
            history=SimpleNamespace(regime=2),
        ),
        advisor=SimpleNamespace(changed=lambda *_: change),
    )
    assert _as_world(turn, Labelled(Label.DRIFT, "sank", 0.0, 5)).like == like
    regression, no_regime = Labelled(Label.REGRESSION, "worse", 0.0, 5), Labelled(Label.DRIFT, "sank", 0.0)
    assert [_as_world(turn, label) for label in (regression, no_regime)] == [regression, no_regime]
