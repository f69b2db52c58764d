"""Makes the faults of a script while a live edge lives, and mends them."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from demo.emulation.faults.script import Fault

log = logging.getLogger(__name__)


class Edge(Protocol):
    """What a fault is made in."""

    def kill(self, place: str) -> None:
        """End a role at once."""

    def restart(self, place: str, *, comes_back: bool) -> None:
        """Start a role again."""

    def break_inside(self, place: str, fault: str, seed: int, seconds: float) -> str:
        """Have a role break itself; what it did."""

    def fault(self, fault: str, place: str, about: str) -> None:
        """Log a fault."""

    def recovered(self, fault: str, place: str, seconds: float) -> None:
        """Log a recovery."""


class FaultPlayer:
    """Plays a script.

    Args:
        script: The faults.
        edge: Where they are made.
    """

    def __init__(self, script: Sequence[Fault], edge: Edge) -> None:
        self._script, self._edge = tuple(script), edge
        self._threads: list[threading.Thread] = []
        self._of_place: dict[str, threading.Lock] = {fault.place: threading.Lock() for fault in script}
        """What breaks at one place breaks one after another."""

    def begin(self, slot: int, phase: str) -> None:
        """A phase of a slot begins."""
        for number, fault in enumerate(self._script):
            if (fault.slot, fault.phase) == (slot, phase):
                thread = threading.Thread(target=self._play, args=(fault, number), daemon=True, name="fault")
                self._threads.append(thread)
                thread.start()

    def join(self) -> None:
        """Wait until everything that broke was mended."""
        for thread in self._threads:
            thread.join()

    def _play(self, fault: Fault, number: int) -> None:
        try:
            time.sleep(fault.after_s)
            with self._of_place[fault.place]:
                self._make(fault, number)
        except Exception:
            log.exception("fault %s at %s could not be made", fault.what, fault.place)

    def _make(self, fault: Fault, number: int) -> None:
        began, edge = time.monotonic(), self._edge
        edge.fault(
            fault.what, fault.place, f"back after {fault.back_after_s:.2f} s" if fault.is_mended else ""
        )
        if fault.what in ("die", "lose-disk"):
            edge.kill(fault.place)
            time.sleep(fault.back_after_s)
            edge.restart(fault.place, comes_back=fault.what == "die")
        else:
            edge.break_inside(fault.place, fault.what, number, fault.seconds)
            if fault.what == "cut-off":
                time.sleep(fault.back_after_s)
                edge.break_inside(fault.place, "reconnect", number, 0.0)
        edge.recovered(fault.what, fault.place, time.monotonic() - began)
