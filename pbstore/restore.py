"""From a manifest back to a folder: each file in a temporary file, checked, then renamed into place."""

import errno
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from pbstore.errors import BadFileError, FileCorruptError
from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry, Manifest, check_path
from pbstore.pool import Pool

OPEN_FILES = 4
"""Files that are written at a time, so that small ones at the end of a model keep no thread waiting."""

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
    force: bool = False,
    check_files: bool = True,
    threads: int = 2,
    progress: Progress | None = None,
) -> CheckoutReport:
    """Write all files of a model, byte for byte; never a link into the store.

    Args:
        manifest: The model.
        folder: Target, made if missing. Other files in it are left alone.
        write_block: Writes one block into a file and checks its hash; called in several threads.
        force: Replace files that are there with other bytes.
        check_files: Compare each file with its sha256 too: needless where that and the ids of its blocks are
            known to stand for the same bytes.
        threads: Blocks written at a time.
        progress: Called with a path and the bytes just written.

    Raises:
        FileExistsError: If a file is there with other bytes and `force` is not set.
        FileCorruptError: If the blocks do not give the sha256 of the source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [entry for entry in manifest.files if _must_write(folder, entry, force)]
    unfinished: deque[_OpenFile] = deque()
    with Pool(max(1, threads), "pbstore-checkout") as writers:
        try:
            for entry in wanted:
                unfinished.append(_OpenFile(entry, safe_target(folder, entry.path)))
                unfinished[-1].start(write_block, writers)
                if len(unfinished) >= OPEN_FILES:
                    unfinished[0].finish(manifest.name, check_files, progress)
                    unfinished.popleft()
            while unfinished:
                unfinished[0].finish(manifest.name, check_files, progress)
                unfinished.popleft()
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


def safe_target(folder: Path, path: str) -> Path:
    """Where a manifest's path leads inside a folder; parents are made.

    Raises:
        BadFileError: If a link in the folder leads out of it.
    """
    target = folder.joinpath(*check_path(path).split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise BadFileError(str(target), "a link in the target folder leads out of it")
    return target


def _must_write(folder: Path, entry: FileEntry, force: bool) -> bool:
    target = safe_target(folder, entry.path)
    if not os.path.lexists(target):
        return True
    if target.is_file() and not target.is_symlink() and target.stat().st_size == entry.size_bytes:
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                return False
    if not force:
        raise FileExistsError(f"{target} is there with other bytes: choose an empty folder, or force")
    return True


class _OpenFile:
    """A file that is being written under a temporary name."""

    def __init__(self, entry: FileEntry, target: Path) -> None:
        self._entry, self._target = entry, target
        self._fd, self._temporary = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
        self._jobs: list[Future[None]] = []

    def start(self, write_block: WriteBlock, writers: Executor) -> None:
        """Take room for the file and let its blocks be written."""
        _take_room(self._fd, self._entry.size_bytes)
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
        os.fchmod(self._fd, 0o644)
        if check:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(0)
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != self._entry.sha256:
                raise FileCorruptError(name, self._entry.path, self._entry.sha256, actual)
        Path(self._temporary).replace(self._target)
        self._close()

    def abandon(self) -> None:
        """Let go of an unfinished file; nobody may write to it any more."""
        self._close()
        Path(self._temporary).unlink(missing_ok=True)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _take_room(fd: int, num_bytes: int) -> None:
    """Allocate a file's room at once: faster than growing it, and a full disk shows before the work."""
    try:
        if num_bytes:
            os.posix_fallocate(fd, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
