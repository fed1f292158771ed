"""The model's side of a decision: fit, expect, propose, recommend. Implements advice.Advisor with the GP surrogate.

Everything is a function of the study; the surrogate of the present history is kept so that it is made once. Numerical
failure never reaches the caller. The ladder: jitter, other starts of a fit, the last good hyperparameters conditioned
on all rows, and at last no proposal: what runs is held, or a random legal step taken. Each rung is counted. Public:
ModelAdvisor.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from arqon_gp import acquisition
from arqon_gp.acquisition import Aim
from arqon_gp.active import MOST_CUDA_ROWS, MOST_ROWS, active_set
from arqon_gp.advice import Change, Goal, Proposal, Request, random_step
from arqon_gp.background import Background
from arqon_gp.choice import Choice, breach, good_rows, situated
from arqon_gp.collapse import edges_of
from arqon_gp.comparison import Expectation
from arqon_gp.config import Config
from arqon_gp.dataset import Dataset, TrainingSets
from arqon_gp.deadline import NEVER, Deadline
from arqon_gp.device import give_back, out_of_memory, place
from arqon_gp.drift import unremarkable
from arqon_gp.errors import FitError
from arqon_gp.history import Excerpt, History, Key, key
from arqon_gp.importance import total_effects
from arqon_gp.legal import Region
from arqon_gp.objectives import Goals, hypervolume, nondominated
from arqon_gp.outlook import DEFAULT_CONFIDENCE, Outlook, plain, raw, reference_point
from arqon_gp.records import JUDGED, Params, Prediction, Refitted, Role
from arqon_gp.rows import Hyperparameters, Integers, Settings, drifting
from arqon_gp.search import Engine
from arqon_gp.study import Study
from arqon_gp.surrogate import evidence, restore, seek
from arqon_gp.threads import one_thread
from arqon_gp.view import MOST_KINDS
from arqon_gp.yardstick import Shifts, Yardstick

log = logging.getLogger("arqon_gp")
FIT_SHARE = 0.5  # of the time of an ask, at most
CHANGED = 3.0  # nats that a change of regime has to gain; without a context one unlike all before, beside these, too
UNSURE, UNSEEN = 8.0, 10.0  # the same in a context; if without guardrails no config was measured before and after
GIVE_BACK_EVERY = 64  # results: a millisecond or two each time
MOST_AT_ONCE = 2048  # configs whose front is sought
MOST_LATER = 128  # stays since the last fit that are appended to its active set; more than ever wait for a fit
NUMERICAL = (FitError, RuntimeError, ValueError, ArithmeticError, np.linalg.LinAlgError)  # failures answered in place

Known = dict[str, Hyperparameters]


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the background found: hyperparameters, the active set for them, where, and the rungs that were needed."""

    found: Known
    chosen: Integers
    device: str
    rungs: list[str]


class ModelAdvisor:
    """`device`: "auto", "cpu", "cuda" or "cuda:1". `fallbacks` counts fits and proposals that failed, by cause."""

    def __init__(self, config: Config, device: str = "auto") -> None:
        self._wanted = device
        goals, context, guarded = config.goals, len(config.context), config.guardrails is not None
        self._goals = goals
        self._settings = Settings(
            config.inputs, goals.modelled, config.exact, goals.better, context, goals.logs, guarded=guarded
        )
        self._sets = TrainingSets(config.inputs, config.goals)
        self._fitted: Outlook | None = None
        self._active: list[tuple[History, Known, object, int, Integers]] = []  # the active sets of the last two fits
        self._background: Background[_Fit] = Background()
        self.fallbacks: dict[str, int] = {}
        self.device: str = "none"
        self._given_back = 0  # results, when freed memory last was

    # ---- fit ----

    def refit(self, study: Study, deadline: Deadline = NEVER) -> Refitted | None:
        """Fit to what is known now; None when nothing can be fitted."""
        try:
            outlook = self._outlook(study, known=False, deadline=deadline)
        except FitError as error:
            self._count("fit", error)
            return None
        return Refitted(outlook.surrogate.hyperparameters)

    def changed(self, study: Study, since: int) -> Change | None:
        """Whether the rows from `since` on are of another regime than those before, in that of the outcomes that ask
        which says so most clearly; and of which, if that was there before. FitError where that cannot be reckoned."""
        history, whole = study.history, self._set(study, study.history)
        self.device = place(self._wanted, len(whole.X))  # the same rows in a process that has fitted nothing yet
        try:
            seen = whole.first[self._rows(study, history, study.based, study.hyperparameters)[0]]
            data = self._sets.of(history, study.fixed, history.view_since(study.based), since)
            data = data.rows(np.isin(data.first, seen) | ~np.isin(data.first, whole.first))  # it may begin in a stay
            data = data.rows(~self._aside(study, data, since))
            late = data.first >= since
            if since <= history.regimes[-1] or late.all() or not late.any():
                return None
            met, often = np.unique(data.regime, return_counts=True)
            known = met[np.lexsort((-met, -often))][:MOST_KINDS]
            kinds = sorted({data.current, data.regimes, *known.tolist()})
            with one_thread():
                worth = {k: evidence(data.as_if(late, k), self._settings, study.hyperparameters) for k in kinds}
        except NUMERICAL as error:
            self._count("fit", error)
            raise FitError(f"the evidence is no number: {error}") from error
        names = [name for name in worth[data.current] if not _quiet(data, late, name, self._goals)]
        names = [name for name in names if name in study.drift.loud] or names
        if not names:
            return None
        gains = {kind: {name: of[name] - worth[data.current][name] for name in names} for kind, of in worth.items()}
        total = {k: sum(gains[k].values()) for k in kinds if k != data.current}
        kind = max(total, key=lambda k: total[k])
        name = max(gains[kind], key=lambda n: gains[kind][n])
        before = set(compress(data.keys, ~late & (data.regime == data.current)))
        leaps = study.config.guardrails is None and before.isdisjoint(compress(data.keys, late))
        least = UNSEEN if leaps else UNSURE if study.context else CHANGED
        if gains[kind][name] < least + math.log(len(gains) * len(gains[kind])):  # the best of so many
            return None
        unlike = 0.0 if study.context else CHANGED  # in another context what was before tells little of which it is
        back = max(total, key=lambda k: total[k] + unlike * (k in known))
        like = history.kinds.index(back) if back in history.kinds else None
        return Change(int(data.first[late][0]), name, gains[kind][name], like)

    @staticmethod
    def _aside(study: Study, data: Dataset, since: int) -> npt.NDArray[np.bool_]:
        """Which rows (n,) were told since, but are old or came late: they say nothing of a change."""
        counts = JUDGED if study.config.guardrails else JUDGED | {Role.LATE}
        rows = study.history.rows
        return np.array([i >= since and rows[i].role not in counts for i in data.first.tolist()], dtype=bool)

    def prepare(self, study: Study) -> None:
        """Begin the fit before the next candidate in the background, where a result is waited for."""
        history, device = study.ahead, self.device
        if history is None or device == "none" or not len(history):
            return
        settings, warm, most = self._settings, study.hyperparameters, self._most
        data = self._set(study, history, history)
        try:
            rows = self._set(study, history).rows(self._rows(study, history, study.based, warm)[0])
        except NUMERICAL:  # the ask will meet it again, and answer it
            return

        def work(stop: Callable[[], bool]) -> _Fit:
            rungs: list[str] = []
            found = seek(rows, settings, warm, stop, rungs.append, _torch(device))
            return _Fit(found, active_set(data, settings, found, most), device, rungs)

        self._background.start((history, warm, study.course.baseline), work)

    def told(self, study: Study) -> None:
        """Stop what was begun in the background where the result changes it; now and then give back freed memory."""
        self._background.keep((study.basis, study.hyperparameters, study.course.baseline))
        if len(study.history) >= self._given_back + GIVE_BACK_EVERY:
            self._given_back = len(study.history)
            give_back()

    def close(self) -> None:
        """End the background thread."""
        self._background.close()

    def outlook(self, study: Study) -> Outlook | None:
        """What the surrogate of the present history expects, None when it cannot be fitted."""
        try:
            return self._outlook(study, known=not study.refit_due)
        except FitError:
            return None

    def _outlook(self, study: Study, *, known: bool, deadline: Deadline = NEVER) -> Outlook:
        kept = self._fitted
        if (
            kept
            and kept.study.history is study.history
            and kept.study.course.baseline is study.course.baseline  # limits refer to it, and cliffs to limits
            # fitted from the same warm start, or written down since
            and study.hyperparameters in (kept.study.hyperparameters, kept.fitted.hyperparameters)
        ):
            return Outlook(study, kept.fitted, kept.data, kept.edges)
        data = self._set(study, study.history)
        if not len(data.X):
            raise FitError("nothing was measured yet")
        self.device = place(self._wanted, len(data.X))
        if self.device != "cpu":
            try:
                return self._conditioned(study, known=known, deadline=deadline)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                log.warning("out of memory on %s, going on on the CPU: %s", self.device, error)
                self.device = "cpu"
        return self._conditioned(study, known=known, deadline=deadline)

    def _conditioned(self, study: Study, *, known: bool, deadline: Deadline) -> Outlook:
        """On the present device; a GPU's memory may run out."""
        kept, h, based = self._fitted, study.hyperparameters, study.based
        if not known:
            h, based = self._sought(study, deadline), study.basis
        rows, whole = self._rows(study, study.history, based, h)
        data = self._set(study, study.history, based)
        data = data if len(rows) == len(data.X) else data.rows(rows)
        with one_thread():
            try:
                before = kept.fitted if kept else None
                found = restore(data, self._settings, h, whole, before, self._rung, _torch(self.device))
                data = drifting(data, found.settings)
                self._fitted = Outlook(study, found, data, edges_of(study, data, found.settings))
            except NUMERICAL as error:
                if out_of_memory(error):
                    raise
                raise FitError(f"the surrogate cannot be conditioned: {error}") from error
        return self._fitted

    def _set(self, study: Study, history: History, based: History | None = None) -> Dataset:
        """The training set of a history of this study, as it is seen after a fit of `based` (None: the last one)."""
        view = history.view_since(study.based if based is None else based)
        return self._sets.of(history, study.fixed, view)

    @property
    def _most(self) -> int:
        """How many rows a surrogate is made of at most."""
        return MOST_ROWS if self.device == "cpu" else MOST_CUDA_ROWS

    def _rows(self, study: Study, history: History, based: History | None, h: Known) -> tuple[Integers, int]:
        """Which rows of the training set a surrogate sees, and how many of them are factorised at once.

        Those of the active set when the hyperparameters were sought, and all since: so the factor grows row by row, and
        is the same in a process that reads the journal. The last stay of that time may have grown, and is appended.
        """
        most, now = self._most, self._set(study, history, based)
        n = len(now.X)
        of = (history.regime, history.corrected, history.view_since(based))
        comparable = based is not None and (based.regime, based.corrected, based.view) == of
        if based is None or not comparable or n - len((then := self._set(study, based, based)).X) > MOST_LATER:
            return active_set(now, self._settings, h, most), n
        base = study.course.baseline
        found = (
            rows
            for at, of, under, size, rows in self._active
            if at is based and of == h and under is base and size == most
        )
        chosen = next(found, None)
        if chosen is None:
            chosen = active_set(then, self._settings, h, most)
            self._active = [*self._active[-1:], (based, h, base, most, chosen)]
        whole = int(np.searchsorted(chosen, len(then.X) - 1))
        return np.concatenate([chosen, np.arange(len(then.X), n)]), whole

    def _sought(self, study: Study, deadline: Deadline) -> Known:
        """Fresh hyperparameters; where the fit fails, the last ones, if there are any."""
        basis, warm = study.basis, study.hyperparameters
        try:
            ready = self._background.take((basis, warm, study.course.baseline), deadline.left(FIT_SHARE))
            if ready is not None and ready[0].device == self.device:
                fit, deadline.cut = ready[0], ready[1] or deadline.cut
                for rung in fit.rungs:
                    self._rung(rung)
                self._active = [*self._active[-1:], (basis, fit.found, study.course.baseline, self._most, fit.chosen)]
                return fit.found
            data = self._set(study, basis)
            rows, _ = self._rows(study, basis, study.based, warm)
            stop, where = (lambda: deadline.passed(FIT_SHARE)), _torch(self.device)
            return seek(data.rows(rows), self._settings, warm, stop, self._rung, where)
        except NUMERICAL as error:
            if out_of_memory(error):
                raise
            if not warm:
                raise FitError(f"the fit failed: {error}") from error
            self._count("fit", error)
            return warm

    def _count(self, cause: str, error: Exception) -> None:
        self.fallbacks[cause] = self.fallbacks.get(cause, 0) + 1
        log.warning("the %s failed, falling back: %s", cause, error)

    def _rung(self, rung: str) -> None:
        self.fallbacks[rung] = self.fallbacks.get(rung, 0) + 1
        log.info("the numerics needed another rung: %s", rung)

    # ---- expect ----

    def expectation(self, study: Study, yard: Yardstick) -> Expectation:
        """By how much a config, its own windows unknown, is expected to differ from another: series -> (mean, std)."""
        found = self.outlook(study)
        if found is None:
            return lambda params, other: None
        known: dict[object, dict[str, tuple[float, float]]] = {}

        def expect(params: Params, other: Params) -> dict[str, tuple[float, float]]:
            pair = (key(params), key(other))
            if pair not in known:
                known[pair] = found.expected_difference(yard, params, other)
            return known[pair]

        return expect

    def shifts(self, study: Study, of: Excerpt) -> Shifts | None:
        """What brings windows to the present context, as the model sees it; None without a model."""
        found = self.outlook(study)
        with one_thread():
            return None if found is None else found.shifts(of)

    def predict(self, study: Study, params: Params) -> dict[str, Prediction] | None:
        """The next window at a config: mean and central 95 % interval of each outcome, noise included, raw units."""
        found = self.outlook(study)
        return None if found is None else found.intervals(params, noise=True)

    def describe(self, study: Study, params: Params) -> tuple[dict[str, Prediction], float] | None:
        """The same, free of noise, and P(all limits hold)."""
        found = self.outlook(study)
        if found is None:
            return None
        return found.intervals(params, noise=False), found.p_expected(params)

    def holds(self, study: Study, params: Params) -> float:
        """P(all limits hold) in the next windows, by the model and by where limits broke; 1 without a model."""
        found = self.outlook(study)
        return 1.0 if found is None else 1.0 - float(found.p_broken([params])[0])

    def pays(self, study: Study, yard: Yardstick, params: Params, over: Params) -> bool:
        """Whether a window is worth more, the chance that a limit breaks included, if the one config runs next than if
        the other does; True without a model."""
        found = self.outlook(study)
        if found is None:
            return True
        here, there = found.worth(yard, [params, over], breach(study, yard))
        return bool(here > there)

    def front(self, study: Study, among: Sequence[Params]) -> list[tuple[Params, dict[str, Prediction], float]]:
        """Those of these measured configs that are on the front by posterior mean, with their outcomes free of noise
        and P(all limits hold); none without a model. What was seen beyond a cliff as often as not is not on it.
        """
        found, data = self.outlook(study), self._set(study, study.history)
        if found is None:
            return []
        steep = [j for j, name in enumerate(self._settings.outcomes) if name in found.surrogate.steep]
        fallen: dict[Key, list[bool]] = {}
        for name, beyond in zip(data.keys, np.any(data.beyond[:, steep], axis=1).tolist(), strict=True):
            fallen.setdefault(name, []).append(beyond)
        known = [x for x in among if 2 * sum(fell := fallen.get(key(x), [])) < len(fell) or not fell]
        front: list[Params] = []
        for i in range(0, len(known), MOST_AT_ONCE):
            front = found.front(front + known[i : i + MOST_AT_ONCE])
        return [(x, found.within.intervals(x, noise=False), float(found.p_limits([x])[0])) for x in front]

    def gain(self, study: Study, yard: Yardstick, params: Params, over: Params) -> float:
        """Posterior mean of the difference in utility; 0 without a model."""
        found = self.outlook(study)
        if found is None:
            return 0.0
        here, there = found.mean_utility(yard, [params, over])
        return float(here - there)

    def best(self, study: Study, yard: Yardstick, among: Sequence[Params]) -> Params:
        """The best config by posterior mean of the utility among those that keep the limits; of the whole space if none
        given.
        """
        found = self.outlook(study)
        if found is None:
            return among[0] if among else study.deployment.deployed
        if among:
            return found.best(yard, among)
        space, config = study.config.space, study.config
        inside = [p for p in found.measured if space.contains(p, space.whole)]
        confidence = max((x.confidence for x in config.goals.limits), default=DEFAULT_CONFIDENCE)
        try:
            with one_thread():
                aim = Aim(config.goals, yard.utility, found.bounds)
                target = acquisition.posterior_mean(found.surrogate, aim, found.data.X, confidence)
                good, rng = good_rows(found, found.mean_utility(yard)), np.random.default_rng([config.rng_seed, 0])
                region = situated(found, Region(space, space.whole, study.carried, returns=False))
                inside.append(plain(study, Engine(target, good, rng, NEVER).best_in(region)))
        except NUMERICAL as error:
            self._count("recommendation", error)
        return found.best(yard, inside) if inside else study.deployment.deployed

    def importance(self, study: Study, yard: Yardstick, of: str) -> dict[str, Prediction]:
        """Total effect of each knob on the utility or an outcome; FitError where there is no model."""
        with one_thread():
            return total_effects(self._outlook(study, known=not study.refit_due), yard, of)

    def hypervolume(self, study: Study, yard: Yardstick) -> float | None:
        """Hypervolume of the observed front above the reference point; None unless the front is what is sought."""
        goals = study.config.goals
        if not goals.pareto or self._fitted is None:
            return None
        data = self._set(study, study.history)
        m = len(goals.objectives)
        signs = np.array([o.sign for o in goals.objectives])
        Y = raw(data.Y[:, :m], study)[np.isfinite(data.Y).all(axis=1)] * signs
        if not len(Y):
            return None
        return hypervolume(Y[nondominated(Y)], np.array(reference_point(study, data, yard)) * signs)

    # ---- propose ----

    def propose(self, study: Study, yard: Yardstick, request: Request) -> Proposal:
        """A config of the box. Where the model cannot choose one: what runs, under guardrails unless it breaks a limit
        and where nothing may explore; else a random one of the box. Both say so.
        """
        try:
            found = self.outlook(study)
            if found is None:
                raise FitError("there is no surrogate")
            with one_thread():
                stays = self._set(study, study.history).keys
                proposal = Choice(found, yard, request, stays, self.device, self._rung).proposal()
            return self._late(proposal, request.deadline)
        except NUMERICAL as error:
            self._count("proposal", error)
            here, why = study.deployment.may_run, f"the model failed ({error})"
            if request.goal is not Goal.RECOVER and (study.config.guardrails or request.horizon == 0.0):
                return Proposal(here, f"hold what runs: {why}", fallback=why)
            return random_step(study.config, request, here, why)

    def _late(self, proposal: Proposal, deadline: Deadline) -> Proposal:
        """The proposal; where the time was over, it says so and is counted."""
        if not (deadline.passed() or deadline.cut):
            return proposal
        self.fallbacks["max_ask_s"] = self.fallbacks.get("max_ask_s", 0) + 1
        return replace(proposal, reason=f"{proposal.reason}; cut short by max_ask_s", fallback="max_ask_s")


def _quiet(data: Dataset, late: npt.NDArray[np.bool_], name: str, goals: Goals) -> bool:
    """Whether an outcome is so far from its limit that it does not matter how far: in all late rows, and in most of
    those before."""
    far = unremarkable(name, goals)
    if not far > -math.inf:
        return False
    Y = data.Y[:, goals.modelled.index(name)]
    return not (Y[late] > far).any() and float((Y[~late] > far).mean()) < 0.5


def _torch(device: str) -> str | None:
    """The torch device of a fit; None: the engine on the CPU."""
    return None if device == "cpu" else device
