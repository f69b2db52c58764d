"""How kernels are compiled: once, for the types that they are called with, and kept.

Machine code is kept in `__pycache__` or, where that cannot be written to, in the user's cache folder (or in
`NUMBA_CACHE_DIR`), by the hash of all sources here, the version and the processor; files are put in place
whole. Where no folder can be written to, each process compiles for itself. No `fastmath` and no threads: the
same sums in the same order everywhere.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit, types
from numba.core import caching

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False}
"""Without numba's runtime: kernels make no arrays, and no view of one counts who refers to it, which would
take as long as all else."""


def array(kind: str, axes: int) -> Any:  # noqa: ANN401 - a type of numba's
    """Type of a C-ordered array of "bool", "int" or "float" numbers."""
    return types.Array({"bool": types.boolean, "int": types.int64, "float": types.float64}[kind], axes, "C")


def part(function: Function) -> Function:
    """A piece of kernels, compiled into them."""
    compiled: Function = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)
    return compiled


class _Stamp:
    """Kernels depend on parts and on the layout of tuples: what is kept is stale once any file is other."""

    _py_file: str

    def get_source_stamp(self) -> str:
        files = sorted(Path(self._py_file).parent.glob("*.py"))
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


class _Chosen(_Stamp, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    pass


class _Beside(_Stamp, caching.InTreeCacheLocator):  # type: ignore[misc]
    pass


class _OfUser(_Stamp, caching.UserWideCacheLocator):  # type: ignore[misc]
    pass


class _Kept(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Chosen, _Beside, _OfUser)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Kept


def kernel(*arguments: Any) -> Callable[[Function], Function]:  # noqa: ANN401 - types of numba's
    """Compile a function that returns nothing for some types of arguments, or load it."""

    def compile_or_load(function: Function) -> Function:
        compiled: Any = njit(no_cfunc_wrapper=True, **OPTIONS)(function)
        try:
            compiled._cache = _Cache(function)
        except RuntimeError:
            log.info("%s is compiled in each process: no folder can be written to", function.__name__)
        compiled.compile(types.void(*arguments))
        compiled.disable_compile()
        kernel_of: Function = compiled
        return kernel_of

    return compile_or_load
