"""A program written against arqonhpo 0.3.3 sees the same here; where it does not, docs/migrating.md says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from arqon_gp import ArqonProbe, ArqonSolver, ConfigError
from tests.compatibility.record import FIXTURE
from tests.compatibility.sessions import SESSIONS, config, result

MIGRATING = Path(__file__).parents[2] / "docs" / "migrating.md"
SEEN = json.loads(FIXTURE.read_text())


@pytest.fixture
def solver_class() -> Iterator[Any]:
    """ArqonSolver, every instance closed afterwards."""
    made: list[ArqonSolver] = []

    def build(*given: Any) -> ArqonSolver:
        made.append(ArqonSolver(*given))
        return made[-1]

    yield build
    for solver in made:
        solver.close()


@pytest.mark.parametrize("name", [name for name in SESSIONS if name != "batch_loop"])
def test_a_session_goes_as_with_arqonhpo(name: str, solver_class: Any) -> None:
    assert json.loads(json.dumps(SESSIONS[name](solver_class, ArqonProbe))) == SEEN[name]


def test_the_budget_is_kept_where_arqonhpo_overran_it(solver_class: Any) -> None:
    assert SEEN["batch_loop"][0] == 24, "of a budget of 12"
    assert SESSIONS["batch_loop"](solver_class, ArqonProbe) == [12, True, 12, None]


def test_sphere_is_below_2_5_within_50_evaluations(solver_class: Any) -> None:
    bounds = {"x": {"min": -5.0, "max": 5.0}, "y": {"min": -5.0, "max": 5.0}}
    solver = solver_class(json.dumps({"seed": 42, "budget": 50, "probe_ratio": 0.2, "bounds": bounds}))
    best, number = float("inf"), 0
    while number < 25 and (batch := solver.ask()) is not None:  # half of them suffice
        rows = [result(number + i, p, p["x"] ** 2 + p["y"] ** 2) for i, p in enumerate(batch)]
        solver.tell(json.dumps(rows))
        best, number = min([best, *(row["value"] for row in rows)]), number + len(rows)
    assert best < 2.5


# ---- deliberate differences, each a line of docs/migrating.md ----


def test_unknown_keys_are_refused(solver_class: Any) -> None:
    with pytest.raises(ConfigError, match="unknown key 'bugdet'"):
        solver_class(config(bugdet=3))


def test_budget_may_be_absent_and_the_config_a_dict(solver_class: Any) -> None:
    assert solver_class({"seed": 1, "bounds": {"x": {"min": 0, "max": 1}}}).ask_one() is not None


def test_cost_and_eval_id_may_be_absent_and_nan_is_no_value(solver_class: Any) -> None:
    solver = solver_class(config())
    (first, *_) = solver.ask()
    solver.tell(f'[{{"params": {json.dumps(first)}, "value": NaN}}]')
    assert solver.history()["value"].isna().all()


def test_the_last_candidate_is_the_recommended_config(solver_class: Any) -> None:
    solver = solver_class(config(budget=4, probe_ratio=1.0))
    assert len(solver.ask()) == 3, "arqonhpo: 4"
    solver.tell(json.dumps([result(i, p, float(i)) for i, p in enumerate(solver.ask())]))
    last = solver.ask_one()
    assert last == solver.recommend().params


def test_guardrails_are_kept(solver_class: Any) -> None:
    solver = solver_class(config(guardrails={"max_delta": [0.5, {"ratio": 1.1}]}))
    seen = []
    for _ in range(6):
        candidate = solver.ask_one()
        seen.append(candidate)
        solver.seed([{"params": candidate, "value": candidate["x"] ** 2, "cost": 1.0}])
    steps = [abs(a["x"] - b["x"]) for a, b in pairwise(seen)]
    assert max(steps) <= 0.5
    assert max(steps) > 0


def test_the_snippet_of_the_guide_runs() -> None:
    code = re.findall(r"```python\n(.*?)```", MIGRATING.read_text(), re.DOTALL)
    assert code
    space: dict[str, Any] = {"evaluate": lambda params: params["x"] ** 2}
    exec(code[0], space)
    assert space["solver"].get_history_len() == 10
    space["solver"].close()
