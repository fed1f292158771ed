"""The picture of a study: an image of its windows, whatever kinds of rows and knobs it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image, pyplot
from matplotlib.figure import Figure

from arqon_gp import plots
from arqon_gp.config import parse
from tests.scripted import Loop, to
from tests.test_guard import BOUNDS, HERE, System, config, worse_above_50


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures a test draws, kept open until it has looked at them."""
    figures: list[Figure] = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        pyplot.close(figure)


def picture(loop: Loop, given: dict[str, Any], folder: Path) -> np.ndarray[Any, Any]:
    return image.imread(plots.tuning(loop.solver, parse(given), folder / "tuning.png"))


def test_it_shows_each_window_in_the_colour_of_its_kind_and_each_knob_in_its_box(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    loop = Loop(config(), System(worse_above_50), to(size=60))
    loop.run(12)
    assert picture(loop, config(), tmp_path).shape[:2] == (936, 1080), "three axes of 2.6 inches"
    utility, size, wait = drawn[0].axes
    assert (utility.get_ylabel(), size.get_ylabel(), wait.get_ylabel()) == ("utility", "size", "wait")
    points = {c.get_label(): c.get_offsets() for c in utility.collections}
    told = loop.solver.history()
    for kind in ("start", "explore", "rollback"):
        where = [i for i, c in enumerate(loop.candidates, 1) if c.kind == kind]
        np.testing.assert_allclose(points[kind], [(i, told["qps"][i - 1]) for i in where])
    runs, good = size.lines
    assert list(runs.get_ydata()) == list(told["size"])
    assert set(good.get_ydata()) == {50}


def test_rows_that_answer_no_candidate_are_left_out(tmp_path: Path, drawn: list[Figure]) -> None:
    loop = Loop(config(), System(), to(size=55))
    loop.solver.seed(
        [{"params": HERE, "values": {"qps": 90.0}}, {"params": HERE, "values": {"qps": 91.0}, "id": "mine"}]
    )
    loop.run(4)
    loop.solver.seed([{"params": HERE, "values": {"qps": 90.0}}])
    loop.step(status="failed")
    picture(loop, config(), tmp_path)
    assert len(drawn[0].axes[1].lines[0].get_ydata()) == 5, "of eight rows"
    assert sum(len(c.get_offsets()) for c in drawn[0].axes[0].collections) == 4, "a failure has no utility"


def test_without_weights_the_utility_in_use_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    given = config(objectives={"qps": "max", "hits": "max"})
    answers = [{"qps": 100.0, "hits": 10.0}] * 3 + [{"qps": 110.0, "hits": 9.0}]
    loop = Loop(given, lambda params: answers[len(loop.candidates) - 1], to(size=55))
    loop.run(4)
    picture(loop, given, tmp_path)
    points = {c.get_label(): c.get_offsets().tolist() for c in drawn[0].axes[0].collections}
    assert points["start"] == [[1, 0], [2, 0], [3, 0]], "the baseline is the centre"
    # qps is 10 % better, hits 10 % worse than the baseline: min(0.1, -0.1) + 0.05 (0.1 - 0.1), not 110 + 9
    np.testing.assert_allclose(points["explore"], [[4, -0.1]])


def test_the_journal_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, reads = Loop(config(), System(), to(size=55)), []
    loop.run(10)
    read = loop.journal.read
    monkeypatch.setattr(loop.journal, "read", lambda *at: reads.append(at) or read(*at))
    picture(loop, config(), tmp_path)
    assert reads == [("default", 0)]


def test_a_study_without_windows_is_an_empty_picture(tmp_path: Path) -> None:
    assert picture(Loop(config(), System()), config(), tmp_path).ndim == 3


def test_categories_have_no_axis_and_log_knobs_a_log_one(tmp_path: Path, drawn: list[Figure]) -> None:
    bounds = BOUNDS | {
        "policy": {"type": "categorical", "choices": ["lru", "lfu"]},
        "cache": {"min": 1, "max": 64, "scale": "log", "initial": 8},
    }
    given = config(bounds=bounds, guardrails={"max_delta": [10, 1.0, 1, {"ratio": 2}]})
    loop = Loop(given, System(), to(policy="lfu"))
    loop.run(5)
    picture(loop, given, tmp_path)
    assert [(a.get_ylabel(), a.get_yscale()) for a in drawn[0].axes[1:]] == [
        ("size", "linear"),
        ("wait", "linear"),
        ("cache", "log"),
    ]
    assert mpl.get_backend().lower() == "agg", "no window is opened"
