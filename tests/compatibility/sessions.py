"""Sessions with arqonhpo's API: what a program sees that was written against it, here and with arqonhpo 0.3.3 itself.

Each session takes the two classes and gives plain data: shapes, lengths, types and texts' beginnings, no sampled
numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

CONFIG: dict[str, Any] = {
    "seed": 42,
    "budget": 12,
    "bounds": {"x": {"min": -5.0, "max": 5.0}, "y": {"min": 0.1, "max": 10.0, "scale": "Log"}},
}


def config(**more: Any) -> str:
    return json.dumps(CONFIG | more)


def result(number: int, params: dict[str, Any], value: float = 1.0) -> dict[str, Any]:
    return {"eval_id": number, "params": dict(params), "value": value, "cost": 1.0}


def inside(params: dict[str, Any]) -> bool:
    return sorted(params) == ["x", "y"] and -5 <= params["x"] <= 5 and 0.1 <= params["y"] <= 10


def refused(call: Callable[[], Any]) -> list[str]:
    """Type of the error and the words before its first colon."""
    try:
        call()
    except Exception as error:
        kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
        return [kind, str(error).partition(":")[0]]
    return ["no error", ""]


def first_batch(solver_class: Any, probe_class: Any) -> Any:
    """How many probes, and that asking again gives the open batch."""
    found = {}
    for ratio in (0.2, 0.5, 0.8):
        solver = solver_class(config(probe_ratio=ratio))
        batch = solver.ask()
        found[str(ratio)] = [type(batch).__name__, len(batch), all(map(inside, batch)), solver.ask() == batch]
    return found


def partial_tell(solver_class: Any, probe_class: Any) -> Any:
    """After some results of a batch the rest is open."""
    solver = solver_class(config(probe_ratio=0.5))
    batch = solver.ask()
    returned = solver.tell(json.dumps([result(i, p) for i, p in enumerate(batch[:2])]))
    rest = solver.ask()
    return [returned, solver.get_history_len(), len(rest), rest == batch[2:]]


def batch_loop(solver_class: Any, probe_class: Any) -> Any:
    """ask and tell until the end: every batch not empty, exactly `budget` evaluations, then None."""
    solver = solver_class(config(probe_ratio=1.0))
    sizes, number = [], 0
    while (batch := solver.ask()) is not None:
        solver.tell(json.dumps([result(number + i, p, p["x"] ** 2) for i, p in enumerate(batch)]))
        number += len(batch)
        sizes.append(len(batch))
    return [number, min(sizes) > 0, solver.get_history_len(), solver.ask()]


def online_loop(solver_class: Any, probe_class: Any) -> Any:
    """The seed's loop: ask_one and seed without ids."""
    solver = solver_class(config(budget=10))
    returned, number = set(), 0
    while (candidate := solver.ask_one()) is not None:
        row = {"params": dict(candidate), "value": candidate["x"] ** 2, "cost": 1.0}
        returned.add(solver.seed(json.dumps([row])))
        number += inside(candidate)
    return [number, sorted(map(str, returned)), solver.get_history_len(), solver.ask_one()]


def warm_start(solver_class: Any, probe_class: Any) -> Any:
    """Results known before the first ask."""
    solver = solver_class(config())
    rows = [{"params": {"x": float(i), "y": 1.0}, "value": float(i), "cost": 1.0} for i in range(3)]
    return [solver.seed(json.dumps(rows)), solver.get_history_len(), inside(solver.ask_one())]


def errors(solver_class: Any, probe_class: Any) -> Any:
    """What is refused, and how the text begins."""
    solver = solver_class(config())
    solver.ask()
    bad_scale = config(bounds={"x": {"min": 0, "max": 1, "scale": "?"}})
    no_value = {"eval_id": 1, "params": {"x": 1, "y": 1}, "cost": 1}
    return {
        "config not json": refused(lambda: solver_class("{")),
        "config without bounds": refused(lambda: solver_class('{"seed": 1, "budget": 5}')),
        "config with a bad scale": refused(lambda: solver_class(bad_scale)),
        "config with a text as budget": refused(lambda: solver_class(config(budget="many"))),
        "probe config not json": refused(lambda: probe_class("{")),
        "seed not json": refused(lambda: solver.seed("{")),
        "seed no list": refused(lambda: solver.seed("{}")),
        "seed without value": refused(lambda: solver.seed(json.dumps([no_value]))),
        "seed without params": refused(lambda: solver.seed('[{"value": 1, "cost": 1}]')),
        "tell not json": refused(lambda: solver.tell("{")),
        "tell no list": refused(lambda: solver.tell("{}")),
        "tell without value": refused(lambda: solver.tell(json.dumps([no_value]))),
        "history after all": solver.get_history_len(),
    }


def probe(solver_class: Any, probe_class: Any) -> Any:
    """Stateless points by index."""
    a, b = probe_class(config(), seed=7), probe_class(config(), seed=7)
    points = a.sample_range(3, 4)
    return [
        type(points).__name__,
        len(points),
        all(map(inside, points)),
        points[1] == b.sample_at(4),
        a.sample_range(0, 0),
        probe_class(config(), seed=8).sample_at(4) == b.sample_at(4),
        inside(probe_class(config()).sample_at(0)),
    ]


SESSIONS: dict[str, Callable[[Any, Any], Any]] = {
    f.__name__: f for f in (first_batch, partial_tell, batch_loop, online_loop, warm_start, errors, probe)
}
