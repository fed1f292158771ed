"""The active set of a long history: bounded, deterministic, covering, and near the best; telling, where rows fade."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from arqon_gp.active import MOST_ROWS, active_set
from arqon_gp.config import parse
from arqon_gp.dataset import Dataset, training_set
from arqon_gp.history import History
from arqon_gp.records import Observation, Role, Told
from arqon_gp.rows import FEASIBLE, TIME_UNIT, Hyperparameters, Settings, drifting, rows_of
from arqon_gp.surrogate import OutcomeGP, fit, seek

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


def fading(n: int, tau: float) -> tuple[Dataset, Settings, dict[str, Hyperparameters]]:
    """The bowl with the number of each row as a time, and how soon rows fade."""
    data, settings = bowl(n)
    settings = settings.drifting(time=True, regimes=1)
    h: Hyperparameters = {"lengthscale": [0.3, 0.3], "time": [tau / TIME_UNIT], "noise": [0.1], "mean": [0.0]}
    data = drifting(data, settings)
    return data, settings, {"value": h}


def test_where_rows_fade_those_are_chosen_that_tell_of_the_next_window() -> None:
    data, settings, known = fading(900, 400.0)
    data.X[-150:, :2] = [0.3, 0.6] + 0.1 * (data.X[-150:, :2] - 0.5)  # the loop has settled there
    rows, chosen = rows_of(data, settings, "value"), active_set(data, settings, known, 150)
    assert len(set(chosen.tolist())) == len(chosen) == 150
    assert chosen.tolist() == active_set(data, settings, known, 150).tolist()
    early, lately, settled = ((chosen < 300).sum(), ((chosen >= 450) & (chosen < 750)).sum(), (chosen >= 750).sum())
    assert 2 * early < lately > settled > 0, "newer rows, but no more of one place than tell something new"
    grid = np.column_stack([np.random.default_rng(1).random((200, 2)), np.full(200, 900 / TIME_UNIT)])

    def std_of_a_window(of: np.ndarray) -> np.ndarray:
        gp = OutcomeGP.of("value", rows.only(np.isin(np.arange(900), of)), known["value"], settings)
        return np.sqrt(gp.predict(grid)[1] + gp.noise)

    whole, few, latest = map(std_of_a_window, (np.arange(900), chosen, np.arange(750, 900)))
    assert np.log(few / whole).mean() < 0.01 < 0.1 < np.log(latest / whole).mean(), "nats, nearly"


def test_where_nothing_has_faded_time_changes_nothing() -> None:
    data, settings, known = fading(900, 1e6)
    still, timeless = bowl(900)
    h = {"value": known["value"] | {"time": []}}
    np.testing.assert_array_equal(active_set(data, settings, known, 150), active_set(still, timeless, h, 150))


def test_where_rows_fade_failures_are_remembered_and_every_outcome_has_its_share() -> None:
    data, settings, known = fading(900, 200.0)
    failed = np.zeros(900)
    failed[[3, 400]] = 1.0
    both = replace(settings, outcomes=("value", "other"))
    Y, count, floor = (np.column_stack([x, x]) for x in (data.Y, data.count, data.floor))
    Y[failed > 0], Y[::2, 1] = np.nan, np.nan
    stays = replace(data.stays, X=data.stays.X[:0], begins=data.stays.begins[:0])
    more = {"beyond": np.zeros((900, 2), dtype=bool), "worst": np.full(2, np.nan), "within_floor": np.zeros(2)}
    more |= {"room": np.full(2, np.inf)}
    two = replace(data, Y=Y, count=count, floor=floor, failed=failed, stays=stays, **more)
    chosen = active_set(two, both, known | {"other": known["value"]}, 100)
    assert {3, 400} <= set(chosen.tolist())
    assert len(chosen) == 100
    assert (chosen % 2 == 1).mean() > 0.6, "only every second row has the other outcome"


def test_only_failures_that_change_are_no_reason_to_fail() -> None:
    """No outcome has a time, but that windows fail does: the rows that the choice rests on have one then."""
    random, rows = np.random.default_rng(0), []
    for i in range(360):
        failed = i >= 300 and random.random() < 0.6
        x, y = random.random(2).tolist()
        values: dict[str, float | None] = {} if failed else {"value": (x - 0.3) ** 2 + 0.01 * float(random.normal())}
        rows.append(Observation({"x": x, "y": y}, values, Role.WARM, failed=failed))
    config = parse(CONFIG)
    data = training_set(History().apply(Told(tuple(rows), 0.0)), config.space, config.goals)
    settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
    known = seek(data.rows(np.arange(300)), settings, {})
    known[FEASIBLE] = known.get(FEASIBLE, known["value"]) | {"time": [1.0], "slope": [], "outliers": [], "excess": []}
    assert not known["value"]["time"]
    assert len(active_set(data, settings, known)) == MOST_ROWS


def test_now_is_the_latest_moment_and_not_that_of_the_row_that_came_last() -> None:
    config, random = parse(CONFIG), np.random.default_rng(0)

    def latest(*more: Observation) -> int:
        rows = [
            Observation(dict(zip("xy", u, strict=True)), {"value": float(random.normal())}, Role.WARM, time=60.0 * i)
            for i, u in enumerate(random.random((900, 2)).tolist())
        ]
        data = training_set(History().apply(Told((*rows, *more), 0.0)), config.space, config.goals)
        settings = Settings(config.space, config.goals.modelled, better=config.goals.better)
        h: Hyperparameters = {
            "lengthscale": [0.2, 0.2], "category": [], "time": [1.0], "regime": [], "noise": [0.05], "mean": [0.0],
            "slope": [], "outliers": [], "excess": [],
        }  # fmt: skip
        return int((chosen_of(data, settings, {"value": h}).at > 700).sum())

    old = Observation({"x": 0.5, "y": 0.5}, {"value": 0.0}, Role.HISTORY, time=60.0)
    assert latest(old) == latest() > 100


def test_after_a_jump_rows_tell_of_the_present_regime_and_some_of_what_was_before() -> None:
    data, plain = bowl(900)
    jumped = replace(data, regime=(np.arange(900) >= 700).astype(np.int64), regimes=2, current=1)
    settings = plain.drifting(time=False, regimes=2)
    known = {"value": seek(data.rows(np.arange(700)), plain, {})["value"] | {"regime": [0.3]}}
    chosen = active_set(drifting(jumped, settings), settings, known, 200)
    assert len(set(chosen.tolist())) == len(chosen) == 200
    before = chosen[chosen < 700]
    assert 20 <= len(before) < 100, "what is back is known by its rows; of the present most tell"
    assert np.ptp(data.X[before], axis=0).min() > 0.9, "they cover the space"
    alike = known["value"] | {"regime": [5.0]}
    assert (active_set(drifting(jumped, settings), settings, {"value": alike}, 200) < 700).mean() > 0.6, "nothing faded"
    back = replace(jumped, current=0)
    assert (active_set(drifting(back, settings), settings, known, 200) < 700).sum() > 120
