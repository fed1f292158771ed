"""Every error this package raises on purpose.

ArqonError
├── ConfigError (ValueError)      the config text: "Invalid config: <path>: ..."
│   └── NotSupportedYet           a documented key that this version does not make work
├── ResultError (ValueError)      the results given to seed/tell; nothing of the batch was taken
├── RequestError (ValueError)     an operator action or a query that cannot be carried out (unknown id, ...)
├── RateLimited                   asked too early under `on_rate_limit: "raise"`; `.retry_after_s` says when
├── JournalError                  the journal cannot be read or written; nothing was changed
│   ├── StudyHeld                 another solver writes this study
│   └── ConfigMismatch            the study was created with another config
├── SystemFailed (RuntimeError)   the tuned system, or the load on it, ended or no longer answers
├── ClosedError                   the solver was closed
└── FitError                      no surrogate could be fitted; the solver falls back inside the same box
"""

from __future__ import annotations


class ArqonError(Exception):
    """Root of every error raised on purpose by arqon_gp."""


class ConfigError(ArqonError, ValueError):
    """The config is not valid; the text begins with "Invalid config"."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Invalid config: {text}")


class NotSupportedYet(ConfigError):
    """A key of the documented config that this version does not make work."""


class ResultError(ArqonError, ValueError):
    """A batch of results is not valid; nothing of it was taken."""


class RequestError(ArqonError, ValueError):
    """An operator action or a query names something that is not there."""


class RateLimited(ArqonError):
    """A change was asked for earlier than `max_updates_per_second` allows."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the rate limit allows the next change in {retry_after_s:.3g} s; ask again then")
        self.retry_after_s = retry_after_s


class JournalError(ArqonError):
    """The journal could not be read or written; the study is as it was before."""


class StudyHeld(JournalError):
    """Another solver is the writer of this study."""


class ConfigMismatch(JournalError):
    """The study in the journal was created with another config."""


class SystemFailed(ArqonError, RuntimeError):
    """What is tuned, or the load on it, ended or no longer answers."""


class ClosedError(ArqonError):
    """The solver was closed and answers no more calls."""


class FitError(ArqonError):
    """No surrogate could be fitted to the data at hand."""
