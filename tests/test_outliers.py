"""Gross outliers are found by evidence, shown, and no longer believed; what was measured twice is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arqon_gp import surrogate as surrogate_module
from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.history import History
from arqon_gp.mode import log_posterior
from arqon_gp.outliers import _again, _extended
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Settings, rows_of
from arqon_gp.surrogate import Surrogate, fit, restore, seek
from arqon_kernels import LogPosterior
from tests.conftest import Make
from tests.test_surrogate import density_of, gp_sample

CONFIG: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}


def fitted(history: History, **more: Any) -> tuple[Surrogate, Dataset, Settings]:
    config = parse(CONFIG | more)
    data = training_set(history, config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
    return fit(data, settings, {}), data, settings


def spoilt(history: History, by: dict[int, float]) -> History:
    """The history with some of its values moved."""
    found = History()
    for i, row in enumerate(history.rows):
        values = {"value": float(row.values["value"] or 0.0) + by.get(i, 0.0)}
        found = found.apply(Told((Observation(row.params, values, Role.WINDOW),), 0.0))
    return found


def outliers(surrogate: Surrogate) -> list[int]:
    return [int(i) for i in surrogate["value"].hyperparameters["outliers"]]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("by", [{7: 8.0}, {3: -9.0, 21: 12.0}, {2: 9.0, 19: 14.0, 28: -11.0}])
def test_gross_outliers_are_found_and_the_rest_is_as_if_they_were_not_there(seed: int, by: dict[int, float]) -> None:
    clean = gp_sample(30, 0.2, seed)
    surrogate, data, _ = fitted(spoilt(clean, by))
    assert set(outliers(surrogate)) == set(by)
    without = fitted(spoilt(clean, {}))[0]["value"]
    gp, X = surrogate["value"], np.random.default_rng(9).random((50, 2))
    difference = gp.predict(X)[0] - without.predict(X)[0]
    assert np.sqrt(np.mean(difference**2)) < 0.45, "of a function of variance 1"
    assert gp.noise < 0.3, "the noise is not blown up"
    assert len(data.first) == 30


def test_clean_data_has_none() -> None:
    found = [outliers(fitted(gp_sample(30, noise, seed))[0]) for seed in range(30) for noise in (0.05, 0.5)]
    assert sum(map(len, found)) <= 2, found


def test_what_is_better_than_expected_needs_more_evidence() -> None:
    clean = gp_sample(30, 0.2, 0)

    def least(sign: float, **more: Any) -> float:
        sizes = np.arange(0.4, 6.0, 0.1)
        return next(float(s) for s in sizes if 12 in outliers(fitted(spoilt(clean, {12: sign * s}), **more)[0]))

    better, worse = least(-1.0), least(1.0)
    assert better > worse + 0.2, "less is better"


def test_a_config_measured_twice_is_what_it_is() -> None:
    history = History()
    for i, row in enumerate(gp_sample(20, 0.2, 1).rows):
        value = float(row.values["value"] or 0.0) + (9.0 if i == 8 else 0.0)
        for shake in (0.0, 0.1) if i == 8 else (0.0,):
            observation = Observation(row.params, {"value": value + shake}, Role.WINDOW)
            history = history.apply(Told((observation,), 0.0))
    assert outliers(fitted(history)[0]) == []
    once = History()
    for row in (*history.rows[:9], *history.rows[10:]):
        once = once.apply(Told((row,), 0.0))
    assert outliers(fitted(once)[0]) == [8]
    _, data, settings = fitted(history)
    before = {"value": fitted(once)[0]["value"].hyperparameters}
    assert seek(data, settings, before)["value"]["outliers"] == [], "an outlier no more"


def test_a_fit_on_a_torch_device_finds_the_same() -> None:
    history = spoilt(gp_sample(30, 0.05, 2), {4: 2.0, 17: -2.5})
    surrogate, data, _ = fitted(history)
    found = seek(data, surrogate.settings, {}, device="cpu")
    ours = surrogate["value"].hyperparameters
    assert found["value"]["outliers"] == ours["outliers"]
    assert density_of(found["value"], data, surrogate.settings) == pytest.approx(
        density_of(ours, data, surrogate.settings), abs=0.01
    )
    there = restore(data, surrogate.settings, surrogate.hyperparameters, device="cpu")
    np.testing.assert_allclose(there["value"].root, surrogate["value"].root, rtol=1e-9, atol=1e-9)


def test_an_outcome_without_noise_has_no_outliers() -> None:
    assert outliers(fitted(spoilt(gp_sample(20, 0.0, 1), {5: 9.0}), noise={"value": "exact"})[0]) == []


def test_they_are_remembered_by_the_result_whichever_rows_are_looked_at() -> None:
    surrogate, data, settings = fitted(spoilt(gp_sample(30, 0.2, 3), {11: 9.0}))
    h = seek(data, settings, {})
    some = data.rows(np.array([0, 5, 11, 17, 29]))
    few, all_rows = restore(some, settings, h)["value"].rows, surrogate["value"].rows
    assert np.flatnonzero(few.floor).tolist() == [2]
    np.testing.assert_allclose(few.floor[2] * few.scale**2, all_rows.floor[11] * all_rows.scale**2)


def test_the_solver_shows_them_and_a_restart_knows_them(make: Make) -> None:
    solver, random = make(CONFIG | {"budget": 100, "probe_ratio": 0.0}), np.random.default_rng(0)
    for i in range(24):
        candidate = {"x": random.random(), "y": random.random()}
        value = (candidate["x"] - 0.3) ** 2 + (candidate["y"] - 0.6) ** 2 + 0.01 * random.normal()
        solver.seed([{"params": candidate, "value": value + 5.0 * (i == 13), "id": f"w{i}"}])
    solver.ask_one()
    assert [of["id"] for of in solver.status()["model"]["outliers"]["value"]] == ["w13"]
    best = solver.recommend()
    assert best.outcomes is not None
    assert best.outcomes["value"].upper < 0.2


def test_outliers_that_hide_one_another_stay_found_once_they_were() -> None:
    """As they come one by one, each is found while it is new."""
    by = {2: 4.0, 8: 4.0, 14: 4.2, 22: 4.1}
    hidden = 0
    for seed in range(12):
        history = spoilt(gp_sample(30, 0.2, seed), by)
        config = parse(CONFIG)
        data = training_set(history, config.space, config.goals)
        settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
        afresh = seek(data, settings, {})["value"]
        told = {"value": afresh | {"outliers": [float(i) for i in by], "excess": [9.0] * 4}}
        remembered = seek(data, settings, told)["value"]
        hidden += set(map(int, remembered["outliers"])) == set(by) != set(map(int, afresh["outliers"]))
    assert hidden >= 6


def test_the_variances_are_those_that_gain_most() -> None:
    config = parse(CONFIG)
    data = training_set(spoilt(gp_sample(40, 0.2, 2), {3: 6.0, 17: -5.0, 30: 7.0}), config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled, config.exact, config.goals.better)
    rows, theta = rows_of(data, settings, "value"), np.log([0.4, 0.4, 0.05])

    def density(excess: np.ndarray) -> LogPosterior:
        return log_posterior(replace(rows, floor=rows.floor + excess), settings, learned=True)

    excess = np.zeros(40)
    excess[[5, 9, 20, 33]] = 0.5
    added = _extended(*density(excess).inverse(theta), excess, np.ones(40, dtype=bool), 6)
    assert added is not None
    first, second = np.setdiff1d(np.flatnonzero(added), [5, 9, 20, 33])
    assert {int(first), int(second)} < {3, 17, 30}

    def best(row: int, known: np.ndarray) -> float:
        a, A = density(known).inverse(theta)
        return float((a[row] ** 2 / A[row, row] - 1.0) / A[row, row])

    first, second = sorted((first, second), key=lambda row: -best(row, excess))
    assert added[first] == pytest.approx(best(first, excess), rel=0.01), "up to the mean, which is profiled out"
    given = np.where(np.arange(40) == first, added, excess)
    assert added[second] == pytest.approx(best(second, given), rel=0.01)
    assert added[second] != pytest.approx(best(second, excess), rel=0.02), "the first one matters"
    for row in (first, second):
        again = _again(*density(added).inverse(theta), added)[row]
        assert again == pytest.approx(best(row, np.where(np.arange(40) == row, 0.0, added)), rel=0.01)
        values = [density(np.where(np.arange(40) == row, f * again, added))(theta)[0] for f in (0.7, 1.0, 1.4)]
        assert max(values) == values[1]


def test_rows_are_added_as_if_the_inverse_were_made_anew_for_each() -> None:
    random, n = np.random.default_rng(1), 14
    B = random.normal(size=(n, n))
    K, y = B @ B.T / n + 0.1 * np.eye(n), 6.0 * random.normal(size=n)
    excess = np.where(np.arange(n) < 6, 0.5, 0.0)
    A = np.linalg.inv(K)
    added = _extended(A @ y, A, excess, np.ones(n, dtype=bool), n)
    expected = excess.copy()
    for _ in range(3):
        A = np.linalg.inv(K + np.diag(expected - excess))
        a = A @ y
        z2 = np.where(expected == 0.0, a * a / A.diagonal(), 0.0)
        expected[z2.argmax()] = (z2.max() - 1.0) / A[z2.argmax(), z2.argmax()]
    assert added is not None
    np.testing.assert_allclose(added, expected, rtol=1e-9)


def test_a_row_that_is_an_outlier_no_longer_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the search leaves a row with may be as good as nothing."""
    _, data, settings = fitted(gp_sample(20, 0.2, 1))
    mode, excess = surrogate_module.mode_of, np.zeros(20)
    excess[[3, 8]] = 1e-11, 5.0
    monkeypatch.setattr(surrogate_module, "mode_of", lambda *args, **kw: replace(mode(*args, **kw), excess=excess))
    assert seek(data, settings, {})["value"]["outliers"] == [8.0]
