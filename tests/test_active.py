"""The active set of a long history: bounded, deterministic, covering, and near the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from arqon_gp.active import MOST_ROWS, active_set
from arqon_gp.config import parse
from arqon_gp.history import Dataset, History, training_set
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Hyperparameters, Settings
from arqon_gp.surrogate import fit

CONFIG: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}


def bowl(n: int) -> tuple[Dataset, Settings]:
    """n windows of a noisy bowl whose bottom is at (0.3, 0.6)."""
    config, random = parse(CONFIG), np.random.default_rng(0)
    rows = []
    for x, y in random.random((n, 2)):
        value = float((x - 0.3) ** 2 + (y - 0.6) ** 2 + 0.05 * random.normal())
        rows.append(Observation({"x": float(x), "y": float(y)}, {"value": value}, Role.WARM))
    history = History().apply(Told(tuple(rows), 0.0))
    settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
    return training_set(history, config.space, config.goals), settings


def chosen_of(data: Dataset, settings: Settings, known: dict[str, Hyperparameters] | None = None) -> Dataset:
    return data.rows(active_set(data, settings, known or {}))


def test_a_short_history_is_its_own_active_set() -> None:
    data, settings = bowl(MOST_ROWS)
    assert active_set(data, settings, {}).tolist() == list(range(MOST_ROWS))


def test_a_long_history_is_cut_to_a_bound_and_covers_the_space() -> None:
    data, settings = bowl(900)
    first = chosen_of(data, settings)
    assert len(first.X) == MOST_ROWS
    known = fit(first, settings, {}).hyperparameters
    chosen = chosen_of(data, settings, known)
    assert len(chosen.X) == MOST_ROWS
    gaps = np.linalg.norm(data.X[:, None, :] - chosen.X[None, :, :], axis=-1).min(axis=1)
    assert gaps.max() < 0.12, "150 points spread over a square are nowhere farther"
    np.testing.assert_array_equal(chosen.X, chosen_of(data, settings, known).X)


def test_beyond_the_covering_rows_it_keeps_those_where_most_is_expected_whatever_their_own_luck() -> None:
    data, settings = bowl(900)
    known = fit(chosen_of(data, settings), settings, {}).hyperparameters
    chosen = chosen_of(data, settings, known)
    near = np.linalg.norm(chosen.X - [0.3, 0.6], axis=1) < 0.25
    everywhere = np.linalg.norm(data.X - [0.3, 0.6], axis=1) < 0.25
    assert near.mean() > 2.0 * everywhere.mean()
    noise = chosen.Y[near, 0] - ((chosen.X[near] - [0.3, 0.6]) ** 2).sum(axis=1)
    assert abs(noise.mean()) < 0.02, "the lucky ones are not preferred"


def test_the_mean_at_the_optimum_is_nearly_that_of_all_rows() -> None:
    data, settings = bowl(900)
    known = fit(chosen_of(data, settings), settings, {}).hyperparameters
    at = np.array([[0.3, 0.6]])
    few, everything = (
        fit(rows, settings, known)["value"].predict(at) for rows in (chosen_of(data, settings, known), data)
    )
    assert abs(few[0][0] - everything[0][0]) < 0.02
    assert few[1][0] < 4.0 * everything[1][0]


def test_the_unit_of_an_outcome_does_not_matter() -> None:
    data, settings = bowl(900)
    known = fit(chosen_of(data, settings), settings, {}).hyperparameters
    larger = replace(data, Y=1000.0 * data.Y, worst=1000.0 * data.worst)
    np.testing.assert_array_equal(active_set(larger, settings, known), active_set(data, settings, known))
