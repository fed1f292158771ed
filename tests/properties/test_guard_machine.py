"""The guard against everything that can happen: no broken limit, an answer to every ask, and never a dead end.

The machine owns the true system: what really runs. A candidate may be applied or not, its result may be reported, lost,
late or repeated, and an operator may change the system by hand. What is checked is physical: whatever really runs,
applying the candidate never moves a knob further than the operator permitted.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver, Candidate, RequestError, choice
from arqon_gp.advice import Proposal
from arqon_gp.journal import MemoryJournal
from tests.conftest import FakeClock

INTERVAL_S = 10.0
CHOICES, LEVELS = ("lru", "lfu", "fifo"), ("off", "low", "mid", "high", "max")
BOUNDS: dict[str, Any] = {
    "pool_size": {"type": "int", "min": 5, "max": 100, "initial": 20},
    "idle_s": {"min": 30, "max": 600, "initial": 120},
    "cache_kb": {"type": "int", "min": 1, "max": 4096, "scale": "log", "initial": 64},
    "ratio": {"min": 0.0, "max": 1.0, "step": 0.05, "initial": 0.5},
    "policy": {"type": "categorical", "choices": list(CHOICES), "initial": CHOICES[0]},
    "fsync": {"type": "bool", "initial": True},
    "frozen": {"min": 0, "max": 1, "initial": 0.25},
    "level": {"type": "categorical", "choices": list(LEVELS), "ordered": True, "initial": "low"},
    "phase": {"min": 0.0, "max": 1.0, "scale": "periodic", "initial": 0.95},
    "hour": {"type": "int", "min": 0, "max": 24, "scale": "periodic", "initial": 23},
}
MAX_DELTA = {
    "pool_size": 10,
    "idle_s": {"up": 60, "down": 90},
    "cache_kb": {"ratio": 2.0},
    "ratio": "10%",
    "policy": 1,
    "fsync": 0,
    "frozen": 0,
    "level": 1,
    "phase": 0.1,
    "hour": 2,
}

IRREGULAR: dict[str, Any] = BOUNDS | {
    "ttl_s": {"min": 10, "max": 600, "special": [0], "initial": 60},
    "keep": {"type": "int", "min": 5, "max": 100, "special": [-1], "initial": 20},
    "warm": {"min": 0, "max": 1, "active_if": {"policy": ["lru", "lfu"]}, "initial": 0.5},
    "pinned": {"min": 0, "max": 1, "active_if": {"level": ["off", "low", "mid"]}, "initial": 0.5},
}
IRREGULAR_DELTA = MAX_DELTA | {
    "ttl_s": {"up": 30, "down": 30, "special": 1},
    "keep": 10,
    "warm": {"up": 0.1, "down": 0.1, "special": 1},
    "pinned": 0.1,
}
ROOM = "pool_size + idle_s / 10 <= 130"


def broken_steps(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Knobs that moved too far: written from the operator's words, not with the solver's code."""
    slack = 1e-9
    broken = []
    if abs(there["pool_size"] - here["pool_size"]) > 10:
        broken.append("pool_size")
    if abs(there["idle_s"] - here["idle_s"]) > 60 + slack:
        broken.append("idle_s")
    a, b = sorted((here["cache_kb"], there["cache_kb"]))
    if a != b and (a <= 0 or b / a > 2.0 + slack):
        broken.append("cache_kb")
    if abs(there["ratio"] - here["ratio"]) > 0.1 + slack:
        broken.append("ratio")
    broken += [name for name in ("fsync", "frozen") if here[name] != there[name]]
    if abs(LEVELS.index(there["level"]) - LEVELS.index(here["level"])) > 1:
        broken.append("level")
    for name, period, most in (("phase", 1.0, 0.1 + slack), ("hour", 24, 2)):
        apart = abs(there[name] - here[name]) % period
        if min(apart, period - apart) > most:
            broken.append(name)
    if "ttl_s" not in here:
        return broken
    if 0 not in (here["ttl_s"], there["ttl_s"]) and abs(there["ttl_s"] - here["ttl_s"]) > 30 + slack:
        broken.append("ttl_s")
    if here["keep"] != there["keep"] and (
        -1 in (here["keep"], there["keep"]) or abs(there["keep"] - here["keep"]) > 10
    ):
        broken.append("keep")
    broken += [name for name in ("warm", "pinned") if abs(there[name] - here[name]) > 0.1 + slack]
    if ("pinned" in inactive(here)) != ("pinned" in inactive(there)):
        broken.append("pinned")
    return broken


def inactive(params: dict[str, Any]) -> list[str]:
    """Knobs without effect."""
    gone = {"warm": params["policy"] == "fifo", "pinned": params["level"] in ("high", "max")}
    return [name for name, is_gone in gone.items() if is_gone and name in params]


def in_bounds(params: dict[str, Any]) -> bool:
    if "ttl_s" in params and not params["pool_size"] + params["idle_s"] / 10 <= 130:
        return False
    return all(
        "min" not in b
        or name not in params
        or b["min"] <= params[name] <= b["max"]
        or params[name] in b.get("special", [])
        for name, b in IRREGULAR.items()
    )


class Adversary:
    """Proposes anything at all: legal points, any point of the space, NaN, off the grid, out of bounds, stale ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stale: dict[str, Any] | None = None

    def refit(self, study: Any, deadline: Any) -> None:
        return None

    def expectation(self, study: Any, yard: Any) -> Any:
        return lambda params, other: None

    def changed(self, study: Any, since: int) -> None:
        return None

    def shifts(self, study: Any, rows: Any) -> None:
        return None

    def predict(self, study: Any, params: Any) -> None:
        return None

    def describe(self, study: Any, params: Any) -> None:
        return None

    def holds(self, study: Any, params: Any) -> float:
        return self.random.choice([math.nan, 0.0, 0.4, 1.0])

    def pays(self, study: Any, yard: Any, params: Any, over: Any) -> bool:
        return self.random.random() < 0.5

    def best(self, study: Any, yard: Any, among: Any) -> Any:
        return self.random.choice(list(among)) if among else study.deployment.deployed

    def gain(self, study: Any, yard: Any, params: Any, over: Any) -> float:
        return self.random.choice([math.nan, -1.0, 1e9])

    def propose(self, study: Any, yard: Any, request: Any) -> Proposal:
        r = self.random
        params: dict[str, Any] = {
            "pool_size": r.choice([5, 100, r.randint(5, 100), r.uniform(5, 100)]),
            "idle_s": r.choice([30.0, 600.0, r.uniform(30, 600), math.nan, math.inf]),
            "cache_kb": r.choice([1, 4096, r.randint(1, 4096)]),
            "ratio": r.choice([0.0, 1.0, r.random()]),
            "policy": r.choice(CHOICES),
            "fsync": r.random() < 0.5,
            "frozen": r.choice([0.25, r.random()]),
            "level": r.choice(LEVELS),
            "phase": r.choice([0.0, 1.0, r.random(), r.uniform(-1, 2), math.nan]),
            "hour": r.choice([0, 23, 24, -1, r.randint(0, 23), r.uniform(0, 24)]),
        }
        if study.config.space.irregular:
            params["ttl_s"] = r.choice([0, 5, 600, r.uniform(10, 600), study.deployment.deployed["ttl_s"]])
            params["keep"] = r.choice([-1, 0, r.randint(5, 100), study.deployment.deployed["keep"]])
            params["warm"], params["pinned"] = r.random(), r.choice([0.5, r.random()])
        kind = r.randrange(6)
        if kind == 0:
            params = dict(study.deployment.deployed) | {
                "pool_size": study.deployment.deployed["pool_size"] + r.choice([-1, 1])
            }
        if kind == 1 and self.stale:
            params = self.stale
        if kind == 2:
            params.pop("policy")
        self.stale = params
        return Proposal(params, "adversarial", improvement=r.choice([None, 0.0, 1e9, math.nan]))


class AdversarialSolver(ArqonSolver):
    adversary: Adversary

    @property
    def _advisor(self) -> Any:
        return self.adversary


class GuardMachine(RuleBasedStateMachine):
    solver_class: type[ArqonSolver] = AdversarialSolver

    @initialize(
        seed=st.integers(0, 5),
        budget=st.sampled_from([None, 25, 60]),
        limited=st.booleans(),
        rolls_back=st.booleans(),
        ttl=st.sampled_from([None, 45.0]),
        irregular=st.booleans(),
        situated=st.booleans(),
    )
    def open(
        self,
        seed: int,
        budget: int | None,
        limited: bool,
        rolls_back: bool,
        ttl: float | None,
        irregular: bool,
        situated: bool,
    ) -> None:
        self.bounds = IRREGULAR if irregular else BOUNDS
        self.config: dict[str, Any] = {
            "seed": seed,
            "budget": budget,
            "bounds": self.bounds,
            "objectives": {"qps": {"direction": "max", "weight": 1.0}},
            "guardrails": {
                "max_delta": IRREGULAR_DELTA if irregular else MAX_DELTA,
                "max_updates_per_second": 1.0 / INTERVAL_S,
                "rollback_on_regression": rolls_back,
            },
        }
        self.config["constraints"] = {"p99_ms": {"max": "1.5*baseline"}} if limited else {}
        if irregular:
            self.config["constraints"]["room"] = ROOM
        if ttl:
            self.config["pending_ttl_s"] = ttl
        if situated:
            self.config["context"] = {"load": {"min": 0.5, "max": 2.0, "scale": "log"}}
        self.clock, self.journal, self.random = FakeClock(), MemoryJournal(), random.Random(seed)
        self.adversary = Adversary(seed)
        self.solver = self.start()
        self.actual = {name: b.get("initial", CHOICES[0]) for name, b in self.bounds.items()}
        self.by_hand = False  # the true system was changed and no result has said so yet
        self.load = 1.0
        self.candidate: Candidate | None = None
        self.answered: list[tuple[str, dict[str, Any]]] = []
        self.unanswered: list[Candidate] = []
        self.last_change_at: float | None = None
        self.last_change: dict[str, Any] = {}
        self.asked = self.finished = self.ended = False

    def start(self) -> ArqonSolver:
        solver = self.solver_class(
            self.config, journal=self.journal, registry=CollectorRegistry(), clock=self.clock, device="cpu"
        )
        if isinstance(solver, AdversarialSolver):
            solver.adversary = self.adversary
        return solver

    def measure(self, *, good: bool = False) -> dict[str, float]:
        """A window of what really runs: better towards 60 connections, worse by a lot with the wrong policy, noisy."""
        noise = 0.0 if good else self.random.gauss(0.0, 3.0) - 60.0 * (self.random.random() < 0.03)
        merit = -0.5 * abs(self.actual["pool_size"] - 60) - 40.0 * (self.actual["policy"] == "fifo")
        tail = 0.0 if good else self.random.expovariate(1.0) + 8.0 * (self.actual["idle_s"] > 300)
        return {"qps": self.load * (200.0 + merit + noise), "p99_ms": 10.0 + tail}

    def seen(self) -> dict[str, Any] | None:
        """What is observed of the context, if anything is."""
        return self.random.choice([None, {}, {"load": self.load}]) if "context" in self.config else None

    # ---- asking ----

    @rule(applied=st.booleans())
    def ask(self, applied: bool) -> None:
        self.ask_and_apply(applied)

    def ask_and_apply(self, applied: bool) -> Candidate | None:
        before, self.asked = dict(self.actual), True
        candidate = self.solver.ask_one(self.seen())
        if candidate is None:
            self.check_end()
            self.finished = self.ended = True
            return None
        assert not self.finished, "None means finished, for good"
        assert list(candidate) == list(self.bounds), "every knob, in order"
        assert all(isinstance(v, str) or math.isfinite(v) for v in candidate.values())
        new = not self.unanswered or self.unanswered[-1].id != candidate.id
        if not self.by_hand:
            self.check_geometry(before, candidate)
        self.check_rate(candidate, new)
        if new and candidate.kind != "hold":
            self.unanswered.append(candidate)
        self.candidate = candidate
        if applied and not self.by_hand:
            self.actual = dict(candidate)
        return candidate

    @rule(count=st.integers(1, 12), gap_s=st.sampled_from([3.0, 30.0, 600.0]), with_id=st.booleans())
    def windows(self, count: int, gap_s: float, with_id: bool) -> None:
        """What mostly happens: ask, apply, measure, report."""
        for _ in range(count):
            if self.ask_and_apply(True) is None:
                return
            self.clock.pass_s(gap_s)
            self.report_window(with_id)

    @rule(factor=st.sampled_from([0.5, 2.0]))
    def load_shifts(self, factor: float) -> None:
        self.load = min(4.0, max(0.25, self.load * factor))

    def check_end(self) -> None:
        """None means finished, and the recommended config runs."""
        status = self.solver.status()
        assert status["phase"] == "finished"
        assert status["pending"] == []
        if not self.ended and in_bounds(self.actual):
            assert status["target"] == status["deployed"]
            assert self.by_hand or self.actual == status["target"]

    def check_geometry(self, before: dict[str, Any], candidate: Candidate) -> None:
        assert not broken_steps(before, dict(candidate)), (broken_steps(before, dict(candidate)), before, candidate)
        if in_bounds(before) and candidate.kind not in ("hold", "replicate"):
            assert in_bounds(candidate), candidate
        if candidate.kind in ("probe", "explore") and "enqueued" not in candidate.reason and "ttl_s" in before:
            for name in {*inactive(before), *inactive(dict(candidate))}:
                assert candidate[name] == before[name], f"{name} waits, and comes back as it was"

    def check_rate(self, candidate: Candidate, new: bool) -> None:
        deployed = self.solver.status()["deployed"]
        if not new or dict(candidate) in (deployed, self.last_change) or candidate.kind == "hold":
            return  # a change that may have been made already is none when it is asked for again
        if self.last_change_at is not None and candidate.kind != "rollback":
            assert candidate.issued_at - self.last_change_at >= INTERVAL_S - 1e-6, candidate.reason
        self.last_change_at, self.last_change = candidate.issued_at, dict(candidate)

    # ---- answering ----

    def tell(self, row: dict[str, Any]) -> None:
        self.solver.seed([row])

    @precondition(lambda self: self.candidate is not None)
    @rule(with_id=st.booleans())
    def report(self, with_id: bool) -> None:
        self.report_window(with_id)

    def report_window(self, with_id: bool) -> None:
        """The window of what really runs, whatever that is: an honest caller."""
        assert self.candidate is not None
        row: dict[str, Any] = {"params": self.actual, "values": self.measure(), "context": self.seen()}
        if with_id:
            row["id"] = self.candidate.id
            self.answered.append((self.candidate.id, row))
        self.tell(row)
        self.settle_account()

    def settle_account(self) -> None:
        self.by_hand = False
        self.candidate = None
        self.unanswered = []

    @precondition(lambda self: self.candidate is not None)
    @rule(how=st.sampled_from(["status", "inf", "nan", "missing"]))
    def report_trouble(self, how: str) -> None:
        assert self.candidate is not None
        row: dict[str, Any] = {"params": self.actual, "id": self.candidate.id}
        match how:
            case "status":
                row["status"] = "failed"
            case "inf":
                row["values"] = {"qps": -math.inf, "p99_ms": 1.0}
            case "nan":
                row["values"] = {"qps": math.nan, "p99_ms": 10.0}
            case "missing":
                row["values"] = {"p99_ms": 10.0}
        self.tell(row)
        self.settle_account()

    @rule(how=st.sampled_from(["late", "again", "correction", "history"]))
    def report_oddly(self, how: str) -> None:
        """Rows that say nothing about what runs now."""
        before = self.solver.status()
        match how:
            case "late" if len(self.unanswered) > 1:
                old = self.unanswered.pop(0)
                self.tell({"params": dict(old), "id": old.id, "values": self.measure()})
            case "again" if self.answered:
                id, row = self.random.choice(self.answered)
                self.tell(row | {"id": id})
                assert self.solver.get_history_len() == before["history_len"]
            case "correction" if self.answered:
                id, row = self.random.choice(self.answered)
                self.tell(row | {"id": id, "values": self.measure()})
                self.answered.remove((id, row))
                assert self.solver.get_history_len() == before["history_len"]
            case "history" if self.asked:
                params = dict(self.actual) | {"pool_size": self.random.randint(5, 100)}
                self.tell({"params": params, "values": self.measure(), "history": True})
        assert self.solver.status()["deployed"] == before["deployed"]

    # ---- what operators and machines do ----

    @precondition(lambda self: self.asked and not self.finished)  # before the first ask `initial` says what runs
    @rule(outside=st.booleans(), far=st.booleans(), told=st.booleans())
    def change_by_hand(self, outside: bool, far: bool, told: bool) -> None:
        size = (
            self.actual["pool_size"]
            if not far
            else self.random.randint(101, 140)
            if outside
            else self.random.randint(5, 100)
        )
        idle = min(max(self.actual["idle_s"] + self.random.uniform(-20, 20), 30.0), 600.0)
        phase, level = (self.actual["phase"] + self.random.uniform(-0.4, 0.4)) % 1.0, self.random.choice(LEVELS)
        self.actual = self.actual | {"pool_size": size, "idle_s": idle, "phase": phase, "level": level}
        self.by_hand = True
        if told:
            self.report_by_hand()

    @precondition(lambda self: self.by_hand)
    @rule()
    def report_by_hand(self) -> None:
        self.tell({"params": self.actual, "values": self.measure()})
        self.last_change_at = self.clock.now
        self.settle_account()

    @rule(seconds=st.sampled_from([-3.0, 1.0, 11.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_s(seconds)

    @precondition(lambda self: not self.finished)
    @rule(seed=st.integers(0, 1000))
    def enqueue(self, seed: int) -> None:
        """An operator's wish, anywhere in the bounds or beyond them, is no licence."""
        r = random.Random(seed)
        wish = dict(self.actual) | {
            "pool_size": r.randint(1, 110),
            "idle_s": r.uniform(30, 600),
            "policy": r.choice(CHOICES),
            "level": r.choice(LEVELS),
            "phase": r.random(),
            "hour": r.randint(0, 23),
        }
        if self.bounds is IRREGULAR:
            wish |= {"ttl_s": r.choice([0, r.uniform(5, 600)]), "keep": r.choice([-1, r.randint(5, 100)])}
            wish["warm"] = r.random()
        before = self.solver.status()
        try:
            self.solver.enqueue(wish)
        except RequestError:
            assert self.solver.status() == before
        else:
            assert len(self.solver.status()["enqueued"]) == len(before["enqueued"]) + 1

    @rule(action=st.sampled_from(["pause", "resume", "rollback", "cancel", "cancel knowing"]))
    def operate(self, action: str) -> None:
        match action:
            case "pause":
                self.solver.pause()
                self.asked = True
                held, status = self.solver.ask_one(), self.solver.status()
                if held is None:
                    assert status["phase"] == "finished"
                    return
                assert held.kind == "hold"
                assert dict(held) in [status["deployed"], *status["in_doubt"]]
            case "resume":
                self.solver.resume()
            case "rollback":
                self.solver.rollback()
                self.finished = False
            case _ if self.unanswered and self.unanswered[-1].id in self.solver.status()["pending"]:
                self.cancel(self.unanswered[-1], known=action == "cancel knowing" and not self.by_hand)

    def cancel(self, candidate: Candidate, known: bool) -> None:
        applied = dict(candidate) == self.actual
        self.solver.cancel(candidate.id, applied=applied if known else None)
        if known:
            self.unanswered = [] if applied else self.unanswered[:-1]
        self.candidate = None

    @rule()
    def restart(self) -> None:
        """A new process over the same journal knows all that was accepted and handed out."""
        before = self.solver.status()
        self.solver = self.start()
        after = self.solver.status()
        for name in ("deployed", "in_doubt", "pending", "last_good", "history_len", "budget", "phase", "baseline"):
            assert after[name] == before[name], name

    @invariant()
    def status_is_plain(self) -> None:
        import json

        if hasattr(self, "solver"):
            json.dumps(self.solver.status(), allow_nan=False)

    def teardown(self) -> None:
        """From here on results are good and tell their context: the study ends, or something is changed, within 20 asks
        that are no holds."""
        if not hasattr(self, "solver"):
            return
        self.solver.resume()
        known = {"load": self.load} if "context" in self.config else {}
        asks = 0
        if self.by_hand:
            self.report_by_hand()
        for _ in range(200):
            self.clock.pass_s(61.0)
            before = dict(self.actual)
            candidate = self.solver.ask_one(known)
            if candidate is None:
                return
            self.check_geometry(before, candidate)
            if dict(candidate) != before:
                return
            asks += candidate.kind != "hold"
            assert asks <= 20, (candidate.reason, self.solver.status())
            self.actual = dict(candidate)
            row = {"params": self.actual, "id": candidate.id, "values": self.measure(good=True), "context": known}
            self.tell(row)
        raise AssertionError("200 asks and neither an end nor a change")


class RealMachine(GuardMachine):
    """The same with the model choosing: fewer steps, because a proposal costs a fit."""

    solver_class = ArqonSolver
    few, many = choice.FEW_KNOBS, choice.MANY_KNOBS

    @initialize(few=st.sampled_from([0, choice.FEW_KNOBS]), many=st.sampled_from([0, choice.MANY_KNOBS]))
    def how_many_knobs_are_many(self, few: int, many: int) -> None:
        """With 0 each step is one of many knobs: as many as can stay as they are, and in a trust region."""
        choice.FEW_KNOBS, choice.MANY_KNOBS = few, many

    def teardown(self) -> None:
        choice.FEW_KNOBS, choice.MANY_KNOBS = self.few, self.many
        super().teardown()

    @rule(gap_s=st.sampled_from([3.0, 30.0]), with_id=st.booleans())
    def windows(self, gap_s: float, with_id: bool) -> None:
        """Three windows at a time."""
        for _ in range(3):
            if self.ask_and_apply(True) is None:
                return
            self.clock.pass_s(gap_s)
            self.report_window(with_id)


PHASES = (Phase.explicit, Phase.reuse, Phase.generate) if os.environ.get("NO_SHRINK") else tuple(Phase)
TestGuardMachine = GuardMachine.TestCase
TestGuardMachine.settings = settings(
    settings.get_profile("arqon"), max_examples=200, stateful_step_count=50, phases=PHASES
)
TestRealMachine = RealMachine.TestCase
TestRealMachine.settings = settings(
    settings.get_profile("arqon"), max_examples=5, stateful_step_count=40, phases=PHASES
)
