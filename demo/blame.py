"""Whose fault is an error: the user's and the world's, which is one line, or ours, with its traceback."""

import dis
from types import TracebackType

OWN_PACKAGES = ("pbstore", "radio", "policy", "demo")


def is_expected(error: Exception) -> bool:
    """Errors that speak of the user's input or the world, not of a mistake of ours.

    These are errors with an exit code, those of the operating system, and each `ValueError` that one of our
    own `raise` statements made. One that came out of a library, or out of an expression, is a mistake.
    """
    if hasattr(error, "exit_code") or isinstance(error, OSError):
        return True
    return isinstance(error, ValueError) and _is_raised_by_us(error.__traceback__)


def _is_raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the innermost frame is one of our functions, at a `raise`."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    at = dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]]
    return package in OWN_PACKAGES and at == "RAISE_VARARGS"
