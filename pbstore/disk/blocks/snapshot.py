"""A copy of the index: a lost one comes back at once, or, if the store has changed since, what only it knew.

An index that is lost or damaged can be built again from packs and manifests, which takes a while in a large
store, and knows nothing of pins, priorities, uses and times. The snapshot is taken for the index as it is if
packs, manifests and tags are still those that it tells of; else it gives the rest, brought up to date by the
log of changes.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import zstandard
from blake3 import blake3

from pbstore.disk.blocks import manifests_found
from pbstore.disk.files import fsio, pack
from pbstore.disk.files.layout import Layout
from pbstore.disk.index import audit, database, model_rows, packs
from pbstore.disk.index.audit import Change
from pbstore.disk.index.sqlite import FAILURES
from pbstore.errors import IndexCorruptError

MAGIC = b"PBSNAP1\n"
_HASH_BYTES, _LENGTH_BYTES = 32, 8
_HEADER_BYTES = len(MAGIC) + _HASH_BYTES + _LENGTH_BYTES
_LEVEL = 3
_STEP = 1 << 20
Taste = dict[str, tuple[object, ...]]
"""Name of a row -> what `model_rows.read_taste` gives of it."""


def write(layout: Layout, connection: sqlite3.Connection) -> int:
    """Put a snapshot of the committed index in place of the last one; no lock is needed.

    Returns:
        Its length, bytes.
    """
    logged = _length(layout.audit)
    with tempfile.NamedTemporaryFile(prefix=".tmp-", dir=layout.root) as copied:
        with closing(sqlite3.connect(copied.name)) as copy:
            connection.backup(copy)
        fd, temporary = tempfile.mkstemp(prefix=".tmp-", dir=layout.root)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o644)
                _compress(Path(copied.name), logged, file.fileno())
                fsio.fsync(file.fileno(), "snapshot")
            Path(temporary).replace(layout.snapshot)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    fsio.fsync_folder(layout.root)
    return layout.snapshot.stat().st_size


def take_back(layout: Layout, target: Path) -> bool:
    """Write the snapshot's index to a file if it tells of the store as it is; False if there is no such one.

    Call it under the writer's lock.
    """
    with _read(layout) as found:
        if found is None or not _is_current(layout, found[1]):
            return False
        path, rows = found[0], taste(layout)
        with closing(sqlite3.connect(path)) as connection:
            model_rows.write_taste(connection, rows)
            connection.commit()
        path.replace(target)
        return True


def taste(layout: Layout) -> list[tuple[object, ...]]:
    """Pins, priorities, uses and times, as the snapshot has them, with what was changed since."""
    known: Taste = {}
    changes = audit.read(layout.audit)
    with _read(layout) as found:
        if found is not None:
            known = {str(row[-1]): row for row in model_rows.read_taste(found[1])}
            changes = _later(layout)
    return list(replayed(known, changes).values())


def _later(layout: Layout) -> Iterator[Change]:
    """Changes since the snapshot; by their times, if the log is another one than then."""
    with layout.snapshot.open("rb") as file:
        file.seek(_HEADER_BYTES - _LENGTH_BYTES)
        logged = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if logged <= _length(layout.audit):
        return audit.read(layout.audit, logged)
    taken_at = layout.snapshot.stat().st_mtime
    return (one for one in audit.read(layout.audit) if one.at > taken_at)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def replayed(known: Taste, changes: Iterable[Change]) -> Taste:
    """What models' rows are to say of pins and times after some changes."""
    result, away = dict(known), Taste()
    aside: set[tuple[str, float]] = set()
    for one in changes:
        row = result.get(one.model)
        match one.what:
            case "set aside":
                aside.add((one.model, one.at))
            case "filed" if (one.model, one.at) not in aside or row is None:
                result[one.model] = (0, 0.0, 0, 0.0, one.at, one.model)
            case "pinned" | "unpinned" if row is not None:
                result[one.model] = (int(one.what == "pinned"), *row[1:])
            case "priority" if row is not None:
                with suppress(ValueError):
                    result[one.model] = (row[0], float(one.detail), *row[2:])
            case "renamed" if row is not None and one.new_name:
                result[one.new_name] = (*result.pop(one.model)[:-1], one.new_name)
            case "removed" if row is not None and not _is_past(row):
                away[one.model] = row
            case "restored" if one.model in away:
                name = one.new_name or one.model
                result[name] = (*away[one.model][:-1], name)
    return result


def _is_past(row: tuple[object, ...]) -> bool:
    return ":" in str(row[-1])


def _compress(source: Path, logged: int, fd: int) -> None:
    """Magic, hash of what follows, length of the log of changes, and one zstd frame."""
    head = logged.to_bytes(_LENGTH_BYTES, "little")
    digest = blake3(head)
    os.lseek(fd, _HEADER_BYTES, os.SEEK_SET)
    coder = zstandard.ZstdCompressor(level=_LEVEL)
    with source.open("rb") as file:
        for part in coder.read_to_iter(file, read_size=_STEP):
            digest.update(part)
            os.write(fd, part)
    os.pwrite(fd, MAGIC + digest.digest() + head, 0)


@contextmanager
def _read(layout: Layout) -> Iterator[tuple[Path, sqlite3.Connection] | None]:
    """The snapshot's index as a file of its own, which goes; None if there is none, or a damaged one."""
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=layout.root) as folder:
        path = Path(folder) / "index.sqlite"
        try:
            if not _decompressed(layout.snapshot, path):
                yield None
                return
            connection = database.connect(path, read_only=True)
        except (OSError, zstandard.ZstdError, IndexCorruptError, *FAILURES):
            yield None
            return
        with closing(connection):
            yield path, connection


def _decompressed(path: Path, target: Path) -> bool:
    digest = blake3()
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        expected = file.read(_HASH_BYTES)
        while part := file.read(_STEP):
            digest.update(part)
        if digest.digest() != expected:
            return False
        file.seek(_HEADER_BYTES)
        with target.open("wb") as out:
            zstandard.ZstdDecompressor().copy_stream(file, out)
    return True


def _is_current(layout: Layout, connection: sqlite3.Connection) -> bool:
    """Whether packs, manifests and tags are those that an index tells of."""
    try:
        known = manifests_found.hashes(layout, connection)
        ends = packs.ends(connection)
    except (IndexCorruptError, *FAILURES):
        return False
    sizes = {
        number: pack.pack_path(layout.packs, number).stat().st_size
        for number in pack.pack_numbers(layout.packs)
    }
    if sizes != ends or layout.waiting_manifests():
        return False
    files = [*layout.all_manifests(), *layout.sheaf_files(), *layout.tag_files()]
    return {path.name: blake3(path.read_bytes()).hexdigest() for path in files} == known
