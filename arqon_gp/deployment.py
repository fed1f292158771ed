"""What runs, what may run, and which candidate a result answers: a fold over the journal.

`deployed` is what was last reported to run. A candidate that was handed out and not answered may run instead, until a
result says what runs: such candidates are the doubt. Public: Deployment, resolve.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from arqon_gp.config import Config
from arqon_gp.errors import ResultError
from arqon_gp.history import UNASKED, History
from arqon_gp.log import Log
from arqon_gp.records import (
    NO_CONTEXT,
    Cancelled,
    Context,
    Event,
    Expired,
    Issued,
    Kind,
    Observation,
    Params,
    Prediction,
    Role,
    Told,
)
from arqon_gp.space import Space

log = logging.getLogger("arqon_gp")


@dataclass(frozen=True, slots=True)
class Deployment:
    """`issued`: the candidates that are no holds, number n at n - 1. `holds`: the others.

    `pending`: numbers of the unanswered ones, several only without guardrails (`single` False). `doubt`: numbers of
    those that may run instead of `deployed`. `spoken`: order of the last candidate a result spoke of or stood after.
    """

    space: Space
    deployed: Params
    initial: bool  # named in the config: warm-start rows do not move it
    single: bool
    issued: Log[Issued] = field(default_factory=Log)
    holds: Log[Issued] = field(default_factory=lambda: Log((_id,)))
    pending: tuple[int, ...] = ()
    doubt: tuple[int, ...] = ()
    spoken: int = 0
    changed_at: float | None = None
    last_change: Kind | None = None  # why the last change was handed out
    warm_time: float | None = None

    @property
    def order(self) -> int:
        """How many candidates, holds included, were handed out."""
        return len(self.issued) + len(self.holds)

    @property
    def latest(self) -> Issued | None:
        """The candidate or hold handed out last."""
        return max((x[-1] for x in (self.issued, self.holds) if x), key=lambda i: i.order, default=None)

    @property
    def anchors(self) -> list[Params]:
        """Every config that may run now: what was last reported, then the unanswered ones in order."""
        return [self.deployed, *(self.issued[n - 1].params for n in self.doubt)]

    @property
    def may_run(self) -> Params:
        """The latest config that may run: what a hold repeats."""
        return self.anchors[-1]

    @property
    def running(self) -> Params | None:
        """What runs, or None while that is in doubt."""
        return self.deployed if all(self.space.same(self.deployed, p) for p in self.anchors[1:]) else None

    @property
    def open_hold(self) -> Issued | None:
        """The latest candidate, if it is a hold that no result has answered."""
        last = self.latest
        return last if last and last.kind is Kind.HOLD and last.order > self.spoken else None

    def predicted(self, row: Observation, config: Config) -> Mapping[str, Prediction]:
        """What was predicted of the candidate that a row is the result of; nothing where that is not what ran."""
        issued = self.find(row.id) if row.id is not None and row.kind is not None else None
        if issued is None or issued.predicted is None or row.params != issued.params or row.vague:
            return {}
        return issued.predicted if config.alike(row.context, issued.context) else {}

    def runs(self, params: Params) -> bool:
        """Whether this config runs, beyond doubt."""
        return self.running is not None and self.space.same(self.deployed, params)

    def find(self, id: str) -> Issued | None:
        """The candidate or hold of an id."""
        if "h" in id:
            return next((hold for _, hold in self.holds.find(0, id, most=1)), None)
        number = int(id) if id.isdecimal() and len(id) < 18 else 0
        return self.issued[number - 1] if 1 <= number <= len(self.issued) and str(number) == id else None

    def next_id(self, kind: Kind) -> str:
        """Ids count the candidates that are no holds; a hold's adds its own number."""
        if kind is not Kind.HOLD:
            return str(len(self.issued) + 1)
        last, _, number = self.holds[-1].id.partition("h") if self.holds else ("", "", "")
        return f"{len(self.issued)}h{int(number) + 1 if last == str(len(self.issued)) else 1}"

    def apply(self, event: Event) -> Deployment:
        """The state after one more event."""
        match event:
            case Issued(kind=Kind.HOLD):
                return replace(self, holds=_told(self.holds).extended([event]))
            case Issued():
                return self._issue(event)
            case Told(observations):
                state = self._warm([row for row in observations if row.role is Role.WARM])
                for row in observations:
                    if row.role in (Role.WINDOW, Role.LATE):
                        state = state._tell(row, event.at)
                return state
            case Expired():
                return replace(self, pending=_less(self.pending, int(event.id)))
            case Cancelled():
                return self._cancel(event)
        return self

    def _issue(self, event: Issued) -> Deployment:
        number = len(self.issued) + 1
        superseded = event.kind is Kind.ROLLBACK and self.single
        before = self.issued if number - 1 in self.pending else _told(self.issued)
        return replace(
            self,
            issued=before.extended([event]),
            pending=(number,) if superseded else (*self.pending, number),
            doubt=(*self.doubt, number),
            changed_at=event.at if event.change else self.changed_at,
            last_change=event.kind if event.change else self.last_change,
        )

    def _cancel(self, event: Cancelled) -> Deployment:
        number = int(event.id)
        state = replace(self, pending=_less(self.pending, number))
        if event.applied is None:
            return state
        if not event.applied:
            return replace(state, doubt=_less(self.doubt, number))
        issued, later = self.issued[number - 1], tuple(n for n in self.doubt if n > number)
        return replace(state, deployed=issued.params, doubt=later, spoken=max(self.spoken, issued.order))

    def _tell(self, row: Observation, at: float) -> Deployment:
        answered = self.find(row.id) if row.id is not None and row.kind is not None else None
        match row.role:
            case Role.WINDOW:
                return self._say(row, answered, at)
            case Role.LATE if answered is not None:
                return replace(self, pending=_less(self.pending, _number(answered)))
        return self

    def _warm(self, rows: Sequence[Observation]) -> Deployment:
        """The latest of these rows, by their time or their order, is what runs."""
        deployed, time = self.deployed, self.warm_time
        for row in rows:
            if row.time is None or time is None or row.time >= time:
                deployed, time = row.params, row.time
        return self if self.initial or not rows else replace(self, deployed=deployed, warm_time=time)

    def _say(self, row: Observation, answered: Issued | None, at: float) -> Deployment:
        expected = answered.params if answered else self.deployed
        return replace(
            self,
            deployed=row.params,
            pending=() if self.single else _less(self.pending, _number(answered)),
            doubt=(),
            spoken=max(self.spoken, answered.order if answered else self.order),
            changed_at=self.changed_at if self.space.same(row.params, expected) else at,
        )


def _less(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(n for n in numbers if n != number)


def _told(issued: Log[Issued]) -> Log[Issued]:
    """The last one, no longer waited for, without what the journal alone needs to keep: a history is long."""
    return issued.replaced(len(issued) - 1, replace(issued[-1], reason="", predicted=None)) if issued else issued


def _id(issued: Issued) -> str:
    return issued.id


def _number(issued: Issued | None) -> int:
    return int(issued.id) if issued and issued.kind is not Kind.HOLD else 0


def resolve(
    rows: Sequence[Observation],
    deployment: Deployment,
    history: History,
    *,
    safe_mode: bool,
    prefix: str,
    context: Context = NO_CONTEXT,
    guessed: tuple[str, ...] = (),
    vague: tuple[str, ...] = (),
) -> list[Observation]:
    """What each row of a batch means; rows that repeat a known result are left out. `context`: the present one, which
    rows are taken to be measured in as far as they do not say, if they are no result of an earlier candidate; `guessed`
    what of that nobody told, and `vague` what of that is hardly known.

    ResultError when a row names no candidate, or under guardrails when several rows fit none.
    """
    batch = _Batch(deployment, history, safe_mode, context, guessed, vague)
    rest = [(i, row) for i, row in enumerate(rows) if not batch.take_identified(i, row, prefix)]
    rest = [(i, row) for i, row in rest if not batch.take_matching(i, row)]
    if len(rest) == 1 and len(batch.open) == 1:
        batch.answer(*rest.pop(), deployment.issued[batch.open[0] - 1])
    if deployment.single and len(rest) > 1:
        raise ResultError(
            f"{prefix}: {len(rest)} rows without id fit no pending candidate; give each its candidate's id, "
            'or "history": true if it was measured before'
        )
    for i, row in rest:
        batch.take_unasked(i, row)
    return [batch.taken[i] for i in sorted(batch.taken)]


class _Batch:
    """The rows of one batch as they are given their meaning; `taken` maps their numbers to observations.

    `open`: numbers of candidates still unanswered; `running`: what runs, as far as the rows so far tell, or None.
    """

    def __init__(
        self,
        deployment: Deployment,
        history: History,
        safe_mode: bool,
        context: Context,
        guessed: tuple[str, ...],
        vague: tuple[str, ...],
    ) -> None:
        self.deployment, self.history, self.safe_mode = deployment, history, safe_mode
        self.context, self.guessed, self.vague = context, guessed, vague
        self.latest = deployment.latest
        self.open = list(deployment.pending)
        self.hold = deployment.open_hold
        self.running = None if deployment.pending else deployment.running
        self.taken: dict[int, Observation] = {}

    def take_identified(self, i: int, row: Observation, prefix: str) -> bool:
        """Rows with an id, rows before the first ask, and rows measured before what they could be the result of."""
        latest = self.latest
        issued = self.deployment.find(row.id) if row.id is not None else None
        if issued is not None and self._repeats(row, issued):
            return True
        if issued is not None:
            if not self._known(i, row, issued):
                self.answer(i, row, issued)
            return True
        if self._known(i, row, None):
            return True
        if row.id is not None and latest is not None and row.role is not Role.HISTORY:
            raise ResultError(
                f'{prefix}: id {row.id!r} is no candidate of this study; leave it out, or add "history": true'
            )
        old = row.role is Role.HISTORY or self._before_all(row)
        if old and row.role is not Role.HISTORY:
            log.warning("a result is from before what was handed out, by its time, %s: it is kept as history", row.time)
        if latest is not None and not old:
            return False
        self._take(i, row, Role.HISTORY if old else Role.WARM, None, spends=False)
        return True

    def _before_all(self, row: Observation) -> bool:
        """Whether a row was measured before every candidate it could be the result of was handed out.

        It can be of those it equals, else of any that is unanswered, else of the latest.
        """
        if row.time is None or self.latest is None:
            return False
        waiting = self._waiting
        equal = [issued for issued in waiting if self.deployment.space.same(row.params, issued.params)]
        return all(row.time < issued.at for issued in equal or waiting or [self.latest])

    @property
    def _waiting(self) -> list[Issued]:
        """The unanswered candidates in order, then the open hold."""
        return [self.deployment.issued[n - 1] for n in self.open] + ([self.hold] if self.hold else [])

    def take_matching(self, i: int, row: Observation) -> bool:
        """Rows without id that equal a pending candidate, else the open hold, else what runs."""
        same = self.deployment.space.same
        for issued in self._waiting:
            if same(row.params, issued.params) and (row.time is None or row.time >= issued.at):
                self.answer(i, row, issued)
                return True
        if self.running is not None and same(row.params, self.running):
            self._take(i, row, Role.WINDOW, None, spends=True)
            return True
        return False

    def take_unasked(self, i: int, row: Observation) -> None:
        """A manual change, or, with several candidates pending, data about none of them."""
        several = bool(self.deployment.pending) and not self.deployment.single
        self._take(i, row, Role.EXTRA if several else Role.WINDOW, None, spends=True)

    def answer(self, i: int, row: Observation, issued: Issued) -> None:
        """The row is the result of this candidate or hold."""
        is_hold = issued.kind is Kind.HOLD
        number = int(issued.id.partition("h")[0])
        if is_hold:
            self.hold = None
        else:
            self.open = [n for n in self.open if n != number]
        late = len(self.deployment.issued) > number or self.deployment.spoken >= issued.order
        free = issued.kind is Kind.ROLLBACK or (is_hold and not self.safe_mode)
        self._take(i, row, Role.LATE if late else Role.WINDOW, issued, spends=not free)
        if not late:
            self.running = row.params

    def _repeats(self, row: Observation, issued: Issued) -> bool:
        """Whether the id is a candidate's only by chance: a row of the caller's own that is told once more."""
        same = self.deployment.space.same
        if row.id is None or same(row.params, issued.params):
            return False
        own = self.history.find(row.id, of_candidate=False)
        return own is not None and same(row.params, own.params) and (row.values, row.failed) == (own.values, own.failed)

    def _known(self, i: int, row: Observation, issued: Issued | None) -> bool:
        """Whether the id was reported before: same values are nothing new, others a correction."""
        id = issued.id if issued else row.id
        if id is None:
            return False
        here = (o for o in self.taken.values() if o.id == id and (o.kind is not None) == (issued is not None))
        old = next(here, None) or self.history.find(id, of_candidate=issued is not None)
        if old is None:
            return False
        told = row.values, row.failed, row.sem, row.control, old.context | row.context
        if (old.values, old.failed, old.sem, old.control, old.context) != told:
            there = old.context, old.guessed, old.vague
            self._take(i, row, Role.CORRECTION, issued, spends=False, there=there)
        return True

    def _situation(self, issued: Issued | None) -> tuple[Context, tuple[str, ...]]:
        """Where the result of a candidate was measured, as far as it does not say: where the latest ask was, or its own
        one, if others were handed out since."""
        if issued is None or not issued.context or self.latest is None or issued.order == self.latest.order:
            return self.context, self.guessed
        return issued.context, issued.guessed

    def _take(
        self,
        i: int,
        row: Observation,
        role: Role,
        issued: Issued | None,
        *,
        spends: bool,
        there: tuple[Context, tuple[str, ...], bool] | None = None,
    ) -> None:
        if role is row.role and len(row.context) == len(self.context):  # as it was told
            self.taken[i] = row
            return
        context, guessed, *rest = there or self._situation(issued)
        if role is Role.HISTORY:
            guessed = tuple(context)
        if row.context:
            context, guessed = context | row.context, tuple(name for name in guessed if name not in row.context)
        vague = bool(guessed) and (rest[0] if rest else role in UNASKED or not set(self.vague).isdisjoint(guessed))
        as_issued = issued is not None and self.deployment.space.same(row.params, issued.params)
        self.taken[i] = replace(
            row,
            params=issued.params if issued and as_issued else row.params,
            role=role,
            spends=spends,
            id=issued.id if issued else row.id,
            kind=issued.kind if issued else None,
            context=context or NO_CONTEXT,
            guessed=guessed,
            vague=vague,
        )
