"""Numerics by hand: one file an op, with its formula and its dispatch. Bodies are imported only when they run.

NumPy arrays run compiled on the CPU and never load torch; torch tensors run through the differentiable reference.
"""

from arqon_kernels.matern import matern52, matern52_vjp

__all__ = ["matern52", "matern52_vjp"]
