"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is open is closed, and its processes end with it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_on_signals() -> Iterator[list[signal.Signals]]:
    """Make SIGTERM and SIGHUP interrupts; gives a list in which they are found afterwards.

    A signal that was ignored before stays ignored, as `nohup` wants it.
    """
    got: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield got
        return

    def end(number: int, frame: FrameType | None) -> None:
        got.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
