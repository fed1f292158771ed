"""The journal in one SQLite file: WAL and synchronous=FULL, so that what was appended survives kill -9 and power loss.

A study has one writer at a time: the holder of an operating-system lock on `<file>.<study>.lock`, which the system
gives back when the process dies, however it dies. Who holds it stands in the table `writers`.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from arqon_gp.errors import JournalError, StudyHeld
from arqon_gp.records import Event, decode, encode

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    study TEXT NOT NULL, number INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (study, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writers (study TEXT PRIMARY KEY, holder TEXT NOT NULL) WITHOUT ROWID;
"""
BUSY_TIMEOUT_S = 30.0  # another study of the same file may be committing


class SqliteJournal:
    """Many studies share one file. Opening it reads; the first append of a study takes its lock."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._locks: dict[str, FileLock] = {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"journal {path!r} cannot be opened: {error}") from error

    def append(self, study: str, after: int, events: Sequence[Event]) -> None:
        """Add events behind the first `after` ones, in one transaction."""
        self._hold(study)
        if not events:
            return
        rows = [(study, after + i, encode(event)) for i, event in enumerate(events, 1)]
        try:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                (known,) = self._db.execute(
                    "SELECT coalesce(max(number), 0) FROM events WHERE study = ?", (study,)
                ).fetchone()
                if known != after:
                    raise JournalError(
                        f"study {study!r} has {known} events, not {after}: another solver has written to it"
                    )
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:  # Ctrl-C too, which may come after the commit
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path}: nothing was written: {error}") from error

    def read(self, study: str, after: int) -> Iterator[Event]:
        """The events behind the first `after` ones, in order."""
        try:
            rows = self._db.execute(
                "SELECT event FROM events WHERE study = ? AND number > ? ORDER BY number", (study, after)
            )
            for (text,) in rows:
                yield decode(text)
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path} cannot be read: {error}") from error

    def close(self) -> None:
        """Give the locks back and close the file."""
        for study, lock in self._locks.items():
            with suppress(sqlite3.Error):  # a full disk; the lock is what counts
                self._db.execute("DELETE FROM writers WHERE study = ?", (study,))
            lock.release()
        self._locks.clear()
        self._db.close()

    def _hold(self, study: str) -> None:
        """Become the writer of a study, or say who is."""
        if study in self._locks:
            return
        lock = FileLock(f"{self._path}.{quote(study, safe='')}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            row = self._db.execute("SELECT holder FROM writers WHERE study = ?", (study,)).fetchone()
            raise StudyHeld(
                f"study {study!r} in {self._path} is written by {row[0] if row else 'another process'}; "
                "close that solver first, or open the study under another name"
            ) from None
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        self._db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?)", (study, holder))
        self._locks[study] = lock
