"""What is good: last_good, suspicion and its label, drift at last_good, safe mode. A fold, and two pure functions over
it.

`finding` turns probabilities into at most one event (promotion, suspicion, label, safe mode), so that no fold ever
computes a probability again; `verdict` says what the next candidate has to be. Public: Guard, Suspicion, finding,
verdict and the verdicts Rollback, Replicate, Hold, Search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from arqon_gp import limits
from arqon_gp.comparison import Comparison, Question, Standing
from arqon_gp.config import Config, Guardrails
from arqon_gp.deployment import Deployment
from arqon_gp.history import History, key
from arqon_gp.records import (
    JUDGED,
    Baselined,
    Cause,
    Event,
    Issued,
    Kind,
    Label,
    Labelled,
    Observation,
    Params,
    Paused,
    Promoted,
    Resumed,
    Role,
    RollbackOrdered,
    SafeModeEntered,
    SafeModeLeft,
    Suspected,
    Told,
)

HOUR_S = 3600.0
SUSPICION = 0.95  # P(worse) that ends in a rollback, and that keeps a suspect a regression
PROMOTION = 0.20  # P(worse) below which a config may become last_good
SETTLE_PROMOTION = 0.50  # on the way to the end a step need only be not worse than last_good
DRIFT = 0.80  # P(last_good sank) that makes a suspicion drift
DRIFT_UNASKED = 0.98  # P(last_good moved), from two windows running, without a suspicion
INNOCENT = 0.50  # P(suspect worse) below which the alarm was false
LABEL_WINDOWS = 3
DOUBT = 0.75  # P(worse) from which a config is measured again before the search moves on
DOUBT_WINDOWS = 4
PROMISING = 0.60  # P(better) from which a config is measured again to be promoted
MOST_WINDOWS = 5
BROKEN = 0.50  # P(all limits hold) below which a config counts as breaking a limit
EQUALLY_FAR = 0.3  # |P(farther beyond a broken limit) - 1/2| up to which two configs are equals
HOPELESS = 0.05  # P(all limits hold) below which a config has no chance to, and the way is where they break least
STUCK = 6  # windows on the way out of a broken limit without one as good as last_good was, until that is looked at
CLEARLY = 0.10  # difference in P(all limits hold) that decides before the utility does
RECOVERY_WINDOWS = 10  # windows of last_good at its level, limits held, that end safe mode before its timer
SAFE_MODE_S = HOUR_S
MOST_CONFIRMED, MOST_REPORTED = 512, 8  # that are remembered, of an endless study
FIRST_FRACTION = 0.1  # of max_delta: where a cautious step starts; it grows by half with each one that goes well


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A config under suspicion; `since`: number of rows when it arose, so its last window is row `since - 1`."""

    params: Params
    cause: Cause
    since: int
    reason: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Moments in unix seconds. `trusted`: last_good is confirmed. `confirmed`: configs with the regime of promotion."""

    last_good: Params
    started: bool = False
    trusted: bool = False
    suspended: bool = False  # what runs is out of bounds
    confirmed: tuple[tuple[Params, int], ...] = ()
    suspicion: Suspicion | None = None
    reported: tuple[int, ...] = ()  # rows whose suspicion was only reported
    regressions: tuple[float, ...] = ()
    rollbacks: tuple[float, ...] = ()
    safe_mode: SafeModeEntered | None = None
    safe_since: int = 0
    ordered: bool = False
    paused: bool = False
    fraction: float = FIRST_FRACTION
    cautious: bool = False

    def apply(self, event: Event, config: Config, deployment: Deployment, history: History) -> Guard:
        """The state after one more event; deployment and history already know it."""
        match event:
            case Told():
                return self._tell(event, config, deployment)
            case Issued():
                return self._issue(event, deployment)
            case Baselined(values):
                state = replace(self, trusted=bool(values))
                return replace(state, confirmed=((self.last_good, history.regime),)) if values else state
            case Promoted(params):
                return replace(self, last_good=params, trusted=True, confirmed=_confirm(self, params, history.regime))
            case Suspected():
                return self._suspect(event, len(history))
            case Labelled():
                return self._label(event, history)
            case SafeModeEntered():
                return replace(self, safe_mode=event, safe_since=len(history))
            case SafeModeLeft():
                return replace(self, safe_mode=None, regressions=(), rollbacks=())
            case Paused():
                return replace(self, paused=True)
            case Resumed():
                return replace(self, paused=False, safe_mode=None, regressions=(), rollbacks=())
            case RollbackOrdered():
                return replace(self, ordered=not deployment.runs(self.last_good))
        return self

    def _issue(self, event: Issued, deployment: Deployment) -> Guard:
        rollbacks = self.rollbacks
        if event.kind is Kind.ROLLBACK:
            rollbacks = (*(t for t in rollbacks if t > event.at - HOUR_S), event.at)
        return replace(self, started=True, rollbacks=rollbacks, cautious=event.fraction is not None)

    def _tell(self, event: Told, config: Config, deployment: Deployment) -> Guard:
        if not self.started:
            return replace(self, last_good=deployment.deployed)
        if config.guardrails is None or not any(row.role is Role.WINDOW for row in event.observations):
            return self
        here, space = deployment.deployed, config.space
        state = self
        if not space.in_bounds(here):
            state = replace(state, suspended=True, trusted=False)
        elif state.suspended or not limits.legal(space, config.guardrails.steps, here, state.last_good):
            state = replace(state, last_good=here, trusted=False, suspended=False, suspicion=None)
        if deployment.runs(state.last_good):
            state = replace(state, ordered=False)
        grown = min(1.0, 1.5 * state.fraction) if state.cautious else state.fraction
        return replace(state, fraction=grown, cautious=False)

    def _suspect(self, event: Suspected, rows: int) -> Guard:
        if not event.rolls_back:
            return replace(self, reported=(*self.reported[1 - MOST_REPORTED :], rows))
        return replace(
            self, suspicion=Suspicion(event.params, event.cause, rows, event.reason), fraction=FIRST_FRACTION
        )

    def _label(self, event: Labelled, history: History) -> Guard:
        state = replace(self, suspicion=None)
        match event.label:
            case Label.REGRESSION:
                recent = tuple(t for t in self.regressions if t > event.at - HOUR_S)
                return replace(state, regressions=(*recent, event.at))
            case Label.DRIFT if self.trusted:
                return replace(state, confirmed=_confirm(self, self.last_good, history.regime))
        return state

    def question(self, deployment: Deployment, history: History) -> Question:
        """What has to be compared before the next candidate is chosen."""
        running = None if self.suspended else deployment.running
        suspect = self.suspicion.params if self.suspicion else None
        since = self.suspicion.since if self.suspicion else self._latest_two(deployment, history)
        current = [params for params, regime in self.confirmed if regime == history.regime]
        return Question(running, self.last_good, current, suspect, since)

    def _latest_two(self, deployment: Deployment, history: History) -> int | None:
        """Row of the last but one window, when the last two windows of the study were last_good's."""
        rows = [i for i in history.latest if i >= history.regimes[-1]]
        both = len(rows) == 2 and all(key(history.rows[i].params) == key(self.last_good) for i in rows)
        return rows[0] if both and deployment.runs(self.last_good) else None


def _confirm(guard: Guard, params: Params, regime: int) -> tuple[tuple[Params, int], ...]:
    """The confirmed configs with this one last, in this regime."""
    return (*[c for c in guard.confirmed if key(c[0]) != key(params)][1 - MOST_CONFIRMED :], (params, regime))


@dataclass(frozen=True, slots=True)
class Rollback:
    """Go back to last_good now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replicate:
    """Measure what runs again, on purpose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """No change is allowed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Search:
    """The optimizer may choose; with `recover` it seeks the highest P(all limits hold)."""

    recover: bool = False


Verdict = Rollback | Replicate | Hold | Search


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a finding or a verdict rests on. `settling`: the study walks to its end; `affords`: exploration_budget
    pays one more window of what is tried, if anything is; `beyond`: whether a window failed or was beyond a limit."""

    guard: Guard
    rails: Guardrails
    deployment: Deployment
    history: History
    comparison: Comparison
    settling: bool
    affords: bool
    confidence: float  # the highest asked for by any limit
    beyond: Callable[[Observation], bool]

    @property
    def at_last_good(self) -> bool:
        """Whether last_good runs, beyond doubt."""
        return self.deployment.runs(self.guard.last_good)


def finding(case: Case, now: float) -> Event | None:
    """The first thing the probabilities say that the fold does not know yet."""
    rules: tuple[Callable[[Case, float], Event | None], ...] = (
        _safe_mode_ends,
        _label,
        _safe_mode_begins,
        _at_last_good,
        _suspicion,
        _promotion,
    )
    return next((event for rule in rules if (event := rule(case, now)) is not None), None)


def _safe_mode_ends(case: Case, now: float) -> Event | None:
    safe = case.guard.safe_mode
    if safe is None:
        return None
    if now >= safe.until:
        return SafeModeLeft("the timer ran out", now)
    since = [row for row in case.history.rows[case.guard.safe_since :] if row.role is Role.WINDOW]
    good = case.comparison.good
    if good.holds < BROKEN:
        return SafeModeLeft("last_good itself breaks a limit: nothing is safe", now)
    calm = sum(not row.failed and key(row.params) == key(case.guard.last_good) for row in since)
    if calm >= RECOVERY_WINDOWS and calm == len(since) and good.holds >= case.confidence:
        return SafeModeLeft(f"last_good held its level and its limits for {calm} windows", now)
    return None


def _label(case: Case, now: float) -> Event | None:
    suspicion, c = case.guard.suspicion, case.comparison
    if suspicion is None or not case.at_last_good:
        return None
    rows = case.history.live(case.guard.last_good, suspicion.since)
    if not rows:
        return None
    if c.new_windows and c.sunk >= DRIFT:
        rows_before = range(suspicion.since - 1, 0, -1)
        first = next((i for i in rows_before if case.history.rows[i].role in JUDGED), suspicion.since - 1)
        return Labelled(Label.DRIFT, f"last_good sank too (P {c.sunk:.2f})", now, since=first)
    if all(row.failed for _, row in rows) and suspicion.cause is Cause.FAILED:
        return Labelled(Label.FALSE_ALARM, "last_good fails too", now)
    guilt = _guilt(suspicion.cause, c)
    if c.good.holds < BROKEN:  # a way out was sought, and this was none
        return Labelled(Label.FALSE_ALARM, f"last_good breaks a limit, too (P {1.0 - c.good.holds:.2f})", now)
    beside = suspicion.cause is not Cause.WORSE or c.beside >= DOUBT or len(rows) >= LABEL_WINDOWS
    if guilt >= SUSPICION and c.new_windows and beside:
        return Labelled(Label.REGRESSION, f"{suspicion.reason}; still so beside last_good (P {guilt:.2f})", now)
    if guilt < INNOCENT or len(rows) >= LABEL_WINDOWS:
        return Labelled(Label.FALSE_ALARM, f"beside last_good it no longer stands (P {guilt:.2f})", now)
    return None


def _guilt(cause: Cause, c: Comparison) -> float:
    match cause:
        case Cause.FAILED:
            return 1.0
        case Cause.LIMIT:
            return 1.0 - c.suspect.holds
        case Cause.WORSE:
            return _worse(c.suspect, c.good)


def _safe_mode_begins(case: Case, now: float) -> Event | None:
    if case.guard.safe_mode is not None or case.guard.suspicion is not None or case.comparison.good.holds < BROKEN:
        return None
    most = case.rails.max_rollbacks_per_hour
    regressions = sum(t > now - HOUR_S for t in case.guard.regressions)
    if regressions > most:
        return SafeModeEntered(f"{regressions} regressions within an hour, {most} allowed", now + SAFE_MODE_S, now)
    rollbacks = sum(t > now - HOUR_S for t in case.guard.rollbacks)
    if rollbacks > 2 * most + 2:
        return SafeModeEntered(f"thrashing: {rollbacks} rollbacks within an hour", now + SAFE_MODE_S, now)
    return None


def _at_last_good(case: Case, now: float) -> Event | None:
    """Confirmation of a last_good that an operator chose, and drift that shows at last_good itself."""
    guard, c = case.guard, case.comparison
    if not case.at_last_good or guard.suspicion is not None or guard.suspended:
        return None
    most = LABEL_WINDOWS * case.rails.windows_to_promote
    measured = len(case.history.live(guard.last_good, most=most))
    enough = c.good.windows >= case.rails.windows_to_promote or measured >= most
    if not guard.trusted and enough and not _failing(case, guard.last_good):
        return Promoted(guard.last_good, now, f"measured {measured} times as what runs")
    moved = max(c.sunk, c.risen)
    since = guard.question(case.deployment, case.history).since
    if guard.trusted and since is not None and c.new_windows >= 2 and moved >= DRIFT_UNASKED:
        way = "below" if c.sunk > c.risen else "above"
        return Labelled(Label.DRIFT, f"last_good is {way} its level in two windows running (P {moved:.2f})", now, since)
    return None


def _suspicion(case: Case, now: float) -> Event | None:
    guard, c, here = case.guard, case.comparison, case.deployment.running
    if here is None or case.at_last_good or guard.suspicion is not None or guard.suspended:
        return None
    rows = case.history.live(here, most=1)
    if not rows or len(case.history) in guard.reported:
        return None
    if rows[-1][1].failed:
        return Suspected(here, Cause.FAILED, 1.0, True, "its window failed", now)
    fell = c.running.collapsed and not c.good.collapsed
    if not fell and c.good.holds < min(BROKEN, c.running.holds + CLEARLY):  # what would be gone back to is no better
        return None
    refuge = fell or c.good.holds > c.running.holds or c.good.holds >= case.confidence
    if c.breached is not None and c.breach >= c.breached.confidence and refuge:
        reason = f"{c.breached.text()} is broken (P {c.breach:.2f} by this window alone)"
        return Suspected(here, Cause.LIMIT, c.breach, True, reason, now, c.breached.outcome)
    worse = _worse(c.running, c.good)
    if worse >= SUSPICION:
        reason = f"worse than last_good by more than min_effect (P {worse:.2f})"
        return Suspected(here, Cause.WORSE, worse, case.rails.rollback_on_regression, reason, now)
    return None


def _worse(a: Standing, b: Standing) -> float:
    """P(a worse than b); while b breaks a limit P(all limits hold) decides first, utility only among equals. What has
    collapsed is worse than what was a little beyond a limit.

    Where neither has a chance to hold them, the one that is farther beyond has the smaller one, and of two that are
    equally far none is worse: what is saved out there is no merit, and must not hold up the way out.
    """
    if b.holds < BROKEN and a.collapsed is not b.collapsed:
        return float(a.collapsed)
    if b.holds < BROKEN and abs(a.holds - b.holds) > CLEARLY:
        return 0.0 if a.holds > b.holds else 1.0
    if b.holds < BROKEN and abs(a.farther - 0.5) > EQUALLY_FAR:
        return a.farther
    return 0.0 if max(a.holds, b.holds) < HOPELESS else a.worse


def _promotion(case: Case, now: float) -> Event | None:
    guard, c, here = case.guard, case.comparison, case.deployment.running
    if here is None or case.at_last_good or guard.suspicion or guard.suspended or guard.safe_mode:
        return None
    if c.running.windows < case.rails.windows_to_promote:
        return None
    good_breaks = c.good.holds < BROKEN
    if not (c.running.holds >= case.confidence or (good_breaks and c.running.holds > c.good.holds - CLEARLY)):
        return None
    worse = _worse(c.running, c.good)
    if case.settling or c.foreign:  # where last_good was never measured what runs is known better
        passed = worse < SETTLE_PROMOTION
    else:
        better = c.running.better >= 1.0 - PROMOTION  # than last_good, which may not be the best here: on the way back
        passed = worse < PROMOTION and (good_breaks or better or c.worse_than_best < PROMOTION)
    if not passed:
        return None
    return Promoted(here, now, f"not worse than last_good after {c.running.windows} windows (P {worse:.2f})")


def verdict(case: Case) -> Verdict:
    """What the next candidate has to be, once nothing more is found."""
    guard, c = case.guard, case.comparison
    if guard.suspicion is not None:
        if not case.at_last_good:
            return Rollback(guard.suspicion.reason)
        return Replicate("is last_good itself still what it was, or was it the change?")
    if guard.safe_mode is not None:
        return Hold(f"safe mode: {guard.safe_mode.reason}") if case.at_last_good else Rollback("safe mode")
    here = case.deployment.running
    if here is None:
        return Search()
    if not case.at_last_good and not case.affords and c.good.holds >= BROKEN:
        return Rollback("exploration_budget pays no further window of what was tried")
    attempts = _attempts(case.history, here, max(MOST_WINDOWS, LABEL_WINDOWS, case.rails.windows_to_promote))
    if 0 < attempts < LABEL_WINDOWS and not c.running.windows:
        last = case.history.rows[-1]
        if last.role is Role.WINDOW and not last.failed:
            return Replicate("no window of it is complete yet")
    if case.at_last_good:
        if not guard.trusted:
            fails = _failing(case, here)
            return Search(recover=True) if fails else Replicate("what runs was not confirmed yet")
        if c.good.holds < BROKEN and _strayed(case, 1) >= STUCK:
            return Replicate("last_good breaks a limit: once more, is it still what it was?")
        return Search(recover=c.good.holds < BROKEN)
    unsure = c.running.windows < case.rails.windows_to_promote and _worse(c.running, c.good) < DOUBT
    if c.good.holds < BROKEN and unsure:
        return Replicate("last_good breaks a limit and this is no worse: measured again, to go on from here")
    if c.running.holds < BROKEN and (c.good.holds <= c.running.holds + CLEARLY or not c.good.windows):
        stuck = _strayed(case, 0) >= STUCK
        return Rollback("nothing was better than last_good was: is it still?") if stuck else Search(recover=True)
    return _again(case, c.running, attempts) or Search()


def _failing(case: Case, params: Params) -> bool:
    """Whether the latest windows of a config all failed, as many as would confirm it."""
    rows = case.history.live(params, most=case.rails.windows_to_promote)
    return len(rows) == case.rails.windows_to_promote and all(row.failed for _, row in rows)


def _again(case: Case, running: Standing, attempts: int) -> Replicate | None:
    """Another window of what runs, if it may convict it or confirm it."""
    worse = _worse(running, case.comparison.good)
    if attempts >= max(MOST_WINDOWS, case.rails.windows_to_promote):
        return None
    if worse >= DOUBT and running.windows < DOUBT_WINDOWS:
        return Replicate(f"it may be worse than last_good (P {worse:.2f}): one window alone does not convict")
    most = max(DOUBT_WINDOWS, case.rails.windows_to_promote)
    if running.windows < most and (running.better >= PROMISING or case.settling):
        return Replicate(f"it may be better than last_good (P {running.better:.2f}): measured again to confirm it")
    return None


def _strayed(case: Case, latest: int) -> int:
    """How many windows before these latest ones, STUCK at the most, were beyond a limit and none of last_good, if these
    all were of it."""
    rows = [row for row in islice(reversed(case.history.rows), STUCK + latest) if row.role in JUDGED]
    good = [key(row.params) == key(case.guard.last_good) for row in rows]
    astray = [case.beyond(row) and not is_good for row, is_good in zip(rows, good, strict=True)][latest:]
    return (astray.index(False) if False in astray else len(astray)) if all(good[:latest]) else 0


def _attempts(history: History, here: Params, most: int) -> int:
    """Windows since this config runs, complete or not, as far as `most`."""
    latest = list(islice((row for row in reversed(history.rows) if row.role in JUDGED), most))
    return next((i for i, row in enumerate(latest) if key(row.params) != key(here)), len(latest))
