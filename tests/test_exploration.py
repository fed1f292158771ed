"""exploration_budget: a share of the windows, or minutes a day beyond the limits; and the price of exploring."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver, ConfigError
from arqon_gp.advice import Goal, Request
from arqon_gp.choice import Choice
from arqon_gp.config import parse
from arqon_gp.exploration import Exploration
from arqon_gp.guard import CLEARLY
from arqon_gp.history import key
from arqon_gp.knobs import Interval
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import Cancelled, Issued, Kind, Observation, Prediction, Promoted, Role, Told
from arqon_gp.space import Box
from arqon_gp.study import Study
from tests.conftest import FakeClock

Make = Callable[..., ArqonSolver]
CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}},
    "objectives": {"qps": {"direction": "max", "weight": 1.0}},
    "constraints": {"p99": {"max": 50}},
}
LIVE = CONFIG | {"guardrails": {"max_delta": [0.2, 0.2], "min_effect": 0.5}}


def run(solver: ArqonSolver, clock: FakeClock, windows: int) -> list[Issued]:
    """So many windows of a noisy hill that moves; what was handed out."""
    rng = np.random.default_rng(0)
    for i in range(windows):
        candidate = solver.ask_one()
        assert candidate is not None
        best = 0.3 + 0.4 * (i >= windows // 2)
        apart = (candidate["x"] - best) ** 2 + (candidate["y"] - best) ** 2
        clock.pass_s(60.0)
        values = {"qps": 100.0 - 80.0 * apart + 0.5 * rng.normal(), "p99": 20.0 + 80.0 * apart}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
    return list(solver._study.deployment.issued)


@pytest.mark.parametrize("config", [CONFIG, LIVE], ids=["free", "guarded"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_no_more_than_the_share_of_the_windows_explores(
    make: Make, clock: FakeClock, config: dict[str, Any], share: float
) -> None:
    issued = run(make(config | {"exploration_budget": share}), clock, 60)
    explored = np.cumsum([one.explores for one in issued])
    assert (explored <= share * np.arange(1, len(explored) + 1)).all(), "of those that were no hold, which are fewer"
    assert (explored[-1] > 0) == (share > 0)


@pytest.mark.parametrize("context", [{}, {"context": {"load": {"min": 0, "max": 10}}}], ids=["plain", "context"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_without_guardrails_nothing_new_is_tried_beside_that(
    make: Make, clock: FakeClock, share: float, context: dict[str, Any]
) -> None:
    issued = run(make(CONFIG | context | {"exploration_budget": share}), clock, 50)
    tried = {key(one.params) for one in issued}
    assert len(tried) <= 1 + share * len(issued)


def test_without_a_budget_more_is_explored(make: Make, clock: FakeClock) -> None:
    assert sum(one.explores for one in run(make(LIVE), clock, 60)) > 6


def test_a_front_has_no_best_config_to_stay_at_so_what_runs_is_measured(make: Make, clock: FakeClock) -> None:
    front = CONFIG | {"objectives": {"qps": "max", "p99": "min"}, "constraints": {}, "exploration_budget": 0.0}
    for config in (front, front | {"guardrails": {"max_delta": [0.2, 0.2]}}):
        issued = run(make(config), clock, 12)
        assert not any(one.explores for one in issued)
        assert {(one.params["x"], one.params["y"]) for one in issued} == {(0.5, 0.5)}


def told(budget: Any, *windows: tuple[bool, float, float]) -> Exploration:
    """After windows: whether it explored, its p99, how long it ran; one after the other from 0 s on. What does not
    explore is no change."""
    config, state, now = parse(CONFIG | {"exploration_budget": budget}), Exploration(), 0.0
    for number, (explores, p99, seconds) in enumerate(windows, 1):
        at = {"x": 0.0 if explores else 1.0, "y": 0.0}
        issued = Issued(str(number), number, Kind.EXPLORE, at, "", now, change=explores, explores=explores)
        deployment = Study.new(config).deployment
        for n in range(1, number):
            earlier = Issued(str(n), n, Kind.EXPLORE, {"x": 0.0, "y": 0.0}, "", 0.0, change=True)
            deployment = deployment.apply(earlier)
        now += seconds
        row = Observation(at, {"p99": p99}, Role.WINDOW, id=str(number), kind=Kind.EXPLORE)
        state = state.apply(Told((row,), now), config, deployment.apply(issued), {})
    return state


def test_minutes_beyond_a_limit_count_if_the_window_explored_and_for_a_day() -> None:
    config = parse(CONFIG | {"exploration_budget": {"slo_minutes_per_day": 10}})
    state = told({"slo_minutes_per_day": 10}, (True, 60.0, 300.0), (False, 60.0, 300.0), (True, 40.0, 300.0))
    assert state.broken_s(900.0) == 300.0, "neither the window that did not explore nor the one within the limit"
    assert state.allowed(config, 900.0)
    state = told({"slo_minutes_per_day": 10}, (True, 60.0, 300.0), (True, 60.0, 300.0))
    assert not state.allowed(config, 600.0)
    assert state.allowed(config, 300.0 + 86400.0), "the first one is a day ago"
    few, none = (parse(CONFIG | {"exploration_budget": {"slo_minutes_per_day": n}}) for n in (4, 0))
    assert not told({"slo_minutes_per_day": 4}, (True, 40.0, 300.0)).allowed(few, 300.0), "shorter than a window"
    assert not Exploration().allowed(none, 0.0)


def test_minutes_are_priced_by_a_window_after_a_change_which_has_to_settle() -> None:
    """What runs is measured for 60 s, a change takes 90."""
    budget = {"slo_minutes_per_day": 10}
    config = parse(CONFIG | {"exploration_budget": budget})
    six = told(budget, *[(True, 60.0, 90.0)] * 6, (False, 40.0, 60.0))
    assert (six.broken_s(600.0), six.allowed(config, 600.0), six.affords(config, 600.0)) == (540.0, False, True)
    trial = told(budget, *[(True, 60.0, 90.0)] * 6, (False, 40.0, 60.0), (True, 40.0, 90.0))
    assert trial.affords(config, 690.0), "one more window of what was tried is no change"
    assert not told(budget, *[(True, 60.0, 90.0)] * 7).affords(config, 630.0)
    night = told(budget, (True, 40.0, 43_200.0), *[(False, 40.0, 60.0)] * 16)
    assert night.allowed(config, 44_160.0), "the loop stood still: a window is no night"
    settling = parse(CONFIG | {"exploration_budget": {"slo_minutes_per_day": 1.4}, "settle_s": 30.0})
    assert not told({"slo_minutes_per_day": 1.4}, (False, 40.0, 60.0)).allowed(settling, 60.0), "before any change"


def test_a_window_that_lacks_an_outcome_is_paid_for_too(make: Make, clock: FakeClock) -> None:
    """What is tried is a little beyond its limit, as a noisy p99 may be, and has no qps: the 5 minutes pay one window
    of it, and no second one."""
    solver, rng = make(LIVE | {"exploration_budget": {"slo_minutes_per_day": 5}}), np.random.default_rng(0)
    for _ in range(30):
        candidate = solver.ask_one()
        clock.pass_s(300.0)
        tried = solver._study.deployment.latest.explores
        p99 = 53.0 if tried else 30.0 * math.exp(0.25 * rng.normal())
        values = {"qps": None if tried else 100.0 * candidate["x"], "p99": p99}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
        if tried:
            break
    assert tried
    assert solver.ask_one().kind == Kind.ROLLBACK
    assert solver.status()["exploration"]["slo_minutes_last_day"] == 5.0


def test_what_is_handed_out_together_counts_together(make: Make) -> None:
    solver = make(CONFIG | {"constraints": {}, "exploration_budget": 0.1})
    value = {"qps": 1.0}
    for _ in range(19):
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "values": value}])
    explored = solver.status()["exploration"]["explored"]
    batch = solver.ask(10)
    assert batch is not None
    more = sum(one.kind in (Kind.PROBE, Kind.EXPLORE) for one in batch)
    assert explored + more <= 2, "of 20 windows"
    solver.seed([{"params": one, "id": one.id, "values": value} for one in batch])
    assert solver.status()["exploration"]["windows"] == 29, "those that came late, too"


@pytest.mark.parametrize("budget", [0.2, {"slo_minutes_per_day": 12}])
def test_what_nobody_answers_is_paid_for(make: Make, clock: FakeClock, budget: Any) -> None:
    solver = make(LIVE | {"exploration_budget": budget, "pending_ttl_s": 60.0})
    run(solver, clock, 4)
    handed = len(solver._study.deployment.issued)
    before = solver.status()["exploration"]["explored"]
    for _ in range(30):
        solver.ask_one()
        clock.pass_s(61.0)
    more = sum(one.explores for one in list(solver._study.deployment.issued)[handed:])
    assert before + more <= (1 if budget == 0.2 else 12), "a fifth of 5 windows; as many windows as 12 minutes have"


@pytest.mark.parametrize(("applied", "explored"), [(False, 0), (True, 1), (None, 1)])
def test_what_is_withdrawn_before_it_ran_costs_nothing(applied: bool | None, explored: int) -> None:
    config = parse(LIVE | {"exploration_budget": 0.5})
    issued = Issued("1", 1, Kind.EXPLORE, {"x": 0.6, "y": 0.5}, "", 0.0, change=True, explores=True)
    deployment, state = Study.new(config).deployment.apply(issued), Exploration()
    for event in (issued, Cancelled("1", applied, 10.0)):
        state = state.apply(event, config, deployment, {})
    assert state.explored == explored
    row = Observation({"x": 0.6, "y": 0.5}, {"qps": 1.0, "p99": 40.0}, Role.LATE, id="1", kind=Kind.EXPLORE)
    for _ in range(2):
        state = state.apply(Told((row,), 20.0), config, deployment, {})
    assert state.explored == 1, "it ran after all, once"


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_minutes_beyond_a_limit_are_kept_though_one_noisy_window_says_little(
    make: Make, clock: FakeClock, seed: int
) -> None:
    """Beyond x = 0.4 the p99 is 55 where 50 is allowed, and 8 is its noise: what is tried there was measured on."""
    bounds, budget = {"x": {"min": 0, "max": 1, "initial": 0.3}}, {"slo_minutes_per_day": 5}
    rails = {"max_delta": [0.15], "min_effect": 0.5}
    solver = make(LIVE | {"seed": seed, "bounds": bounds, "guardrails": rails, "exploration_budget": budget})
    rng, spent = np.random.default_rng(seed), []
    for _ in range(50):
        candidate = solver.ask_one()
        clock.pass_s(300.0)
        qps, p99 = 100.0 * candidate["x"] + rng.normal(), 30.0 + 25.0 * (candidate["x"] > 0.4) + 8.0 * rng.normal()
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps, "p99": p99}}])
        spent.append(solver.status()["exploration"]["slo_minutes_last_day"])
    assert max(spent) == 5.0


def test_windows_of_a_trial_count_until_it_is_promoted_or_left() -> None:
    config = parse(LIVE | {"exploration_budget": {"slo_minutes_per_day": 60}})
    at, elsewhere = {"x": 0.6, "y": 0.5}, {"x": 0.5, "y": 0.5}

    def after(*kinds: Kind, promoted: bool = False, left: bool = False) -> float:
        deployment, state, now = Study.new(config).deployment, Exploration(), 0.0
        for n, kind in enumerate(kinds, 1):
            params = elsewhere if left and n > 1 else at
            change = n == 1 or (left and n == 2)
            event = Issued(str(n), n, kind, params, "", now, change=change, explores=kind is Kind.EXPLORE)
            deployment, state = deployment.apply(event), state.apply(event, config, deployment, {})
            now += 300.0
            row = Observation(params, {"qps": 1.0, "p99": 60.0}, Role.WINDOW, id=str(n), kind=kind)
            state = state.apply(Told((row,), now), config, deployment, {})
            if promoted:
                state = state.apply(Promoted(params, now, ""), config, deployment, {})
        return state.broken_s(now)

    assert after(Kind.EXPLORE, Kind.REPLICATE, Kind.REPLICATE) == 900.0
    assert after(Kind.EXPLORE, Kind.REPLICATE, promoted=True) == 300.0
    assert after(Kind.EXPLORE, Kind.ROLLBACK, Kind.REPLICATE, left=True) == 300.0
    assert after(Kind.REPLICATE) == 0.0


def test_what_was_spent_is_shown(make: Make, clock: FakeClock) -> None:
    solver = make(LIVE | {"exploration_budget": 0.1})
    run(solver, clock, 30)
    shown = solver.status()["exploration"]
    assert shown["windows"] == 30
    assert shown["explored"] == sum(one.explores for one in solver._study.deployment.issued)
    assert shown["breach"] is None
    plain = {key: value for key, value in CONFIG.items() if key != "constraints"}
    assert make(plain).status()["exploration"] is None, "nothing has a price there"


def test_an_endless_study_shows_what_exploring_has_cost_without_a_budget_too(make: Make, clock: FakeClock) -> None:
    solver = make(LIVE)
    run(solver, clock, 20)
    shown = solver.status()["exploration"]
    assert shown["explored"] == sum(one.explores for one in solver._study.deployment.issued) > 3
    assert shown["allowed"]


@pytest.mark.parametrize(
    ("budget", "says"),
    [(1.5, "exploration_budget"), ("5%", "share of the windows"), ({"slo_minutes": 3}, "slo_minutes")],
)
def test_a_budget_of_another_form_is_an_error_that_says_what_is_allowed(budget: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(CONFIG | {"exploration_budget": budget})


def test_slo_minutes_need_a_limit() -> None:
    with pytest.raises(ConfigError, match="need a limit"):
        parse(CONFIG | {"constraints": {}, "exploration_budget": {"slo_minutes_per_day": 3}})


def test_under_a_context_slo_minutes_need_a_limit_that_is_a_number() -> None:
    minutes = {"context": {"load": {"min": 0, "max": 9}}, "exploration_budget": {"slo_minutes_per_day": 3}}
    with pytest.raises(ConfigError, match=r"found p99 <= 1.2\*baseline"):
        parse(CONFIG | minutes | {"constraints": {"p99": {"max": "1.2*baseline"}}})
    assert parse(CONFIG | minutes).exploration is not None
    with pytest.raises(ConfigError, match=r"0 to 1440.*; found .*2000"):
        parse(CONFIG | minutes | {"exploration_budget": {"slo_minutes_per_day": 2000}})


def test_exploring_is_worth_what_it_teaches_less_its_first_window_and_what_a_broken_limit_may_cost() -> None:
    def worth(cost: float, p: float, surprise: float = 0.0) -> float:
        exploration = SimpleNamespace(surprise=lambda *_: surprise)
        study = SimpleNamespace(config=parse(CONFIG), context={}, exploration=exploration)
        found = SimpleNamespace(study=study, lesson=lambda *_: (0.25, cost))
        yard = SimpleNamespace(min_effect=0.5)
        of: Any = SimpleNamespace(found=found, yard=yard, _known={"x": 0.5, "y": 0.5}, _breach=100.0)
        return Choice._worth(of, {"x": 0.1, "y": 0.1}, 1.0 - p, 40.0)

    assert worth(3.0, 1.0) == pytest.approx(40.0 * 0.25 - 3.0)
    assert worth(-3.0, 1.0) == pytest.approx(40.0 * 0.25 - 0.5), "min_effect at the least"
    assert worth(3.0, 0.9) == pytest.approx(40.0 * 0.25 - 3.0 - 0.1 * 100.0)
    assert worth(3.0, 0.9, 0.05) == pytest.approx(40.0 * 0.25 - 3.0 - 0.15 * 100.0)
    assert worth(3.0, 0.1, 0.5) == pytest.approx(40.0 * 0.25 - 3.0 - 100.0), "no likelier than sure"


def test_what_seemed_safe_and_broke_a_limit_makes_exploring_dearer_for_a_while_in_such_a_context() -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": [0.2, 0.2]}, "context": {"load": {"min": 0, "max": 100}}})

    def after(*p99s: float, explores: bool = True, p: float | None = 0.9, load: float = 50.0) -> float:
        state, told, day = Exploration(), {"qps": Prediction(100.0, 90.0, 110.0)}, {"load": 50.0}
        for p99 in p99s:
            issued = Issued("1", 1, Kind.EXPLORE, {}, "", 0.0, True, told, p_limits=p, explores=explores, context=day)
            values: dict[str, float | None] = {} if math.isnan(p99) else {"qps": 40.0, "p99": p99}
            row = Observation({}, values, Role.WINDOW, math.isnan(p99), id="1", kind=Kind.EXPLORE, context=day)
            state = state.apply(Told((row,), 0.0), config, Study.new(config).deployment.apply(issued), {})
        return state.surprise({"load": load}, config)

    assert after() == after(40.0) == 0.0, "bad, but within the limit"
    assert after(60.0) == after(math.nan) == pytest.approx(0.9 / 11.0)
    assert after(60.0, load=54.0) == after(60.0)
    assert after(60.0, load=80.0) == 0.0, "what breaks by day does not make the night dear"
    assert after(60.0, p=None) == pytest.approx(1.0 / 11.0), "nobody said that it might"
    assert after(60.0, explores=False) == 0.0
    assert after(60.0, *[40.0] * 9) == 0.0, "as seldom as was said"
    assert 0.0 < after(60.0, *[40.0] * 50, p=1.0) < after(60.0) / 4.0
    assert after(60.0, *[40.0] * 64, p=1.0) == 0.0, "long ago"


def test_what_a_broken_limit_costs_is_what_those_did_that_were_to_be_kept() -> None:
    """Predicted at 100 with a p99 of 40 (or of 70, which breaks its limit of 50)."""
    objectives = {"qps": {"direction": "max", "weight": 1.0}, "p99": {"direction": "min", "weight": 1e-9}}
    config = parse(CONFIG | {"guardrails": {"max_delta": [0.2, 0.2]}, "objectives": objectives})

    def after(*windows: tuple[float, float], expected: float = 40.0, issued: bool = True) -> float | None:
        state = Exploration()
        told = {"qps": Prediction(100.0, 90.0, 110.0), "p99": Prediction(expected, 0.9 * expected, 1.1 * expected)}
        for qps, p99 in windows:
            one = Issued("1", 1, Kind.REPLICATE, {}, "", 0.0, change=False, predicted=told)
            values: dict[str, float | None] = {} if math.isnan(qps) else {"qps": qps, "p99": p99}
            row = Observation({}, values, Role.WINDOW, math.isnan(qps), id="1", kind=Kind.REPLICATE if issued else None)
            state = state.apply(Told((row,), 0.0), config, Study.new(config).deployment.apply(one), {})
        return state.breach

    assert after((40.0, 40.0)) is None, "bad, but within the limit"
    assert after((40.0, 60.0), (80.0, 40.0), (-20.0, 60.0)) == pytest.approx(90.0), "60 and 120"
    assert after((40.0, 60.0), (0.0, 60.0), (90.0, 60.0), (100.0, 40.0)) == pytest.approx(180.0), "three windows"
    assert after((40.0, 60.0), expected=70.0) is None, "it was to break it: the way out"
    assert after((40.0, 60.0), issued=False) is None, "nothing was predicted"
    assert after((math.nan, math.nan)) == pytest.approx(100.0), "it failed"
    assert after((-1e9, 60.0)) == pytest.approx(3000.0), "one absurd window is not the end of all exploring"
    assert after((-1e9, 60.0), *[(100.0, 40.0), (40.0, 60.0)] * 16) == pytest.approx(60.0), "long ago"


@pytest.mark.parametrize(("budget", "known"), [(None, True), (50, False)])
def test_what_a_broken_limit_costs_is_learned_without_guardrails_too_where_exploring_has_a_price(
    make: Make, clock: FakeClock, budget: int | None, known: bool
) -> None:
    config = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}, "budget": budget}
    solver, rng = make(config | {"constraints": {"qps": {"min": 50.0}}}), np.random.default_rng(0)
    for i in range(14):
        candidate = solver.ask_one()
        qps = 100.0 + rng.normal() if i < 12 else 10.0  # it collapses
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": qps}}])
    assert (solver._study.exploration.breach is not None) == known


def test_a_limit_on_what_is_no_objective_costs_all_that_there_is() -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": [0.2, 0.2]}})
    told = {"qps": Prediction(100.0, 90.0, 110.0), "p99": Prediction(40.0, 30.0, 50.0)}

    def after(objectives: dict[str, Any]) -> float | None:
        of = parse(CONFIG | {"guardrails": {"max_delta": [0.2, 0.2]}, "objectives": objectives})
        one = Issued("1", 1, Kind.REPLICATE, {}, "", 0.0, change=False, predicted=told)
        row = Observation({}, {"qps": 99.0, "p99": 60.0}, Role.WINDOW, id="1", kind=Kind.REPLICATE)
        return Exploration().apply(Told((row,), 0.0), of, Study.new(config).deployment.apply(one), {}).breach

    qps = {"qps": {"direction": "max", "weight": 1.0}}
    assert after(qps) == pytest.approx(100.0)
    assert after(qps | {"p99": {"direction": "min", "weight": 0.1}}) == pytest.approx(1.0 + 2.0)


@pytest.mark.parametrize("live", [True, False])
def test_what_is_settled_on_leaves_a_knob_alone_that_is_worth_less_than_min_effect(make: Make, live: bool) -> None:
    """x is worth 100 a unit and y 1, as min_effect is: y stays as it is, unless all that may run was measured."""
    rails = {"guardrails": {"max_delta": [0.3, 0.3]}} if live else {}
    solver, rng = make(CONFIG | {"constraints": {}} | rails), np.random.default_rng(0)

    def window(x: float, y: float) -> dict[str, Any]:
        return {"params": {"x": x, "y": y}, "values": {"qps": 100.0 * x + y + 0.2 * rng.normal()}}

    solver.seed([window(x, y) for x, y in rng.random((30, 2))] + [window(0.5, 0.5)] * 3)
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    box = Box((Interval(0.2, 0.8) if live else Interval(0.0, 1.0),) * 2)
    request = Request(Goal.IMPROVE, box, {"x": 0.5, "y": 0.5}, 3, horizon=0.0)
    settled = Choice(found, solver._yardstick(), request, (), "cpu", print).proposal()
    assert settled.settled
    if live:
        assert settled.params["x"] == pytest.approx(0.8, abs=0.03)
        assert settled.params["y"] == 0.5
    else:
        assert key(settled.params) in {key(params) for params in found.measured}
        assert settled.params["y"] != 0.5


def test_whatever_it_is_worth_nothing_is_tried_that_is_not_safe_enough(make: Make, clock: FakeClock) -> None:
    """The limit lies close to the best config; on the way there the price alone would accept less than 0.95. What is no
    trial may lead to less only from what is clearly less safe."""
    solver, rng = make(LIVE | {"constraints": {"p99": {"max": 30}}}), np.random.default_rng(0)
    sought: list[tuple[Issued, float]] = []
    for _ in range(50):
        here = solver._study.deployment.may_run
        candidate = solver.ask_one()
        assert candidate is not None
        x, y = candidate["x"], candidate["y"]
        issued, found = solver._study.deployment.issued[-1], solver._advisor.outlook(solver._study)
        if issued.change and issued.improvement is not None:
            sought.append((issued, float(found.p_kept([here])[0]) if found else 1.0))
        values = {"qps": 100.0 * (x + y) + rng.normal(), "p99": 20.0 + 12.0 * (x + y - 1.0) + rng.normal()}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
        clock.pass_s(60.0)
    assert len(sought) > 5
    for issued, before in sought:
        least = 0.95 if issued.explores else min(before + CLEARLY, 0.95)
        assert issued.p_limits is not None
        assert issued.fraction is not None or issued.p_limits >= least


def test_what_is_learned_counts_in_contexts_like_this_one_alone() -> None:
    """Half of the windows came under a load in which another x is best."""
    plain: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}}
    rng, rows = np.random.default_rng(0), []
    for i, x in enumerate(rng.random(40).tolist()):
        load = 900.0 if i % 2 else 100.0
        rows.append((x, load, 100.0 - 300.0 * (x - (0.8 if i % 2 else 0.2)) ** 2 + float(rng.normal())))

    def lasting(config: dict[str, Any]) -> float:
        parsed = parse(config)
        seen = [{"load": load} if parsed.context else {} for _, load, _ in rows]
        told = [
            Observation({"x": x}, {"qps": y}, Role.WINDOW, context=c) for (x, _, y), c in zip(rows, seen, strict=True)
        ]
        outlook = ModelAdvisor(parsed, device="cpu").outlook(Study.new(parsed).apply(Told(tuple(told), 0.0)))
        assert outlook is not None
        return outlook.lasting(40.0)

    assert lasting(plain) == 40.0
    assert 15.0 < lasting(plain | {"context": {"load": {"min": 0, "max": 1000}}}) < 35.0


def test_an_endless_study_stays_at_what_is_best_and_says_why(make: Make, clock: FakeClock) -> None:
    """On a hill that stands still exploring stops paying; the config is as good as anything within min_effect."""
    solver, rng = make(LIVE), np.random.default_rng(1)
    for _ in range(90):
        candidate = solver.ask_one()
        assert candidate is not None
        apart = (candidate["x"] - 0.3) ** 2 + (candidate["y"] - 0.6) ** 2
        values = {"qps": 100.0 - 80.0 * apart + 0.2 * rng.normal(), "p99": 20.0}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
        clock.pass_s(60.0)
    assert solver.status()["phase"] == "watching"
    assert 80.0 * apart < 1.0


def test_a_clock_that_stands_still_does_not_make_minutes_free(make: Make, clock: FakeClock) -> None:
    config = parse(CONFIG | {"exploration_budget": {"slo_minutes_per_day": 10}})
    state = told({"slo_minutes_per_day": 10}, (True, 40.0, 300.0), (True, 60.0, 0.0), (True, 60.0, 0.0))
    assert state.broken_s(300.0) == 600.0, "as long as the window before"
    assert not state.allowed(config, 300.0)


def test_where_nothing_may_explore_no_random_config_runs_when_there_is_no_model(make: Make) -> None:
    start = {"x": {"min": 0, "max": 1, "initial": 0.5}, "y": {"min": 0, "max": 1, "initial": 0.5}}
    solver = make(CONFIG | {"bounds": start, "exploration_budget": 0.0})
    for _ in range(6):
        candidate = solver.ask_one()
        solver.seed([{"params": candidate, "values": {"qps": None, "p99": 1.0}}])
        assert candidate == {"x": 0.5, "y": 0.5}


def test_after_a_long_time_something_was_still_measured_lately(make: Make, clock: FakeClock) -> None:
    """The first windows are a second long and the others 300: the last stay is then as old as 300 of them."""
    solver, rng = (
        make(LIVE | {"constraints": {}, "context": {"load": {"min": 0, "max": 100}}}),
        np.random.default_rng(0),
    )

    def window(x: float, at: float) -> dict[str, Any]:
        value = {"qps": 100.0 - 20.0 * (x - 0.3) ** 2 + 0.3 * rng.normal()}
        return {"params": {"x": x, "y": 0.5}, "values": value, "time": at, "context": {"load": 50}}

    solver.seed([window(0.5, clock.now - 100.0 + i) for i in range(16)])
    for _ in range(12):
        candidate = solver.ask_one({"load": 50})
        assert candidate is not None
        clock.pass_s(300.0)
        solver.seed([window(float(candidate["x"]), clock.now) | {"params": candidate, "id": candidate.id}])
    assert solver.status()["model"]["fallbacks"] == {}


def test_a_trial_is_what_ran_whatever_was_handed_out_and_withdrawn_since() -> None:
    config = parse(LIVE | {"exploration_budget": {"slo_minutes_per_day": 60}})

    def handed(n: int, kind: Kind, x: float, **more: Any) -> Issued:
        return Issued(str(n), n, kind, {"x": x, "y": 0.5}, "", 300.0 * n, **more)

    def window(n: int, kind: Kind, x: float, p99: float) -> Told:
        row = Observation({"x": x, "y": 0.5}, {"qps": 1.0, "p99": p99}, Role.WINDOW, id=str(n), kind=kind)
        return Told((row,), 300.0 * (n + 1))

    def broken(*between: Issued | Cancelled, ran: float = 0.6) -> float:
        events = [handed(1, Kind.EXPLORE, 0.6, change=True, explores=True), window(1, Kind.EXPLORE, ran, 10.0)]
        events += [*between, handed(3, Kind.REPLICATE, ran, change=False), window(3, Kind.REPLICATE, ran, 90.0)]
        study = Study.new(config)
        for event in events:
            study = study.apply(event)
        return study.exploration.broken_s(1200.0)

    late = Observation({"x": 0.5, "y": 0.5}, {"qps": 1.0, "p99": 90.0}, Role.LATE, id="2", kind=Kind.START)
    assert broken(handed(2, Kind.START, 0.5, change=False), Told((late,), 9000.0)) == 300.0, "no trial's"
    withdrawn = Cancelled("2", False, 700.0)
    assert broken(handed(2, Kind.EXPLORE, 0.7, change=True, explores=True), withdrawn) == 300.0
    assert broken(handed(2, Kind.ROLLBACK, 0.5, change=True), withdrawn) == 300.0
    assert broken(handed(2, Kind.REPLICATE, 0.61, change=False), ran=0.61) == 300.0, "rounded when it was applied"


def test_all_of_the_windows_may_explore_also_those_that_are_still_to_come(make: Make) -> None:
    batch = make(CONFIG | {"constraints": {}, "exploration_budget": 1.0}).ask(6)
    assert [one.kind for one in batch or []].count(Kind.REPLICATE) == 0


def test_minutes_pay_nothing_before_it_is_known_how_long_a_window_is(make: Make) -> None:
    solver = make(CONFIG | {"exploration_budget": {"slo_minutes_per_day": 1}})
    assert not any(one.kind in (Kind.PROBE, Kind.EXPLORE) for one in solver.ask(6) or [])


def test_a_study_that_may_explore_nothing_says_that_it_watches(make: Make, clock: FakeClock) -> None:
    solver = make(LIVE | {"exploration_budget": 0.0, "context": {"load": {"min": 0, "max": 10}}})
    run(solver, clock, 12)
    assert solver.status()["phase"] == "watching"


def test_an_outcome_that_never_varied_keeps_no_knob_where_it_is(make: Make, clock: FakeClock) -> None:
    """A step of `ratio` is a seventh of its range. An error rate of 0 all along, and a full memory that is always the
    same, once seemed to vary as much as they are large, so that no step of it was ever safe enough."""
    solver = make(
        {
            "seed": 1,
            "bounds": {"ratio": {"type": "int", "min": 1, "max": 8, "initial": 3}, "pause": {"min": 0, "max": 1}},
            "objectives": {
                "p99": {"direction": "min", "weight": 1.0},
                "error_rate": {"direction": "min", "weight": 9.0},
            },
            "constraints": {"error_rate": {"max": 0.01}, "memory": {"max": 900}},
            "guardrails": {"max_delta": [1, 0.1]},
        }
    )
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        candidate = solver.ask_one()
        assert candidate is not None
        seen.add(candidate["ratio"])
        clock.pass_s(60.0)
        values = {"p99": 200.0 - 12.0 * candidate["ratio"] + rng.normal(), "error_rate": 0.0, "memory": 700.0}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
    assert max(seen) >= 6, "the best is 8"


def test_a_front_in_a_context_is_watched_where_nothing_promises_min_effect(make: Make, clock: FakeClock) -> None:
    """Both outcomes follow the load, and x moves neither."""
    config = {
        "seed": 1,
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.5}},
        "context": {"load": {"min": 100, "max": 1000}},
        "objectives": {"qps": "max", "p99": "min"},
        "guardrails": {"max_delta": [0.2], "min_effect": 0.1},
    }
    solver, rng, last = make(config), np.random.default_rng(0), []
    for i in range(40):
        load = 500.0 + 100.0 * math.sin(i / 4.0)
        candidate = solver.ask_one({"load": load})
        clock.pass_s(300.0)
        values = {"qps": load * (1.0 + 0.01 * rng.normal()), "p99": 0.1 * load * (1.0 + 0.01 * rng.normal())}
        solver.seed([{"params": candidate, "id": candidate.id, "values": values}])
        last.append(candidate.reason)
    assert sum("no other promises more than min_effect" in reason for reason in last[20:]) >= 10
