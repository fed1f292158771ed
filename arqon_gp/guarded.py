"""The course under guardrails: one small legal change at a time, and back when it got worse.

Precedence: what the operator ordered, what is pending, the way back into the bounds, the start windows, what the guard
finds, the end, the search. Whatever was chosen, the geometry of the guard judges it last: it refuses, it never clips.
Public: next_candidate.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial

from arqon_gp import guard, limits
from arqon_gp.advice import Goal, Proposal, Request, random_step
from arqon_gp.comparison import Comparison, compare
from arqon_gp.config import Guardrails
from arqon_gp.course import QUIET_ASKS, probes_wanted
from arqon_gp.errors import FitError
from arqon_gp.exploration import LOST
from arqon_gp.history import key
from arqon_gp.legal import Region, nearest_legal, one_by_one
from arqon_gp.records import JUDGED, Candidate, Dequeued, Kind, Label, Labelled, Observation, Params
from arqon_gp.space import Box
from arqon_gp.study import Study
from arqon_gp.turn import Turn

MOST_FINDINGS = 8  # an ask never needs as many: a bound where trust in the rules would be a loop
DEFAULT_CONFIDENCE = 0.95


def next_candidate(turn: Turn, rails: Guardrails) -> Candidate | None:
    """The next candidate; None when the study is finished, and then the recommended config runs."""
    study = turn.study
    state, deployment = study.guard, study.deployment
    if state.ordered and not state.suspended:
        return _pending(turn, Kind.ROLLBACK) or _rollback(turn, rails, "ordered by the operator")
    if deployment.pending:
        return turn.again(deployment.pending[-1])
    if study.course.finished:
        return None
    if state.suspended or not study.config.space.in_bounds(deployment.deployed):
        return _back_into_bounds(turn, rails)
    if turn.left > 0 and (start := turn.measure_start()):
        return start
    turn.notice()
    turn.refit()
    verdict = guard.verdict(_case(turn, rails))
    return _end(turn, rails) if turn.left <= 0 else _follow(turn, rails, verdict)


def _follow(turn: Turn, rails: Guardrails, verdict: guard.Verdict) -> Candidate | None:
    match verdict:
        case guard.Rollback(reason):
            return _rollback(turn, rails, reason)
        case guard.Hold(reason):
            return turn.hold(reason)
        case guard.Replicate(reason):
            if turn.study.course.target is None and turn.study.guard.suspicion is None and _ending(turn, rails):
                return _walk(turn, rails)
            return turn.known(Kind.REPLICATE, turn.study.deployment.may_run, reason)
        case guard.Search(recover):
            on = recover and turn.study.course.endless  # no study settles at a broken limit
            return _walk(turn, rails) if not on and _ending(turn, rails) else _search(turn, rails, recover)


def _pending(turn: Turn, kind: Kind) -> Candidate | None:
    """The pending candidate again, if it is of this kind."""
    for number in turn.study.deployment.pending:
        if turn.study.deployment.issued[number - 1].kind is kind:
            return turn.again(number)
    return None


def _case(turn: Turn, rails: Guardrails) -> guard.Case:
    """What the windows say now, after everything they say was written down."""
    for _ in range(MOST_FINDINGS):
        study = turn.study
        question = study.guard.question(study.deployment, study.history)
        expect = turn.advisor.expectation(study, turn.yard)
        found = compare(question, turn.yard, study.config, expect)
        case = guard.Case(
            guard=study.guard,
            rails=rails,
            deployment=study.deployment,
            history=study.history,
            comparison=_here(turn, found),
            settling=study.course.target is not None or study.course.walking,
            affords=study.exploration.affords(study.config, turn.now),
            confidence=_confidence(turn) or DEFAULT_CONFIDENCE,
            beyond=partial(_beyond, study),
        )
        event = guard.finding(case, turn.now)
        if event is None:
            break
        turn.emit(_as_world(turn, event) if isinstance(event, Labelled) else event)
    return case


def _as_world(turn: Turn, label: Labelled) -> Labelled:
    """The label; where it opens a regime, the model says whether one of before is back. In a context it is the same
    world unless the model says otherwise: there last_good also sinks where traffic has come nearer to a cliff than the
    model thought."""
    study = turn.study
    if label.label is not Label.DRIFT or label.since is None:
        return label
    change, same = None, study.history.regime if study.context else None
    if study.drift.loud or not study.context:
        with suppress(FitError):
            change = turn.advisor.changed(study, label.since)
    return replace(label, like=same if change is None else change.like)


def _here(turn: Turn, found: Comparison) -> Comparison:
    """The comparison where what runs has broken a limit under a context: what would be gone back to has kept it under
    another one, and has to be expected to keep it in this. Where it is not, only lately can it have shown that it does
    not collapse."""
    study = turn.study
    good = study.guard.last_good
    if not study.context or found.breach < guard.BROKEN or study.deployment.runs(good):
        return found
    holds = min(found.good.holds, turn.advisor.holds(study, good))
    if holds >= guard.BROKEN:
        return replace(found, good=replace(found.good, holds=holds))
    collapsed = found.good.collapsed or (found.running.collapsed and not _lately(study, good))
    holds = min(holds, found.running.holds)  # a way out may be near
    return replace(found, good=replace(found.good, holds=holds, collapsed=collapsed))


def _lately(study: Study, params: Params) -> bool:
    """Whether a config ran in one of the latest windows, in a context like that of the last one."""
    config, rows = study.config, [row for row in study.history.rows[-guard.STUCK :] if row.role in JUDGED]
    return any(config.space.same(row.params, params) and config.alike(row.context, rows[-1].context) for row in rows)


def _confidence(turn: Turn) -> float | None:
    return max((limit.confidence for limit in turn.study.config.goals.limits), default=None)


def _anchors(turn: Turn) -> list[Params]:
    """Everything a change must be within one step of."""
    state = turn.study.guard
    return turn.study.deployment.anchors + ([] if state.suspended else [state.last_good])


def _change(turn: Turn, rails: Guardrails, kind: Kind, proposal: Proposal) -> Candidate:
    """Hand out a change, when rate and geometry permit it."""
    deployment = turn.study.deployment
    wait = limits.retry_after_s(rails.min_interval_s, deployment.changed_at, turn.now)
    if wait > 0 and kind is not Kind.ROLLBACK and not deployment.runs(proposal.params):
        return turn.hold(f"the rate limit allows the next change in {wait:.3g} s", wait)
    return turn.issue(kind, proposal)


def _rollback(turn: Turn, rails: Guardrails, reason: str) -> Candidate:
    """last_good, one legal step away by construction: exempt from the rate limit, never from max_delta."""
    good = turn.study.guard.last_good
    refused = limits.broken(turn.study.config.space, rails.steps, turn.study.deployment.anchors, good)
    if refused:
        turn.refusals += refused
        return turn.hold(f"{reason}; but last_good is more than one legal step away in {', '.join(refused)}")
    return turn.known(Kind.ROLLBACK, good, reason)


def _back_into_bounds(turn: Turn, rails: Guardrails) -> Candidate | None:
    """A legal step towards the nearest point of the bounds; where there is none, only measuring is left."""
    study = turn.study
    space, here = study.config.space, study.deployment.may_run
    inside = nearest_legal(space, here, study.config.start)
    step = limits.step_towards(space, rails.steps, here, inside)
    if step is None or limits.broken(space, rails.steps, _anchors(turn), step):
        if turn.left <= 0:
            turn.finish()
            return None
        return turn.known(Kind.REPLICATE, here, "what runs is out of bounds and no legal step leads back")
    return _change(turn, rails, Kind.EXPLORE, Proposal(step, "what runs is out of bounds: back towards them"))


# ---- the end ------------------------------------------------------------


def _end(turn: Turn, rails: Guardrails) -> Candidate | None:
    """The budget is spent: finished, once last_good runs, which the target is if the way there was good."""
    good, target = turn.study.guard.last_good, turn.study.course.target
    if target is None or key(target) != key(good):
        turn.settle(good, "the budget is spent")
    if not turn.study.deployment.runs(good):
        return _rollback(turn, rails, "the budget is spent: back to last_good")
    turn.finish()
    return None


def _ending(turn: Turn, rails: Guardrails) -> bool:
    """Whether the study settles: the budget pays the way to the recommended config and no more, or nothing is left to
    gain.

    Fixes the target when that begins.
    """
    study = turn.study
    if study.course.target is not None:
        return not (study.course.looks and study.deployment.runs(study.course.target))
    quiet = study.at_rest
    reserve = max(1.0, rails.windows_to_promote * _farthest(turn, rails))
    if not quiet and turn.left - 1 >= reserve:
        return False
    target, steps = _target(turn, rails)
    if not quiet and turn.left - 1 >= max(1.0, rails.windows_to_promote * steps):
        return False
    turn.settle(
        target, f"{QUIET_ASKS} asks promised less than min_effect" if quiet else "the budget pays the way there"
    )
    return True


def _farthest(turn: Turn, rails: Guardrails) -> float:
    """Most legal steps from last_good to any confirmed config: a bound that needs no model."""
    state, space = turn.study.guard, turn.study.config.space
    steps = [limits.steps_between(space, rails.steps, state.last_good, p) for p, _ in state.confirmed]
    return max((s for s in steps if math.isfinite(s)), default=0.0)


def _target(turn: Turn, rails: Guardrails) -> tuple[Params, float]:
    """The best confirmed config and the steps to it; last_good, if that is out of reach or not better by min_effect."""
    study = turn.study
    good, space = study.guard.last_good, study.config.space
    confirmed = [params for params, _ in study.guard.confirmed]
    if not confirmed:
        return good, 0.0
    best = turn.advisor.best(study, turn.yard, confirmed)
    steps = limits.steps_between(space, rails.steps, good, best)
    if steps * rails.windows_to_promote > turn.left or not math.isfinite(steps):
        return good, 0.0
    better = turn.advisor.gain(study, turn.yard, best, good) >= turn.yard.min_effect
    return (best, steps) if better else (good, 0.0)


def _walk(turn: Turn, rails: Guardrails) -> Candidate | None:
    """One step towards the target; at the target the rest of the budget is spent measuring it."""
    study = turn.study
    good, space, target = study.guard.last_good, study.config.space, study.course.target or study.guard.last_good
    if study.deployment.runs(target):
        reason = (
            "watching" if study.course.endless else "the recommended config runs: the rest of the budget measures it"
        )
        return turn.known(Kind.REPLICATE, target, reason)
    if not study.deployment.runs(good) and key(target) != key(good):
        if study.deployment.running is not None and study.deployment.last_change is Kind.SETTLE:
            turn.settle(good, "a step on the way was not as good as last_good")
        else:
            return _rollback(turn, rails, "back to last_good, from where the way to the recommended config begins")
        target = good
    steps = limits.steps_between(space, rails.steps, good, target)
    if rails.windows_to_promote * steps > turn.left:
        turn.settle(good, "the budget no longer pays the way")
        target = good
    if study.deployment.runs(target):
        return _walk(turn, rails)
    step = target if key(target) == key(good) else limits.step_towards(space, rails.steps, good, target) or good
    proposal = turn.advisor.predict(turn.study, step)
    return _change(turn, rails, Kind.SETTLE, Proposal(step, "towards the recommended config", predicted=proposal))


# ---- the search ------------------------------------------------------------


def _likely_broken(turn: Turn) -> bool:
    """Whether the model expects what runs to break a limit now."""
    described = turn.advisor.describe(turn.study, turn.study.deployment.may_run)
    return described is not None and bool(turn.study.config.goals.limits) and described[1] < guard.BROKEN


def _beyond(study: Study, row: Observation) -> bool:
    """Whether a window failed or was beyond a limit."""
    return row.failed or study.config.goals.broken(row.values, study.fixed)


def _broke(study: Study) -> bool:
    """Whether the latest window of what runs was."""
    last = study.history.live(study.deployment.may_run, most=1)
    return bool(last) and _beyond(study, last[0][1])


def _breaking(study: Study) -> bool:
    """Whether both of the latest windows were, wherever they ran: one more of what runs would tell what they have."""
    rows = [study.history.rows[i] for i in study.history.latest]
    return len(rows) == 2 and all(_beyond(study, row) for row in rows)


def _news(study: Study) -> bool:
    """Whether one more window of last_good would tell more of the present context than its two latest ones, where it
    runs: these are from another one, or from elsewhere. Not where the context moves on as far in every window."""
    good, config = study.guard.last_good, study.config
    rows = [study.history.rows[i] for i in study.history.latest if i >= study.history.regimes[-1]]
    stays = len(rows) == 2 and all(config.space.same(row.params, good) for row in rows)
    if not study.deployment.runs(good) or not stays:
        return study.deployment.runs(good)
    return _jumped(study)


def _jumped(study: Study) -> bool:
    """Whether the context is far from that of the latest window, and that was not from the one before."""
    contexts = [study.history.rows[i].context for i in study.history.latest]
    if not study.context or len(contexts) < 2:
        return False
    before, last = contexts
    return not study.config.alike(study.context, last) and study.config.alike(last, before)


def _search(turn: Turn, rails: Guardrails, recover: bool) -> Candidate | None:
    """A change proposed by the model inside what the guard permits; or another window, where nothing may move."""
    study = turn.study
    box = limits.box(study.config.space, rails.steps, _anchors(turn))
    if study.course.queue and not recover:
        return _enqueued(turn, rails, box)
    if box.empty or box.single:
        return turn.known(Kind.REPLICATE, study.deployment.may_run, "no knob may move from here")
    recover = recover or _likely_broken(turn) or _breaking(study)
    if turn.barred == LOST and not _broke(study):  # it is expected in a context that nobody knows, and was not seen
        recover = False
    barred = None if recover else turn.barred
    probe = not recover and not barred and probes_wanted(study.config, study.history, study.course) > 0
    goal = Goal.RECOVER if recover else Goal.PROBE if probe else Goal.IMPROVE
    number = study.course.probes + 1 if probe else len(study.deployment.issued) + 1
    wait = limits.retry_after_s(rails.min_interval_s, study.deployment.changed_at, turn.now)
    if wait > 0:
        return turn.hold(f"the rate limit allows the next change in {wait:.3g} s", wait)
    good = study.guard.last_good
    believed = recover and study.config.beyond(study.context) and not _broke(study)  # of out there no model knows
    if (believed or not recover) and _news(study) and turn.yard.foreign(good):
        return turn.known(Kind.REPLICATE, good, "what is found here is compared with last_good: it is measured first")
    if not recover and _jumped(study) and turn.yard.foreign(study.deployment.may_run):
        return turn.known(Kind.REPLICATE, study.deployment.may_run, "what runs is measured here before it is left")
    if goal is Goal.IMPROVE and (step := _remembered(turn, rails, box)) is not None:
        return turn.known(Kind.EXPLORE, step, "towards the best config known for this context")
    small = limits.scaled(study.config.space, rails.steps, study.guard.fraction)
    request = Request(
        goal=goal,
        box=box,
        here=study.deployment.may_run,
        number=number,
        confidence=None if recover else _confidence(turn),
        cautious=limits.box(study.config.space, small, [study.guard.last_good], within=box),
        fraction=study.guard.fraction,
        horizon=0.0 if barred else study.horizon,
        barred=barred,
    )
    if barred and study.config.goals.pareto:  # a front has no best config that what is learned could be weighed by
        return turn.known(Kind.REPLICATE, study.deployment.may_run, barred)
    proposal = _judged(turn, rails, request, turn.sought(request))
    if study.course.looks and not (proposal.improvement or 0.0) >= turn.yard.min_effect:
        return _walk(turn, rails)  # it stays at rest
    kind = Kind.PROBE if probe else Kind.EXPLORE
    if study.deployment.runs(proposal.params):
        kind = Kind.REPLICATE
    return turn.issue(kind, proposal, recover=recover)


def _remembered(turn: Turn, rails: Guardrails, box: Box) -> Params | None:
    """A legal step towards the confirmed config that is best in the present context, if that is elsewhere, better than
    what runs by min_effect, and the step is safe enough."""
    study, advisor, confidence = turn.study, turn.advisor, _confidence(turn)
    space, here, confirmed = (
        study.config.space,
        study.deployment.may_run,
        [params for params, _ in study.guard.confirmed],
    )
    if not study.context or not confirmed:
        return None
    best = advisor.best(study, turn.yard, confirmed)
    if space.contains(best, box):  # within reach: the search knows it
        return None
    if not advisor.gain(study, turn.yard, best, here) >= turn.yard.min_effect:  # nor where it is not a number
        return None
    step = Region(space, box, here, returns=True).settled(_nearest(turn, box, best))
    if limits.broken(space, rails.steps, _anchors(turn), step) or not space.contains(step, box):
        return None
    safe = confidence is None or advisor.holds(study, step) >= confidence
    return step if safe and not space.same(step, here) and advisor.pays(study, turn.yard, step, here) else None


def _nearest(turn: Turn, box: Box, wanted: Params) -> Params:
    """The legal point of the box nearest to a config."""
    space, here = turn.study.config.space, turn.study.deployment.may_run
    step = here if box.empty else space.nearest(wanted, box, here)
    return (
        one_by_one(space, here, step, lambda params: space.contains(params, box)) if space.broken_rule(step) else step
    )


def _enqueued(turn: Turn, rails: Guardrails, box: Box) -> Candidate | None:
    """The legal step that leads nearest to what the operator enqueued; where none leads nearer, that is given up."""
    deployment, space, wish = turn.study.deployment, turn.study.config.space, turn.study.course.queue[0]
    here, step = deployment.may_run, _nearest(turn, box, wish)
    if space.same(step, here) and step != wish:
        turn.emit(Dequeued("no legal step leads nearer to what was enqueued", turn.now))
        return _search(turn, rails, recover=False)
    wait = limits.retry_after_s(rails.min_interval_s, deployment.changed_at, turn.now)
    if wait > 0 and not deployment.runs(step):
        return turn.hold(f"the rate limit allows the next change in {wait:.3g} s", wait)
    reason = "enqueued by the operator" if step == wish else "towards what the operator enqueued"
    return turn.known(Kind.REPLICATE if deployment.runs(step) else Kind.EXPLORE, step, reason, wish=True)


def _judged(turn: Turn, rails: Guardrails, request: Request, proposal: Proposal) -> Proposal:
    """The proposal if it is legal; else a point of the box that no model chose. The guard never clips."""
    space = turn.study.config.space
    try:
        params = space.check(proposal.params)
        refused = limits.broken(space, rails.steps, _anchors(turn), params)
        if not refused and not space.contains(params, request.box):
            refused = ["bounds"]
    except ValueError:
        refused = ["bounds"]
    if not refused:
        return proposal
    turn.refusals += refused
    here, why = turn.study.deployment.may_run, f"the guard refused a proposal ({', '.join(refused)})"
    if request.barred:
        return Proposal(here, f"hold what runs: {why}", fallback=why)
    return random_step(turn.study.config, request, here, why)
