"""Value and gradient of the acquisition, compiled. The formulas stand in acquisition.py."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled
from arqon_kernels._cpu.covariance import covariance, row, row_vjp
from arqon_kernels._cpu.improvement import UNDERFLOW, fill_table, log_samples, sum_boxes, volume
from arqon_kernels._cpu.normal import linear_pass, log_call, log_ei, log_ndtr, log_put
from arqon_kernels._cpu.samples import Work, fill_width, log_mean, moments, pull, workspace
from arqon_kernels.acquisition import (
    AUGMENTATION,
    HYPERVOLUME,
    LEAST_VARIANCE,
    MEAN,
    OUT_OF_REACH,
    PENALTY,
    UTILITY,
    Problem,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CHUNK = 64  # rows of R that are multiplied at once


@compiled
def gradient_there(p: Problem, x: Floats, gradient: Floats, w: Work) -> None:
    """The gradient (d,) at x (d,), where value_only() was called last and was finite."""
    gradient[:] = 0.0
    for j in range(len(w.std)):
        pull(p.A[j], p.R[j], w.width[j], w.v[j], w.by_mean[j], w.by_std[j], w.std[j], w.g)
        row_vjp(x, p.ZT, p.lengthscale[j], p.kinds, w.g, w.by_r2[j], gradient)


@compiled
def value_only(p: Problem, x: Floats, w: Work) -> float:
    """log mean_s exp(value_s) at x (d,), by as many samples as the workspace holds; their slopes stay there."""
    for j in range(len(w.std)):
        row(x, p.ZT, p.lengthscale[j], p.kinds, w.k[j], w.by_r2[j])
        moments(p.A[j], p.R[j], w.width[j], p.constant[j], w.k[j], w.v[j], w.mean[j])
        left = 1.0 - (w.v[j] * w.v[j]).sum()
        w.std[j] = math.sqrt(max(left, LEAST_VARIANCE))
    return _of_moments(p, w)


def values(p: Problem, X: Floats, samples: int) -> Floats:
    """The values (r,) at X (r, d) by the first samples: means and deviations of all points by matrix products."""
    mean, std = np.empty((len(X), len(p.constant), samples)), np.empty((len(X), len(p.constant)))
    for j in range(len(p.constant)):
        k = covariance(X, p.ZT.T, p.lengthscale[j], p.kinds)  # r x N
        mean[:, j] = p.constant[j] + k @ p.A[j, :, :samples]
        left, width = np.ones(len(X)), np.empty(p.R.shape[1], np.int64)
        fill_width(p.R[j], width)
        for q in range(0, len(width), CHUNK):
            w = width[q : q + CHUNK].max()
            left -= np.square(k[:, :w] @ p.R[j, q : q + CHUNK, :w].T).sum(axis=1)
        std[:, j] = np.sqrt(np.maximum(left, LEAST_VARIANCE))
    plain = len(p.limit_outcome) == 0 and p.floor == -math.inf
    if plain and p.goal == HYPERVOLUME:
        value = _all_volumes(p, mean, std)
    elif plain and p.goal == UTILITY and not p.is_log.any():
        value = _all_improvements(p, mean, std)
    else:
        return _of_all_moments(p, mean, std)
    lost = ~(value > -math.inf)
    if lost.any():
        value[lost] = _of_all_moments(p, mean[lost], std[lost])
    return value


def _all_improvements(p: Problem, mean: Floats, std: Floats) -> Floats:
    """log mean_s E[(U_s - best_s)_+] (r,) of a linear utility at all points in one pass; -inf where it underflows."""
    count = len(p.weight)
    factor = p.weight * p.scale[:count]
    spread = np.sqrt(np.square(factor * std[:, :count]).sum(axis=1))  # r
    gain = np.tensordot(mean[:, :count], factor, axes=(1, 0)) + (p.weight @ p.shift[:count] - p.best[: mean.shape[2]])
    value = (gain / spread[:, None]).ravel()
    linear_pass(1.0, 1.0, value, np.empty_like(value), np.empty_like(value))
    total = spread * value.reshape(gain.shape).mean(axis=1)
    return np.asarray(np.log(total, where=total > UNDERFLOW, out=np.full(len(total), -math.inf)))


@compiled
def _all_volumes(p: Problem, mean: Floats, std: Floats) -> Floats:
    """log mean_s E[hypervolume improvement] (r,) without slopes; -inf where it underflows."""
    w, found = workspace(p, mean.shape[2]), np.full(len(mean), -math.inf)
    for r in range(len(mean)):
        w.mean[:] = mean[r]
        w.std[:] = std[r]
        _fill_edges(p, w)
        total = 0.0
        for s in range(len(w.value)):
            total += volume(s, p.boxes.lower_index[s], p.boxes.upper_index[s], p.boxes.number[s], w.table)
        if total > UNDERFLOW:
            found[r] = math.log(total / len(w.value))
    return found


@compiled
def _of_all_moments(p: Problem, mean: Floats, std: Floats) -> Floats:
    w, found = workspace(p, mean.shape[2]), np.empty(len(mean))
    for r in range(len(mean)):
        w.mean[:] = mean[r]
        w.std[:] = std[r]
        found[r] = _of_moments(p, w)
    return found


@compiled
def _of_moments(p: Problem, w: Work) -> float:
    """log mean_s exp(value_s); its slopes in the moments of each sample are in the workspace."""
    if p.goal == UTILITY and len(p.limit_outcome) == 0 and not p.is_log.all():
        value = _mean_improvement(p, w)
        if value > -math.inf:
            return value
    if p.goal == HYPERVOLUME and len(p.limit_outcome) == 0 and p.floor == -math.inf:
        value = _mean_volume(p, w)
        if value > -math.inf:
            return value
    w.value[:] = 0.0
    w.by_mean[:] = 0.0
    w.by_std[:] = 0.0
    if p.goal == MEAN:
        return _utility_of_mean(p, w)
    if p.goal == UTILITY:
        _improvements(p, w)
        if w.value.max() == -math.inf and len(p.weight) > 1:
            _out_of_reach(p, w)
    if p.goal == HYPERVOLUME:
        _hypervolumes(p, w)
        if p.floor > -math.inf:
            _floor(p, w)
    _limits(p, w)
    return log_mean(w)


@compiled
def _mean_improvement(p: Problem, w: Work) -> float:
    """The same for expected improvements alone, without logs of the samples; -inf where they have underflowed."""
    std = _gains(p, w)
    linear_pass(std, 1.0, w.value, w.by_gain, w.by_spread)
    total = float(w.value.sum())
    if total <= UNDERFLOW:
        return -math.inf
    inverse = 1.0 / total
    for s in range(len(w.value)):
        w.by_gain[s] *= inverse
        w.by_spread[s] *= inverse
    _slopes(p, w, std)
    return math.log(total / len(w.value))


@compiled
def _gains(p: Problem, w: Work) -> float:
    """Into `value`: what the utility of each sample gains, without its normal part; the deviation of that part.

    Where no outcome is linear the last log outcome is left out, too.
    """
    variance, last = 0.0, len(p.weight) - 1 if p.is_log.all() else -1
    for s in range(len(w.value)):
        w.value[s] = -p.best[s]
    for j in range(len(p.weight)):
        factor = p.weight[j] * p.scale[j]
        if not p.is_log[j]:
            variance += (factor * w.std[j]) ** 2
            for s in range(len(w.value)):
                w.value[s] += p.weight[j] * p.shift[j] + factor * w.mean[j, s]
        elif j != last:
            for s in range(len(w.value)):
                u = p.shift[j] + p.scale[j] * (w.mean[j, s] + w.std[j] * p.draws[j, s])
                w.value[s] += p.weight[j] * math.exp(min(u, 700.0))
    return math.sqrt(variance)


@compiled
def _slopes(p: Problem, w: Work, std: float) -> None:
    """From slopes in the gain and in the deviation of its normal part to those in the outcomes' moments."""
    last = len(p.weight) - 1 if p.is_log.all() else -1
    for j in range(len(p.weight)):
        factor = p.weight[j] * p.scale[j]
        if not p.is_log[j]:
            through_std = factor * factor * w.std[j] / std
            for s in range(len(w.value)):
                w.by_mean[j, s] = w.by_gain[s] * factor
                w.by_std[j, s] = w.by_spread[s] * through_std
        elif j != last:
            for s in range(len(w.value)):
                u = p.shift[j] + p.scale[j] * (w.mean[j, s] + w.std[j] * p.draws[j, s])
                slope = w.by_gain[s] * factor * math.exp(min(u, 700.0))
                w.by_mean[j, s] = slope
                w.by_std[j, s] = slope * p.draws[j, s]
    for j in range(len(p.weight), len(w.std)):
        w.by_mean[j, :] = 0.0
        w.by_std[j, :] = 0.0


@compiled
def _improvements(p: Problem, w: Work) -> None:
    """log E[(U - best)_+] of each sample."""
    std = _gains(p, w)
    if not p.is_log.all():
        _integrate(w, std)
    else:
        for s in range(len(w.value)):
            w.value[s], w.by_gain[s] = _last_log(p, w, len(p.weight) - 1, w.value[s], s)
    _slopes(p, w, std)


@compiled
def _integrate(w: Work, std: float) -> None:
    """From gains to log E[(gain + std Z)_+] and its slopes: vectorised, and in logs only where that has underflowed."""
    gain = w.value.copy()
    linear_pass(std, 1.0, w.value, w.by_gain, w.by_spread)
    if w.value.sum() <= UNDERFLOW:
        for s in range(len(gain)):
            w.value[s], w.by_gain[s], w.by_spread[s] = log_ei(gain[s], std, 0.0)
        return
    for s in range(len(gain)):
        inverse = 1.0 / w.value[s] if w.value[s] > 0.0 else 0.0
        w.value[s] = math.log(w.value[s]) if w.value[s] != 0.0 else -math.inf
        w.by_gain[s] *= inverse
        w.by_spread[s] *= inverse


@compiled
def _last_log(p: Problem, w: Work, j: int, gain: float, s: int) -> tuple[float, float]:
    """log E[(gain + weight e^u)_+], and its slope in the gain; the slopes in u are written down."""
    weight, threshold = p.weight[j], -gain
    mean, std = p.shift[j] + p.scale[j] * w.mean[j, s], p.scale[j] * w.std[j]
    strike = threshold / weight
    if strike <= 0.0:  # a cost that is never low enough, or a gain that is always large enough
        if weight < 0.0:
            return -math.inf, 0.0
        forward = math.exp(min(mean + 0.5 * std * std, 700.0))
        expected = weight * forward - threshold
        w.by_mean[j, s] = p.scale[j] * weight * forward / expected
        w.by_std[j, s] = p.scale[j] * weight * forward * std / expected
        return math.log(expected), 1.0 / expected
    if weight < 0.0:
        value, by_mean, by_std, by_strike = log_put(mean, std, math.log(strike))
    else:
        value, by_mean, by_std, by_strike = log_call(mean, std, math.log(strike))
    w.by_mean[j, s] = by_mean * p.scale[j]
    w.by_std[j, s] = by_std * p.scale[j]
    return value + math.log(abs(weight)), -by_strike / threshold


@compiled
def _out_of_reach(p: Problem, w: Work) -> None:
    """log E[(U - best)_+] of each sample with U normal, less OUT_OF_REACH; all outcomes are logs."""
    forward, spread = np.empty(len(p.weight)), np.empty(len(p.weight))
    for s in range(len(w.value)):
        mean, variance = 0.0, 0.0
        for j in range(len(p.weight)):
            u, std = p.shift[j] + p.scale[j] * w.mean[j, s], p.scale[j] * w.std[j]
            forward[j] = p.weight[j] * math.exp(min(u + 0.5 * std * std, 300.0))
            spread[j] = math.expm1(std * std)
            mean += forward[j]
            variance += forward[j] ** 2 * spread[j]
        std_of_u = max(math.sqrt(variance), 1e-150)
        value, by_mean, by_std = log_ei(mean, std_of_u, p.best[s])
        w.value[s] = value - OUT_OF_REACH
        by_variance = 0.5 * by_std / std_of_u
        for j in range(len(p.weight)):
            std, square = p.scale[j] * w.std[j], forward[j] ** 2
            by_u = by_mean * forward[j] + 2.0 * by_variance * square * spread[j]
            w.by_mean[j, s] = p.scale[j] * by_u
            w.by_std[j, s] = p.scale[j] * std * (by_u + 2.0 * by_variance * square * (1.0 + spread[j]))


@compiled
def _fill_edges(p: Problem, w: Work) -> None:
    """The raw moments, and what each edge is worth."""
    samples = len(w.value)
    for j in range(len(p.weight)):
        w.u_std[j] = p.scale[j] * w.std[j]
        for s in range(samples):
            w.u[s, j] = p.shift[j] + p.scale[j] * w.mean[j, s]
    fill_table(w.u, w.u_std, np.sign(p.weight), p.is_log, p.boxes.edges[:samples], p.boxes.logs[:samples], w.table)


@compiled
def _mean_volume(p: Problem, w: Work) -> float:
    """log mean_s E[hypervolume improvement] without logs of the samples; -inf where it has underflowed."""
    _fill_edges(p, w)
    w.by_u_std[:] = 0.0
    total, boxes = 0.0, p.boxes
    for s in range(len(w.value)):
        total += sum_boxes(
            s, boxes.lower_index[s], boxes.upper_index[s], boxes.number[s], w.table, w.by_u[s], w.by_u_std[s]
        )
    if not total > UNDERFLOW:  # or NaN: _hypervolumes knows which
        return -math.inf
    _volume_slopes(p, w, 1.0 / total)
    return math.log(total / len(w.value))


@compiled
def _volume_slopes(p: Problem, w: Work, factor: float) -> None:
    """From slopes in the raw moments to those in the standardised ones."""
    for j in range(len(w.std)):
        scale = factor * p.scale[j]
        for s in range(len(w.value)):
            w.by_mean[j, s] = scale * w.by_u[s, j] if j < len(p.weight) else 0.0
            w.by_std[j, s] = scale * w.by_u_std[s, j] if j < len(p.weight) else 0.0


@compiled
def _hypervolumes(p: Problem, w: Work) -> None:
    """log E[hypervolume improvement] of each sample."""
    o, samples = len(p.weight), len(w.value)
    _fill_edges(p, w)
    whole = 0.0
    w.by_u_std[:] = 0.0
    for s in range(samples):
        total = sum_boxes(
            s, p.boxes.lower_index[s], p.boxes.upper_index[s], p.boxes.number[s], w.table, w.by_u[s], w.by_u_std[s]
        )
        whole += total  # a sum, not the largest: NaN stays
        w.value[s] = total if math.isnan(total) else math.log(total) if total > 0.0 else -math.inf
        inverse = 1.0 / total if total > 0.0 else 0.0
        for j in range(o):
            w.by_u[s, j] *= inverse
            w.by_u_std[s, j] *= inverse
    if whole <= UNDERFLOW:
        log_samples(
            w.u, w.u_std, np.sign(p.weight), p.is_log, p.boxes.edges[:samples], p.boxes.logs[:samples],
            p.boxes.edge_count[:samples], p.boxes.lower_index[:samples],
            p.boxes.upper_index[:samples], p.boxes.number[:samples], w.value, w.by_u, w.by_u_std, w.table,
        )  # fmt: skip
    _volume_slopes(p, w, 1.0)


@compiled
def _floor(p: Problem, w: Work) -> None:
    """Add log P(the Chebyshev value of the means is above the floor) to each sample."""
    part, slope = np.empty(len(p.weight)), np.empty(len(p.weight))
    for s in range(len(w.value)):
        total, least = 0.0, 0
        for j in range(len(part)):
            y = w.u[s, j]
            slope[j] = p.weight[j] * p.scale[j]
            if p.is_log[j]:
                y = math.exp(min(y, 700.0))
                slope[j] *= y
            part[j] = p.weight[j] * (y - p.centre[j])
            total += part[j]
            least = j if part[j] < part[least] else least
        value, by_z = log_ndtr((part[least] + AUGMENTATION * total - p.floor) / p.floor_width)
        w.value[s] += value
        for j in range(len(part)):
            w.by_mean[j, s] += by_z / p.floor_width * slope[j] * (AUGMENTATION + (1.0 if j == least else 0.0))


@compiled
def _limits(p: Problem, w: Work) -> None:
    """Add log P(each limit holds) to each sample."""
    for i in range(len(p.limit_outcome)):
        j, side, at = p.limit_outcome[i], p.limit_side[i], p.limit_at[i]
        for s in range(len(w.value)):
            z = side * (at - w.mean[j, s]) / w.std[j]
            value, slope = log_ndtr(z)
            w.value[s] += value
            w.by_mean[j, s] -= slope * side / w.std[j]
            w.by_std[j, s] -= slope * z / w.std[j]


@compiled
def _utility_of_mean(p: Problem, w: Work) -> float:
    """The utility of the posterior mean less the penalty; one sample. The slopes are those of the value itself."""
    count = len(p.weight)
    utility, least, at = 0.0, math.inf, 0
    for j in range(count):
        std = p.scale[j] * w.std[j]
        u = p.shift[j] + p.scale[j] * w.mean[j, 0]
        y = math.exp(min(u + 0.5 * std * std, 700.0)) if p.is_log[j] else u
        part = p.weight[j] * (y - p.centre[j]) if len(p.centre) > 0 else p.weight[j] * y
        slope = p.weight[j] * p.scale[j] * (y if p.is_log[j] else 1.0)
        w.by_mean[j, 0] = slope
        w.by_std[j, 0] = slope * std if p.is_log[j] else 0.0
        utility += part
        if part < least:
            least, at = part, j
    if len(p.centre) > 0:
        utility = least + AUGMENTATION * utility
        for j in range(count):
            factor = AUGMENTATION + (1.0 if j == at else 0.0)
            w.by_mean[j, 0] *= factor
            w.by_std[j, 0] *= factor
    by_mean, by_std = w.by_mean.copy(), w.by_std.copy()
    w.by_mean[:], w.by_std[:] = 0.0, 0.0
    _limits(p, w)  # the workspace holds its value and slopes now
    lacking = float(w.value[0]) - p.log_confidence
    penalty = PENALTY if lacking < 0.0 else 0.0
    w.value[0] = utility + penalty * lacking
    w.by_mean[:] = by_mean + penalty * w.by_mean
    w.by_std[:] = by_std + penalty * w.by_std
    return utility + penalty * lacking
