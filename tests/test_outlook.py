"""What the surrogate expects: the reference point of a front."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arqon_gp.config import parse
from arqon_gp.dataset import training_set
from arqon_gp.outlook import Outlook, reference_point
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import Baselined, Observation, Opened, Role, Told
from arqon_gp.study import Study
from arqon_gp.yardstick import yardstick

CONFIG: dict[str, Any] = {
    "seed": 1,
    "bounds": {"x": {"min": 0, "max": 1}},
    "objectives": {"qps": "max", "cost": "min"},
}


def reference(
    config: dict[str, Any], rows: list[tuple[float, float]], baseline: dict[str, float] | None = None
) -> list[float]:
    study = Study.new(parse(config)).apply(Opened({}, 0.0))
    told = tuple(
        Observation({"x": 0.1 * i}, {"qps": qps, "cost": cost}, Role.WARM) for i, (qps, cost) in enumerate(rows)
    )
    study = study.apply(Told(told, 0.0))
    if baseline:
        study = study.apply(Baselined(baseline, 0.0))
    data = training_set(study.history, study.config.space, study.config.goals)
    return reference_point(study, data, yardstick(study.history, study.config, study.baseline))


def test_it_lies_a_tenth_of_the_fronts_range_below_the_front_whatever_lies_far_behind() -> None:
    front = [(100.0, 20.0), (80.0, 10.0)]
    assert reference(CONFIG, front) == pytest.approx([78.0, 21.0])
    assert reference(CONFIG, [*front, (1.0, 500.0)]) == pytest.approx([78.0, 21.0])


def test_of_a_front_of_one_point_all_points_tell_the_range() -> None:
    assert reference(CONFIG, [(100.0, 10.0), (50.0, 30.0)]) == pytest.approx([45.0, 32.0])


def test_a_threshold_is_the_reference() -> None:
    config = CONFIG | {"objectives": {"qps": {"direction": "maximize", "threshold": 60}, "cost": "min"}}
    assert reference(config, [(100.0, 20.0), (80.0, 10.0)]) == pytest.approx([60.0, 21.0])


def test_under_guardrails_it_is_the_baseline_worsened_by_a_tenth_of_its_size() -> None:
    found = reference(CONFIG | {"guardrails": {}}, [(100.0, 20.0)] * 3, {"qps": 100.0, "cost": 20.0})
    assert found == pytest.approx([90.0, 22.0])


def test_a_baseline_near_zero_is_worsened_by_what_the_noise_makes_of_it() -> None:
    random = np.random.default_rng(0)
    rows = [(100.0, float(cost)) for cost in random.normal(0.0, 5.0, 12)]
    study = Study.new(parse(CONFIG | {"guardrails": {}})).apply(Opened({}, 0.0))
    told = tuple(Observation({"x": 0.5}, {"qps": qps, "cost": cost}, Role.WARM) for qps, cost in rows)
    study = study.apply(Told(told, 0.0)).apply(Baselined({"qps": 100.0, "cost": 0.001}, 0.0))
    data = training_set(study.history, study.config.space, study.config.goals)
    found = reference_point(study, data, yardstick(study.history, study.config, study.baseline))
    assert 0.5 < found[1] < 1.6, "a tenth of two window stds of 5"


def test_what_is_expected_of_a_config_is_told_by_all_others() -> None:
    """Of the config of one bad window as much is expected as of the others, and as surely."""
    config = parse({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": "max"}, "guardrails": {}})
    windows = [(0.3, 4112.0), (0.3, 4127.0), (0.3, 3964.0), (0.4, 4262.0), (0.4, 4074.0), (0.5, 2237.0)]
    told = Told(tuple(Observation({"x": x}, {"qps": qps}, Role.WINDOW) for x, qps in windows), 0.0)
    study = Study.new(config).apply(Opened({}, 0.0)).apply(told)
    expect = ModelAdvisor(config, device="cpu").expectation(study, yardstick(study.history, config, {}))
    mean, std = (expect({"x": 0.5}, {"x": 0.4}) or {})["qps"]
    assert abs(mean) < 60.0
    assert std < 100.0


@pytest.mark.parametrize(("mean", "std"), [(0.0, 3.0), (1.5, 2.0), (4.0, 3.0), (-2.0, 4.0)])
def test_a_lesson_is_worth_what_it_may_gain_beyond_half_of_what_matters(
    monkeypatch: pytest.MonkeyPatch, mean: float, std: float
) -> None:
    """Two windows of a config beside one that is known, by simulation of what they may tell; min_effect is 2."""
    config = parse({
        "seed": 1, "bounds": {"x": {"min": 0, "max": 1}}, "objectives": {"qps": {"direction": "max", "weight": 1.0}},
        "guardrails": {"min_effect": 2.0},
    })  # fmt: skip
    rng = np.random.default_rng(0)
    told = Told(tuple(Observation({"x": x}, {"qps": rng.normal()}, Role.WINDOW) for x in (0.1, 0.1, 0.5, 0.5)), 0.0)
    study = Study.new(config).apply(Opened({}, 0.0)).apply(told)
    found, yard = ModelAdvisor(config, device="cpu").outlook(study), yardstick(study.history, config, {})
    assert found is not None
    draws = mean + std * rng.standard_normal(400_000)
    monkeypatch.setattr(Outlook, "_apart", lambda *_: draws)
    monkeypatch.setattr(Outlook, "_unseen", lambda *_: 0.0)  # what may be where nothing is known
    gain, cost = found.lesson(yard, {"x": 0.9}, {"x": 0.5}, 2)
    seen = std**2 / np.sqrt(std**2 + yard.noise["utility"].variance / 2.0)
    apart = mean + seen * rng.standard_normal(400_000)
    assert gain == pytest.approx(np.maximum(apart - 1.0, 0.0).mean() - max(mean - 1.0, 0.0), abs=0.03)
    assert gain > 0.1
    assert cost == pytest.approx(-mean, abs=0.02)
