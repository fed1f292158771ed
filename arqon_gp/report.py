"""A study in plain words and numbers: status, why a candidate, the recommendation, the history as a table. Changes
nothing.

Public: status, explain, windows, recommend, pareto_front, history, best_value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from arqon_gp import course, limits
from arqon_gp.advice import Advisor
from arqon_gp.config import Config
from arqon_gp.errors import RequestError
from arqon_gp.history import key
from arqon_gp.knobs import Categorical, Interval, Options, Split, values, wrapped
from arqon_gp.records import (
    Dequeued,
    Event,
    Issued,
    Kind,
    Labelled,
    Params,
    Promoted,
    Recommendation,
    SafeModeEntered,
    SafeModeLeft,
    Suspected,
    Unchanged,
)
from arqon_gp.study import Study
from arqon_gp.view import WHOLE
from arqon_gp.yardstick import Yardstick, given_reference

if TYPE_CHECKING:
    import pandas


def phase(study: Study) -> str:
    """Where the study is: start, probe, search, settle, watching, label, safe mode, paused or finished."""
    guard, state = study.guard, study.course
    if state.finished:
        return "finished"
    if guard.paused:
        return "paused"
    if guard.safe_mode is not None:
        return "safe mode"
    if guard.suspicion is not None:
        return "label"
    if state.target is not None:
        return "watching" if state.endless and study.deployment.runs(state.target) else "settle"
    last = study.deployment.issued[-1] if study.deployment.issued else None
    if last is None or last.kind in (Kind.START, Kind.PROBE):
        return last.kind.value if last else "start"
    return "watching" if state.endless and last.reason.startswith("watching") else "search"


def status(study: Study, now: float, yard: Yardstick, *, device: str, fallbacks: dict[str, int]) -> dict[str, Any]:
    """The study as plain data; moments in unix seconds, infinities as None."""
    config, deployment = study.config, study.deployment
    left = course.windows_left(config, study.history)
    return {
        "study": config.name,
        "phase": phase(study),
        "context": study.context,
        "context_doubt": dict(study.situation.doubt),
        "deployed": deployment.deployed,
        "in_doubt": [deployment.issued[n - 1].params for n in deployment.doubt],
        "pending": [str(n) for n in deployment.pending],
        "last_good": {"params": study.guard.last_good, "confirmed": study.guard.trusted} if config.guardrails else None,
        "guard": _guard(study, now) if config.guardrails else None,
        "utility": _utility(study, yard),
        "baseline": study.baseline,
        "limits": [limit.text() for limit in config.goals.limits],
        "budget": {
            "budget": config.budget,
            "budget_cost": config.budget_cost,
            "spent": study.history.spent,
            "spent_cost": study.history.spent_cost,
            "left": left if math.isfinite(left) else None,
        },
        "exploration": _exploration(study, now) if study.exploration.counts(config) else None,
        "model": _model(study, yard, device, fallbacks),
        "history_len": len(study.history),
        "regime": study.history.regime,
        "drift": _drift(study),
        "target": study.course.target,
        "enqueued": list(study.course.queue),
        "settle_s": config.settle_s,
    }


def _exploration(study: Study, now: float) -> dict[str, Any]:
    spent, config = study.exploration, study.config
    return {
        "explored": spent.explored,
        "windows": spent.windows,
        "slo_minutes_last_day": spent.broken_s(now) / 60.0,
        "allowed": spent.allowed(config, now),
        "breach": spent.breach,
    }


def _drift(study: Study) -> dict[str, Any]:
    """How near a change is to being asked for, and what the latest one was."""
    drift, history = study.drift, study.history
    like = history.kinds.index(history.kinds[-1])
    return {
        "score": drift.score,
        "outcomes": sorted(drift.loud),
        "since": drift.since,
        "began": history.begun[-1],
        "like": like if like < history.regime else None,
    }


def _guard(study: Study, now: float) -> dict[str, Any]:
    guard, rails = study.guard, study.config.guardrails
    assert rails is not None
    safe, suspicion = guard.safe_mode, guard.suspicion
    wait = limits.retry_after_s(rails.min_interval_s, study.deployment.changed_at, now)
    return {
        "paused": guard.paused,
        "rollback_ordered": guard.ordered,
        "out_of_bounds": guard.suspended,
        "safe_mode": None if safe is None else {"reason": safe.reason, "until": safe.until},
        "suspicion": None if suspicion is None else {"params": suspicion.params, "reason": suspicion.reason},
        "regressions_last_hour": sum(t > now - 3600.0 for t in guard.regressions),
        "rollbacks_last_hour": sum(t > now - 3600.0 for t in guard.rollbacks),
        "next_change_in_s": wait,
        "step_box": step_box(study),
        "confirmed": [params for params, _ in guard.confirmed],
    }


def step_box(study: Study) -> dict[str, Any]:
    """What each knob may become in the next step: {"min", "max", "special"?} or a list of choices."""
    config, guard = study.config, study.guard
    if config.guardrails is None:
        box = config.space.whole
    else:
        anchors = study.deployment.anchors + ([] if guard.suspended else [guard.last_good])
        box = limits.box(config.space, config.guardrails.steps, anchors)
    shown: dict[str, Any] = {}
    for knob, domain in zip(config.space, box.domains, strict=True):
        special: list[Any] = []
        if isinstance(domain, Split):
            special, domain = list(domain.special), domain.ordinary or Options(domain.special)
        if isinstance(domain, Interval):
            ends = domain.low, domain.high
            if not isinstance(knob, Categorical) and ends[1] - ends[0] < knob.high - knob.low:
                ends = wrapped(knob, ends[0]), wrapped(knob, ends[1])  # from 22 over midnight to 2
            shown[knob.name] = {"min": ends[0], "max": ends[1]}
        else:
            options = values(knob, domain) or []
            numbers = not isinstance(domain, Options) and bool(options)
            shown[knob.name] = {"min": options[0], "max": options[-1]} if numbers else list(options)
        if special and isinstance(shown[knob.name], dict):
            shown[knob.name]["special"] = special
    return shown


def _utility(study: Study, yard: Yardstick) -> dict[str, Any]:
    goals, used = study.config.goals, yard.utility
    shown: dict[str, Any] = {
        "kind": "augmented Chebyshev" if used.centre is not None else "weighted sum",
        "weights": {o.name: o.sign * w for o, w in zip(goals.objectives, used.weights, strict=True)},
        "min_effect": yard.min_effect if len(study.history) else None,
    }
    if used.centre is not None:
        shown["centre"] = dict(zip([o.name for o in goals.objectives], used.centre, strict=True))
        shown["reference"] = {
            o.name: given_reference(o, study.config, study.baseline, yard.sizes) for o in goals.objectives
        }
    return shown


def _model(study: Study, yard: Yardstick, device: str, fallbacks: dict[str, int]) -> dict[str, Any]:
    rows = study.history.rows
    return {
        "outcomes": list(study.config.goals.modelled),
        "device": device,
        "hyperparameters": study.hyperparameters,
        "outliers": {
            name: [{"id": rows[int(i)].id, "params": rows[int(i)].params} for i in h.get("outliers", ())]
            for name, h in study.hyperparameters.items()
            if name in study.config.goals.modelled
        },
        "window_std": {name: noise.std for name, noise in yard.noise.items()} if len(study.history) else {},
        "outlier_share": {name: noise.outliers for name, noise in yard.noise.items()} if len(study.history) else {},
        "fallbacks": fallbacks,
        "nonpositive": {
            name: study.history.nonpositive.get(name, 0)
            for name in study.config.goals.modelled
            if name in study.config.goals.positive
        },
    }


def explain(config: Config, events: Iterable[Event], id: str) -> dict[str, Any]:
    """Why a candidate was handed out, and what became of it, from the journal; RequestError for an unknown id."""
    found = _explained(config, events, id)
    if not found:
        raise RequestError(f"id {id!r}: no such candidate in this study")
    return found[0]


def windows(study: Study, yard: Yardstick, events: Iterable[Event]) -> list[dict[str, Any]]:
    """Each result of a candidate, in order of arrival, explained, with its `utility` (the one in use; None where an
    objective is missing). One pass over the journal.
    """
    explained = {of["id"]: of for of in _explained(study.config, events)}
    told = [
        (row.id, float(u)) for row, u in zip(study.history.rows, yard.windows.measured[:, 0], strict=True) if row.kind
    ]
    return [explained[id] | {"utility": u if math.isfinite(u) else None} for id, u in told]


def _explained(config: Config, events: Iterable[Event], id: str | None = None) -> list[dict[str, Any]]:
    """Every candidate (or the one of an id) as the study was just before it, with what became of it at the end."""
    study = Study.new(config)
    found: list[dict[str, Any]] = []
    findings: list[str] = []
    for event in events:
        if isinstance(event, Issued):
            if id is None or event.id == id:
                found.append(_handed_out(study, event, findings))
            findings = []
        elif isinstance(event, Labelled):
            findings.append(f"{event.label.value}: {event.reason}")
        elif isinstance(event, SafeModeEntered | SafeModeLeft):
            findings.append(f"safe mode {'entered' if isinstance(event, SafeModeEntered) else 'left'}: {event.reason}")
        elif isinstance(event, Promoted | Suspected | Unchanged | Dequeued):
            findings.append(f"{type(event).__name__.lower()}: {event.reason}")
        study = study.apply(event)
    answers = {row.id: row for row in study.history.rows if row.kind is not None}
    for of in found:
        answer = answers.get(of["id"])
        of["pending"] = of["id"] in [str(n) for n in study.deployment.pending]
        of["result"] = (
            None
            if answer is None
            else {
                "values": answer.values,
                "failed": answer.failed,
                "params": answer.params,
                "context": answer.context,
                "guessed": list(answer.guessed),
            }
        )
    return found


def _handed_out(before: Study, issued: Issued, findings: list[str]) -> dict[str, Any]:
    return {
        "id": issued.id,
        "kind": issued.kind.value,
        "reason": issued.reason,
        "params": issued.params,
        "issued_at": issued.at,
        "context": issued.context,
        "guessed": list(issued.guessed),
        "change": issued.change,
        "explores": issued.explores,
        "deployed": before.deployment.deployed,
        "last_good": before.guard.last_good if before.config.guardrails else None,
        "step_box": step_box(before),
        "predicted": {n: asdict(p) for n, p in issued.predicted.items()} if issued.predicted else None,
        "expected_improvement": issued.improvement,
        "p_limits": issued.p_limits,
        "fallback": issued.fallback,
        "findings": findings,
    }


def recommend(study: Study, yard: Yardstick, advisor: Advisor, *, elsewhere: bool) -> Recommendation:
    """The config to run: the target from the end on, unless for a context `elsewhere`; under guardrails the best
    confirmed; else the best of the whole space.
    """
    config, state = study.config, study.course
    if state.target is not None and not state.told_after and not elsewhere:
        params = state.target
    elif not len(study.history):
        params = study.deployment.deployed
    elif config.guardrails is not None:
        confirmed = [p for p, _ in study.guard.confirmed]
        params = advisor.best(study, yard, confirmed) if confirmed else study.guard.last_good
    else:
        params = advisor.best(study, yard, ())
    described = advisor.describe(study, params) if len(study.history) else None
    windows = _count(study, params)
    return Recommendation(
        dict(params), described[0] if described else None, windows, described[1] if described else None
    )


def pareto_front(study: Study, advisor: Advisor) -> list[Recommendation]:
    """The measured configs that keep the limits and that no other dominates by posterior mean, the best in the first
    objective first; empty where there are none.
    """
    space, first = study.config.space, study.config.goals.objectives[0]
    measured = {key(row.params): row.params for row in study.history.rows}
    front = [
        Recommendation(dict(x), outcomes, _count(study, x), p)
        for x, outcomes, p in advisor.front(study, [x for x in measured.values() if space.contains(x, space.whole)])
    ]
    return sorted(front, key=lambda of: -first.sign * of.outcomes[first.name].mean if of.outcomes else 0.0)


def _count(study: Study, params: Params) -> int:
    """How often a config was measured; in a short history also a little beside, as rounding leaves it."""
    if len(study.history) > WHOLE:
        return study.history.count(params)
    return sum(study.config.space.same(row.params, params) for row in study.history.rows)


def best_value(study: Study, yard: Yardstick) -> float | None:
    """The mean utility of last_good in this regime; without guardrails the best seen (the raw value if it is the only
    outcome).
    """
    if not len(study.history):
        return None
    goals = study.config.goals
    if study.config.guardrails:
        rows = yard.windows.rows(study.guard.last_good, study.history.regimes[-1])
        seen = yard.windows.value[rows, 0]
        seen = seen[np.isfinite(seen)]
        best = float(seen.mean()) if len(seen) else None
    else:
        seen = yard.windows.value[np.isfinite(yard.windows.value[:, 0]), 0]
        best = float(seen.max()) if len(seen) else None
    plain = [o.name for o in goals.objectives] == ["value"]
    return -best if plain and best is not None else best


def history(study: Study) -> pandas.DataFrame:
    """One row a result, in order of arrival: what it was, `context_...`, the knobs, the outcomes, and `control_...` of
    them where there are controls. Of a name that is taken a knob is `knob_...`, an outcome `outcome_...`.
    """
    import pandas

    history, config = study.history.judged((), whole=True), study.config
    rows, columns = history.rows, dict[str, list[Any]]()
    columns["id"] = [row.id for row in rows]
    columns["eval_id"] = [row.eval_id for row in rows]
    columns["kind"] = [row.kind.value if row.kind else None for row in rows]
    columns["role"] = [row.role.value for row in rows]
    columns["status"] = ["failed" if row.failed else "ok" for row in rows]
    columns["time"] = [row.time for row in rows]
    columns["cost"] = [row.cost for row in rows]
    columns["regime"] = history.regime.tolist()

    def add(name: str, kind: str, found: list[Any]) -> None:
        while name in columns:
            name = f"{kind}_{name}"
        columns[name] = found

    for of in config.context:
        add(f"context_{of.name}", "context", [row.context.get(of.name) for row in rows])
    if config.context:
        add("guessed", "context", [", ".join(row.guessed) for row in rows])
        add("learned", "context", [not row.vague for row in rows])
    for name in config.space.names:
        add(name, "knob", [row.params[name] for row in rows])
    outcomes = dict.fromkeys([*config.goals.modelled, *(name for row in rows for name in row.values)])
    for name in outcomes:
        add(name, "outcome", [row.values.get(name) for row in rows])
    if any(row.control for row in rows):
        for name in outcomes:
            add(f"control_{name}", "of", [row.control.values.get(name) if row.control else None for row in rows])
    return pandas.DataFrame(columns)
