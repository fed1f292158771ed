"""Cliffs: beyond one nothing is said about the slopes before it, and what breaks a limit never seems to hold it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver
from arqon_gp.advice import Goal, Request
from arqon_gp.cliffs import beyond, fallen, worst
from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.history import History
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import Baselined, Observation, Opened, Role, Told
from arqon_gp.rows import FEASIBLE, WITHIN, Settings, parted, rows_of
from arqon_gp.study import Study
from arqon_gp.surrogate import fit, restore, seek
from arqon_gp.yardstick import yardstick
from tests.conftest import FakeClock, Make
from tests.test_surrogate import told

BOUNDS = {"x": {"min": 0, "max": 1}}
FRONT: dict[str, Any] = {
    "seed": 1,
    "bounds": BOUNDS,
    "objectives": {"qps": "max", "p99_ms": {"direction": "min", "threshold": 100.0, "scale": "linear"}},
}
STEEP = f"p99_ms{WITHIN}"


def front(x: float, *, cliff: bool) -> dict[str, float]:
    """The nearer to x = 0.3, the quicker; below it everybody waits."""
    return {"qps": 50.0 * (1.0 - x), "p99_ms": 900.0 if cliff and x < 0.3 else 60.0 + 100.0 * abs(x - 0.3)}


def measured(count: int = 24, *, cliff: bool = True, noise: float = 1.0, **more: Any) -> tuple[Any, Any, History]:
    """Dataset, settings and history of points spread over the knob."""
    config, random, history = parse(FRONT | more), np.random.default_rng(2), History()
    for x in random.permutation(np.linspace(0.0, 1.0, count)).tolist():
        values = {name: y + noise * random.normal() for name, y in front(x, cliff=cliff).items()}
        history = told(history, ({"x": x}, values))
    settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
    return training_set(history, config.space, config.goals), settings, history


def collapsing(*, guarded: bool = True, **more: Any) -> tuple[Dataset, Settings]:
    """The p99 is 5 s, but where x is less than the load it is 200 s of 15 that are allowed; the last two windows of one
    config lie on either side."""
    config = parse({
        "seed": 1, "bounds": BOUNDS, "objectives": {"p99": {"direction": "min", "weight": 1.0}},
        "constraints": {"p99": {"max": 15.0}}, "context": {"load": {"min": 0, "max": 1}}, "guardrails": {},
    } | more)  # fmt: skip
    random, history = np.random.default_rng(1), History()
    places = [(x, load) for x, load in random.random((30, 2)).tolist() if x > load or load > 0.8] + [(0.5, 0.49)] * 2
    for i, (x, load) in enumerate(places):
        p99 = (200.0 if x < load or i == len(places) - 1 else 5.0) * math.exp(0.03 * random.normal())
        row = Observation({"x": x}, {"p99": p99}, Role.WINDOW, context={"load": load})
        history = history.apply(Told((row,), 0.0))
    better, goals = config.goals.better, config.goals
    settings = Settings(config.inputs, goals.modelled, better=better, context=1, logs=goals.logs, guarded=guarded)
    return training_set(history, config.inputs, goals), settings


def test_what_has_collapsed_says_nothing_of_how_it_is_before() -> None:
    data, settings = collapsing()
    off = data.failed == data.tried
    assert 2 <= off.sum() < 0.5 * len(off)
    assert off[-1]
    assert not off[-2], "windows on either side of a limit are not one stay"
    surrogate = fit(data, settings, {})
    assert surrogate["p99"].predict(data.X)[0] == pytest.approx(5.0, rel=0.1), (
        "as it is where it keeps the limit, everywhere"
    )
    assert surrogate[FEASIBLE].predict(data.X)[0][off].mean() < surrogate[FEASIBLE].predict(data.X)[0][~off].mean()
    mean, _ = fit(data, replace(settings, guarded=False), {})["p99"].predict(data.X[off])
    assert mean.max() > 10.0, "without guardrails somebody may stay there"


@pytest.mark.parametrize(("values", "stays"), [((5.0, 200.0, 200.0), 2), ((5.0, 6.0, 5.0), 1)])
def test_in_a_context_windows_on_either_side_of_a_limit_are_not_one_stay(values: tuple[float, ...], stays: int) -> None:
    """Too few windows to say by their spread that they contradict each other."""
    bounded = {"constraints": {"p99": {"max": 15.0}}, "context": {"load": {"min": 0, "max": 1}}}
    config, history = parse({"seed": 1, "bounds": BOUNDS, "objectives": {"p99": "min"}} | bounded), History()
    for p99 in values:
        row = Observation({"x": 0.5}, {"p99": p99}, Role.WINDOW, context={"load": 0.49})
        history = history.apply(Told((row,), 0.0))
    assert len(training_set(history, config.inputs, config.goals).X) == stays


def test_where_all_has_collapsed_it_is_what_it_is() -> None:
    data, settings = collapsing()
    off = data.rows(data.failed == data.tried)
    assert fit(off, settings, {})["p99"].predict(off.X)[0] == pytest.approx(200.0, rel=0.05)


# ---- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "baseline"), [({"min": 80.0}, {}), ({"min": "0.8*baseline"}, {"qps": 100.0})])
def test_a_cliff_never_ends_before_the_limit_it_breaks(limit: dict[str, Any], baseline: dict[str, float]) -> None:
    """Nearly all windows are alike: 8 robust stds are nothing, and 50 would be taken for 99."""
    goals = parse({"seed": 1, "bounds": BOUNDS, "objectives": {"qps": "max"}, "constraints": {"qps": limit}}).goals
    Y = np.array([[100.0], [100.1], [99.9], [100.05], [99.95], [50.0]])
    assert worst(Y, goals, baseline)[0] == pytest.approx(60.0, abs=0.1), "as far behind the limit as the median before"
    assert worst(Y, parse({"seed": 1, "bounds": BOUNDS, "objectives": {"qps": "max"}}).goals, {})[0] > 98.0
    minimised = parse({"seed": 1, "bounds": BOUNDS, "objectives": {"qps": "min"}, "constraints": {"qps": {"max": -80}}})
    assert worst(-Y, minimised.goals, {})[0] == pytest.approx(-60.0, abs=0.1)
    assert worst(np.array([[100.0]] * 5 + [[50.0]]), goals, baseline)[0] == 60.0, "nor what has never moved before"
    assert np.isnan(worst(np.full((5, 1), 7.0), goals, baseline)).all(), (
        "what is beyond the limit all the time says nothing"
    )
    of_front = worst(np.hstack([3.0 * Y, 160.0 - Y]), parse(FRONT).goals, {})
    assert of_front[1] == pytest.approx(140.0, abs=0.1), "nor before a threshold"
    assert of_front[0] > 290.0, "which the other outcome has not"


@pytest.mark.parametrize("limit", [{"max": 0.01}, {"max": "4*baseline"}])
def test_a_config_that_broke_a_limit_is_not_expected_to_keep_it(limit: dict[str, Any]) -> None:
    config = {"seed": 1, "bounds": BOUNDS, "objectives": {"qps": "max"}, "constraints": {"errors": limit}}
    random, study = np.random.default_rng(0), Study.new(parse(config)).apply(Opened({}, 0.0))
    for x in [*np.linspace(1.0, 0.3, 30).tolist(), 0.1, 0.1, 0.0, 0.0]:
        values = {"qps": 100.0, "errors": 0.6 if x < 0.2 else 0.0025 + 1e-5 * random.normal()}
        study = study.apply(Told((Observation({"x": x}, values, Role.WINDOW),), 0.0))
    advisor = ModelAdvisor(study.config, device="cpu")
    advisor.describe(study, {"x": 0.0})  # what was asked before the baseline was known changes nothing
    study = study.apply(Baselined({"qps": 100.0, "errors": 0.0025}, 0.0))
    (_, safe), (_, broken) = (advisor.describe(study, {"x": x}) or ({}, 0.5) for x in (0.9, 0.0))
    assert (round(safe, 2), round(broken, 2)) == (1.0, 0.0)
    fresh = ModelAdvisor(study.config, device="cpu")
    assert advisor.refit(study) == fresh.refit(study)


def test_a_window_off_a_cliff_that_breaks_a_limit_has_failed() -> None:
    """A window that is only worse than its limit has not; nor one where no limit is."""
    config = parse(
        {"seed": 1, "bounds": BOUNDS, "objectives": {"qps": "max"}, "constraints": {"errors": {"max": 0.01}}}
    )
    Y, ends = (
        np.array([[9.0, 0.002], [9.0, 0.012], [9.0, 0.3], [-50.0, 0.002], [np.nan, np.nan]]),
        np.array([0.0, 0.02]),
    )
    assert fallen(Y, ends, config.goals, {}).tolist() == [False, False, True, False, False]
    assert not fallen(Y, np.array([np.nan, np.nan]), config.goals, {}).any()
    history = History()
    for x, errors in [(0.9, 0.0), (0.8, 0.0), (0.7, 0.0), (0.1, 0.3), (0.1, 0.4)]:
        history = told(history, ({"x": x}, {"qps": 1.0, "errors": errors}))
    data = training_set(history, config.space, config.goals)
    assert (data.failed.tolist(), data.tried.tolist()) == ([0.0, 0.0, 0.0, 2.0], [1.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_guarded_search_learns_where_a_cliff_is(make: Make, clock: FakeClock, seed: int) -> None:
    """The more to the left the better, and at 0.35 everything breaks: an edge may be met, but not again and again."""
    solver = make({
        "seed": seed, "budget": 80,
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.7}, "y": {"min": 0, "max": 1, "initial": 0.5}},
        "objectives": {"qps": {"direction": "max", "weight": 1}},
        "constraints": {"errors": {"max": 0.01}},
        "guardrails": {"max_delta": {"x": 0.15, "y": 0.15}},
    })  # fmt: skip
    random, broken, count = np.random.default_rng(seed), 0, 0
    while (candidate := solver.ask_one()) is not None:
        clock.pass_s(60.0)
        x, y = float(candidate["x"]), float(candidate["y"])
        qps = 100.0 * (1.0 - x) - 10.0 * (y - 0.5) ** 2 + random.normal()
        errors = 0.3 if x < 0.35 else 0.0025 + 1e-4 * random.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps, "errors": errors}}])
        broken, count = broken + (x < 0.35), count + 1
    assert count > 80
    assert broken <= 11, "18 times when a limit was broken as far as the smooth surrogate could tell"
    assert 0.35 <= float(solver.recommend().params["x"]) < 0.38


# ---- thresholds ----------------------------------------------------------------------------------------------------


def test_beyond_a_threshold_is_what_is_as_far_behind_it_as_the_best_is_before() -> None:
    goals = parse(FRONT).goals
    Y = np.array([[1.0, 60.0], [1.0, 139.0], [1.0, 141.0], [np.nan, np.nan]])
    assert beyond(Y, goals).tolist() == [[False, False], [False, False], [False, True], [False, False]]
    assert not beyond(Y[2:], goals).any(), "where nothing is within it, nothing is beyond it"
    assert not beyond(Y[:, :1] * np.ones(2), parse(FRONT | {"objectives": {"qps": "max", "p99_ms": "min"}}).goals).any()


def test_before_anything_is_within_all_thresholds_nothing_is_beyond_one() -> None:
    config = FRONT | {"objectives": FRONT["objectives"] | {"qps": {"direction": "max", "threshold": 50.0}}}
    Y = np.array([[60.0, 500.0], [5.0, 60.0], [59.0, 500.0], [60.5, 500.5]])
    assert not beyond(Y, parse(config).goals).any()
    assert beyond(np.vstack([Y, [60.0, 60.0]]), parse(config).goals).tolist()[1] == [True, False]


def test_within_thresholds_nothing_is_clipped() -> None:
    config, history = parse(FRONT), History()
    for i, p99 in enumerate((20.0, 90.0, 90.1, 89.9, 90.05, 89.95, 150.0, 400.0)):
        history = told(history, ({"x": 0.1 * i}, {"qps": 1.0, "p99_ms": p99}))
    data, settings = training_set(history, config.space, config.goals), Settings(config.space, config.goals.modelled)
    settings = replace(settings, better=config.goals.better)
    plain, inner = (rows_of(data, settings, name) for name in ("p99_ms", STEEP))
    assert (plain.y * plain.scale + plain.shift).max() == pytest.approx(110.0, abs=0.1)
    assert (inner.y * inner.scale + inner.shift).max() == pytest.approx(150.0)


def test_an_outcome_may_have_any_name() -> None:
    outcomes = ("a", f"b{WITHIN}")
    settings = Settings(parse(FRONT).space, outcomes)
    assert [parted(name, settings) for name in (*outcomes, f"a{WITHIN}")] == [
        ("a", False),
        (f"b{WITHIN}", False),
        ("a", True),
    ]


def test_only_where_a_cliff_is_told_it_counts_as_falling() -> None:
    """qps rises smoothly from far below its threshold, which is no cliff, and p99 has one elsewhere."""
    objectives = FRONT["objectives"] | {"qps": {"direction": "max", "threshold": 95.0}}
    config, history, random = parse(FRONT | {"objectives": objectives}), History(), np.random.default_rng(2)
    for x in random.permutation(np.linspace(0.0, 1.0, 24)).tolist():
        qps = 100.0 - 100.0 * x**6 + 0.3 * random.normal()
        p99 = front(x, cliff=True)["p99_ms"] + random.normal()
        history = told(history, ({"x": x}, {"qps": qps, "p99_ms": p99}))
    data = training_set(history, config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
    assert data.beyond.sum(axis=0).min() > 3
    surrogate = fit(data, settings, {})
    assert surrogate.steep == {"p99_ms"}
    success = surrogate.within[FEASIBLE].rows
    np.testing.assert_allclose(success.y * success.scale + success.shift, ~data.beyond[:, 1], atol=1e-12)
    alone = seek(replace(data, beyond=data.beyond & [False, True]), settings, {})
    assert surrogate.hyperparameters[FEASIBLE + WITHIN] == alone[FEASIBLE + WITHIN]


def test_within_thresholds_an_outcome_is_that_of_the_rows_before_the_cliff() -> None:
    data, settings, _ = measured()
    fallen = data.beyond[:, 1]
    assert 5 < fallen.sum() < 10
    assert rows_of(data, settings, STEEP).index.tolist() == np.flatnonzero(~fallen).tolist()
    success = rows_of(data, settings, FEASIBLE + WITHIN)
    np.testing.assert_allclose(success.y * success.scale + success.shift, np.where(fallen, 0.0, 1.0), atol=1e-12)
    plain = rows_of(data, settings, "p99_ms")
    assert len(plain.y) == len(data.X), "what is told of a config is of all that was measured there"


def test_the_slope_before_a_cliff_is_seen_and_the_cliff_is_told_apart() -> None:
    data, settings, _ = measured()
    surrogate = fit(data, settings, {})
    assert {gp.name for gp in surrogate.inner} == {"p99_ms", FEASIBLE}
    near, far = np.array([[0.31], [0.33]]), np.array([[0.05], [0.15]])
    truth = np.array([front(x, cliff=True)["p99_ms"] for x in near[:, 0]])
    np.testing.assert_allclose(surrogate.within["p99_ms"].predict(near)[0], truth, atol=2.0)
    assert np.abs(surrogate["p99_ms"].predict(near)[0] - truth).max() > 10.0
    assert (surrogate["p99_ms"].predict(far)[0] > 130.0).all()
    assert (surrogate.within[FEASIBLE].predict(far)[0] < 0.3).all()
    assert FEASIBLE not in surrogate, "no window has failed"
    assert [gp.name for gp in surrogate.within.outcomes] == ["qps", "p99_ms", FEASIBLE]


def test_without_a_cliff_what_is_beyond_the_threshold_tells_of_the_slope() -> None:
    """A smooth rise, a quarter of it far beyond the threshold: to leave that out would leave less to learn from."""
    config, history = parse(FRONT), History()
    random = np.random.default_rng(0)
    for x in random.permutation(np.linspace(0.0, 1.0, 24)).tolist():
        history = told(history, ({"x": x}, {"qps": 1.0 - x, "p99_ms": 80.0 + 600.0 * x**4 + 4.0 * random.normal()}))
    data = training_set(history, config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
    assert data.beyond[:, 1].sum() == 6
    surrogate = fit(data, settings, {})
    assert (surrogate.inner, surrogate.within.outcomes) == ((), surrogate.outcomes)


def test_a_surrogate_with_a_cliff_is_restored_from_its_hyperparameters() -> None:
    data, settings, _ = measured()
    made = fit(data, settings, {})
    again = restore(data, settings, made.hyperparameters, before=made)
    at = np.linspace(0.0, 1.0, 7)[:, None]
    for one, other in zip(made.within.outcomes, again.within.outcomes, strict=True):
        np.testing.assert_array_equal(one.predict(at), other.predict(at))
    np.testing.assert_array_equal(made.inner[0].root, again.inner[0].root)


def test_a_surrogate_of_fallen_rows_alone_can_be_made() -> None:
    """As an active set may leave them."""
    data, settings, _ = measured()
    known = fit(data, settings, {}).hyperparameters
    surrogate = restore(data.rows(data.beyond[:, 1]), settings, known)
    assert np.isfinite(surrogate.within["p99_ms"].predict(np.array([[0.5]]))).all()


def test_rows_left_out_are_told_by_all_others() -> None:
    """The short cut is the posterior without the row, noise included."""
    data, settings, _ = measured(noise=3.0)
    gp = fit(data, settings, {})["qps"]
    total = 0.0
    for i in (3, 11):
        mean, variance = gp.without(data.params[i]).predict(data.X[[i]])
        spread = float(variance[0]) + gp.noise
        total -= 0.5 * np.log(2.0 * np.pi * spread) + (data.Y[i, 0] - mean[0]) ** 2 / (2.0 * spread)
    assert gp.left_out(np.array([3, 11])) == pytest.approx(total, rel=1e-6)


def seeded(make: Make, **options: Any) -> ArqonSolver:
    solver, random = make(FRONT, **options), np.random.default_rng(0)
    for x in random.permutation(np.linspace(0.0, 1.0, 24)).tolist():
        values = {name: y + random.normal() for name, y in front(x, cliff=True).items()}
        solver.seed([{"params": {"x": x}, "values": values}])
    solver.ask_one()
    return solver


def test_the_front_ends_at_the_cliff(make: Make) -> None:
    """Right before the fall both are best; a surrogate of all rows would see p99 rise there already."""
    (best,) = seeded(make).pareto_front()
    assert best.params["x"] == pytest.approx(7 / 23)
    assert best.outcomes is not None
    assert best.outcomes["p99_ms"].mean == pytest.approx(60.4, abs=2.0)


def test_what_is_asked_next_is_near_the_edge(make: Make) -> None:
    """The best of the front is right before the fall; a smooth surrogate would stay away from it."""
    solver = make(FRONT)
    random = np.random.default_rng(0)
    for x in (0.02, 0.1, 0.18, 0.45, 0.55, 0.7, 0.85, 1.0):
        solver.seed([{"params": {"x": x}, "values": front(x, cliff=True)}])
    asked = []
    for _ in range(6):
        candidate = solver.ask_one()
        assert candidate is not None
        asked.append(candidate["x"])
        values = {name: y + 0.5 * random.normal() for name, y in front(asked[-1], cliff=True).items()}
        solver.seed([{"params": candidate, "values": values}])
    assert min(abs(x - 0.3) for x in asked) < 0.04


def test_another_process_goes_on_alike(make: Make, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    solver = seeded(make, journal=journal)
    first = solver.ask_one()
    solver.close()
    again = make(FRONT, journal=journal)
    assert again.ask_one() == first
    model = again.status()["model"]
    assert {STEEP, FEASIBLE + WITHIN} < set(model["hyperparameters"])
    assert set(model["outliers"]) == {"qps", "p99_ms"}


def test_under_guardrails_a_front_with_a_cliff_is_walked_by_legal_steps(make: Make, clock: FakeClock) -> None:
    bounds = {"x": {"min": 0, "max": 1, "initial": 0.6}}
    solver = make(FRONT | {"bounds": bounds, "guardrails": {"max_delta": {"x": 0.1}}, "budget": 60})
    random, here = np.random.default_rng(3), 0.6
    for x in np.linspace(0.0, 1.0, 12).tolist():  # what a test bench has shown
        solver.seed([{"params": {"x": x}, "values": front(x, cliff=True)}])
    seen = []
    while (candidate := solver.ask_one()) is not None:
        assert abs(candidate["x"] - here) <= 0.1 + 1e-12
        here = candidate["x"]
        seen.append(here)
        clock.pass_s(60.0)
        values = {name: y + 0.5 * random.normal() for name, y in front(here, cliff=True).items()}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
    assert len(seen) >= 60, "what the guard needs is not taken from the budget"
    assert STEEP in solver.status()["model"]["hyperparameters"]
    assert solver.status()["model"]["fallbacks"] == {}
    assert np.mean(np.array(seen) < 0.3) < 0.2, "the cliff is met, and left"


def test_recovery_seeks_the_limits_and_may_cross_a_threshold() -> None:
    study = Study.new(parse(FRONT | {"constraints": {"qps": {"min": 36.0}}})).apply(Opened({}, 0.0))
    _, _, history = measured()
    study = study.apply(Told(history.rows, 0.0))
    space, config = study.config.space, study.config
    yard = yardstick(study.history, config, study.baseline)
    found = ModelAdvisor(config, device="cpu").propose(study, yard, Request(Goal.RECOVER, space.whole, {"x": 0.5}, 1))
    assert found.fallback is None
    assert float(found.params["x"]) < 0.25, "beyond the cliff, where qps holds surely"
