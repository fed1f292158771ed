"""A solver whose proposals come from the test, so that the guard can be driven without a model and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, Candidate
from arqon_gp.advice import Proposal
from arqon_gp.journal import MemoryJournal
from tests.conftest import FakeClock

Propose = Callable[[Any, Any], Proposal]


class Script:
    """The model's side of a decision, as the test wants it. `best` and `gain` decide where the study settles."""

    def __init__(self, propose: Propose) -> None:
        self.propose_next = propose
        self.best_is: dict[str, Any] | None = None
        self.gain_is = 0.0

    def refit(self, study: Any, deadline: Any) -> None:
        return None

    def expectation(self, study: Any, yard: Any) -> Any:
        return lambda params, other: None

    def changed(self, study: Any, since: int) -> None:
        return None

    def predict(self, study: Any, params: Any) -> None:
        return None

    def describe(self, study: Any, params: Any) -> None:
        return None

    def holds(self, study: Any, params: Any) -> float:
        return 1.0

    def pays(self, study: Any, yard: Any, params: Any, over: Any) -> bool:
        return True

    def best(self, study: Any, yard: Any, among: Sequence[Any]) -> Any:
        return self.best_is or (among[-1] if among else study.deployment.deployed)

    def gain(self, study: Any, yard: Any, params: Any, over: Any) -> float:
        return self.gain_is

    def propose(self, study: Any, yard: Any, request: Any) -> Proposal:
        return self.propose_next(study, request)


class ScriptedSolver(ArqonSolver):
    script: Script | None = None

    @property
    def _advisor(self) -> Any:
        return self.script


class Loop:
    """A guarded study of a true system `measure(params) -> values`, driven window by window on a fake clock."""

    def __init__(
        self,
        config: dict[str, Any],
        measure: Callable[[dict[str, Any]], dict[str, Any]],
        propose: Propose | None = None,
        *,
        window_s: float = 60.0,
    ) -> None:
        self.clock, self.journal = FakeClock(), MemoryJournal()
        self.measure, self.window_s = measure, window_s
        self.solver = ScriptedSolver(config, journal=self.journal, registry=CollectorRegistry(), clock=self.clock)
        self.solver.script = Script(propose or (lambda study, request: Proposal(study.deployment.may_run, "stay")))
        self.candidates: list[Candidate] = []

    def step(self, **row: Any) -> Candidate | None:
        """Ask, run, measure, tell; the candidate. `row` overrides what is told."""
        candidate = self.solver.ask_one()
        if candidate is not None:
            self.candidates.append(candidate)
            self.clock.pass_s(self.window_s)
            told = {"params": dict(candidate), "id": candidate.id}
            self.solver.seed([told | ({} if row else {"values": self.measure(dict(candidate))}) | row])
        return candidate

    def run(self, windows: int) -> list[Candidate]:
        """So many windows, or until the study is finished."""
        begin = len(self.candidates)
        for _ in range(windows):
            if self.step() is None:
                break
        return self.candidates[begin:]

    def until(self, kind: str, most: int = 50) -> Candidate:
        """Steps until a candidate of this kind was answered."""
        for _ in range(most):
            candidate = self.step()
            if candidate is not None and candidate.kind == kind:
                return candidate
        raise AssertionError(f"no {kind} within {most} windows: {[c.kind for c in self.candidates]}")

    def events(self, *types: type) -> list[Any]:
        """The journaled events of these types."""
        return [event for event in self.journal.read(self.solver.status()["study"], 0) if isinstance(event, types)]

    @property
    def status(self) -> dict[str, Any]:
        return self.solver.status()


def to(**changes: Any) -> Propose:
    """Always proposes what runs with these knobs changed."""
    return lambda study, request: Proposal(study.deployment.deployed | changes, "scripted")
