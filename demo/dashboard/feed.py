"""The lines of one log in memory, brought up to date by a thread while its file grows or is replaced."""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demo.emulation.log import Line, follow_log

POLL_S = 0.1
"""How often the file is looked at, s."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of a log from one number on."""

    run: str
    """Which log they are of: another file at the same path is another run. Empty: there is none yet."""
    texts: Sequence[str]
    """One JSON object each."""
    problem: str = ""
    """Why the log cannot be read any further."""


class LogFeed:
    """Follows the log at a path, also one that is not there yet, and one that another takes the place of.

    Args:
        path: The file `events.jsonl`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self._run, self._problem = "", ""
        self._lines: list[Line] = []
        self._texts: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log feed", daemon=True)
        self._thread.start()

    def watch(self, path: Path) -> None:
        """Follow another log from now on."""
        self.path = path

    def close(self) -> None:
        """Stop following."""
        self._ending.set()
        self._thread.join()

    def batch(self, start: int, most: int) -> Batch:
        """At most so many lines from a number on, and the run that they are of."""
        with self._mutex:
            return Batch(self._run, self._texts[start : start + most], self._problem)

    def lines(self) -> list[Line]:
        """All lines so far."""
        with self._mutex:
            return list(self._lines)

    def _follow(self) -> None:
        while not self._ending.wait(POLL_S):
            path, file = self.path, self._file()
            if file is None:
                continue
            try:
                for line in follow_log(path, partial(self._is_over, file), POLL_S):
                    self._take(line, file)
            except (ValueError, OSError) as error:
                with self._mutex:
                    self._problem = str(error)
                while not self._ending.wait(POLL_S) and not self._is_over(file):
                    pass

    def _is_over(self, file: str) -> bool:
        return self._ending.is_set() or self._file() != file

    def _file(self) -> str | None:
        """Which file lies at the path; None: none."""
        try:
            about = self.path.stat()
        except OSError:
            return None
        return f"{about.st_dev:x}.{about.st_ino:x}"

    def _take(self, line: Line, file: str) -> None:
        text = json.dumps(line.to_dict(), separators=(",", ":"), allow_nan=False)
        with self._mutex:
            if line.seq == 0:
                self._lines, self._texts, self._problem = [], [], ""
                self._run = f"{file}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            self._lines.append(line)
            self._texts.append(text)
