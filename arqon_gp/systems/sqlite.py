"""A SQLite database on disk under concurrent load, with a connection pool that is reconfigured while it runs.

The load runs in a process of its own, so that it does not share the optimizer's interpreter lock. Knobs: pool_size
(connections), cache_mb (page cache of each), wal_autocheckpoint (pages); synchronous stays FULL. Public: SqliteSystem.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from arqon_gp.records import Params


class SqliteSystem:
    """Starts the load on construction; observe() gives queries_per_second, p99_latency_ms and error_rate.

    path: the database file, made if it is not there. clients: concurrent ones. RuntimeError if the load process dies.
    """

    def __init__(self, path: str | Path, *, clients: int = 16, seed: int = 0) -> None:
        command = [sys.executable, "-m", "arqon_gp.systems.sqlite_load", str(path), str(clients), str(seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def apply(self, params: Params) -> None:
        """Put a config in force."""
        self._ask({"apply": {name: params[name] for name in ("pool_size", "cache_mb", "wal_autocheckpoint")}})

    def observe(self, window_s: float) -> dict[str, float]:
        """Measure for some seconds."""
        return {name: float(value) for name, value in self._ask({"observe": window_s}).items()}

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

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the load process ended with status {self._process.wait()}; see its messages above")
        found: dict[str, Any] = json.loads(answer)
        return found
