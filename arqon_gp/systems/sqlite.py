"""A SQLite database on disk under concurrent load, with a connection pool that is reconfigured while it runs.

The load runs in a process of its own, so that it does not share the optimizer's interpreter lock. Knobs: pool_size
(connections), cache_mb (page cache of each), wal_autocheckpoint (pages); synchronous stays FULL. Public: SqliteSystem.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from arqon_gp.errors import SystemFailed
from arqon_gp.records import Params

GRACE_S = 30.0  # a slow disk may delay an answer; making the database takes a few seconds


class SqliteSystem:
    """Starts the load on construction; observe() gives queries_per_second, p99_latency_ms and error_rate.

    path: the database file, made if it is not there. clients: concurrent ones. SystemFailed if the load process dies,
    or gives no answer for `grace_s` longer than what it was asked takes: then it is ended.
    """

    def __init__(self, path: str | Path, *, clients: int = 16, seed: int = 0, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        command = [sys.executable, "-m", "arqon_gp.systems.sqlite_load", str(path), str(clients), str(seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def apply(self, params: Params) -> None:
        """Put a config in force."""
        known = {name: params[name] for name in ("pool_size", "cache_mb", "wal_autocheckpoint")}
        self._ask({"apply": known}, self._grace_s)

    def observe(self, window_s: float) -> dict[str, float]:
        """Measure for some seconds."""
        found = self._ask({"observe": window_s}, window_s + self._grace_s)
        return {name: float(value) for name, value in found.items()}

    def close(self) -> None:
        """End the load process; the database stays on disk."""
        if self._process.stdin:
            with suppress(BrokenPipeError):  # it died with a command unread
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _ask(self, command: dict[str, Any], within_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._ended_after(within_s) as overdue:
            try:
                self._process.stdin.write(json.dumps(command) + "\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            except BrokenPipeError:
                answer = ""
        if overdue.is_set():
            self._process.wait()
            raise SystemFailed(f"the load process did not answer within {within_s:g} s and was ended")
        if not answer:
            raise SystemFailed(f"the load process ended with status {self._process.wait()}; see its messages above")
        found: dict[str, Any] = json.loads(answer)
        return found

    @contextmanager
    def _ended_after(self, seconds: float) -> Iterator[threading.Event]:
        """The load process is killed when the block takes longer; then its pipes are at their end and the event set."""
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield overdue
        finally:
            timer.cancel()
