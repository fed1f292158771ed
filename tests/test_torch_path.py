"""BoTorch's functions, for what the engine lacks and for CUDA: against brute force and Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from arqon_gp import limits, torch_path
from arqon_gp.acquisition import Aim
from arqon_gp.config import parse
from arqon_gp.device import deterministic
from arqon_gp.knobs import values
from arqon_gp.legal import Region
from arqon_gp.objectives import Goals
from arqon_gp.outlook import Outlook
from arqon_gp.space import Box
from arqon_gp.study import Study
from tests.test_acquisition import GRID, LIMITED, NONE, PLAIN, TWO, bowl, heavy, mixed, study, two

CPU = torch.device("cpu")


def built(surrogate: Any, data: Any, goals: Goals, pending: Any = NONE, bounds: Any = (), **more: Any) -> Any:
    utility = more.pop("utility", None) or goals.utility({}, {})
    shape = torch_path.frame(surrogate, goals, utility, data.X, CPU)
    found = torch_path.constraints(surrogate, bounds)
    given = {"signs": None, "reference": None, "rng_seed": 0} | more
    return torch_path.build(surrogate, shape, found, data.X, pending, **given)


def test_noisy_expected_improvement_is_that_of_plain_monte_carlo() -> None:
    surrogate, data, goals, _ = study(PLAIN, bowl, n=8)
    target = built(surrogate, data, goals)
    gp, random = surrogate["value"], np.random.default_rng(0)
    for at in ([0.3, 0.55], [0.9, 0.1]):
        mean, covariance = gp.joint(np.vstack([data.X, at]))
        draws = random.multivariate_normal(-mean, covariance, size=200_000)
        spread = float(torch_path.frame(surrogate, goals, goals.utility({}, {}), data.X, CPU).spread)
        expected = float(np.maximum(draws[:, -1] - draws[:, :-1].max(axis=1), 0.0).mean()) / spread
        with torch.no_grad():
            found = float(target(torch.tensor([[at]], dtype=torch.float64)).exp())
        assert found == pytest.approx(expected, rel=0.2, abs=2e-3)


def test_on_a_mixed_grid_the_maximum_is_that_of_brute_force() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=12)
    target = built(surrogate, data, goals, pending=np.zeros((0, 3)))
    grid = [values(knob, domain) or () for knob, domain in zip(space, space.whole.domains, strict=True)]
    every = [{"n": n, "s": s, "c": c} for n in grid[0] for s in grid[1] for c in grid[2]]
    X = torch.as_tensor(np.array([space.encode(p) for p in every])).unsqueeze(-2)
    with torch.no_grad():
        best = float(target(X).max())
    with deterministic(0):
        x = torch_path.maximize(target, space, space.whole, CPU)
    assert any(np.allclose(x, space.encode(p), atol=1e-12) for p in every), "on the grid, not rounded to it"
    with torch.no_grad():
        assert float(target(torch.as_tensor(x).reshape(1, 1, -1))) >= best - 0.02 * abs(best)


def test_the_maximum_stays_inside_a_step_box_with_frozen_and_gridded_knobs() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=12)
    rails = parse(GRID | {"guardrails": {"max_delta": [2, 0.25, 0]}}).guardrails
    assert rails is not None
    box = limits.box(space, rails.steps, [{"n": 1, "s": 1.0, "c": "c"}])
    target = built(surrogate, data, goals, pending=np.zeros((0, 3)))
    with deterministic(0):
        params = space.decode(torch_path.maximize(target, space, box, CPU), box)
    assert space.contains(params, box)
    assert params["c"] == "c"
    assert params["n"] == 3, "towards 7, as far as the box goes"


def test_a_box_of_one_point_is_that_point() -> None:
    surrogate, data, goals, space = study(GRID, mixed, n=5)
    rails = parse(GRID | {"guardrails": {"max_delta": [0, 0, 0]}}).guardrails
    assert rails is not None
    here = {"n": 4, "s": 0.5, "c": "a"}
    box: Box = limits.box(space, rails.steps, [here])
    x = torch_path.maximize(built(surrogate, data, goals, pending=np.zeros((0, 3))), space, box, CPU)
    assert space.decode(x, box) == here


def test_a_pending_point_is_worth_less() -> None:
    surrogate, data, goals, _ = study(PLAIN, bowl, n=8)
    at = torch.tensor([[[0.32, 0.58]]], dtype=torch.float64)
    with torch.no_grad():
        alone = float(built(surrogate, data, goals)(at))
        twice = float(built(surrogate, data, goals, pending=np.array([[0.32, 0.58]]))(at))
    assert twice < alone - 1.0, "log units"


def test_a_limit_moves_the_maximum_to_where_it_holds() -> None:
    surrogate, data, goals, space = study(LIMITED, heavy, n=14)
    with deterministic(0):
        x = torch_path.maximize(built(surrogate, data, goals, bounds=[("rss", 1, 1.0)]), space, space.whole, CPU)
        free = torch_path.maximize(built(surrogate, data, goals), space, space.whole, CPU)
    assert x[0] < 0.27 < free[0] + 0.05, "the bowl's bottom is at 0.3, the limit at 0.25"


def test_recovery_goes_to_the_highest_probability_that_all_limits_hold() -> None:
    surrogate, _, _, space = study(LIMITED, heavy, n=14)
    with deterministic(0):
        x = torch_path.maximize(torch_path.recovery(surrogate, [("rss", 1, 1.0)], CPU), space, space.whole, CPU)
    assert x[0] < 0.1


def test_two_objectives_are_worth_where_the_front_grows() -> None:
    surrogate, data, goals, _ = study(TWO, two, n=12)
    utility = goals.utility({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0})
    target = built(surrogate, data, goals, utility=utility, signs=[-1, -1], reference=[2.0, 2.0])
    with torch.no_grad():
        on, off = (float(target(torch.tensor([[at]], dtype=torch.float64))) for at in ([0.5, 0.0], [0.5, 0.9]))
    assert on > off + 2.0
    assert math.isfinite(off)


def test_a_search_is_the_acquisition_with_its_maximiser_and_its_stream() -> None:
    surrogate, data, goals, space = study(LIMITED, heavy, n=14)
    outlook = Outlook(Study.new(parse(LIMITED)), surrogate, data)
    aim = Aim(goals, goals.utility({}, {}), [("rss", 1, 1.0)])
    chosen, whole = [], Region(space, space.whole, outlook.study.config.start, returns=False)
    for _ in range(2):
        search = torch_path.search(outlook, aim, NONE, [], np.random.default_rng(4), "cpu", recover=False)
        chosen.append(search.best_in(whole))
    assert chosen[0] == chosen[1], "the same stream, the same bits"
    X = np.array([space.encode(chosen[0]), [0.9, 0.1]])
    best, worst = search.values_at(X)
    assert best > worst
    safe = torch_path.search(outlook, aim, NONE, [], np.random.default_rng(4), "cpu", recover=True)
    assert safe.best_in(whole)["x"] < 0.1
