"""Where fetched and trained things live: outside the repository, each folder published by one rename."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.zoo.errors import ZooError

PARTIAL = ".partial-"
"""Prefix of unfinished files and folders; whatever carries it may be deleted at any time under the lock."""


def cache_root(cache_dir: Path | str | None = None) -> Path:
    """The cache folder: the argument, else `PBCAST_CACHE`, else `pbcast` in the XDG cache folder."""
    if cache_dir is not None:
        return Path(cache_dir)
    if own := os.environ.get("PBCAST_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "pbcast"
    try:
        return Path.home() / ".cache" / "pbcast"
    except RuntimeError:  # no HOME, and no line in the password file
        raise ZooError("there is no home folder for the cache: set PBCAST_CACHE to a folder") from None


def usable_root(cache_dir: Path | str | None = None) -> Path:
    """The cache folder, made when missing.

    Raises:
        ZooError: If it cannot be made or written.
    """
    root = cache_root(cache_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        raise ZooError(
            f"cache folder {root} cannot be written ({error.strerror}): set PBCAST_CACHE"
        ) from None


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; it becomes `target` when the block ends well.

    A crash leaves only a folder that starts with `PARTIAL`, never a half-made `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{target.name}-", dir=target.parent))
    try:
        work.chmod(0o755)
        yield work
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep_partial(folder: Path) -> int:
    """Remove what interrupted runs left in `folder`; return how many things were removed."""
    left = list(folder.glob(f"{PARTIAL}*"))
    for path in left:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(left)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the cache for one builder at a time; the kernel frees the lock when its holder dies."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file by temporary file, fsync and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def member_folder(root: Path, name: str, key: str) -> Path:
    """Where a finished member is: `model/` with its files and `member.json`."""
    return root / "models" / f"{name.replace('/', '--')}-{key}"
