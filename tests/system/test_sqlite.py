"""A real SQLite database on disk under load: the knobs are in force, the figures are real, nothing else is touched."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from arqon_gp.errors import SystemFailed
from arqon_gp.systems import System, sqlite_load
from arqon_gp.systems.sqlite import SqliteSystem
from arqon_gp.systems.sqlite_load import Pool, PoolExhausted, Window, outcomes

START = {"pool_size": 3, "cache_mb": 2.0, "wal_autocheckpoint": 100}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "demo.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_load, "ORDERS", 5_000)
        sqlite_load.create(str(path))
    return path


@pytest.fixture
def system(database: Path) -> Iterator[SqliteSystem]:
    found = SqliteSystem(database, clients=8)
    yield found
    found.close()


def connections(system: SqliteSystem, path: Path) -> int:
    """How often the load process has the database file open, as the operating system sees it."""
    return sum(file.path == str(path) for file in psutil.Process(system._process.pid).open_files())


def pragma(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_every_connection_of_the_pool_has_the_settings_and_synchronous_stays_full(database: Path) -> None:
    pool = Pool(str(database))
    pool.apply(pool_size=3, cache_mb=2.0, wal_autocheckpoint=50)
    taken = [pool.take() for _ in range(3)]
    for connection in taken:
        assert pragma(connection.db, "cache_size") == -2048, "KiB, negative"
        assert pragma(connection.db, "wal_autocheckpoint") == 50
        assert pragma(connection.db, "synchronous") == 2, "FULL"
        assert pragma(connection.db, "journal_mode") == "wal"
    with pytest.raises(PoolExhausted):
        pool.take()
    pool.apply(pool_size=1, cache_mb=0.5, wal_autocheckpoint=4)
    for connection in taken:
        pool.give(connection)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.db.execute("SELECT 1")
    fresh = pool.take()
    assert (pragma(fresh.db, "cache_size"), pragma(fresh.db, "wal_autocheckpoint")) == (-512, 4)
    with pytest.raises(PoolExhausted):
        pool.take()
    fresh.db.close()


def test_who_waits_is_served_first(database: Path) -> None:
    pool = Pool(str(database))
    pool.apply(pool_size=1, cache_mb=1.0, wal_autocheckpoint=50)
    only = pool.take()
    served = []
    waiting = threading.Thread(target=lambda: served.append(pool.take()))
    waiting.start()
    while not pool._queue:
        pass
    pool.give(only)
    waiting.join()
    assert served == [only]
    only.db.close()


def test_a_config_is_in_force_when_apply_returns(system: SqliteSystem, database: Path) -> None:
    system.apply(START)
    assert connections(system, database) == 3
    system.apply(START | {"pool_size": 7})
    assert connections(system, database) >= 7
    with pytest.raises(KeyError):
        system.apply({"pool_size": 3})


def test_a_window_under_load_is_finite_and_positive(system: SqliteSystem) -> None:
    as_port: System = system
    as_port.apply(START)
    for _ in range(2):
        seen = as_port.observe(0.5)
        assert list(seen) == ["queries_per_second", "p99_latency_ms", "error_rate"]
        assert all(math.isfinite(value) for value in seen.values())
        assert seen["queries_per_second"] > 0
        assert seen["p99_latency_ms"] > 0
        assert 0 <= seen["error_rate"] < 1


def test_the_database_keeps_its_size_and_stays_whole(system: SqliteSystem, database: Path) -> None:
    system.apply(START)
    system.observe(0.5)
    system.close()
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (5_000,), "each write adds one and removes one"
        assert db.execute("SELECT sum(cents) FROM accounts").fetchone()[0] > 0, "writes were committed"
        assert pragma(db, "journal_mode") == "wal"
    db.close()


def test_close_ends_only_its_own_process_and_twice_is_once(system: SqliteSystem, database: Path) -> None:
    system.apply(START)
    other = SqliteSystem(database, clients=2, seed=1)
    other.apply(START)
    other.close()
    other.close()
    assert other._process.returncode == 0
    assert not psutil.pid_exists(other._process.pid)
    assert system._process.poll() is None
    assert system.observe(0.2)["queries_per_second"] > 0


def test_a_dead_load_process_is_an_error_that_says_so(system: SqliteSystem) -> None:
    system.apply(START)
    os.kill(system._process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the load process ended with status -9"):
            system.observe(0.2)
    system.close()


def test_a_load_process_that_hangs_alive_is_ended_and_named(database: Path) -> None:
    system = SqliteSystem(database, clients=2, grace_s=20.0)
    system.apply(START)
    os.kill(system._process.pid, signal.SIGSTOP)  # alive, and answers nothing
    system._grace_s = 0.3
    began = time.monotonic()
    with pytest.raises(SystemFailed, match=r"did not answer within 0\.5 s and was ended"):
        system.observe(0.2)
    assert 0.5 <= time.monotonic() - began < 5.0
    assert not psutil.pid_exists(system._process.pid)
    with pytest.raises(RuntimeError, match="the load process ended with status -9"):
        system.apply(START)
    system.close()


def test_half_an_answer_is_none(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = "import sys, time; sys.stdout.write('{'); sys.stdout.flush(); time.sleep(60)"
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: start([sys.executable, "-c", fake], **how))
    system = SqliteSystem(database, grace_s=1.0)
    with pytest.raises(SystemFailed, match=r"did not answer within 1 s"):
        system.apply(START)
    system.close()


def test_ctrl_c_at_the_terminal_reaches_the_loop_and_not_the_load(system: SqliteSystem) -> None:
    system.apply(START)
    os.kill(system._process.pid, signal.SIGINT)
    assert system.observe(0.2)["queries_per_second"] > 0


def test_a_window_without_one_success_is_the_time_out_and_all_errors() -> None:
    assert outcomes(Window(errors=5), 2.0) == {
        "queries_per_second": 0.0,
        "p99_latency_ms": 250.0,
        "error_rate": 1.0,
    }
    hundred = Window([0.001 * i for i in range(1, 101)], errors=25)
    assert outcomes(hundred, 2.0) == {
        "queries_per_second": 50.0,
        "p99_latency_ms": pytest.approx(100.0),
        "error_rate": 0.2,
    }
