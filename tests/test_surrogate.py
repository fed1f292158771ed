"""The surrogate: noise-aware, the same as BoTorch's, honest on degenerate data; stays are pooled rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.sampling import SobolQMCNormalSampler
from scipy.stats import multivariate_normal

from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.errors import FitError
from arqon_gp.history import History
from arqon_gp.levels import levels
from arqon_gp.mode import log_posterior
from arqon_gp.records import Label, Labelled, Observation, Role, Told
from arqon_gp.rows import FEASIBLE, NOISE_RANGE, Hyperparameters, Settings, lengthscale_prior, lengthscales, rows_of
from arqon_gp.surrogate import Surrogate, fit, restore
from arqon_gp.twin import single_task_gp
from arqon_kernels import covariance
from arqon_kernels.covariance import CATEGORY, CYCLE, NUMBER
from tests.by_gpytorch import objective, read

MIXED = {
    "seed": 1,
    "bounds": {
        "x": {"min": 0, "max": 1},
        "n": {"type": "int", "min": 1, "max": 64, "scale": "log"},
        "policy": {"type": "categorical", "choices": ["a", "b", "c"]},
    },
    "objectives": {"qps": "max", "p99_ms": "min"},
}
PLAIN = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}


def told(history: History, *rows: tuple[dict[str, Any], dict[str, float | None]], **more: Any) -> History:
    observations = tuple(Observation(params, values, Role.WINDOW, **more) for params, values in rows)
    return history.apply(Told(observations, 0.0))


def mixed_history(n: int = 14) -> History:
    """Random configs, each measured one to four times."""
    random, history = np.random.default_rng(0), History()
    for _ in range(n):
        params = {"x": random.random(), "n": int(random.integers(1, 65)), "policy": str(random.choice(list("abc")))}
        merit = math.sin(4 * params["x"]) + 0.2 * math.log(params["n"]) + (params["policy"] == "b")
        for _ in range(random.integers(1, 5)):
            values = {"qps": 100 + 10 * merit + random.normal(), "p99_ms": math.exp(2 - merit + 0.1 * random.normal())}
            history = told(history, (params, values))
    return history


def fitted(config: dict[str, Any], history: History, **more: Any) -> tuple[Surrogate, Dataset]:
    checked = parse(config)
    data = training_set(history, checked.space, checked.goals)
    settings = Settings(checked.space, checked.goals.modelled, checked.exact, checked.goals.better)
    return fit(data, settings, more.get("warm", {})), data


def gp_sample(n: int, noise_std: float, seed: int, lengthscale: float = 0.4) -> History:
    """A GP sample of unit variance with noise at random points."""
    random = np.random.default_rng(seed)
    X = random.random((n, 2))
    K = covariance(X, X, np.full(2, lengthscale)) + 1e-10 * np.eye(n)
    y = np.linalg.cholesky(K) @ random.normal(size=n) + noise_std * random.normal(size=n)
    history = History()
    for x, value in zip(X, y, strict=True):
        history = told(history, ({"x": x[0], "y": x[1]}, {"value": value}))
    return history


def test_the_numpy_posterior_is_that_of_the_botorch_model() -> None:
    surrogate, data = fitted(MIXED, mixed_history())
    space = parse(MIXED).space
    X = np.array([space.encode({"x": 0.1 * i, "n": 3 * i + 1, "policy": "abc"[i % 3]}) for i in range(9)])
    posterior = surrogate.botorch_model().posterior(torch.as_tensor(X))
    mean, variance = posterior.mean.detach().numpy(), posterior.variance.detach().numpy()
    assert (data.count > 1).any(), "there are pooled rows"
    for j, gp in enumerate(surrogate.outcomes):
        ours, spread = gp.predict(X)
        np.testing.assert_allclose((ours - gp.rows.shift) / gp.rows.scale, mean[:, j], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(spread / gp.rows.scale**2, variance[:, j], rtol=1e-6, atol=1e-9)
        joint_mean, joint = gp.joint(X)
        np.testing.assert_allclose(joint_mean, ours, rtol=1e-9)
        np.testing.assert_allclose(np.diag(joint), spread, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exact", [False, True])
def test_the_botorch_twin_has_the_same_joint_posterior_gradients_included(seed: int, exact: bool) -> None:
    config = PLAIN | ({"noise": {"value": "exact"}} if exact else {})
    surrogate, _ = fitted(config, gp_sample(12, 0.0 if exact else 0.3, seed=seed))
    gp, X = surrogate["value"], np.random.default_rng(seed).random((6, 2))
    there = torch.tensor(X, requires_grad=True)
    posterior = gp.botorch_model().posterior(there)
    mean, joint = gp.joint(X)
    np.testing.assert_allclose(
        (mean - gp.rows.shift) / gp.rows.scale, posterior.mean.detach().numpy()[:, 0], rtol=1e-6, atol=1e-9
    )
    theirs = posterior.mvn.covariance_matrix.detach().numpy()
    np.testing.assert_allclose(joint / gp.rows.scale**2, theirs, rtol=1e-6, atol=1e-8)
    (slope,) = torch.autograd.grad(posterior.mean.sum(), there)
    h = 1e-6 * np.array([1.0, 0.0])
    expected = (gp.predict(X + h)[0] - gp.predict(X - h)[0]) / 2e-6 / gp.rows.scale
    np.testing.assert_allclose(slope.numpy()[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_the_twin_of_a_circle_has_the_same_posterior_across_the_seam_and_the_same_slope() -> None:
    bounds = {"x": {"min": 0, "max": 1}, "hour": {"min": 0, "max": 24, "scale": "periodic"}}
    random, history = np.random.default_rng(0), History()
    for x, hour in random.random((14, 2)) * [1.0, 24.0]:
        value = x + math.cos(2 * math.pi * (hour - 23.0) / 24.0) + 0.05 * random.normal()
        history = told(history, ({"x": x, "hour": hour}, {"value": value}))
    gp = fitted({"seed": 1, "bounds": bounds}, history)[0]["value"]
    X = np.column_stack([np.full(7, 0.4), np.linspace(0.9, 1.1, 7)])
    turned = X - [0.0, 1.0]
    np.testing.assert_allclose(gp.predict(X), gp.predict(turned), rtol=1e-9)
    there = torch.tensor(X, requires_grad=True)
    posterior = gp.botorch_model().posterior(there)
    np.testing.assert_allclose(posterior.mean.detach()[:, 0], (gp.predict(X)[0] - gp.rows.shift) / gp.rows.scale)
    np.testing.assert_allclose(posterior.variance.detach()[:, 0], gp.predict(X)[1] / gp.rows.scale**2, rtol=1e-6)
    (slope,) = torch.autograd.grad(posterior.mean.sum(), there)
    step = np.array([0.0, 1e-6])
    expected = (gp.predict(X + step)[0] - gp.predict(X - step)[0]) / 2e-6 / gp.rows.scale
    np.testing.assert_allclose(slope[:, 1], expected, rtol=1e-5, atol=1e-6)


def test_any_botorch_acquisition_runs_on_the_botorch_model() -> None:
    surrogate, data = fitted(PLAIN, gp_sample(10, 0.3, seed=2))
    gp, at = surrogate["value"], np.array([[0.3, 0.7], [0.9, 0.2]])
    target = qLogNoisyExpectedImprovement(
        surrogate.botorch_model(), torch.as_tensor(data.X), sampler=SobolQMCNormalSampler(torch.Size([4096]), seed=1)
    )
    found = target(torch.as_tensor(at).unsqueeze(-2)).exp().detach().numpy()
    random = np.random.default_rng(0)
    for x, value in zip(at, found, strict=True):
        mean, joint = gp.joint(np.vstack([data.X, x]))
        draws = random.multivariate_normal(mean, joint, size=100_000) / gp.rows.scale
        expected = float(np.maximum(draws[:, -1] - draws[:, :-1].max(axis=1), 0.0).mean())
        assert value == pytest.approx(expected, rel=0.1, abs=2e-3)


def density_of(h: Hyperparameters, data: Dataset, settings: Settings) -> float:
    """Log posterior density of one outcome's hyperparameters."""
    rows = rows_of(data, settings, "value")
    theta = np.log(np.append(lengthscales(h, settings), h["noise"][0]))
    return float(log_posterior(rows, settings, learned=True)(theta)[0])


@pytest.mark.parametrize("seed", range(10))
def test_the_fit_is_at_least_as_dense_as_that_of_botorch(seed: int) -> None:
    random = np.random.default_rng(seed)
    config, n = parse(MIXED | {"objectives": {"value": "max"}}) if seed % 2 else parse(PLAIN), 6 + 3 * seed
    history, noise = History(), float(random.choice([0.05, 0.3, 1.0]))
    for _ in range(n):
        u, policy = random.random(2), str(random.choice(list("abc")))
        params = {"x": u[0], "n": int(1 + 63 * u[1]), "policy": policy} if seed % 2 else {"x": u[0], "y": u[1]}
        value = math.sin(7 * u[0]) * math.cos(4 * u[1]) + (policy == "b") * (seed % 2) + noise * random.normal()
        history = told(history, (params, {"value": value}))
    data, settings = training_set(history, config.space, config.goals), Settings(config.space, ("value",))
    ours = fit(data, settings, {})["value"].hyperparameters
    rows = rows_of(data, settings, "value")
    d = (len(settings.numeric), len(settings.categorical))
    cold = {"lengthscale": [1.0] * d[0], "category": [1.0] * d[1], "noise": [0.05], "mean": [0.0]}
    model = single_task_gp(rows, settings, cold, torch.device("cpu"), learned=True)
    fit_gpytorch_mll(objective(model, rows))
    theirs = read(model, settings)
    assert density_of(ours, data, settings) >= density_of(theirs, data, settings) - 1e-3


def test_restored_from_its_hyperparameters_it_is_the_same_to_the_bit() -> None:
    surrogate, data = fitted(MIXED, mixed_history())
    again = restore(data, surrogate.settings, surrogate.hyperparameters)
    X = np.random.default_rng(0).random((5, 3))
    for before, after in zip(surrogate.outcomes, again.outcomes, strict=True):
        for a, b in zip(before.predict(X), after.predict(X), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_posterior_without_a_config_is_that_of_the_other_rows() -> None:
    surrogate, data = fitted(PLAIN, gp_sample(9, 0.3, seed=4))
    gone, X = data.params[3], np.random.default_rng(1).random((4, 2))
    gp = surrogate["value"]
    mean, joint = gp.without(gone).joint(X)
    keep = np.arange(9) != 3
    h, X_others = gp.hyperparameters, data.X[keep]
    scale = np.array(h["lengthscale"])
    K, k = covariance(X_others, X_others, scale) + h["noise"][0] * np.eye(8), covariance(X, X_others, scale)
    expected = h["mean"][0] + k @ np.linalg.solve(K, gp.rows.y[keep] - h["mean"][0])
    spread = covariance(X, X, scale) - k @ np.linalg.solve(K, k.T)
    np.testing.assert_allclose((mean - gp.rows.shift) / gp.rows.scale, expected, rtol=1e-9)
    np.testing.assert_allclose(joint / gp.rows.scale**2, spread, rtol=1e-8, atol=1e-12)
    everything, _ = fitted(PLAIN, told(History(), ({"x": 0.5, "y": 0.5}, {"value": 2.0})))
    alone, prior = everything["value"].without({"x": 0.5, "y": 0.5}).joint(X)
    np.testing.assert_allclose(alone, 2.0, rtol=1e-12)
    np.testing.assert_allclose(np.diag(prior), everything["value"].rows.scale ** 2, rtol=1e-12)


def test_what_is_unaware_of_a_config_has_the_mean_and_the_scale_of_the_others() -> None:
    """One of nine is far off: without it nothing is known to lie that far down, and nothing that far apart."""
    rows = [({"x": 0.1 * i, "y": 0.5}, {"value": 100.0 + (-1) ** i}) for i in range(8)]
    far = {"x": 0.9, "y": 0.5}
    surrogate, _ = fitted(PLAIN, told(History(), *rows, (far, {"value": 10.0})))
    gp, at = surrogate["value"], np.array([[0.9, 0.5]])
    (without, prior), (mean, doubt) = gp.without(far).joint(at), gp.unaware(far, at)
    assert mean[0] == pytest.approx(100.0, abs=2.0)
    assert abs(without[0] - 100.0) > abs(mean[0] - 100.0)
    assert doubt[0, 0] < 0.01 * prior[0, 0]
    others, h = gp.rows.only(np.arange(9) != 8), gp.hyperparameters
    scale = np.array(h["lengthscale"])
    K, k = (
        covariance(others.X, others.X, scale) + np.diag(h["noise"][0] + others.floor),
        covariance(at, others.X, scale),
    )
    level = np.linalg.solve(K, others.y).sum() / np.linalg.solve(K, np.ones(8)).sum()
    expected = level + k @ np.linalg.solve(K, others.y - level)
    np.testing.assert_allclose((mean - gp.rows.shift) / gp.rows.scale, expected, rtol=1e-8)
    other = {"x": 0.85, "y": 0.5}
    for ours, all_of_it in zip(gp.unaware(other, at), gp.joint(at), strict=True):
        np.testing.assert_array_equal(ours, all_of_it, "what was never measured is forgotten already")


def test_pooled_rows_predict_what_single_windows_would() -> None:
    history = told(History(), *[({"x": 0.2, "y": 0.5}, {"value": v}) for v in (1.0, 1.4, 0.9)])
    history = told(history, ({"x": 0.7, "y": 0.1}, {"value": 3.0}))
    surrogate, _ = fitted(PLAIN, history)
    gp, h = surrogate["value"], surrogate["value"].hyperparameters
    X = np.array([[0.2, 0.5]] * 3 + [[0.7, 0.1]])
    y = (np.array([1.0, 1.4, 0.9, 3.0]) - gp.rows.shift) / gp.rows.scale
    at = np.array([[0.4, 0.4]])
    scale = np.array(h["lengthscale"])
    K = covariance(X, X, scale) + h["noise"][0] * np.eye(4)
    k = covariance(at, X, scale)
    mean = h["mean"][0] + k @ np.linalg.solve(K, y - h["mean"][0])
    variance = 1.0 - k @ np.linalg.solve(K, k.T)
    ours, spread = gp.predict(at)
    assert (ours[0] - gp.rows.shift) / gp.rows.scale == pytest.approx(mean[0], rel=1e-9)
    assert spread[0] / gp.rows.scale**2 == pytest.approx(variance[0, 0], rel=1e-9)


def test_the_pooled_likelihood_is_that_of_the_single_windows_up_to_a_constant() -> None:
    X, y = np.array([[0.2], [0.2], [0.2], [0.7]]), np.array([1.0, 1.4, 0.9, -0.5])
    means, count = np.array([y[:3].mean(), y[3]]), np.array([3.0, 1.0])
    ss, dof = float(((y[:3] - y[:3].mean()) ** 2).sum()), 2.0

    def single(noise: float) -> float:
        return float(multivariate_normal.logpdf(y, cov=covariance(X, X, np.array([0.5])) + noise * np.eye(4)))

    def pooled(noise: float) -> float:
        K = covariance(X[[0, 3]], X[[0, 3]], np.array([0.5])) + np.diag(noise / count)
        scatter = -0.5 * dof * math.log(noise) - 0.5 * ss / noise
        return float(multivariate_normal.logpdf(means, cov=K)) + scatter

    assert single(0.3) - single(0.05) == pytest.approx(pooled(0.3) - pooled(0.05), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_with_noise_of_20_percent_of_the_range_no_lengthscale_ends_at_its_bound(seed: int) -> None:
    surrogate, _ = fitted(PLAIN, gp_sample(28, noise_std=0.8, seed=seed))
    h = surrogate["value"].hyperparameters
    assert min(h["lengthscale"]) > 0.03, "the lower bound is .025"
    assert h["noise"][0] > 10 * NOISE_RANGE[0], "noise is not explained away as signal"


def test_learned_noise_is_that_of_the_windows_and_a_stay_is_one_row() -> None:
    random, history = np.random.default_rng(3), History()
    for x in np.linspace(0, 1, 8):
        for _ in range(12):
            history = told(history, ({"x": float(x), "y": 0.5}, {"value": math.sin(5 * x) + 0.3 * random.normal()}))
    surrogate, data = fitted(PLAIN, history)
    assert len(data.X) == 8
    assert len(history) == 96
    assert math.sqrt(surrogate["value"].noise) == pytest.approx(0.3, rel=0.15)


def test_waiting_adds_no_row_but_going_back_does() -> None:
    config = parse(PLAIN)
    here, there = {"x": 0.1, "y": 0.1}, {"x": 0.2, "y": 0.1}
    history = told(History(), *[(p, {"value": 1.0}) for p in (here, here, there, here, here, here)])
    data = training_set(history, config.space, config.goals)
    assert data.count[:, 0].tolist() == [2, 1, 3]


def test_the_better_of_a_cold_and_a_warm_fit_is_kept() -> None:
    history = gp_sample(15, 0.3, seed=1)
    cold, _ = fitted(PLAIN, history)
    bad = {"value": {"lengthscale": [30.0, 30.0], "category": [], "noise": [5.0], "mean": [0.0]}}
    warm, _ = fitted(PLAIN, history, warm=bad)
    np.testing.assert_allclose(
        warm["value"].hyperparameters["lengthscale"], cold["value"].hyperparameters["lengthscale"], rtol=0.05
    )


def test_given_standard_errors_are_a_floor() -> None:
    rows = [({"x": 0.1 * i, "y": 0.5}, {"value": math.sin(i)}) for i in range(8)]
    plain, _ = fitted(PLAIN, told(History(), *rows))
    floored, data = fitted(PLAIN, told(History(), *rows, sem={"value": 0.5}))
    assert data.floor[:, 0] == pytest.approx(0.25)
    at = np.array([[0.3, 0.5]])
    assert floored["value"].predict(at)[1][0] > plain["value"].predict(at)[1][0]


def test_exact_outcomes_have_no_noise() -> None:
    config = PLAIN | {"noise": {"value": "exact"}}
    rows = [({"x": 0.1 * i, "y": 0.5}, {"value": float(i % 3)}) for i in range(8)]
    surrogate, _ = fitted(config, told(History(), *rows))
    mean, _ = surrogate["value"].predict(np.array([[0.1 * i, 0.5] for i in range(8)]))
    np.testing.assert_allclose(mean, [i % 3 for i in range(8)], atol=1e-3)


@pytest.mark.parametrize(
    "values",
    [[1.0], [1.0, 1.0, 1.0], [5.0] * 6, [1e9, 1e9 + 1e-3], [1e-12, 2e-12, 3e-12], [1.0, None, 2.0], [0.0, 0.0]],
)
@pytest.mark.parametrize("apart", [0.1, 1e-9, 0.0])
def test_degenerate_data_is_fitted_and_predicts_finite_numbers(values: list[float | None], apart: float) -> None:
    rows = [({"x": 0.3 + apart * i, "y": 0.5}, {"value": v}) for i, v in enumerate(values)]
    surrogate, _ = fitted(PLAIN, told(History(), *rows))
    mean, variance = surrogate["value"].predict(np.array([[0.3, 0.5], [0.9, 0.9]]))
    assert np.isfinite(mean).all()
    assert (variance > 0).all()


def test_without_a_single_value_there_is_no_surrogate() -> None:
    with pytest.raises(FitError, match="no window has the outcome 'value' yet"):
        fitted(PLAIN, told(History(), ({"x": 0.5, "y": 0.5}, {"value": None})))


def test_failures_are_an_outcome_of_their_own_never_imputed() -> None:
    history = told(History(), *[({"x": x, "y": 0.5}, {"value": x}) for x in (0.1, 0.2, 0.3, 0.4)])
    assert FEASIBLE not in fitted(PLAIN, history)[0]
    history = told(history, *[({"x": x, "y": 0.5}, {}) for x in (0.8, 0.9)], failed=True)
    surrogate, data = fitted(PLAIN, history)
    assert np.isnan(data.Y[-2:]).all()
    mean, _ = surrogate[FEASIBLE].predict(np.array([[0.2, 0.5], [0.9, 0.5]]))
    assert mean[0] > 0.7 > 0.5 > mean[1]


def test_log_outcomes_are_modelled_in_log_space_and_nonpositive_ones_are_missing() -> None:
    config = PLAIN | {"objectives": {"p99_ms": "min"}}
    checked = parse(config)
    history = told(History(), *[({"x": 0.1 * i, "y": 0.5}, {"p99_ms": v}) for i, v in enumerate([1.0, math.e, 0.0])])
    data = training_set(history, checked.space, checked.goals)
    np.testing.assert_allclose(data.Y[:, 0], [0.0, 1.0, np.nan])


def test_a_regime_is_an_additive_level_found_from_what_was_measured_in_both() -> None:
    config, random = parse(PLAIN), np.random.default_rng(0)
    configs = [{"x": 0.1 * i, "y": 0.5} for i in range(5)]
    history = History()
    for p in configs * 3:
        history = told(history, (p, {"value": p["x"] + 0.01 * random.normal()}))
    history = history.apply(Labelled(Label.DRIFT, "sank", 0.0, since=len(history)))
    for p in configs[:3] * 2:
        history = told(history, (p, {"value": p["x"] + 5.0 + 0.01 * random.normal()}))
    found = levels(history, config.goals)
    assert found.shift[:, 0] == pytest.approx([5.0, 0.0], abs=0.02)
    data = training_set(history, config.space, config.goals)
    np.testing.assert_allclose(data.Y[:, 0], data.X[:, 0] + 5.0, atol=0.05)


def test_without_forgets_every_row_of_a_config() -> None:
    config = parse(PLAIN)
    here, there = {"x": 0.1, "y": 0.1}, {"x": 0.2, "y": 0.1}
    history = told(History(), *[(p, {"value": 1.0}) for p in (here, there, here)])
    data = training_set(history, config.space, config.goals).without(here)
    assert data.params == (there,)
    assert all(len(getattr(data, name)) == 1 for name in ("X", "Y", "count", "floor", "failed", "tried"))
    assert data.stays.scatter(0, lambda W: np.zeros(len(W)))[1].sum() == 0.0


def test_the_depth_of_a_cliff_does_not_set_the_scale_of_everything() -> None:
    rows = [({"x": 0.1 * i, "y": 0.5}, {"value": math.sin(3 * 0.1 * i)}) for i in range(10)]
    plain, _ = fitted(PLAIN, told(History(), *rows))
    cliff, data = fitted(PLAIN, told(History(), *rows, ({"x": 1.0, "y": 0.0}, {"value": 28_000.0})))
    assert cliff["value"].rows.scale < 5.0 * plain["value"].rows.scale
    assert data.Y.max() == 28_000.0, "the dataset keeps what was measured"
    at = np.array([[0.25, 0.5]])
    assert cliff["value"].predict(at)[0][0] == pytest.approx(math.sin(0.75), abs=0.15)
    assert cliff["value"].predict(np.array([[1.0, 0.0]]))[0][0] > 2.0, "it still looks bad there"


def test_the_good_side_is_never_clipped() -> None:
    rows = [({"x": 0.1 * i, "y": 0.5}, {"value": 0.01 * i}) for i in range(10)]
    surrogate, _ = fitted(PLAIN, told(History(), *rows, ({"x": 1.0, "y": 0.0}, {"value": -500.0})))
    gp = surrogate["value"].rows
    assert (gp.y * gp.scale + gp.shift).min() == pytest.approx(-500.0)


def test_how_deep_a_cliff_is_is_told_by_all_rows_not_by_those_that_are_kept() -> None:
    rows = [({"x": 0.01 * i, "y": 0.5}, {"value": 0.001 * i if i < 30 else float(i)}) for i in range(60)]
    surrogate, data = fitted(PLAIN, told(History(), *rows))
    whole, kept = (rows_of(of, surrogate.settings, "value") for of in (data, data.rows(np.arange(35))))
    np.testing.assert_allclose(kept.y * kept.scale + kept.shift, (whole.y * whole.scale + whole.shift)[:35])


def test_with_few_rows_and_much_noise_no_knob_looks_flat() -> None:
    config, longest = {"seed": 1, "bounds": {name: {"min": 0, "max": 1} for name in "abcd"}}, []
    for seed in range(6):
        random, history = np.random.default_rng(seed), History()
        for x in random.random((12, 4)).tolist():
            value = x[0] + 0.3 * float(random.normal())
            history = told(history, (dict(zip("abcd", x, strict=True)), {"value": value}))
        surrogate, _ = fitted(config, history)
        longest.append(max(surrogate["value"].hyperparameters["lengthscale"]))
    assert max(longest) < 0.9, "1.13 with BoTorch's prior"


def test_what_kind_of_input_a_knob_is() -> None:
    bounds = {
        "x": {"min": 0, "max": 1},
        "hour": {"type": "int", "min": 0, "max": 24, "scale": "periodic"},
        "policy": {"type": "categorical", "choices": ["a", "b"]},
        "level": {"type": "categorical", "choices": ["low", "mid", "high"], "ordered": True},
        "on": {"type": "bool"},
    }
    config = parse({"seed": 1, "bounds": bounds})
    settings = Settings(config.space, config.goals.modelled)
    assert settings.kinds.tolist() == [NUMBER, CYCLE, CATEGORY, NUMBER, CATEGORY]
    assert (settings.numeric, settings.categorical) == ([0, 1, 3], [2, 4])


def test_the_prior_of_the_lengthscales_narrows_with_the_number_of_knobs_and_keeps_its_mode() -> None:
    for d, expected in ((1, 1.0), (5, 1.0), (20, 0.5), (45, 1.0 / 3.0)):
        loc, scale = lengthscale_prior(d)
        assert scale == pytest.approx(expected)
        assert loc - scale**2 == pytest.approx(math.sqrt(2.0) - 3.0 + 0.5 * math.log(d))
