"""Compiled CPU bodies. Compilation is cached on disk; where no cache can be written it only costs time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
SUMS = {"reassoc", "contract", "nsz"}  # sums in any order, so that they vectorise; NaN and inf keep their meaning


def compiled(body: F) -> F:
    """The function compiled in nopython mode, IEEE arithmetic, one thread."""
    return _compiled(body, False)


def compiled_sums(body: F) -> F:
    """The same where sums may be taken in another order."""
    return _compiled(body, SUMS)


def _compiled(body: F, fastmath: bool | set[str]) -> F:
    try:
        return cast(F, numba.njit(cache=True, nogil=True, fastmath=fastmath)(body))
    except RuntimeError:  # numba found no directory it may write its cache to
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(body))
