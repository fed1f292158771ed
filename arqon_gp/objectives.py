"""What is good: directions, limits, the utility of a window, and which configs no other dominates.

Outcomes are in raw units unless "model space" is said: there a log outcome is its natural logarithm.
Shapes: Y (..., m) raw outcomes in the order of the objectives; m objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt

from arqon_gp.knobs import Floats
from arqon_gp.records import Control, Observation

AUGMENTATION = 0.05  # rho of the augmented Chebyshev scalarisation (Knowles 2006, ParEGO, eq. 2)
BASELINE_NOISE_STDS = 2.0  # a baseline smaller than this many window stds says nothing about scale


@dataclass(frozen=True, slots=True)
class Effect:
    """The smallest difference that matters: `amount` in raw (or utility) units, or as a `share` of the baseline."""

    amount: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """One outcome to be maximised (sign +1) or minimised (sign -1); `log`: modelled in log space."""

    name: str
    sign: int
    weight: float | None = None
    log: bool = False
    threshold: float | None = None
    min_effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """An outcome that must stay at or below (`side` +1) or at or above (-1) a bound, raw units.

    The bound is `value`, or `value` times the baseline when `relative`. `floor`: what is less is no better (log only).
    """

    outcome: str
    side: int
    value: float
    relative: bool
    confidence: float
    log: bool = False
    floor: float = 0.0

    def bound(self, baseline: Mapping[str, float]) -> float | None:
        """The bound in raw units; None while the baseline it refers to is not measured."""
        if not self.relative:
            return self.value
        return self.value * baseline[self.outcome] if self.outcome in baseline else None

    def text(self) -> str:
        """As the operator wrote it: `p99_latency_ms <= 1.1*baseline`."""
        return f"{self.outcome} {'<=' if self.side > 0 else '>='} {self.value:g}{'*baseline' if self.relative else ''}"


@dataclass(frozen=True, slots=True)
class Utility:
    """One number per config, larger is better.

    With `centre` None the weighted sum of signed outcomes; else the augmented Chebyshev value
    min_j z_j + 0.05 sum_j z_j of z_j = sign_j (y_j - centre_j) / scale_j, scaled so that 0.01 is 1 % of the scale.
    """

    signs: tuple[int, ...]
    weights: tuple[float, ...]
    centre: tuple[float, ...] | None = None

    def __call__(self, Y: Floats) -> Floats:
        """(..., m) raw outcomes -> (...) utilities; NaN where an outcome is NaN."""
        if self.centre is None:
            return np.asarray(Y @ self.coefficients, dtype=float)
        Z = (Y - np.asarray(self.centre)) * self.coefficients
        least = reduce(np.minimum, (Z[..., j] for j in range(Z.shape[-1])))  # far quicker than a short last axis
        return np.asarray(least + AUGMENTATION * Z.sum(axis=-1), dtype=float)

    @property
    def coefficients(self) -> Floats:
        """Signed weight of each objective; 1 / scale for the Chebyshev value."""
        return np.array([sign * weight for sign, weight in zip(self.signs, self.weights, strict=True)])


@dataclass(frozen=True)
class Goals:
    """The objectives and outcome limits of a study."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def pareto(self) -> bool:
        """Several objectives without weights: the front is explored."""
        return len(self.objectives) > 1 and self.objectives[0].weight is None

    @cached_property
    def modelled(self) -> tuple[str, ...]:
        """Names of the outcomes that get a surrogate: objectives first, then outcomes that are only limited."""
        names = dict.fromkeys(o.name for o in self.objectives)
        return tuple(names | dict.fromkeys(limit.outcome for limit in self.limits))

    @cached_property
    def better(self) -> dict[str, int]:
        """+1 for each modelled outcome of which more is better, -1 for the others."""
        return {limit.outcome: -limit.side for limit in self.limits} | {o.name: o.sign for o in self.objectives}

    @cached_property
    def logs(self) -> frozenset[str]:
        """Outcomes modelled in log space."""
        return frozenset(o.name for o in self.objectives if o.log) | {x.outcome for x in self.limits if x.log}

    @cached_property
    def floors(self) -> dict[str, float]:
        """The log outcomes of which 0 is a value: what is below this counts as this, raw units."""
        return {limit.outcome: limit.floor for limit in self.limits if limit.floor}

    @property
    def positive(self) -> frozenset[str]:
        """Outcomes that have to be above 0 to say anything."""
        return self.logs - self.floors.keys()

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The thresholds of the front, model space."""
        known = [(o.name, self.to_model(o.name, o.threshold)) for o in self.objectives]
        return {name: value for name, value in known if math.isfinite(value)}

    def bounds(self, baseline: Mapping[str, float]) -> list[tuple[str, int, float]]:
        """The limits whose bound is known: outcome, side, bound in model space."""
        known = [(x.outcome, x.side, x.bound(baseline)) for x in self.limits]
        return [(name, side, self.to_model(name, bound)) for name, side, bound in known if bound is not None]

    def broken(self, values: Mapping[str, float | None], baseline: Mapping[str, float]) -> bool:
        """Whether a window with these outcomes, raw units, is beyond a limit whose bound is known."""
        known = ((values.get(x.outcome), x.side, x.bound(baseline)) for x in self.limits)
        return any(y is not None and bound is not None and side * (y - bound) > 0.0 for y, side, bound in known)

    def to_model(self, name: str, value: float | None) -> float:
        """One raw outcome in model space; NaN when missing, or not positive for a log outcome."""
        if value is None:
            return math.nan
        if name not in self.logs:
            return value
        value = max(value, self.floors.get(name, value))
        return math.log(value) if value > 0 else math.nan

    def complete(self, values: Mapping[str, float | None]) -> bool:
        """Whether a window has every objective and every limited outcome."""
        return all(math.isfinite(self.to_model(name, values.get(name))) for name in self.modelled)

    def utility(self, centre: Mapping[str, float], scales: Mapping[str, float]) -> Utility:
        """The utility in use; centre and (positive) scale of each objective serve the default utility only."""
        signs = tuple(o.sign for o in self.objectives)
        if not self.pareto:
            return Utility(signs, tuple(1.0 if o.weight is None else o.weight for o in self.objectives))
        weights = tuple(1.0 / scales[o.name] for o in self.objectives)
        return Utility(signs, weights, tuple(centre[o.name] for o in self.objectives))


def model_values(rows: Sequence[Observation | Control], goals: Goals) -> Floats:
    """The modelled outcomes (n, m) of rows in model space, NaN where missing."""
    told = [row.values for row in rows]
    columns = [np.array([values.get(name) for values in told], dtype=float) for name in goals.modelled]
    values = np.column_stack(columns)
    for j in [j for j, name in enumerate(goals.modelled) if name in goals.logs]:
        if floor := goals.floors.get(goals.modelled[j]):
            values[:, j] = np.maximum(values[:, j], floor)
        values[:, j] = np.log(values[:, j], where=values[:, j] > 0, out=np.full(len(rows), np.nan))
    return values


def nondominated(Y: Floats) -> npt.NDArray[np.bool_]:
    """(n, m) maximised outcomes -> (n,) mask of the rows that no other row dominates."""
    reached = reduce(np.logical_and, (y[:, None] <= y[None, :] for y in Y.T))  # [i, j]: j is as good in everything
    return np.asarray(~(reached & ~reached.T).any(axis=1), dtype=bool)


def hypervolume(Y: Floats, reference: Floats) -> float:
    """Volume between a reference point (m,) and maximised outcomes (n, m) above it."""
    return _volume((Y[(reference < Y).all(axis=1)] - reference).tolist())


def _volume(points: list[list[float]]) -> float:
    """Volume between the origin and points above it, slice by slice of the last outcome."""
    if not points:
        return 0.0
    points = sorted(points, key=lambda point: -point[-1])
    if len(points[0]) == 1:
        return points[0][0]
    total = widest = 0.0
    for i, (*others, depth) in enumerate(points):
        if len(others) == 1:
            total, widest = total + depth * max(others[0] - widest, 0.0), max(widest, others[0])
        elif depth > (next_depth := points[i + 1][-1] if i + 1 < len(points) else 0.0):
            total += (depth - next_depth) * _volume([point[:-1] for point in points[: i + 1]])
    return total
