"""The fit by gpytorch: what the twin's hyperparameters maximise, in its own terms."""

from __future__ import annotations

from collections.abc import Sequence

from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from arqon_gp.rows import Hyperparameters, Rows, Settings
from arqon_gp.twin import _parts, _RowLikelihood


def objective(model: SingleTaskGP, rows: Rows) -> ExactMarginalLogLikelihood:
    """The log posterior density, per row, that the hyperparameters of such a model maximise."""
    return _WindowLikelihood(model.likelihood, model, rows)


def read(model: SingleTaskGP, settings: Settings) -> Hyperparameters:
    """The hyperparameters that such a model has now."""
    found = {
        tuple(columns): kernel.lengthscale.detach().cpu().reshape(-1) for kernel, columns in _parts(model, settings)
    }
    scales = {i: float(value) for columns, kernel in found.items() for i, value in zip(columns, kernel, strict=True)}
    return {
        **{name: [scales[i] for i in columns] for name, (columns, _) in settings.groups.items()},
        "noise": model.likelihood.noise.detach().cpu().reshape(-1).tolist(),
        "mean": model.mean_module.constant.detach().cpu().reshape(-1).tolist(),
    }


class _WindowLikelihood(ExactMarginalLogLikelihood):  # type: ignore[misc]  # gpytorch ships no types
    """Log posterior of the hyperparameters given the single windows: the rows, and the scatter inside them.

    sum_i log N(y_i | window variance) = log N(means | variance / count) - dof/2 log variance - ss / (2 variance) +
    const.
    """

    def __init__(self, likelihood: _RowLikelihood, model: SingleTaskGP, rows: Rows) -> None:
        super().__init__(likelihood, model)
        self._rows = rows

    def _add_other_terms(self, res: Tensor, params: Sequence[object]) -> Tensor:
        total: Tensor = super()._add_other_terms(res, params)
        variance: Tensor = self.likelihood.noise.squeeze() + self._rows.within_floor
        return total - 0.5 * self._rows.dof * variance.log() - 0.5 * self._rows.ss / variance
