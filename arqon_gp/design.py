"""Points that need no model: the scrambled Sobol points of the initial design, and the stateless ArqonProbe.

Both are functions of a seed and an index alone: the same values in any process. No torch.
Public: sobol, recurrence, spread, ArqonProbe.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from arqon_gp.config import Config, parse
from arqon_gp.errors import RequestError
from arqon_gp.records import Params, Scalar
from arqon_gp.space import Box, Floats, Interval, Knob, Space, from_unit, nearest, unit, values


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
        knob.name: _spread_one(knob, domain, float(x)) for knob, domain, x in zip(space, box.domains, u, strict=True)
    }


def _spread_one(knob: Knob, domain: Any, u: float) -> Scalar:
    if isinstance(domain, Interval):
        low, high = unit(knob, domain.low), unit(knob, domain.high)
        value = from_unit(knob, low + u * (high - low))  # type: ignore[arg-type]  # an interval belongs to a number
        return nearest(knob, value, domain)
    options = values(knob, domain) or ()
    return options[min(int(u * len(options)), len(options) - 1)]


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
        return [spread(space, space.whole, u) for u in halton.random(count)]
