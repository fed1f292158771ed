"""Compiled code from Numba's cache on disk, loaded without its bitcode. Public: Cache.

Numba keeps of each function its machine code and its bitcode; only what is compiled against the function needs the
latter, yet both are read at once. For what an ask runs, that is 30 MiB and a sixth of the time of a fresh process.
This rests on parts of Numba that are not public: where one is missing, or has changed, Numba's own way is taken.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary

CHANGED = (AttributeError, TypeError, ValueError)  # what another version of Numba would raise


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """The machine code of one function; its bitcode is parsed when another function is compiled against it."""

    _shared_module: Any

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> _Library:
        name, _, (machine_code, bitcode) = state
        library: _Library = codegen.create_library(name)
        library._bitcode = bitcode
        library.enable_object_caching()
        library._set_compiled_object(machine_code)
        library._finalize_final_module()
        return library

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._bitcode)
            self._codegen._engine._load_defined_symbols(self._shared_module)
        return self._shared_module


class _Loader(CompileResultCacheImpl):  # type: ignore[misc]
    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """Called while Numba holds its compiler lock, so nothing else is loaded meanwhile."""
        codegen, described = target_context.codegen(), payload[1]
        codegen._engine._defined_symbols |= {described.llvm_func_name, described.llvm_cpython_wrapper_name}
        codegen._library_class = _Library
        try:
            return super().rebuild(target_context, payload)
        except CHANGED:
            pass
        finally:
            del codegen._library_class  # the class's own again
        return super().rebuild(target_context, payload)


class Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function."""

    _impl_class = _Loader
