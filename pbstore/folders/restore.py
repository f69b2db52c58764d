"""From a manifest back to a folder: each file in a temporary file, checked, then renamed into place."""

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pbstore.errors import BadFileError, FileCorruptError
from pbstore.folders.nesting import OwnStore, check_target, is_store
from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry, Manifest
from pbstore.pool import Pool

OPEN_FILES = 4
"""Files that are written at a time, so that small ones at the end of a model keep no thread waiting."""
LEFTOVER = ".tmp-pbcast-"
"""How files that are being written begin: only a killed checkout leaves one."""

WriteBlock = Callable[[BlockId, int, int], None]
"""Writes a block's raw bytes into an open file at an offset, and raises unless they hash to its id."""
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutReport:
    """What a checkout wrote."""

    name: str
    folder: str
    files: int
    written_bytes: int
    kept_files: int
    """Files that were there already with the right bytes."""


def write_folder(
    manifest: Manifest,
    folder: Path,
    write_block: WriteBlock,
    *,
    own: OwnStore | None = None,
    force: bool = False,
    check_files: bool = True,
    threads: int = 2,
    progress: Progress | None = None,
) -> CheckoutReport:
    """Write all files and empty folders of a model, byte for byte; never a link into the store.

    Args:
        manifest: The model.
        folder: Target, made if missing. Other files in it are left alone.
        write_block: Writes one block into a file and checks its hash; called in several threads.
        own: The store that the model comes from, which must be no part of the folder.
        force: Replace files that are there with other bytes.
        check_files: Compare each file with its sha256 too: needless where that and the ids of its blocks are
            known to stand for the same bytes.
        threads: Blocks written at a time.
        progress: Called with a path and the bytes just written.

    Raises:
        FileExistsError: If a file is there with other bytes and `force` is not set, a file and a folder are
            in each other's place, or two files would be written to one place.
        BadFileError: If the folder lies in a store, or holds `own`, or a link in it leads out of it. Nothing
            is written then, nor in the case before.
        FileCorruptError: If the blocks do not give the sha256 of the source.
    """
    check_target(folder, own)
    targets = {entry.path: folder / entry.path for entry in manifest.files}
    folders = {folder, *(target.parent for target in targets.values())}
    folders.update(folder / path for path in manifest.empty_folders)
    for one in folders:
        check_folder(folder, one)
    _check_apart(targets)
    wanted = [entry for entry in manifest.files if _must_write(targets[entry.path], entry, force)]
    for one in folders:
        one.mkdir(parents=True, exist_ok=True)
    remove_leftovers(targets.values())
    unfinished: deque[_OpenFile] = deque()
    with Pool(max(1, threads), "pbstore-checkout") as writers:
        try:
            for entry in wanted:
                unfinished.append(_OpenFile(entry, targets[entry.path]))
                unfinished[-1].start(write_block, writers)
                if len(unfinished) >= OPEN_FILES:
                    unfinished[0].finish(manifest.name, check_files, progress)
                    unfinished.popleft()
            while unfinished:
                unfinished[0].finish(manifest.name, check_files, progress)
                unfinished.popleft()
            _check_written(targets, wanted)
            _make_executable(targets, manifest)
        finally:
            if unfinished:
                writers.shutdown(cancel_futures=True)
            for file in unfinished:
                file.abandon()
    return CheckoutReport(
        name=manifest.name,
        folder=str(folder),
        files=len(manifest.files),
        written_bytes=sum(entry.size_bytes for entry in wanted),
        kept_files=len(manifest.files) - len(wanted),
    )


def replaced_files(manifest: Manifest, folder: Path) -> list[str]:
    """Paths of the files in a folder that a forced checkout would replace, for they have other bytes.

    Raises:
        FileExistsError: If a folder is where a file is to be.
    """
    targets = ((entry, folder / entry.path) for entry in manifest.files)
    return [
        entry.path
        for entry, target in targets
        if os.path.lexists(target) and _must_write(target, entry, force=True)
    ]


def check_folder(root: Path, folder: Path) -> None:
    """Refuse a folder in which files are to be written; nothing is made.

    Args:
        root: What everything is written in.
        folder: Part of it, or `root` itself; it need not be there.

    Raises:
        BadFileError: If a link leads out of `root`, or the folder into a block store.
        FileExistsError: If a file is where a folder is needed.
    """
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not there.is_dir():
        raise FileExistsError(f"{there} is there, where a folder is to be: choose an empty folder")
    if there.is_relative_to(root) and not there.resolve().is_relative_to(root.resolve()):
        raise BadFileError(str(folder), "a link in the target folder leads out of it")
    while there != root and there.is_relative_to(root):
        if is_store(there):
            raise BadFileError(str(there), "a block store is there: check out elsewhere")
        there = there.parent


def _must_write(target: Path, entry: FileEntry, force: bool) -> bool:
    if not os.path.lexists(target):
        return True
    if target.is_dir() and not target.is_symlink():
        raise FileExistsError(f"{target} is there, where a file is to be: choose an empty folder")
    if target.is_file() and not target.is_symlink() and target.stat().st_size == entry.size_bytes:
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                return False
    if not force:
        raise FileExistsError(
            f"{target} is there with other bytes: choose an empty folder, or force it (`--force`)"
        )
    return True


def _check_apart(targets: dict[str, Path]) -> None:
    """Refuse a folder in which two paths lead to one place, as through a link between its folders."""
    parents = {target.parent: target.parent.resolve() for target in targets.values()}
    places: dict[Path, str] = {}
    for path, target in targets.items():
        other = places.setdefault(parents[target.parent] / target.name, path)
        if other != path:
            raise FileExistsError(f"{target}: the same place as that of {other!r}: choose an empty folder")


def _check_written(targets: dict[str, Path], written: Iterable[FileEntry]) -> None:
    """Find out whether the file system took two names of a model for one, such as `A` and `a`."""
    places = {path: (found.st_dev, found.st_ino) for path, found in _stats(targets)}
    count = Counter(places.values())
    for entry in written:
        if count[places[entry.path]] > 1:
            raise FileExistsError(
                f"{targets[entry.path]}: the file system takes another name for the same one"
            )


def _stats(targets: dict[str, Path]) -> Iterator[tuple[str, os.stat_result]]:
    return ((path, target.stat()) for path, target in targets.items())


def _make_executable(targets: dict[str, Path], manifest: Manifest) -> None:
    """Let files be run that are to be, for all who may read them; those that were there already, too."""
    for entry in manifest.files:
        mode = targets[entry.path].stat().st_mode if entry.executable else 0
        if entry.executable and not mode & stat.S_IXUSR:
            targets[entry.path].chmod(stat.S_IMODE(mode) | (mode & 0o444) >> 2)


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete what killed checkouts left where files are to be written: whoever still writes holds a lock."""
    wanted = set(targets)
    for folder in {target.parent for target in wanted}:
        for path in folder.glob(f"{LEFTOVER}*"):
            if path in wanted or path.is_symlink() or not path.is_file():
                continue
            with suppress(OSError):
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(fd)


def _new_file(folder: Path, executable: bool) -> tuple[int, Path]:
    """An open file under a name of its own, locked while it is open, with the mode that umask leaves it."""
    while True:
        path = folder / f"{LEFTOVER}{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o777 if executable else 0o666)
        if _hold(fd, path):
            return fd, path
        os.close(fd)


def _hold(fd: int, path: Path) -> bool:
    """Lock a new file, so that it is no leftover; False if another checkout has taken it for one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: leftovers stay there
        return True
    return path.exists()


class _OpenFile:
    """A file that is being written under a temporary name."""

    def __init__(self, entry: FileEntry, target: Path) -> None:
        self._entry, self._target = entry, target
        self._fd, self._temporary = _new_file(target.parent, entry.executable)
        self._jobs: list[Future[None]] = []

    def start(self, write_block: WriteBlock, writers: Executor) -> None:
        """Take room for the file and let its blocks be written."""
        _take_room(self._fd, self._entry.size_bytes, self._target)
        offset = 0
        for piece in self._entry.pieces:
            self._jobs.append(writers.submit(write_block, piece.block_id, self._fd, offset))
            offset += piece.raw_bytes

    def finish(self, name: str, check: bool, progress: Progress | None) -> None:
        """Wait for the blocks, check the whole, and put the file in its place."""
        for piece, job in zip(self._entry.pieces, self._jobs, strict=True):
            job.result()
            if progress is not None:
                progress(self._entry.path, piece.raw_bytes)
        if check:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(0)
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != self._entry.sha256:
                raise FileCorruptError(name, self._entry.path, self._entry.sha256, actual)
        self._temporary.replace(self._target)
        self._close()

    def abandon(self) -> None:
        """Let go of an unfinished file; nobody may write to it any more."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _take_room(fd: int, num_bytes: int, target: Path) -> None:
    """Allocate a file's room at once: faster than growing it, and a full disk shows before the work."""
    try:
        if num_bytes:
            os.posix_fallocate(fd, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise OSError(error.errno, error.strerror, str(target)) from error
