"""One ask as it unfolds: the study grows by every event emitted, until a candidate is handed out.

Public: Turn, yard_of, moves, same_yard.
"""

from __future__ import annotations

from dataclasses import replace

from arqon_gp import course
from arqon_gp.advice import Advisor, Goal, Proposal, Request, initial_point
from arqon_gp.deadline import Deadline
from arqon_gp.errors import FitError
from arqon_gp.exploration import LOST, SPENT
from arqon_gp.history import key
from arqon_gp.records import (
    NO_CONTEXT,
    Baselined,
    Candidate,
    Context,
    Event,
    Expired,
    Finished,
    Issued,
    Kind,
    Label,
    Labelled,
    Params,
    Prediction,
    Settling,
    Situated,
    Unchanged,
)
from arqon_gp.study import Study
from arqon_gp.view import WHOLE
from arqon_gp.yardstick import Yardstick, yardstick


def yard_of(study: Study, advisor: Advisor, *, whole: bool = False) -> Yardstick:
    """How windows are judged, after the results so far, in the present context and now; `whole`: with all of a long
    history, and then as of their own contexts and times."""
    of = study.history.judged(study.in_question, whole=whole)
    shifts = advisor.shifts(study, of) if moves(study) and not (whole and len(of) > WHOLE) else None
    return yardstick(of, study.config, study.baseline, shifts)


def moves(study: Study) -> bool:
    """Whether windows have to be brought to the present, which needs the model: from another context, or under
    guardrails from when it says that things were different."""
    forgets = study.config.guardrails is not None and any(of.get("time") for of in study.hyperparameters.values())
    return bool(study.context) or forgets


def same_yard(a: Study, b: Study) -> bool:
    """Whether windows are judged alike at two moments of a study."""
    alike = a.history is b.history and a.course.baseline is b.course.baseline
    alike = alike and (len(a.history) <= WHOLE or a.in_question == b.in_question)
    same = a.context == b.context and a.hyperparameters is b.hyperparameters
    return alike and (same or not (moves(a) or moves(b)))


class Turn:
    """`now` in unix seconds; `events` in order; `refusals`: names of the limits that refused a proposal.

    `yard`: the yardstick of the study as it comes in, if that is known; `judged`: the latest, and of which study.
    """

    def __init__(
        self,
        study: Study,
        now: float,
        advisor: Advisor,
        yard: Yardstick | None = None,
        context: Context = NO_CONTEXT,
    ) -> None:
        self.study, self.now, self.advisor = study, now, advisor
        self.events: list[Event] = []
        self.refusals: list[str] = []
        self._yard = yard
        self.judged = None if yard is None else (study, yard)
        self._deadline = Deadline(study.config.max_ask_s)
        self._expire()
        study = self.study
        if study.context and (context or not study.deployment.pending):
            was = study.situation
            here = was.elsewhere(context) if study.deployment.pending else was.expected(context, study.history, now)
            if (here.context, here.doubt) != (was.context, was.doubt):
                self.emit(Situated(here.context, now, dict(here.doubt)))

    def emit(self, event: Event) -> None:
        """One more event."""
        before = self.study
        self.study = before.apply(event)
        self.events.append(event)
        if not same_yard(self.study, before):
            self._yard = None

    @property
    def yard(self) -> Yardstick:
        """The yardstick of the present history."""
        if self._yard is None:
            self._yard = yard_of(self.study, self.advisor)
            self.judged = self.study, self._yard
        return self._yard

    @property
    def barred(self) -> str | None:
        """Why nothing may be explored; None where it may."""
        study = self.study
        if study.situation.vague and len(study.history) and study.history.rows[-1].vague:
            return LOST
        return None if study.exploration.allowed(study.config, self.now) else SPENT

    @property
    def left(self) -> float:
        """Results the budget still pays, beyond those waited for."""
        return course.windows_left(self.study.config, self.study.history) - len(self.study.deployment.pending)

    def issue(
        self,
        kind: Kind,
        proposal: Proposal,
        retry_after_s: float | None = None,
        *,
        wish: bool = False,
        recover: bool = False,
    ) -> Candidate:
        """Hand out a candidate; `recover`: as a way out of a broken limit."""
        d = self.study.deployment
        gain, change, at_random = proposal.improvement, not d.runs(proposal.params), proposal.fallback is not None
        little = gain is not None and gain < self.yard.min_effect
        if proposal.settled is not None:
            little = proposal.settled and not change and self.barred is None
        event = Issued(
            id=d.next_id(kind),
            order=d.order + 1,
            kind=kind,
            params=dict(proposal.params),
            reason=proposal.reason,
            at=self.now,
            change=change,
            predicted=proposal.predicted,
            improvement=gain,
            negligible=little,
            fraction=proposal.fraction,
            p_limits=proposal.p_limits,
            fallback=proposal.fallback,
            retry_after_s=retry_after_s,
            wish=wish,
            explores=change
            and not proposal.settled
            and (kind is Kind.PROBE or (kind is Kind.EXPLORE and (gain is not None or (at_random and not recover)))),
            context=self.study.context,
            guessed=self.study.situation.guessed,
        )
        self.emit(event)
        return event.candidate()

    def known(self, kind: Kind, params: Params, reason: str, *, wish: bool = False) -> Candidate:
        """Hand out a config that was not sought by the model: it only predicts."""
        return self.issue(kind, Proposal(params, reason, predicted=self._predicted(params)), wish=wish)

    def sought(self, request: Request) -> Proposal:
        """The proposal for a request; an initial point that no limit constrains needs no model."""
        if request.goal is Goal.PROBE and request.confidence is None:
            proposal = initial_point(self.study.config, request)
            return replace(proposal, predicted=self._predicted(proposal.params))
        return self.advisor.propose(self.study, self.yard, replace(request, deadline=self._deadline))

    def hold(self, reason: str, retry_after_s: float | None = None) -> Candidate:
        """What runs now, or the latest config that may run."""
        params = self.study.deployment.may_run
        return self.issue(Kind.HOLD, Proposal(params, reason, predicted=self._predicted(params)), retry_after_s)

    def again(self, number: int) -> Candidate:
        """A pending candidate as it was handed out."""
        return self.study.deployment.issued[number - 1].candidate()

    def notice(self) -> None:
        """Where results go on surprising the model: whether something changed. If so, a new regime opens."""
        since = self.study.drift.since
        if since is None or self.study.guard.suspicion is not None or self._cliff(since):
            return
        try:
            change = self.advisor.changed(self.study, since)
        except FitError as error:
            self.emit(Unchanged(f"whether something changed since row {since} cannot be told: {error}", self.now))
            return
        if change is None:
            self.emit(Unchanged(f"the results since row {since} are told as well without a change", self.now))
            return
        back = "" if change.like is None else f"; as in regime {change.like}"
        reason = f"{change.outcome} changed (evidence {change.evidence:.1f} nats){back}"
        self.emit(Labelled(Label.DRIFT, reason, self.now, change.since, change.like))

    def _cliff(self, since: int) -> bool:
        """Whether all that surprises may as well be one config off a cliff, never measured before, under guardrails."""
        history = self.study.history
        rows = history.rows[since:]
        one = len({key(row.params) for row in rows}) == 1
        known = len(history.windows(rows[-1].params, since=0, most=len(rows) + 1)) > len(rows)
        return self.study.config.guardrails is not None and one and not known

    def refit(self) -> None:
        """Bring the surrogate up to date with what was told since; its hyperparameters are an event."""
        if self.study.refit_due and (event := self.advisor.refit(self.study, self._deadline)) is not None:
            self.emit(event)

    def measure_start(self) -> Candidate | None:
        """A start candidate while what runs is not measured; then the baseline, once."""
        study = self.study
        if course.start_wanted(study.config, study.course, study.history, study.deployment):
            return self.known(Kind.START, study.deployment.may_run, "what runs now is measured first")
        if study.course.baseline is None and study.course.starts:
            if lacking := course.lacking(study.config, study.history, study.deployment):
                return self.known(Kind.START, study.deployment.may_run, lacking)
            self.emit(Baselined(course.baseline(study.config, study.history, study.deployment), self.now))
        return None

    def settle(self, target: Params, reason: str) -> None:
        """Fix the config the study ends at."""
        self.emit(Settling(dict(target), reason, self.now))

    def finish(self) -> None:
        """Say, once, that the study is at its end."""
        if not self.study.course.finished:
            self.emit(Finished(dict(self.study.course.target or self.study.deployment.deployed), self.now))

    def _predicted(self, params: Params) -> dict[str, Prediction] | None:
        return self.advisor.predict(self.study, params) if self.study.hyperparameters else None

    def _expire(self) -> None:
        ttl = self.study.config.pending_ttl_s
        for number in self.study.deployment.pending:
            if ttl is not None and self.now >= self.study.deployment.issued[number - 1].at + ttl:
                self.emit(Expired(str(number), self.now))
