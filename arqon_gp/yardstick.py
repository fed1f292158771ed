"""How windows are judged: as series, with the noise of each and what difference matters. No torch.

Series: the utility (raw utility units) and each modelled outcome (model space). Where there is a context the surrogate
says what each window would have been in the present one: traffic is no merit. Public: UTILITY, Shifts, Windows,
Yardstick, yardstick, given_reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from arqon_gp.cliffs import NORMAL_MAD
from arqon_gp.config import Config
from arqon_gp.dataset import known_variance
from arqon_gp.evidence import PRIOR_NOISE_DOF, Integers, Noise, window_noise
from arqon_gp.history import Excerpt, History, Key, key
from arqon_gp.knobs import Floats
from arqon_gp.levels import paired
from arqon_gp.objectives import BASELINE_NOISE_STDS, Effect, Objective, Utility, model_values
from arqon_gp.records import JUDGED, Params

UTILITY = "utility"
ENOUGH_DOF = 7  # with so many degrees of freedom in the current regime, older ones no longer tell the noise
CARRIED_DOF, MOST_GROWN = 4.0, 2.0  # what the noise of older regimes is worth before, and how much larger it may count
LATEST_WINDOWS = 20
LOUDER = 2.0  # how much larger the variance of the latest windows must be to count instead
IN_A_ROW = 4  # windows whose context is nearly the same
LATE, JUMP = 3, 4.0  # windows that may show a jump of the level: if the variance is so many times less without it
WORSENED = 0.1  # of its size: where the reference point lies below the baseline


@dataclass(frozen=True, slots=True)
class Shifts:
    """What brings each window to the present context: `value` to add to it and its variance, (n, m) in model space; and
    the baseline as it would be there, raw units."""

    value: Floats
    variance: Floats
    baseline: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows as series: value and known variance (n, 1 + m), NaN where missing; column 0 is the utility.
    Values are as of the present context, `measured` as of their own. `doubt` (n, 1 + m): the variance of what is not
    known of the way there, which all windows of a config share; None without a context. `numbers` (n,): which results
    of the history they are, in order; places are counted from 0, `regimes` are the numbers at which these begin.
    `judged`: which of them say how a config stands; under guardrails those that came late or are old do not. `logs`:
    the series in log space.
    """

    names: tuple[str, ...]
    value: Floats
    measured: Floats
    known: Floats
    doubt: Floats | None
    keys: tuple[Key, ...]
    failed: tuple[bool, ...]
    regimes: tuple[int, ...]
    numbers: Integers
    judged: tuple[bool, ...]
    logs: frozenset[str]
    groups: Integers = field(init=False)  # (n,) a number for each config in each regime

    def __post_init__(self) -> None:
        numbers: dict[tuple[int, Key], int] = {}
        regime = np.searchsorted(self.regimes, self.numbers, side="right")
        pairs = zip(regime.tolist(), self.keys, strict=True)
        groups = np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=int)
        object.__setattr__(self, "groups", groups)

    def column(self, name: str) -> int:
        """Where a series stands."""
        return self.names.index(name)

    def place(self, number: int) -> int:
        """The first place at or behind a result."""
        return int(np.searchsorted(self.numbers, number))

    def rows(self, params: Params, first: int, last: int | None = None) -> list[int]:
        """Places of a config between the numbers of two results."""
        wanted, end = key(params), len(self.keys) if last is None else self.place(last)
        return [i for i in range(self.place(first), end) if self.keys[i] == wanted and self.judged[i]]

    def complete(self, rows: Sequence[int]) -> list[int]:
        """Those rows that have every series."""
        return [i for i in rows if np.isfinite(self.value[i]).all()]

    def spread(self, j: int, noise: Noise, without: Key) -> tuple[float, int]:
        """Half the variance of steps from one stay's level to the next beyond what noise explains, and how many steps,
        of all configs but one.

        Steps, and their median size: one jump of the whole level, as drift makes it, says nothing about configs.
        """
        others = np.array([name != without for name in self.keys], dtype=bool)
        seen = np.flatnonzero(np.isfinite(self.value[:, j]) & others)
        y, group = self.value[seen, j], self.groups[seen]
        stay = np.cumsum(np.diff(group, prepend=group[:1]) != 0)
        if not len(stay) or stay[-1] == 0:
            return 0.0, 0
        count = np.bincount(stay)
        first, y = np.cumsum(count) - count, y[np.lexsort((y, stay))]
        steps = np.diff(0.5 * (y[first + (count - 1) // 2] + y[first + count // 2]))  # of the medians of stays
        weight = 1.0 / count
        expected = noise.variance * float(np.median(weight[1:] + weight[:-1]))
        size = NORMAL_MAD * float(np.median(np.abs(steps)))
        return max(size**2 - expected, 0.0) / 2.0, len(steps)

    def noise(self, j: int, moved_at: int | None = None) -> Noise:
        """Noise of a series: from the current regime if it tells enough, else from all; from the latest windows, or
        those of the contexts most like the present one, if louder. With `moved_at` levels may have changed at that
        row: a change of level is no noise. Nor is what the context does to a level: with one only windows in a row are
        compared, as far as these are enough, as they are or as they would be in the present one, what is less.
        """
        if self.doubt is None:
            return self._noise(self.value[:, j], j, moved_at)
        return min(
            (self._noise(y[:, j], j, moved_at) for y in (self.value, self.measured)), key=lambda noise: noise.variance
        )

    def _noise(self, value: Floats, j: int, moved_at: int | None) -> Noise:
        known, log = self.known[:, j], self.names[j] in self.logs
        seen = np.isfinite(value)
        mean_known = float(known[seen].mean()) if seen.any() else 0.0
        begin = self.place(self.regimes[-1])
        tried = [(self.groups, first) for first in dict.fromkeys((begin, 0))]
        if self.doubt is not None:
            tried = [(self._in_a_row, first) for _, first in tried] + tried
        for n, (group, first) in enumerate(tried):
            if moved_at is not None:
                group = np.where(self.numbers < moved_at, group, group + len(group))
            found = window_noise(value[first:], group[first:], mean_known, log=log)
            if found is not None and (found.dof >= ENOUGH_DOF or n == len(tried) - 1):
                if first < begin:
                    found = _carried(found, value[:begin], value[begin:], group[begin:], mean_known, log=log)
                some = [np.arange(max(first, len(value) - LATEST_WINDOWS), len(value))]
                if self.doubt is not None:
                    order = np.argsort(self.doubt[first:, j], kind="stable")
                    some.append(np.sort(first + order[:LATEST_WINDOWS]))
                for rows in some:
                    found = self._louder(value[rows], group[rows], rows, mean_known, found)
                return found
        spread = (
            float(np.var(value[seen])) if seen.sum() > 1 else (0.1 * float(value[seen][0])) ** 2 if seen.any() else 1.0
        )
        return Noise(spread, 1.0)

    @property
    def _in_a_row(self) -> Integers:
        """(n,) a number for every IN_A_ROW windows of a config that follow each other."""
        begins = np.flatnonzero(np.diff(self.groups, prepend=-1))
        length = np.diff(np.append(begins, len(self.groups)))
        within = np.arange(len(self.groups)) - np.repeat(begins, length)
        return np.cumsum(within % IN_A_ROW == 0) - 1

    def _louder(self, value: Floats, group: Integers, rows: Integers, known: float, usual: Noise) -> Noise:
        """The noise of these rows, of which the `usual` one is the prior, if they tell enough and it is clearly more; a
        jump of the level in one of the last LATE windows is none of it."""
        prior = replace(usual, dof=PRIOR_NOISE_DOF)
        plain = window_noise(value, group, known, prior)
        if plain is None or plain.variance <= LOUDER * usual.variance:
            return usual
        apart = (
            np.where(rows < len(self.keys) - late, group, group + 2 * len(self.keys)) for late in range(1, LATE + 1)
        )
        others = [noise for of in apart if (noise := window_noise(value, of, known, prior)) is not None]
        least = min(others, key=lambda noise: noise.variance, default=plain)
        found = least if least.variance * JUMP < plain.variance else plain
        return found if found.dof >= ENOUGH_DOF and found.variance > LOUDER * usual.variance else usual


def _carried(older: Noise, before: Floats, now: Floats, group: Integers, known: float, *, log: bool) -> Noise:
    """The noise of a regime that does not tell enough by itself: that of before is its prior, larger with the level."""
    sizes = [
        float(np.median(np.abs(side[np.isfinite(side)]))) if np.isfinite(side).any() and not log else 0.0
        for side in (before, now)
    ]
    grown = min(max(sizes[1] / sizes[0], 1.0), MOST_GROWN) if sizes[0] > 0.0 else 1.0  # a level near 0 may grow a lot
    prior = Noise(older.variance * grown**2, min(older.dof, CARRIED_DOF), older.outliers)
    return window_noise(now, group, known, prior) or prior


@dataclass(frozen=True, slots=True)
class Yardstick:
    """How windows are judged: the utility in use, the windows, and of each series its noise and margins.

    `margins`: for the utility and each objective with its own min_effect, in the units of the series. `sizes`: of each
    objective, raw units, what percentages are of. `baseline`: what relative limits refer to, in the present context.
    """

    utility: Utility
    windows: Windows
    noise: Mapping[str, Noise]
    margins: Mapping[str, float]
    sizes: Mapping[str, float]
    baseline: Mapping[str, float]

    @property
    def min_effect(self) -> float:
        """The smallest difference in utility that matters."""
        return self.margins[UTILITY]

    @property
    def size(self) -> float:
        """What all objectives together are worth: the sum of weight times size, utility units, at least min_effect."""
        weights = zip(self.utility.weights, self.sizes.values(), strict=True)
        return max(sum(abs(weight) * size for weight, size in weights), self.min_effect)

    def foreign(self, params: Params) -> bool:
        """Whether every window of a config came in contexts that say little of the present one: less than a window; or
        before the present regime."""
        doubt, windows = self.windows.doubt, self.windows
        rows = windows.rows(params, windows.regimes[-1])
        if doubt is None or not rows:
            return not rows
        return bool((np.sqrt(doubt[rows, 0]) > max(self.noise[UTILITY].std, self.min_effect)).all())


def yardstick(
    of: History | Excerpt, config: Config, baseline: Mapping[str, float], shifts: Shifts | None = None
) -> Yardstick:
    """The yardstick after these results; `shifts`: to the present context, where there is one."""
    of = of.judged(()) if isinstance(of, History) else of
    goals, rows = config.goals, of.rows
    raw = np.array([[row.values.get(o.name) for o in goals.objectives] for row in rows], dtype=float)
    raw = raw.reshape(len(rows), len(goals.objectives))
    model, known = model_values(rows, goals), known_variance(rows, goals)
    beside = paired(model, rows, goals)  # utilities are compared beside a control, limits hold for what ran
    merit, measured = raw, model
    if beside is not model or shifts:
        limited = [name in {limit.outcome for limit in goals.limits} for name in goals.modelled]
        moved = shifts.value if shifts else 0.0
        better = (beside + moved)[:, : len(goals.objectives)]
        merit = np.where([o.log for o in goals.objectives], np.exp(np.minimum(better, 700.0)), better)
        measured = np.where(limited, model, beside)
        model = measured + moved
    keys, failed = tuple(key(r.params) for r in rows), tuple(r.failed for r in rows)
    judged = tuple(config.guardrails is None or row.role in JUDGED for row in rows)
    outcomes = Windows(
        goals.modelled, model, measured, known, None, keys, failed, of.regimes, of.numbers, judged, goals.logs
    )
    outcomes = replace(outcomes, doubt=shifts.variance) if shifts else outcomes
    noise = {name: outcomes.noise(j) for j, name in enumerate(goals.modelled)}
    sizes = _sizes(config, baseline, noise, merit)
    utility = goals.utility(*_default_frame(config, baseline, sizes, merit))
    with_utility = np.column_stack([utility(merit), model])
    known_utility = _utility_variance(utility, merit, known, config)
    as_measured = np.column_stack([utility(raw), measured]) if shifts else with_utility
    known = np.column_stack([known_utility, known])
    doubt: Floats | None = None
    if shifts:
        of_utility = _utility_variance(utility, merit, shifts.variance, config)
        doubt = np.column_stack([of_utility, shifts.variance])
    names = (UTILITY, *goals.modelled)
    windows = replace(outcomes, names=names, value=with_utility, measured=as_measured, known=known, doubt=doubt)
    noise[UTILITY] = windows.noise(0)
    margins = _margins(config, baseline, sizes, utility, noise[UTILITY])
    return Yardstick(utility, windows, noise, margins, sizes, shifts.baseline if shifts else baseline)


def given_reference(
    objective: Objective, config: Config, baseline: Mapping[str, float], sizes: Mapping[str, float]
) -> float | None:
    """What the front has to beat in an objective, raw units: its threshold, else the baseline worsened by 10 % of its
    size; None: to be inferred from the observed front.
    """
    base = baseline.get(objective.name)
    if objective.threshold is not None or base is None or config.guardrails is None:
        return objective.threshold
    return base - objective.sign * WORSENED * sizes[objective.name]


def _sizes(config: Config, baseline: Mapping[str, float], noise: Mapping[str, Noise], raw: Floats) -> dict[str, float]:
    """Size of each objective: the larger of |baseline| and 2 window stds; without guardrails its observed range."""
    sizes = {}
    for j, o in enumerate(config.goals.objectives):
        seen = raw[np.isfinite(raw[:, j]), j]
        if config.guardrails is None:
            sizes[o.name] = float(np.ptp(seen)) if len(seen) else 0.0
            continue
        level = abs(baseline.get(o.name, float(np.median(seen)) if len(seen) else 0.0))
        std = noise[o.name].std * (level if o.log else 1.0)
        sizes[o.name] = max(level, BASELINE_NOISE_STDS * std)
    return sizes


def _default_frame(
    config: Config, baseline: Mapping[str, float], sizes: Mapping[str, float], raw: Floats
) -> tuple[dict[str, float], dict[str, float]]:
    """Centre and scale of the default utility: the baseline; without guardrails the best value of each objective."""
    centre = {}
    for j, o in enumerate(config.goals.objectives):
        seen = raw[np.isfinite(raw[:, j]), j]
        best = float((o.sign * seen).max() * o.sign) if len(seen) else 0.0
        centre[o.name] = baseline.get(o.name, best)
    return centre, {name: size if size > 0 else 1.0 for name, size in sizes.items()}


def _utility_variance(utility: Utility, raw: Floats, known: Floats, config: Config) -> Floats:
    """Known variance of the utility (n,): of the weighted sum; an upper bound for the Chebyshev value."""
    names, total = config.goals.modelled, np.zeros(len(raw))
    for j, o in enumerate(config.goals.objectives):
        slope = utility.coefficients[j] * (np.where(np.isfinite(raw[:, j]), raw[:, j], 0.0) if o.log else 1.0)
        total = total + slope**2 * known[:, names.index(o.name)]
    return np.asarray(total)


def _margins(
    config: Config, baseline: Mapping[str, float], sizes: Mapping[str, float], utility: Utility, noise: Noise
) -> dict[str, float]:
    magnitude = sum(w * sizes[o.name] for w, o in zip(utility.weights, config.goals.objectives, strict=True))
    guard = config.guardrails
    margins = {UTILITY: _margin(guard.min_effect if guard else None, magnitude, noise.std)}
    for o in config.goals.objectives:
        if o.min_effect is not None:
            raw = _margin(o.min_effect, sizes[o.name], 0.0)
            margins[o.name] = math.log1p(raw / sizes[o.name]) if o.log and sizes[o.name] > 0 else raw
    return margins


def _margin(effect: Effect | None, size: float, noise_std: float) -> float:
    if effect is None:
        return max(0.01 * size, 0.5 * noise_std)
    return effect.amount if effect.amount is not None else (effect.share or 0.0) * size
