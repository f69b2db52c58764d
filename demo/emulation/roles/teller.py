"""What every role has: a clock that all share, and events that go to the log."""

import logging
import threading
import time

from demo.emulation.log.events import Event, to_dict
from demo.emulation.wire.ask import NotReachedError, Wire

log = logging.getLogger(__name__)


class Teller:
    """Tells the log what a role does; events wait here until `flush`.

    Args:
        wire: How the log is reached.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire, self._mutex = wire, threading.Lock()
        self._events: list[dict[str, object]] = []
        self.collector = ""
        """Address of the log, and of the world."""
        self._began = time.monotonic()
        self.step_s = 0.0
        """How far this role's clock of the day was stepped: nothing may depend on it."""

    def meet(self, collector: str, now_s: float) -> None:
        """Learn where the log is, and what its clock says now."""
        self.collector = collector
        self._began = time.monotonic() - now_s

    def now_s(self) -> float:
        """Seconds since the run began, on a clock that is never stepped."""
        return time.monotonic() - self._began

    def at_s(self, monotonic_s: float) -> float:
        """What `now_s` said at a time of `time.monotonic`."""
        return monotonic_s - self._began

    def day_s(self) -> float:
        """The clock of the day, with the steps that faults have made: for the log of this role only."""
        return time.time() + self.step_s

    def tell(self, event: Event) -> None:
        """Note an event."""
        with self._mutex:
            self._events.append(to_dict(event))

    def flush(self) -> None:
        """Send what was noted, in order; what cannot be sent now goes with the next."""
        with self._mutex:
            if not self._events or not self.collector:
                return
            try:
                self._wire.ask(self.collector, "events", events=self._events)
                self._events = []
            except NotReachedError as error:
                log.info("%s", error)
