"""A live run beside the page: `pbcast emulate` in a process of its own, ended and started anew on request."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.jobs.config import REFERENCE, replayable

LOG_NAME = "events.jsonl"
ENDING_S = 20.0
"""How long a run has to end when it is asked to, s."""
MOST_NODES = 16
"""Edge nodes that a page may ask for."""
FAULTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "none": (),
    "a node dies": ({"what": "die", "place": "node 1", "slot": 1, "after_s": 0.5, "back_after_s": 3.0},),
    "a node loses its disk": (
        {"what": "lose-disk", "place": "node 0", "slot": 1, "after_s": 0.5, "back_after_s": 3.0},
    ),
    "a device is cut off": (
        {"what": "cut-off", "place": "device 0", "slot": 1, "after_s": 0.5, "back_after_s": 3.0},
    ),
    "the origin is cut off": (
        {"what": "cut-off", "place": "origin", "slot": 1, "after_s": 0.5, "back_after_s": 3.0},
    ),
    "bytes in a cache change": ({"what": "corrupt", "place": "node 0", "slot": 1},),
}
"""What may break in the second slot of a run, as a script of faults (`demo/emulation/faults`)."""
_MAIN = "import sys; from demo.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a page may choose for a live run."""

    scheme: str = REFERENCE
    """What nodes decide by."""
    capacity: str = ""
    """Room of a node; empty: as the scenario says."""
    nodes: str = ""
    """Number of edge nodes; empty: as the scenario says."""
    faults: str = "none"
    """What breaks in the second slot, of `FAULTS`."""

    def check(self) -> None:
        """Raise ValueError for the first that may not be."""
        if self.scheme not in replayable():
            raise ValueError(f"scheme must be one of {', '.join(replayable())}, got {self.scheme!r}")
        if self.faults not in FAULTS:
            raise ValueError(f"faults must be one of {', '.join(FAULTS)}, got {self.faults!r}")
        number = int(self.nodes) if self.nodes.isdecimal() and len(self.nodes) < 4 else 0
        if self.nodes and not 1 <= number <= MOST_NODES:
            raise ValueError(f"nodes must be a number from 1 to {MOST_NODES}, got {self.nodes!r}")
        if self.faults == "a node dies" and number == 1:
            raise ValueError("a node can die where there are two")

    def options(self, out: Path) -> list[str]:
        """Options of `pbcast emulate`; a script of faults is written into the run's folder."""
        chosen = {"--scheme": self.scheme, "--capacity": self.capacity, "--nodes": self.nodes}
        words = [word for name, value in chosen.items() if value for word in (name, value)]
        if script := FAULTS[self.faults]:
            out.mkdir(parents=True, exist_ok=True)
            path = out / "faults.json"
            path.write_text(json.dumps({"fault": script}))
            words += ["--faults", str(path)]
        return words


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
        self._chosen = Chosen()

    def about(self) -> dict[str, Any]:
        """What may be chosen, and what is."""
        return {"schemes": list(replayable()), "known_faults": list(FAULTS), **asdict(self._chosen)}

    def restart(self, chosen: Chosen) -> None:
        """End the run and start one with other settings.

        Raises:
            ValueError: If there is no such scheme or fault, or it is no capacity or number of nodes.
        """
        chosen.check()
        if chosen.capacity:
            self._checked(chosen.capacity)
        self.end()
        self._chosen = chosen
        out = self._fresh()
        words = ["emulate", *chosen.options(out), "--out", str(out), *self._options]
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
