"""What every journal promises, and what the one on disk promises beyond."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, ConfigMismatch, JournalError, StudyHeld, records
from arqon_gp.journal import Journal, MemoryJournal, open_journal
from arqon_gp.journal.sqlite import SqliteJournal
from arqon_gp.records import Candidate, Event, Kind, Observation, Prediction, Role, decode, encode

ODD = 0.1 + 0.2  # not 0.3
PARAMS = {"x": ODD, "n": 3, "policy": "lru", "on": True}
SAMPLES: dict[type, Event] = {
    type(event): event
    for event in (
        records.Opened({"seed": 1, "bounds": {"x": {"min": 0.0, "max": ODD}}}, 1.5),
        records.Issued(
            "7", 9, Kind.EXPLORE, PARAMS, "why", ODD, True, {"y": Prediction(1.0, ODD, 2e300)}, 5e-324, True, 0.1, 0.5
        ),
        records.Situated({"load": ODD, "hour": 23.5}, 2.5),
        records.Told(
            (
                Observation(PARAMS, {"y": ODD, "z": None}, Role.WINDOW, cost=300.0, id="7", kind=Kind.EXPLORE),
                Observation(PARAMS, {"y": ODD}, Role.WARM, context={"load": ODD, "hour": 0.0}),
                Observation(PARAMS, {}, Role.LATE, failed=True, eval_id="run 3", sem={"y": 0.5}, time=12.0),
                Observation(PARAMS, {"y": ODD}, Role.WINDOW, control=records.Control(PARAMS, {"y": ODD, "z": None})),
            ),
            2.0,
        ),
        records.Refitted({"y": {"lengthscale": [ODD, 1 / 3], "noise": [1e-4]}}),
        records.Baselined({"y": math.pi}, 3.0),
        records.Expired("7", 4.0),
        records.Cancelled("7", None, 5.0),
        records.Paused(6.0),
        records.Resumed(7.0),
        records.RollbackOrdered(8.0),
        records.Enqueued(PARAMS, 8.5),
        records.Dequeued("out of reach", 8.6),
        records.Closed(9.0),
        records.Promoted(PARAMS, 10.0, "better"),
        records.Suspected(PARAMS, records.Cause.LIMIT, 0.97, True, "slow", 11.0, "y"),
        records.Labelled(records.Label.DRIFT, "sank", 12.0, 4, 1),
        records.Unchanged("as well without", 12.5),
        records.SafeModeEntered("trouble", 3600.0, 13.0),
        records.SafeModeLeft("calm", 14.0),
        records.Settling(PARAMS, "budget", 15.0),
        records.Finished(PARAMS, 16.0),
    )
}


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_survives_the_way_through_json_to_the_last_bit(kind: type) -> None:
    event = SAMPLES[kind]
    assert decode(encode(event)) == event
    assert encode(decode(encode(event))) == encode(event)
    assert '"v":1' in encode(event)


NEWER = '{"event":{"type":"paused","at":1.0},"v":2}'
UNKNOWN = '{"event":{"type":"x"},"v":1}'


@pytest.mark.parametrize("text", ["", "{}", NEWER, UNKNOWN])
def test_a_damaged_event_or_a_newer_format_is_said(text: str) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        decode(text)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    made = MemoryJournal() if request.param == "memory" else SqliteJournal(str(tmp_path / "journal.db"))
    yield made
    made.close()


def paused(*moments: float) -> list[Event]:
    return [records.Paused(at) for at in moments]


def test_events_are_read_in_the_order_they_were_appended(journal: Journal) -> None:
    journal.append("a", 0, paused(1, 2))
    journal.append("a", 2, paused(3))
    assert list(journal.read("a", 0)) == paused(1, 2, 3)
    assert list(journal.read("a", 2)) == paused(3)
    assert list(journal.read("a", 3)) == []


def test_studies_are_kept_apart(journal: Journal) -> None:
    journal.append("a", 0, paused(1))
    journal.append("a b/c", 0, paused(2))
    assert list(journal.read("a", 0)) == paused(1)
    assert list(journal.read("a b/c", 0)) == paused(2)
    assert list(journal.read("nobody", 0)) == []


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_append_behind_another_length_adds_nothing(journal: Journal, after: int) -> None:
    journal.append("a", 0, paused(1, 2))
    with pytest.raises(JournalError, match=f"has 2 events, not {after}"):
        journal.append("a", after, paused(9))
    assert list(journal.read("a", 0)) == paused(1, 2)
    journal.append("a", 2, paused(3))
    assert list(journal.read("a", 0)) == paused(1, 2, 3), "and goes on from there"


def test_an_empty_append_only_becomes_the_writer(journal: Journal) -> None:
    journal.append("a", 99, [])
    assert list(journal.read("a", 0)) == []


def test_what_was_handed_out_is_handed_out_again_whole() -> None:
    predicted = {"qps": records.Prediction(1.0, 0.5, 1.5)}
    event = records.Issued(
        "1h2", 3, records.Kind.HOLD, {"x": 1.0}, "too early", 7.0, False, predicted, retry_after_s=2.5
    )
    handed = event.candidate()
    assert (dict(handed), handed.id, handed.kind, handed.reason) == ({"x": 1.0}, "1h2", "hold", "too early")
    assert (handed.predicted, handed.retry_after_s, handed.issued_at) == (predicted, 2.5, 7.0)
    handed["x"] = 2.0
    assert event.params == {"x": 1.0}, "what the caller does to it is the caller's"


def test_a_long_event_that_cannot_be_read_is_cut() -> None:
    with pytest.raises(JournalError) as caught:
        records.decode("x" * 1000)
    assert "x" * 80 + "..." in str(caught.value)
    assert "x" * 81 not in str(caught.value)


# ---- on disk ----


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/er/journal.db"


CONFIG: dict[str, Any] = {
    "seed": 1,
    "name": "pool",
    "budget": 20,
    "bounds": {"x": {"type": "int", "min": 0, "max": 100, "initial": 50}},
    "guardrails": {"max_delta": [10]},
}


@pytest.fixture
def reopen(url: str) -> Iterator[Callable[..., ArqonSolver]]:
    made: list[ArqonSolver] = []

    def build(**more: Any) -> ArqonSolver:
        made.append(ArqonSolver(CONFIG | more, journal=url, registry=CollectorRegistry()))
        return made[-1]

    yield build
    for solver in made:
        solver.close()


def test_it_is_written_ahead_and_synced_in_full(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "journal.db"))
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    journal.close()


def test_a_restart_knows_what_was_accepted_and_what_was_handed_out(reopen: Any) -> None:
    first = reopen()
    candidate = first.ask_one()
    first.seed([{"params": candidate, "value": 0.1 + 0.2, "cost": 5.0}])
    pending: Candidate = first.ask_one()
    before = first.status()
    first.close()
    second = reopen()
    assert second.status() == before
    assert list(second.history()["value"]) == [0.1 + 0.2]
    again = second.ask_one()
    assert (again, again.id, again.kind, again.reason) == (pending, pending.id, pending.kind, pending.reason)
    assert again.issued_at == pending.issued_at


def test_another_config_is_refused_with_the_difference(reopen: Any) -> None:
    reopen().close()
    with pytest.raises(ConfigMismatch, match=r"budget: 20 in the journal, 30 given.*reconfigure"):
        reopen(budget=30)
    reopen(budget=30, name="another")
    reopen()


def test_the_same_bounds_in_another_order_are_another_config(reopen: Any) -> None:
    """max_delta may be a list in the order of bounds, and configs are told apart by the order of their values."""
    two = {"a": {"min": 0, "max": 1}, "b": {"min": 0, "max": 1}}
    reopen = partial(reopen, guardrails=None)
    reopen(bounds=two).close()
    with pytest.raises(ConfigMismatch, match=r'bounds: \{"a".* in the journal, \{"b"'):
        reopen(bounds=dict(reversed(two.items())))
    reopen(bounds=two)


HOLDER = """
import sys
from arqon_gp import ArqonSolver
solver = ArqonSolver({config!r}, journal={url!r})
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_writer_is_refused_naming_the_holder_until_that_one_dies(url: str, reopen: Any) -> None:
    code = HOLDER.format(config=CONFIG, url=url)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StudyHeld, match=rf"process {holder.pid} on .* since "):
            reopen()
        reopen(name="another")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert reopen().status()["phase"] == "start"


def test_two_solvers_of_one_process_do_not_share_a_study_either(reopen: Any) -> None:
    reopen()
    with pytest.raises(StudyHeld, match=rf"process {os.getpid()} "):
        reopen()


def test_a_damaged_row_is_said_and_nothing_is_changed(url: str, reopen: Any) -> None:
    reopen().close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE events SET event = '{' WHERE number = 1")
    db.close()
    with pytest.raises(JournalError, match="cannot be read"):
        reopen()


def test_a_failed_write_leaves_the_study_as_it_was(reopen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = reopen()
    candidate = solver.ask_one()
    before = solver.status()

    def full(*_: Any) -> None:
        raise JournalError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(solver._journal, "append", full)
        with pytest.raises(JournalError, match="no space"):
            solver.seed([{"params": candidate, "value": 1.0}])
        assert solver.status() == before
    solver.seed([{"params": candidate, "value": 1.0}])
    assert solver.get_history_len() == 1


@pytest.mark.parametrize("url", ["postgresql://host/db", "mysql://x", "sqlite://", "sqlite:///", "journal.db"])
def test_an_unknown_journal_is_refused_with_what_there_is(url: str) -> None:
    with pytest.raises(JournalError, match=r"sqlite:///path/to/file.db"):
        open_journal(url)


def test_a_journal_that_comes_later_is_said_to() -> None:
    with pytest.raises(JournalError, match="postgresql is not supported yet"):
        open_journal("postgresql://host/db")


def test_a_name_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "in" / "journal.db"))
    journal.append("../../up/x", 0, paused(1))
    assert list(journal.read("../../up/x", 0)) == paused(1)
    assert [place.name for place in tmp_path.iterdir()] == ["in"]
    assert all(place.is_file() for place in (tmp_path / "in").iterdir())
    assert journal._db.execute("SELECT study FROM writers").fetchall() == [("../../up/x",)]
    journal.close()
    with sqlite3.connect(tmp_path / "in" / "journal.db") as db:
        assert db.execute("SELECT count(*) FROM writers").fetchone() == (0,), "nobody writes any more"
    db.close()


def test_two_studies_of_one_file_are_written_at_the_same_time(tmp_path: Path) -> None:
    def write(name: str) -> None:
        journal = SqliteJournal(str(tmp_path / "journal.db"))
        for i in range(40):
            journal.append(name, i, paused(i))
        journal.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    journal = SqliteJournal(str(tmp_path / "journal.db"))
    assert [len(list(journal.read(name, 0))) for name in "abcd"] == [40] * 4
    journal.close()


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path / "journal.db"))
    journal._db.execute("DROP TABLE events")
    with pytest.raises(JournalError, match="cannot be read: no such table"):
        list(journal.read("a", 0))
    with pytest.raises(JournalError, match="nothing was written: no such table"):
        journal.append("a", 0, paused(1))
    journal.close()


def test_an_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be opened"):
        open_journal(f"sqlite:///{tmp_path}/file/journal.db")
