"""Compiled CPU bodies. Compilation is cached on disk; where no cache can be written it only costs time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(body: F) -> F:
    """The function compiled in nopython mode, IEEE arithmetic, one thread."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(body))
    except RuntimeError:  # numba found no directory it may write its cache to
        return cast(F, numba.njit(nogil=True)(body))
