"""Log posterior density of a Gaussian process's hyperparameters, with its gradient.

Row i is the mean of 1 / share_i windows: y ~ N(c 1, K + D), K = covariance(X, X), D_ii = noise share_i + floor_i. The
constant c is profiled out (c = 1' A y / 1' A 1, A = (K + D)^-1; by the envelope theorem it adds nothing to the
gradient), and the scatter of the windows inside the rows enters with `dof` degrees of freedom and sum of squares `ss`:

log p = -r' A r / 2 - log|K + D| / 2 - n log(2 pi) / 2 - dof log(v) / 2 - ss / (2 v) + log prior,   r = y - c,
v = noise + within_floor,  d log p / d theta = tr((a a' - A) dK/dtheta) / 2,  a = A r
(Rasmussen and Williams 2006, eq. 5.9). Priors are lognormal densities of the raw lengthscales and the raw noise, taken
as densities of the raw numbers: log p(x) = -log x - (log x - loc)^2 / (2 scale^2) + const.
Variables: the logs of the lengthscales (d,), then the log of the noise.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels.covariance import (
    CATEGORY,
    CONTEXT,
    CONTEXT_CYCLE,
    CYCLE,
    NUMBER,
    TIME,
    covariance,
    difference,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEW_ROWS = 56  # up to which one compiled call is faster than LAPACK behind a dozen of NumPy's
LOG_2PI = math.log(2.0 * math.pi)


class LogPosterior:
    """The density for given rows: X (n, d), y, share, floor (n,), kinds (d,), lognormal priors as (loc, scale).

    `lengthscale_loc`, `lengthscale_scale` (d,). `noise_prior` None: the noise is fixed by the caller, its gradient 0.
    """

    def __init__(
        self,
        X: Floats,
        y: Floats,
        share: Floats,
        floor: Floats,
        kinds: Integers,
        *,
        lengthscale_loc: Floats,
        lengthscale_scale: Floats,
        noise_prior: tuple[float, float] | None,
        ss: float = 0.0,
        dof: float = 0.0,
        within_floor: float = 0.0,
    ) -> None:
        self.X, self.y, self.share, self.floor, self.kinds = X, np.ascontiguousarray(y), share, floor, kinds
        self.lengthscale_loc, self.lengthscale_scale, self.noise_prior = lengthscale_loc, lengthscale_scale, noise_prior
        self.ss, self.dof, self.within_floor = ss, dof, within_floor
        n, d = X.shape
        self._small = n <= FEW_ROWS and bool((kinds == NUMBER).all())
        self._right = np.column_stack([np.ones(n), y])
        self._difference = np.empty((d, n * n))
        for i, kind in enumerate(kinds):
            self._difference[i] = difference(X[:, None, i] - X[None, :, i], int(kind)).ravel()
        self._knobs = np.isin(kinds, (NUMBER, CYCLE))
        self._context = np.isin(kinds, (CONTEXT, CONTEXT_CYCLE))
        self._away = np.where(kinds == CATEGORY, 1.0 / max(1, (kinds == CATEGORY).sum()), kinds == TIME)
        self._s, self._K, self._by_knobs, self._by_context = (np.empty(n * n) for _ in range(4))
        self._W = np.empty((n, n))

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """Value and gradient (d + 1,) at log lengthscales and log noise; -inf where K + D is not positive definite."""
        from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

        from arqon_kernels._cpu.likelihood import small

        n, d = self.X.shape
        scale, noise = np.exp(theta[:-1]), math.exp(theta[-1])
        gradient = np.zeros(d + 1)
        if self._small:
            diagonal = noise * self.share + self.floor
            value, trace = small(self.X, self.y, self.share, diagonal, scale, self.kinds, gradient[:d])
            if value == -math.inf:
                return value, np.zeros(d + 1)
            gradient[d] = 0.5 * noise * trace
            return self._with_priors(value, gradient, theta, noise)
        self._covariance(scale)
        K = self._K.copy()
        K[:: n + 1] += noise * self.share + self.floor
        L, failed = dpotrf(K.reshape(n, n).T, lower=0, overwrite_a=1, clean=0)  # K.T: K in LAPACK's order
        if failed:
            return -math.inf, np.zeros(d + 1)
        both = dpotrs(L, self._right, lower=0)[0]
        ones, solved = both[:, 0], both[:, 1]
        constant = float(solved.sum() / ones.sum())
        a = solved - constant * ones
        value = -0.5 * float((self.y - constant) @ a) - float(np.log(L.diagonal()).sum()) - 0.5 * n * LOG_2PI
        inverse = dpotri(L, lower=0, overwrite_c=1)[0].T  # its lower triangle
        gradient[:d] = self._by_lengthscales(a, inverse, scale)
        gradient[d] = 0.5 * noise * float((a * a - inverse.diagonal()) @ self.share)
        return self._with_priors(value, gradient, theta, noise)

    def _covariance(self, scale: Floats) -> None:
        """K and its slopes in r^2 and c^2, flat, into the scratch arrays."""
        from arqon_kernels._cpu.likelihood import matern_parts

        s, decay = self._s, self._by_context
        np.matmul(np.where(self._knobs, 5.0 / scale**2, 0.0), self._difference, out=s)
        np.sqrt(s, out=s)
        np.negative(s, out=decay)
        if self._away.any():
            decay -= (self._away / scale) @ self._difference
        np.exp(decay, out=decay)
        matern_parts(s, decay, self._K, self._by_knobs)
        if self._context.any():
            u = np.sqrt(np.where(self._context, 5.0 / scale**2, 0.0) @ self._difference)
            context, by_context = np.empty_like(u), np.empty_like(u)
            matern_parts(u, np.exp(-u), context, by_context)
            np.multiply(self._K, by_context, out=self._by_context)
            self._K *= context
            self._by_knobs *= context

    def _by_lengthscales(self, a: Floats, inverse: Floats, scale: Floats) -> Floats:
        """tr((a a' - inverse) dK/dlog l) / 2 for each column; every pair of rows is counted once."""
        from arqon_kernels._cpu.likelihood import trace_weights

        n, gradient = len(a), np.zeros(len(scale))
        groups = (
            (self._knobs, self._by_knobs, -2.0 / scale**2),
            (self._context, self._by_context, -2.0 / scale**2),
            (self._away > 0, self._K, self._away / scale),
        )
        for mine, slope, factor in groups:
            if mine.any():
                trace_weights(a, inverse, slope.reshape(n, n), self._W)
                pull = self._difference @ self._W.ravel() if mine.all() else self._difference[mine] @ self._W.ravel()
                gradient[mine] = factor[mine] * pull
        return gradient

    def constant(self, theta: Floats) -> float:
        """The profiled mean at these hyperparameters."""
        from scipy.linalg import cho_factor, cho_solve

        K = covariance(self.X, self.X, np.exp(theta[:-1]), self.kinds)
        K.flat[:: len(K) + 1] += math.exp(theta[-1]) * self.share + self.floor
        weights = cho_solve(cho_factor(K, lower=True), np.ones(len(K)))
        return float(weights @ self.y / weights.sum())

    def _with_priors(self, value: float, gradient: Floats, theta: Floats, noise: float) -> tuple[float, Floats]:
        off = (theta[:-1] - self.lengthscale_loc) / self.lengthscale_scale
        value += float((-theta[:-1] - 0.5 * off * off - np.log(self.lengthscale_scale) - 0.5 * LOG_2PI).sum())
        gradient[:-1] += -1.0 - off / self.lengthscale_scale
        variance = noise + self.within_floor
        value -= 0.5 * self.dof * math.log(variance) + 0.5 * self.ss / variance
        gradient[-1] += (-0.5 * self.dof + 0.5 * self.ss / variance) * noise / variance
        if self.noise_prior is None:
            gradient[-1] = 0.0
            return value, gradient
        loc, width = self.noise_prior
        off_noise = (float(theta[-1]) - loc) / width
        value += -float(theta[-1]) - 0.5 * off_noise**2 - math.log(width) - 0.5 * LOG_2PI
        gradient[-1] += -1.0 - off_noise / width
        return value, gradient
