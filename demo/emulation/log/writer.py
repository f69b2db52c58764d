"""Writing a log: one line an event, numbered, in one write each, so that a reader never sees half of one."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from demo.emulation.log.events import Event, Line

Listener = Callable[[Line], None]


class LogWriter:
    """Appends events to a new file; safe to use from many threads.

    Args:
        path: The file; it must not exist, for a log is never rewritten.
        listener: Called with each line after it was written, for a live view.
        clock: Says what time it is, s; it never goes back.

    Raises:
        FileExistsError: If there is such a file.
    """

    def __init__(
        self, path: Path, listener: Listener | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("xb", buffering=0)
        self._listener, self._mutex = listener, threading.Lock()
        self._clock = clock
        self._seq, self._began = 0, clock()

    def __enter__(self) -> "LogWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def now_s(self) -> float:
        """Seconds since the log was opened."""
        return self._clock() - self._began

    def write(self, event: Event) -> Line:
        """Append one event."""
        with self._mutex:
            line = Line(self._seq, self.now_s(), event)
            text = json.dumps(line.to_dict(), separators=(",", ":"), allow_nan=False)
            self._file.write(text.encode() + b"\n")
            self._seq += 1
            if self._listener is not None:
                self._listener(line)
        return line

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is written meanwhile; for a look at what a listener gathers."""
        with self._mutex:
            yield

    def close(self) -> None:
        """Close the file."""
        self._file.close()
