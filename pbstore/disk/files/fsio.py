"""Durable steps on a file system. Each one calls `step` first, so that a test can stop the writer there."""

import ctypes
import errno
import fcntl
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from pbstore.hashing import Buffer
from pbstore.steps import Steps

CLONE_ALIGN = 4096
"""Both ends of a shared range lie on multiples of this."""
_FICLONERANGE = 0x4020940D
_PUNCH_HOLE_KEEP_SIZE = 0x3
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk."""
T = TypeVar("T")
_durable: ContextVar[bool] = ContextVar("durable", default=True)
_holes: ContextVar[bool] = ContextVar("holes", default=False)
_durable_steps = Steps()
on_step, step = _durable_steps.on_step, _durable_steps.step
"""Hear of each durable step before it is taken; announce one."""


@contextmanager
def durability(wanted: bool) -> Iterator[None]:
    """Inside, wait for the disk or not: a scratch store survives its process, but not the machine."""
    token = _durable.set(wanted)
    try:
        yield
    finally:
        _durable.reset(token)


@contextmanager
def holes() -> Iterator[None]:
    """Inside, `write_record` leaves a hole for the payload: for a copy of a store that shows a step."""
    token = _holes.set(True)
    try:
        yield
    finally:
        _holes.reset(token)


def clone_range(source: int, source_offset: int, length: int, fd: int, offset: int) -> bool:
    """Let a range of a file share another's place on the disk until one of them is written to (reflink).

    Args:
        source: Open file to share with.
        source_offset: Where its range starts, a multiple of `CLONE_ALIGN`.
        length: Bytes, a multiple of `CLONE_ALIGN`.
        fd: Open file that gets the range.
        offset: Where, a multiple of `CLONE_ALIGN`.

    Returns:
        Whether it does; not on file systems without reflink, nor from one to another.
    """
    try:
        fcntl.ioctl(fd, _FICLONERANGE, struct.pack("qQQQ", source, source_offset, length, offset))
    except OSError:  # whatever it is, a copy tells it better
        return False
    return True


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the disk of a folder."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def is_no_room(error: BaseException) -> bool:
    """Whether an error says that the disk is full."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def allocate(fd: int, length: int) -> None:
    """Give a file's first bytes a place on the disk, so that they are there when they are wanted."""
    step("allocate")
    os.posix_fallocate(fd, 0, length)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Turn a range of a file into zeros and give its whole blocks back; False where that is not possible."""
    step("punch")
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if call is None:
        return False
    return int(call(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length))) == 0


def held_bytes(fd: int, start: int, stop: int) -> int:
    """Bytes of a range's whole blocks that are not holes: what `punch_hole` would give back."""
    start, stop, held = -(-start // CLONE_ALIGN) * CLONE_ALIGN, stop // CLONE_ALIGN * CLONE_ALIGN, 0
    with suppress(OSError):  # no data behind the start
        while (start := os.lseek(fd, start, os.SEEK_DATA)) < stop:
            end = min(stop, os.lseek(fd, start, os.SEEK_HOLE))
            held, start = held + end - start, end
    return held


def share_lock(fd: int) -> None:
    """Tell that an open file is being read, as long as it or a map of it is open."""
    with suppress(OSError):  # a file system without locks: then nobody gets it alone either
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def lock_alone(fd: int) -> bool:
    """Whether nobody has a file open under `share_lock`; until it is closed nobody can."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def fsync(fd: int, name: str) -> None:
    """Force a file to the disk."""
    step(f"fsync {name}")
    if _durable.get():
        os.fsync(fd)


def fsync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk."""
    step("fsync folder")
    if _durable.get():
        _fsync_folder(folder)


def fsync_together(files: Mapping[int, str], folders: set[Path]) -> None:
    """Force open files, each with a name for its step, and folders to the disk side by side.

    A journaling file system serves them all with one commit: together they take as long as one.
    """
    for name in files.values():
        step(f"fsync {name}")
    for _ in folders:
        step("fsync folder")
    if not _durable.get():
        return
    jobs = [_in_thread(os.fsync, fd) for fd in files]
    jobs += [_in_thread(_fsync_folder, folder) for folder in folders]
    try:
        for job in jobs:
            job.result()
    finally:
        wait(jobs)  # nobody may close a file that is still being forced


def start_fdatasync(fd: int) -> "Future[None] | None":
    """Begin to force a file's bytes to the disk, so that less is left for `fsync`; None if nobody waits.

    The caller must see to the future's result before it closes the file: the system tells of an error once.
    """
    return _in_thread(os.fdatasync, fd) if _durable.get() else None


def _in_thread(force: Callable[[T], None], what: T) -> "Future[None]":
    """Force something to the disk in a thread of its own.

    A daemon: a thread of an executor that Ctrl-C hits while it starts would keep the process from its end.
    """
    job: Future[None] = Future()

    def run() -> None:
        try:
            force(what)
        except BaseException as error:
            job.set_exception(error)
        else:
            job.set_result(None)

    threading.Thread(target=run, name="pbstore-fsync", daemon=True).start()
    return job


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, parts: list[Buffer], offset: int) -> int:
    """Write all parts, one after another, at an offset; returns the offset behind them."""
    step("write")
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    while views:
        with _named(fd):
            written = os.pwritev(fd, views[:512], offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
    return offset


@contextmanager
def _named(fd: int) -> Iterator[None]:
    """Inside, an error of the disk says of which file: the system knows an open file by its number only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            with suppress(OSError):
                error.filename = str(Path(f"/proc/self/fd/{fd}").readlink())
        raise


def write_record(fd: int, head: list[Buffer], payload: Buffer, offset: int) -> None:
    """Write a record's head and its payload, or a hole of the payload's length."""
    if not _holes.get():
        write_all(fd, [*head, payload], offset)
        return
    os.truncate(fd, write_all(fd, head, offset) + len(payload))


def write_at(fd: int, data: Buffer, offset: int) -> None:
    """Write all of a buffer at an offset; no durable step."""
    view = memoryview(data).cast("B")
    while view:
        with _named(fd):
            written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def write_file(path: Path, data: bytes) -> None:
    """Put a whole file in place, or nothing: temporary file, fsync, rename, fsync of the folder."""
    fd, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        try:
            os.fchmod(fd, 0o644)
            write_all(fd, [data], 0)
            fsync(fd, "file")
        finally:
            os.close(fd)
        step("rename")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def unlink(path: Path) -> None:
    """Take a file away for good; it may be gone already."""
    step("unlink")
    path.unlink(missing_ok=True)
    fsync_folder(path.parent)
