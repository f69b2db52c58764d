"""Reading a log: typed lines, from a file that is whole or still grows."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from demo.emulation.log.events import LOG_VERSION, EventError, Line, Started, from_dict

MAX_LINE_BYTES = 16 << 20
"""No event is longer; a longer line is refused before it is parsed."""


def read_log(path: Path) -> Iterator[Line]:
    """Lines of a log in the order of the file; a last line that a stop has torn is left out.

    Raises:
        EventError: If a line is no event, or the log is of another version.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        yield from _lines(file, path)


def follow_log(path: Path, stop: Callable[[], bool], poll_s: float = 0.1) -> Iterator[Line]:
    """Lines of a log as they are written, from its first, until `stop` says so and all were given.

    Raises:
        EventError: As `read_log`.
    """
    number = 0
    with path.open("rb") as file:
        while True:
            ending = stop()
            for line in _lines(file, path, number):
                number = line.seq + 1
                yield line
            if ending:
                return
            time.sleep(poll_s)


def _lines(file: BinaryIO, path: Path, number: int = 0) -> Iterator[Line]:
    while True:
        at = file.tell()
        text = file.readline(MAX_LINE_BYTES)
        if not text.endswith(b"\n"):
            if len(text) >= MAX_LINE_BYTES:
                raise EventError(f"{path}, line {number + 1}: longer than {MAX_LINE_BYTES} bytes")
            file.seek(at)
            return
        number += 1
        yield _line(text, f"{path}, line {number}")


def _line(text: bytes, where: str) -> Line:
    try:
        row = json.loads(text)
        if not isinstance(row, dict):
            raise EventError(f"expected an object, got {row!r:.60}")
        seq, at_s = row.get("seq"), row.get("at_s")
        if not isinstance(seq, int) or isinstance(seq, bool) or not isinstance(at_s, int | float):
            raise EventError("seq and at_s must be numbers")
        event = from_dict(row)
    except (ValueError, RecursionError) as error:
        raise EventError(f"{where} is no event: {error}") from None
    if isinstance(event, Started) and event.version != LOG_VERSION:
        raise EventError(f"{where}: expected a log of version {LOG_VERSION}, got {event.version}")
    return Line(seq, float(at_s), event)
