"""The edge: where windows have broken a limit, as far as that fact alone tells. Knows no outcome. No torch.

Beyond a cliff an outcome says nothing of the slope before it (cliffs.py), and before it little of the cliff. Here a row
is a yes or no: Gaussian-process classification with a probit likelihood by expectation propagation (Rasmussen and
Williams 2006, section 3.6; all sites at once, damped). Laplace's approximation learns next to nothing from windows that
were to hold, and takes a break for up to four times as likely as it is. The inputs are steps: a knob in its max_delta,
a number of the context in CONTEXT_STEP of its range; the prior is a constant, a line, so that an edge is carried on,
and a bump, so that what happened is remembered where it did. Public: Edge, Edges, Frame, MOST_RISK.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special
from scipy.linalg import solve_triangular

from arqon_gp.knobs import Categorical, Floats, Knob, unit
from arqon_gp.limits import StepLimits
from arqon_gp.rows import Settings
from arqon_gp.steps import Absolute, Places, Ratio, StepLimit, Switch
from arqon_kernels.covariance import CATEGORY, CYCLE, NUMBER

MEAN, CONSTANT, SLOPE, BUMP = 2.5, 1.5, 0.85, 1.5  # of the prior, in stds of the probit: mean and stds, slope a step
WIDTH = 1.5  # steps, of the bump
FREE_STEP, CONTEXT_STEP = 0.1, 0.05  # of the range: a step of a knob that is free, or frozen, and of the context
OTHER_REGIME = 6.0  # steps, of a twentieth of the traffic, say: a change may move an edge by as much
FARTHEST = 1000.0  # steps: what is farther away is as far
MOST_RISK = 0.5  # of that of a config of which nothing is known
SWEEPS, CLOSE, DAMPED, TINY = 60, 1e-3, 0.7, 1e-9
NEWTON_STEPS = 8
GRID = np.linspace(-6.0, 6.0, 31)  # stds
NOISE, OLD = 0.2, 4.0  # std of how far beyond the limits a window is, and after how many windows it is twice that


@dataclass(frozen=True, slots=True)
class Edge:
    """`frame` gives the rows in steps, `Z` (n, p), whose last column is time, `now` that of the next window; their
    covariance times `weights` (n,) is the posterior mean, `root` (n,) that of the precision of the sites, and L the
    Cholesky factor of I + root K root."""

    frame: Frame
    Z: Floats
    now: float
    weights: Floats
    root: Floats
    L: Floats

    @classmethod
    def of(cls, X: Floats, broken: Floats, kept: Floats, frame: Frame, old: Floats | None = None) -> Edge | None:
        """The edge that rows X (n, d) tell, of which so many windows (n,) broke a limit, and so many kept them; None
        where none broke one. `old` (n,), 0 or 1: those that tell of the present what those of another regime do."""
        if not broken.any():
            return None
        frame, n = frame.centred(X), len(X)
        ago = np.zeros(n) if old is None else OTHER_REGIME * old
        Z = np.column_stack([frame(X), ago - ago.mean()])
        K = _prior(Z, Z)
        precision, shift, mean = np.zeros(n), np.zeros(n), np.full(n, np.inf)
        for sweep in range(SWEEPS):
            root, before = np.sqrt(precision), mean
            L = np.asarray(np.linalg.cholesky(np.eye(n) + root[:, None] * K * root), dtype=np.float64)
            v = solve_triangular(L, root[:, None] * K, lower=True)
            mean, variance = K @ shift - v.T @ (v @ shift), np.maximum(np.diag(K) - np.square(v).sum(axis=0), TINY)
            if np.abs(mean - before).max() < CLOSE or sweep == SWEEPS - 1:
                break
            others = np.maximum(1.0 / variance - precision, TINY)
            centre = (mean / variance - shift) / others
            moved, width = _tilted(centre, 1.0 / others, broken, kept)
            precision += DAMPED * (np.clip(1.0 / width - others, 0.0, broken + kept) - precision)
            shift += DAMPED * (moved / width - centre * others - shift)
        weights = shift - root * solve_triangular(L, v @ shift, lower=True, trans=1)
        return cls(frame, Z, -float(ago.mean()), weights, root, L)

    def _steps(self, X: Floats) -> Floats:
        return np.column_stack([self.frame(X), np.full(len(X), self.now)])

    def margin(self, X: Floats) -> Floats:
        """How far on the good side of the edge points (r, d) are, in stds of the probit."""
        return np.asarray(MEAN + _prior(self._steps(X), self.Z) @ self.weights)

    def chance(self, X: Floats) -> Floats:
        """P(a window breaks a limit) at points (r, d), what is not known of the edge included."""
        Z = self._steps(X)
        v = solve_triangular(self.L, self.root[:, None] * _prior(self.Z, Z), lower=True)
        variance = np.maximum(_alone(Z) - np.square(v).sum(axis=0), 0.0)
        return np.asarray(special.ndtr(-self.margin(X) / np.sqrt(1.0 + variance)))

    def risk(self, X: Floats) -> Floats:
        """How much likelier than a config of which nothing is known these (r, d) break a limit: a ratio (r,)."""
        return np.asarray(self.chance(X) / special.ndtr(-MEAN / np.sqrt(1.0 + _alone(self._steps(X)))))

    def least(self, X: Floats, beyond: Floats, age: Floats, where: Floats) -> Floats:
        """How far beyond the limits it is at best, a posterior std below the mean, at points (r, d), as rows X (n, d)
        that were so far beyond tell (n,), `age` (n,) windows ago: regression with the same prior."""
        Z, there, middle = self.frame(X), self.frame(where), float(beyond.mean())
        noise = (NOISE * (1.0 + age / OLD)) ** 2
        L = np.linalg.cholesky(_prior(Z, Z) + np.diag(noise))
        v = np.linalg.solve(L, _prior(Z, there))
        mean = middle + v.T @ np.linalg.solve(L, beyond - middle)
        return np.asarray(mean - np.sqrt(np.maximum(_alone(there) - np.square(v).sum(axis=0), 0.0)))


@dataclass(frozen=True, slots=True)
class Edges:
    """The edge of what collapses, and that of what is a little beyond a limit: the way away from one may lead to the
    other. A window that is a little beyond has not collapsed; what one that has would have been else nobody knows."""

    collapse: Edge | None
    mild: Edge | None

    @classmethod
    def of(
        cls, X: Floats, failed: Floats, beyond: Floats, kept: Floats, frame: Frame, old: Floats | None = None
    ) -> Edges | None:
        """The edges that rows X (n, d) tell, of which so many windows (n,) failed, so many were beyond a limit
        else, and so many kept them; None where none broke one."""
        found = cls(Edge.of(X, failed, kept + beyond, frame, old), Edge.of(X, beyond, kept, frame, old))
        return found if found.parts else None

    @property
    def parts(self) -> tuple[Edge, ...]:
        """Those that are known of."""
        return tuple(edge for edge in (self.collapse, self.mild) if edge is not None)

    def margin(self, X: Floats) -> Floats:
        """How far on the good side of the nearest edge points (r, d) are, in stds of the probit."""
        return np.asarray(np.minimum.reduce([edge.margin(X) for edge in self.parts]))

    def chance(self, X: Floats) -> Floats:
        """P(a window breaks a limit) at points (r, d), what is not known of the edges included."""
        return np.asarray(1.0 - np.multiply.reduce([1.0 - edge.chance(X) for edge in self.parts]))

    def risk(self, X: Floats) -> Floats:
        """How much likelier than a config of which nothing is known these (r, d) break a limit: a ratio (r,)."""
        return np.asarray(np.maximum.reduce([edge.risk(X) for edge in self.parts]))

    def least(self, X: Floats, beyond: Floats, age: Floats, where: Floats) -> Floats:
        """The same of either edge, see Edge.least: the frame is one."""
        return self.parts[0].least(X, beyond, age, where)


@dataclass(frozen=True, slots=True)
class Frame:
    """What brings rows of the unit cube to steps: `scale` (d,) one step of each column; `current` the regime of the
    next window, encoded; `levels` the values of the categories, by column; `centre` (p,) of the rows, in steps."""

    settings: Settings
    scale: Floats
    current: float
    levels: Mapping[int, Floats] = field(default_factory=dict)
    centre: Floats | float = 0.0

    @classmethod
    def of(cls, settings: Settings, steps: StepLimits, current: float) -> Frame:
        """The frame under these step limits."""
        scale, knobs = np.full(len(settings.kinds), CONTEXT_STEP), settings.space.knobs
        scale[: len(steps)] = [_step_of(knob, step) for knob, step in zip(knobs, steps, strict=False)]
        return cls(settings, scale, current)

    def centred(self, X: Floats) -> Frame:
        """The frame whose middle, and whose categories, are those of these rows (n, d)."""
        categories = [i for i in np.flatnonzero(self.settings.kinds == CATEGORY) if i not in self.settings.regime]
        known = replace(self, levels={int(i): np.unique(X[:, i]) for i in categories})
        return replace(known, centre=known(X).mean(axis=0))

    def __call__(self, X: Floats) -> Floats:
        """Rows (n, d) in steps (n, p)."""
        columns = []
        for i, kind in enumerate(self.settings.kinds.tolist()):
            x = X[:, i]
            if i in self.levels:
                columns += [(x == value).astype(float) for value in self.levels[i]]
            elif i in self.settings.regime:
                columns.append(OTHER_REGIME * (x != self.current))
            elif kind == CYCLE:
                columns += [np.sin(2.0 * math.pi * x), np.cos(2.0 * math.pi * x)]
            elif kind == NUMBER:
                columns.append(np.clip(x / self.scale[i], -FARTHEST, FARTHEST))
        return np.column_stack(columns) - self.centre


def _step_of(knob: Knob, step: StepLimit) -> float:
    """One step of a knob, in units of its encoding."""
    step, found = step.step if isinstance(step, Switch) else step, FREE_STEP
    if isinstance(knob, Categorical):
        found = step.count / max(len(knob.choices) - 1, 1) if isinstance(step, Places) else 1.0
    elif isinstance(step, Ratio):
        found = math.log(step.factor) / math.log(knob.high / knob.low)
    elif isinstance(step, Absolute):
        found = unit(knob, min(knob.low + step.delta, knob.high))
    return found or FREE_STEP  # a frozen knob


def _prior(A: Floats, B: Floats) -> Floats:
    """Prior covariance (n, m) of inputs (n, p) and (m, p)."""
    apart = np.square(A).sum(axis=1)[:, None] + np.square(B).sum(axis=1) - 2.0 * A @ B.T
    return np.asarray(CONSTANT**2 + SLOPE**2 * A @ B.T + BUMP**2 * np.exp(-0.5 * np.maximum(apart, 0.0) / WIDTH**2))


def _alone(Z: Floats) -> Floats:
    """Prior variance (n,) of inputs (n, p)."""
    return np.asarray(CONSTANT**2 + SLOPE**2 * np.square(Z).sum(axis=1) + BUMP**2)


def _tilted(centre: Floats, variance: Floats, broken: Floats, kept: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (n,) of normals times the likelihood of so many windows: by the trapezoidal rule on points
    around the normal and around the mode, for either may be far narrower than the other, or far from it."""
    mode = centre
    for _ in range(NEWTON_STEPS):  # concave
        (up, bent), (down, bends) = _slopes(MEAN + mode), _slopes(-MEAN - mode)
        curvature = 1.0 / variance + kept * bent + broken * bends
        mode = mode + ((centre - mode) / variance + kept * up - broken * down) / curvature
    around = np.stack([centre, mode]), np.sqrt(np.stack([variance, 1.0 / curvature]))
    f = np.sort(np.concatenate([at[:, None] + std[:, None] * GRID for at, std in zip(*around, strict=True)], axis=1))
    share = -0.5 * np.square(f - centre[:, None]) / variance[:, None]
    for way, windows in ((1.0, kept), (-1.0, broken)):
        some = np.flatnonzero(windows)
        share[some] += windows[some, None] * special.log_ndtr(way * (MEAN + f[some]))
    share = np.exp(share - share.max(axis=1, keepdims=True)) * np.gradient(f, axis=1)
    share /= share.sum(axis=1, keepdims=True)
    mean = (share * f).sum(axis=1)
    return mean, np.maximum((share * np.square(f - mean[:, None])).sum(axis=1), TINY)


def _slopes(z: Floats) -> tuple[Floats, Floats]:
    """First derivative of the log of the normal distribution function at z (n,), and less the second."""
    ratio = np.exp(-0.5 * z * z - 0.5 * math.log(2.0 * math.pi) - special.log_ndtr(z))
    return ratio, np.maximum(ratio * (ratio + z), 0.0)
