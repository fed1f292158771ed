"""Log posterior density of a Gaussian process's hyperparameters, with its gradient.

Row i is the mean of 1 / share_i windows: y ~ N(c 1, K + D), K = covariance(X, X), D_ii = noise share_i + floor_i. The
constant c is profiled out (c = 1' A y / 1' A 1, A = (K + D)^-1; by the envelope theorem it adds nothing to the
gradient), and the scatter of the windows inside the rows enters with `dof` degrees of freedom and sum of squares `ss`:

log p = -r' A r / 2 - log|K + D| / 2 - n log(2 pi) / 2 - dof log(v) / 2 - ss / (2 v) + log prior,   r = y - c,
v = noise + within_floor,  d log p / d theta = tr((a a' - A) dK/dtheta) / 2,  a = A r
(Rasmussen and Williams 2006, eq. 5.9). Priors are lognormal densities of the raw lengthscales and the raw noise, taken
as densities of the raw numbers: log p(x) = -log x - (log x - loc)^2 / (2 scale^2) + const.
Variables: the logs of the lengthscales (d,), then the log of the noise. Compiled for the CPU, or on a torch device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arqon_kernels.bfgs import minimize, start

if TYPE_CHECKING:
    from arqon_kernels._cpu.likelihood import Scratch

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TOLERANCES = 3e-2, 1e-4  # of the slopes and of a step's gain; a thousandth of a nat is lost at the most
WORK_BETWEEN_STOPS = 10_000_000  # about; n^3 a step


class LogPosterior:
    """The density for given rows: X (n, d), y, share, floor (n,), kinds (d,), lognormal priors as (loc, scale).

    `lengthscale_loc`, `lengthscale_scale` (d,). `noise_prior` None: the noise is fixed by the caller, its gradient 0.
    `device`: the torch device that it is computed on; None: the CPU, compiled.
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
        device: str | None = None,
    ) -> None:
        self.X, self.y, self.share, self.floor, self.kinds = X, y, share, floor, kinds
        self.lengthscale_loc, self.lengthscale_scale, self.noise_prior = lengthscale_loc, lengthscale_scale, noise_prior
        self.ss, self.dof, self.within_floor = ss, dof, within_floor
        self._on_torch: Any = None
        if device is not None:
            from arqon_kernels._torch.likelihood import OnDevice

            scatter = ss, dof, within_floor
            scales = lengthscale_loc, lengthscale_scale
            self._on_torch = OnDevice((X, y, share, floor), kinds, scales, noise_prior, scatter, device)
            return
        from arqon_kernels._cpu.likelihood import Density

        n, d = X.shape
        padded = np.zeros((d + 3, -(-n // 4) * 4))
        for row, given in zip(padded, (*X.T, y, share, floor), strict=True):
            row[:n] = given
        self._density = Density(
            padded[:d].copy(), padded[d].copy(), padded[d + 1].copy(), padded[d + 2].copy(),
            np.array(kinds, dtype=np.int64), np.array(lengthscale_loc, dtype=float),
            np.array(lengthscale_scale, dtype=float), np.array(noise_prior or (), dtype=float),
            np.array([ss, dof, within_floor], dtype=float), n,
        )  # fmt: skip

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """Value and gradient (d + 1,) at log lengthscales and log noise; -inf where K + D is not positive definite."""
        if self._on_torch:
            return self._on_torch(theta)  # type: ignore[no-any-return]
        from arqon_kernels._cpu.likelihood import evaluate

        value, gradient = evaluate(self._density, self._scratch(), np.array(theta, dtype=float))
        return float(value), np.asarray(gradient)

    def climb(
        self, theta: Floats, low: Floats, high: Floats, most_steps: int, stop: Callable[[], bool] = lambda: False
    ) -> tuple[Floats, float]:
        """The maximum found by BFGS from theta (d + 1,) inside low <= theta <= high, and its value.

        -inf where the density is not finite at the start. It ends where it is when `stop` says so, which is asked every
        few steps. Compiled, it runs without Python's lock in between.
        """
        if self._on_torch:

            def falling(theta: Floats) -> tuple[float, Floats]:
                value, gradient = self(theta)
                return -value, -gradient

            x, value = minimize(falling, theta, low, high, most_steps, *TOLERANCES, stop)
            return x, -value
        from arqon_kernels._cpu.bfgs import STEPS, VALUE
        from arqon_kernels._cpu.likelihood import climb

        at, work = start(theta, low, high, *TOLERANCES), self._scratch()
        stride = max(1, WORK_BETWEEN_STOPS // len(self.y) ** 3)
        last = 0
        while not climb(self._density, work, at, last) and last < most_steps and not stop():
            last = min(most_steps, int(at.counts[STEPS]) + stride)
        return at.x, -float(at.numbers[VALUE])

    def constant(self, theta: Floats) -> float:
        """The profiled mean at these hyperparameters."""
        if self._on_torch:
            return self._on_torch.constant(theta)  # type: ignore[no-any-return]
        from arqon_kernels._cpu.likelihood import climb

        work = self._scratch()
        climb(self._density, work, start(theta, theta, theta), 0)
        return float(work.constant[0])

    def inverse(self, theta: Floats) -> tuple[Floats, Floats]:
        """(K + D)^-1 (y - c) (n,) and (K + D)^-1 (n, n) at these hyperparameters."""
        if self._on_torch:
            return self._on_torch.inverse(theta)  # type: ignore[no-any-return]
        from arqon_kernels._cpu.likelihood import climb

        n, work = len(self.y), self._scratch()
        climb(self._density, work, start(theta, theta, theta), 0)
        lower = np.tril(work.inverse[:n, :n])
        return work.ones[:n].copy(), lower + np.tril(lower, -1).T

    def _scratch(self) -> Scratch:
        from arqon_kernels._cpu import interpreted
        from arqon_kernels._cpu.likelihood import scratch

        return interpreted(scratch)(self._density)
