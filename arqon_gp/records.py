"""What is written down: candidates, observations and the events of a journal, with their versioned JSON.

Public: Candidate, Kind, Prediction, Observation, Role, the event classes, Event, encode, decode, packed, unpacked.
All moments (`at`, `issued_at`, `time`) are unix seconds, all durations (`_s`) seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, GetPydanticSchema, TypeAdapter, ValidationError

from arqon_gp.errors import JournalError
from arqon_gp.log import BATCH, Batch, Columns

Scalar = bool | int | float | str
Params = dict[str, Scalar]
Context = dict[str, Scalar]  # numbers, in the order of the config
NO_CONTEXT: Context = {}  # one for all rows: a history is long
FORMAT: Literal[1] = 1


class Kind(StrEnum):
    """Why a candidate is handed out."""

    START = "start"
    PROBE = "probe"
    EXPLORE = "explore"
    REPLICATE = "replicate"
    HOLD = "hold"
    ROLLBACK = "rollback"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One outcome of the next window, raw units: mean and a central 95 % interval, window noise included."""

    mean: float
    lower: float
    upper: float


class Candidate(dict[str, Scalar]):
    """The config to run next: a dict of knob values with the attributes of the decision.

    `predicted` maps outcomes to their `Prediction` for the next window, or is None before there is a model.
    `retry_after_s` is set on a hold only: seconds until a change is allowed; None on one, too, that does not end by
    itself at a known time: in a pause, or safe mode.
    """

    def __init__(
        self,
        params: Params,
        *,
        id: str,
        kind: Kind,
        reason: str,
        issued_at: float,
        predicted: dict[str, Prediction] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(params)
        self.id = id
        self.kind = kind
        self.reason = reason
        self.predicted = None if predicted is None else dict(predicted)
        self.retry_after_s = retry_after_s
        self.issued_at = issued_at


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The config to run. `outcomes`: predicted, free of noise, with 95 % intervals, raw units; None before there is a
    model.

    `windows`: how often it was measured. `p_limits`: P(all limits hold); 1 without limits, None before there is a
    model.
    """

    params: Params
    outcomes: dict[str, Prediction] | None
    windows: int
    p_limits: float | None


class Role(StrEnum):
    """What a row of results means for the study."""

    WARM = "warm"  # known before the first ask; free
    HISTORY = "history"  # measured before the latest candidate; free, never says what runs
    WINDOW = "window"  # a window of what runs now
    LATE = "late"  # a newer candidate or a manual change stands: feeds the model only
    EXTRA = "extra"  # without guardrails: data about no candidate
    CORRECTION = "correction"  # new values for an earlier row of the same id


JUDGED = frozenset({Role.WARM, Role.WINDOW})  # late and old rows feed the model and nothing else


@dataclass(frozen=True, slots=True)
class Control:
    """What another instance, with a config of its own, measured in the same window."""

    params: Params
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of results. `values` holds None for an outcome not measured; `sem` standard errors, raw units; `context`
    what it was measured in, whole, where the study has one, and `guessed` what of that nobody told; `vague`: so little
    is known of that that no model can learn from the row."""

    params: Params
    values: dict[str, float | None]
    role: Role
    failed: bool = False
    spends: bool = True
    cost: float = 1.0
    id: str | None = None
    eval_id: int | str | None = None
    kind: Kind | None = None
    sem: dict[str, float] = field(default_factory=dict)
    time: float | None = None
    control: Control | None = None
    context: Context = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    vague: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A solver opened the study; the first one creates it."""

    config: dict[str, Any]
    at: float
    type: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True)
class Issued:
    """A candidate was handed out, the `order`-th of all, holds included. `change`: it differs from what runs.

    `improvement`: expected gain, utility units, and `negligible` when it is below min_effect, or would not pay.
    `p_limits`: P(all limits hold). `fraction`: the share of max_delta a cautious step kept to. `fallback`: why the
    model did not choose it; such a candidate is exempt from replay equality. `wish`: it is, or leads to, what an
    operator enqueued. `explores`: it is tried to learn, at the cost of exploration_budget. `context`: what it is for,
    and `guessed` what of that nobody told.
    """

    id: str
    order: int
    kind: Kind
    params: Params
    reason: str
    at: float
    change: bool
    predicted: dict[str, Prediction] | None = None
    improvement: float | None = None
    negligible: bool = False
    fraction: float | None = None
    p_limits: float | None = None
    fallback: str | None = None
    retry_after_s: float | None = None
    wish: bool = False
    explores: bool = False
    context: Context = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    type: Literal["issued"] = "issued"

    def candidate(self) -> Candidate:
        """The dict handed to the caller."""
        return Candidate(
            dict(self.params),
            id=self.id,
            kind=self.kind,
            reason=self.reason,
            issued_at=self.at,
            predicted=self.predicted,
            retry_after_s=self.retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class Situated:
    """The context that the next candidate is for; `doubt`: the std of each that was not told but is a forecast, 0 where
    it stands still."""

    context: Context
    at: float
    doubt: dict[str, float] = field(default_factory=dict)
    type: Literal["situated"] = "situated"


@dataclass(frozen=True, slots=True)
class Told:
    """One accepted seed() call. In JSON the observations are a list of objects, however they are kept."""

    observations: Annotated[Sequence[Observation], GetPydanticSchema(lambda _, of: of(tuple[Observation, ...]))]
    at: float
    type: Literal["told"] = "told"


@dataclass(frozen=True, slots=True)
class Refitted:
    """The hyperparameters of the surrogate, by modelled outcome: warm state is part of the fold."""

    hyperparameters: dict[str, dict[str, list[float]]]
    type: Literal["refitted"] = "refitted"


@dataclass(frozen=True, slots=True)
class Baselined:
    """The start windows are measured; the baseline (mean per outcome, raw units) is frozen."""

    values: dict[str, float]
    at: float
    type: Literal["baselined"] = "baselined"


@dataclass(frozen=True, slots=True)
class Expired:
    """A pending candidate outlived `pending_ttl_s`."""

    id: str
    at: float
    type: Literal["expired"] = "expired"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An operator withdrew a candidate; `applied`: whether it runs, None when unknown."""

    id: str
    applied: bool | None
    at: float
    type: Literal["cancelled"] = "cancelled"


@dataclass(frozen=True, slots=True)
class Paused:
    """An operator paused the study."""

    at: float
    type: Literal["paused"] = "paused"


@dataclass(frozen=True, slots=True)
class Resumed:
    """An operator resumed the study; this also ends safe mode."""

    at: float
    type: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True)
class RollbackOrdered:
    """An operator wants last_good back."""

    at: float
    type: Literal["rollback_ordered"] = "rollback_ordered"


@dataclass(frozen=True, slots=True)
class Enqueued:
    """An operator wants this config tried next."""

    params: Params
    at: float
    type: Literal["enqueued"] = "enqueued"


@dataclass(frozen=True, slots=True)
class Dequeued:
    """The first config of the queue is given up."""

    reason: str
    at: float
    type: Literal["dequeued"] = "dequeued"


@dataclass(frozen=True, slots=True)
class Closed:
    """The solver was closed; nothing about the running system changed."""

    at: float
    type: Literal["closed"] = "closed"


@dataclass(frozen=True, slots=True)
class Promoted:
    """A config became (or, unconfirmed before, was confirmed as) last_good."""

    params: Params
    at: float
    reason: str
    type: Literal["promoted"] = "promoted"


class Cause(StrEnum):
    """What a suspicion rests on."""

    WORSE = "worse"
    LIMIT = "limit"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Suspected:
    """What runs looks worse than last_good; `outcome` names the limited outcome for cause limit.

    With `rolls_back` the next candidate is a rollback, else it is only reported.
    """

    params: Params
    cause: Cause
    probability: float
    rolls_back: bool
    reason: str
    at: float
    outcome: str | None = None
    type: Literal["suspected"] = "suspected"


class Label(StrEnum):
    """What a suspicion turned out to be."""

    REGRESSION = "regression"
    DRIFT = "drift"
    FALSE_ALARM = "false alarm"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A suspicion was settled, or drift was seen. Drift opens a regime that begins at row `since`; `like`: the earlier
    one that is back, by its number."""

    label: Label
    reason: str
    at: float
    since: int | None = None
    like: int | None = None
    type: Literal["labelled"] = "labelled"


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Results surprised the model several times running, but nothing changed, as far as the evidence says."""

    reason: str
    at: float
    type: Literal["unchanged"] = "unchanged"


@dataclass(frozen=True, slots=True)
class SafeModeEntered:
    """Only last_good runs until the timer, recovery or an operator ends it."""

    reason: str
    until: float
    at: float
    type: Literal["safe_mode_entered"] = "safe_mode_entered"


@dataclass(frozen=True, slots=True)
class SafeModeLeft:
    """Search is allowed again."""

    reason: str
    at: float
    type: Literal["safe_mode_left"] = "safe_mode_left"


@dataclass(frozen=True, slots=True)
class Settling:
    """The config the study ends at is fixed."""

    target: Params
    reason: str
    at: float
    type: Literal["settling"] = "settling"


@dataclass(frozen=True, slots=True)
class Finished:
    """ask_one() answered None: the system runs `target`."""

    target: Params
    at: float
    type: Literal["finished"] = "finished"


Event = (
    Opened
    | Issued
    | Situated
    | Told
    | Refitted
    | Baselined
    | Expired
    | Cancelled
    | Paused
    | Resumed
    | RollbackOrdered
    | Enqueued
    | Dequeued
    | Closed
    | Promoted
    | Suspected
    | Labelled
    | Unchanged
    | SafeModeEntered
    | SafeModeLeft
    | Settling
    | Finished
)


def packed(event: Event) -> Event:
    """The event as it is kept in memory: the observations of a large batch as columns."""
    match event:
        case Told(Batch() as rows) if len(rows) >= BATCH:
            return replace(event, observations=rows.columns)
    return event


def unpacked(event: Event) -> Event:
    """A packed event as it was."""
    match event:
        case Told(Columns() as columns):
            return replace(event, observations=Batch.of(columns))
    return event


@dataclass(frozen=True, slots=True)
class _Envelope:
    event: Annotated[Event, Field(discriminator="type")]
    v: Literal[1] = FORMAT


_adapter: TypeAdapter[_Envelope] = TypeAdapter(_Envelope)


def encode(event: Event) -> str:
    """One event as JSON text, `{"event": {"type": ...}, "v": 1}`; floats survive the round trip to the last bit."""
    return _adapter.dump_json(_Envelope(event), exclude_defaults=False).decode()


def decode(text: str) -> Event:
    """The event of a JSON text; JournalError when it is damaged or was written by a newer format."""
    try:
        return _adapter.validate_json(text).event
    except ValidationError as error:
        found = text if len(text) <= 80 else text[:80] + "..."
        raise JournalError(
            f"an event of the journal cannot be read ({found!r}); this version reads format {FORMAT}: "
            "open it with the version that wrote it"
        ) from error
