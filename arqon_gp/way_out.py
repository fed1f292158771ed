"""The way out: where to go while a limit is broken. No torch.

To the config within reach that is likeliest to keep the limits, or a step towards one out of reach that is likelier to;
where there is no such hope, to the one least beyond them, as the latest windows tell. But no step leads from a small
breach to where a collapse is likelier than here. Public: WayOut, least_excess, broke_lately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt

from arqon_gp.guard import BROKEN, CLEARLY, HOPELESS
from arqon_gp.knobs import Floats
from arqon_gp.legal import Region
from arqon_gp.outlook import DEFAULT_CONFIDENCE, Outlook, plain
from arqon_gp.records import Params

LIKELY = 0.75  # P(all limits hold) of a config that is worth a way out of several steps
FLAT = 0.17  # std of how far beyond a limit the latest windows are: where it is less, the edge says more
LATELY = 24  # windows that tell the way out


@dataclass(frozen=True)
class WayOut:
    """`region`: what is within reach, in the present context; `best`: the config of it that the acquisition likes best,
    `spread`: points spread over it; `good`: the best measured ones, within reach or not; `confidence`: with which the
    limits are to hold."""

    found: Outlook
    region: Region
    best: Params
    spread: Sequence[Params]
    good: Sequence[Params]
    confidence: float

    @cached_property
    def chosen(self) -> tuple[Params, str]:
        """The config to run next, and which one that is."""
        found, region, refuge = self.found, self.region, self._refuge
        if refuge is not None:
            step = region.settled(region.space.nearest(refuge | found.context, region.box, region.here))
            if region.contains(step) and not broke_lately(found, plain(found.study, step)) and self._clear([step])[0]:
                return step, "towards a config that is likelier to hold the limits than any within reach"
        if self._hopeless:
            return self._least_beyond(), "least beyond the limits within reach"
        return self._likeliest, "the highest P(all limits hold) within reach"

    @cached_property
    def _refuge(self) -> Params | None:
        """A measured config, not what runs, that is likely to keep the limits, and clearly more so than any within
        reach; if any. Where the model knows nothing, far away, P is not 0 either."""
        found, study = self.found, self.found.study
        if not found.bounds or (reach := 1.0 - float(found.p_broken([self._likeliest])[0])) >= self.confidence:
            return None
        others = [p for p in found.measured if not study.config.space.same(p, study.deployment.may_run)]
        p = 1.0 - found.p_broken(others)
        return others[int(np.argmax(p))] if len(p) and p.max() >= max(reach + CLEARLY, LIKELY) else None

    @cached_property
    def _hopeless(self) -> bool:
        """Whether nothing within reach has a chance to keep the limits, as the model says, or the windows do."""
        best = plain(self.found.study, self._likeliest)
        return bool(self.found.p_broken([best])[0] > 1.0 - HOPELESS) or self.found.lost(best)

    @cached_property
    def _likeliest(self) -> Params:
        """The config within reach, other than what runs, that is likeliest to keep the limits."""
        points = self._others([self.best, *self.spread])
        return points[int(np.argmin(self.found.p_broken(points)))]

    def _least_beyond(self) -> Params:
        """The config within reach, other than what runs, that may be least beyond the limits: one that is likelier to
        keep them than not, as far as that fact alone tells, if there is one."""
        points = [p for p in (self.best, *self.good) if self.region.contains(p)]
        points = self._others([*points, *self.spread])
        chance = self.found.p_beyond(points)
        return points[int(np.argmin(chance if chance.min() < 1.0 - BROKEN else least_excess(self.found, points)))]

    def _others(self, points: list[Params]) -> list[Params]:
        """Those of the points that are not what runs, of them those that are clear of a collapse, if there are any."""
        study = self.found.study
        here = study.deployment.may_run
        points = [p for p in points if not study.config.space.same(here, plain(study, p))] or points
        return list(compress(points, self._clear(points))) or points

    def _clear(self, points: Sequence[Params]) -> npt.NDArray[np.bool_]:
        """Which points are no likelier to collapse than what runs, or hardly likely to; all, where that has."""
        found = self.found
        if found.collapsed:
            return np.ones(len(points), dtype=bool)
        risk = found.p_collapsed([*(plain(found.study, p) for p in points), found.study.deployment.may_run])
        return np.asarray(risk[:-1] <= max(float(risk[-1]), 1.0 - DEFAULT_CONFIDENCE))


def least_excess(found: Outlook, configs: Sequence[Params]) -> Floats:
    """How far beyond the limits each config (r,) is at best, summed in units of what varies, as the latest windows
    tell, less its distance from the edge where they tell little, all being as far: the model, for which a cliff ends
    somewhere, sees no slope down there, and what it has seen for long weighs too much. As the model says where these
    windows broke no limit."""
    data, moments, seen = found.data, found.moments(configs), _excess(found)
    expected = np.zeros(len(configs))
    for name, side, bound in found.bounds:
        expected += np.maximum(side * (moments(name)[0] - bound), 0.0) / _scale(found, name)
    age = data.now - data.at
    lately = (age < LATELY) & np.isfinite(seen)
    if found.edges is None or not seen[lately].any():
        return expected
    where, flat = found.encoded(configs), 1.0 / (1.0 + float(seen[lately & (seen > 0.0)].var()) / FLAT**2)
    return found.edges.least(data.X[lately], seen[lately], age[lately], where) - flat * found.edges.margin(where)


def broke_lately(found: Outlook, params: Params) -> bool:
    """Whether a config is what runs, or broke a limit in one of the latest windows."""
    data, study = found.data, found.study
    lately = np.flatnonzero((data.now - data.at < LATELY) & (_excess(found) > 0.0))
    tried = [data.params[i] for i in lately.tolist()]
    return any(study.config.space.same(params, one) for one in (study.deployment.may_run, *tried))


def _excess(found: Outlook) -> Floats:
    """How far beyond the limits each row (n,) of the dataset was, in the same units, but for limits that refer to the
    baseline of another context: what failed as far as any, NaN where it was not measured."""
    data, seen = found.data, np.zeros(len(found.data.X))
    for name, side, bound in found.study.config.goals.bounds(found.study.fixed):
        y = data.Y[:, found.surrogate.settings.outcomes.index(name)]
        seen += np.maximum(side * (y - bound), 0.0) / _scale(found, name)
    return np.where(np.isnan(seen) & (data.failed > 0.0), max(np.nanmax(seen, initial=0.0), 1.0), seen)


def _scale(found: Outlook, name: str) -> float:
    """How far an outcome varies beside its trend, model space, what has collapsed included."""
    gp, y = found.fitted[name], found.data.Y[:, found.fitted.settings.outcomes.index(name)]
    return max(gp.rows.scale, float(np.nanstd(y - gp.level(found.data.X))))
