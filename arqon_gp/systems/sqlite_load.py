"""A real SQLite database under a mixed load, in a process of its own. Run as a module by systems/sqlite.py.

`clients` threads each send one request after another to a pool of connections: mostly reads of an account's latest
orders, else a write transaction. A request that waits too long for a connection, or finds the database locked, is an
error. Commands are JSON lines on stdin, {"apply": params} or {"observe": seconds}; each is answered by one JSON line on
stdout. The process ends with its stdin.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNTS = 20_000
ORDERS = 120_000
READ_SHARE = 0.8
POOL_TIMEOUT_S = 0.25
BUSY_TIMEOUT_S = 0.1
READ = "SELECT id, cents, note FROM orders WHERE account = ? ORDER BY id DESC LIMIT 20"


def create(path: str) -> None:
    """The database on disk, made once; WAL and synchronous=FULL are not for tuning."""
    if Path(path).exists():
        return
    rng = random.Random(0)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)")
        db.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, cents INTEGER NOT NULL, note TEXT)"
        )
        db.executemany("INSERT INTO accounts VALUES (?, 0)", ((i,) for i in range(ACCOUNTS)))
        note = "n" * 200
        db.executemany(
            "INSERT INTO orders (account, cents, note) VALUES (?, ?, ?)",
            ((rng.randrange(ACCOUNTS), rng.randrange(10_000), note) for _ in range(ORDERS)),
        )
        db.execute("CREATE INDEX orders_account ON orders (account, id)")
    db.close()


@dataclass
class Window:
    """What happened since the last look: seconds of each request that succeeded, and how many did not."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0


class PoolExhausted(Exception):
    """No connection came free in time."""


class _Waiter:
    """A client in the queue, and the connection it was handed."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.connection: _Connection | None = None


class _Connection:
    """A connection and the pool settings it was made with."""

    def __init__(self, db: sqlite3.Connection, version: int) -> None:
        self.db, self.version = db, version


class Pool:
    """First come, first served. A changed config replaces the connections; old ones are closed as they come back."""

    def __init__(self, path: str) -> None:
        self._path, self._version, self._lock = path, 0, threading.Lock()
        self._free: list[_Connection] = []
        self._queue: deque[_Waiter] = deque()

    def apply(self, pool_size: int, cache_mb: float, wal_autocheckpoint: int) -> None:
        """New connections with the new settings."""
        fresh = [self._connect(cache_mb, wal_autocheckpoint) for _ in range(pool_size)]
        with self._lock:
            self._version += 1
            old, self._free = self._free, []
        for connection in old:
            connection.db.close()
        for db in fresh:
            self.give(_Connection(db, self._version))

    def _connect(self, cache_mb: float, wal_autocheckpoint: int) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size={-int(cache_mb * 1024)}")
        db.execute(f"PRAGMA wal_autocheckpoint={int(wal_autocheckpoint)}")
        return db

    def take(self) -> _Connection:
        """A connection; PoolExhausted when the wait is too long."""
        with self._lock:
            if self._free and not self._queue:
                return self._free.pop()
            waiter = _Waiter()
            self._queue.append(waiter)
        waiter.called.wait(POOL_TIMEOUT_S)
        with self._lock:
            if waiter.connection is None:
                self._queue.remove(waiter)
                raise PoolExhausted
        return waiter.connection

    def give(self, connection: _Connection) -> None:
        """Return a connection: to the first in the queue, if there is one."""
        with self._lock:
            current = connection.version == self._version
            if current and self._queue:
                waiter = self._queue.popleft()
                waiter.connection = connection
                waiter.called.set()
            elif current:
                self._free.append(connection)
        if not current:
            connection.db.close()


class Load:
    """The clients, running until the process ends."""

    def __init__(self, path: str, clients: int, seed: int) -> None:
        self.pool, self._lock, self._window = Pool(path), threading.Lock(), Window()
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(seed * 1000 + i),), daemon=True)
            for i in range(clients)
        ]

    def start(self) -> None:
        """Let the clients run; the pool must have been applied."""
        for thread in self._threads:
            thread.start()

    def take_window(self) -> Window:
        """What happened since the last call."""
        with self._lock:
            window, self._window = self._window, Window()
        return window

    def _client(self, rng: random.Random) -> None:
        while True:
            began = time.perf_counter()
            try:
                connection = self.pool.take()
                try:
                    request = self._read if rng.random() < READ_SHARE else self._write
                    request(connection.db, rng)
                finally:
                    self.pool.give(connection)
            except (sqlite3.OperationalError, PoolExhausted):
                with self._lock:
                    self._window.errors += 1
                continue
            with self._lock:
                self._window.latencies.append(time.perf_counter() - began)

    def _read(self, db: sqlite3.Connection, rng: random.Random) -> None:
        db.execute(READ, (rng.randrange(ACCOUNTS),)).fetchall()

    def _write(self, db: sqlite3.Connection, rng: random.Random) -> None:
        account, cents = rng.randrange(ACCOUNTS), rng.randrange(10_000)
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("UPDATE accounts SET cents = cents + ? WHERE id = ?", (cents, account))
            db.execute("INSERT INTO orders (account, cents, note) VALUES (?, ?, ?)", (account, cents, "n" * 200))
            db.execute("DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)")  # the table keeps its size
            db.execute("COMMIT")
        except sqlite3.OperationalError:
            db.execute("ROLLBACK")
            raise


def outcomes(window: Window, seconds: float) -> dict[str, float]:
    """The window as the seed's outcomes; without a single success the latency is the pool's time-out."""
    done, errors = sorted(window.latencies), window.errors
    p99 = done[min(len(done) - 1, int(0.99 * len(done)))] if done else POOL_TIMEOUT_S
    return {
        "queries_per_second": len(done) / seconds,
        "p99_latency_ms": 1000.0 * p99,
        "error_rate": errors / max(1, errors + len(done)),
    }


def main(path: str, clients: int, seed: int) -> None:
    """Answer commands until stdin ends."""
    create(path)
    load: Load | None = None
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        answer: dict[str, Any] = {}
        if "apply" in command:
            fresh = load or Load(path, clients, seed)
            fresh.pool.apply(**command["apply"])
            if load is None:
                load = fresh
                load.start()
        elif load is not None:
            load.take_window()
            began = time.perf_counter()
            time.sleep(command["observe"])
            answer = outcomes(load.take_window(), time.perf_counter() - began)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is for the loop, which closes our stdin
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
