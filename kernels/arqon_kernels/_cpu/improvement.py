"""Expected hypervolume improvement over given boxes, compiled: each expectation once an edge, vectorised over edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled
from arqon_kernels._cpu.normal import LEAST_STD, linear_pass, log_call, log_ei, log_put, option_pass

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
Booleans = npt.NDArray[np.bool_]

UNDERFLOW = 1e-280  # below it some box may have lost its product: the sum is taken again in logs
FARTHEST = 1e150  # in standard deviations: keeps -inf, the log of no strike, out of the arithmetic


@compiled
def edge_logs(edges: Floats, sign: Floats, is_log: Booleans) -> Floats:
    S, m, E = edges.shape
    logs = np.full((S, m, E), -math.inf)
    for s in range(S):
        for j in range(m):
            if is_log[j]:
                for e in range(E):
                    strike = sign[j] * edges[s, j, e]
                    if strike > 0.0:
                        logs[s, j, e] = math.log(strike)
    return logs


@compiled
def log_expected_hvi_all(
    mean: Floats,
    std: Floats,
    sign: Floats,
    is_log: Booleans,
    edges: Floats,
    logs: Floats,
    edge_count: Integers,
    lower_index: Integers,
    upper_index: Integers,
    count: Integers,
    grad_mean: Floats,
    grad_std: Floats,
    work: Floats,
) -> float:
    S, m, _ = edges.shape
    fill_table(mean, std, sign, is_log, edges, logs, work)
    grad_std[:] = 0.0
    total = 0.0
    for s in range(S):
        total += sum_boxes(s, lower_index[s], upper_index[s], count[s], work, grad_mean[s], grad_std)
    if total <= UNDERFLOW:
        return rescue(
            mean, std, sign, is_log, edges, logs, edge_count, lower_index, upper_index, count, grad_mean, grad_std, work
        )
    inverse = 1.0 / total
    for s in range(S):
        for j in range(m):
            grad_mean[s, j] *= inverse
    for j in range(m):
        grad_std[j] *= inverse
    return math.log(total) - math.log(S)


@compiled
def fill_table(
    mean: Floats, std: Floats, sign: Floats, is_log: Booleans, edges: Floats, logs: Floats, table: Floats
) -> None:
    """psi and its slopes in mean and std for every edge: table (3, m, S, E)."""
    S, m, E = edges.shape
    for j in range(m):
        scale = max(std[j], LEAST_STD)
        psi, dmean, dstd = table[0, j], table[1, j], table[2, j]
        flat = psi.reshape(S * E), dmean.reshape(S * E), dstd.reshape(S * E)
        if not is_log[j]:
            for s in range(S):
                center = sign[j] * mean[s, j]
                for e in range(E):
                    psi[s, e] = center - edges[s, j, e]
            linear_pass(scale, sign[j], flat[0], flat[1], flat[2])
            continue
        call = sign[j] > 0.0
        inverse = 1.0 / scale
        for s in range(S):
            for e in range(E):
                d = (logs[s, j, e] - mean[s, j]) * inverse
                d = scale - d if call else d
                d = -FARTHEST if d < -FARTHEST else d
                psi[s, e] = FARTHEST if d > FARTHEST else d
        option_pass(scale, call, flat[0], flat[1], flat[2])
        for s in range(S):
            forward = math.exp(mean[s, j] + 0.5 * scale * scale) if call else 0.0
            for e in range(E):
                below = -edges[s, j, e] if edges[s, j, e] < 0.0 else 0.0
                if call:  # a call with a strike below 0 is always used: the outcome, and what the strike pays
                    psi[s, e] = forward * psi[s, e] + below
                    dstd[s, e] = forward * (dstd[s, e] + scale * dmean[s, e])
                    dmean[s, e] = forward * dmean[s, e]
                else:
                    psi[s, e] = below * psi[s, e]
                    dstd[s, e] = below * (dstd[s, e] - scale * dmean[s, e])
                    dmean[s, e] = -below * dmean[s, e]


@compiled
def sum_boxes(
    s: int,
    lower_index: Integers,
    upper_index: Integers,
    count: int,
    table: Floats,
    grad_mean: Floats,
    grad_std: Floats,
) -> float:
    """One sample's sum of products; sets grad_mean (m,), adds to grad_std (m,)."""
    m = table.shape[1]
    total = 0.0
    mean_0, mean_1, mean_2, std_0, std_1, std_2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(count):
        l0, u0 = np.uint32(lower_index[k, 0]), np.uint32(upper_index[k, 0])
        l1, u1 = np.uint32(lower_index[k, 1]), np.uint32(upper_index[k, 1])
        a, b, c = table[0, 0, s, l0] - table[0, 0, s, u0], table[0, 1, s, l1] - table[0, 1, s, u1], 1.0
        if m == 3:
            l2, u2 = np.uint32(lower_index[k, 2]), np.uint32(upper_index[k, 2])
            c = table[0, 2, s, l2] - table[0, 2, s, u2]
            ab = a * b
            mean_2 += ab * (table[1, 2, s, l2] - table[1, 2, s, u2])
            std_2 += ab * (table[2, 2, s, l2] - table[2, 2, s, u2])
        bc, ac = b * c, a * c
        total += a * bc
        mean_0 += bc * (table[1, 0, s, l0] - table[1, 0, s, u0])
        std_0 += bc * (table[2, 0, s, l0] - table[2, 0, s, u0])
        mean_1 += ac * (table[1, 1, s, l1] - table[1, 1, s, u1])
        std_1 += ac * (table[2, 1, s, l1] - table[2, 1, s, u1])
    grad_mean[0], grad_mean[1] = mean_0, mean_1
    grad_std[0] += std_0
    grad_std[1] += std_1
    if m == 3:
        grad_mean[2] = mean_2
        grad_std[2] += std_2
    return total


@compiled
def volume(s: int, lower_index: Integers, upper_index: Integers, count: int, table: Floats) -> float:
    """The same sum without slopes."""
    total = 0.0
    for k in range(count):
        l0, u0 = np.uint32(lower_index[k, 0]), np.uint32(upper_index[k, 0])
        l1, u1 = np.uint32(lower_index[k, 1]), np.uint32(upper_index[k, 1])
        product = (table[0, 0, s, l0] - table[0, 0, s, u0]) * (table[0, 1, s, l1] - table[0, 1, s, u1])
        if table.shape[1] == 3:
            l2, u2 = np.uint32(lower_index[k, 2]), np.uint32(upper_index[k, 2])
            product *= table[0, 2, s, l2] - table[0, 2, s, u2]
        total += product
    return total


@compiled
def rescue(
    mean: Floats,
    std: Floats,
    sign: Floats,
    is_log: Booleans,
    edges: Floats,
    logs: Floats,
    edge_count: Integers,
    lower_index: Integers,
    upper_index: Integers,
    count: Integers,
    grad_mean: Floats,
    grad_std: Floats,
    table: Floats,
) -> float:
    """`log_expected_hvi_all` with every sum and product in logs; about 9 times as slow."""
    S, m, _ = edges.shape
    sample_log, sample_std = np.empty(S), np.empty((S, m))
    log_samples(
        mean, std, sign, is_log, edges, logs, edge_count, lower_index, upper_index, count, sample_log, grad_mean,
        sample_std, table,
    )  # fmt: skip
    return average(sample_log, sample_std, sample_log.max(), grad_mean, grad_std)


@compiled
def log_samples(
    mean: Floats,
    std: Floats,
    sign: Floats,
    is_log: Booleans,
    edges: Floats,
    logs: Floats,
    edge_count: Integers,
    lower_index: Integers,
    upper_index: Integers,
    count: Integers,
    sample_log: Floats,
    sample_mean: Floats,
    sample_std: Floats,
    table: Floats,
) -> None:
    """The log of each sample's expectation (S,), and its slopes (S, m) in mean and std."""
    S, m, _ = edges.shape
    gap_log, gap_mean, gap_std = np.empty(m), np.empty(m), np.empty(m)
    for s in range(S):
        for j in range(m):
            for e in range(edge_count[s, j]):
                value, in_mean, in_std = log_expectation(
                    mean[s, j], std[j], sign[j], is_log[j], edges[s, j, e], logs[s, j, e]
                )
                table[0, j, s, e], table[1, j, s, e], table[2, j, s, e] = value, in_mean, in_std
        top, weight = -math.inf, 0.0
        sample_mean[s], sample_std[s] = 0.0, 0.0
        for k in range(count[s]):
            box = log_box(s, lower_index[s, k], upper_index[s, k], table, gap_log, gap_mean, gap_std)
            if box == -math.inf:
                continue
            if box > top:
                shrink = math.exp(top - box)
                weight *= shrink
                for j in range(m):
                    sample_mean[s, j] *= shrink
                    sample_std[s, j] *= shrink
                top = box
            share = math.exp(box - top)
            weight += share
            for j in range(m):
                sample_mean[s, j] += share * gap_mean[j]
                sample_std[s, j] += share * gap_std[j]
        sample_log[s] = -math.inf
        if weight > 0.0:
            sample_log[s] = top + math.log(weight)
            for j in range(m):
                sample_mean[s, j] /= weight
                sample_std[s, j] /= weight


@compiled
def average(sample_log: Floats, sample_std: Floats, highest: float, grad_mean: Floats, grad_std: Floats) -> float:
    """The log of the mean of exp(sample_log), and from the samples' own gradients those of it."""
    S, m = sample_std.shape
    grad_std[:] = 0.0
    if highest == -math.inf:
        grad_mean[:] = 0.0
        return -math.inf
    weight = 0.0
    for s in range(S):
        weight += math.exp(sample_log[s] - highest)
    for s in range(S):
        share = math.exp(sample_log[s] - highest) / weight
        for j in range(m):
            grad_mean[s, j] *= share
            grad_std[j] += share * sample_std[s, j]
    return highest + math.log(weight) - math.log(S)


@compiled
def log_expectation(
    mean: float, std: float, sign: float, is_log: bool, edge: float, log_edge: float
) -> tuple[float, float, float]:
    """log psi of one edge and its slopes in mean and std."""
    if edge == math.inf or (is_log and sign < 0.0 and edge >= 0.0):
        return -math.inf, 0.0, 0.0
    if not is_log:
        value, in_mean, in_std = log_ei(sign * mean, std, edge)
        return value, sign * in_mean, in_std
    if sign < 0.0:
        put = log_put(mean, std, log_edge)
        return put[0], put[1], put[2]
    if edge > 0.0:
        call = log_call(mean, std, log_edge)
        return call[0], call[1], call[2]
    forward = mean + 0.5 * std * std  # log(exp(forward) - edge)
    if edge == 0.0:
        return forward, 1.0, std
    below = math.log(-edge)
    value = max(forward, below) + math.log1p(math.exp(-abs(forward - below)))
    share = math.exp(forward - value)
    return value, share, share * std


@compiled
def log_box(
    s: int, lower: Integers, upper: Integers, table: Floats, gap_log: Floats, gap_mean: Floats, gap_std: Floats
) -> float:
    """The log of one box's product of differences of psi; sets its slopes in mean and std (m,)."""
    total = 0.0
    for j in range(len(lower)):
        low, high = table[0, j, s, lower[j]], table[0, j, s, upper[j]]
        fall = high - low
        if not fall < 0.0:  # also NaN: both are -inf
            return -math.inf
        gap = low + (math.log(-math.expm1(fall)) if fall > -0.6931471805599453 else math.log1p(-math.exp(fall)))
        rise, sink = math.exp(low - gap), math.exp(high - gap)
        gap_mean[j] = rise * table[1, j, s, lower[j]] - sink * table[1, j, s, upper[j]]
        gap_std[j] = rise * table[2, j, s, lower[j]] - sink * table[2, j, s, upper[j]]
        total += gap
    return total
