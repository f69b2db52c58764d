"""Answers of before, good as long as nothing was committed to the index since: no other thread is asked."""

import asyncio
import sqlite3
from collections.abc import Callable, Hashable
from typing import Any

_MOST = 1 << 16
"""Answers that are kept."""


class QuickAnswers:
    """Remembers what was read from an index; for one thread, whose connection it asks whether others wrote.

    Args:
        connection: Gives the thread's connection, by which nothing is written.
    """

    def __init__(self, connection: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connection
        self._version = -1
        self._is_fresh = False
        self._found: dict[Hashable, Any] = {}
        self.turn: dict[Any, Any] = {}
        """What was looked up in this turn of the loop, behind `version`."""

    def version(self) -> int:
        """Of the index; what was remembered of another one is forgotten.

        It is asked for once in each turn of the event loop: who asks after a commit is heard in a later turn.
        """
        if self._is_fresh:
            return self._version
        self._is_fresh = True
        asyncio.get_running_loop().call_soon(self._turn)
        version = int(self._connection().execute("PRAGMA data_version").fetchone()[0])
        if version != self._version:
            self._version = version
            self._found.clear()
        return version

    def _turn(self) -> None:
        self._is_fresh = False
        self.turn.clear()

    def get(self, key: Hashable) -> Any:  # noqa: ANN401 - each key has its own kind of answer
        """An answer; None if it is not known, or no longer. Ask for `version` first."""
        return self._found.get(key)

    def put(self, key: Hashable, answer: object, version: int) -> None:
        """Remember an answer that was read after the index was seen in a version."""
        if self.version() != version:
            return
        if len(self._found) >= _MOST:
            self._found.clear()
        self._found[key] = answer
