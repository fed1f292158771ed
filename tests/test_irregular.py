"""Spaces that are no box: special values, knobs without effect, rules between knobs; with guardrails and without."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqon_gp import ArqonProbe, ArqonSolver, ConfigError, RequestError, ResultError, limits
from arqon_gp.config import parse
from arqon_gp.deadline import NEVER
from arqon_gp.design import placed, spread
from arqon_gp.irregular import best_in
from arqon_gp.knobs import Interval, Options, Split
from arqon_gp.legal import Region, nearest_legal
from arqon_gp.report import step_box
from arqon_gp.rows import Settings
from arqon_gp.space import Box, Space
from arqon_gp.steps import Absolute, Switch
from arqon_kernels.covariance import CATEGORY, NUMBER
from tests.conftest import Make

CONFIG: dict[str, Any] = {
    "seed": 1,
    "budget": 30,
    "bounds": {
        "ttl_s": {"min": 10, "max": 600, "special": [0, -1], "initial": 60},
        "pool": {"type": "int", "min": 4, "max": 64, "initial": 20},
        "idle": {"type": "int", "min": 1, "max": 64, "initial": 8},
        "cache": {"type": "bool", "initial": True},
        "policy": {"type": "categorical", "choices": ["lru", "lfu"], "active_if": {"cache": True}},
        "decay": {"min": 0, "max": 1, "active_if": {"policy": "lfu"}, "initial": 0.5},
    },
    "constraints": {"idle_fits": "idle <= pool"},
    "objectives": {"qps": "max"},
}
HERE: dict[str, Any] = {"ttl_s": 60.0, "pool": 20, "idle": 8, "cache": True, "policy": "lru", "decay": 0.5}
DELTAS = {
    "ttl_s": {"up": 30, "down": 30, "special": 1},
    "pool": 6,
    "idle": 6,
    "cache": 1,
    "policy": {"special": 1},
    "decay": {"up": 0.1, "down": 0.1, "special": 1},
}


def space_of(**bounds: Any) -> Space:
    return parse({"seed": 1, "bounds": bounds}).space


def box_of(deltas: Any, *anchors: dict[str, Any]) -> Box:
    config = parse(CONFIG | {"guardrails": {"max_delta": deltas}})
    assert config.guardrails is not None
    return limits.box(config.space, config.guardrails.steps, anchors or [HERE])


def domain(box: Box, name: str) -> Any:
    return box.domains[list(HERE).index(name)]


SPACE = parse(CONFIG).space


# ---- config ----


def changed(path: str, value: Any) -> dict[str, Any]:
    config: Any = {key: dict(part) if isinstance(part, dict) else part for key, part in CONFIG.items()}
    section, _, rest = path.partition("/")
    if rest:
        name, _, key = rest.partition("/")
        config[section][name] = dict(config[section].get(name, {})) | {key: value} if key else value
    else:
        config[section] = value
    return dict(config)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("bounds/pool/special", [4], "bounds.pool.special: 4 is within 4..64; begin or end the range beside it"),
        ("bounds/pool/special", [0, 0], "bounds.pool.special: each value once; found [0.0, 0.0]"),
        ("bounds/pool/special", [0.5], "bounds.pool.special: type int needs a whole number; found 0.5"),
        ("bounds/cache/special", [0], "bounds.cache: special has no meaning for type bool"),
        ("bounds/hour", {"min": 0, "max": 24, "scale": "periodic", "special": [-1]}, "no meaning on scale periodic"),
        ("bounds/ttl_s/initial", 5, "5 is outside 10..600 and not one of 0, -1"),
        ("bounds/decay/active_if", {}, "bounds.decay.active_if"),
        ("bounds/decay/active_if", {"cash": True}, "bounds.decay.active_if.cash: no such knob"),
        ("bounds/decay/active_if", {"pool": 4}, "pool is a number; a knob may depend on a categorical or a bool"),
        ("bounds/decay/active_if", {"policy": "mru"}, "'mru' is no choice; the choices are ['lru', 'lfu']"),
        ("bounds/cache/active_if", {"policy": "lru"}, "active_if: cache, policy, decay depend on one another"),
        ("constraints/idle_fits", "idle <= pol", "constraints.idle_fits: no such knob: pol; the knobs are ttl_s"),
        ("constraints/idle_fits", "policy <= pool", "policy is no number; its choices are ['lru', 'lfu']"),
        ("constraints/idle_fits", "idle = pool", "constraints.idle_fits: 'idle = pool' is no expression"),
        ("constraints/idle_fits", "idle <= " + "+".join(["pool"] * 200), "constraints.idle_fits"),
        (
            "constraints/idle_fits",
            "idle > pool",
            "idle > pool does not hold where the study starts, {'idle': 8, 'pool'",
        ),
        ("guardrails", {"max_delta": {"pool": {"up": 1, "down": 1, "special": 1}}}, "pool has neither special values"),
        ("guardrails", {"max_delta": {"ttl_s": {"special": 2}}}, "max_delta"),
    ],
)
def test_what_makes_no_sense_is_refused(path: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed(path, value))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("delta", "limit"),
    [
        (None, None),
        (30, Switch(Absolute(30), allowed=False)),
        (0, Switch(Absolute(0), allowed=False)),
        ("10%", Switch(Absolute(59), allowed=False)),
        ({"up": 30, "down": 40, "special": 1}, Switch(Absolute(30), allowed=True)),
        ({"up": 30, "down": 40, "special": 0}, Switch(Absolute(30), allowed=False)),
        ({"special": 1}, Switch(Absolute(59), allowed=True)),
    ],
)
def test_only_special_1_allows_a_special_value(delta: Any, limit: Any) -> None:
    guardrails = parse(CONFIG | {"guardrails": {"max_delta": {"ttl_s": delta}}}).guardrails
    assert guardrails is not None
    assert guardrails.steps[0] == limit
    preset = parse(CONFIG | {"guardrails": {}}).guardrails
    assert preset is not None
    assert preset.steps[0] == Switch(Absolute(59), allowed=False)


# ---- the cube ----


def test_a_special_value_is_a_category_of_its_own_and_an_inactive_knob_is_nowhere() -> None:
    x = SPACE.encode(HERE | {"ttl_s": 10.0, "policy": "lfu", "decay": 0.25})
    assert x == pytest.approx([0.0, 16 / 60, 7 / 63, 1.0, 1.0, 0.25, 0.0])
    assert SPACE.encode(HERE | {"ttl_s": 0}) == pytest.approx([0.5, 16 / 60, 7 / 63, 1.0, 0.0, 0.5, 0.5])
    assert SPACE.encode(HERE | {"ttl_s": -1})[-1] == 1.0
    assert Settings(SPACE, ("qps",)).kinds.tolist() == [NUMBER, NUMBER, NUMBER, CATEGORY, CATEGORY, NUMBER, CATEGORY]
    one = SPACE.encode(HERE | {"cache": False, "policy": "lfu", "decay": 0.9})
    assert one == pytest.approx(SPACE.encode(HERE | {"cache": False, "policy": "lru", "decay": 0.1}))


def test_a_special_value_without_effect_is_none() -> None:
    bounds = {name: CONFIG["bounds"][name] for name in ("cache", "ttl_s")}
    bounds["ttl_s"] = bounds["ttl_s"] | {"active_if": {"cache": True}}
    space = space_of(**bounds)
    off = space.encode({"cache": False, "ttl_s": 0})
    assert off == pytest.approx([0.0, 0.5, 0.0])
    assert off == pytest.approx(space.encode({"cache": False, "ttl_s": 300.0}))
    assert space.encode({"cache": True, "ttl_s": 0}) == pytest.approx([1.0, 0.5, 0.5])


def test_what_has_no_effect_makes_no_difference() -> None:
    off = HERE | {"cache": False}
    assert SPACE.inactive(HERE) == {"decay"}
    assert SPACE.inactive(off) == {"policy", "decay"}
    assert SPACE.same(off, off | {"policy": "lfu", "decay": 0.1})
    assert SPACE.same(HERE, HERE | {"decay": 0.1})
    assert not SPACE.same(HERE | {"policy": "lfu"}, HERE | {"policy": "lfu", "decay": 0.1})
    assert not SPACE.same(HERE, HERE | {"ttl_s": 0})


def test_a_rule_about_a_knob_without_effect_is_silent() -> None:
    config = CONFIG | {"constraints": {"slow": "decay * 100 <= pool"}}
    space = parse(config | {"bounds": CONFIG["bounds"] | {"decay": CONFIG["bounds"]["decay"] | {"initial": 0.1}}}).space
    assert space.in_bounds(HERE)
    assert not space.in_bounds(HERE | {"policy": "lfu"})
    assert space.in_bounds(HERE | {"policy": "lfu", "decay": 0.2})


def test_special_values_are_in_bounds_and_what_lies_between_is_not() -> None:
    assert SPACE.in_bounds(HERE | {"ttl_s": 0})
    assert SPACE.in_bounds(HERE | {"ttl_s": -1})
    assert not SPACE.in_bounds(HERE | {"ttl_s": 5})
    assert not SPACE.in_bounds(HERE | {"idle": 21}), "a broken rule"
    assert SPACE.contains(HERE | {"ttl_s": 0}, SPACE.whole)
    assert not SPACE.contains(HERE | {"idle": 21}, SPACE.whole)


@given(u=st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6), seed=st.integers(0, 9))
def test_every_point_of_a_design_is_legal(u: list[float], seed: int) -> None:
    region = Region(SPACE, SPACE.whole, HERE, returns=False)
    found = placed(region, np.array(u), np.random.default_rng(seed))
    assert region.contains(found)
    assert SPACE.check(found) == found


def test_a_design_visits_special_values_about_as_often_as_ordinary_parts() -> None:
    points = [spread(SPACE, SPACE.whole, u)["ttl_s"] for u in np.random.default_rng(0).random((1000, 6))]
    assert 150 < points.count(0) < 250
    assert 150 < points.count(-1) < 250


def test_where_hardly_a_point_is_legal_one_is_still_found() -> None:
    config = CONFIG | {"constraints": {"narrow": "19.9 <= pool + ttl_s / 1000 - decay / 100 <= 20.1"}}
    space, probe = parse(config).space, ArqonProbe(config)
    points = probe.sample_range(0, 40)
    assert all(space.in_bounds(p) for p in points)
    assert len({tuple(p.values()) for p in points}) > 30
    assert points[7] == probe.sample_at(7)


def test_the_nearest_legal_config_is_near() -> None:
    legal = nearest_legal(SPACE, HERE | {"idle": 30}, HERE)
    assert SPACE.in_bounds(legal)
    assert max((30 - legal["idle"]) / 63, (legal["pool"] - 20) / 60) < 0.12, "5/60 at best, pool and idle at 25"
    assert legal == HERE | {name: legal[name] for name in ("idle", "pool")}, "nothing else moves"
    assert nearest_legal(SPACE, HERE | {"ttl_s": 5.0}, HERE) == HERE | {"ttl_s": 10.0}
    assert nearest_legal(SPACE, HERE | {"ttl_s": 0.0, "pool": 70}, HERE) == HERE | {"ttl_s": 0.0, "pool": 64}


# ---- the guard ----


def test_a_step_enters_and_leaves_special_values_only_where_that_is_allowed() -> None:
    assert domain(box_of(DELTAS), "ttl_s") == Split(Interval(30, 90), (0, -1))
    assert domain(box_of(DELTAS, HERE | {"ttl_s": 0}), "ttl_s") == Split(Interval(10, 600), (0, -1))
    closed = DELTAS | {"ttl_s": 30}
    assert domain(box_of(closed), "ttl_s") == Split(Interval(30, 90), ())
    assert domain(box_of(closed, HERE | {"ttl_s": 0}), "ttl_s") == Split(None, (0,))
    assert domain(box_of({}), "ttl_s") == Split(Interval(10, 600), (0, -1)), "free"
    both = box_of(closed, HERE, HERE | {"ttl_s": 0})
    assert both.empty, "what may run is either"


def test_no_knob_gains_or_loses_its_effect_where_that_is_not_allowed() -> None:
    assert domain(box_of(DELTAS), "cache") == Options((False, True))
    tied = DELTAS | {"policy": 1}
    assert domain(box_of(tied), "cache") == Options((True,)), "policy would lose its effect"
    assert domain(box_of(tied, HERE | {"cache": False}), "cache") == Options((False,))
    tied = DELTAS | {"decay": 0.1}
    assert domain(box_of(tied), "policy") == Options(("lru",)), "decay would gain its effect"
    assert domain(box_of(tied), "cache") == Options((False, True)), "it has none either way"
    on = HERE | {"policy": "lfu"}
    assert domain(box_of(tied, on), "policy") == Options(("lfu",))
    assert domain(box_of(tied, on), "cache") == Options((True,)), "and would lose it with policy"


@pytest.mark.parametrize(
    ("deltas", "to", "names"),
    [
        (DELTAS, {"ttl_s": 0}, []),
        (DELTAS | {"ttl_s": 30}, {"ttl_s": 0}, ["ttl_s"]),
        (DELTAS, {"ttl_s": 91}, ["ttl_s"]),
        (DELTAS | {"policy": 1}, {"cache": False}, ["policy"]),
        (DELTAS | {"decay": 0.1}, {"policy": "lfu"}, ["decay"]),
        (DELTAS | {"decay": 0.1}, {"cache": False}, []),
    ],
)
def test_the_judge_agrees_with_the_box(deltas: Any, to: dict[str, Any], names: list[str]) -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": deltas}})
    assert config.guardrails is not None
    assert limits.broken(config.space, config.guardrails.steps, [HERE], HERE | to) == names
    assert config.space.contains(HERE | to, box_of(deltas)) == (not names)


def test_a_step_towards_a_config_keeps_the_rules_and_moves_first_what_makes_room() -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": DELTAS}})
    assert config.guardrails is not None
    steps, here = config.guardrails.steps, HERE | {"idle": 20}
    there = HERE | {"pool": 40, "idle": 40, "ttl_s": 0.0, "cache": False}
    seen = [here]
    while not SPACE.same(seen[-1], there):
        further = limits.step_towards(SPACE, steps, seen[-1], there)
        assert further is not None
        assert SPACE.in_bounds(further)
        assert limits.legal(SPACE, steps, seen[-1], further)
        seen.append(further)
    assert len(seen) - 1 == limits.steps_between(SPACE, steps, here, there) == 4


@pytest.mark.parametrize("order", [("pool", "idle", "spare"), ("idle", "pool", "spare"), ("spare", "idle", "pool")])
def test_where_not_all_can_move_one_knob_makes_room_for_another_whatever_their_order(order: tuple[str, ...]) -> None:
    here, there = {"pool": 28, "idle": 28, "spare": 10}, {"pool": 40, "idle": 40, "spare": 30}
    config = parse(
        {
            "seed": 1,
            "bounds": {name: {"type": "int", "min": 1, "max": 64, "initial": here[name]} for name in order},
            "constraints": {"idle": "idle <= pool", "spare": "spare <= pool - 10"},
            "guardrails": {"max_delta": {"pool": 6, "idle": 2, "spare": 20}},
        }
    )
    assert config.guardrails is not None
    steps, start, end = config.guardrails.steps, *({name: at[name] for name in order} for at in (here, there))
    found = limits.step_towards(config.space, steps, dict(start), dict(end))
    assert found == {"pool": 34, "idle": 30, "spare": 10}
    assert limits.steps_between(config.space, steps, dict(start), dict(end)) == 6


def test_a_step_that_would_give_an_effect_which_may_not_change_leaves_the_choice_as_it_is() -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": DELTAS | {"decay": 0.1}}})
    assert config.guardrails is not None
    there = HERE | {"policy": "lfu", "pool": 22}
    assert limits.step_towards(SPACE, config.guardrails.steps, HERE, there) == HERE | {"pool": 22}
    assert limits.steps_between(SPACE, config.guardrails.steps, HERE, there) == math.inf


def test_a_cautious_step_moves_numbers_alone() -> None:
    config = parse(CONFIG | {"guardrails": {"max_delta": DELTAS}})
    assert config.guardrails is not None
    small = limits.box(SPACE, limits.scaled(SPACE, config.guardrails.steps, 0.1), [HERE])
    assert domain(small, "ttl_s") == Split(Interval(57, 63), ())
    assert domain(small, "cache") == Options((True,)), "policy would lose its effect"
    free = limits.scaled(SPACE, (None,) * 6, 0.1)
    small = limits.box(SPACE, free, [HERE])
    assert domain(small, "ttl_s") == Split(Interval(10, 119), ())
    assert domain(small, "cache") == Options((True,)), "free or not"


def test_the_status_shows_where_the_next_step_may_lead(make: Make) -> None:
    shown = step_box(make(CONFIG | {"guardrails": {"max_delta": DELTAS}})._study)
    assert shown["ttl_s"] == {"min": 30.0, "max": 90.0, "special": [0.0, -1.0]}
    assert shown["cache"] == [False, True]
    shown = step_box(make(changed("bounds/ttl_s/initial", 0) | {"guardrails": {}, "name": "other"})._study)
    assert shown["ttl_s"] == [0.0]


# ---- results ----


def test_a_knob_without_effect_may_be_left_out_of_a_result_and_keeps_its_last_value(make: Make) -> None:
    solver = make(CONFIG | {"guardrails": {"max_delta": DELTAS}})
    candidate = solver.ask_one()
    assert candidate is not None
    solver.seed([{"params": HERE | {"policy": "lfu", "decay": 0.6}, "values": {"qps": 1.0}}])
    off = {name: value for name, value in HERE.items() if name not in ("policy", "decay")} | {"cache": False}
    solver.seed([{"params": off, "values": {"qps": 1.0}}])
    last = HERE | {"cache": False, "policy": "lfu", "decay": 0.6}
    assert solver.status()["deployed"] == last
    solver.seed([{"params": off | {"decay": 0.9}, "values": {"qps": 1.0}}])
    assert solver.status()["deployed"] == last, "it waits at 0.6"
    with pytest.raises(ResultError, match="knob 'policy' is missing"):
        solver.seed([{"params": off | {"cache": True}, "values": {"qps": 1.0}}])


def test_a_wish_must_keep_the_rules(make: Make) -> None:
    solver = make(CONFIG)
    with pytest.raises(RequestError, match="idle <= pool does not hold"):
        solver.enqueue(HERE | {"idle": 40})
    solver.enqueue(HERE | {"ttl_s": 0, "idle": 20})
    with pytest.raises(RequestError, match=r"ttl_s = 5\.0 is out of bounds"):
        solver.enqueue(HERE | {"ttl_s": 5.0})


def test_a_walk_to_a_wish_keeps_the_rules(make: Make) -> None:
    """idle may move 6 a step and pool 2: together they would break the rule on the way up."""
    bounds = {name: CONFIG["bounds"][name] | {"initial": 28} for name in ("pool", "idle")}
    solver = make(CONFIG | {"bounds": bounds, "guardrails": {"max_delta": {"pool": 2, "idle": 6}}})
    solver.enqueue({"pool": 40, "idle": 40})
    seen = []
    for i in range(12):
        candidate = solver.ask_one()
        assert candidate is not None
        assert candidate["idle"] <= candidate["pool"]
        seen.append((candidate["pool"], candidate["idle"]))
        solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": 100.0 + i}}])
    assert max(seen) > (30, 28), "on the way"
    assert not any("refused" in w["reason"] for w in solver.windows())


# ---- the search ----


def merit(params: dict[str, Any]) -> float:
    """Best at ttl_s 0, with pool and idle equal, where the rule binds; policy lfu with decay 0.8."""
    found = 3.0 if params["ttl_s"] == 0 else 1.0 - abs(math.log(max(params["ttl_s"], 1.0) / 300.0))
    found -= ((params["pool"] - 30) / 10) ** 2 + ((params["idle"] - 40) / 10) ** 2
    if params["cache"]:
        found += 1.0 + (1.0 - abs(params["decay"] - 0.8) if params["policy"] == "lfu" else 0.0)
    return found


@pytest.mark.parametrize("climbs", [True, False])
def test_the_search_finds_the_best_of_an_irregular_box(climbs: bool) -> None:
    """An acquisition that knows the merit; the best idle and pool under the rule are 35 and 35, by hand."""

    def values(X: np.ndarray) -> np.ndarray:
        found = []
        for x in X:
            ttl = {0.5: 0.0, 1.0: -1.0}.get(round(float(x[6]), 6), 10 + 590 * float(x[0]))
            pool, idle, decay = 4 + 60 * x[1], 1 + 63 * x[2], float(x[5])
            policy = ("lru", "lfu")[round(float(x[4]))]
            found.append(
                merit({"ttl_s": ttl, "pool": pool, "idle": idle, "cache": x[3] > 0.5, "policy": policy, "decay": decay})
            )
        return np.array(found)

    def climbed(x: np.ndarray, fixed: list[int]) -> np.ndarray:
        y = x.copy()
        for i in set(range(6)) - set(fixed):
            for step in (0.02, -0.02):
                while values((z := y + step * (np.arange(7) == i))[None])[0] > values(y[None])[0]:
                    y = z
        return y

    region = Region(SPACE, SPACE.whole, HERE, returns=False)
    best = best_in(values, climbed if climbs else None, region, [HERE], np.random.default_rng(0), NEVER)
    assert region.contains(best)
    assert (best["ttl_s"], best["cache"], best["policy"]) == (0.0, True, "lfu")
    assert merit(best) > 4.5 - (0.02 if climbs else 0.3), "at pool 35, idle 35 and decay 0.8 it is 4.5"


def test_what_is_climbed_leaves_alone_what_others_depend_on_and_what_waits() -> None:
    """From a config whose cache is off: what comes back does so as it was, whatever a climb would make of it."""
    here, seen = HERE | {"cache": False, "policy": "lfu"}, []

    def climbed(x: np.ndarray, fixed: list[int]) -> np.ndarray:
        seen.append((tuple(SPACE.names[i] for i in fixed), x[3] > 0.5, x[6]))
        return np.asarray(x + 0.05 * (~np.isin(np.arange(7), fixed)))

    def values(X: np.ndarray) -> np.ndarray:
        return np.asarray(X[:, 5] + X[:, 3] + X[:, 4])  # cache on, policy lfu, decay as high as it can be

    region = Region(SPACE, SPACE.whole, here, returns=True)
    best = best_in(values, climbed, region, [here], np.random.default_rng(0), NEVER)
    assert (best["cache"], best["policy"], best["decay"]) == (True, "lfu", 0.5)
    assert region.contains(best)
    for fixed, _, second in seen:
        assert {"cache", "policy", "decay"} <= set(fixed)
        assert ("ttl_s" in fixed) == (second > 0.0), "a special value is no number"


@pytest.mark.parametrize("guarded", [False, True])
def test_a_study_ends_at_the_best_config_whatever_the_space(make: Make, guarded: bool) -> None:
    config = CONFIG | {"budget": 60 if guarded else 35}
    if guarded:
        config["guardrails"] = {"max_delta": DELTAS}
    solver, random, seen = make(config), np.random.default_rng(0), [dict(HERE)]
    while (candidate := solver.ask_one()) is not None:
        assert candidate["idle"] <= candidate["pool"]
        if guarded and candidate.kind in ("probe", "explore"):
            for name in SPACE.inactive(seen[-1]) | SPACE.inactive(dict(candidate)):
                assert candidate[name] == seen[-1][name], "it waits, and comes back as it was"
        seen.append(dict(candidate))
        solver.seed(
            [{"params": candidate, "id": candidate.id, "values": {"qps": merit(candidate) + 0.1 * random.normal()}}]
        )
    best = solver.recommend().params
    assert best["ttl_s"] == 0.0
    assert merit(best) > merit(HERE) + 3.0
    assert {p["cache"] for p in seen} == {False, True}, "both were looked at"
    assert set(solver.importance()) == set(HERE)


def test_the_same_study_asks_for_the_same_configs(make: Make) -> None:
    def asked(name: str) -> list[dict[str, Any]]:
        solver = make(CONFIG | {"name": name, "budget": 14})
        found = []
        while (candidate := solver.ask_one()) is not None:
            found.append(dict(candidate))
            solver.seed([{"params": candidate, "id": candidate.id, "values": {"qps": merit(candidate)}}])
        return found

    assert asked("one") == asked("two")


def test_a_rule_holds_for_four_objectives_too(make: Make) -> None:
    """BoTorch's acquisition, which has no way to climb here."""
    outcomes = [f"y{i}" for i in range(4)]
    config = CONFIG | {"objectives": dict.fromkeys(outcomes, "max"), "budget": 12, "probe_ratio": 0.5}
    solver: ArqonSolver = make(config)
    for n in itertools.count():
        if (candidate := solver.ask_one()) is None or n > 8:
            break
        assert SPACE.in_bounds(dict(candidate))
        solver.seed(
            [
                {
                    "params": candidate,
                    "id": candidate.id,
                    "values": {y: merit(candidate) + i for i, y in enumerate(outcomes)},
                }
            ]
        )


@pytest.mark.parametrize(("limit", "said"), [({}, True), ({"ttl": "10%"}, True), ({"ttl": {"special": 0}}, False)])
def test_what_nobody_allowed_to_switch_is_named(
    limit: dict[str, Any], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = {"cache": {"type": "bool"}, "ttl": {"min": 1, "max": 9, "active_if": {"cache": True}}}
    initial = {"cache": False, "ttl": 5}
    rails = {"max_delta": {"cache": 1} | limit} if limit else {}
    config = parse({"seed": 1, "bounds": bounds, "initial": initial, "guardrails": rails})
    assert ("ttl stays" in caplog.text) is said
    assert config.guardrails is not None
    assert limits.box(config.space, config.guardrails.steps, [initial]).domains[0] == Options((False,))
