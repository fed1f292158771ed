"""The model's choice of the next config: where it is sought, with which acquisition, and what is said of it.

Reads like the method: a region, an acquisition in it, the safest of what it likes. Public: Choice, good_rows, situated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from arqon_gp import acquisition
from arqon_gp.acquisition import Aim
from arqon_gp.advice import Goal, Proposal, Request
from arqon_gp.design import placed, recurrence, sobol
from arqon_gp.guard import BROKEN, CLEARLY
from arqon_gp.history import Key, key
from arqon_gp.knobs import Categorical, Domain, Floats, Interval, Knob, Options
from arqon_gp.legal import Region
from arqon_gp.mode import Note
from arqon_gp.outlook import DEFAULT_CONFIDENCE, Outlook, plain, reference_point
from arqon_gp.records import Params, Scalar
from arqon_gp.rows import FEASIBLE
from arqon_gp.search import Engine, Search, moved, simpler
from arqon_gp.space import Box
from arqon_gp.study import Study
from arqon_gp.trust_region import MANY_KNOBS, side_after, trusted
from arqon_gp.way_out import WayOut
from arqon_gp.yardstick import Yardstick

SAFE_POINTS = 512  # points screened for P(all limits hold) when the maximiser's is not safe enough
SAFE_SHORTLIST = 64
LESSON_WINDOWS = 2  # that tell what a config is worth
UNKNOWN_BREACH = 4.0  # windows: that of the break, and those of the way back
PRICED = 12  # of the points spread over the region: those whose exploration is priced
FEW_KNOBS = 8  # a step of more knobs leaves those as they are that are worth little
KEPT_SHARE = 0.9  # of the expected improvement
GOOD_ROWS = 8  # measured points near which the maximum of the posterior mean is sought


def breach(study: Study, yard: Yardstick) -> float:
    """What it costs if a limit breaks, utility units: as much as those did that broke unexpectedly; before there are
    any all that UNKNOWN_BREACH windows are worth."""
    known = study.exploration.breach
    return UNKNOWN_BREACH * yard.size if known is None else known


@dataclass(frozen=True)
class Choice:
    """One request to the surrogate. `stays`: the configs of the study's stays, in order; `device`: where torch works,
    for what the engine does not do; `note` is told of each rung of the numerical ladder that was needed."""

    found: Outlook
    yard: Yardstick
    request: Request
    stays: Sequence[Key]
    device: str
    note: Note

    def proposal(self) -> Proposal:
        """The config that is chosen, with what is expected of it."""
        found, study, goal = self.found, self.found.study, self.request.goal
        params, fraction = self._chosen()
        priced = self.request.horizon is not None and goal is Goal.IMPROVE and not study.config.goals.pareto
        if self.request.horizon is not None and priced:
            paying = self._paying(params, found.lasting(self.request.horizon), among=fraction is None)
            if paying is None:
                return self._settled("exploring would cost more than it may teach")
            params = paying
        params, p = plain(study, params), float(found.p_kept([params])[0])
        over = study.guard.last_good if study.config.guardrails else self._incumbent
        gain, predicted = found.improvement(self.yard, params, over), found.intervals(params, noise=True)
        front = self.request.horizon is not None and goal is Goal.IMPROVE and not priced
        if front and study.context and gain < self.yard.min_effect:  # without one the study would be at rest
            return self._settled("no other promises more than min_effect")
        match goal:
            case Goal.RECOVER:
                how = self._way_out.chosen[1] if found.bounds else "the highest P that a window succeeds"
                reason = f"recover: {how}, P {p:.2f}"
                return Proposal(params, reason, predicted, None, p)
            case Goal.PROBE:
                reason = "initial design: a scrambled Sobol point"
            case Goal.IMPROVE:
                name = "hypervolume improvement" if study.config.goals.pareto else "improvement"
                reason = f"the highest noisy expected {name} within reach; expected gain in utility {gain:.3g}"
                if self._side is not None:
                    reason += (
                        f"; sought within {self._side:.1%} of the ranges around the best config, which is no new one"
                    )
                if _many(study):
                    changed = moved(study.config.space, params, study.deployment.may_run)
                    reason += f"; {len(changed)} of {len(params)} knobs change: {', '.join(changed)}"
        if fraction is not None:
            reason = f"no move keeps the limits surely enough: a cautious step of {fraction:.0%} of max_delta"
        return Proposal(params, reason, predicted, gain, p, fraction, settled=False if priced else None)

    def _worth(self, params: Params, risk: float, horizon: float) -> float:
        """What exploring a config is worth, utility units summed over windows: what is gained as long as it holds, less
        what the first window costs (one that is bad has no second), min_effect at the least, and more where a limit may
        break, with a chance of `risk`, and as what was explored in contexts like this one broke more than it was to."""
        gain, cost = self.found.lesson(self.yard, params, self._known, LESSON_WINDOWS)
        study = self.found.study
        risk = min(risk + study.exploration.surprise(study.context, study.config), 1.0)
        return horizon * gain - max(cost, self.yard.min_effect) - risk * self._breach

    def _paying(self, best: Params, horizon: float, *, among: bool) -> Params | None:
        """The config whose exploration is worth most, if it pays: the maximiser or, `among` those of the region that
        are safe enough, a safer one."""
        space, priced = self._region.space, [best]
        if among and (points := self._safe_spread):
            order = np.argsort(-self.search.values_at(space.encode_all(points)), kind="stable")[:PRICED]
            priced += [points[i] for i in order]
        priced = [plain(self.found.study, params) for params in priced]
        risks = self.found.p_broken(priced)
        worth = [self._worth(*of, horizon) for of in zip(priced, risks.tolist(), strict=True)]
        most = int(np.argmax(worth))
        return priced[most] if worth[most] > 0.0 else None

    def _settled(self, why: str) -> Proposal:
        """The best config within reach, as far as is known."""
        found, params, study = self.found, self._known, self.found.study
        gain = found.improvement(self.yard, params, study.deployment.may_run)
        what = "watching" if study.deployment.runs(params) else "moving on"
        known = "known" if study.history.windows(params, since=0, most=1) else "expected"
        reason = f"{what}: the best config {known} here; {self.request.barred or why}"
        predicted, p = found.intervals(params, noise=True), float(found.p_kept([params])[0])
        return Proposal(params, reason, predicted, gain, p_limits=p, settled=True)

    @cached_property
    def _breach(self) -> float:
        return breach(self.found.study, self.yard)

    @cached_property
    def _known(self) -> Params:
        """The config of the region that keeps the limits and is worth most while it stays, at a price of min_effect now
        at the most; what runs, if it keeps them and is worth no less by min_effect, else as many knobs as they are as
        that allows. Without guardrails, where a change is no small step, it is one that was measured."""
        found, study = self.found, self.found.study
        here = study.deployment.may_run
        confidence = self.request.confidence or DEFAULT_CONFIDENCE
        good = good_rows(found, self._utility)
        if study.config.guardrails:
            aim = Aim(study.config.goals, self.yard.utility, found.bounds)
            target = acquisition.posterior_mean(found.surrogate, aim, found.data.X, confidence)
            best = Engine(target, good, self.search.rng, self.request.deadline).best_in(self._region)
            points = [best, *good, *self._safe_spread]
        else:
            points = [*good, self._incumbent | found.context]
        points = [plain(study, p) for p in points if self._region.contains(p)] or [plain(study, self._best)]
        stays = self._region.contains(here | found.context)
        points += [here] if stays else []
        kept, worth = found.p_kept(points), found.worth(self.yard, points, self._breach)
        dear = self._dear(points)
        most = max(range(len(points)), key=lambda i: (not dear[i], min(kept[i], confidence), worth[i]))
        if not stays:
            return points[most]
        if self.request.confidence is not None and kept[most] < min(self.request.confidence, kept[-1] + CLEARLY):
            return here  # only a cautious step may go to what is neither safe enough nor clearly safer
        safe, least = not found.bounds or kept[-1] >= confidence, worth[most] - self.yard.min_effect
        if safe and worth[-1] >= least:
            return here
        if study.config.guardrails is None:
            return points[most]

        def value(configs: list[Params]) -> Floats:
            configs = [plain(study, params) for params in configs]
            fit = (found.p_kept(configs) >= min(kept[most], confidence)) & ~self._dear(configs)
            return np.where(fit, found.worth(self.yard, configs, self._breach), -np.inf)

        # a knob that makes no difference would drift, to where it makes one
        return plain(study, simpler(self._region, points[most] | found.context, value, least))

    def _dear(self, points: Sequence[Params]) -> npt.NDArray[np.bool_]:
        """Which of them the guard would take back: worse than last_good now by more than min_effect, unless that is
        likelier than not to break a limit."""
        found, study = self.found, self.found.study
        good = study.guard.last_good
        if study.config.guardrails is None or found.p_broken([good])[0] > 1.0 - BROKEN:
            return np.zeros(len(points), dtype=bool)
        now = found.mean_utility(self.yard, [*points, good])
        return np.asarray(now[:-1] < now[-1] - self.yard.min_effect)

    def _chosen(self) -> tuple[Params, float | None]:
        """The maximiser in the region if it is safe enough, else the best point that is, else a cautious step."""
        found, study, request, region = self.found, self.found.study, self.request, self._region
        confidence, space = request.confidence, region.space
        if request.goal is Goal.PROBE:
            u = sobol(len(space.knobs), SAFE_POINTS, study.config.rng_seed)[request.number - 1 :]
            rng = np.random.default_rng([study.config.rng_seed, request.number])
            points = [placed(region, row, rng) for row in u]
            chosen = points[0] if confidence is None else next(iter(_safe(found, points, confidence)), None)
            if chosen is not None:
                return chosen, None
        search = self.search
        if request.goal is not Goal.PROBE:
            best = self._best
            if request.goal is Goal.RECOVER and found.bounds:
                return self._way_out.chosen[0], None
            few = _many(study) and request.goal is Goal.IMPROVE
            for chosen in (self._few(best), best) if few else (best,):
                if confidence is None or found.p_kept([chosen])[0] >= confidence:
                    return chosen, None
            if safe := self._safe_spread[:SAFE_SHORTLIST]:
                return safe[int(np.argmax(search.values_at(space.encode_all(safe))))], None
        if request.cautious is None or request.cautious.empty:
            return study.deployment.may_run, request.fraction
        return search.best_in(situated(found, request.region(study.config, request.cautious))), request.fraction

    def _few(self, best: Params) -> Params:
        """The maximiser with as many knobs left as they are as KEPT_SHARE of the expected improvement allows."""

        def value(configs: list[Params]) -> Floats:
            return self.search.values_at(self._region.space.encode_all(configs))

        return simpler(self._region, best, value, float(value([best])[0]) + math.log(KEPT_SHARE))

    @cached_property
    def _best(self) -> Params:
        """The maximiser of the acquisition in the region."""
        return self.search.best_in(self._region)

    @cached_property
    def _way_out(self) -> WayOut:
        good, confidence = good_rows(self.found, self._utility), self.request.confidence or DEFAULT_CONFIDENCE
        return WayOut(self.found, self._region, self._best, self._spread, good, confidence)

    @cached_property
    def _safe_spread(self) -> list[Params]:
        """Those of the points spread over the region that are safe enough."""
        confidence = self.request.confidence
        return self._spread if confidence is None else _safe(self.found, self._spread, confidence)

    @cached_property
    def _spread(self) -> list[Params]:
        """SAFE_POINTS points spread over the region."""
        d, rng = len(self._region.space.knobs), self.search.rng
        return [placed(self._region, row, rng) for row in recurrence(d, SAFE_POINTS, rng.random(d))]

    @cached_property
    def _utility(self) -> Floats:
        """The posterior mean (r,) of each measured config's utility."""
        return self.found.mean_utility(self.yard)

    @cached_property
    def _incumbent(self) -> Params:
        return self.found.best_measured(self._utility)

    @cached_property
    def _side(self) -> float | None:
        """The mean side of the model's trust region; None: the whole space."""
        config = self.found.study.config
        d = len(config.space.knobs)
        if d < MANY_KNOBS or self.request.goal is not Goal.IMPROVE or config.goals.pareto:
            return None
        return side_after(len(self.stays) - 1 - self.stays.index(key(self._incumbent)), d)

    @cached_property
    def _region(self) -> Region:
        """Where the config is sought: what the request permits, within the trust region, in the present context."""
        study = self.found.study
        region = self.request.region(study.config)
        if self._side is not None:
            scales = [self.found.surrogate[o.name].lengthscales for o in study.config.goals.objectives]
            near = trusted(study.config.space, region.box, self._incumbent, np.min(scales, axis=0), self._side)
            region = replace(region, box=near)
        return situated(self.found, region)

    @cached_property
    def search(self) -> Search:
        """The acquisition of this request, ready to be maximised."""
        found, yard, request = self.found, self.yard, self.request
        study, goals, bounds = found.study, found.study.config.goals, found.bounds
        rng = np.random.default_rng([study.config.rng_seed, request.number])
        recover = request.goal is Goal.RECOVER and (bounds or FEASIBLE in found.surrogate)
        floor = reference = None
        if goals.pareto:
            reference = reference_point(study, found.data, yard)
            if study.config.guardrails:  # the front is explored only where a regression is less likely than not
                level = float(found.mean_utility(yard, [study.guard.last_good])[0])
                floor = (level - yard.min_effect, yard.min_effect)
        aim = Aim(goals, yard.utility, bounds, reference, floor)
        pending, good = found.encoded(request.pending), good_rows(found, self._utility)
        found = found.within if reference and not recover else found
        if acquisition.supports(aim):
            if recover:
                target = acquisition.certainty(found.surrogate, aim, found.data.X)
            else:
                target = acquisition.problem(found.surrogate, found.data, aim, pending, rng, self.note, found.seen)
            return Engine(target, good, rng, request.deadline)
        from arqon_gp import torch_path

        return torch_path.search(found, aim, pending, good, rng, self.device, recover=bool(recover))


def good_rows(found: Outlook, utility: Floats) -> list[Params]:
    """The measured configs with the best posterior mean (r,) of the utility, in the present context."""
    return [found.measured[i] | found.context for i in np.argsort(-utility, kind="stable")[:GOOD_ROWS]]


def situated(found: Outlook, region: Region) -> Region:
    """The region of the inputs that a region of the knobs is in the present context."""
    context = found.context
    if not context:
        return region
    box = Box(
        (*region.box.domains, *(_pinned(of, context[of.name]) for of in found.inputs.knobs[len(region.box.domains) :]))
    )
    return replace(region, space=found.inputs, box=box, here=region.here | context)


def _pinned(of: Knob, value: Scalar) -> Domain:
    return Options((value,)) if isinstance(of, Categorical) else Interval(float(value), float(value))


def _many(study: Study) -> bool:
    """Whether a step changes few of many knobs, unless more pays."""
    return study.config.guardrails is not None and len(study.config.space.knobs) > FEW_KNOBS


def _safe(found: Outlook, points: list[Params], confidence: float) -> list[Params]:
    """Those points that keep all limits with at least this probability."""
    return [p for p, held in zip(points, found.p_kept(points), strict=True) if held >= confidence]
