"""Robust evidence from windows, against brute force; utility and dominance by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from arqon_gp.config import parse
from arqon_gp.evidence import OUTLIER_SPREAD, PRIOR_DOF, Evidence, Noise, interval, p_below, p_beyond, window_noise
from arqon_gp.objectives import nondominated

NOISE = Noise(1.0, 1e6, 0.02)  # the variance is known


def brute(e: Evidence, n: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    """Draws from the prior with their importance weights, from the formulas of the model."""
    t = e.centre + e.scale * stats.t(PRIOR_DOF).rvs(n, random_state=np.random.default_rng(0))
    log_w = np.zeros(n)
    for y, known in zip(e.windows, e.known, strict=True):
        std = np.sqrt(1.0 + known)
        inlier, outlier = stats.norm.pdf(y, t, std), stats.norm.pdf(y, t, OUTLIER_SPREAD * std)
        log_w += np.log(0.98 * inlier + 0.02 * outlier)
    w = np.exp(log_w - log_w.max())
    return t, w / w.sum()


def evidence(*windows: float, known: float = 0.0, centre: float = 0.0, scale: float = 3.0) -> Evidence:
    return Evidence(np.array(windows), np.full(len(windows), known), centre, scale)


CASES = [evidence(), evidence(1.0), evidence(1.0, 2.0, 9.0), evidence(-1.0, -1.5, known=0.5), evidence(4.0, scale=0.3)]


@pytest.mark.parametrize("e", CASES)
def test_the_posterior_of_a_level_is_that_of_brute_force(e: Evidence) -> None:
    t, w = brute(e)
    mean, low, high = interval(e, NOISE)
    if len(e.windows):  # the prior alone has no finite third moment: its sample mean says little
        assert mean == pytest.approx(float((t * w).sum()), abs=0.03)
    assert w[t < low].sum() == pytest.approx(0.025, abs=0.006)
    assert w[t > high].sum() == pytest.approx(0.025, abs=0.006)
    for bound in (-1.0, 0.5, 2.0):
        assert p_beyond(e, bound, NOISE) == pytest.approx(float(w[t > bound].sum()), abs=0.01)


def test_of_two_windows_that_disagree_each_may_tell_the_truth() -> None:
    """Two narrow peaks under a wide prior, by a fine sum."""
    t = np.linspace(-3000.0, 3000.0, 1_200_001)
    p = stats.t(PRIOR_DOF, 10.0, 100.0).pdf(t)
    for y in (0.0, 20.0):
        p *= 0.98 * stats.norm.pdf(y, t, 1.0) + 0.02 * stats.norm.pdf(y, t, OUTLIER_SPREAD)
    total = np.cumsum(p) / p.sum()
    mean, low, high = interval(evidence(0.0, 20.0, centre=10.0, scale=100.0), NOISE)
    assert mean == pytest.approx(10.0, abs=0.05)
    assert (low, high) == (
        pytest.approx(np.interp(0.025, total, t), abs=0.05),
        pytest.approx(np.interp(0.975, total, t), abs=0.05),
    )


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e8])
@pytest.mark.parametrize("windows", [[3.0], [3.0] * 3, [3.0] * 9])
def test_a_prior_far_wider_than_the_windows_says_nothing_beside_them(scale: float, windows: list[float]) -> None:
    """Under a flat prior the level is as far from the windows as their mean may be, and rarely as an outlier."""
    e = evidence(*windows, centre=0.3 * scale, scale=scale)
    k = len(windows)
    t = np.linspace(-100.0, 106.0, 2_000_001)
    p = (0.98 * stats.norm.pdf(3.0, t, 1.0) + 0.02 * stats.norm.pdf(3.0, t, OUTLIER_SPREAD)) ** k
    for bound in (2.5, 3.0, 4.0, 20.0, 60.0):
        assert p_beyond(e, bound, NOISE) == pytest.approx(p[t > bound].sum() / p.sum(), abs=0.01)


def test_windows_that_are_all_zero_have_a_noise_one_can_divide_by() -> None:
    noise = window_noise(np.zeros(5), np.zeros(5, dtype=int))
    assert noise is not None
    assert noise.variance > 0
    zeros = evidence(0.0, 0.0)
    assert p_below(zeros, zeros, 1.0, noise) == pytest.approx(0.0, abs=1e-6)
    assert p_beyond(zeros, 0.01, noise) == pytest.approx(0.0, abs=1e-6)


def test_the_probability_of_being_worse_is_that_of_brute_force() -> None:
    a, b = evidence(0.0, 0.5), evidence(1.0, 2.0, 1.2)
    (ta, wa), (tb, wb) = brute(a), brute(b)
    random = np.random.default_rng(1)
    draws = random.choice(ta, 200_000, p=wa), random.choice(tb, 200_000, p=wb)
    assert p_below(a, b, 0.3, NOISE) == pytest.approx(float((draws[0] < draws[1] - 0.3).mean()), abs=0.01)
    assert p_below(a, b, 0.0, NOISE) + p_below(b, a, 0.0, NOISE) == pytest.approx(1.0, abs=1e-3)


def test_an_uncertain_window_variance_makes_less_sure() -> None:
    a, b = evidence(0.0), evidence(3.0, 3.0)
    assert p_below(a, b, 0.0, Noise(1.0, 3.0)) < p_below(a, b, 0.0, NOISE)


def test_one_outlier_does_not_convict_and_a_second_window_does() -> None:
    good = evidence(*[10.0 + 0.1 * i for i in range(10)], centre=10.0, scale=4.0)
    noise = Noise(1.0, 20.0)
    one = p_below(evidence(4.0, centre=10.0, scale=4.0), good, 0.1, noise)
    two = p_below(evidence(4.0, 4.3, centre=10.0, scale=4.0), good, 0.1, noise)
    assert one < 0.995
    assert two > one
    assert two > 0.99


def test_noise_is_learned_from_windows_of_one_config_and_outliers_do_not_blow_it_up() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 10)
    value = 5.0 * group + 2.0 * random.normal(size=200)
    clean = window_noise(value, group)
    assert clean is not None
    assert clean.std == pytest.approx(2.0, rel=0.1)
    value[::25] += 40.0
    dirty = window_noise(value, group)
    assert dirty is not None
    assert dirty.std == pytest.approx(2.0, rel=0.2)
    assert dirty.outliers == pytest.approx(0.04, abs=0.015)
    assert window_noise(value[::10], group[::10]) is None, "no config was measured twice"


BELIEVED = 0.5 * math.log(1.04) ** 2 / stats.chi2.ppf(0.001, 1)  # two windows that agree so contradict a wider prior


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e6])
def test_the_noise_of_a_log_series_does_not_depend_on_the_unit(unit: float) -> None:
    value = np.log(unit * np.array([100.0, 104.0, 98.0, 140.0]))
    found = window_noise(value, np.array([0, 0, 1, 2]), log=True)
    assert found is not None
    assert found.variance == pytest.approx((2.0 * min(0.25**2, BELIEVED) + 0.5 * math.log(1.04) ** 2) / 3.0, rel=1e-3)


def test_of_two_windows_that_contradict_each_other_either_may_be_the_outlier() -> None:
    """Eleven configs measured twice with a std of 0.03, and a backup during one of the windows."""
    group = np.repeat(np.arange(11), 2)
    value = group + 0.03 * np.random.default_rng(0).normal(size=22)
    value[13] += 0.7
    found = window_noise(value, group, prior=Noise(0.03**2, 2.0))
    assert found is not None
    assert found.std == pytest.approx(0.03, rel=0.25), "all are spread by 0.15 around their pairs' means"


def test_the_share_of_outliers_is_the_prior_share_of_three_percent_of_fifty_windows_and_those_seen() -> None:
    y = np.random.default_rng(2).normal(size=150)
    y[:30] *= 1000.0
    noise = window_noise(y, np.zeros(150, dtype=int))
    assert noise is not None
    assert noise.outliers == pytest.approx((0.03 * 50 + 30) / (50 + 150), abs=0.01)
    calm = window_noise(y[30:], np.zeros(120, dtype=int))
    assert calm is not None
    assert calm.outliers == pytest.approx(0.02, abs=0.003), "and never less"


def test_given_variance_is_taken_off_the_learned_one() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    found = window_noise(2.0 * random.normal(size=400), group, known=2.0)
    assert found is not None
    assert found.variance == pytest.approx(2.0, rel=0.25)


def test_weights_in_raw_units_give_the_seeds_score() -> None:
    objectives = {
        "qps": {"direction": "max", "weight": 10},
        "p99_ms": {"direction": "min", "weight": 1},
        "error_rate": {"direction": "min", "weight": 1000},
    }
    goals = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": objectives}).goals
    row = np.array([620.0, 35.0, 0.002])
    assert float(goals.utility({}, {})(row)) == pytest.approx(620 * 10 - 35 - 0.002 * 1000)
    assert np.isnan(goals.utility({}, {})(np.array([620.0, np.nan, 0.0])))


def test_the_default_utility_is_the_augmented_chebyshev_value() -> None:
    goals = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max", "cost": "min"}}).goals
    utility = goals.utility({"qps": 100.0, "cost": 10.0}, {"qps": 100.0, "cost": 10.0})
    better, worse = (120.0 - 100.0) / 100.0, -(12.0 - 10.0) / 10.0
    assert float(utility(np.array([120.0, 12.0]))) == pytest.approx(min(better, worse) + 0.05 * (better + worse))


def test_dominance_by_brute_force() -> None:
    Y = np.random.default_rng(0).integers(0, 5, size=(40, 3)).astype(float)

    def dominated(y: np.ndarray) -> bool:
        return any((z >= y).all() and (z > y).any() for z in Y)

    assert nondominated(Y).tolist() == [not dominated(y) for y in Y]
