"""The Xet hash of a stream of bytes, by `hf_xet`'s own code, which reads files only: it is given a pipe."""

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec

from pbstore.hashing import Buffer
from pbstore.pool import Pool

_PIPE_BYTES = 1 << 20


def can_hash() -> bool:
    """Whether `hf_xet` is installed; without it files are served without a Xet hash."""
    return find_spec("hf_xet") is not None


def xet_hash(parts: Iterable[Buffer], pool: Pool) -> str:
    """Xet hash of the bytes of some parts, 64 hex digits.

    Args:
        parts: The bytes in order; an error that they raise ends the hashing.
        pool: A thread of it reads the pipe; it must have one that is free.
    """
    import hf_xet

    reading, writing = os.pipe()
    with suppress(OSError):  # only faster
        fcntl.fcntl(writing, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
    try:
        future = pool.submit(hf_xet.hash_files, [f"/dev/fd/{reading}"])
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    future.add_done_callback(lambda _: os.close(reading))  # so that writing ends if it was given up
    try:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            for part in parts:
                _write(pipe.fileno(), part)
    finally:
        infos = future.result()
    return str(infos[0].hash)


def _write(fd: int, part: Buffer) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(fd, view) :]
