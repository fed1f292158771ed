"""Endless histories: kept whole, in little memory, and an ask that looks at a bounded part of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arqon_gp import ArqonSolver
from arqon_gp.active import _promising
from arqon_gp.config import parse
from arqon_gp.dataset import TrainingSets
from arqon_gp.history import History
from arqon_gp.journal import MemoryJournal
from arqon_gp.log import BATCH, BLOCK, KEPT, Batch, Columns, Log
from arqon_gp.propose import ModelAdvisor
from arqon_gp.records import Control, Kind, Label, Labelled, Observation, Role, Told, decode, encode
from arqon_gp.study import Study, replay
from arqon_gp.turn import yard_of
from arqon_gp.view import CELLS, DEEP, LATEST, STEP, WHOLE, View
from tests.conftest import Make
from tests.scripted import Script

FREE: dict[str, Any] = {"seed": 1, "bounds": {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}}
GUARDED = FREE | {"guardrails": {}}
MOST_IN_VIEW = STEP + LATEST + CELLS + DEEP * 12 + 4


def rows_of(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """n results spread over the square, with a bowl's values."""
    X = np.random.default_rng(seed).random((n, 2)).tolist()
    return [{"params": {"x": x, "y": y}, "value": (x - 0.3) ** 2 + (y - 0.6) ** 2} for x, y in X]


def observed(i: int, **more: Any) -> Observation:
    return Observation({"x": i / 7, "y": i % 5}, {"value": float(i)}, Role.WARM, **more)


def told(n: int, batch: int = 500) -> Study:
    """A study of n rows, told in batches."""
    study, X = Study.new(parse(FREE)), np.random.default_rng(0).random((n, 2)).tolist()
    rows = [Observation({"x": x, "y": y}, {"value": x * x + y}, Role.WARM) for x, y in X]
    for i in range(0, n, batch):
        study = study.apply(Told(Batch(rows[i : i + batch]), 0.0))
    return study


# ---- the log ------------------------------------------------------------

ODD = [
    Observation({"x": 1, "mode": "a", "on": True}, {"a": 1.5, "b": None}, Role.WARM),
    Observation({"x": 1.0, "mode": "b", "on": False}, {}, Role.WINDOW, failed=True, id="7", kind=Kind.EXPLORE),
    Observation({"x": -0.0, "mode": "a", "on": True}, {"b": 2**70, "a": -0.0}, Role.LATE, time=5.0, cost=2.5),  # type: ignore[dict-item]
    Observation({"x": 2, "mode": "a", "on": True}, {"a": float("nan")}, Role.EXTRA, sem={"a": 0.1}, eval_id=3),
    Observation({"x": 2**60, "mode": "c", "on": True}, {"a": None}, Role.WARM, control=Control({"x": 1}, {"a": 1.0})),
]


def test_columns_give_back_every_record_exactly_types_signs_and_gaps_included() -> None:
    for rows in (ODD, ODD[:1], ODD[1:3], [replace(ODD[0], id=str(i)) for i in range(9)]):
        columns = Columns(rows)
        assert [repr(row) for row in columns] == [repr(row) for row in rows]
        assert [repr(columns[i]) for i in range(len(rows))] == [repr(row) for row in rows]
        assert [repr(row) for row in columns[1:3]] == [repr(row) for row in rows[1:3]]


def test_a_log_is_the_sequence_of_its_records_however_they_came() -> None:
    random, records, log = np.random.default_rng(0), [], Log[Observation]((lambda row: row.id,))
    while len(records) < 3 * KEPT:
        size = int(random.choice([1, 3, BATCH - 1, BATCH, 400]))
        more = [observed(len(records) + i, id=str((len(records) + i) // 2)) for i in range(size)]
        log, records = log.extended(Batch(more) if size % 2 else more), records + more
    n = len(records)
    assert len(log) == n
    assert list(log) == records
    assert list(reversed(log)) == records[::-1]
    for i, j in ((0, n), (5, 6), (BLOCK - 1, 2 * KEPT), (n - KEPT - 3, n), (n - 2, n), (n, n), (-70, -1)):
        assert list(log[i:j]) == records[i:j]
    assert [log[i] for i in (0, 700, n - 1, -1, -KEPT - 5)] == [records[i] for i in (0, 700, n - 1, -1, -KEPT - 5)]
    assert log[::977] == tuple(records[::977])
    with pytest.raises(IndexError):
        log[n]
    for id in ("0", "300", str(n // 2 - 1)):
        wanted = [(i, row) for i, row in enumerate(records) if row.id == id]
        assert log.find(0, id) == wanted
        assert log.find(0, id, most=1) == wanted[-1:]
        assert log.number_of(0, id) == len(wanted) == 2
        assert log.find(0, id, since=wanted[-1][0]) == wanted[-1:]
    assert log.find(0, "none") == []
    assert log.number_of(0, "none") == 0


def test_every_version_of_a_log_stays_as_it_was() -> None:
    versions = [Log[Observation]()]
    for i in range(2 * BLOCK):
        versions.append(versions[-1].extended([observed(i)]))
    fork = versions[700].extended([observed(-1)])
    assert [len(log) for log in versions] == list(range(2 * BLOCK + 1))
    assert versions[700][-1] == observed(699)
    assert (fork[700], versions[-1][700]) == (observed(-1), observed(700))
    changed = versions[-1].replaced(3, observed(99)).replaced(2 * BLOCK - 1, observed(98))
    assert (changed[3], changed[-1]) == (observed(99), observed(98))
    assert (versions[-1][3], versions[-1][-1]) == (observed(3), observed(2 * BLOCK - 1))


def test_a_row_of_three_knobs_and_an_outcome_takes_32_bytes() -> None:
    rows = [
        Observation({name: float(x) for name, x in zip("xyz", each, strict=True)}, {"value": float(each[0])}, Role.WARM)
        for each in np.random.default_rng(0).random((1000, 3))
    ]
    columns = Columns(rows)
    assert columns.nbytes == 1000 * (3 + 1) * 8, "nothing else differs"


def test_a_journal_in_memory_shares_the_columns_of_a_large_batch_with_the_history(make: Make) -> None:
    journal = MemoryJournal()
    solver = make(FREE, journal=journal)
    solver.seed(rows_of(1000))
    kept = journal._events["default"][-1]
    assert isinstance(kept, Told)
    assert kept.observations is solver._study.history.rows.blocks[0]
    (event,) = [event for event in journal.read("default", 0) if isinstance(event, Told)]
    assert isinstance(event.observations, tuple)
    assert decode(encode(event)) == event


# ---- what is in view ------------------------------------------------------------


def test_up_to_a_thousand_results_everything_is_in_view_and_beyond_a_bounded_part() -> None:
    assert told(WHOLE).history.excerpt().numbers.tolist() == list(range(WHOLE))
    for n in (WHOLE + 1, 4000, 12_345):
        excerpt = told(n).history.excerpt()
        assert LATEST <= len(excerpt) <= MOST_IN_VIEW
        assert excerpt.numbers[-LATEST:].tolist() == list(range(n - LATEST, n)), "the latest results are"
        assert len(told(n).history.judged(())) <= WHOLE + 4


def test_what_is_in_view_does_not_depend_on_how_the_results_were_batched() -> None:
    one, other = told(2600, 500).history, told(2600, 37).history
    assert list(one.rows) == list(other.rows)
    assert one.excerpt().numbers.tolist() == other.excerpt().numbers.tolist()


def test_a_corner_that_was_measured_once_long_ago_stays_in_view_and_so_do_the_extremes() -> None:
    config, random = parse(FREE), np.random.default_rng(0)
    X = 0.5 + 0.02 * random.standard_normal((3000, 2))
    X[10], X[20] = (0.99, 0.01), (0.5, 0.5)
    rows = [
        Observation({"x": float(x), "y": float(y)}, {"value": 50.0 if i == 20 else 0.0}, Role.WARM)
        for i, (x, y) in enumerate(X)
    ]
    history = History(view=View(config.inputs, config.goals)).apply(Told(tuple(rows), 0.0))
    assert {10, 20} <= set(history.excerpt().numbers.tolist())
    assert 20 in history.judged(()).numbers, "what is best or worst of all is judged by all"


def test_what_is_measured_now_does_not_push_out_what_may_be_back() -> None:
    """Eleven configs in one world, the same in another; then the first is back, as the label says."""
    config = parse(FREE)

    def rows(n: int, value: float) -> Told:
        found = (Observation({"x": i % 11 / 10, "y": 0.5}, {"value": value + i % 11}, Role.WARM) for i in range(n))
        return Told(tuple(found), 0.0)

    def of(history: History, low: int, high: int) -> set[Any]:
        excerpt = history.excerpt()
        return {row.params["x"] for i, row in zip(excerpt.numbers, excerpt.rows, strict=True) if low <= i < high}

    history = History(view=View(config.inputs, config.goals)).apply(rows(330, 0.0))
    history = history.apply(Labelled(Label.DRIFT, "", 0.0, since=330)).apply(rows(3000, 100.0))
    assert len(of(history, 0, 330)) == 11
    assert history.view is not None
    assert (history.view.rows[np.unique(history.view._best()[0])] >= 330).all(), "what is best is best now"
    history = history.apply(Labelled(Label.DRIFT, "", 0.0, since=3330, like=0)).apply(rows(1200, 0.0))
    assert len(of(history, 330, 3330)) == 11
    for number in range(30):  # and many kinds leave room for the present one
        history = history.apply(Labelled(Label.DRIFT, "", 0.0, since=len(history))).apply(rows(400, float(number)))
    assert history.view is not None
    assert len(history.view.centres) <= CELLS
    assert (history.view.centres[:, -1] == history.view.latest[-1]).sum() == 11


@pytest.mark.parametrize("context", [{"load": {"min": 0, "max": 1000}}, {"hour": {"period": 24}}])
def test_what_was_best_by_night_stays_in_view_by_day(context: dict[str, Any]) -> None:
    """The level follows the load, and is most of the value; where that is 150 x = 0.2 is best, where it is 950, 0.8."""
    config, random, rows = parse(FREE | {"context": context}), np.random.default_rng(0), []
    for i in range(3000):
        load = 550.0 + 400.0 * float(np.sin(2.0 * np.pi * i / 288.0))
        x, best = float(random.random()), 0.2 + 0.6 * (load - 150.0) / 800.0
        value = -load + 300.0 * (x - best) ** 2 + float(random.normal())  # less is better
        known = {"load": load} if "load" in context else {"hour": i / 12.0 % 24.0}
        rows.append(Observation({"x": x, "y": 0.5}, {"value": value}, Role.WARM, context=known))
    view = Study.new(config).apply(Told(tuple(rows), 0.0)).history.view
    assert view is not None
    cells = view._best()[0]
    x, at = view.centres[cells, 0], view.centres[cells, 2]
    load = 1000.0 * at if "load" in context else 550.0 + 400.0 * np.sin(2.0 * np.pi * at)
    assert load.min() < 400.0 < 700.0 < load.max(), "not all of them where traffic is high"
    assert np.abs(x - 0.2 - 0.6 * (load - 150.0) / 800.0).max() < 0.3


def test_of_a_long_history_those_promise_most_that_are_good_for_their_context() -> None:
    config = parse(FREE | {"context": {"load": {"min": 0, "max": 1000}}})
    random, rows = np.random.default_rng(0), []
    for _ in range(500):
        load, (x, y) = 1000.0 * float(random.random()), random.random(2).tolist()
        value = -10.0 * load + 300.0 * (x - 0.4) ** 2 + float(random.normal())
        rows.append(Observation({"x": x, "y": y}, {"value": value}, Role.WARM, context={"load": load}))
    study = Study.new(config).apply(Told(tuple(rows), 0.0))
    found = ModelAdvisor(config, device="cpu").outlook(study)
    assert found is not None
    data, settings, h = found.data, found.fitted.settings, found.fitted.hyperparameters
    (order,) = _promising(data, settings, h, np.arange(0, len(data.X), 2), np.arange(len(data.X)))
    loads, x = data.X[order[:60], 2], data.X[order[:60], 0]
    assert np.ptp(loads) > 0.8
    assert 0.3 < loads.mean() < 0.7
    assert np.abs(x - 0.4).mean() < 0.15


def test_stays_end_where_results_are_not_in_view_and_keep_their_numbers() -> None:
    study = told(3000)
    same = tuple(Observation({"x": 0.5, "y": 0.5}, {"value": 1.0}, Role.WARM) for _ in range(1000))
    history = study.history.apply(Told(same, 0.0))
    data = TrainingSets(study.config.inputs, study.config.goals).of(history)
    last = data.keys[-1] == (0.5, 0.5)
    assert last
    assert data.count.sum() == len(history.excerpt())
    assert set(data.first.tolist()) <= set(history.excerpt().numbers.tolist())
    assert 4000 - data.first[-1] == data.count[-1, 0] <= 2 * max(STEP, LATEST)


# ---- asks ------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many records were made from columns, and how many a loop over a log went through."""
    count: Counter[str] = Counter()
    getitem, between, backwards = Columns.__getitem__, Log._between, Log.__reversed__

    def made(self: Any, at: Any) -> Any:
        found = getitem(self, at)
        count["made"] += len(found) if isinstance(at, slice) else 1
        return found

    def gone(walk: Any) -> Any:
        def through(*arguments: Any) -> Any:
            for record in walk(*arguments):
                count["gone through"] += 1
                yield record

        return through

    monkeypatch.setattr(Columns, "__getitem__", made)
    monkeypatch.setattr(Log, "_between", gone(between))
    monkeypatch.setattr(Log, "__reversed__", gone(backwards))
    return count


def window(solver: ArqonSolver, read: Counter[str], value: float) -> str:
    """An ask and a tell, which make no more records than are in view; the reason of the candidate."""
    read.clear()
    candidate = solver.ask_one()
    assert candidate is not None
    solver.seed([{"params": candidate, "id": candidate.id, "value": value}])
    assert read["made"] <= MOST_IN_VIEW
    return candidate.reason


@pytest.mark.parametrize("config", [FREE, GUARDED], ids=["free", "guarded"])
def test_after_twenty_thousand_results_an_ask_and_a_tell_go_through_as_many_as_are_in_view(
    make: Make, read: Counter[str], config: dict[str, Any]
) -> None:
    solver = make(config)
    for i in range(20):
        solver.seed(rows_of(1000, i))
    for k in range(6):
        window(solver, read, 0.1 + 0.01 * k)
        assert read["gone through"] <= 8 * WHOLE
    assert solver._model is not None
    assert len(solver._yardstick().windows.keys) <= WHOLE + 4 + 64
    assert solver.get_history_len() == 20_006


def test_watching_a_config_that_was_measured_ten_thousand_times_reads_few_of_them(
    make: Make, read: Counter[str]
) -> None:
    solver = make(GUARDED | {"exploration_budget": 0.0})
    for i in range(10):
        solver.seed([{"params": {"x": 0.5, "y": 0.5}, "value": 0.1 + 0.01 * (k % 7) + 1e-4 * i} for k in range(1000)])
    for k in range(6):
        reason = window(solver, read, 0.1 + 0.01 * k)
    assert "the best config known here" in reason


def test_status_and_recommend_of_a_long_study_read_few_of_its_results(make: Make, read: Counter[str]) -> None:
    solver = make(GUARDED | {"objectives": {"p99_ms": "min"}})
    for i in range(10):
        values = [0.0, *(10.0 + 0.1 * (k % 7) + 1e-3 * i for k in range(999))]
        solver.seed([{"params": {"x": 0.5, "y": 0.5}, "values": {"p99_ms": p99}} for p99 in values])
    solver.ask_one()
    read.clear()
    assert solver.status()["model"]["nonpositive"] == {"p99_ms": 10}
    found = solver.recommend()
    assert (found.params, found.windows) == ({"x": 0.5, "y": 0.5}, 10_000)
    assert read["made"] <= MOST_IN_VIEW
    assert read["gone through"] <= WHOLE


def test_last_good_is_judged_by_its_windows_however_long_ago_they_were(make: Make) -> None:
    solver = make(GUARDED)
    for _ in range(3):
        solver.ask_one()
        solver.seed([{"params": {"x": 0.5, "y": 0.5}, "value": 1.0}])
    solver.seed([row | {"history": True} for row in rows_of(2 * WHOLE)])
    study = solver._study
    assert study.guard.last_good == {"x": 0.5, "y": 0.5}
    windows = yard_of(study, Script(lambda *_: pytest.fail("no proposal is needed"))).windows  # type: ignore[arg-type]
    assert windows.numbers[windows.rows(study.guard.last_good, 0)].tolist() == [0, 1, 2]
    assert len(windows.keys) <= WHOLE + 3 + 4


# ---- nothing is lost ------------------------------------------------------------


def test_a_correction_reaches_a_row_of_long_ago_and_an_identity_is_known_forever(make: Make) -> None:
    solver = make(FREE)
    rows = [row | {"id": f"r{i}"} for i, row in enumerate(rows_of(3000))]
    for i in range(0, 3000, 1000):
        solver.seed(rows[i : i + 1000])
    solver.seed(rows[100:102])
    assert solver.get_history_len() == 3000, "known already"
    solver.seed([rows[5] | {"value": 7.0}, rows[2999] | {"value": 8.0}])
    history = solver.history()
    assert len(history) == solver.get_history_len() == 3000
    assert history["value"][[5, 2999]].tolist() == [7.0, 8.0]
    assert history["value"].drop([5, 2999]).tolist() == [rows[i]["value"] for i in range(3000) if i not in (5, 2999)]
    assert solver._study.history.corrected == 2


def test_a_reopened_journal_gives_the_same_study_and_the_same_candidate(make: Make) -> None:
    journal = MemoryJournal()
    solver = make(FREE, journal=journal)
    for i in range(3):
        solver.seed(rows_of(900, i))
    for k in range(3):
        candidate = solver.ask_one()
        assert candidate is not None
        solver.seed([{"params": candidate, "id": candidate.id, "value": 0.1 * k}])
    events = [decode(encode(event)) for event in journal.read("default", 0)]
    again = replay(solver._study.config, events)
    assert again.history.rows == solver._study.history.rows
    assert again.history.excerpt().numbers.tolist() == solver._study.history.excerpt().numbers.tolist()
    other = MemoryJournal()
    other.append("default", 0, events)
    reopened = make(FREE, journal=other)
    assert reopened.ask_one() == solver.ask_one()


def test_reports_of_a_long_history_are_of_all_of_it(make: Make) -> None:
    solver: ArqonSolver = make(FREE)
    solver.seed(rows_of(2500))
    candidate = solver.ask_one()
    assert candidate is not None
    solver.seed([{"params": candidate, "id": candidate.id, "value": 0.5}])
    assert solver.status()["history_len"] == len(solver.history()) == 2501
    assert [row["id"] for row in solver.windows()] == [candidate.id]
    assert solver.windows()[0]["utility"] == -0.5
    best = solver.recommend().params
    assert abs(best["x"] - 0.3) < 0.15 > abs(best["y"] - 0.6)
    assert len(solver.pareto_front()) >= 1
