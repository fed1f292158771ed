"""Drift: surprises, what the evidence says of them, forgetting, and regimes that come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, FitError, propose
from arqon_gp.advice import Goal, Request
from arqon_gp.choice import Choice
from arqon_gp.config import parse
from arqon_gp.course import Course, probes_wanted
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.drift import ALARM, Drift, Sums, residual
from arqon_gp.forecast import Seen, Step, after, ahead, steps, unmoved
from arqon_gp.history import History
from arqon_gp.knobs import Interval, Real
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import (
    Context,
    Issued,
    Kind,
    Label,
    Labelled,
    Observation,
    Params,
    Prediction,
    Role,
    Told,
    Unchanged,
)
from arqon_gp.report import _drift
from arqon_gp.rows import Settings, drifting
from arqon_gp.space import Box
from arqon_gp.study import Study
from arqon_gp.surrogate import evidence, fit, restore
from arqon_gp.turn import Turn
from tests.conftest import FakeClock

Make = Callable[..., ArqonSolver]
PLAIN: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}}
CONFIG = parse(PLAIN)
SET = Settings(CONFIG.space, CONFIG.goals.modelled, better={"qps": 1})


# ---- surprises -------------------------------------------------------------------------------------------------------


def test_a_residual_is_in_stds_of_what_was_predicted_in_the_space_of_the_model() -> None:
    goals = parse(PLAIN | {"constraints": {"p99_ms": {"max": 9.0}, "errors": {"max": 0.01}}}).goals
    plain, exact = Prediction(10.0, 10.0 - 1.96, 10.0 + 1.96), Prediction(1.0, 1.0, 1.0)
    assert residual("qps", plain, 12.0, goals) == pytest.approx(2.0)
    told = Prediction(math.e, math.exp(1.0 - 0.196), math.exp(1.0 + 0.196))
    assert residual("p99_ms", told, math.exp(0.7), goals) == pytest.approx(-3.0)
    assert residual("p99_ms", told, -1.0, goals) is None
    assert residual("qps", plain, None, goals) is None
    assert residual("qps", exact, 1.0, goals) is None, "exact"
    demand = Prediction(100.0, 99.999, 100.001)
    assert residual("qps", demand, 99.9, goals) == pytest.approx(-0.2), (
        "a promille is no news, however well known it was"
    )
    floor, far = 1e-4, 1e-3  # a hundredth and a tenth of the limit
    for low, high in ((1e-10, 1e-8), (0.97 * floor, 1.03 * floor), (0.98 * far, far / 0.98)):
        for seen in (1e-7, 1.004 * floor, far):
            assert residual("errors", Prediction(floor, low, high), seen, goals) == pytest.approx(0.0, abs=1e-9), "far"
    wide = Prediction(far, far * math.exp(-1.96), far * math.exp(1.96))
    assert residual("errors", wide, far * math.exp(2.0), goals) == pytest.approx(2.0)
    above = Prediction(1e-2, 1e-2 * math.exp(-1.96), 1e-2 * math.exp(1.96))
    assert residual("errors", above, 0.0, goals) == pytest.approx(-math.log(10.0)), "as if it were a tenth of the limit"


def test_several_residuals_the_same_way_add_up_and_one_alone_does_not() -> None:
    one = Sums().add(50.0, 7)
    assert one.above == 4.0, "a gross outlier counts 4.5 stds, less the allowance"
    assert one.above < ALARM <= one.add(50.0, 8).above
    assert (one.add(50.0, 8).above_since, one.add(-5.0, 8).below_since) == (7, 8)
    assert Sums(above=2.0, above_since=3).add(50.0, 8).above_since == 8, "a jump is not as old as what led up to it"
    shifted = Sums()
    for row in range(40):
        shifted = shifted.add(1.0, row)
    assert shifted.above > ALARM
    assert shifted.above_since == 0


def test_normal_residuals_hardly_ever_raise_the_question() -> None:
    rng, alarms, sums = np.random.default_rng(0), 0, Sums()
    for row, z in enumerate(rng.normal(size=30_000).tolist()):
        sums = sums.add(z, row)
        if max(sums.above, sums.below) >= ALARM:
            alarms, sums = alarms + 1, Sums(usual=sums.usual)
    assert alarms <= 6


def test_a_model_that_always_errs_is_measured_by_how_much_it_does() -> None:
    rng, sums = np.random.default_rng(1), Sums()
    for row, z in enumerate((3.0 * rng.normal(size=60)).tolist()):
        sums = sums.add(z, row)
    assert sums.usual > 1.6
    assert sums.add(3.0, 60).above - sums.above < 1.5, "one std of its errors"


def surprised(*values: float, role: Role = Role.WINDOW, failed: bool = False, x: float = 0.5) -> Drift:
    """After windows of one candidate at 0.5 that was predicted at 10 with a std of 1."""
    told = {"qps": Prediction(10.0, 10.0 - 1.96, 10.0 + 1.96)}
    issued = Issued("1", 1, Kind.REPLICATE, {"x": 0.5}, "", 0.0, change=False, predicted=told)
    deployment = Study.new(CONFIG).deployment.apply(issued)
    drift = Drift()
    for row, value in enumerate(values):
        seen = Observation({"x": x}, {"qps": value}, role, failed, id="1", kind=Kind.REPLICATE)
        drift = drift.apply(Told((seen,), 0.0), CONFIG, deployment, row + 1)
    return drift


def test_how_far_the_latest_window_was_off_is_in_what_is_usual() -> None:
    assert surprised(10.0, 3.0).latest == pytest.approx(7.0)
    assert surprised(3.0, 10.5).latest < 1.0, "the latest"
    assert surprised(*[14.0, 6.0] * 30, 17.0).latest < 2.5


@pytest.mark.parametrize(("load", "alike"), [(500.0, True), (530.0, True), (700.0, False)])
def test_a_prediction_is_held_against_what_was_measured_in_a_context_like_its_own(load: float, alike: bool) -> None:
    config = parse(PLAIN | {"context": {"load": {"min": 0, "max": 1000}}})
    told, there = {"qps": Prediction(10.0, 8.0, 12.0)}, {"load": 500.0}
    issued = Issued("1", 1, Kind.REPLICATE, {"x": 0.5}, "", 0.0, change=False, predicted=told, context=there)
    row = Observation({"x": 0.5}, {"qps": 20.0}, Role.WINDOW, id="1", kind=Kind.REPLICATE, context={"load": load})
    deployment = Study.new(config).deployment.apply(issued)
    assert deployment.predicted(row, config) == (told if alike else {})
    assert deployment.predicted(replace(row, id=None, kind=None), config) == {}


def test_an_active_set_that_fails_answers_no_question_and_stops_no_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    advisor = ModelAdvisor(CONFIG, device="cpu")

    def fail(*_: Any) -> Any:
        raise FitError("too few rows have it")

    monkeypatch.setattr(advisor, "_rows", fail)
    study = replace(study_of(rows_of_worlds(0.3, 0.7)), drift=Drift({"qps": Sums(below=2.0 * ALARM, below_since=16)}))
    turn = Turn(study, 1.0, advisor)
    turn.notice()
    (event,) = turn.events
    assert isinstance(event, Unchanged)
    assert (
        event.reason
        == "whether something changed since row 16 cannot be told: the evidence is no number: too few rows have it"
    )
    assert advisor.fallbacks["fit"] == 1


def test_the_question_names_the_row_in_which_it_began_and_an_answer_ends_it() -> None:
    asked = surprised(10.0, 10.5, 18.0, 18.0)
    assert asked.since == 2
    assert asked.score >= 1.0
    assert surprised(10.0, 18.0).since is None
    assert surprised(18.0, 18.0, 18.0, role=Role.LATE).since is None, "late rows were predicted for another moment"
    assert surprised(18.0, 18.0, 18.0, failed=True).since is None
    assert surprised(18.0, 18.0, 18.0, x=0.6).since is None, "somebody ran another config than was predicted"
    for answer in (Unchanged("", 0.0), Labelled(Label.DRIFT, "", 0.0, since=2)):
        assert asked.apply(answer, CONFIG, Study.new(CONFIG).deployment, 4).score == 0.0
    assert asked.apply(Labelled(Label.REGRESSION, "", 0.0), CONFIG, Study.new(CONFIG).deployment, 4) == asked


@pytest.mark.parametrize(
    ("xs", "guarded", "answered"),
    [
        ((0.55, 0.55), True, False),
        ((0.55, 0.55), False, True),
        ((0.55, 0.55, 0.5), True, True),
        ((0.55, 0.6), True, True),
        ((0.5, 0.5), True, True),
    ],
)
def test_one_new_config_under_guardrails_may_be_off_a_cliff_and_the_question_waits_for_another(
    monkeypatch: pytest.MonkeyPatch, xs: tuple[float, ...], guarded: bool, answered: bool
) -> None:
    monkeypatch.setattr(ModelAdvisor, "changed", lambda *_: None)
    config = parse(PLAIN | ({"guardrails": {"max_delta": [0.1]}} if guarded else {}))
    rows = tuple(Observation({"x": x}, {"qps": 1.0}, Role.WINDOW) for x in (0.5, 0.5, 0.4, *xs))
    loud = Drift({"qps": Sums(below=2.0 * ALARM, below_since=3)})
    turn = Turn(replace(Study.new(config).apply(Told(rows, 0.0)), drift=loud), 1.0, ModelAdvisor(config, device="cpu"))
    turn.notice()
    assert [type(event) for event in turn.events] == [Unchanged] * answered


# ---- evidence --------------------------------------------------------------------------------------------------------


def study_of(rows: list[tuple[float, float]]) -> Study:
    study = Study.new(CONFIG)
    return study.apply(Told(tuple(Observation({"x": x}, {"qps": y}, Role.WINDOW) for x, y in rows), 0.0))


def world(x: float, best: float) -> float:
    return 100.0 - 300.0 * (x - best) ** 2


def rows_of_worlds(*bests: float, each: int = 16, noise: float = 1.0, seed: int = 0) -> list[tuple[float, float]]:
    rng, found = np.random.default_rng(seed), []
    for best in bests:
        for x in rng.random(each).tolist():
            found.append((x, world(x, best) + noise * float(rng.normal())))
    return found


def test_what_may_be_back_are_the_worlds_of_which_most_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 40 rows, then ten of four: of these the latest seven are asked for, and what is new."""
    rows = rows_of_worlds(0.3, each=40) + rows_of_worlds(*[0.7] * 11, each=4)
    study, asked = study_of(rows), []
    for i in range(10):
        study = study.apply(Labelled(Label.DRIFT, "", 0.0, since=40 + 4 * i))

    def evidence(data: Dataset, settings: Settings, known: Any) -> dict[str, float]:
        asked.append(data.current)
        return {"qps": 100.0 * (data.current == 0)}

    monkeypatch.setattr(propose, "evidence", evidence)
    found = ModelAdvisor(CONFIG, device="cpu").changed(study, 80)
    assert found is not None
    assert found.like == 0
    assert sorted(asked) == [0, 4, 5, 6, 7, 8, 9, 10, 11]


def test_the_evidence_tells_a_change_from_none() -> None:
    for seed in range(4):
        changed = study_of(rows_of_worlds(0.3, 0.7, seed=seed)[:20])
        found = ModelAdvisor(CONFIG, device="cpu").changed(changed, 16)
        assert found is not None
        assert (found.since, found.outcome, found.like) == (16, "qps", None)
        assert found.evidence > 3.0
        still = study_of(rows_of_worlds(0.3, 0.3, seed=seed)[:20])
        assert ModelAdvisor(CONFIG, device="cpu").changed(still, 16) is None
    assert ModelAdvisor(CONFIG, device="cpu").changed(still, 0) is None, "nothing was before"


def test_a_change_may_begin_within_a_stay() -> None:
    """What runs goes on running: 12 windows, of which the last six are 4 std lower."""
    rng = np.random.default_rng(0)
    rows = rows_of_worlds(0.3) + [(0.5, 80.0 - 4.0 * (i >= 6) + float(rng.normal())) for i in range(12)]
    found = ModelAdvisor(CONFIG, device="cpu").changed(study_of(rows), 22)
    assert found is not None
    assert (found.since, found.outcome) == (22, "qps")
    still = [(x, y + 4.0 * (i >= 22)) for i, (x, y) in enumerate(rows)]
    assert ModelAdvisor(CONFIG, device="cpu").changed(study_of(still), 22) is None


def test_errors_far_below_their_limit_are_no_change_and_near_it_they_are() -> None:
    config, rng = parse(PLAIN | {"constraints": {"errors": {"max": 0.01}}}), np.random.default_rng(0)

    def found(*levels: float) -> str | None:
        x, rows = rng.random(20).tolist(), []
        for i in range(20):
            values = {"qps": world(x[i], 0.4) + rng.normal(), "errors": levels[i >= 16] * math.exp(0.3 * rng.normal())}
            rows.append(Observation({"x": x[i]}, values, Role.WINDOW))
        change = ModelAdvisor(config, device="cpu").changed(Study.new(config).apply(Told(tuple(rows), 0.0)), 16)
        return change and change.outcome

    assert found(1e-6, 4e-4) is None, "4 % of the limit"
    assert found(1e-6, 6e-3) == "errors"
    assert found(6e-3, 1e-6) == "errors"


def test_a_regime_that_is_back_is_known_again() -> None:
    rows = rows_of_worlds(0.3, 0.7, 0.3)
    study = study_of(rows[:36]).apply(Labelled(Label.DRIFT, "", 0.0, since=16))
    found = ModelAdvisor(CONFIG, device="cpu").changed(study, 32)
    assert found is not None
    assert found.like == 0
    back = study.apply(Labelled(Label.DRIFT, "", 0.0, since=32, like=0))
    assert back.history.regimes == (0, 16, 32)
    assert back.history.kinds == (0, 1, 0)
    shown = [_drift(study), _drift(back)]
    assert [(one["like"], one["since"], one["outcomes"]) for one in shown] == [(None, None, []), (0, None, [])]
    data = training_set(back.history, CONFIG.space, CONFIG.goals)
    assert (data.regimes, data.current) == (2, 0)
    assert data.regime.tolist() == [0] * 16 + [1] * 16 + [0] * 4
    outlook = ModelAdvisor(CONFIG, device="cpu").outlook(back)
    assert outlook is not None
    assert outlook.context == {"(regime)": 0}
    best = max(np.linspace(0.0, 1.0, 101), key=lambda x: outlook.intervals({"x": float(x)}, noise=False)["qps"].mean)
    assert best == pytest.approx(0.3, abs=0.08), "four windows and what was known"


@pytest.mark.parametrize("best", [0.3, 0.7])
def test_a_regime_that_is_back_is_known_where_it_is_on_a_level_of_its_own(best: float) -> None:
    """The same configs in both regimes, all of them lower in the second: the first is brought to that level, what is
    said to be as it was is not there. A third world is neither."""
    rng, grid = np.random.default_rng(0), np.linspace(0.1, 0.6, 12).tolist()
    rows = [(x, world(x, of) + float(rng.normal())) for of in (0.3, 0.9) for x in grid]
    rows += [(x, world(x, best) + float(rng.normal())) for x in grid[::3]]
    study = study_of(rows).apply(Labelled(Label.DRIFT, "", 0.0, since=12))
    lower = float(np.mean([world(x, 0.9) - world(x, 0.3) for x in grid]))
    level = training_set(study.history, CONFIG.space, CONFIG.goals, apart=24).level[0, 0]
    assert level == pytest.approx(lower, abs=1.0), "as told by what is of the second for sure"
    found = ModelAdvisor(CONFIG, device="cpu").changed(study, 24)
    assert found is not None
    assert found.like == (0 if best == 0.3 else None)


def test_a_regime_unlike_all_before_has_to_be_told_clearly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of(rows_of_worlds(0.3, 0.7, 0.3)[:36]).apply(Labelled(Label.DRIFT, "", 0.0, since=16))
    for old, new, like in ((20.0, 22.9, 0), (20.0, 23.1, None), (10.6, 13.1, 0)):  # 11.1 are a change
        worth = {0: old, 1: 0.0, 2: new}
        monkeypatch.setattr(propose, "evidence", lambda data, *_, worth=worth: {"qps": worth[data.current]})
        found = ModelAdvisor(CONFIG, device="cpu").changed(study, 32)
        assert found is not None
        assert found.like == like


def test_evidence_is_of_the_outcome_whatever_it_is_measured_in() -> None:
    rows = rows_of_worlds(0.3)
    found = [
        evidence(training_set(study_of([(x, unit * y) for x, y in rows]).history, CONFIG.space, CONFIG.goals), SET, {})
        for unit in (1.0, 10.0)
    ]
    assert found[0]["qps"] - found[1]["qps"] == pytest.approx(len(rows) * math.log(10.0), rel=1e-6)


def test_what_a_new_regime_has_in_common_with_the_old_one_is_learned() -> None:
    def likeness(*bests: float) -> float:
        rows = rows_of_worlds(*bests, each=24)
        study = study_of(rows).apply(Labelled(Label.DRIFT, "", 0.0, since=24))
        outlook = ModelAdvisor(CONFIG, device="cpu").outlook(study)
        assert outlook is not None
        return math.exp(-1.0 / outlook.surrogate["qps"].hyperparameters["regime"][0])

    assert likeness(0.2, 0.8) < 0.5 < 0.8 < likeness(0.4, 0.4)


def test_an_endless_study_probes_anew_after_a_change() -> None:
    drift = Labelled(Label.DRIFT, "", 0.0, since=1)
    assert Course(endless=True, probes=3).apply(drift).probes == 0
    assert Course(endless=False, probes=3).apply(drift).probes == 3, "a budget has paid for other things since"
    warm = [Observation({"x": i / 8.0}, {"value": 1.0}, Role.WARM, spends=False) for i in range(8)]
    study = Study.new(parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}})).apply(Told(tuple(warm), 0.0))
    assert probes_wanted(study.config, study.history, study.course) == 0
    study = study.apply(drift)
    assert probes_wanted(study.config, study.history, study.course) == 2, "what was warm is of another world"


def test_under_guardrails_exploring_has_to_pay_after_a_change_too() -> None:
    config = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "guardrails": {"max_delta": [0.1]}})
    row = Observation({"x": 0.5}, {"value": 1.0}, Role.WINDOW)
    study = Study.new(config).apply(Told((row,), 0.0))
    assert probes_wanted(config, study.history, study.course) == 2
    study = study.apply(Labelled(Label.DRIFT, "", 0.0, since=1))
    assert probes_wanted(config, study.history, study.course) == 0


# ---- forgetting ------------------------------------------------------------------------------------------------------


def drifting_data(speed: float, n: int = 80, seed: int = 0) -> tuple[Dataset, Settings, Callable[[float], float]]:
    """The best x goes from 0.2 at `speed` a window; the value of x = 0.9 after the last one."""
    rng = np.random.default_rng(seed)
    rows = [(x, world(x, 0.2 + speed * i) + float(rng.normal())) for i, x in enumerate(rng.random(n).tolist())]
    told = Told(tuple(Observation({"x": x}, {"qps": y}, Role.WARM) for x, y in rows), 0.0)
    data = training_set(History().apply(told), CONFIG.space, CONFIG.goals)
    return data, Settings(CONFIG.space, CONFIG.goals.modelled, better={"qps": 1}), lambda x: world(x, 0.2 + speed * n)


def test_an_outcome_that_drifts_is_forgotten_and_one_that_does_not_is_not() -> None:
    for seed in range(4):
        assert fit(*drifting_data(0.0, seed=seed)[:2], {})["qps"].hyperparameters["time"] == []
        (scale,) = fit(*drifting_data(0.007, seed=seed)[:2], {})["qps"].hyperparameters["time"]
        assert 0.05 < scale < 20.0, "hundreds of windows"


def test_what_is_predicted_is_of_now_and_as_it_is_now() -> None:
    errors: dict[str, list[float]] = {"drifting": [], "without time": []}
    for seed in range(4):
        data, settings, truth = drifting_data(0.007, seed=seed)
        X = np.linspace(0.0, 1.0, 11)[:, None]
        real = np.array([truth(x) for x in X[:, 0].tolist()])
        surrogate = fit(data, settings, {})
        now = np.column_stack([X, np.full(11, data.now / 100.0)])
        errors["drifting"].append(float(np.abs(surrogate["qps"].predict(now)[0] - real).mean()))
        h = {"qps": surrogate["qps"].hyperparameters | {"time": []}}
        errors["without time"].append(float(np.abs(restore(data, settings, h)["qps"].predict(X)[0] - real).mean()))
    assert np.mean(errors["drifting"]) < 0.6 * np.mean(errors["without time"])


def test_time_is_that_of_the_results_where_all_have_one_and_else_their_order() -> None:
    def at(times: list[float | None]) -> tuple[list[float], float]:
        rows = (Observation({"x": i / 40.0}, {"qps": 1.0}, Role.WARM, time=t) for i, t in enumerate(times))
        data = training_set(History().apply(Told(tuple(rows), 0.0)), CONFIG.space, CONFIG.goals)
        return data.at.tolist(), data.now

    hours: list[float | None] = [1e9 + 300.0 * i for i in range(16)] + [1e9 + 300.0 * 15 + 3000.0]
    assert at(hours) == (pytest.approx([*range(16), 25.0]), pytest.approx(26.0))
    assert at([*hours[:16], None]) == ([float(i) for i in range(17)], 17.0)
    assert at(hours[:10]) == ([float(i) for i in range(10)], 10.0), "too few to know how long a window is"


def test_a_window_is_as_long_as_those_that_were_asked_for() -> None:
    """A month of daily figures, then a live loop of five minutes, with a night without it."""
    warm = [Observation({"x": i / 40.0}, {"qps": 1.0}, Role.WARM, time=1e9 + 86400.0 * i) for i in range(30)]
    live = [replace(warm[-1], role=Role.WINDOW, time=2e9 + 300.0 * i + 3e4 * (i >= 8)) for i in range(16)]
    history = History().apply(Told(tuple(warm), 0.0))
    assert history.excerpt().at[:3].tolist() == [0.0, 1.0, 2.0]
    for one in live:
        history = history.apply(Told((one,), 0.0))
    assert np.diff(history.excerpt().at)[[0, -2, -1]].tolist() == pytest.approx([288.0, 1.0, 1.0])
    batch = [replace(one, time=2e9 + 300.0 * (i // 8)) for i, one in enumerate(live)]
    history = History().apply(Told(tuple(batch), 0.0))
    assert history.excerpt().at[-1] == pytest.approx(15.0), "batches of eight"


def test_a_long_stay_is_a_row_of_sixteen_windows_at_most_so_that_it_has_a_time() -> None:
    told = Told(tuple(Observation({"x": 0.5}, {"qps": 1.0}, Role.WARM) for _ in range(40)), 0.0)
    data = training_set(History().apply(told), CONFIG.space, CONFIG.goals)
    assert data.count[:, 0].tolist() == [16.0, 16.0, 8.0]
    assert data.at.tolist() == [7.5, 23.5, 35.5]


def test_time_and_regime_are_inputs_behind_all_others() -> None:
    data, settings, _ = drifting_data(0.0, n=6)
    data = replace(data, regimes=3)
    more = settings.drifting(time=True, regimes=3)
    assert [knob.name for knob in more.space] == ["x", "(time)", "(regime)"]
    wide = drifting(data, more)
    assert wide.X[:, 1].tolist() == pytest.approx([i / 100.0 for i in range(6)])
    assert drifting(wide, more) is wide, "once"
    assert more.drifting(time=False, regimes=1).space == settings.space


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_after_a_jump_the_loop_finds_the_new_best_and_says_that_something_changed(make: Make, clock: FakeClock) -> None:
    config = PLAIN | {"objectives": {"qps": {"direction": "max", "weight": 1.0}}}
    solver, rng, late = (
        make(config | {"guardrails": {"max_delta": [0.15], "min_effect": 3.0}}),
        np.random.default_rng(2),
        [],
    )
    for i in range(110):
        candidate = solver.ask_one()
        assert candidate is not None
        best = 0.4 if i < 60 else 0.8
        late.append(abs(candidate["x"] - best))
        solver.seed(
            [{"params": candidate, "id": candidate.id, "values": {"qps": world(candidate["x"], best) + rng.normal()}}]
        )
        clock.pass_s(300.0)
    assert np.mean(late[50:60]) < 0.1
    assert np.mean(late[-15:]) < 0.1
    labels = [e for e in solver._journal.read("default", 0) if isinstance(e, Labelled) and e.label is Label.DRIFT]
    assert [e.since for e in labels] == [60]


def test_a_system_that_stands_still_opens_no_regime(make: Make, clock: FakeClock) -> None:
    config = PLAIN | {"objectives": {"qps": {"direction": "max", "weight": 1.0}}, "guardrails": {"max_delta": [0.15]}}
    solver, rng = make(config), np.random.default_rng(3)
    for _ in range(120):
        candidate = solver.ask_one()
        assert candidate is not None
        value = world(candidate["x"], 0.4) + rng.standard_t(3)
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": value}}])
        clock.pass_s(300.0)
    assert solver.status()["regime"] == 0


# ---- the context of the next windows ---------------------------------------------------------------------------------


def test_a_step_of_the_context_is_one_where_the_last_windows_agree() -> None:
    def seen(contexts: Sequence[Context], of: Real, every: int = 1) -> tuple[tuple[int, float], ...]:
        return tuple((every * i, float(context[of.name])) for i, context in enumerate(contexts))

    load, hour = Real("load", 0.0, 1000.0), Real("hour", 0.0, 24.0, periodic=True)
    rising = [{"load": 100.0 + 10.0 * i, "hour": (23.8 + 0.1 * i) % 24.0} for i in range(8)]
    even = steps(seen(rising, load), load)
    assert (even.step, even.std) == (pytest.approx(10.0), pytest.approx(0.0))
    assert steps(seen(rising, hour), hour).step == pytest.approx(0.1), "over midnight"
    wandering = [{"load": 500.0 + way} for way in (0.0, 40.0, -30.0, 20.0, -50.0, 10.0, 0.0, 30.0)]
    found = steps(seen(wandering, load), load)
    assert found.step == 0.0
    assert found.std > 30.0
    assert steps(seen(rising[:2], load), load) == Step()
    alternating = [{"load": 500.0 + (80.0 if i % 3 else -60.0)} for i in range(8)]
    assert steps(seen(alternating, load), load).step == 0.0
    assert steps(seen(alternating, load), load).std > 50.0
    assert steps(seen(rising, load, every=2), load).step == pytest.approx(5.0), "over gaps it moved evenly"
    moved = ahead(rising[-1], {"load": Step(10.0), "hour": Step(0.1)}, (load, hour), 3.0)
    assert moved == {"load": pytest.approx(200.0), "hour": pytest.approx(0.8)}
    assert ahead({"load": 995.0}, {"load": Step(10.0)}, (load,), 2.0) == {"load": 1000.0}, "within its range"
    wide = ahead({"load": 500.0}, {"load": Step(0.0, 20.0)}, (load,), 0.0, 1.5)
    assert wide == {"load": 530.0}


def told(of: Real, values: Sequence[float]) -> Seen:
    """What is kept of a value a window, told one by one; the same is kept of batches."""
    seen: Seen = ()
    numbered = list(enumerate(values))
    for each in numbered:
        seen = after(seen, [each])
    for size in (2, 7, 100):
        batches = [numbered[i : i + size] for i in range(0, len(values), size)]
        assert reduce(lambda known, batch: after(known, reversed(batch)), batches, ()) == seen
    return seen


def test_what_moves_in_jumps_is_forecast_from_jump_to_jump() -> None:
    hour, load = Real("hour", 0.0, 24.0, periodic=True), Real("load", 0.0, 1000.0)
    whole = told(hour, [(22 + i // 12) % 24 for i in range(54)])
    assert whole == ((0, 22), (12, 23), (24, 0), (36, 1), (48, 2), (53, 2)), "of a row of equal ones how long it is"
    found = steps(whole, hour)
    assert (found.step, found.std) == (pytest.approx(1.0 / 12.0), 0.0)
    assert told(load, [*range(99), 98.0]) == (*((i, i) for i in range(92, 99)), (99, 98.0)), "the latest 8"
    replicas = told(load, [3.0] * 10 + [5.0] * 7 + [4.0] * 20 + [5.0] * 3)
    found = steps(replicas, load)
    assert found.step == 0.0
    assert 0.1 < found.std < 1.0, "a jump of 1 or 2 in some 12 windows"
    ended = told(load, [100.0, 110.0, 120.0, 130.0, 140.0] + [150.0] * 20)
    stands = steps(ended, load)
    assert (stands.step, stands.std) == (0.0, pytest.approx(10.0 * (1.0 + 2.8 / 5.0))), "it stands for longer than ever"


@pytest.mark.parametrize(
    "kind", ["random walk", "pull to the middle", "a day, 1 % noise", "a day, 5 %", "a smooth day"]
)
@pytest.mark.parametrize("windows", [1, 3, 12])
def test_nine_of_ten_loads_to_come_lie_within_what_is_said_of_them(kind: str, windows: int) -> None:
    rng, load, inside = np.random.default_rng(0), Real("load", 0.0, 1e6), []
    for _ in range(6):
        steps_taken, day = rng.normal(size=400), np.sin(2.0 * np.pi * (np.arange(400) + rng.integers(288)) / 288.0)
        pulled = np.array(list(accumulate(steps_taken, lambda x, step: 0.9 * x + step)))
        noise = {"a day, 1 % noise": 0.01, "a day, 5 %": 0.05}.get(kind, 0.0)
        loads = {"random walk": 5e5 + 10.0 * np.cumsum(steps_taken), "pull to the middle": 5e5 + 100.0 * pulled}
        values = loads.get(kind, (5e5 + 4e5 * day) * (1.0 + noise * steps_taken)).tolist()
        for last in range(40, 380, 7):
            found = steps(told(load, values[last - 30 : last + 1]), load)
            carried = min(windows, 7)  # no trend is carried on for longer than it was seen: the rest is in doubt
            apart = values[last + windows] - (values[last] + carried * found.step)
            std = math.hypot(found.doubt(windows), (windows - carried) * found.step)
            inside.append(abs(apart) <= 1.64 * std + 1e-9)
    assert np.mean(inside) > 0.8


def test_the_doubt_of_what_all_windows_have_in_common_adds_up() -> None:
    assert Step(0.0, 2.0).doubt(9.0) == pytest.approx(6.0)
    assert Step(0.0, 2.0, 1.0).doubt(3.0) == pytest.approx(2.0 * math.sqrt(12.0))


def test_what_never_moved_may_have_when_nobody_tells_it_any_more() -> None:
    load = Real("load", 100.0, 1000.0)
    still = told(load, [300.0] * 30)
    doubts = [unmoved(still, load, windows) for windows in (1.0, 10.0, 1000.0)]
    assert 0.0 < doubts[0] < 10.0 < doubts[1] < doubts[2]
    assert doubts[2] == pytest.approx(900.0 / math.sqrt(12.0), rel=0.05), "anywhere in its range"
    assert unmoved(told(load, [300.0, 600.0]), load, 28.0) > 200.0
    assert unmoved(told(load, [300.0, 400.0, 500.0]), load, 28.0) == 0.0, "how it moves is known"


def test_an_untold_load_is_forecast_from_what_it_was_at_this_hour(make: Make) -> None:
    """Three days of 48 windows, then the load is told no more."""
    loads = {"load": {"min": 0, "max": 1000}, "hour": {"period": 24}}
    solver, rng = make(PLAIN | {"context": loads, "guardrails": {"max_delta": [0.1]}}), np.random.default_rng(0)

    def at(i: int) -> dict[str, float]:
        hour = i / 2.0 % 24.0
        return {"hour": hour, "load": 500.0 + 300.0 * math.sin(hour * math.pi / 12.0) + 10.0 * rng.normal()}

    solver.seed([{"params": {"x": 0.5}, "values": {"qps": 1.0}, "context": at(i)} for i in range(144)])
    for i in range(144, 156):  # from midnight to six
        candidate = solver.ask_one({"hour": at(i)["hour"]})
        solver.seed([{"params": candidate, "values": {"qps": 1.0}}])
    solver.ask_one({"hour": 6.0})
    status = solver.status()
    assert status["context"]["load"] == pytest.approx(800.0, abs=30.0)
    assert 0.0 < status["context_doubt"]["load"] < 60.0
    assert "hour" not in status["context_doubt"]


def test_an_ask_without_its_context_is_for_the_expected_one_and_limits_hold_as_far_as_it_is_known(make: Make) -> None:
    config = PLAIN | {
        "objectives": {"qps": {"direction": "max", "weight": 1.0}},
        "constraints": {"p99": {"max": 100}},
        "context": {"load": {"min": 0, "max": 1000}},
        "guardrails": {"max_delta": [0.3]},
    }

    def asked(loads: list[float], told: float | None) -> tuple[ArqonSolver, Any]:
        solver, rng = make(config), np.random.default_rng(0)
        for load in loads:
            candidate = solver.ask_one({"load": load})
            assert candidate is not None
            x = candidate["x"]
            values = {"qps": 100.0 * x + rng.normal(), "p99": 0.1 * load * (0.5 + x) + 0.3 * rng.normal()}
            solver.seed([{"params": candidate, "id": candidate.id, "values": values, "context": {"load": load}}])
        return solver, solver.ask_one() if told is None else solver.ask_one({"load": told})

    rising, _ = asked([400.0 + 10.0 * i for i in range(20)], None)
    assert rising.status()["context"]["load"] == pytest.approx(600.0)
    assert rising._study.situation.doubt == {"load": 0.0}, "each step was the same"
    assert [round(c["load"]) for c in rising._study.situation.soon] == [600, 610, 620]
    jumping, _ = asked([500.0 + (80.0 if i % 3 else -60.0) for i in range(20)], None)
    assert jumping._study.situation.doubt["load"] > 20.0
    low, high = (c["load"] for c in jumping._study.situation.soon[1:3])
    assert low < jumping._study.context["load"] < high
    known, _ = asked([500.0 + (80.0 if i % 3 else -60.0) for i in range(20)], 500.0)
    assert known._study.situation.doubt == {}
    here = {"x": 0.5}
    outlooks = [s._advisor.outlook(s._study) for s in (jumping, known)]
    for outlook in outlooks:
        assert outlook.p_kept([here])[0] <= outlook.p_limits([here])[0]
    unsure, sure = (float(outlook.p_kept([{"x": 0.9}])[0]) for outlook in outlooks)
    assert unsure < 0.5, "a p99 of 81 as expected, of 109 at the upper end"
    assert sure > 0.95


@pytest.mark.parametrize(("step", "better"), [(0.0, 0.9), (10.0, 0.4), (-10.0, 0.9)])
def test_what_is_settled_on_is_judged_by_what_lies_ahead_as_long_as_it_costs_little_now(
    make: Make, step: float, better: float
) -> None:
    """The p99 is load / 10 * (0.5 + x), 100 at the most: at a load of 600 it is 84 at x = 0.9, and where that rises by
    10 a window 118 in 24 of them. x is worth 100 a unit and min_effect 12: now no less than 0.78 may be settled on."""
    config = PLAIN | {
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.9}},
        "objectives": {"qps": {"direction": "max", "weight": 1.0}},
        "constraints": {"p99": {"max": 100}},
        "context": {"load": {"min": 0, "max": 1000}},
        "guardrails": {"max_delta": [0.6], "min_effect": 12.0},
    }
    solver, rng = make(config), np.random.default_rng(0)

    def window(load: float, x: float) -> dict[str, Any]:
        values = {"qps": 100.0 * x + rng.normal(), "p99": 0.1 * load * (0.5 + x) + 0.3 * rng.normal()}
        return {"params": {"x": x}, "values": values, "context": {"load": load}}

    solver.seed([window(load, x) for load in range(300, 901, 60) for x in (0.2, 0.4, 0.7, 0.9)])
    solver.seed([window(600.0 + step * (i - 8), 0.9) for i in range(9)])
    study = solver._study
    assert [round(c["load"]) for c in study.situation.later] == (
        [600 + 6 * step, 600 + 12 * step, 600 + 24 * step] if step else []
    )
    found, yard = solver._advisor.outlook(study), solver._yardstick()
    assert found is not None
    configs: list[Params] = [{"x": 0.9}, {"x": 0.4}]
    now = found.mean_utility(yard, configs)
    assert now[0] == pytest.approx(90.0, abs=3.0)
    worth = found.worth(yard, configs, 500.0)
    assert configs[int(np.argmax(worth))]["x"] == better
    box = Box((Interval(0.3, 1.0),))
    request = Request(Goal.IMPROVE, box, {"x": 0.9}, 3, confidence=0.95, horizon=0.0)
    choice = Choice(found, yard, request, (), "cpu", print)
    assert choice._dear([{"x": 0.9}, {"x": 0.82}, {"x": 0.6}]).tolist() == [False, False, True]
    settled = choice.proposal()
    assert settled.settled
    x = float(settled.params["x"])
    if better == 0.4:
        assert 0.75 < x < 0.85, "towards it, but not further than min_effect"
    else:
        assert x >= 0.85


def test_a_backfill_of_old_rows_is_no_change() -> None:
    config, rng = parse(PLAIN | {"guardrails": {"max_delta": [0.5]}}), np.random.default_rng(0)

    def rows(n: int, level: float, role: Role, at: float) -> Told:
        found = []
        for i, x in enumerate(rng.random(n).tolist()):
            found.append(Observation({"x": x}, {"qps": level + 10.0 * x + rng.normal()}, role, time=at + 60.0 * i))
        return Told(tuple(found), 0.0)

    study = Study.new(config).apply(rows(44, 100.0, Role.WINDOW, 1e6)).apply(rows(20, 60.0, Role.HISTORY, 0.0))
    assert ModelAdvisor(config, device="cpu").changed(study, 40) is None
    changed = study.apply(rows(6, 60.0, Role.WINDOW, 1e6 + 44 * 60.0))
    assert ModelAdvisor(config, device="cpu").changed(changed, 64) is not None


@pytest.mark.parametrize(
    ("nats", "repeated", "more", "found"),
    [
        (5.0, False, {}, False),
        (5.0, True, {}, True),
        (12.0, False, {}, True),
        (5.0, False, {"guardrails": {"max_delta": [0.5]}}, True),
    ],
)
def test_where_a_search_leaps_the_model_may_err_and_a_change_has_to_gain_more(
    monkeypatch: pytest.MonkeyPatch, nats: float, repeated: bool, more: dict[str, Any], found: bool
) -> None:
    """Three of 215 loops of `bench/parity`, in which nothing changes, had found one of 3.9 to 5.1 nats."""
    monkeypatch.setattr(propose, "evidence", lambda data, *_: {"qps": nats * data.current})
    config, rng = parse(PLAIN | more), np.random.default_rng(0)
    xs = rng.random(20)
    xs[17] = xs[3] if repeated else xs[17]
    rows = tuple(Observation({"x": float(x)}, {"qps": float(rng.normal())}, Role.WINDOW) for x in xs)
    study = Study.new(config).apply(Told(rows, 0.0))
    assert (ModelAdvisor(config, device="cpu").changed(study, 16) is not None) == found


@pytest.mark.parametrize(("nats", "found"), [(5.0, False), (12.0, True)])
def test_in_a_context_a_change_has_to_gain_more(monkeypatch: pytest.MonkeyPatch, nats: float, found: bool) -> None:
    monkeypatch.setattr(propose, "evidence", lambda data, *_: {"qps": nats * data.current})
    more = {"context": {"load": {"min": 0, "max": 9}}, "guardrails": {"max_delta": [0.5]}}
    config, rng = parse(PLAIN | more), np.random.default_rng(0)
    rows = tuple(
        Observation({"x": 0.1 * (i % 9)}, {"qps": float(rng.normal())}, Role.WINDOW, context={"load": float(i % 9)})
        for i in range(20)
    )
    study = Study.new(config).apply(Told(rows, 0.0))
    assert (ModelAdvisor(config, device="cpu").changed(study, 16) is not None) == found


def test_only_the_outcomes_that_raise_the_question_answer_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The qps was off by a promille and more nats than anything; the p99 alone was a surprise."""
    config, rng = parse(PLAIN | {"objectives": {"qps": "max", "p99_ms": "min"}}), np.random.default_rng(0)
    monkeypatch.setattr(
        propose, "evidence", lambda data, *_: {"qps": 45.0 * data.current, "p99_ms": 1.0 * data.current}
    )
    rows = tuple(
        Observation({"x": x}, {"qps": float(rng.normal()), "p99_ms": 9.0}, Role.WINDOW)
        for x in [0.2, 0.4, 0.6, 0.8] * 5
    )
    study = Study.new(config).apply(Told(rows, 0.0))
    loud = {"p99_ms": Sums(above=ALARM, above_since=16), "qps": Sums()}
    assert ModelAdvisor(config, device="cpu").changed(replace(study, drift=Drift(loud)), 16) is None
    found = ModelAdvisor(config, device="cpu").changed(replace(study, drift=Drift(loud | {"qps": loud["p99_ms"]})), 16)
    assert found is not None
    assert found.outcome == "qps"


def test_a_change_is_followed_with_two_objectives_a_limit_a_context_and_knobs_of_three_kinds(
    make: Make, clock: FakeClock
) -> None:
    """Two steps lead to the best number of threads, 16; after 60 windows it is 4, and 16 costs 80 of 300."""
    config = {
        "seed": 1,
        "bounds": {
            "threads": {"type": "int", "min": 1, "max": 64, "scale": "log", "initial": 8},
            "cache_mb": {"min": 1, "max": 100, "scale": "log", "initial": 10},
            "mode": {"type": "categorical", "choices": ["a", "b"], "initial": "a"},
        },
        "context": {"load": {"min": 100, "max": 600}},
        "objectives": {"qps": {"direction": "max", "weight": 1}, "p99_ms": {"direction": "min", "weight": 1}},
        "constraints": {"p99_ms": {"max": 200}},
        "guardrails": {"max_delta": [{"ratio": 2}, {"ratio": 2}, 1], "min_effect": 4.0},
    }
    solver, rng, lost = make(config), np.random.default_rng(0), []
    for i in range(130):
        best, load = (16 if i < 60 else 4), 300.0 + 100.0 * np.sin(i / 10.0)
        candidate = solver.ask_one({"load": load})
        off = np.log2(candidate["threads"] / best) ** 2
        wrong = 0.05 * off + 0.03 * np.log2(candidate["cache_mb"] / 20.0) ** 2 + 0.1 * (candidate["mode"] == "a")
        qps, p99 = load * (1.0 - wrong), 20.0 + 0.05 * load + 5.0 * off
        lost.append(load * wrong + 5.0 * off)
        clock.pass_s(300.0)
        values = {"qps": qps + rng.normal(), "p99_ms": p99 * float(np.exp(0.03 * rng.normal()))}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
    assert np.mean(lost[30:60]) < 15.0
    assert np.mean(lost[60:64]) > 60.0
    assert np.mean(lost[100:]) < 15.0
    assert solver.status()["regime"] >= 1


@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_under_guardrails_windows_are_compared_as_of_now_where_the_model_forgets(make: Make, slope: float) -> None:
    """What ages by 0.2 a window was 18 better at the first of 90: no merit of the config that ran then."""
    rng, solver = np.random.default_rng(0), make(PLAIN | {"guardrails": {"max_delta": [0.1]}})

    def window(i: int, x: float) -> dict[str, Any]:
        return {"params": {"x": x}, "values": {"qps": 100.0 - slope * i - 40.0 * (x - 0.5) ** 2 + 0.3 * rng.normal()}}

    solver.seed([window(i, 0.4 + 0.05 * (i % 5)) for i in range(90)])
    for i in range(90, 96):  # the start windows, and on
        candidate = solver.ask_one()
        assert candidate is not None
        solver.seed([window(i, float(candidate["x"]))])
    windows = solver._yardstick().windows
    assert (windows.doubt is not None) == (slope > 0.0)
    assert windows.measured[0, 1] - windows.measured[-1, 1] == pytest.approx(95.0 * slope, abs=2.0)
    assert windows.value[0, 1] == pytest.approx(windows.value[-1, 1], abs=2.0)
