"""The journal: an append-only list of events a study, behind a port of two methods.

`append` is atomic: all of the events or none, and only if the journal is as long as the caller believes. The first
append makes the caller the writer of that study; another writer is refused by StudyHeld. Public: Journal,
MemoryJournal, open_journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from arqon_gp.errors import JournalError
from arqon_gp.records import Event, packed, unpacked

SCHEMES = "sqlite:///path/to/file.db"


class Journal(Protocol):
    """Where the events of studies are kept."""

    def append(self, study: str, after: int, events: Sequence[Event]) -> None:
        """Add events behind the first `after` ones; without events only become the writer.

        JournalError: nothing was added; StudyHeld names another writer.
        """

    def read(self, study: str, after: int) -> Iterator[Event]:
        """The events behind the first `after` ones, in order."""

    def close(self) -> None:
        """Give up writing; another writer may follow."""


class MemoryJournal:
    """Events in memory: gone with the process. Large batches are columns, which the history of the study shares."""

    def __init__(self) -> None:
        self._events: dict[str, list[Event]] = {}

    def append(self, study: str, after: int, events: Sequence[Event]) -> None:
        """Add events behind the first `after` ones."""
        known = self._events.setdefault(study, [])
        if events and len(known) != after:
            raise JournalError(
                f"study {study!r} has {len(known)} events, not {after}: another solver has written to it"
            )
        known.extend(map(packed, events))

    def read(self, study: str, after: int) -> Iterator[Event]:
        """The events behind the first `after` ones, in order."""
        return map(unpacked, self._events.get(study, [])[after:])

    def close(self) -> None:
        """Nothing to give up."""


def open_journal(url: str | Journal | None) -> Journal:
    """The journal of a URL (None: in memory); JournalError for a scheme this version does not have."""
    if url is None:
        return MemoryJournal()
    if not isinstance(url, str):
        return url
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite" and path:
        from arqon_gp.journal.sqlite import SqliteJournal

        return SqliteJournal(path)
    if scheme.startswith("postgresql"):
        raise JournalError(f"journal {url!r}: postgresql is not supported yet; use {SCHEMES}")
    raise JournalError(f"journal {url!r}: expected {SCHEMES}")
