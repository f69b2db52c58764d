"""A store mounted by FUSE, for reading; needs mfusepy, libfuse and /dev/fuse."""

import errno
import logging
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockMissingError, MountError, PBStoreError
from pbstore.mount.tree import Node, OpenFile, StoreTree

DEVICE = Path("/dev/fuse")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
log = logging.getLogger(__name__)
Result = TypeVar("Result")


def mount(store: DiskBlockStore, folder: Path, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Show a store in an empty folder, for reading, until it is unmounted or the process gets a signal.

    Args:
        store: The store; what others write to it meanwhile is seen.
        folder: An empty folder outside of the store.
        on_ready: Called when the files can be read.

    Raises:
        MountError: If FUSE is not there, or the folder is no place for it.
    """
    library = _library()
    _check_folder(store, folder)
    operations = Operations(StoreTree(store.disk), on_ready)
    options = {"foreground": True, "ro": True, "fsname": "pbcast", "subtype": "pbcast", "nothreads": False}
    try:
        with _signals_of_library():
            library.FUSE(operations, str(folder), raw_fi=False, **options)
    except RuntimeError as error:
        raise MountError(f"{folder} cannot be mounted: FUSE ended with {error}") from None


@contextmanager
def _signals_of_library() -> Iterator[None]:
    """Let libfuse unmount on signals: it takes those alone that nobody else handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _library() -> ModuleType:
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise MountError(f"mounting needs FUSE: {DEVICE} is not there or may not be used")
    try:
        return import_module("mfusepy")
    except ImportError:
        raise MountError("mounting needs mfusepy: pip install 'pbcast[mount]'") from None
    except (OSError, AttributeError):
        raise MountError("mounting needs libfuse (Debian: apt-get install fuse3)") from None


def _check_folder(store: DiskBlockStore, folder: Path) -> None:
    if not folder.is_dir() or any(folder.iterdir()):
        raise MountError(f"expected an empty folder to mount on, got {folder}")
    if store.path.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise MountError(f"a store cannot be mounted in itself: {folder}")


class Operations:
    """What the kernel asks, answered from a `StoreTree`; errors are those of the system."""

    use_ns = True

    def __init__(self, tree: StoreTree, on_ready: Callable[[], None] = lambda: None) -> None:
        self._tree, self._on_ready = tree, on_ready
        self._open: dict[int, OpenFile] = {}
        self._numbers, self._mutex = count(1), threading.Lock()

    def init(self, path: str) -> None:
        """It is mounted."""
        self._on_ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Kind, mode, size and times of a file or folder."""
        return _status(self._answer(lambda: self._tree.look(_inner(path)), path))

    def access(self, path: str, amode: int) -> int:
        """Whether something may be done to a file: nothing but reading."""
        node = self._answer(lambda: self._tree.look(_inner(path)), path)
        if amode & os.W_OK:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        if amode & os.X_OK and not (node.is_folder or node.executable):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return 0

    def readdir(self, path: str, fh: int) -> list[str]:
        """Names in a folder."""
        return [".", "..", *self._answer(lambda: self._tree.listed(_inner(path)), path)]

    def open(self, path: str, flags: int) -> int:
        """Open a file for reading; gives its number."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        file = self._answer(lambda: self._tree.open(_inner(path)), path)
        with self._mutex:
            number = next(self._numbers)
            self._open[number] = file
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """A part of a file."""
        return self._answer(lambda: self._tree.read(self._open[fh], offset, size), path)

    def release(self, path: str, fh: int) -> int:
        """The file is closed."""
        with self._mutex:
            self._open.pop(fh, None)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """A full disk: nothing can be written."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    def _answer(self, ask: Callable[[], Result], path: str) -> Result:
        try:
            return ask()
        except OSError as error:
            code = error.errno or _CODES.get(type(error), errno.EIO)
            raise OSError(code, os.strerror(code), path) from None
        except BlockMissingError as error:  # removed and collected while it was open
            log.warning("%s: %s", path, error)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path) from None
        except PBStoreError as error:
            log.warning("%s: %s", path, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path) from None


_CODES = {
    FileNotFoundError: errno.ENOENT,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    PermissionError: errno.EACCES,
}


def _inner(path: str) -> str:
    return path.strip("/")


def _status(node: Node) -> dict[str, Any]:
    kind = stat.S_IFDIR | 0o555 if node.is_folder else stat.S_IFREG | (0o555 if node.executable else 0o444)
    at = round(node.changed_at * 1e9)
    return {
        "st_mode": kind,
        "st_nlink": 2 if node.is_folder else 1,
        "st_size": node.size_bytes,
        "st_blocks": -(-node.size_bytes // 512),
        "st_uid": os.getuid(),
        "st_gid": os.getgid(),
        "st_atime": at,
        "st_mtime": at,
        "st_ctime": at,
    }
