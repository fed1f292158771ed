"""Noise that grows along a knob: found where the evidence says so, and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, TrainingSets
from arqon_gp.heteroscedastic import _own, _score
from arqon_gp.history import History
from arqon_gp.mode import log_posterior
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import Rows, Settings, rows_of
from arqon_gp.surrogate import Surrogate, fit
from tests.conftest import Make

CONFIG = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}})
SETTINGS = Settings(CONFIG.space, CONFIG.goals.modelled, CONFIG.exact, CONFIG.goals.better)


def truth(X: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(3.0 * X[:, 0]) + X[:, 1])


def data_of(X: np.ndarray, std: np.ndarray, rng: np.random.Generator, windows: int = 1) -> Dataset:
    """`windows` windows in a row at each X (n, 2), with noise std (n,)."""
    rows = []
    for (x, y), f, s in zip(X, truth(X), std, strict=True):
        rows += [Observation({"x": x, "y": y}, {"value": f + s * rng.normal()}, Role.WINDOW) for _ in range(windows)]
    history = History().apply(Told(tuple(rows), 0.0))
    return TrainingSets(CONFIG.space, CONFIG.goals).of(history)


def sample(seed: int, ratio: float, n: int = 40, windows: int = 1) -> Dataset:
    """Noise of std 0.05 where x is 0, of `ratio` times that where it is 1."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    return data_of(X, 0.05 * ratio ** X[:, 0], rng, windows)


def slope(surrogate: Surrogate) -> list[float]:
    return list(surrogate["value"].hyperparameters["slope"])


@pytest.mark.parametrize("windows", [1, 3])
def test_the_score_is_the_slope_of_the_log_posterior(windows: int) -> None:
    rows = rows_of(sample(3, 5.0, 15, windows), SETTINGS, "value")
    b, theta = np.array([0.7, -0.4]), np.array([-1.0, -0.3, -2.0])

    def value(at: np.ndarray) -> float:
        uneven = log_posterior(rows.uneven(at[1:]), SETTINGS, learned=True)
        return float(uneven(np.append(theta[:-1], at[0]))[0]) + _own(rows, at[1:])

    gradient, information = _score(rows, log_posterior(rows.uneven(b), SETTINGS, learned=True), b, theta)
    at, h = np.append(theta[-1], b), 1e-5
    numeric = [(value(at + h * e) - value(at - h * e)) / (2.0 * h) for e in np.eye(3)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)
    assert (np.linalg.eigvalsh(information) > 0.0).all()


def test_the_information_is_the_variance_of_the_score() -> None:
    """By draws of the model itself, the prior's share left out."""
    rng = np.random.default_rng(0)
    X = rng.random((12, 2))
    rows, b, theta = rows_of(data_of(X, np.ones(12), rng), SETTINGS, "value"), np.array([1.0, -1.0]), np.zeros(3)
    density = log_posterior(rows.uneven(b), SETTINGS, learned=True)
    _, A = density.inverse(theta)
    root, scores = np.linalg.cholesky(np.linalg.inv(A)), []
    for _ in range(4000):
        drawn = Rows(**{f: getattr(rows, f) for f in rows.__slots__} | {"y": root @ rng.normal(size=12)})  # type: ignore[arg-type]
        scores.append(_score(drawn, log_posterior(drawn.uneven(b), SETTINGS, learned=True), b, theta)[0])
    _, information = _score(rows, density, b, theta)
    information -= np.diag([0.25, 1 / 9, 1 / 9])
    np.testing.assert_allclose(np.cov(np.array(scores).T), information, rtol=0.25, atol=0.1)


def test_noise_that_grows_is_found_and_told_where() -> None:
    found = []
    for seed in range(8):
        surrogate = fit(sample(seed, 20.0), SETTINGS, {})
        assert slope(surrogate), "seen in every sample"
        ends = np.array([[0.0, 0.5], [1.0, 0.5]])
        found.append(np.sqrt(surrogate["value"].noise_at(ends)))
    low, high = np.exp(np.mean(np.log(found), axis=0))
    assert 0.05 / 1.6 < low < 0.05 * 1.6
    assert 1.0 / 1.6 < high < 1.6


def test_the_scatter_inside_stays_tells_it_too() -> None:
    surrogate = fit(sample(0, 20.0, n=8, windows=5), SETTINGS, {})
    assert slope(surrogate)[0] == pytest.approx(2.0 * math.log(20.0), rel=0.4)


def test_even_noise_keeps_the_plain_model() -> None:
    assert sum(bool(slope(fit(sample(seed, 1.0), SETTINGS, {}))) for seed in range(40)) <= 1


def test_gross_outliers_are_not_taken_for_noise_that_grows() -> None:
    used = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.random((40, 2))
        std = np.where(rng.random(40) < 0.05, 3.0, 0.05)
        used += bool(slope(fit(data_of(X, std, rng), SETTINGS, {})))
    assert used <= 1


def test_what_is_expected_of_a_window_says_it_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log density of fresh windows, beside that of a fit with even noise."""

    def density(seed: int) -> float:
        gp, rng = fit(sample(seed, 20.0), SETTINGS, {})["value"], np.random.default_rng(100 + seed)
        X = rng.random((200, 2))
        mean, variance = gp.predict(X)
        total = variance + gp.noise_at(X)
        y = truth(X) + 0.05 * 20.0 ** X[:, 0] * rng.normal(size=200)
        return float(np.mean(-0.5 * np.log(total) - 0.5 * (y - mean) ** 2 / total))

    uneven = [density(seed) for seed in range(6)]
    monkeypatch.setattr("arqon_gp.mode.slope_of", lambda *_: None)
    monkeypatch.setattr("arqon_gp.surrogate.forgetting", lambda *_, **__: None)
    assert np.mean(uneven) > np.mean([density(seed) for seed in range(6)]) + 0.3, "nats a window"


def test_it_is_part_of_the_journal_and_seen_in_what_is_predicted(make: Make) -> None:
    config: dict[str, Any] = {"seed": 1, "budget": 60, "bounds": {"x": {"min": 0, "max": 1}}, "name": "grows"}
    rng, solver = np.random.default_rng(0), make(config)
    X = np.linspace(0.0, 1.0, 50).tolist()
    solver.seed([{"params": {"x": x}, "value": x + 0.01 * 40.0**x * float(rng.normal())} for x in X])
    assert solver.ask_one() is not None
    shown = solver.status()["model"]["hyperparameters"]["value"]
    assert shown["slope"][0] > 3.0
    quiet, loud = (solver._advisor.predict(solver._study, {"x": x}) for x in (0.02, 0.98))
    assert quiet is not None
    assert loud is not None
    width = [p["value"].upper - p["value"].lower for p in (quiet, loud)]
    assert width[1] > 8.0 * width[0]


@pytest.mark.parametrize("exact", [True, False])
def test_an_exact_outcome_and_one_of_few_rows_have_no_slope(exact: bool) -> None:
    settings = Settings(CONFIG.space, ("value",), frozenset({"value"} if exact else ()), {"value": -1})
    assert slope(fit(sample(0, 50.0, 40 if exact else 10), settings, {})) == []
