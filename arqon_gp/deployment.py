"""What runs, what may run, and which candidate a result answers: a fold over the journal.

`deployed` is what was last reported to run. A candidate that was handed out and not answered may run instead, until a
result says what runs: such candidates are the doubt. Public: Deployment, resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arqon_gp.config import Config
from arqon_gp.errors import ResultError
from arqon_gp.history import History
from arqon_gp.records import Cancelled, Event, Expired, Issued, Kind, Observation, Params, Role, Told
from arqon_gp.results import Row
from arqon_gp.space import Space


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
    issued: tuple[Issued, ...] = ()
    holds: tuple[Issued, ...] = ()
    pending: tuple[int, ...] = ()
    doubt: tuple[int, ...] = ()
    spoken: int = 0
    changed_at: float | None = None
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

    def runs(self, params: Params) -> bool:
        """Whether this config runs, beyond doubt."""
        return self.running is not None and self.space.same(self.deployed, params)

    def find(self, id: str) -> Issued | None:
        """The candidate or hold of an id."""
        if "h" in id:
            return next((hold for hold in reversed(self.holds) if hold.id == id), None)
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
                return replace(self, holds=(*self.holds, event))
            case Issued():
                return self._issue(event)
            case Told(observations):
                state = self
                for row in observations:
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
        return replace(
            self,
            issued=(*self.issued, event),
            pending=(number,) if superseded else (*self.pending, number),
            doubt=(*self.doubt, number),
            changed_at=event.at if event.change else self.changed_at,
        )

    def _cancel(self, event: Cancelled) -> Deployment:
        number = int(event.id)
        state = replace(self, pending=_less(self.pending, number))
        if event.applied is None:
            return state
        if not event.applied:
            return replace(state, doubt=_less(self.doubt, number))
        return replace(state, deployed=self.issued[number - 1].params, doubt=(), spoken=self.order)

    def _tell(self, row: Observation, at: float) -> Deployment:
        answered = self.find(row.id) if row.id is not None and row.kind is not None else None
        match row.role:
            case Role.WARM:
                return self._warm(row)
            case Role.WINDOW:
                return self._say(row, answered, at)
            case Role.LATE if answered is not None:
                return replace(self, pending=_less(self.pending, _number(answered)))
        return self

    def _warm(self, row: Observation) -> Deployment:
        earlier = row.time is not None and self.warm_time is not None and row.time < self.warm_time
        return self if self.initial or earlier else replace(self, deployed=row.params, warm_time=row.time)

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


def _number(issued: Issued | None) -> int:
    return int(issued.id) if issued and issued.kind is not Kind.HOLD else 0


def resolve(
    rows: Sequence[Row], deployment: Deployment, history: History, *, safe_mode: bool, prefix: str
) -> list[Observation]:
    """What each row of a batch means; rows that repeat a known result are left out.

    ResultError when a row names no candidate, or under guardrails when several rows fit none.
    """
    batch = _Batch(deployment, history, safe_mode)
    rest = [row for row in rows if not batch.take_identified(row, prefix)]
    rest = [row for row in rest if not batch.take_matching(row)]
    if len(rest) == 1 and len(batch.open) == 1:
        batch.answer(rest.pop(), deployment.issued[batch.open[0] - 1])
    if deployment.single and len(rest) > 1:
        raise ResultError(
            f"{prefix}: {len(rest)} rows without id fit no pending candidate; give each its candidate's id, "
            'or "history": true if it was measured before'
        )
    for row in rest:
        batch.take_unasked(row)
    order = {id(row): i for i, row in enumerate(rows)}
    return [observation for row, observation in sorted(batch.taken, key=lambda pair: order[id(pair[0])])]


class _Batch:
    """The rows of one batch as they are given their meaning."""

    def __init__(self, deployment: Deployment, history: History, safe_mode: bool) -> None:
        self.deployment, self.history, self.safe_mode = deployment, history, safe_mode
        self.open = list(deployment.pending)
        self.hold = deployment.open_hold
        self.taken: list[tuple[Row, Observation]] = []

    def take_identified(self, row: Row, prefix: str) -> bool:
        """Rows with an id, rows before the first ask, and rows measured before the latest candidate."""
        issued = self.deployment.find(row.id) if row.id is not None else None
        if issued is not None:
            self._known(row, issued) or self.answer(row, issued)
            return True
        latest = self.deployment.latest
        old = row.history or (row.time is not None and latest is not None and row.time < latest.at and row.id is None)
        if row.id is not None and not (row.history or latest is None):
            raise ResultError(
                f"{prefix}: id {row.id!r} is no candidate of this study; leave it out, or add \"history\": true"
            )
        if not old and latest is not None:
            return False
        if row.id is None or not self._known(row, None):
            self._take(row, Role.HISTORY if old else Role.WARM, None, spends=False)
        return True

    def take_matching(self, row: Row) -> bool:
        """Rows without id that equal a pending candidate, else the open hold, else what runs."""
        same = self.deployment.space.same
        for number in self.open:
            issued = self.deployment.issued[number - 1]
            if same(row.params, issued.params):
                self.answer(row, issued)
                return True
        if self.hold and same(row.params, self.hold.params):
            self.answer(row, self.hold)
            return True
        if not self.deployment.pending and self.deployment.runs(row.params):
            self._take(row, Role.WINDOW, None, spends=True)
            return True
        return False

    def take_unasked(self, row: Row) -> None:
        """A manual change, or, with candidates still pending, data about none of them."""
        self._take(row, Role.EXTRA if self.deployment.pending else Role.WINDOW, None, spends=True)

    def answer(self, row: Row, issued: Issued) -> None:
        """The row is the result of this candidate or hold."""
        if issued.kind is Kind.HOLD:
            spends = self.safe_mode
            newer = len(self.deployment.issued) > int(issued.id.partition("h")[0])
            self.hold = None
        else:
            spends = issued.kind is not Kind.ROLLBACK
            newer = len(self.deployment.issued) > int(issued.id)
            self.open = [n for n in self.open if str(n) != issued.id]
        late = newer or self.deployment.spoken >= issued.order
        self._take(row, Role.LATE if late else Role.WINDOW, issued, spends=spends)

    def _known(self, row: Row, issued: Issued | None) -> bool:
        """Same id again: same values are nothing new, others a correction."""
        id = issued.id if issued else row.id
        earlier = next((o for _, o in reversed(self.taken) if o.id == id and (o.kind is not None) == bool(issued)), None)
        old = earlier or self.history.find(id or "", of_candidate=issued is not None)
        if old is None:
            return False
        if (old.values, old.failed, old.sem) != (row.values, row.failed, row.sem):
            self._take(row, Role.CORRECTION, issued, spends=False)
        return True

    def _take(self, row: Row, role: Role, issued: Issued | None, *, spends: bool) -> None:
        as_issued = issued is not None and self.deployment.space.same(row.params, issued.params)
        observation = Observation(
            params=dict(issued.params) if issued and as_issued else row.params,
            values=row.values,
            role=role,
            failed=row.failed,
            spends=spends,
            cost=row.cost,
            id=issued.id if issued else row.id,
            eval_id=row.eval_id,
            kind=issued.kind if issued else None,
            sem=row.sem,
            time=row.time,
        )
        self.taken.append((row, observation))
