"""Memory that loads of this process have in common, if they ask for it; it goes with its last holder."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from pbstore.disk.files import fsio
from pbstore.hashing import BlockId

_maps: WeakValueDictionary[tuple[int, int, int], mmap.mmap] = WeakValueDictionary()
"""By device, inode and length: a pack that grew has several."""
_runs: WeakValueDictionary[tuple[BlockId, ...], npt.NDArray[np.uint8]] = WeakValueDictionary()
_mutex = threading.Lock()


def private_map(path: Path) -> memoryview:
    """A file as memory of one's own: writing to it changes neither the file nor another map."""
    with opened(path) as fd:
        return memoryview(_map(fd))


def shared_maps(path: Path, end: int) -> list[memoryview]:
    """This process's common maps of a file, shorter ones first; a new one if none reaches to `end`.

    A block stays in the map in which earlier loads have it, though its pack has grown since.
    """
    with opened(path) as fd, _mutex:
        status = os.fstat(fd)
        file = (status.st_dev, status.st_ino)
        maps = sorted((mapped for key, mapped in _maps.items() if key[:2] == file), key=len)
        if not maps or len(maps[-1]) < end:
            mapped = _map(fd)
            maps.append(_maps.setdefault((*file, len(mapped)), mapped))
    return [memoryview(mapped) for mapped in maps]


def find(run: tuple[BlockId, ...]) -> memoryview | None:
    """The common bytes of some blocks behind one another, if a load holds them."""
    array = _runs.get(run)
    return None if array is None else array.data


def keep(run: tuple[BlockId, ...], memory: memoryview) -> memoryview:
    """Make the bytes of some blocks common; gives the common ones, which may be another load's."""
    with _mutex:
        return _runs.setdefault(run, np.frombuffer(memory, np.uint8)).data


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file's descriptor, to read from."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsio.share_lock(fd)  # as long as a map of it lives, too
        yield fd
    finally:
        os.close(fd)


def _map(fd: int) -> mmap.mmap:
    return mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
