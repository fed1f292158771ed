"""The thread that works ahead: one job at a time, known by its key, stopped when it is no longer wanted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from arqon_gp.background import Background

WAIT_S = 10.0
A, B = object(), object()


@pytest.fixture
def background() -> Iterator[Background[str]]:
    made: Background[str] = Background()
    yield made
    made.close()


def until_stopped(stop: Callable[[], bool]) -> str:
    for _ in range(int(WAIT_S / 0.005)):
        if stop():
            return "stopped"
        threading.Event().wait(0.005)
    raise AssertionError("nobody stopped it")


def test_a_job_is_taken_once_and_by_its_own_key_alone(background: Background[str]) -> None:
    background.start((A,), lambda stop: threading.current_thread().name)
    assert background.take((A,), None) == ("arqon-fit_0", False)
    assert background.take((A,), None) is None
    background.start((A,), lambda stop: "done")
    assert background.take((B,), None) is None
    assert background.take((A,), None) is None, "what nobody wants is forgotten"


def test_the_same_job_is_not_begun_twice_and_another_one_stops_it(background: Background[str]) -> None:
    seen: list[str] = []
    background.start((A,), lambda stop: seen.append(until_stopped(stop)) or "first")  # type: ignore[func-returns-value]
    background.start((A,), lambda stop: "again")
    background.start((B,), lambda stop: "second")
    assert background.take((B,), WAIT_S) == ("second", False)
    assert seen == ["stopped"], "the first job ran alone, and before"


def test_one_that_takes_too_long_is_stopped_and_gives_what_it_has(background: Background[str]) -> None:
    background.start((A,), until_stopped)
    assert background.take((A,), 0.01) == ("stopped", True)


def test_keep_stops_what_is_of_another_key(background: Background[str]) -> None:
    background.start((A,), lambda stop: "done")
    background.keep((A,))
    assert background.take((A,), WAIT_S) == ("done", False)
    background.start((A,), lambda stop: "done")
    background.keep((B,))
    assert background.take((A,), None) is None


def test_what_a_job_raises_reaches_who_takes_it(background: Background[str]) -> None:
    def fail(stop: Callable[[], bool]) -> str:
        raise ArithmeticError("no")

    background.start((A,), fail)
    with pytest.raises(ArithmeticError, match="no"):
        background.take((A,), None)
    assert background.take((A,), None) is None


def test_after_close_its_thread_ends() -> None:
    background, others = Background[str](), set(threading.enumerate())
    background.start((A,), until_stopped)
    (thread,) = (t for t in threading.enumerate() if t.name.startswith("arqon-fit") and t not in others)
    background.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent(background: Background[str]) -> None:
    background.start((A,), lambda stop: "parent")
    child = os.fork()
    if child == 0:
        os._exit(0 if background.take((A,), 0.0) is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert background.take((A,), WAIT_S) == ("parent", False)
