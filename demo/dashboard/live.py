"""A live run beside the page: `pbcast emulate` in a process of its own, ended and started anew on request."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demo.jobs.config import REFERENCE, replayable

LOG_NAME = "events.jsonl"
ENDING_S = 20.0
"""How long a run has to end when it is asked to, s."""
_MAIN = "import sys; from demo.cli import main; sys.exit(main())"


class LiveRun:
    """One run at a time, each in a folder of its own below `folder`.

    Args:
        folder: Where runs leave their logs.
        options: Further options of `pbcast emulate`.
        watch: Called with the path of each run's log when the run starts.
        checked: Raises ValueError where a text is no capacity.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        watch: Callable[[Path], None],
        checked: Callable[[str], object],
    ) -> None:
        self._folder, self._options, self._watch, self._checked = folder, tuple(options), watch, checked
        self._process: subprocess.Popen[bytes] | None = None
        self._scheme, self._capacity = REFERENCE, ""

    def about(self) -> dict[str, Any]:
        """What may be chosen, and what is."""
        return {"schemes": list(replayable()), "scheme": self._scheme, "capacity": self._capacity}

    def restart(self, scheme: str, capacity: str) -> None:
        """End the run and start one with other settings.

        Args:
            scheme: What nodes decide by.
            capacity: Room of a node; empty: as the scenario says.

        Raises:
            ValueError: If there is no such scheme, or it is no capacity.
        """
        if scheme not in replayable():
            raise ValueError(f"scheme must be one of {', '.join(replayable())}, got {scheme!r}")
        if capacity:
            self._checked(capacity)
        self.end()
        self._scheme, self._capacity = scheme, capacity
        out = self._fresh()
        room = ["--capacity", capacity] if capacity else []
        words = ["emulate", "--scheme", scheme, *room, "--out", str(out), *self._options]
        self._process = subprocess.Popen([sys.executable, "-c", _MAIN, *words], stdout=subprocess.DEVNULL)
        self._watch(out / LOG_NAME)

    def end(self) -> None:
        """End the run, if one goes on."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _fresh(self) -> Path:
        """A folder that no run has used."""
        number = 1
        while (self._folder / str(number)).exists():
            number += 1
        return self._folder / str(number)
