"""Differentiable torch references: the formula as written, for tests, GPUs and autograd."""
