"""Checking a store in the background: block after block, slowly, on from where the last one ended."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pbstore.disk.files import fsio
from pbstore.disk.index import locations
from pbstore.disk.index.locations import Location
from pbstore.disk.models import Models
from pbstore.disk.upkeep import concerned as where
from pbstore.disk.upkeep.verify import block_problem
from pbstore.hashing import BlockId

PLACE = "scrub.json"
"""Where a pass has come to; it may be deleted."""
_SAVE_S = 5.0
_BATCH = 256
_MOST_BAD = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """What a scrub has checked."""

    blocks: int
    raw_bytes: int
    is_whole: bool
    """Whether it came to the end of a pass; else the next one goes on from here."""
    pass_began_at: float
    """When this pass began, seconds since 1970."""
    problems: tuple[str, ...]
    """One line each: damage that was found now."""
    damaged_models: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all that was checked is well."""
        return not self.problems


def scrub(
    models: Models,
    *,
    rate_bytes_s: float | None = None,
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ScrubReport:
    """Check blocks in the order of their ids until all are checked or the time is over; takes no lock.

    Args:
        models: The store.
        rate_bytes_s: Raw bytes to check in a second, at most; None for no limit.
        seconds: How long it may take, s; None for until the end of the pass.
        progress: Called with the raw bytes just checked.
        sleep: Waits.

    Raises:
        ValueError: If the rate or the time is not above 0.
    """
    for what, value in (("rate_bytes_s", rate_bytes_s), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise ValueError(f"{what} must be > 0, got {value}")
    began = saved = time.monotonic()
    last, pass_began_at = _place(models)
    bad: dict[BlockId, str] = {}
    blocks = raw_bytes = 0
    is_whole = True
    for location in _after(models, last):
        if seconds is not None and time.monotonic() - began >= seconds:
            is_whole = False
            break
        last = location.record.block_id
        if len(bad) < _MOST_BAD and (problem := block_problem(models, location)):
            bad[last] = problem
        blocks, raw_bytes = blocks + 1, raw_bytes + location.record.raw_bytes
        if progress is not None:
            progress(location.record.raw_bytes)
        if time.monotonic() - saved >= _SAVE_S:
            _save(models, last, pass_began_at)
            saved = time.monotonic()
        if rate_bytes_s is not None and (ahead := raw_bytes / rate_bytes_s - (time.monotonic() - began)) > 0:
            sleep(ahead)
    _save(models, "" if is_whole else last, time.time() if is_whole else pass_began_at)
    concerned = where.find(models, bad)
    return ScrubReport(
        blocks=blocks,
        raw_bytes=raw_bytes,
        is_whole=is_whole,
        pass_began_at=pass_began_at,
        problems=tuple(f"{problem}{concerned.told(block_id)}" for block_id, problem in bad.items()),
        damaged_models=tuple(sorted(concerned.models)),
    )


def _after(models: Models, last: str) -> Iterator[Location]:
    """Blocks behind one, in the order of their ids; some at a time, for others may write meanwhile."""
    while True:
        batch = locations.behind(models.connection, last, _BATCH)
        if not batch:
            return
        yield from batch
        last = batch[-1].record.block_id


def _file(models: Models) -> Path:
    return models.layout.root / PLACE


def _place(models: Models) -> tuple[str, float]:
    """The last block that was checked, and when that pass began."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        tree = json.loads(_file(models).read_bytes()[:4096])
        last, began = tree["last"], float(tree["began_at"])
        if isinstance(last, str) and len(last) == 64 and bytes.fromhex(last):
            return last, began
    return "", time.time()


def _save(models: Models, last: str, began_at: float) -> None:
    with suppress(OSError):  # a store for reading only: the next one begins anew
        if not models.read_only:
            fsio.write_file(_file(models), json.dumps({"last": last, "began_at": began_at}).encode())
