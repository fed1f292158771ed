"""One thread that works ahead of the ask: at most one job, known by what it depends on. Public: Background."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Generic, TypeVar

T = TypeVar("T")
Key = tuple[object, ...]  # compared by identity


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    key: Key
    stop: Event
    future: Future[T]

    def of(self, key: Key) -> bool:
        return len(key) == len(self.key) and all(a is b for a, b in zip(key, self.key, strict=True))


class Background(Generic[T]):
    """A job is pure: what it gives depends on its key alone, unless it is stopped. In a forked child it begins anew."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._job: _Job[T] | None = None
        self._process = os.getpid()

    def start(self, key: Key, work: Callable[[Callable[[], bool]], T]) -> None:
        """Begin this job unless it is the present one; another is stopped. `work` is given what tells it to stop."""
        self._mine()
        if self._job is not None and self._job.of(key):
            return
        self.cancel()
        self._executor = self._executor or ThreadPoolExecutor(1, "arqon-fit")
        stop = Event()
        self._job = _Job(key, stop, self._executor.submit(work, stop.is_set))

    def take(self, key: Key, timeout_s: float | None) -> tuple[T, bool] | None:
        """What the job of this key gave, and whether it had to be stopped because it took longer; None where there is
        no such job, and another one is stopped. What a job raised is raised."""
        self._mine()
        job = self._job
        if job is None or not job.of(key):
            self.cancel()
            return None
        try:
            found = job.future.result(timeout_s), False
        except TimeoutError:
            job.stop.set()
            found = job.future.result(), True
        finally:
            if job.future.done():
                self._job = None
        return found

    def keep(self, key: Key) -> None:
        """Stop the job unless it is of this key."""
        if self._job is not None and not self._job.of(key):
            self.cancel()

    def cancel(self) -> None:
        """Stop the job, if there is one; its thread may take a moment to see it."""
        if self._job is not None:
            self._job.stop.set()
            self._job.future.cancel()
            self._job = None

    def close(self) -> None:
        """Stop the job and let the thread end."""
        self._mine()
        self.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def _mine(self) -> None:
        """Forget a thread that stayed behind in a parent process."""
        if self._process != os.getpid():
            self._process, self._executor, self._job = os.getpid(), None, None
