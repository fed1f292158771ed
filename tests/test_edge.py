"""The edge: what windows that broke a limit, or did not, say of configs near them; and what is done with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import special

from arqon_gp import ArqonSolver
from arqon_gp.advice import Goal, Request
from arqon_gp.choice import Choice
from arqon_gp.collapse import collapsed_since
from arqon_gp.config import parse
from arqon_gp.edge import MOST_RISK, Edge, Edges, Frame
from arqon_gp.guard import CLEARLY
from arqon_gp.knobs import Interval
from arqon_gp.outlook import Outlook
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import Label, Labelled, Observation, Params, Role, Told
from arqon_gp.rows import Settings
from arqon_gp.space import Box
from arqon_gp.study import Study
from arqon_gp.way_out import _scale, broke_lately, least_excess
from arqon_gp.yardstick import yardstick
from tests.conftest import FakeClock

Make = Callable[..., ArqonSolver]
CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": {"x": {"min": 0, "max": 100}, "y": {"min": 0, "max": 1}},
    "objectives": {"qps": {"direction": "max", "weight": 1.0}},
    "constraints": {"p99": {"max": 50}},
    "guardrails": {"max_delta": [5, 0.1]},
}


def frame(steps: Sequence[float] = (5.0, 0.1), **more: Any) -> Frame:
    config = parse(CONFIG | {"guardrails": {"max_delta": list(steps)}} | more)
    assert config.guardrails is not None
    return Frame.of(Settings(config.inputs, config.goals.modelled, context=1), config.guardrails.steps, 0.0)


def edge(X: Sequence[Sequence[float]], broke: Sequence[bool], **more: Any) -> Edge:
    found = Edge.of(np.array(X), 1.0 * np.array(broke), 1.0 - np.array(broke), frame(**more))
    assert found is not None
    return found


def risk(found: Edge, *x: float) -> float:
    return float(found.risk(np.array([x]))[0])


# ---- the classifier --------------------------------------------------------------------------------------------------


def test_without_a_broken_limit_there_is_no_edge() -> None:
    assert Edge.of(np.array([[0.5, 0.5]]), np.zeros(1), np.ones(1), frame()) is None


def test_what_broke_is_riskier_than_the_unknown_and_what_held_for_long_is_safer() -> None:
    rows = np.array([[0.5, 0.5], [0.6, 0.5]])
    found = [Edge.of(rows, np.array([0.0, 1.0]), np.array([windows, 0.0]), frame()) for windows in (1.0, 12.0)]
    few, many = [of for of in found if of is not None]
    assert MOST_RISK < risk(few, 0.5, 0.5) < 1.0 < risk(few, 0.6, 0.5)
    assert risk(many, 0.5, 0.5) < MOST_RISK < 1.0 < risk(many, 0.6, 0.5)
    alike = edge([[0.5, 0.5]] * 12 + [[0.6, 0.5]], [False] * 12 + [True])
    assert risk(alike, 0.5, 0.5) == pytest.approx(risk(many, 0.5, 0.5), rel=0.2), "as many rows of one window each"


def test_of_a_stay_the_windows_that_failed_count_as_broken_and_the_others_as_kept() -> None:
    """20 windows of one config, of which one failed: the more others there are, the safer it is."""
    config = parse(CONFIG)

    def of(windows: int, p99: float | None = 20.0) -> float:
        rows = [Observation({"x": 60.0 + i, "y": 0.5}, {"qps": 1.0, "p99": 20.0}, Role.WARM) for i in range(4)]
        good = Observation({"x": 50.0, "y": 0.5}, {"qps": 1.0, "p99": p99}, Role.WARM)
        rows += [good] * (windows // 2) + [replace(good, values={}, failed=True)] + [good] * (windows // 2)
        found = ModelAdvisor(config, device="cpu").outlook(Study.new(config).apply(Told(tuple(rows), 0.0)))
        assert found is not None
        assert found.edges is not None
        return float(found.edges.risk(found.encoded([{"x": 50.0, "y": 0.5}]))[0])

    assert of(2) > of(8) > of(14)
    assert of(14) < MOST_RISK
    assert of(14, None) == pytest.approx(of(0)), "what was not measured kept no limit"


def test_an_edge_is_carried_on_where_nothing_was_measured() -> None:
    """It broke below the line x = 0.3 + y / 2 and held above it, for y up to 0.4."""
    points = [(x, y) for y in np.linspace(0.0, 0.4, 5) for x in (0.2 + y / 2, 0.25 + y / 2, 0.35 + y / 2, 0.4 + y / 2)]
    found = edge(points, [x < 0.3 + y / 2 for x, y in points])
    assert risk(found, 0.5, 0.6) > 4.0 * risk(found, 0.7, 0.6)


def test_after_a_collapse_what_was_before_tells_on_which_side_the_edge_lies_and_not_where() -> None:
    """It broke below x = 0.4 and held for long above; then three windows broke at 0.6."""
    rows = np.array([[0.30, 0.5], [0.35, 0.5], [0.45, 0.5], [0.5, 0.5], [0.6, 0.5], [0.7, 0.5], [0.6, 0.5]])
    broke, held = np.array([4.0, 4.0, 0, 0, 0, 0, 3.0]), np.array([0, 0, 9.0, 9.0, 9.0, 9.0, 0])
    old = np.array([1.0] * 6 + [0.0])
    before, after = Edge.of(rows, broke, held, frame()), Edge.of(rows, broke, held, frame(), old)
    assert before is not None
    assert after is not None
    points = np.array([[0.55, 0.5], [0.6, 0.5], [0.65, 0.5], [0.9, 0.5]])
    assert before.chance(points)[2] < 0.1, "what held for long is believed"
    chance = after.chance(points)
    assert chance[0] > chance[1] > chance[2] > 0.4 > 2.0 * chance[3]


@pytest.mark.parametrize(
    ("failed", "began"),
    [
        ([0, 0, 1, 1, 1], 2),
        ([0, 1, 0, 1, 1], 0),
        ([0, 3, 0, 1, 1], 1),
        ([0, 2, 1, 0, 0], 1),
        ([3, 0, 0, 2, 1], 3),
        ([0, 0, 0, 0, 0], 0),
    ],
)
def test_a_collapse_is_three_windows_in_a_row_and_the_latest_one_counts(failed: list[int], began: int) -> None:
    order = [3, 1, 4, 0, 2]
    data: Any = SimpleNamespace(first=np.arange(5)[order], failed=np.array(failed, dtype=float)[order])
    history: Any = SimpleNamespace(rows=[SimpleNamespace(role=Role.WINDOW)] * 5)
    assert collapsed_since(data, history) == began
    assert collapsed_since(data, SimpleNamespace(rows=[SimpleNamespace(role=Role.WARM)] * 5)) == 0  # type: ignore[arg-type]


def test_a_step_is_the_operators() -> None:
    """The same rows: where max_delta is small, 0.1 of the range is far, and what broke there says less of here."""
    rows = [[0.5, 0.5]] * 3 + [[0.6, 0.5]], [False] * 3 + [True]
    near, far = edge(*rows, steps=(20.0, 0.1)), edge(*rows, steps=(2.0, 0.1))
    assert risk(near, 0.5, 0.5) > risk(far, 0.5, 0.5)


def test_one_window_tells_what_bayes_says() -> None:
    """The moments of the latent of one broken window follow from R&W 2006, eqs. 3.82 to 3.85, exactly."""
    found = edge([[0.5, 0.5]], [True])
    k = 1.5**2 + 1.5**2  # constant and bump; the line is 0 in the middle
    z = -2.5 / math.sqrt(1.0 + k)
    ratio = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / (0.5 * math.erfc(-z / math.sqrt(2.0)))
    mean = -k * ratio / math.sqrt(1.0 + k)
    variance = k - k * k * ratio * (z + ratio) / (1.0 + k)
    assert found.margin(np.array([[0.5, 0.5]]))[0] == pytest.approx(2.5 + mean, abs=2e-3)
    wanted = 0.5 * math.erfc((2.5 + mean) / math.sqrt(1.0 + variance) / math.sqrt(2.0))
    assert found.chance(np.array([[0.5, 0.5]]))[0] == pytest.approx(wanted, rel=2e-3)


def test_its_chances_are_those_of_draws_from_the_prior() -> None:
    """Of 400,000 edges drawn from the prior those count that break and keep the limits as these windows did."""
    X = np.array([[0.45, 0.5], [0.5, 0.5], [0.5, 0.6], [0.55, 0.45], [0.6, 0.5]])
    broke, held = np.array([0.0, 0.0, 0.0, 0.0, 1.0]), np.array([4.0, 6.0, 3.0, 3.0, 0.0])
    where = np.array([[0.4, 0.5], [0.5, 0.55], [0.55, 0.55], [0.62, 0.5]])
    found = Edge.of(X, broke, held, frame())
    assert found is not None
    Z = found.frame(np.vstack([X, where]))
    apart = np.square(Z[:, None] - Z[None]).sum(axis=2)
    K = 1.5**2 + 0.85**2 * Z @ Z.T + 1.5**2 * np.exp(-0.5 * apart / 1.5**2)
    L = np.linalg.cholesky(K + 1e-9 * np.eye(len(K)))
    f = 2.5 + np.random.default_rng(0).standard_normal((400_000, len(K))) @ L.T
    likelihood = (broke * special.log_ndtr(-f[:, :5]) + held * special.log_ndtr(f[:, :5])).sum(axis=1)
    share = np.exp(likelihood - likelihood.max())
    wanted = (share[:, None] * special.ndtr(-f[:, 5:])).sum(axis=0) / share.sum()
    assert np.abs(np.log(found.chance(where) / wanted)).max() < 0.45, "normals; Laplace's is up to five times as much"


@pytest.mark.parametrize("n", [1, 40, 300])
def test_it_is_found_for_any_windows(n: int) -> None:
    """Stays of up to 16 windows (dataset.MOST_STAY), contradictions a hair apart, and far corners."""
    rng = np.random.default_rng(n)
    X = np.vstack([rng.random((n, 2)), np.full((4, 2), 0.5) + 1e-9 * rng.random((4, 2)), [[0.0, 0.0], [1.0, 1.0]]])
    broke, held = rng.integers(0, 2, n + 6) * 16.0 ** rng.random(n + 6), 16.0 ** rng.random(n + 6)
    found = Edge.of(X, broke, held, frame((0.01, 1e-4)))
    assert found is not None
    chance = found.chance(np.vstack([X, rng.random((50, 2))]))
    assert np.isfinite(chance).all()
    assert ((chance >= 0.0) & (chance <= 1.0)).all()


def test_of_two_edges_the_nearer_one_counts_and_either_chance() -> None:
    """What is left of x = 0.4 collapses, what is right of 0.6 is a little beyond a limit; y makes no difference."""
    X = np.array([[x, 0.5] for x in (0.3, 0.35, 0.45, 0.5, 0.55, 0.65, 0.7)])
    failed, beyond = 2.0 * (X[:, 0] < 0.4), 2.0 * (X[:, 0] > 0.6)
    kept = 4.0 - 2.0 * (failed + beyond)
    found = Edges.of(X, failed, beyond, kept, frame())
    assert found is not None
    collapse, mild = found.parts
    points = np.array([[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]])
    assert collapse.margin(points)[2] > collapse.margin(points)[0]
    assert mild.margin(points)[0] > mild.margin(points)[2]
    chances = collapse.chance(points), mild.chance(points)
    assert found.chance(points) == pytest.approx(1.0 - (1.0 - chances[0]) * (1.0 - chances[1]))
    assert found.risk(points) == pytest.approx(np.maximum(collapse.risk(points), mild.risk(points)))
    assert found.margin(points) == pytest.approx(np.minimum(collapse.margin(points), mild.margin(points)))
    nothing, ignorant = np.zeros(len(X)), Edge.of(X, failed, kept, frame())
    assert ignorant is not None
    assert collapse.chance(points)[2] < 0.8 * ignorant.chance(points)[2], "what was a little beyond did not collapse"
    assert Edges.of(X, nothing, nothing, kept, frame()) is None
    alone = Edges.of(X, failed, nothing, kept, frame())
    assert alone is not None
    assert len(alone.parts) == 1


def test_categories_cycles_and_other_regimes_are_steps_apart() -> None:
    bounds = {"x": {"min": 0, "max": 100}, "mode": {"type": "categorical", "choices": ["a", "b", "c"]}}
    config = parse(
        CONFIG | {"bounds": bounds, "context": {"hour": {"period": 24}}, "guardrails": {"max_delta": [5, 1]}}
    )
    assert config.guardrails is not None
    settings = Settings(config.inputs, config.goals.modelled, context=1).drifting(time=True, regimes=2)
    rows = np.array([[0.5, m, h, 0.3, r] for m in (0.0, 0.5, 1.0) for h in (0.0, 0.5) for r in (0.0, 1.0)])
    of = Frame.of(settings, config.guardrails.steps, 1.0).centred(rows)
    Z = of(rows)
    apart = np.sqrt(np.square(Z[:, None] - Z[None]).sum(axis=2))
    assert apart[0, 4] == pytest.approx(math.sqrt(2.0)), "another category"
    assert apart[0, 2] == pytest.approx(2.0), "half a day"
    assert apart[0, 1] == pytest.approx(6.0), "another regime"
    assert np.allclose(of(rows + np.array([0, 0, 0, 9, 0])), Z), "time"


def test_at_best_it_is_a_std_better_than_the_latest_windows_say_and_goes_down_their_slope() -> None:
    X = np.array([[0.50, 0.5], [0.52, 0.5], [0.54, 0.5], [0.56, 0.5]])
    found = edge(X.tolist(), [True] * 4)
    beyond, age = np.array([3.0, 2.5, 2.0, 1.5]), np.array([4.0, 3.0, 2.0, 1.0])
    where = np.array([[0.45, 0.5], [0.55, 0.5], [0.61, 0.5], [0.61, 0.9]])
    left, here, right, unknown = found.least(X, beyond, age, where).tolist()
    assert left > here > right
    assert unknown < here, "where all is lost the unknown is the better choice"


# ---- in the loop -----------------------------------------------------------------------------------------------------


def outlook_of(rows: Sequence[tuple[float, float, float]], **more: Any) -> Outlook:
    """After windows (x, y, p99)."""
    config = parse(CONFIG | more)
    told = tuple(Observation({"x": x, "y": y}, {"qps": x, "p99": p99}, Role.WARM) for x, y, p99 in rows)
    found = ModelAdvisor(config, device="cpu").outlook(Study.new(config).apply(Told(told, 0.0)))
    assert found is not None
    return found


def test_a_cliff_without_a_slope_is_kept_away_from() -> None:
    """The p99 is 20 as long as x > 40; there it is 500. The model takes the two bad windows for outliers."""
    rng = np.random.default_rng(0)
    held = [(x, 0.5, 20.0 + rng.normal()) for x in np.linspace(42.0, 60.0, 20)]
    found = outlook_of([*held[:10], (39.0, 0.5, 500.0), *held[10:], (38.0, 0.52, 520.0)])
    near, far = {"x": 40.5, "y": 0.5}, {"x": 55.0, "y": 0.5}
    p, kept = found.p_limits([near, far]), found.p_kept([near, far])
    assert kept[0] < 0.9 * p[0]
    assert kept[1] == pytest.approx(p[1])


def test_the_chance_to_break_a_limit_is_that_of_the_edge_where_the_model_sees_none() -> None:
    """As above: near the edge the model is sure of the limit, and far from all the edge says what is usual."""
    rng = np.random.default_rng(0)
    held = [(x, 0.5, 20.0 + rng.normal()) for x in np.linspace(42.0, 60.0, 20)]
    found = outlook_of([*held[:10], (39.0, 0.5, 500.0), *held[10:], (38.0, 0.52, 520.0)])
    assert found.edges is not None
    near, safe, beyond = ({"x": x, "y": 0.5} for x in (41.0, 55.0, 36.0))
    p = found.p_broken([near, safe, beyond]).tolist()
    X = found.encoded([near, safe, beyond])
    model, edge = 1.0 - found._hold(found._at(X), 3, success=False), found.edges.chance(X)
    assert p == pytest.approx(1.0 - (1.0 - model) * (1.0 - edge))
    assert model[0] < 1e-3 < 0.1 < p[0] < 0.5 < p[2]
    assert p[1] < 0.5 * p[0]


def test_what_is_a_little_beyond_a_limit_does_not_turn_the_way_out_of_a_collapse() -> None:
    """Below x = 40 windows fail, above 60 the p99 is a little beyond its 50: it has not collapsed there, and what did
    says nothing of the p99."""
    told = [Observation({"x": x, "y": 0.5}, {"qps": 1.0, "p99": 20.0}, Role.WARM) for x in (44.0, 48.0, 52.0, 56.0)]
    told += [Observation({"x": x, "y": 0.5}, {"qps": 1.0, "p99": 51.0}, Role.WARM) for x in (61.0, 63.0, 65.0)]
    told += [Observation({"x": x, "y": 0.5}, {}, Role.WARM, failed=True) for x in (36.0, 34.0)]
    config = parse(CONFIG)
    found = ModelAdvisor(config, device="cpu").outlook(Study.new(config).apply(Told(tuple(told), 0.0)))
    assert found is not None
    assert found.edges is not None
    collapse, mild = found.edges.parts
    X = found.encoded([{"x": x, "y": 0.5} for x in (30.0, 50.0, 70.0)])
    assert collapse.margin(X).argsort().tolist() == [0, 1, 2]
    assert mild.margin(X).argsort().tolist() == [2, 1, 0]


def test_where_it_held_for_long_three_collapsed_windows_say_that_the_edge_is_elsewhere_now() -> None:
    config = parse(CONFIG)
    held = [
        Observation({"x": 50.0 + i % 10, "y": 0.5}, {"qps": 1.0, "p99": 20.0 + i % 3}, Role.WARM) for i in range(40)
    ]
    failed = [Observation({"x": 55.0, "y": 0.5}, {}, Role.WARM, failed=True) for _ in range(3)]

    def broken(windows: int, role: Role = Role.WINDOW) -> float:
        told = Told((*held, *(replace(row, role=role) for row in failed[:windows])), 0.0)
        found = ModelAdvisor(config, device="cpu").outlook(Study.new(config).apply(told))
        assert found is not None
        assert found.edges is not None
        return float(found.edges.chance(found.encoded([{"x": 56.0, "y": 0.5}]))[0])

    assert broken(2) < 0.3
    assert broken(3) > 0.6
    assert broken(3, Role.WARM) < 0.4, "what was seeded says nothing of now"


def test_windows_of_another_regime_say_less() -> None:
    rows = [(50.0, 0.5, 20.0)] * 8 + [(45.0, 0.5, 500.0)] * 2 + [(50.0, 0.5, 20.5), (51.0, 0.5, 20.5)]
    told = tuple(Observation({"x": x, "y": y}, {"qps": x, "p99": p99}, Role.WARM) for x, y, p99 in rows)
    config = parse(CONFIG)
    study = Study.new(config).apply(Told(told, 0.0))
    same, other = (
        ModelAdvisor(config, device="cpu").outlook(of)
        for of in (study, study.apply(Labelled(Label.DRIFT, "", 0.0, since=10)))
    )
    assert same is not None
    assert other is not None
    there: Params = {"x": 45.0, "y": 0.5}
    risks = [float(of.edges.risk(of.encoded([there]))[0]) for of in (same, other) if of.edges is not None]
    assert len(risks) == 2
    assert risks[1] < risks[0]


def test_out_of_what_breaks_a_limit_the_way_leads_to_a_config_that_is_known_to_keep_it(make: Make) -> None:
    """At x = 80 the p99 is 20, at 20 it is 200: from there, one step of 5 at a time, back to where it held."""
    solver = make(CONFIG)
    rows = [
        {"params": {"x": 80.0 + 0.2 * i, "y": 0.5}, "values": {"qps": 1.0, "p99": 20.0 + 0.3 * i}} for i in range(8)
    ]
    rows += [{"params": {"x": 20.0 + 0.2 * i, "y": 0.5}, "values": {"qps": 1.0, "p99": 200.0 + i}} for i in range(8)]
    solver.seed(rows)
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    box = found.study.config.space.whole
    near = type(box)((type(box.domains[0])(15.0, 25.0), type(box.domains[1])(0.45, 0.55)))  # type: ignore[call-arg]
    request = Request(Goal.RECOVER, near, {"x": 20.0, "y": 0.5}, 3)
    choice = Choice(found, solver._yardstick(), request, (), "cpu", lambda rung: None)
    proposal = choice.proposal()
    assert "towards a config that is likelier to hold the limits" in proposal.reason
    assert proposal.params["x"] == pytest.approx(25.0)


def test_a_config_that_keeps_the_limits_as_likely_as_not_is_no_way_out(make: Make) -> None:
    """At x = 80 the p99 was the 50 that are allowed, at 20 it is 200: P is 0.6 out there, as it is where nobody was."""
    solver = make(CONFIG)
    rows = [
        {"params": {"x": 80.0 + 0.2 * i, "y": 0.5}, "values": {"qps": 1.0, "p99": 49.8 + 0.3 * i}} for i in range(8)
    ]
    rows += [{"params": {"x": 20.0 + 0.2 * i, "y": 0.5}, "values": {"qps": 1.0, "p99": 200.0 + i}} for i in range(8)]
    solver.seed(rows)
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    near = Box((Interval(15.0, 25.0), Interval(0.45, 0.55)))
    choice = Choice(found, solver._yardstick(), Request(Goal.RECOVER, near, {"x": 20.0, "y": 0.5}, 3), (), "cpu", print)
    assert 0.3 < found.p_limits(found.measured).max() < 0.7
    assert found.p_kept(found.measured).max() > CLEARLY
    assert "least beyond the limits within reach" in choice.proposal().reason


def test_where_no_step_leads_towards_it_a_config_that_keeps_the_limits_does_not_hold_up_the_way_out(make: Make) -> None:
    """It kept them at y = 0.9, and y may not move: from x = 20, where they are broken, x has to."""
    solver = make(CONFIG | {"guardrails": {"max_delta": [5, 0]}})
    solver.seed(
        [{"params": {"x": 20.0, "y": 0.9}, "values": {"qps": 1.0, "p99": 20.0 + 0.3 * i}} for i in range(8)]
        + [{"params": {"x": 20.0, "y": 0.5}, "values": {"qps": 1.0, "p99": 200.0 + i}} for i in range(8)]
    )
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    request = Request(Goal.RECOVER, Box((Interval(15.0, 25.0), Interval(0.5, 0.5))), {"x": 20.0, "y": 0.5}, 3)
    choice = Choice(found, solver._yardstick(), request, (), "cpu", lambda rung: None)
    assert choice.proposal().params["x"] != 20.0
    assert choice._way_out._refuge is not None


@pytest.mark.parametrize("fell", [False, True])
def test_out_of_a_small_breach_no_step_leads_to_where_it_collapses(make: Make, fell: bool) -> None:
    """The p99 is a little beyond its limit at x = 50, windows fail at 41 to 46, and below 35 all is well. Of what has
    collapsed itself any way out will do."""
    solver = make(CONFIG)
    rows = [{"params": {"x": x, "y": 0.5}, "values": {"qps": 1.0, "p99": 20.0 + 0.1 * x}} for x in range(20, 36)]
    rows += [{"params": {"x": x, "y": 0.5}, "values": {}, "status": "failed"} for x in (41.0, 43.0, 45.5, 46.0) * 2]
    rows += [{"params": {"x": 50.0, "y": 0.5}, "values": {"qps": 1.0, "p99": 52.0 + 0.1 * i}} for i in range(4)]
    rows += [{"params": {"x": 50.0, "y": 0.5}, "values": {}, "status": "failed"}] * fell
    solver.seed(rows)
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    assert found.collapsed is fell
    near, here = Box((Interval(45.0, 55.0), Interval(0.5, 0.5))), {"x": 50.0, "y": 0.5}
    object.__setattr__(found.study.deployment, "deployed", here)
    choice = Choice(found, solver._yardstick(), Request(Goal.RECOVER, near, here, 3), (), "cpu", print)
    assert choice._way_out._refuge is not None
    assert choice._way_out._refuge["x"] < 36.0
    risk = found.p_collapsed([choice.proposal().params, here]).tolist()
    assert risk[0] <= max(risk[1], 0.05) if not fell else choice.proposal().params["x"] == 45.0


def test_the_reason_is_that_of_the_way_taken_and_what_runs_is_no_refuge(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is as bad within reach; what runs, and less surely x = 80, are said to keep the limits."""
    solver = make(CONFIG)
    rows = [{"params": {"x": x, "y": 0.5}, "values": {"qps": 1.0, "p99": 20.0}} for x in (80.0, 81.0) * 3]
    solver.seed(rows + [{"params": {"x": 20.0, "y": 0.5}, "values": {"qps": 1.0, "p99": 200.0}}] * 4)
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    near, here = Box((Interval(15.0, 25.0), Interval(0.5, 0.5))), {"x": 20.0, "y": 0.5}
    object.__setattr__(found.study.deployment, "deployed", here)
    chances = {20.0: 0.01, 80.0: 0.1}

    def broken(_: Outlook, configs: Sequence[Params]) -> Any:
        return np.array([chances.get(float(params["x"]), 0.99) for params in configs])

    def chosen() -> Choice:
        return Choice(found, solver._yardstick(), Request(Goal.RECOVER, near, here, 3), (), "cpu", print)

    monkeypatch.setattr(Outlook, "p_broken", broken)
    towards = chosen()
    assert towards._way_out._refuge == {"x": 80.0, "y": 0.5}
    assert towards.proposal().params["x"] == 25.0
    assert "recover: towards a config" in towards.proposal().reason
    monkeypatch.setattr("arqon_gp.way_out.broke_lately", lambda found, params: True)
    refused = chosen()
    assert refused._way_out._refuge == {"x": 80.0, "y": 0.5}
    assert "least beyond the limits within reach" in refused.proposal().reason


def test_the_way_out_does_not_lead_to_where_windows_failed() -> None:
    """The p99 keeps its limit above 60 and is 500 at 48; at 40 all fails, and there is no p99."""
    config = parse(CONFIG)
    told = [Observation({"x": 60.0 + i, "y": 0.5}, {"qps": 1.0, "p99": 20.0 + 0.1 * i}, Role.WARM) for i in range(8)]
    told += [Observation({"x": 48.0, "y": 0.5}, {"qps": 1.0, "p99": 500.0 + i}, Role.WARM) for i in range(5)]
    told += [Observation({"x": 40.0, "y": 0.5}, {}, Role.WARM, failed=True) for _ in range(5)]
    found = ModelAdvisor(config, device="cpu").outlook(Study.new(config).apply(Told(tuple(told), 0.0)))
    assert found is not None
    up, here, failing = least_excess(found, [{"x": x, "y": 0.5} for x in (52.0, 48.0, 40.0)]).tolist()
    assert up < here <= failing


def test_on_a_flat_plateau_out_there_the_way_leads_towards_the_edge() -> None:
    """The last 30 windows, all alike, lie evenly around x = 42.5; the p99 kept its limit above 60, long ago."""
    held = [(60.0 + 0.1 * i, 0.5, 20.0 + 0.1 * (i % 3)) for i in range(10)]
    broken = [(40.0 + 5.0 * (i % 11) / 10, 0.5, 500.0 + i % 2) for i in range(33)]
    found = outlook_of([*held, *broken])
    assert found.edges is not None
    up, down = least_excess(found, [{"x": 47.5, "y": 0.5}, {"x": 37.5, "y": 0.5}]).tolist()
    assert up < down - 1.0
    margin = found.edges.margin(found.encoded([{"x": 60.5, "y": 0.5}, {"x": 50.0, "y": 0.5}, {"x": 42.0, "y": 0.5}]))
    assert margin[0] > margin[1] > margin[2]


def test_traffic_that_walks_over_a_cliff_does_not_leave_it_out_there(make: Make, clock: FakeClock) -> None:
    """The p99 is 20 where x exceeds the load and 500 elsewhere, flat on both sides, and the load swings by 50 in 35
    windows; what is saved far out on the wrong side had led the way ever further there: 131 of 140 windows broken."""
    bounds = {"x": {"min": 0, "max": 100, "initial": 60}, "y": {"min": 0, "max": 1, "initial": 0.5}}
    solver = make({
        "seed": 1, "bounds": bounds, "objectives": {"cost": {"direction": "min", "weight": 1.0}},
        "constraints": {"p99_ms": {"max": 100}}, "context": {"load": {"min": 0, "max": 100}},
        "guardrails": {"max_delta": [5, 0.1], "min_effect": 0.5},
    })  # fmt: skip
    rng, broken = np.random.default_rng(1), []
    for k in range(140):
        context = {"load": 40.0 + 25.0 * math.sin(2.0 * math.pi * k / 70)}
        clock.now += 300.0
        candidate = solver.ask_one(context=context)
        assert candidate is not None
        x, y = candidate["x"], candidate["y"]
        broken.append(x < context["load"])
        p99 = (500.0 if broken[-1] else 20.0) * math.exp(0.03 * rng.normal())
        values = {"cost": x + 20.0 * (y - 0.3) ** 2 + 0.5 * rng.normal(), "p99_ms": p99}
        row = {"params": dict(candidate), "id": candidate.id, "values": values, "context": context}
        solver.seed([row])
    assert 2 < sum(broken) < 60
    assert sum(broken[20:60]) < 10, "as long as the load falls"


def test_what_is_absurdly_far_away_is_far_away_and_no_reason_to_fail(make: Make) -> None:
    config = {
        "seed": 1,
        "bounds": {"x": {"min": 0, "max": 1, "initial": 0.5}},
        "objectives": {"qps": {"direction": "max", "weight": 1.0}},
        "constraints": {"latency": {"max": 45}},
        "guardrails": {"max_delta": [0.1], "min_effect": 1},
    }
    solver, rng = make(config), np.random.default_rng(0)

    def window(x: float, latency: float) -> dict[str, Any]:
        return {"params": {"x": x}, "values": {"qps": 100.0 + rng.normal(), "latency": latency + rng.normal()}}

    solver.seed([window(1e9, 90.0), *(window(0.5, 30.0) for _ in range(4))])
    for _ in range(4):
        candidate = solver.ask_one()
        assert candidate is not None
        solver.seed([window(float(candidate["x"]), 30.0)])
    assert solver.status()["model"]["fallbacks"] == {}


def test_on_a_plateau_of_collapse_the_edge_leads_though_the_outcome_hardly_varies_before_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a context what has collapsed is no outcome of the model; in its own small unit the plateau of 500, which
    slopes by 2 %, would look steep, and the way down it leads away from the edge."""
    solver = make(CONFIG | {"context": {"load": {"min": 0, "max": 1}}})
    held = [(60.0 + 0.1 * i, 20.0 + 0.1 * (i % 3)) for i in range(30)]
    broken = [(40.0 + 5.0 * (i % 11) / 10, 500.0 + 2.0 * (i % 11)) for i in range(24)]
    solver.seed([
        {"params": {"x": x, "y": 0.5}, "values": {"qps": 1.0, "p99": p99}, "context": {"load": 0.5}}
        for x, p99 in (*held, *broken)
    ])  # fmt: skip
    found = solver._advisor.outlook(solver._study)
    assert found is not None
    assert found.surrogate["p99"].rows.scale < 1.0 < 100.0 < _scale(found, "p99")
    up, down = least_excess(found, [{"x": 47.5, "y": 0.5}, {"x": 37.5, "y": 0.5}]).tolist()
    assert up < down - 1.0
    monkeypatch.setattr(Outlook, "p_limits", lambda self, configs: np.full(len(configs), 0.5))
    box = Box((Interval(38.0, 48.0), Interval(0.45, 0.55)))
    choice = Choice(found, solver._yardstick(), Request(Goal.RECOVER, box, {"x": 43.0, "y": 0.5}, 3), (), "cpu", print)
    assert choice._way_out._hopeless, "whatever the model hopes for"
    assert choice._way_out._least_beyond()["x"] > 46.0
    assert choice.proposal().params["x"] > 46.0


def test_where_the_latest_windows_show_a_slope_it_leads_not_the_edge_of_long_ago() -> None:
    """What held, at another time, lies below x = 30; out there it gets worse towards it."""
    held = [(20.0 + 0.5 * i, 0.5, 20.0 + 0.1 * (i % 3)) for i in range(20)]
    broken = [(60.0 - 5.0 * (i % 4), 0.5, 300.0 + 100.0 * (i % 4)) for i in range(28)]
    found = outlook_of([*held, *broken])
    up, down = least_excess(found, [{"x": 65.0, "y": 0.5}, {"x": 40.0, "y": 0.5}]).tolist()
    assert up < down - 0.5
    assert found.edges is not None
    margin = found.edges.margin(found.encoded([{"x": 65.0, "y": 0.5}, {"x": 40.0, "y": 0.5}]))
    assert margin[1] > margin[0] + 1.0, "the edge alone says the other way"


def test_what_all_but_never_varies_right_at_its_limit_is_no_noise_to_be_fitted() -> None:
    rows = [(10.0 * i, 0.5, 50.0 - (1e-11 if i else 1e-8)) for i in range(6)]
    assert np.abs(outlook_of(rows).surrogate["p99"].rows.y).max() < 1.0


@pytest.mark.parametrize(
    ("broken", "beyond", "x"),
    [(lambda x: 0.5 + x / 100.0, 0.9, 15.0), (lambda x: 0.99, 0.3, 25.0), (lambda x: 0.99, 0.9, 15.0)],
    ids=["the likeliest", "hopeless, but not by the edge", "hopeless"],
)
def test_the_way_out_is_the_likeliest_else_the_edges_else_the_least_beyond(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[float], float], beyond: float, x: float
) -> None:
    """From x = 20 within 5: the edge alone leads up, the likeliest and what the latest windows say down."""
    found = outlook_of([(18.0 + 0.2 * i, 0.5, 200.0 + i) for i in range(16)])

    def of(value: Callable[[float], float]) -> Callable[..., Any]:
        return lambda _, configs: np.array([value(float(params["x"])) for params in configs])

    monkeypatch.setattr(Outlook, "p_broken", of(broken))
    monkeypatch.setattr(Outlook, "p_beyond", of(lambda at: beyond + 0.001 * (20.0 - at)))
    monkeypatch.setattr("arqon_gp.way_out.least_excess", of(lambda at: at))
    monkeypatch.setattr(Outlook, "lost", lambda *_: False)
    rows, config = found.study.history, found.study.config
    yard = yardstick(rows, config, {})
    request = Request(Goal.RECOVER, Box((Interval(15.0, 25.0), Interval(0.45, 0.55))), {"x": 20.0, "y": 0.5}, 3)
    chosen = Choice(found, yard, request, (), "cpu", print).proposal().params
    assert chosen["x"] == pytest.approx(x, abs=0.2)


def test_a_step_towards_a_refuge_is_not_tried_again_where_it_broke_lately() -> None:
    held, broke = [(60.0 + i, 0.5, 20.0) for i in range(8)], [(45.0, 0.5, 500.0)]
    there, kept = {"x": 45.0, "y": 0.5}, {"x": 62.0, "y": 0.5}
    found = outlook_of([*held[:4], *broke, *held[4:]])
    runs = found.study.deployment.may_run
    assert [broke_lately(found, params) for params in (there, kept, runs)] == [True, False, True]
    later = outlook_of([*held, *broke, *((60.0 + 0.5 * i, 0.6, 20.0) for i in range(30))])
    assert not broke_lately(later, there), "long ago"
