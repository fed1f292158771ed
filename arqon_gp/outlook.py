"""What the surrogate expects of a config: outcomes, utility, limits, and the difference to another. No torch.

Utilities are moments over fixed quasi-random draws of the outcomes, because a log outcome makes them skewed. Public:
Outlook, plain, raw, reference_point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import compress

import numpy as np
from scipy import special

from arqon_gp.dataset import CELLS, Dataset
from arqon_gp.edge import MOST_RISK, Edges
from arqon_gp.history import Excerpt
from arqon_gp.knobs import Floats
from arqon_gp.objectives import nondominated
from arqon_gp.records import Context, Params, Prediction
from arqon_gp.rows import FEASIBLE, LEAST_SUCCESS, REGIME_KNOB, TIME_KNOB, TIME_UNIT
from arqon_gp.space import Space
from arqon_gp.study import Study
from arqon_gp.surrogate import Surrogate
from arqon_gp.yardstick import UTILITY, Shifts, Yardstick, given_reference

NORMALS = 256  # normal draws for moments of the utility
DEFAULT_CONFIDENCE = 0.95
SHIFT_DOUBT = 0.25  # of a shift to another context: how far the model is mistrusted, as a std, while it has seen ...
FEW_CELLS = 8  # cells of the context; and less the more it has, but as far as it was misled
UNKNOWN = 100.0  # variances of an outcome: how far it is shifted from a context that nobody knows
STEP_EFFECT = 0.5  # of min_effect, that one step has to be better by: a way of several may matter all the same
SURPRISE = 2.0  # min_effects: std of what an unknown config may differ by, at the least
Moments = Callable[[str], tuple[Floats, Floats]]  # mean and variance (r,) of an outcome, noise-free, at some configs
MOST_LOG = 300.0  # of a log outcome: that of a number whose square is one, too
BELOW_FRONT = 0.1  # of the front's range: where an inferred reference point lies


@dataclass(frozen=True, slots=True)
class Outlook:
    """One study's surrogate and the rows it was conditioned on. What is expected of a config is so in the present
    context of the study."""

    study: Study
    fitted: Surrogate
    data: Dataset
    edges: Edges | None = None
    surrogate: Surrogate = field(init=False)  # for points in the present context

    def __post_init__(self) -> None:
        here = self.x(self.study.deployment.deployed)[0] if self.context else None
        object.__setattr__(self, "surrogate", self.fitted if here is None else self.fitted.situated(here))

    @property
    def inputs(self) -> Space:
        """What an outcome depends on: the knobs, the context, and time and regime where they matter."""
        return self.fitted.settings.space

    @property
    def context(self) -> Context:
        """The present context, time and regime included."""
        settings, more = self.fitted.settings, Context()
        if settings.time:
            more[TIME_KNOB] = self.data.now
        if settings.regime:
            more[REGIME_KNOB] = self.data.current
        return self.study.context | more if more else self.study.context

    def x(self, params: Params) -> Floats:
        """One config in the present context as a row (1, d) of the unit cube."""
        return self.inputs.encode(params | self.context)[None, :]

    def encoded(self, configs: Sequence[Params]) -> Floats:
        """Several configs in the present context as rows (n, d)."""
        context = self.context
        return self.inputs.encode_all([p | context for p in configs] if context else configs)

    @property
    def seen(self) -> Floats | None:
        """Each measured config in the present context, as rows (r, d); None where they are the rows of the dataset."""
        return self.encoded(self.measured) if self.context else None

    @property
    def baseline(self) -> dict[str, float]:
        """The baseline as it would be in the present context."""
        started, baseline = self.study.started, self.study.baseline
        if not started or not baseline:
            return baseline
        now, goals = self.context, self.study.config.goals
        then = self.inputs.encode_all([row.params | now | row.context for row in started])
        found = {}
        for name, value in baseline.items():
            gp = self.fitted[name]
            shift = float(gp.predict(self.x(started[0].params))[0][0] - gp.predict(then)[0].mean())
            found[name] = value * _exp(shift) if name in goals.logs else value + shift
        return found

    @property
    def bounds(self) -> list[tuple[str, int, float]]:
        """The limits, those relative to the baseline as they are in the present context."""
        goals = self.study.config.goals
        return goals.bounds(self.baseline if any(limit.relative for limit in goals.limits) else self.study.baseline)

    @property
    def within(self) -> Outlook:
        """The same with outcomes as they are within the thresholds of the front; see Surrogate.within."""
        return replace(self, fitted=self.fitted.within)

    def shifts(self, of: Excerpt) -> Shifts:
        """What brings each of these windows to the present context."""
        config = self.study.config
        first = len(config.space.knobs)
        moved = slice(first, len(self.inputs.knobs))
        more: list[Context] = [{} for _ in of.rows]
        if self.context != self.study.context:
            kinds = np.array(of.kinds)[of.regime].tolist()
            more = [{TIME_KNOB: at, REGIME_KNOB: kind} for at, kind in zip(of.at.tolist(), kinds, strict=True)]
        then = self.inputs.encode_all([r.params | r.context | m for r, m in zip(of.rows, more, strict=True)])
        now, alone, here = then.copy(), np.repeat(then[:1], len(then), axis=0), then[:1].copy()
        now[:, moved] = here[:, moved] = self.x(of.rows[0].params)[0, moved]
        alone[:, moved] = then[:, moved]  # k of a window and itself in the present context knows the context only
        seen = len(np.unique(np.floor(CELLS * then[:, first : first + len(config.context)]), axis=0))
        trusted = 1.0 + max(seen - FEW_CELLS, 0) / FEW_CELLS
        value, variance, vague = [], [], np.array([row.vague for row in of.rows])
        for j, name in enumerate(self.fitted.settings.outcomes):
            gp = self.fitted[name]
            before, after = (gp.root @ gp.k(gp.rows.X, X) for X in (then, now))
            prior = 2.0 * (1.0 - gp.k(alone, here)[:, 0])
            astray = gp.astray(now, after) - gp.astray(then, before)
            doubt = np.maximum(prior - np.square(after - before).sum(axis=0), 0.0) + np.square(astray).sum(axis=1)
            value.append(gp.predict(now)[0] - gp.predict(then)[0])
            most = (SHIFT_DOUBT * value[-1]) ** 2
            variance.append(gp.rows.scale**2 * doubt + np.minimum(most, gp.misled + most / trusted**2))
            if vague.any():
                variance[-1][vague] += UNKNOWN * float(np.nanvar(self.data.Y[:, j]))
        return Shifts(np.column_stack(value), np.column_stack(variance), self.baseline)

    def intervals(self, params: Params, *, noise: bool) -> dict[str, Prediction]:
        """Mean and central 95 % interval of each outcome, raw units; of the next window, or free of noise. A context
        that is a forecast widens it as far as the outcome follows that. The mean of a log outcome of which little is
        known is far beyond what is likely: it is shown as the end of the interval."""
        logs, predicted, moments = self.study.config.goals.logs, {}, self._forecast(params)
        for name in self.surrogate.settings.outcomes:
            mean, variance = (float(v[0]) for v in moments(name))
            window = float(self.surrogate[name].noise_at(self.x(params))[0]) if noise else 0.0
            std = math.sqrt(variance + window)
            low, high = mean - 1.96 * std, mean + 1.96 * std
            if name in logs:
                predicted[name] = Prediction(_exp(min(mean + std**2 / 2, high)), _exp(low), _exp(high))
            else:
                predicted[name] = Prediction(mean, low, high)
        return predicted

    def p_expected(self, params: Params) -> float:
        """P(all limits hold, and the window succeeds) at a config, as surely as the context is known."""
        return float(self._hold(self._forecast(params), 1)[0])

    def _forecast(self, params: Params) -> Moments:
        """The moments (1,) at a config; in a context that is a forecast its doubt is part of them, to the second order
        of what follows it (the delta method)."""
        sides, x = self.study.situation.sides, self.x(params)
        if not sides:
            return self._at(x)
        ends = self.inputs.encode_all([params | self.context | end for pair in sides for end in pair])

        def moments(name: str) -> tuple[Floats, Floats]:
            mean, variance = self.surrogate[name].predict(x)
            means, variances = self.fitted[name].predict(np.vstack([x, ends]))
            slope = 0.5 * np.diff(means[1:])[::2]
            bend, more = (of[1:].reshape(-1, 2).sum(axis=1) - 2.0 * of[0] for of in (means, variances))
            moved = np.square(slope).sum() + 0.5 * np.square(bend).sum() + max(0.5 * more.sum(), 0.0)
            return mean + 0.5 * bend.sum(), variance + moved

        return moments

    def p_limits(self, configs: Sequence[Params] | None = None) -> Floats:
        """P(all limits hold, and the window succeeds) at each config (r,); None: at the measured ones."""
        return self._hold(self.moments(configs), len(self.measured if configs is None else configs))

    def _hold(self, moments: Moments, r: int, *, success: bool = True) -> Floats:
        p, known = np.ones(r), list(self.bounds)
        if success and FEASIBLE in self.surrogate:
            known.append((FEASIBLE, -1, LEAST_SUCCESS))
        for limit in known:
            p = p * _p_within(moments, *limit)
        return np.asarray(p)

    def p_kept(self, configs: Sequence[Params]) -> Floats:
        """The least of these (r,) in the situations that the next windows may bring; less where the windows themselves
        say that an edge is near."""
        return np.asarray(np.minimum.reduce([found._kept(configs) for found in self._situations]))

    def p_broken(self, configs: Sequence[Params]) -> Floats:
        """P(a limit breaks, or the window fails) at each config (r,) in the worst of these situations, as the model
        and the edges say."""
        return np.asarray(np.maximum.reduce([found._broken(found.encoded(configs)) for found in self._situations]))

    def p_beyond(self, configs: Sequence[Params]) -> Floats:
        """P(a limit breaks) at each config (r,) as far as the windows that broke one tell by that fact alone; 1, where
        none did."""
        return np.full(len(configs), 1.0) if self.edges is None else self.edges.chance(self.encoded(configs))

    def p_collapsed(self, configs: Sequence[Params]) -> Floats:
        """P(a window fails or is off a cliff) at each config (r,), as success and the edge of what collapses tell."""
        if self.edges is None or self.edges.collapse is None:
            return np.zeros(len(configs))
        X = self.encoded(configs)
        p = _p_within(self._at(X), FEASIBLE, -1, LEAST_SUCCESS) if FEASIBLE in self.surrogate else 1.0
        return np.asarray(1.0 - p * (1.0 - self.edges.collapse.chance(X)))

    @property
    def collapsed(self) -> bool:
        """Whether the latest window has."""
        return bool(self.data.failed[np.argmax(self.data.first)] > 0.0)

    def _broken(self, X: Floats, moments: Moments | None = None) -> Floats:
        # what failed the edges know, too, and how far from it this is: out there the model sees no way back
        p = self._hold(moments or self._at(X), len(X), success=self.edges is None)
        return 1.0 - (p if self.edges is None else p * (1.0 - self.edges.chance(X)))

    @property
    def _situations(self) -> list[Outlook]:
        """The same in each situation that the next windows may bring."""
        return [self, *map(self._elsewhere, self.study.situation.soon[1:])]

    def _elsewhere(self, context: Context) -> Outlook:
        return replace(self, study=self.study.elsewhere(context))

    def worth(self, yard: Yardstick, configs: Sequence[Params], breach: float) -> Floats:
        """What a window of each config (r,) is worth while it stays, on average over what lies ahead: its utility, less
        `breach` times P(a limit breaks)."""
        limited, worth = bool(self.bounds), []
        for found in (self, *map(self._elsewhere, self.study.situation.later)):
            moments = cache(found._at(X := found.encoded(configs)))  # most limits are of objectives
            loss = breach * found._broken(X, moments) if limited else 0.0
            worth.append(found._utility(yard, moments) - loss)
        return np.asarray(np.mean(worth, axis=0))

    def _kept(self, configs: Sequence[Params]) -> Floats:
        X = self.encoded(configs)
        p = self._hold(self._at(X), len(X))
        if self.edges is None or not len(X):
            return p
        return p * np.minimum(MOST_RISK / self.edges.risk(X), 1.0)

    def lost(self, params: Params) -> bool:
        """Whether the windows themselves say that a config is likelier than not to break a limit."""
        return self.edges is not None and bool(self.edges.margin(self.encoded([params]))[0] < 0.0)

    def mean_utility(self, yard: Yardstick, configs: Sequence[Params] | None = None) -> Floats:
        """Posterior mean (r,) of the utility of the noise-free outcomes at each config; None: at the measured ones."""
        return self._utility(yard, self.moments(configs))

    def _utility(self, yard: Yardstick, moments: Moments) -> Floats:
        goals = self.study.config.goals
        objectives = goals.objectives
        if yard.utility.centre is None and not goals.logs:  # linear: the utility of the means
            return np.asarray(yard.utility(np.column_stack([moments(o.name)[0] for o in objectives])))
        draws, columns = _normals(len(objectives)), []
        for j, o in enumerate(objectives):
            mean, variance = moments(o.name)
            columns.append(mean[:, None] + np.sqrt(variance)[:, None] * draws[:, j])
        Y = np.moveaxis(np.stack(columns), 0, -1)  # one outcome after the other in memory
        return np.asarray(yard.utility(raw(Y, self.study)).mean(axis=1))

    def moments(self, configs: Sequence[Params] | None) -> Moments:
        """The moments at each config; None: at the measured ones."""
        if configs is None and not self.context:
            rows = self.data.distinct

            def at_rows(name: str) -> tuple[Floats, Floats]:
                mean, variance = self.surrogate[name].at_rows(self.data.X)
                return mean[rows], variance[rows]

            return at_rows
        return self._at(self.encoded(self.measured if configs is None else configs))

    def _at(self, X: Floats) -> Moments:
        return lambda name: self.surrogate[name].predict(X)

    def best(self, yard: Yardstick, configs: Sequence[Params], confidence: float | None = None) -> Params:
        """The config with the best posterior mean of the utility among those that keep the limits best, or with this
        confidence (default: the limits' own)."""
        return configs[self._best(self.p_kept(configs), self.mean_utility(yard, configs), confidence)]

    def best_measured(self, utility: Floats) -> Params:
        """The same among the measured ones, whose posterior means of the utility (r,) are given."""
        return self.measured[self._best(self.p_limits(), utility)]

    def _best(self, p: Floats, utility: Floats, confidence: float | None = None) -> int:
        asked = max((x.confidence for x in self.study.config.goals.limits), default=DEFAULT_CONFIDENCE)
        confidence = confidence or asked
        p = np.minimum(p, confidence)
        return max(range(len(p)), key=lambda i: (p[i], utility[i]))

    def improvement(self, yard: Yardstick, params: Params, over: Params) -> float:
        """E[max(utility here - utility there, 0)] under the joint posterior, utility units."""
        return float(np.maximum(self._apart(yard, params, over), 0.0).mean())

    def lesson(self, yard: Yardstick, params: Params, over: Params, windows: int) -> tuple[float, float]:
        """What so many windows at a config teach: by how much more than STEP_EFFECT it is expected to be better than
        another one, where they tell that it is (the knowledge gradient of the pair: Frazier, Powell and Dayanik 2009),
        and what each of them costs, utility units."""
        apart = self._apart(yard, params, over)
        mean, variance = float(apart.mean()), float(apart.var())
        told = variance / math.sqrt(variance + yard.noise[UTILITY].variance / windows + 1e-300)
        ahead = mean - STEP_EFFECT * yard.min_effect
        gain = _expected_gain(ahead / (told + 1e-300), told) - max(ahead, 0.0)
        return max(gain, self._unseen(yard, params, mean)), -mean

    def _unseen(self, yard: Yardstick, params: Params, mean: float) -> float:
        """What a config may be better by beyond min_effect, as far as nothing is known of it, whatever the model says:
        where all that was measured is alike the model expects nothing else."""
        x, objectives = self.x(params), self.study.config.goals.objectives
        known = (float(gp.predict(x)[1][0]) / gp.rows.scale**2 for gp in (self.surrogate[o.name] for o in objectives))
        std = SURPRISE * yard.min_effect * math.sqrt(min(max(known), 1.0))
        return _expected_gain((min(mean, 0.0) - yard.min_effect) / (std + 1e-300), std)

    def lasting(self, horizon: float) -> float:
        """For how many of the next windows what is learned now will count, if their contexts are those of as many past
        ones: in one far from here, and later, little of it is true."""
        if not self.context or not horizon:
            return horizon
        known, here = self.data, self.x(self.study.deployment.deployed)
        lately = (known.at > known.now - horizon) | (known.at == known.at.max())  # one at least, after a long time
        other = np.repeat(here, int(lately.sum()), axis=0)
        first = len(self.study.config.space.knobs)
        context = slice(first, first + len(self.study.config.context))
        other[:, context] = known.X[lately, context]
        later = np.repeat(here, math.ceil(horizon), axis=0)
        time = self.fitted.settings.time
        later[:, time] += np.arange(len(later))[:, None] / TIME_UNIT
        share = min(
            float(np.average(gp.k(other, here)[:, 0], weights=known.tried[lately])) * float(gp.k(later, here).mean())
            for gp in (self.surrogate[o.name] for o in self.study.config.goals.objectives)
        )
        return horizon * share

    def _apart(self, yard: Yardstick, params: Params, over: Params) -> Floats:
        """Draws of utility here less utility there, from the joint posterior."""
        X = np.vstack([self.x(params), self.x(over)])
        joint = {o.name: self.surrogate[o.name].joint(X) for o in self.study.config.goals.objectives}
        return self._difference(yard, joint)

    def expected_difference(self, yard: Yardstick, params: Params, other: Params) -> dict[str, tuple[float, float]]:
        """By how much a config, its own windows unknown, is expected to differ from another: series -> (mean, std)."""
        X = np.vstack([self.x(params), self.x(other)])
        joint = {name: self.surrogate[name].unaware(params, X) for name in self.surrogate.settings.outcomes}
        found = {}
        for name, (mean, covariance) in joint.items():
            variance = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
            found[name] = (float(mean[0] - mean[1]), math.sqrt(max(variance, 0.0)))
        draws = self._difference(yard, joint)
        return found | {UTILITY: (float(draws.mean()), float(draws.std()))}

    def _difference(self, yard: Yardstick, joint: Mapping[str, tuple[Floats, Floats]]) -> Floats:
        """Draws of utility here less utility there, from the joint posterior of two points by outcome."""
        objectives = self.study.config.goals.objectives
        draws, pairs = _normals(2 * len(objectives)), []
        for j, o in enumerate(objectives):
            mean, covariance = joint[o.name]
            first = math.sqrt(max(covariance[0, 0], 0.0))  # Cholesky of two points, which may be one
            common = covariance[0, 1] / first if first > 0.0 else 0.0
            rest = math.sqrt(max(covariance[1, 1] - common**2, 0.0))
            pairs.append(mean + draws[:, 2 * j : 2 * j + 2] @ np.array([[first, common], [0.0, rest]]))
        here, there = (raw(np.column_stack([pair[:, i] for pair in pairs]), self.study) for i in (0, 1))
        return yard.utility(here) - yard.utility(there)

    def front(self, configs: Sequence[Params]) -> list[Params]:
        """Those that keep the limits and that no other of these dominates by posterior mean."""
        goals, moments = self.study.config.goals, self.within.moments(configs)
        confidence = max((limit.confidence for limit in goals.limits), default=0.5)
        held = self.p_limits(configs) >= confidence
        Y = np.column_stack([o.sign * moments(o.name)[0] for o in goals.objectives])
        return list(compress(compress(configs, held), nondominated(Y[held])))

    @property
    def measured(self) -> list[Params]:
        """Each measured config once."""
        return [self.data.params[i] for i in self.data.distinct.tolist()]


def _p_within(moments: Moments, name: str, side: int, bound: float) -> Floats:
    """P(an outcome is on the good side of a bound) at each config (r,)."""
    mean, variance = moments(name)
    return np.asarray(special.ndtr(side * (bound - mean) / np.sqrt(variance)))


def _expected_gain(z: float, std: float) -> float:
    """E[max(N, 0)] of a normal with this std and the mean z std."""
    return std * (math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) + z * float(special.ndtr(z)))


def _exp(x: float) -> float:
    """What a log outcome is in raw units, a number also where a trend leads far out of what was measured."""
    return math.exp(min(x, MOST_LOG))


def plain(study: Study, inputs: Params) -> Params:
    """The knobs of a config with its context."""
    names = study.config.space.names
    return {name: inputs[name] for name in names} if len(inputs) > len(names) else inputs


def raw(Y: Floats, study: Study) -> Floats:
    """(..., objectives) in model space -> raw units."""
    logs = np.array([o.log for o in study.config.goals.objectives])
    if not logs.any():
        return Y
    return np.where(logs, np.exp(np.minimum(np.where(logs, Y, 0.0), MOST_LOG)), Y)


def reference_point(study: Study, data: Dataset, yard: Yardstick) -> list[float]:
    """The reference point, raw units: thresholds; else the baseline worsened by 10 % of its size; else just below the
    observed front (by a tenth of its range, Ishibuchi et al. 2011).
    """
    goals, reference = study.config.goals, []
    Y = raw(data.Y[:, : len(goals.objectives)], study)
    signs = np.array([o.sign for o in goals.objectives])
    complete = Y[np.isfinite(Y).all(axis=1)]
    front = complete[nondominated(complete * signs)] if len(complete) else Y
    for j, o in enumerate(goals.objectives):
        given = given_reference(o, study.config, study.baseline, yard.sizes)
        if given is not None:
            reference.append(given)
        else:
            # of a front of one point, or a flat one, everything that was measured tells the range
            for seen in (front[:, j], Y[np.isfinite(Y[:, j]), j]):
                worst, best = float((o.sign * seen).min()), float((o.sign * seen).max())
                if best > worst:
                    break
            reference.append(o.sign * (worst - BELOW_FRONT * max(best - worst, 1e-9 * abs(worst))))
    return reference


@cache
def _normals(columns: int) -> Floats:
    """Fixed standard normal draws (NORMALS, columns): an additive recurrence on the square roots of primes."""
    roots = np.sqrt([p for p in range(2, 100) if all(p % q for q in range(2, p))][:columns])
    u = (0.5 + np.arange(1, NORMALS + 1)[:, None] * roots) % 1.0
    return np.asarray(special.ndtri(np.clip(u, 1e-9, 1 - 1e-9)))
