"""Tails of the normal distribution, compiled: one polynomial serves Phi, EI and the lognormal options, in logs too."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled

Floats = npt.NDArray[np.float64]

LOG_SQRT_TAU = 0.9189385332046727
INV_SQRT_TAU = 0.3989422804014327
LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, without a branch or a call
FAR = 37.5  # beyond it phi < 1e-305; phi counts as 0, so that no subnormal number arises
LEAST_STD = 1e-100  # a std of 0 is read as this one: a step, without 0 / 0
SERIES = 0.01  # below this std the difference of two Mills ratios is taken from a series: it would cancel

# Bodies divide by np.divide: Python's / would raise for 0, and a loop that may raise is not vectorised.


@compiled
def excess(x: float) -> float:
    """phi(x) / Phi(-x) - x for x >= 0, to 2e-15 relative: falls from 0.798 to 1 / x."""
    # (x + 3.5) excess(x) is a polynomial in t = (x - 3.5) / (x + 3.5), as in Shepherd and Laframboise 1981 for erfcx;
    # Chebyshev interpolation of degree 24 in 50 digits, truncated 8e-16. Estrin's order: few dependent steps.
    r = np.divide(1.0, x + 3.5)
    t = 1.0 - 7.0 * r
    u = t * t
    v = u * u
    w = v * v
    p0 = (1.7597388540038985 - 1.0299783886096383 * t) + (0.2106962463446275 + 0.15371368344032244 * t) * u
    p1 = (-0.10078958422195869 - 0.022180098761475267 * t) + (0.035587516161854925 + 0.0020298814180186426 * t) * u
    p2 = (-0.01186264295934581 + 0.0002721706886635439 * t) + (0.0038677981312048183 - 0.00020438995789887694 * t) * u
    p3 = (-0.0012315975639602139 + 5.557911525009608e-05 * t) + (0.0003761649589763652 - 4.407588148197393e-06 * t) * u
    p4 = (-0.00010702603855924166 - 3.50496305393913e-06 * t) + (2.720558209537521e-05 + 1.925004398393984e-06 * t) * u
    p5 = (-5.78133137656462e-06 - 4.855515189017926e-07 * t) + (9.049905055026607e-07 + 5.436006651299007e-08 * t) * u
    high = (p4 + p5 * v) - 7.665294832106207e-08 * w
    value: float = r * ((p0 + p1 * v) + ((p2 + p3 * v) + high * w) * w)
    return value


@compiled
def exp_and_expm1(a: float) -> tuple[float, float]:
    """(exp(a), exp(a) - 1) for -708 <= a <= 708, without a branch, to 2 units in the last place of each."""
    shifted = a * LOG2E + ROUND
    k = shifted - ROUND
    r = (a - k * LN2_HIGH) - k * LN2_LOW
    u = r * r
    v = u * u
    q0 = (1.0 + 0.5000000000000019 * r) + (0.16666666666666702 + 0.04166666666648808 * r) * u
    q1 = (0.008333333333309526 + 0.0013888888952318045 * r) + (0.00019841269909219843 + 2.480148547921643e-05 * r) * u
    q2 = (2.755722495611072e-06 + 2.7632640675430235e-07 * r) + 2.5114870219497476e-08 * u
    less = r * (q0 + (q1 + q2 * v) * v)
    scale = np.int64((np.int64(k) + 1023) << 52).view(np.float64)
    value = (1.0 + less) * scale
    return value, (less if k == 0.0 else value - 1.0)


@compiled
def erfcx(x: float) -> float:
    """exp(x^2) erfc(x), to 2e-15 relative for x >= 0; for x < 0 as exact as exp(x^2)."""
    y = math.sqrt(2.0) * abs(x)
    tail = 0.7978845608028654 / (y + excess(y))
    return tail if x >= 0.0 else 2.0 * math.exp(x * x) - tail


@compiled
def log_ndtr(z: float) -> tuple[float, float]:
    x = abs(z)
    hazard = x + excess(x)
    if z < 0.0:
        return -0.5 * x * x - LOG_SQRT_TAU - math.log(hazard), hazard
    phi = math.exp(-0.5 * x * x) * INV_SQRT_TAU
    tail = phi / hazard
    return math.log1p(-tail), phi / (1.0 - tail)


@compiled
def log_ei(mean: float, std: float, best: float) -> tuple[float, float, float]:
    std = max(std, LEAST_STD)
    z = (mean - best) / std
    if z < -1e150:
        return -math.inf, 0.0, 0.0
    x = abs(z)
    w = excess(x)
    if z < 0.0:
        value = math.log(std) - 0.5 * x * x - LOG_SQRT_TAU + math.log(w / (x + w))
        return value, 1.0 / (w * std), (x + w) / (w * std)
    phi = math.exp(-0.5 * x * x) * INV_SQRT_TAU
    tail = phi / (x + w)
    ei = (mean - best) + std * tail * w
    return math.log(ei), (1.0 - tail) / ei, phi / ei


@compiled
def log_put(mean: float, std: float, log_strike: float) -> tuple[float, float, float, float]:
    std = max(std, LEAST_STD)
    value, above, below, density = log_option((log_strike - mean) / std, std)
    return log_strike + value, -below, density - std * below, above


@compiled
def log_call(mean: float, std: float, log_strike: float) -> tuple[float, float, float, float]:
    std = max(std, LEAST_STD)
    value, above, below, density = log_option(std - (log_strike - mean) / std, std)
    return mean + 0.5 * std * std + value, above, density + std * above, -below


@compiled
def log_option(d: float, std: float) -> tuple[float, float, float, float]:
    """log p and Phi(d) / p, e Phi(d - std) / p, phi(d) / p; p = Phi(d) - e Phi(d - std), e = exp(std^2 / 2 - std d).

    A put is strike * p, a call forward * p with std - d for d: one function, and the small one of the two never
    arises as a difference of large ones.
    """
    if d < -1e150:
        return -math.inf, 0.0, 0.0, 0.0
    middle = d - 0.5 * std
    x = abs(middle)
    log_phi = -0.5 * d * d - LOG_SQRT_TAU
    if std < SERIES and x * std < 1.0:
        near, far, gap = mills_pair(x, excess(x), 0.5 * std)
    else:
        a, b = abs(d), abs(d - std)
        hazard_a, hazard_b = a + excess(a), b + excess(b)
        if 0.0 < d < std:
            phi = math.exp(log_phi)
            p = 1.0 - phi / hazard_a - phi / hazard_b
            return math.log(p), (1.0 - phi / hazard_a) / p, phi / hazard_b / p, phi / p
        near, far = (1.0 / hazard_a, 1.0 / hazard_b) if d <= 0.0 else (1.0 / hazard_b, 1.0 / hazard_a)
        gap = (std - abs((hazard_a - a) - (hazard_b - b))) * near * far
    if middle <= 0.0:
        return log_phi + math.log(gap), near / gap, far / gap, 1.0 / gap
    phi = math.exp(log_phi)
    less = math.expm1(-std * middle)
    p = phi * gap - less
    return math.log(p), (1.0 - phi * far) / p, max(math.exp(-std * middle) - phi * near, 0.0) / p, phi / p


@compiled
def mills_pair(x: float, w: float, h: float) -> tuple[float, float, float]:
    """R(x - h), R(x + h) and their difference, R the Mills ratio: a series about x, h <= 0.005, w = excess(x)."""
    r0 = np.divide(1.0, x + w)
    r1 = -w * r0
    r2 = r0 + x * r1
    r3 = x * r2 + 2.0 * r1
    r4 = x * r3 + 3.0 * r2
    r5 = x * r4 + 4.0 * r3
    u = h * h
    odd = -h * (r1 + u * (0.16666666666666666 * r3 + 0.008333333333333333 * u * r5))
    even = r0 + u * (0.5 * r2 + 0.041666666666666664 * u * r4)
    return even + odd, even - odd, 2.0 * odd


@compiled
def linear_pass(std: float, sign: float, value: Floats, slope: Floats, density: Floats) -> None:
    """From gains sign * mean - a (in `value`): E[(sign u - a)_+] and its slopes in the mean and the std of u."""
    inverse = 1.0 / std
    for e in range(len(value)):
        gain = value[e]
        x = abs(gain) * inverse
        x = FAR + 1.0 if x > FAR else x  # NaN stays, here and below
        w = excess(x)
        phi = exp_and_expm1(-0.5 * x * x)[0] * INV_SQRT_TAU
        phi = 0.0 if x > FAR else phi
        tail = np.divide(phi, x + w)
        value[e] = (gain if gain > 0.0 else 0.0) + std * w * tail
        slope[e] = sign * (1.0 - tail if gain > 0.0 else tail)
        density[e] = phi


@compiled
def option_pass(std: float, call: bool, value: Floats, slope: Floats, density: Floats) -> None:
    """From d (in `value`): p of `log_option`, Phi(d) for a call or e Phi(d - std) for a put, and phi(d)."""
    if std < SERIES:
        narrow_option_pass(std, call, value, slope, density)
        return
    for i in range(len(value)):
        d = value[i]
        a, b = abs(d), abs(d - std)
        w_a, w_b = excess(a), excess(b)
        x = FAR + 1.0 if a > FAR else a
        phi = exp_and_expm1(-0.5 * x * x)[0] * INV_SQRT_TAU
        phi = 0.0 if a > FAR else phi
        mills_a, mills_b = np.divide(1.0, a + w_a), np.divide(1.0, b + w_b)
        gap = phi * (std - abs(w_a - w_b)) * mills_a * mills_b
        q = std * (d - 0.5 * std)
        q = q if q > 0.0 else 0.0
        e, less = exp_and_expm1(-(q if q < 700.0 else 700.0))
        tail_a, tail_b = phi * mills_a, phi * mills_b
        inside = 1.0 - tail_a - tail_b if d < std else gap - less
        above = tail_a if d <= 0.0 else 1.0 - tail_a
        below = tail_b if d < std else e - tail_b
        value[i] = gap if d <= 0.0 else inside
        slope[i] = above if call else (below if below > 0.0 else 0.0)
        density[i] = phi


@compiled
def narrow_option_pass(std: float, call: bool, value: Floats, slope: Floats, density: Floats) -> None:
    """`option_pass` for std < SERIES."""
    for i in range(len(value)):
        d = value[i]
        middle = d - 0.5 * std
        x = abs(middle)
        x = FAR + 1.0 if x > FAR + 1.0 else x
        near, far, gap = mills_pair(x, excess(x), 0.5 * std)
        a = abs(d)
        x = FAR + 1.0 if a > FAR else a
        phi = exp_and_expm1(-0.5 * x * x)[0] * INV_SQRT_TAU
        phi = 0.0 if a > FAR else phi
        q = std * middle
        q = q if q > 0.0 else 0.0
        e, less = exp_and_expm1(-(q if q < 700.0 else 700.0))
        gap, near, far = phi * gap, phi * near, phi * far
        above = near if middle <= 0.0 else 1.0 - far
        below = far if middle <= 0.0 else e - near
        value[i] = gap if middle <= 0.0 else gap - less
        slope[i] = above if call else (below if below > 0.0 else 0.0)
        density[i] = phi


@compiled
def log_ndtr_each(z: Floats) -> Floats:
    out = np.empty((2, len(z)))
    for i in range(len(z)):
        out[0, i], out[1, i] = log_ndtr(z[i])
    return out


@compiled
def log_ei_each(mean: Floats, std: Floats, best: Floats) -> Floats:
    out = np.empty((4, len(mean)))
    for i in range(len(mean)):
        out[0, i], out[1, i], out[2, i] = log_ei(mean[i], std[i], best[i])
        out[3, i] = -out[1, i]
    return out


@compiled
def log_put_each(mean: Floats, std: Floats, log_strike: Floats) -> Floats:
    out = np.empty((4, len(mean)))
    for i in range(len(mean)):
        out[0, i], out[1, i], out[2, i], out[3, i] = log_put(mean[i], std[i], log_strike[i])
    return out


@compiled
def log_call_each(mean: Floats, std: Floats, log_strike: Floats) -> Floats:
    out = np.empty((4, len(mean)))
    for i in range(len(mean)):
        out[0, i], out[1, i], out[2, i], out[3, i] = log_call(mean[i], std[i], log_strike[i])
    return out
