"""Arqon GP: Bayesian optimization that keeps live systems tuned, one small safe change at a time.

`ArqonSolver(config)`, then `ask_one()` for the config to run and `seed(results)` with what was measured.
"""

from importlib.metadata import PackageNotFoundError, version

from arqon_gp.config import Config, config_schema
from arqon_gp.design import ArqonProbe
from arqon_gp.errors import (
    ArqonError,
    ClosedError,
    ConfigError,
    ConfigMismatch,
    FitError,
    JournalError,
    NotSupportedYet,
    RateLimited,
    RequestError,
    ResultError,
    StudyHeld,
    SystemFailed,
)
from arqon_gp.records import Candidate, Kind, Prediction, Recommendation
from arqon_gp.solver import ArqonSolver

try:
    __version__ = version("arqon-gp")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"

__all__ = [
    "ArqonError",
    "ArqonProbe",
    "ArqonSolver",
    "Candidate",
    "ClosedError",
    "Config",
    "ConfigError",
    "ConfigMismatch",
    "FitError",
    "JournalError",
    "Kind",
    "NotSupportedYet",
    "Prediction",
    "RateLimited",
    "Recommendation",
    "RequestError",
    "ResultError",
    "StudyHeld",
    "SystemFailed",
    "__version__",
    "config_schema",
]
