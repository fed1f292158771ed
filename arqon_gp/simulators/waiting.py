"""The queue that three of the moving systems wait in: M/M/c with service that slows as servers contend, and time-outs.

Exact for Poisson arrivals, exponential work and one patience T: Baccelli & Hebuterne, On Queues with Impatient
Customers (1981), as in Zeltyn & Mandelbaum, Call Centers with Impatient Customers (2005), section 2. The virtual wait V
has the density A exp((a - M) w) below T and A exp(a T - M w) beyond it, where a is the arrival rate, M the rate at
which c busy servers finish, and A = a P(c - 1 busy) (`log_a` is its logarithm). Shapes: k configurations, n the largest
number of servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
_HALVINGS = 17  # of the bracket 1e-3 s to 1e3 s in the logarithm: 1e-4 of the quantile, less what is interpolated


@dataclass(frozen=True, slots=True)
class Station:
    """A queue in its steady state; times in seconds, rates a second."""

    below: Array  # (k, n) P(i servers are busy), 0 where all c would be
    service: Array  # (k, n) mean service where i + 1 servers are busy
    full: Array  # (k,) mean service where all are
    log_a: Array  # (k,)
    drift: Array  # (k,) a - M
    patience: Array  # (k,)
    lost: Array  # (k,) share that gives up: P(V > T)

    @property
    def mean(self) -> Array:
        """(k,) mean time of a request, T for one that gave up."""
        t, x = self.patience, self.drift * self.patience
        small = np.abs(x) < 1e-4
        drift = np.where(small, 1.0, self.drift)
        ends = t * np.exp(np.minimum(self.log_a + x, 0.0))
        inside = np.exp(self.log_a + _log_integral(self.drift, t))
        wait = np.where(small, np.exp(self.log_a) * t * t / 2.0, (ends - inside) / drift)
        return np.asarray(wait + t * self.lost + (self.below * self.service).sum(axis=1) + inside * self.full)

    def tail(self, t: Array) -> Array:
        """(k,) -> (k,): P(a request takes longer than t); one that gives up takes T."""
        t = np.maximum(t, 0.0)
        x = np.minimum(t, self.patience)
        at_once = (self.below * np.exp(-t[:, None] / self.service)).sum(axis=1)
        waited = np.exp(self.log_a - t / self.full + _log_integral(self.drift + 1.0 / self.full, x))
        waiting = np.exp(self.log_a + self.drift * x + _log_integral(self.drift, self.patience - x))
        return np.asarray(at_once + waited + waiting + self.lost * (t < self.patience))


def station(arrivals: Array, servers: Array, service: Array, patience: Array) -> Station:
    """`arrivals`, `servers`, `patience` (k,); `service` (k, n): the mean where 1..n servers are busy, n >= servers."""
    numbers = np.arange(1, service.shape[1] + 1)
    c = np.clip(np.rint(servers), 1, service.shape[1]).astype(int)
    growth = np.log(arrivals)[:, None] - np.log(numbers / service)
    busy = np.concatenate([np.zeros((len(c), 1)), np.cumsum(growth, axis=1)[:, :-1]], axis=1)
    busy = np.where(numbers - 1 < c[:, None], busy, -np.inf)
    rows = np.arange(len(c))
    full = service[rows, c - 1]
    speed = c / full
    drift = arrivals - speed
    log_a = np.log(arrivals) + busy[rows, c - 1]
    beyond = log_a + drift * patience - np.log(speed)
    parts = np.concatenate([busy, (log_a + _log_integral(drift, patience))[:, None], beyond[:, None]], axis=1)
    total = parts.max(axis=1) + np.log(np.exp(parts - parts.max(axis=1, keepdims=True)).sum(axis=1))
    below = np.exp(busy - total[:, None])
    return Station(below, service, full, log_a - total, drift, patience, np.exp(beyond - total))


def quantile(tail: Callable[[Array], Array], k: int, share: float = 0.01) -> Array:
    """(k,): the time (s) that `share` of the requests exceed, by halving; `tail` falls in t."""
    low, high = np.full(k, np.log(1e-3)), np.full(k, np.log(1e3))
    over, under = np.ones(k), np.zeros(k)  # the tail at both
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        found = tail(np.exp(middle))
        above = found > share
        low, over = np.where(above, middle, low), np.where(above, found, over)
        high, under = np.where(above, high, middle), np.where(above, under, found)
    return np.asarray(np.exp(low + (high - low) * (over - share) / (over - under)))


def _log_integral(rate: Array, t: Array) -> Array:
    """log of the integral of exp(rate w) over w in [0, t]."""
    x = rate * t
    small = np.abs(x) < 1e-9
    with np.errstate(divide="ignore"):
        found = np.maximum(x, 0.0) + np.log(
            -np.expm1(-np.abs(np.where(small, 1.0, x))) / np.abs(np.where(small, 1.0, rate))
        )
        return np.asarray(np.where(small, np.log(t), found))
