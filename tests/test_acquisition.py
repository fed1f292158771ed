"""What a measurement is worth, and where it is worth most: against brute force, Monte Carlo and BoTorch's optimizer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.optim import optimize_acqf
from torch import Tensor

from arqon_gp import acquisition, limits
from arqon_gp.acquisition import Aim
from arqon_gp.config import parse
from arqon_gp.dataset import training_set
from arqon_gp.design import sobol
from arqon_gp.device import deterministic
from arqon_gp.history import History
from arqon_gp.knobs import values
from arqon_gp.maximize import maximize
from arqon_gp.objectives import Goals, hypervolume
from arqon_gp.rows import FEASIBLE, Settings
from arqon_gp.space import Box
from arqon_gp.surrogate import fit
from arqon_kernels import covariance
from arqon_kernels._torch.acquisition import value as reference
from arqon_kernels.acquisition import HYPERVOLUME, UTILITY, Problem
from tests.test_surrogate import fitted, told

NONE = np.zeros((0, 2))


def study(config: dict[str, Any], merit: Any, n: int = 10, seed: int = 0) -> tuple[Any, Any, Goals, Any]:
    random, history, space = np.random.default_rng(seed), History(), parse(config).space
    options = [values(knob, domain) for knob, domain in zip(space, space.whole.domains, strict=True)]
    for _ in range(n):
        u = random.random(len(options))
        params = {
            knob.name: float(x) if known is None else known[int(x * len(known))]
            for knob, known, x in zip(space, options, u, strict=True)
        }
        history = told(history, (params, merit(params, random)))
    surrogate, data = fitted(config, history)
    return surrogate, data, parse(config).goals, space


def built(surrogate: Any, data: Any, goals: Goals, pending: Any = NONE, bounds: Any = (), **more: Any) -> Problem:
    aim = Aim(goals, more.pop("utility", None) or goals.utility({}, {}), bounds, **more)
    return acquisition.problem(surrogate, data, aim, pending, np.random.default_rng(0))


def best_in(target: Problem, space: Any, box: Box, rng_seed: int = 0) -> tuple[Any, float]:
    return maximize(target, space, box, target.ZT.T[:8], np.random.default_rng(rng_seed))


def value_at(target: Problem, *x: float) -> float:
    return float(acquisition.values_at(target, np.array([x]))[0])


PLAIN = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}
GRID = {
    "seed": 1,
    "bounds": {
        "n": {"type": "int", "min": 0, "max": 12},
        "s": {"min": 0.0, "max": 1.0, "step": 0.125},
        "c": {"type": "categorical", "choices": ["a", "b", "c"]},
    },
}


def bowl(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    return {"value": (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2 + 0.02 * random.normal()}


def mixed(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    merit = (params["n"] - 7) ** 2 / 10 + (params["s"] - 0.4) ** 2 + (params["c"] != "b")
    return {"value": merit + 0.1 * random.normal()}


LIMITED = PLAIN | {"constraints": {"rss": {"max": 1.0}}}


def heavy(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    return bowl(params, random) | {"rss": 2.0 * params["x"] + 0.5 + 0.02 * random.normal()}


TWO = PLAIN | {"objectives": {"a": "min", "b": "min"}}


def two(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    return {"a": params["x"] + params["y"], "b": (1 - params["x"]) + params["y"] + 0.01 * random.normal()}


THREE = PLAIN | {"objectives": {"a": "min", "b": "max", "c": "min"}}


def three(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    return two(params, random) | {"b": params["x"], "c": (params["y"] - 0.5) ** 2 + 0.01 * random.normal()}


UNIT = {"a": 1.0, "b": 1.0, "c": 1.0}


@pytest.mark.parametrize(("samples", "rel", "absolute"), [(128, 0.2, 2e-3), (16_384, 0.05, 2e-4)])
def test_noisy_expected_improvement_is_that_of_plain_monte_carlo(
    monkeypatch: pytest.MonkeyPatch, samples: int, rel: float, absolute: float
) -> None:
    monkeypatch.setattr(acquisition, "SAMPLES", samples)
    surrogate, data, goals, _ = study(PLAIN, bowl, n=8)
    target = built(surrogate, data, goals)
    gp, random = surrogate["value"], np.random.default_rng(0)
    assert target.goal == UTILITY
    for at in ([0.3, 0.55], [0.45, 0.6], [0.9, 0.1]):
        mean, joint = gp.joint(np.vstack([data.X, at]))
        draws = random.multivariate_normal(-mean, joint, size=200_000) / gp.rows.scale
        expected = float(np.maximum(draws[:, -1] - draws[:, :-1].max(axis=1), 0.0).mean())
        assert math.exp(value_at(target, *at)) / gp.rows.scale == pytest.approx(expected, rel=rel, abs=absolute)


def test_so_it_is_with_a_limit_on_another_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition, "SAMPLES", 16_384)
    surrogate, data, goals, _ = study(LIMITED, heavy, n=9)
    target = built(surrogate, data, goals, bounds=[("rss", 1, 1.0)])
    random, count = np.random.default_rng(0), 100_000
    for at in ([0.25, 0.55], [0.2, 0.7]):
        X = np.vstack([data.X, at])
        value, rss = (
            random.multivariate_normal(*surrogate[name].joint(X), size=count, check_valid="ignore")
            for name in ("value", "rss")
        )
        keeps = rss <= 1.0
        assert keeps[:, :-1].any(axis=1).mean() > 0.99, "there is nearly always something to beat"
        level = np.where(keeps, -value, -np.inf)[:, :-1].max(axis=1)
        gain = np.where(keeps[:, -1] & np.isfinite(level), np.maximum(-value[:, -1] - level, 0.0), 0.0)
        assert math.exp(value_at(target, *at)) == pytest.approx(float(gain.mean()), rel=0.1, abs=5e-5)


@pytest.mark.parametrize(
    ("config", "merit", "reference_point"), [(TWO, two, [2.0, 2.0]), (THREE, three, [2.0, -0.2, 0.5])]
)
def test_the_expected_hypervolume_improvement_is_that_of_plain_monte_carlo(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], merit: Any, reference_point: list[float]
) -> None:
    monkeypatch.setattr(acquisition, "SAMPLES", 4096)
    surrogate, data, goals, _ = study(config, merit, n=6)
    target = built(surrogate, data, goals, utility=goals.utility(UNIT, UNIT), reference=reference_point)
    signs, random, count = np.array([o.sign for o in goals.objectives]), np.random.default_rng(0), 4000
    assert target.goal == HYPERVOLUME
    for at in ([0.5, 0.05], [0.9, 0.3]):
        X = np.vstack([data.X, at])
        h = np.stack(
            [
                sign * random.multivariate_normal(*gp.joint(X), size=count, check_valid="ignore")
                for sign, gp in zip(signs, surrogate.outcomes, strict=True)
            ],
            axis=-1,
        )
        low = np.array(reference_point) * signs
        gains = np.array([hypervolume(draw, low) - hypervolume(draw[:-1], low) for draw in h])
        error = float(gains.std()) / math.sqrt(count)
        assert math.exp(value_at(target, *at)) == pytest.approx(float(gains.mean()), rel=0.05, abs=4 * error)


def test_on_a_mixed_grid_the_maximum_is_that_of_brute_force() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=12)
    target = built(surrogate, data, goals, pending=np.zeros((0, 3)))
    grid = [values(knob, domain) or () for knob, domain in zip(space, space.whole.domains, strict=True)]
    every = [{"n": n, "s": s, "c": c} for n in grid[0] for s in grid[1] for c in grid[2]]
    best = float(acquisition.values_at(target, np.array([space.encode(p) for p in every])).max())
    x, found = best_in(target, space, space.whole)
    assert any(np.allclose(x, space.encode(p), atol=1e-12) for p in every), "on the grid, not rounded to it"
    assert found == pytest.approx(value_at(target, *x), rel=1e-12)
    assert found >= best - 1e-9, "there are 351 points: none is better"


def test_the_maximum_stays_inside_a_step_box_with_frozen_and_gridded_knobs() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=12)
    rails = parse(GRID | {"guardrails": {"max_delta": [2, 0.25, 0]}}).guardrails
    assert rails is not None
    box = limits.box(space, rails.steps, [{"n": 1, "s": 1.0, "c": "c"}])
    target = built(surrogate, data, goals, pending=np.zeros((0, 3)))
    params = space.decode(best_in(target, space, box)[0], box)
    assert space.contains(params, box)
    assert params["c"] == "c"
    assert params["n"] == 3, "towards 7, as far as the box goes"


def test_a_box_of_one_point_is_that_point() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=5)
    rails = parse(GRID | {"guardrails": {"max_delta": [0, 0, 0]}}).guardrails
    assert rails is not None
    here = {"n": 4, "s": 0.5, "c": "a"}
    box: Box = limits.box(space, rails.steps, [here])
    target = built(surrogate, data, goals, pending=np.zeros((0, 3)))
    x, found = best_in(target, space, box)
    assert space.decode(x, box) == here
    assert found == value_at(target, *space.encode(here))


def test_a_pending_point_is_worth_less() -> None:
    surrogate, data, goals, _ = study(PLAIN, bowl, n=8)
    alone = value_at(built(surrogate, data, goals), 0.32, 0.58)
    twice = value_at(built(surrogate, data, goals, pending=np.array([[0.32, 0.58]])), 0.32, 0.58)
    assert twice < alone - 1.0, "log units"


def test_a_limit_moves_the_maximum_to_where_it_holds() -> None:
    surrogate, data, goals, space = study(LIMITED, heavy, n=14)
    x, _ = best_in(built(surrogate, data, goals, bounds=[("rss", 1, 1.0)]), space, space.whole)
    free, _ = best_in(built(surrogate, data, goals), space, space.whole)
    assert x[0] < 0.27 < free[0] + 0.05, "the bowl's bottom is at 0.3, the limit at 0.25"


def test_recovery_goes_to_the_highest_probability_that_all_limits_hold() -> None:
    surrogate, data, goals, space = study(LIMITED, heavy, n=14)
    aim = Aim(goals, goals.utility({}, {}), [("rss", 1, 1.0)])
    x, found = best_in(acquisition.certainty(surrogate, aim, data.X), space, space.whole)
    assert x[0] < 0.1
    mean, variance = surrogate["rss"].predict(x[None, :])
    z = (1.0 - float(mean[0])) / math.sqrt(float(variance[0]))
    assert found == pytest.approx(math.log(0.5 * math.erfc(-z / math.sqrt(2))), rel=1e-6)


def test_where_windows_fail_nothing_is_sought() -> None:
    surrogate, data, goals, space = study(PLAIN, bowl, n=8)
    history = History()
    for x in np.linspace(0.05, 0.95, 10):
        params = {"x": float(x), "y": 0.6}
        failed = bool(x > 0.4)  # below 0.3 it gets worse again
        values_ = {} if failed else {"value": -params["x"]}
        history = told(history, (params, values_), failed=failed)
    surrogate, data = fitted(PLAIN | {"objectives": {"value": "min"}}, history)
    assert FEASIBLE in surrogate
    x, _ = best_in(built(surrogate, data, goals), space, space.whole)
    assert x[0] < 0.55, "-x falls on, but not where windows fail"


def test_two_objectives_are_worth_where_the_front_grows() -> None:
    surrogate, data, goals, _ = study(TWO, two, n=12)
    target = built(surrogate, data, goals, utility=goals.utility(UNIT, UNIT), reference=[2.0, 2.0])
    on, off = value_at(target, 0.5, 0.0), value_at(target, 0.5, 0.9)
    assert on > off + 2.0
    assert math.isfinite(off)


def test_the_front_is_not_explored_below_the_floor() -> None:
    surrogate, data, goals, space = study(TWO, two, n=30)
    utility = goals.utility({"a": 0.5, "b": 0.5}, UNIT)
    free = built(surrogate, data, goals, utility=utility, reference=[2.0, 2.0])
    floored = built(surrogate, data, goals, utility=utility, reference=[2.0, 2.0], floor=(-0.2, 0.05))
    # the utility min(0.5 - a, 0.5 - b) + ... is 0 in the middle of the front, -0.5 at its ends
    assert value_at(floored, 0.5, 0.0) == pytest.approx(value_at(free, 0.5, 0.0), abs=0.5)
    assert value_at(floored, 0.05, 0.0) < value_at(free, 0.05, 0.0) - 5.0
    assert 0.25 < best_in(floored, space, space.whole)[0][0] < 0.75, "-0.2 is reached at 0.3 and 0.7"


def test_the_posterior_mean_is_the_utility_in_units_of_its_spread() -> None:
    surrogate, data, goals, space = study(PLAIN, bowl, n=14)
    target = acquisition.posterior_mean(surrogate, Aim(goals, goals.utility({}, {}), ()), data.X, 0.95)
    X = np.array([[0.2, 0.3], [0.8, 0.9]])
    mean, _ = surrogate["value"].predict(X)
    found = acquisition.values_at(target, X)
    spread = surrogate["value"].predict(data.X)[0].std()
    assert (found[0] - found[1]) == pytest.approx((mean[1] - mean[0]) / spread, rel=1e-9)
    x, _ = best_in(target, space, space.whole)
    np.testing.assert_allclose(x, [0.3, 0.6], atol=0.1)


@pytest.mark.parametrize("n", [4, 60])
def test_the_baseline_holds_what_may_be_best_and_is_bounded(n: int) -> None:
    surrogate, data, goals, _ = study(PLAIN, bowl, n=n)
    target = built(surrogate, data, goals)
    assert target.ZT.shape == (2, n)
    assert n < target.R.shape[1] <= n + acquisition.MOST_BASELINE


def test_a_point_measured_twice_is_one_of_the_baseline() -> None:
    history = told(History(), *[({"x": x, "y": 0.5}, {"value": x}) for x in (0.2, 0.4, 0.2, 0.4, 0.2)])
    surrogate, data = fitted(PLAIN, history)
    target = built(surrogate, data, parse(PLAIN).goals)
    assert target.R.shape[1] <= len(data.X) + 2
    assert math.isfinite(value_at(target, 0.1, 0.5))


# ---- the maximiser against BoTorch's ----------------------------------------------------


class Torch(AcquisitionFunction):  # type: ignore[misc]  # botorch ships no types
    """The reference as botorch takes it: (b, 1, d) -> (b,)."""

    def __init__(self, target: Problem) -> None:
        super().__init__(model=None)
        self.target = target

    def forward(self, X: Tensor) -> Tensor:
        return reference(self.target, X.squeeze(-2))


def rugged(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    wave = math.sin(13 * params["x"]) * math.cos(9 * params["y"]) + 0.5 * params["x"]
    return {"value": wave + 0.2 * random.normal()}


def latency(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
    return {"p99_ms": math.exp(2 + rugged(params, random)["value"])}


RECORDED: dict[str, tuple[dict[str, Any], Any, int, dict[str, Any]]] = {
    "a bowl": (PLAIN, bowl, 8, {}),
    "rugged and noisy": (PLAIN, rugged, 18, {}),
    "a log cost": (PLAIN | {"objectives": {"p99_ms": "min"}}, latency, 14, {}),
    "a limit": (LIMITED, heavy, 14, {"bounds": [("rss", 1, 1.0)]}),
    "two objectives": (TWO, two, 12, {"reference": [2.0, 2.0]}),
}


@pytest.mark.parametrize("case", RECORDED)
def test_the_maximum_is_worth_at_least_99_percent_of_that_of_botorchs_optimizer(case: str) -> None:
    config, merit, n, more = RECORDED[case]
    surrogate, data, goals, space = study(config, merit, n=n)
    utility = goals.utility(UNIT, UNIT) if goals.pareto else goals.utility({}, {})
    target = built(surrogate, data, goals, utility=utility, **more)
    x, ours = best_in(target, space, space.whole)
    with deterministic(0):
        unit_cube = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
        there, _ = optimize_acqf(Torch(target), unit_cube, q=1, num_restarts=10, raw_samples=512)
        again = float(reference(target, torch.as_tensor(x[None, :])))
    assert ours == pytest.approx(again, abs=1e-6), "both judge alike"
    assert ours >= float(reference(target, there)) + math.log(0.99)


def test_the_same_stream_gives_the_same_bits_and_another_nearly_the_same_maximum() -> None:
    for config, merit in ((PLAIN, rugged), (GRID, mixed)):
        surrogate, data, goals, space = study(config, merit, n=16)
        pending = np.zeros((0, len(config["bounds"])))
        first, again = (best_in(built(surrogate, data, goals, pending), space, space.whole, 3) for _ in range(2))
        np.testing.assert_array_equal(first[0], again[0])
        assert first[1] == again[1]
        other = best_in(built(surrogate, data, goals, pending), space, space.whole, 4)
        assert other[1] == pytest.approx(first[1], abs=0.05)


def test_a_grid_too_fine_to_be_searched_value_by_value_is_rounded_by_the_space() -> None:
    config = PLAIN | {"bounds": {"x": {"type": "int", "min": 0, "max": 1_000_000}, "y": {"min": 0, "max": 1}}}

    def wide(params: dict[str, Any], random: np.random.Generator) -> dict[str, float]:
        return bowl(params | {"x": params["x"] / 1e6}, random)

    surrogate, data, goals, space = study(config, wide, n=10)
    params = space.decode(best_in(built(surrogate, data, goals), space, space.whole)[0], space.whole)
    assert isinstance(params["x"], int)
    assert params["x"] == pytest.approx(300_000, abs=150_000)


def test_late_asks_on_a_noisy_problem_are_seldom_near_repeats() -> None:
    """Noise of 20 % of the range; 8 initial points, 12 asks; near: within .02 of an old point (asks 7 to 12)."""
    config = parse(PLAIN | {"bounds": {name: {"min": 0, "max": 1} for name in "xyz"}})
    settings, goals, near = Settings(config.space, ("value",)), config.goals, 0
    for seed in (10_001, 10_002):
        random = np.random.default_rng(seed)
        centres = random.random((60, 3))
        K = covariance(centres, centres, np.array([0.3, 0.5, 0.7])) + 1e-8 * np.eye(60)
        weight = np.linalg.solve(K, np.linalg.cholesky(K) @ random.normal(size=60))
        history = History()

        def measure(x: Any, weight: Any = weight, centres: Any = centres, random: Any = random) -> tuple[Any, Any]:
            f = float(weight @ covariance(centres, x[None, :], np.array([0.3, 0.5, 0.7]))[:, 0])
            params = dict(zip("xyz", (float(v) for v in x), strict=True))
            return params, {"value": f + 0.8 * random.normal()}

        for x in sobol(3, 8, seed):
            history = told(history, measure(x))
        warm: dict[str, Any] = {}
        for ask in range(12):
            data = training_set(history, config.space, goals)
            surrogate = fit(data, settings, warm)
            warm = surrogate.hyperparameters
            target = built(surrogate, data, goals, np.zeros((0, 3)))
            x, _ = best_in(target, config.space, config.space.whole, ask)
            near += ask >= 6 and float(np.linalg.norm(data.X - x, axis=1).min()) < 0.02
            history = told(history, measure(x))
    assert near / 12 < 0.1
