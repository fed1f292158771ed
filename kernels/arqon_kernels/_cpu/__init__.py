"""Compiled CPU bodies. Compilation is cached on disk; where no cache can be written it only costs time.

Numba looks only at a function's own file to tell whether its cached code is still right, not at what it calls. So the
cache lies in a folder named after the content of all files here: other sources, other folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from arqon_kernels._cpu.machine_code import Cache
from arqon_kernels.cache import cache_folder

F = TypeVar("F", bound=Callable[..., Any])
SUMS = {"reassoc", "contract", "nsz"}  # sums in any order, so that they vectorise; NaN and inf keep their meaning


def compiled(body: F) -> F:
    """The function compiled in nopython mode, IEEE arithmetic, one thread."""
    return _compiled(body, False)


def compiled_sums(body: F) -> F:
    """The same where sums may be taken in another order."""
    return _compiled(body, SUMS)


def interpreted(function: F) -> F:
    """The body of a compiled function run by Python: where it is called once, its machine code is not worth loading."""
    return cast(F, getattr(function, "py_func", function))


def _compiled(body: F, fastmath: bool | set[str]) -> F:
    function = numba.njit(nogil=True, fastmath=fastmath)(body)
    folder, before = cache_folder(), numba.config.CACHE_DIR
    if folder is not None and hasattr(function, "enable_caching"):  # not where Numba is switched off
        try:
            numba.config.CACHE_DIR = str(folder)
            function._cache = Cache(body)
        finally:
            numba.config.CACHE_DIR = before
    return cast(F, function)
