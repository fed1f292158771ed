"""What the measured windows say about what runs, last_good, and the best confirmed config. No torch.

The surrogate enters as a prior: by how much it expects a config to differ from last_good, not knowing its windows. How
far it is mistrusted shrinks with the number of configs measured, as far as they were alike. Public: Expectation,
Question, Standing, Comparison, compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from arqon_gp.cliffs import fallen, worst
from arqon_gp.config import Config
from arqon_gp.evidence import Evidence, Noise, interval, p_below, p_beyond
from arqon_gp.history import Key, key
from arqon_gp.knobs import Floats
from arqon_gp.objectives import Limit
from arqon_gp.records import Params
from arqon_gp.yardstick import UTILITY, Windows, Yardstick

MISTRUST_STDS = 3.0  # prior scale of a level around the surrogate's word, in window stds, before anything is known
MISTRUST_CONFIGS = 0.5  # ... which weighs like this many configs against the spread the measured ones have shown
LEAST_MISTRUST_STDS = 0.25
FLAT_STDS = 30.0  # prior scale of the level of the first config of a regime
LATEST = 2  # windows that say how far beyond a limit a config is now
DRIFT_STDS = 0.5  # prior scale of a change of level: most of the time there is none
MOST_COMPARED = 64  # confirmed configs among which the best is sought
FEW_WINDOWS = 3  # with fewer, old ones too, there is no noise to judge a breach by: the raw value counts

# expected of a config, not knowing its windows, less another one: series -> (mean, std) of the difference
Expectation = Callable[[Params, Params], Mapping[str, tuple[float, float]] | None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared. `since`: the first row whose windows of last_good are held against its former level."""

    running: Params | None
    last_good: Params
    confirmed: Sequence[Params] = ()
    suspect: Params | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one config stands: its complete windows, P(all limits hold), and against last_good P(worse by more than
    min_effect), P(better at all), and P(farther beyond a limit that last_good breaks; 0.5 where it breaks none);
    `collapsed`: whether its latest window failed or was off a cliff."""

    windows: int = 0
    worse: float = 0.0
    better: float = 0.0
    holds: float = 1.0
    farther: float = 0.5
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Probabilities. `running`, `good`, `suspect`: their standings; `worse_than_best`: what runs against the best
    confirmed.

    `breach`: P(a limit is truly broken) by the last window of what runs alone, and which limit. `sunk`, `risen`:
    last_good is below, above its former level by more than min_effect, from its windows since `since`. `beside`: the
    suspect is worse than last_good, by these windows of it alone. `foreign`: last_good was not measured in a context
    that says much of the present one.
    """

    running: Standing
    good: Standing
    suspect: Standing
    worse_than_best: float = 0.0
    breach: float = 0.0
    breached: Limit | None = None
    sunk: float = 0.0
    risen: float = 0.0
    new_windows: int = 0
    beside: float = 0.0
    foreign: bool = False


def _mistrust(windows: Windows, j: int, noise: Noise, judged: Key) -> float:
    """How far levels may be from the surrogate's word, told by all configs but the one that is judged."""
    spread, dof = windows.spread(j, noise, judged)
    variance = (MISTRUST_CONFIGS * MISTRUST_STDS**2 * noise.variance + dof * spread) / (MISTRUST_CONFIGS + dof)
    return max(math.sqrt(variance), LEAST_MISTRUST_STDS * noise.std)


def _flat(value: Floats, known: Floats, noise: Noise, others: Floats) -> Evidence:
    """The windows alone speak; where there are none, those of `others`."""
    seen = value if len(value) else others[np.isfinite(others)]
    return Evidence(value, known, float(np.median(seen)) if len(seen) else 0.0, FLAT_STDS * noise.std)


class _Judge:
    """One question against one yardstick; `first` is where the current regime begins."""

    def __init__(self, question: Question, yard: Yardstick, config: Config, expect: Expectation) -> None:
        self.yard, self.config, self.expect = yard, config, expect
        self.windows, self.first = yard.windows, yard.windows.regimes[-1]
        self.last_good = question.last_good
        self.before_good = next((p for p in reversed(question.confirmed) if key(p) != key(self.last_good)), None)
        good = self.windows.rows(self.last_good, self.first)
        self.since_good = self._number(good)  # older windows of others saw another time
        before = self.windows.rows(self.before_good, self.first) if self.before_good else []
        self.since_before = self._number(before)
        self._known: dict[tuple[Key, str, int], Evidence] = {}
        self._mistrust: dict[tuple[Key, str], float] = {}
        self._levels: dict[tuple[Key, str], float] = {}
        self._means: dict[Key, float] = {}

    def _number(self, places: Sequence[int]) -> int:
        """The number of the first of these results, else that of the first of the regime."""
        return int(self.windows.numbers[places[0]]) if places else self.first

    def mistrust(self, params: Params, name: str) -> float:
        """How far the level of a config may be from what the surrogate says: a std in the units of the series."""
        at = (key(params), name)
        if at not in self._mistrust:
            self._mistrust[at] = _mistrust(self.windows, self.windows.column(name), self.yard.noise[name], at[0])
        return self._mistrust[at]

    def level(self, params: Params, name: str) -> float:
        """Posterior mean of the level of a config in a series, from all its windows of the regime."""
        at = (key(params), name)
        if at not in self._levels:
            self._levels[at] = interval(self.evidence(params, name), self.yard.noise[name])[0]
        return self._levels[at]

    def plain_mean(self, params: Params) -> float:
        """Mean utility of the windows of a config in the regime; -inf without any."""
        if not self._means:
            seen: dict[Key, list[float]] = {}
            for i in range(self.windows.place(self.first), len(self.windows.keys)):
                if self.windows.judged[i] and math.isfinite(y := float(self.windows.value[i, 0])):
                    seen.setdefault(self.windows.keys[i], []).append(y)
            self._means.update({name: sum(ys) / len(ys) for name, ys in seen.items()})
        return self._means.get(key(params), -math.inf)

    def evidence(self, params: Params, name: str, first: int | None = None) -> Evidence:
        """The windows of a config in a series, from row `first` on (default: all of the regime), and its prior.

        Every config starts from last_good and what the surrogate says of the difference; last_good itself from
        everything else measured since the config before it was: the best of several looks better than it is.
        """
        at = (key(params), name, self.first if first is None else first)
        if at not in self._known:
            self._known[at] = self._evidence(params, name, first)
        return self._known[at]

    def _evidence(self, params: Params, name: str, first: int | None) -> Evidence:
        j, noise = self.windows.column(name), self.yard.noise[name]
        value, known = self._windows(params, name, first)
        if key(params) == key(self.last_good):
            since = self.windows.place(self.since_before)
            places = range(since, len(self.windows.keys))
            others = [i for i in places if self.windows.keys[i] != key(params) and self.windows.judged[i]]
            seen = self.windows.value[others, j]
            seen = seen[np.isfinite(seen)]
            if self.before_good is None or not len(seen):
                return _flat(value, known, noise, self.windows.value[self.windows.place(self.first) :, j])
            return Evidence(value, known, float(np.median(seen)), self.mistrust(params, name))
        good = self.evidence(self.last_good, name)
        if not len(good.windows):
            return _flat(value, known, noise, self.windows.value[self.windows.place(self.first) :, j])
        mean, std = (self.expect(params, self.last_good) or {}).get(name, (0.0, 0.0))
        return Evidence(
            value, known, self.level(self.last_good, name) + mean, math.hypot(std, self.mistrust(params, name))
        )

    def _windows(self, params: Params, name: str, first: int | None, last: int | None = None) -> tuple[Floats, Floats]:
        j = self.windows.column(name)
        rows = self.windows.rows(params, self.first if first is None else first, last)
        rows = [i for i in rows if np.isfinite(self.windows.value[i, j])]
        known = self.windows.known[rows, j]
        if (doubt := self.windows.doubt) is not None:  # the mean of any number of windows is in as much doubt as one
            known = known + doubt[rows, j] * len(rows)
        return self.windows.value[rows, j], known

    def worse(self, a: Params, b: Params, since: int | None = None) -> float:
        """P(a worse than b): on the utility or on an objective with a min_effect of its own, whichever is likelier; by
        the windows of b from row `since` on alone, if that is given."""
        signs = {o.name: o.sign for o in self.config.goals.objectives}
        worst = 0.0
        for name, margin in self.yard.margins.items():
            ours, theirs = self.evidence(a, name, self.since_good), self.evidence(b, name)
            if since is not None:
                theirs = _flat(*self._windows(b, name, since), self.yard.noise[name], ours.windows)
            if signs.get(name, 1) < 0:
                ours, theirs = theirs, ours
            worst = max(worst, p_below(ours, theirs, margin, self.yard.noise[name]))
        return worst

    def standing(self, params: Params, last_good: Params) -> Standing:
        """How a config stands, by its windows since last_good was first measured in this regime."""
        rows = self.windows.rows(params, self.since_good)
        complete = len(self.windows.complete(rows))
        if key(params) == key(last_good) or not complete:
            return Standing(complete, holds=self.holds(params, rows), collapsed=self.collapsed(params))
        ours, theirs = self.evidence(params, UTILITY, self.since_good), self.evidence(last_good, UTILITY)
        better = p_below(theirs, ours, 0.0, self.yard.noise[UTILITY])
        worse, holds = self.worse(params, last_good), self.holds(params, rows)
        return Standing(complete, worse, better, holds, self.farther(params, last_good), self.collapsed(params))

    def collapsed(self, params: Params) -> bool:
        """Whether the latest window of a config, of whatever regime, failed or was off a cliff."""
        rows = self.windows.rows(params, 0)
        return bool(rows) and bool(self._fallen[rows[-1]])

    @cached_property
    def _fallen(self) -> npt.NDArray[np.bool_]:
        """Which windows failed or were off a cliff beyond a limit."""
        goals, baseline = self.config.goals, self.yard.baseline
        Y = self.windows.measured[:, [self.windows.column(name) for name in goals.modelled]]
        off = fallen(Y, worst(Y, goals, baseline), goals, baseline)
        return np.asarray(off | np.array(self.windows.failed, dtype=bool))

    def farther(self, a: Params, b: Params) -> float:
        """P(a is farther beyond a limit than b), of the limits that b breaks the one where it is likeliest; by the
        latest windows of each, for out there the world moves on."""
        found = []
        for limit in self.config.goals.limits:
            bound, noise = self._bound(limit), self.yard.noise[limit.outcome]
            if bound is not None:
                beyond = p_beyond(self.evidence(b, limit.outcome), bound, noise)
                if (beyond if limit.side > 0 else 1.0 - beyond) > 0.5:
                    ours, theirs = (self._latest(params, limit.outcome) for params in (a, b))
                    pair = (theirs, ours) if limit.side > 0 else (ours, theirs)
                    found.append(p_below(*pair, 0.0, noise))
        return max(found, default=0.5)

    def _latest(self, params: Params, name: str) -> Evidence:
        """What the LATEST windows of a config alone say of a series."""
        value, known = self._windows(params, name, None)
        return _flat(value[-LATEST:], known[-LATEST:], self.yard.noise[name], value)

    def holds(self, params: Params, rows: Sequence[int]) -> float:
        """P(all limits hold): product over limits, times the share of windows that did not fail; 1/2 without windows,
        once the world has changed, less where it did not keep them before that."""
        if not rows and self.first:
            before = self.windows.rows(params, 0, self.first)
            failed = bool(before) and self.windows.failed[before[-1]]
            return 0.0 if failed else min([0.5, *(1.0 - p for p, _ in self._breaches(before))])
        p = 1.0 - sum(self.windows.failed[i] for i in rows) / max(len(rows), 1)
        for limit in self.config.goals.limits:
            bound = self._bound(limit)
            if bound is not None:
                beyond = p_beyond(
                    self.evidence(params, limit.outcome, self.since_good), bound, self.yard.noise[limit.outcome]
                )
                p *= 1.0 - beyond if limit.side > 0 else beyond
        return p

    def breach(self, params: Params) -> tuple[float, Limit | None]:
        """The likeliest breach by the last window of a config alone."""
        found = self._breaches(self.windows.rows(params, self.first))
        return max(found, key=lambda pair: pair[0], default=(0.0, None))

    def left_keeping(self, params: Params) -> float:
        """P(all limits held) when a config was left, where it surely broke one then, however often it had kept them; 1
        else."""
        p, limit = self.breach(params)
        return 1.0 - p if limit is not None and p >= limit.confidence else 1.0

    def _breaches(self, rows: Sequence[int]) -> list[tuple[float, Limit]]:
        """P(broken) of each limit by the last of these windows alone."""
        found = []
        for limit in self.config.goals.limits:
            bound, j = self._bound(limit), self.windows.column(limit.outcome)
            if not rows or bound is None:
                continue
            at, doubt = rows[-1], self.windows.doubt
            seen, known = float(self.windows.measured[at, j]), float(self.windows.known[at, j])
            if limit.relative and doubt is not None:  # to the baseline, which is that of the present context
                seen = float(self.windows.value[at, j])
                known += float(doubt[at, j])
            if math.isfinite(seen):
                found.append((self._p_distance(limit.side * (seen - bound), limit.outcome, known), limit))
        return found

    def _p_distance(self, distance: float, name: str, known: float) -> float:
        if len(self.windows.complete(range(len(self.windows.keys)))) < FEW_WINDOWS:
            return 1.0 if distance > 0 else 0.0
        noise = self.yard.noise[name]
        std = math.sqrt(noise.variance + known)
        return float(special.stdtr(noise.dof, distance / std)) if std > 0 else float(distance > 0)

    def _bound(self, limit: Limit) -> float | None:
        bound = limit.bound(self.yard.baseline)
        return None if bound is None else self.config.goals.to_model(limit.outcome, bound)

    def moved(self, last_good: Params, since: int) -> tuple[float, float, int]:
        """P(below), P(above its former level by more than min_effect), and the number of new complete windows."""
        new = self.windows.complete(self.windows.rows(last_good, since))
        if not new or not self.windows.complete(self.windows.rows(last_good, self.first, since)):
            return 0.0, 0.0, len(new)
        former, now, noise = self._then_and_now(last_good, since, UTILITY)
        margin = self.yard.min_effect
        return p_below(now, former, margin, noise), p_below(former, now, margin, noise), len(new)

    def still_holds(self, last_good: Params, since: int) -> float:
        """P(all limits hold) by its windows since then: what held for long may no longer."""
        rows = self.windows.rows(last_good, since)
        p = 1.0 - sum(self.windows.failed[i] for i in rows) / len(rows) if len(rows) > 1 else 1.0
        for limit in self.config.goals.limits:
            bound = self._bound(limit)
            if bound is not None and len(self._windows(last_good, limit.outcome, since)[0]) > 1:
                _, now, noise = self._then_and_now(last_good, since, limit.outcome)
                beyond = p_beyond(now, bound, noise)
                p *= 1.0 - beyond if limit.side > 0 else beyond
        return p

    def _then_and_now(self, params: Params, since: int, name: str) -> tuple[Evidence, Evidence, Noise]:
        """The level of a series at a config before row `since`, and from it on; most of the time it is the same."""
        noise = self.windows.noise(self.windows.column(name), since)
        ever = self.evidence(params, name)
        former = Evidence(*self._windows(params, name, self.first, since), ever.centre, ever.scale)
        level = interval(former, noise)[0]
        return former, Evidence(*self._windows(params, name, since), level, DRIFT_STDS * noise.std), noise


def compare(question: Question, yard: Yardstick, config: Config, expect: Expectation) -> Comparison:
    """The answers to a question; cheap ones where nothing runs for sure or nothing is suspected."""
    judge = _Judge(question, yard, config, expect)
    good = judge.standing(question.last_good, question.last_good)
    running = Standing() if question.running is None else judge.standing(question.running, question.last_good)
    if question.running is not None and key(question.running) != key(question.last_good):
        good = replace(good, holds=min(good.holds, judge.left_keeping(question.last_good)))
    suspect = Standing() if question.suspect is None else judge.standing(question.suspect, question.last_good)
    breach, breached = (0.0, None) if question.running is None else judge.breach(question.running)
    sunk, risen, new, beside = 0.0, 0.0, 0, 0.0
    if question.since is not None:
        sunk, risen, new = judge.moved(question.last_good, question.since)
        good = replace(good, holds=min(good.holds, judge.still_holds(question.last_good, question.since)))
        if question.suspect is not None and new:
            beside = judge.worse(question.suspect, question.last_good, question.since)
    best = _against_best(judge, question, running)
    foreign = yard.foreign(question.last_good)
    return Comparison(running, good, suspect, best, breach, breached, sunk, risen, new, beside, foreign)


def _against_best(judge: _Judge, question: Question, running: Standing) -> float:
    """P(what runs is worse than the confirmed config with the highest level)."""
    others = [p for p in question.confirmed if question.running is None or key(p) != key(question.running)]
    if question.running is None or not running.windows or not others:
        return 0.0
    if len(others) > MOST_COMPARED:  # of an endless study: those that look best, however surely
        others = sorted(others, key=judge.plain_mean)[-MOST_COMPARED:]
    best = max(others, key=lambda p: judge.level(p, UTILITY))
    return running.worse if key(best) == key(question.last_good) else judge.worse(question.running, best)
