"""ArqonSolver: the one stateful class. It holds the lock, the clock, the journal and the observers; decisions are pure.

Every call is: read the study, decide, append the events to the journal, and only then believe them.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from prometheus_client import CollectorRegistry

from arqon_gp import report
from arqon_gp.advice import Advisor
from arqon_gp.config import Config, differences, parse
from arqon_gp.decision import Decision, decide, decide_batch
from arqon_gp.deployment import resolve
from arqon_gp.errors import ClosedError, ConfigMismatch, FitError, RateLimited, RequestError
from arqon_gp.journal import Journal, open_journal
from arqon_gp.knobs import holds
from arqon_gp.log import Batch
from arqon_gp.metrics import Metrics
from arqon_gp.records import (
    NO_CONTEXT,
    Cancelled,
    Candidate,
    Closed,
    Context,
    Enqueued,
    Event,
    Kind,
    Opened,
    Paused,
    Prediction,
    Recommendation,
    Resumed,
    RollbackOrdered,
    Told,
)
from arqon_gp.results import context_of
from arqon_gp.results import parse as parse_results
from arqon_gp.study import Study, replay
from arqon_gp.turn import moves, same_yard, yard_of
from arqon_gp.view import WHOLE
from arqon_gp.yardstick import UTILITY, Yardstick

if TYPE_CHECKING:
    import pandas

    from arqon_gp.propose import ModelAdvisor

log = logging.getLogger("arqon_gp")
DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")
MOST_WAITS = 3  # sleeps of one ask under on_rate_limit "wait": a clock that stands still must not hang the caller

Results = str | Sequence[Mapping[str, Any]]


class ArqonSolver:
    """Tunes one system: `ask_one()` for the next config, `seed()` with what was measured.

    config: JSON text, dict or Config. journal: "sqlite:///path" (survives kill -9 and power loss), a Journal, or None
    (in memory). registry: a prometheus_client registry (default: the global one). clock: a callable giving unix
    seconds; the solver never lets it run backwards. device: "auto" (CUDA for a long history, where there is one), "cpu"
    or "cuda".

    Raises ConfigError for a bad config, RequestError for an unknown device, ConfigMismatch if the journal's study was
    created with another config, StudyHeld if another solver writes it. Every method but close() raises ClosedError once
    closed. Thread-safe.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any] | Config,
        *,
        journal: str | Journal | None = None,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] | None = None,
        device: str = "auto",
    ) -> None:
        if not isinstance(device, str) or not DEVICES.fullmatch(device):
            raise RequestError(f'device: expected "auto", "cpu", "cuda" or "cuda:1", found {device!r}')
        self._lock = RLock()
        self._clock = clock or time.time
        self._device = device
        self._model: ModelAdvisor | None = None
        self._yard: tuple[Study, Yardstick] | None = None
        self._closed = False
        checked = parse(config)
        self._journal = open_journal(journal)
        try:
            self._journal.append(checked.name, 0, ())  # become the writer before reading
            self._study = self._reopened(checked)
            self._commit([Opened(json.loads(checked.canonical), self._now())])
            self._metrics = Metrics(self._study, registry)
        except BaseException:
            self._journal.close()
            raise
        self._warm_up()

    def _reopened(self, config: Config) -> Study:
        events = iter(self._journal.read(config.name, 0))
        created = next(events, None)
        if isinstance(created, Opened) and (changed := differences(json.dumps(created.config), config.canonical)):
            raise ConfigMismatch(
                f"study {config.name!r} was created with another config ({changed}); give the same one, or another "
                "name: changing a running study (reconfigure) is not supported yet"
            )
        return replay(config, events if created is None else chain([created], events))

    @staticmethod
    def _warm_up() -> None:
        """Compile the numerics in the background where they never were: no ask shall wait for a compiler."""
        from arqon_kernels.warm import warm_in_background

        warm_in_background()

    # ---- the loop ----

    def ask_one(self, context: Mapping[str, Any] | None = None) -> Candidate | None:
        """The config to run next, or None, and None means only: finished, and the recommended config runs.

        Without an answer to the last candidate it is the same one again. `context`: what is observed now of the
        config's context; of what is not given, or null or NaN, a forecast is made. RateLimited under
        `on_rate_limit: "raise"`; RequestError for a context that is none of the study's.
        """
        rails = self._study.config.guardrails
        how = rails.on_rate_limit if rails else "hold"
        for last in [False] * MOST_WAITS + [True]:
            with self._open():
                began = time.perf_counter()
                decision = decide(self._study, self._now(), self._advisor, self._kept_yard, self._checked(context))
                candidate = decision.candidates[0] if decision.candidates else None
                wait = candidate.retry_after_s if candidate is not None and candidate.kind is Kind.HOLD else None
                if wait is None or how == "hold" or (how == "wait" and last):
                    self._accept(decision, began)
                    return candidate
                if how == "raise":
                    raise RateLimited(wait)
            time.sleep(wait)
        raise AssertionError("unreachable: the last round returns")

    def ask(self, q: int | None = None, context: Mapping[str, Any] | None = None) -> list[Candidate] | None:
        """A batch, or None when finished.

        Without q: the open batch again, else the initial points at once, else one candidate (always one under
        guardrails). With q: so many new candidates for parallel evaluation, those pending accounted for; fewer, or none
        at all, where the rest of the budget is pending already. `context` as in ask_one(). RequestError for q > 1 under
        guardrails: one live system runs one config.
        """
        if q is not None and (isinstance(q, bool) or not isinstance(q, int) or q < 1):
            raise RequestError(f"q: expected a whole number >= 1, found {q!r}")
        if self._study.config.guardrails is not None:
            if q is not None and q > 1:
                raise RequestError(f"q = {q} under guardrails: one live system runs one config; ask for one at a time")
            one = self.ask_one(context)
            return None if one is None else [one]
        with self._open():
            began = time.perf_counter()
            known = self._checked(context)
            decision = decide_batch(self._study, self._now(), self._advisor, q, self._kept_yard, known)
            self._accept(decision, began)
            return None if decision.study.course.finished else list(decision.candidates)

    def seed(self, results: Results) -> None:
        """Take a batch of results, JSON text or a list of rows: all of it, durably, or none.

        ResultError ("Invalid seed data: ...") names the row, what was found and what to do.
        """
        self._tell(results, "Invalid seed data")

    def tell(self, results: Results) -> None:
        """The same as seed(); its errors begin with "Invalid results"."""
        self._tell(results, "Invalid results")

    def _tell(self, results: Results, prefix: str) -> None:
        with self._open():
            study = self._study
            rows = parse_results(results, study.config, study.carried, prefix)
            for of in study.config.beyond(*(row.context for row in rows if row.context)):
                log.warning("context.%s: results were measured outside its range, %g to %g", of.name, of.low, of.high)
            safe = study.guard.safe_mode is not None
            observations = resolve(
                rows,
                study.deployment,
                study.history,
                safe_mode=safe,
                prefix=prefix,
                context=study.context,
                guessed=study.situation.guessed,
                vague=study.situation.vague,
            )
            if observations and not study.history.latest and not observations[-1].vague:
                for name in set(observations[-1].guessed).difference(study.situation.seen):
                    middle = study.config.usual[name]
                    log.warning(
                        "context.%s was never told: %g, the middle of its range, is taken until it is", name, middle
                    )
            if vague := sum(row.vague for row in observations):
                log.warning(
                    "%d results do not tell their context: they are kept, the model learns nothing of them", vague
                )
            now = self._now()
            if observations:
                self._commit([Told(Batch(observations), now)])
            repeats = len(rows) - len(observations)
            self._observe(lambda: self._metrics.told(self._study, observations, now, repeats))
            if model := self._model:
                self._observe(lambda: model.told(self._study))

    # ---- questions ----

    def recommend(self, context: Mapping[str, Any] | None = None) -> Recommendation:
        """The config to run, its predicted noise-free outcomes with 95 % intervals (raw units), and how often it was
        measured: in the present context, or in another one; RequestError for one that is none of the study's."""
        with self._open():
            study = self._study.elsewhere(self._checked(context))
            elsewhere = study.context != self._study.context
            return report.recommend(study, self._yardstick(study), self._advisor, elsewhere=elsewhere)

    def pareto_front(self, context: Mapping[str, Any] | None = None) -> list[Recommendation]:
        """The measured configs that keep the limits and that no other dominates in the posterior means of the
        objectives, whatever their weights; each as recommend() shows one, the best in the first objective first.
        """
        with self._open():
            return report.pareto_front(self._study.elsewhere(self._checked(context)), self._advisor)

    def importance(self, of: str = UTILITY) -> dict[str, Prediction]:
        """How much each knob matters to the utility, or to one outcome, with a 95 % interval of what is not known yet.

        It is the total effect: the share of the variance over the whole space that would remain if all other knobs were
        known, 0 to 1; their sum may exceed 1.

        RequestError for an unknown outcome, and before anything was measured.
        """
        with self._open():
            outcomes = self._study.config.goals.modelled
            if of not in (UTILITY, *outcomes):
                raise RequestError(f"importance of {of!r}: expected {UTILITY!r} or one of {', '.join(outcomes)}")
            try:
                found: dict[str, Prediction] = self._advisor.importance(self._study, self._yardstick(), of)
            except FitError as error:
                raise RequestError(f"importance: {error}") from error
            return found

    def status(self) -> dict[str, Any]:
        """The state of the study as plain data (it goes through json.dumps); docs/reference.md names each field."""
        with self._open():
            model = self._model
            device, fallbacks = (model.device, dict(model.fallbacks)) if model else ("none", {})
            found = report.status(self._study, self._now(), self._yardstick(), device=device, fallbacks=fallbacks)
            return deepcopy(found)  # what is done to it changes nothing here

    def explain(self, id: str) -> dict[str, Any]:
        """Why this candidate, and what became of it, as plain data; docs/reference.md names each field. RequestError
        for an unknown id."""
        with self._open():
            found = report.explain(self._study.config, self._journal.read(self._study.config.name, 0), str(id))
            return deepcopy(found)

    def windows(self) -> list[dict[str, Any]]:
        """Each result of a candidate, in order of arrival: what explain() says of it, and its `utility`."""
        with self._open():
            events = self._journal.read(self._study.config.name, 0)
            long = len(self._study.history) > WHOLE
            yard = yard_of(self._study, self._advisor, whole=True) if long else self._yardstick()
            return [deepcopy(of) for of in report.windows(self._study, yard, events)]

    def history(self) -> pandas.DataFrame:
        """Every result, one row each, in order of arrival; docs/reference.md names each column."""
        with self._open():
            return report.history(self._study)

    def get_history_len(self) -> int:
        """Number of results."""
        with self._open():
            return len(self._study.history)

    # ---- the operator ----

    def cancel(self, id: str, applied: bool | None = None) -> None:
        """Withdraw a candidate that has no result. `applied`: whether it runs; None if that is not known.

        RequestError when no unanswered candidate has this id.
        """
        with self._open():
            deployment = self._study.deployment
            open_ids = [str(n) for n in dict.fromkeys([*deployment.pending, *deployment.doubt])]
            if str(id) not in open_ids:
                raise RequestError(f"id {id!r} is no unanswered candidate; these are: {', '.join(open_ids) or 'none'}")
            self._commit([Cancelled(str(id), applied, self._now())])

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Try this config next, before anything the model would choose; under guardrails by legal steps, as far as each
        is not worse than last_good. What was enqueued before comes first.

        RequestError for a config outside the bounds or off a grid, and when the study is at its end or walks to it.
        """
        with self._open():
            space, course = self._study.config.space, self._study.course
            try:
                wanted = space.check(params, self._study.carried)
            except ValueError as error:
                raise RequestError(f"enqueue: {error}") from error
            off = [
                knob.name
                for knob, domain in zip(space, space.whole.domains, strict=True)
                if not holds(knob, wanted[knob.name], domain)
            ]
            if off:
                raise RequestError(f"enqueue: {off[0]} = {wanted[off[0]]!r} is out of bounds or off the grid")
            if broken := space.broken_rule(wanted):
                raise RequestError(f"enqueue: {broken.text} does not hold for {wanted}")
            if course.finished or (course.target is not None and not course.endless):
                raise RequestError("enqueue: the study settles at the recommended config; nothing more is tried")
            self._commit([Enqueued(space.nearest(wanted, space.whole, wanted), self._now())])

    def rollback(self) -> None:
        """Order last_good back: the next candidate is the rollback, and supersedes what is pending.

        RequestError without guardrails: there is no last_good then.
        """
        with self._open():
            if self._study.config.guardrails is None:
                raise RequestError("rollback: without guardrails there is no last_good to go back to")
            self._commit([RollbackOrdered(self._now())])

    def pause(self) -> None:
        """Hold what runs, whatever was ordered, until resume(); results still count."""
        with self._open():
            self._commit([Paused(self._now())])

    def resume(self) -> None:
        """End a pause, and safe mode."""
        with self._open():
            self._commit([Resumed(self._now())])

    def close(self) -> None:
        """Give the journal back and remove this study's metrics; the running system is left as it is. Idempotent."""
        with self._lock:
            if self._closed:
                return
            try:
                self._commit([Closed(self._now())])
            finally:  # a journal that cannot be written holds nothing back
                self._closed = True
                if self._model is not None:
                    self._model.close()
                self._metrics.close()
                self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- inside ----

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ClosedError(f"study {self._study.config.name!r}: this solver was closed; open a new one")
            yield

    def _now(self) -> float:
        """The clock, never earlier than any moment already written down."""
        now, latest = float(self._clock()), self._study.at if hasattr(self, "_study") else 0.0
        return max(now, latest) if math.isfinite(now) else latest

    @property
    def _advisor(self) -> Advisor:
        return cast(Advisor, _Lazy(self))

    def _checked(self, context: Mapping[str, Any] | None) -> Context:
        """What is known of a context; RequestError where that is none of this study's."""
        try:
            known = NO_CONTEXT if context is None else context_of(context, self._study.config)
        except ValueError as error:
            raise RequestError(str(error)) from error
        for of in self._study.config.beyond(known):
            told = (context or {})[of.name]
            log.warning("context.%s: %g is outside its range, %g to %g", of.name, told, of.low, of.high)
        return known

    @property
    def _kept_yard(self) -> Yardstick | None:
        """How windows are judged, as far as that is known without a fit."""
        return None if moves(self._study) else self._yardstick()

    def _yardstick(self, study: Study | None = None) -> Yardstick:
        """How windows are judged, after the results so far, in the study's context."""
        study = study or self._study
        of, yard = self._yard or (None, None)
        if of is None or not same_yard(of, study):
            yard = yard_of(study, self._advisor)
            self._yard = (study, yard)
        assert yard is not None
        return yard

    def _commit(self, events: Sequence[Event]) -> None:
        study = self._study
        for event in events:
            study = study.apply(event)
        self._write(study, events)

    def _write(self, study: Study, events: Sequence[Event]) -> None:
        """Append first, believe afterwards; Ctrl-C between the two must not part them."""
        name, length = study.config.name, self._study.length
        try:
            if events:
                self._journal.append(name, length, events)
            self._study = study
        except KeyboardInterrupt:
            if any(True for _ in self._journal.read(name, length)):
                self._study = study
            raise

    def _accept(self, decision: Decision, began: float) -> None:
        self._write(decision.study, decision.events)
        self._yard = decision.judged or self._yard
        self._observe(lambda: self._show(decision, time.perf_counter() - began))
        if model := self._model:
            self._observe(lambda: model.prepare(decision.study))

    def _show(self, decision: Decision, seconds: float) -> None:
        model, yard = self._model, decision.judged[1] if decision.judged else None
        self._metrics.asked(decision.study, decision.events, decision.refusals, seconds)
        self._metrics.measured(
            best=report.best_value(decision.study, yard) if yard else None,
            hypervolume=model.hypervolume(decision.study, yard) if model and yard else None,
            device=model.device if model else "none",
            fallbacks=model.fallbacks if model else {},
        )

    def _observe(self, show: Callable[[], None]) -> None:
        """Observers may neither break nor change a decision."""
        try:
            show()
        except Exception:
            log.exception("an observer failed; the study is not touched")


class _Lazy:
    """The model's advice, with the engine imported when it is first needed."""

    def __init__(self, solver: ArqonSolver) -> None:
        self._solver = solver

    def __getattr__(self, name: str) -> Any:
        if self._solver._model is None:
            from arqon_gp.propose import ModelAdvisor

            self._solver._model = ModelAdvisor(self._solver._study.config, self._solver._device)
        return getattr(self._solver._model, name)
