"""The course without guardrails: initial points, search, one last candidate at the recommended config.

Any number of candidates may be pending. Public: next_candidate, open_batch, new_batch.
"""

from __future__ import annotations

from dataclasses import replace

from arqon_gp.advice import Goal, Request
from arqon_gp.course import QUIET_ASKS, probes_wanted
from arqon_gp.records import Candidate, Kind, Params
from arqon_gp.turn import Turn


def next_candidate(turn: Turn) -> Candidate | None:
    """The oldest pending candidate again, else a new one; None when the study is finished."""
    pending = turn.study.deployment.pending
    return turn.again(pending[0]) if pending else _new(turn)


def open_batch(turn: Turn) -> list[Candidate]:
    """What is pending again; else all initial points at once, else one candidate; empty when the study is finished."""
    pending = turn.study.deployment.pending
    if pending:
        return [turn.again(number) for number in pending]
    first = _new(turn)
    batch = [first] if first else []
    while batch and batch[-1].kind in (Kind.START, Kind.PROBE) and _probes(turn) > 0 and turn.left > 1:
        batch += [_new(turn)]  # type: ignore[list-item]  # left > 1, so there is one
    return batch


def new_batch(turn: Turn, q: int) -> list[Candidate]:
    """q new candidates, fewer where the budget ends; those that are pending are accounted for."""
    batch: list[Candidate] = []
    while len(batch) < q and (candidate := _new(turn)) is not None:
        batch.append(candidate)
    return batch


def _new(turn: Turn) -> Candidate | None:
    course, deployment = turn.study.course, turn.study.deployment
    if turn.left <= 0 or course.finished:
        if not deployment.pending:
            if course.target is None and len(deployment.issued) == 1:
                turn.settle(deployment.deployed, "the budget paid one candidate: it is what runs")
            turn.finish()
        return None
    if not deployment.pending and (start := turn.measure_start()):
        return start
    if _start_first(turn):
        return turn.known(Kind.START, deployment.deployed, "the initial config is measured first")
    if turn.left <= 1 and len(turn.study.history):
        return _last(turn)
    if turn.left <= 2 and len(turn.study.history) and not deployment.pending and (promising := _unmeasured_best(turn)):
        return turn.known(Kind.SETTLE, promising, "the best posterior mean, measured before it may be recommended")
    if course.queue:
        return turn.known(Kind.EXPLORE, course.queue[0], "enqueued by the operator", wish=True)
    barred = turn.barred
    if barred and (turn.study.config.goals.pareto or not len(turn.study.history)):
        return turn.known(Kind.REPLICATE, deployment.deployed, barred)
    if not barred and _probes(turn) > 0:
        number = course.probes + 1
        return turn.issue(Kind.PROBE, turn.sought(_request(turn, Goal.PROBE, number)))
    turn.notice()
    turn.refit()
    if course.endless and (course.target is not None or turn.study.at_rest) and not course.looks:
        return _watch(turn)
    request = _request(turn, Goal.IMPROVE, len(deployment.issued) + 1)
    proposal = turn.sought(replace(request, horizon=0.0, barred=barred) if barred else request)
    if course.looks and not (proposal.improvement or 0.0) >= turn.yard.min_effect:
        return _watch(turn)
    if proposal.settled:
        return turn.issue(Kind.REPLICATE if deployment.runs(proposal.params) else Kind.SETTLE, proposal)
    return turn.issue(Kind.EXPLORE, proposal)


def _start_first(turn: Turn) -> bool:
    """Whether a given initial config still has to be the first candidate."""
    study = turn.study
    return (
        study.config.initial
        and not study.deployment.issued
        and not study.history.windows(study.deployment.deployed, most=1)
    )


def _probes(turn: Turn) -> int:
    return probes_wanted(turn.study.config, turn.study.history, turn.study.course)


def _request(turn: Turn, goal: Goal, number: int) -> Request:
    deployment = turn.study.deployment
    pending = [deployment.issued[n - 1].params for n in deployment.pending]
    config = turn.study.config
    return Request(goal, config.space.whole, config.start, number, pending, horizon=turn.study.horizon)


def _unmeasured_best(turn: Turn) -> Params | None:
    """The best config by posterior mean, unless it was measured: nothing is recommended at the end on trust."""
    turn.refit()
    best = turn.advisor.best(turn.study, turn.yard, ())
    return None if turn.study.history.windows(best, since=0, most=1) else best


def _last(turn: Turn) -> Candidate:
    """The last candidate of the budget is the recommended config, so that it is what runs at the end."""
    turn.refit()
    if turn.study.course.target is None:
        space = turn.study.config.space
        seen = turn.study.history.excerpt().rows
        measured = [row.params for row in seen if space.contains(row.params, space.whole)]
        turn.settle(turn.advisor.best(turn.study, turn.yard, measured), "the budget pays one more window")
    return _at_target(turn, "the recommended config, measured once more")


def _watch(turn: Turn) -> Candidate:
    """An endless study that has nothing left to gain stays at the recommended config."""
    if turn.study.course.target is None:
        turn.settle(turn.advisor.best(turn.study, turn.yard, ()), f"{QUIET_ASKS} asks promised less than min_effect")
    return _at_target(turn, "watching")


def _at_target(turn: Turn, reason: str) -> Candidate:
    target = turn.study.course.target or turn.study.deployment.deployed
    if turn.study.deployment.runs(target):
        return turn.known(Kind.REPLICATE, target, reason)
    return turn.known(Kind.SETTLE, target, "to the recommended config")
