"""What a measurement at x is worth: noisy expected improvement, of a utility or of the hypervolume, and its gradient.

Monte Carlo over what the measured points are truly worth, closed form over the candidate (Rao-Blackwell). Sample s
fixes the noise-free outcomes f_b^s at the baseline points b; given them and the rows, outcome j at x is normal with
mean_js = c_j + k_j(x, Z) A_j[:, s] and variance 1 - |R_j k_j(x, Z)|^2: a sample costs one column more. The value is
log mean_s exp(v_s + sum over limits of log Phi(side (bound - mean_js) / std_j)), and v_s depends on the goal.

UTILITY: log E[(U - best_s)_+], U = sum_j w_j u_j, u = shift + scale f, or exp of it for a log outcome. The linear part
of U is normal, so its expectation is closed (Ament et al. 2023, "Unexpected improvements to expected improvement").
Log outcomes are drawn beside it; where no linear outcome is left, one of them is integrated as an option's pay-off is;
and where then no sample can reach its level, the utility is taken as normal with its own mean and variance, and the
value is lowered by OUT_OF_REACH: a slope to climb, below all that was computed.
HYPERVOLUME: log E[hypervolume improvement] over the boxes of sample s (Daulton et al. 2021; see improvement.py); with a
floor, plus log Phi((V_s - floor) / width), V_s the augmented Chebyshev value of the means.
FEASIBLE: 0, with one sample and no baseline: the log probability that all limits hold.
MEAN: the utility of the posterior mean itself, less a penalty where P(limits) is below a confidence.

The product of improvement and limits is exact where no limited outcome is part of the utility; where one is, the two
are taken as independent given the sample. Shapes: N points Z, d columns, m outcomes, S samples, Q rows of R.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

UTILITY, HYPERVOLUME, FEASIBLE, MEAN = range(4)  # goals
FIXED, CONTINUOUS, GRID, CHOICE = range(4)  # roles of a column when the maximum is sought
AUGMENTATION = 0.05  # rho of the augmented Chebyshev value (Knowles 2006, eq. 2)
LEAST_VARIANCE = 1e-18  # of the standardised outcome: at a baseline point nothing is left to learn
OUT_OF_REACH = 1e5  # log units below every value that some sample can reach
PENALTY = 10.0  # of the goal MEAN for each unit of log probability that the limits lack


class Edges(NamedTuple):
    """The region that no baseline point dominates, by sample; see boxes.py."""

    edges: Floats  # (S, o, E) sorted, +inf after the last
    logs: Floats  # (S, o, E) of the strikes of log outcomes
    edge_count: Indices  # (S, o)
    lower_index: Indices  # (S, K, o)
    upper_index: Indices  # (S, K, o)
    number: Indices  # (S,) of boxes


class Problem(NamedTuple):
    """Everything a value depends on but x. Outcomes: the o objectives first, then those that are only limited."""

    goal: int
    ZT: Floats  # (d, N)
    kinds: Integers  # (d,)
    lengthscale: Floats  # (m, d)
    constant: Floats  # (m,)
    A: Floats  # (m, N, S)
    R: Floats  # (m, Q, N)
    shift: Floats  # (m,)
    scale: Floats  # (m,)
    is_log: Bools  # (o,)
    weight: Floats  # (o,) signed; for the hypervolume its signs alone count
    centre: Floats  # (o,) of the Chebyshev value; empty for the weighted sum
    draws: Floats  # (o, S) standard normals for log outcomes
    best: Floats  # (S,)
    limit_outcome: Integers  # (l,)
    limit_side: Floats  # (l,) +1: at or below
    limit_at: Floats  # (l,) standardised bound
    log_confidence: float
    floor: float  # of the Chebyshev value, -inf where there is none, and the width of the doubt about it
    floor_width: float
    boxes: Edges


class Domain(NamedTuple):
    """Where x may be: bounds (d,), the role of each column, and the sorted values of its grid."""

    low: Floats
    high: Floats
    role: Integers
    first: Integers  # (d,) where a column's values begin in `values`
    size: Integers  # (d,)
    values: Floats


NO_EDGES = Edges(
    np.zeros((0, 0, 0)),
    np.zeros((0, 0, 0)),
    np.zeros((0, 0), np.int32),
    np.zeros((0, 0, 0), np.int32),
    np.zeros((0, 0, 0), np.int32),
    np.zeros(0, np.int32),
)


def boxes(front: Floats, reference: Floats, sign: Floats, is_log: Bools) -> Edges:
    """The boxes of fronts (S, P, o) of maximised outcomes above a reference point (o,)."""
    from arqon_kernels._cpu.boxes import decompose_all
    from arqon_kernels._cpu.improvement import edge_logs

    _, _, count, edges, edge_count, lower_index, upper_index = decompose_all(front, reference)
    return Edges(edges, edge_logs(edges, sign, is_log), edge_count, lower_index, upper_index, count)


def front_counts(Y: Floats) -> Integers:
    """In how many draws of Y (S, P, o), maximised, each point (P,) is finite and dominated by no other."""
    from arqon_kernels._cpu.boxes import front_counts as body

    return np.asarray(body(Y))


def values(p: Problem, X: Floats, samples: int) -> Floats:
    """The values (r,) at X (r, d) by the first samples."""
    from arqon_kernels._cpu.acquisition import values as body

    return np.asarray(body(p, np.ascontiguousarray(X), samples))


def apart(X: Floats, order: Integers, most: int, gap: float) -> Integers:
    """The first rows of X (r, d), in this order, that are farther than `gap` from those before in some column."""
    from arqon_kernels._cpu.maximize import apart as body

    return np.asarray(body(X, order, most, gap))


def climb(p: Problem, domain: Domain, X: Floats, samples: int, steps: int) -> Floats:
    """Move each start of X (r, d) uphill, in place; the values (r,). Numeric grids are relaxed, then snapped."""
    from arqon_kernels._cpu.maximize import move_all

    return np.asarray(move_all(p, domain, X, samples, steps, False))


def polish(p: Problem, domain: Domain, X: Floats, samples: int, steps: int) -> Floats:
    """Search the grids around each start of X (r, d) and climb where nothing is a grid, in place; the values (r,)."""
    from arqon_kernels._cpu.maximize import move_all

    return np.asarray(move_all(p, domain, X, samples, steps, True))
