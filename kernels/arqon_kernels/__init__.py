"""Numerics by hand: one file an op, with its formula and its dispatch. Bodies are imported only when they run.

NumPy arrays run compiled on the CPU and never load torch; torch tensors run through the differentiable reference.
"""

from arqon_kernels.bfgs import minimize
from arqon_kernels.covariance import covariance
from arqon_kernels.likelihood import LogPosterior

__all__ = ["LogPosterior", "covariance", "minimize"]
