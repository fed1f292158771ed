"""The answer to an ask: events, the study after them, and candidates. Pure but for the advisor. No torch.

Public: Decision, decide, decide_batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from arqon_gp import free, guarded
from arqon_gp.advice import Advisor
from arqon_gp.records import NO_CONTEXT, Candidate, Context, Event
from arqon_gp.study import Study
from arqon_gp.turn import Turn
from arqon_gp.yardstick import Yardstick


@dataclass(frozen=True, slots=True)
class Decision:
    """`refusals`: names of the limits that refused a proposal. `judged`: how windows were judged last, if they had to
    be, and the study at that moment."""

    events: tuple[Event, ...]
    study: Study
    candidates: tuple[Candidate, ...]
    refusals: tuple[str, ...]
    judged: tuple[Study, Yardstick] | None


def decide(
    study: Study, now: float, advisor: Advisor, yard: Yardstick | None = None, context: Context = NO_CONTEXT
) -> Decision:
    """The answer to ask_one(): one candidate, or none when the study is finished. `context`: what is known of it."""
    turn = Turn(study, now, advisor, yard, context)
    rails = study.config.guardrails
    candidate: Candidate | None = None
    if study.course.finished and not study.guard.ordered:
        pass
    elif study.guard.paused:
        candidate = turn.hold("paused by the operator")
    elif rails is not None:
        candidate = guarded.next_candidate(turn, rails)
    else:
        candidate = free.next_candidate(turn)
    return _decision(turn, [candidate] if candidate is not None else [])


def decide_batch(
    study: Study,
    now: float,
    advisor: Advisor,
    q: int | None,
    yard: Yardstick | None = None,
    context: Context = NO_CONTEXT,
) -> Decision:
    """The answer to ask() without guardrails: the open batch, or q new candidates."""
    turn = Turn(study, now, advisor, yard, context)
    if study.guard.paused:
        return _decision(turn, [turn.hold("paused by the operator")])
    return _decision(turn, free.open_batch(turn) if q is None else free.new_batch(turn, q))


def _decision(turn: Turn, candidates: list[Candidate]) -> Decision:
    return Decision(tuple(turn.events), turn.study, tuple(candidates), tuple(turn.refusals), turn.judged)
