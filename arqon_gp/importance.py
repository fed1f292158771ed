"""How much each knob matters: total effects on the utility, or on one outcome, by draws of the surrogate.

The total effect of a knob is the share of the variance over the whole space that would remain if all other knobs were
known: E[(f(a) - f(a with knob i of b))^2] / (2 Var f), a and b independent (Jansen 1999, "Analysis of variance designs
for model output"). Each posterior draw of f has its own; their spread is what is not known yet. Public: total_effects.
"""

from __future__ import annotations

import numpy as np

from arqon_gp.design import sobol, spread
from arqon_gp.knobs import Floats
from arqon_gp.outlook import Outlook, raw
from arqon_gp.records import Prediction
from arqon_gp.yardstick import UTILITY, Yardstick

DRAWS = 64
MOST_POINTS = 1024  # of the design: (d + 2) for each of its base points, drawn jointly
JITTER = 1e-8  # of the standardised outcome


def total_effects(found: Outlook, yard: Yardstick, of: str = UTILITY) -> dict[str, Prediction]:
    """The total effect of each knob: mean and central 95 % interval over posterior draws; 0 where nothing varies.

    `of`: the utility, or the name of a modelled outcome (in model space).
    """
    study = found.study
    space, rng = study.config.space, np.random.default_rng([study.config.rng_seed, 0])
    d = len(space.knobs)
    count = 2 ** max(4, int(np.log2(MOST_POINTS / (d + 2))))
    design = sobol(2 * d, count, study.config.rng_seed)
    a, b = ([spread(space, space.whole, u) for u in half] for half in np.split(design, 2, axis=1))
    mixed = [x | {name: y[name]} for name in space.names for x, y in zip(a, b, strict=True)]
    f = _draws(found, yard, of, found.encoded(a + b + mixed), rng)  # DRAWS x points
    here, variance = f[:, None, :count], f[:, : 2 * count].var(axis=1)
    apart = np.square(f[:, 2 * count :].reshape(DRAWS, d, count) - here).mean(axis=2)
    share = np.divide(apart, 2.0 * variance[:, None], where=variance[:, None] > 0, out=np.zeros_like(apart))
    low, high = np.quantile(share, [0.025, 0.975], axis=0)
    return {
        knob.name: Prediction(float(m), float(lo), float(hi))
        for knob, m, lo, hi in zip(space, share.mean(axis=0), low, high, strict=True)
    }


def _draws(found: Outlook, yard: Yardstick, of: str, X: Floats, rng: np.random.Generator) -> Floats:
    """Posterior draws (DRAWS, q) of the noise-free utility or outcome at X (q, d)."""
    names = [o.name for o in found.study.config.goals.objectives] if of == UTILITY else [of]
    drawn = []
    for name in names:
        gp = found.surrogate[name]
        mean, covariance = gp.joint(X)
        root = np.linalg.cholesky(covariance + JITTER * gp.rows.scale**2 * np.eye(len(X)))
        drawn.append(mean + rng.standard_normal((DRAWS, len(X))) @ root.T)
    return yard.utility(raw(np.stack(drawn, axis=-1), found.study)) if of == UTILITY else drawn[0]
