"""Points that need no model: the scrambled Sobol points of the initial design, and the stateless ArqonProbe.

Both are functions of a seed and an index alone: the same values in any process. No torch.
Public: sobol, recurrence, spread, spread_one, placed, ArqonProbe.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from arqon_gp.config import Config, parse
from arqon_gp.errors import RequestError
from arqon_gp.knobs import Domain, Floats, Interval, Knob, Split, Steps, from_unit, grid_value, nearest, unit
from arqon_gp.legal import Region
from arqon_gp.records import Params, Scalar
from arqon_gp.space import Box, Space

SPECIAL_SHARE, MOST_SPECIAL_SHARE = 0.2, 0.5  # of the points: for each special value of a knob, and for all of them
TRIES = 64  # points drawn to keep the rules between knobs before one is pulled to where they hold


def sobol(d: int, n: int, rng_seed: int, stream: int = 0) -> Floats:
    """The first n points (n, d) of a scrambled Sobol sequence in the unit cube (Owen 1995, as scipy scrambles)."""
    from scipy.stats import qmc  # half a second that an import of the package does not have to pay

    rng = np.random.default_rng([rng_seed, stream])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # balance at n not a power of 2 is not needed here
        return np.asarray(qmc.Sobol(d, scramble=True, rng=rng).random(n))


def recurrence(d: int, n: int, start: Floats) -> Floats:
    """n points (n, d) of the additive recurrence that fills the unit cube most evenly, from `start` (d,).

    Steps are powers of 1 / phi_d, phi_d the root of x^(d+1) = x + 1 (Roberts 2018). No library needs to be loaded.
    """
    phi = 2.0
    for _ in range(30):
        phi = (1.0 + phi) ** (1.0 / (d + 1))
    return np.asarray((start + np.arange(1, n + 1)[:, None] * phi ** -np.arange(1.0, d + 1)) % 1.0)


def spread(space: Space, box: Box, u: Floats) -> Params:
    """The config at position u (d,) of a box: u in [0, 1) of an interval's encoding, or of a grid's values in order."""
    return {
        knob.name: spread_one(knob, domain, float(x)) for knob, domain, x in zip(space, box.domains, u, strict=True)
    }


def placed(region: Region, u: Floats, rng: np.random.Generator) -> Params:
    """The legal config at position u (d,) of a region; where rules are broken there one drawn elsewhere, at last one on
    the way there."""
    found = spread(region.space, region.box, u)
    if not region.space.irregular:
        return found
    for _ in range(TRIES):
        found = region.settled(found)
        if region.space.broken_rule(found) is None:
            return found
        found = spread(region.space, region.box, rng.random(len(u)))
    return region.pulled(found)


def spread_one(knob: Knob, domain: Domain, u: float) -> Scalar:
    """The value at position u of one knob's domain."""
    if isinstance(domain, Split):
        count = len(domain.special)
        share = 1.0 if domain.ordinary is None else min(SPECIAL_SHARE * count, MOST_SPECIAL_SHARE)
        if u < share:
            return domain.special[min(int(u / share * count), count - 1)]
        assert domain.ordinary is not None
        return spread_one(knob, domain.ordinary, (u - share) / (1.0 - share))
    if isinstance(domain, Interval):
        low, high = unit(knob, domain.low), unit(knob, domain.high)
        value = from_unit(knob, low + u * (high - low))  # type: ignore[arg-type]  # an interval belongs to a number
        return nearest(knob, value, domain)
    if isinstance(domain, Steps):
        count = domain.last - domain.first + 1
        return grid_value(knob, domain.first + min(int(u * count), count - 1))  # type: ignore[arg-type]  # so do steps
    return domain.choices[min(int(u * len(domain.choices)), len(domain.choices) - 1)]


class ArqonProbe:
    """Low-discrepancy points by index, for sharding without coordination (arqonhpo's API; the numbers are our own).

    `ArqonProbe(config, seed=...).sample_at(i)`: scrambled Halton points; index i needs no earlier one. `seed` defaults
    to the config's. ConfigError for a bad config, RequestError for a negative index or count.
    """

    def __init__(self, config: str | Mapping[str, Any] | Config, seed: int | None = None) -> None:
        self._config = parse(config)
        self._rng_seed = self._config.rng_seed if seed is None else seed

    def sample_at(self, index: int) -> Params:
        """The point at a global index >= 0."""
        return self.sample_range(index, 1)[0]

    def sample_range(self, start: int, count: int) -> list[Params]:
        """The points at start, start + 1, ..., start + count - 1."""
        for name, number in (("index", start), ("count", count)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{name}: expected an int, found {number!r}")
            if number < 0:
                raise RequestError(f"{name}: expected >= 0, found {number}")
        if count == 0:
            return []
        from scipy.stats import qmc

        space = self._config.space
        halton = qmc.Halton(len(space.knobs), scramble=True, rng=np.random.default_rng(self._rng_seed))
        halton.num_generated = start  # fast_forward() would compute every point before it
        region = Region(space, space.whole, self._config.start, returns=False)
        return [
            placed(region, u, np.random.default_rng([self._rng_seed, index]))
            for index, u in enumerate(halton.random(count), start)
        ]
