"""The event log of a live edge: written as things happen, read, folded and checked. See `EVENTS.md`."""

from demo.emulation.log.check import LogError, Verdict, check_log
from demo.emulation.log.events import KINDS, Event, Line
from demo.emulation.log.fold import Snapshot, fold
from demo.emulation.log.reader import follow_log, read_log
from demo.emulation.log.writer import LogWriter

__all__ = [
    "KINDS",
    "Event",
    "Line",
    "LogError",
    "LogWriter",
    "Snapshot",
    "Verdict",
    "check_log",
    "fold",
    "follow_log",
    "read_log",
]
