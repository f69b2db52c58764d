"""A store, or some models of it, as one file for transport: a tar archive that nothing in it is trusted of.

It holds STORE.json, packs and manifests as they lie in a store's folder, no index: whoever takes it in builds
one from the records, and each block is hashed when it goes into another store. `tar -x` makes a store of it.
"""

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pbstore.disk import revisions
from pbstore.disk.files.layout import Settings
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.disk.opening import open_store
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BadFileError
from pbstore.folders.scratch import scratch

PREFIX = ".tmp-pbcast-archive-"
"""How passing stores are called; they lie beside the archive, or beside the store that takes it in."""
_MEMBER = re.compile(
    r"STORE\.json|packs/[0-9]{8,12}\.pack|manifests/([0-9a-f.]{1,120}\.(json|past|tags)|[0-9]{8,12}\.sheaf)"
)
_PART_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """What went into an archive, or came out of it."""

    file: str
    models: tuple[str, ...]
    revisions: int
    """Of all these models."""
    new_revisions: int
    """Those that were not there before."""
    stored_bytes: int
    """Payload bytes of the blocks."""


def export_archive(
    store: DiskBlockStore,
    file: Path,
    names: Sequence[str] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> ArchiveReport:
    """Write models, with all their revisions, tags and the blocks that they need, into one file.

    Others may write to the store meanwhile: each revision is one that was there.

    Args:
        store: Has the models.
        file: The archive; it comes into place when it is whole.
        names: Models; None for all.
        progress: Called with payload bytes just copied.

    Raises:
        FileExistsError: If the file is there.
        FileNotFoundError: If the folder that it goes into is not there.
        ModelMissingError: If there is no such model.
        IntegrityError: If a block is damaged.
    """
    if os.path.lexists(file):
        raise FileExistsError(f"{file} is there already: choose another name")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"cannot write {file}: there is no folder {file.absolute().parent}")
    chosen = tuple(store.models() if names is None else dict.fromkeys(names))
    with scratch(file.absolute().parent, PREFIX) as folder:
        with open_store(folder / "store", durable=False, pack_bytes=Settings().pack_bytes) as passing:
            count = sum(_copy(store, passing, name, progress)[0] for name in chosen)
            stored = passing.used_bytes
        _pack(folder / "store", folder / "archive")
        (folder / "archive").replace(file)
    return ArchiveReport(
        file=str(file), models=chosen, revisions=count, new_revisions=count, stored_bytes=stored
    )


def import_archive(
    store: DiskBlockStore,
    file: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> ArchiveReport:
    """Take the models of an archive in; what is there is kept, and each block is hashed.

    A model that has other content here gets what the archive has as its newest revision.

    Args:
        store: Where they go.
        file: What `export_archive` wrote.
        progress: Called with payload bytes just copied.

    Raises:
        BadFileError: If the file is no such archive.
        IntegrityError: If a block or manifest in it is damaged; models before that one are there.
        CapacityError: If something does not fit.
    """
    with _unpacked(file, store.path.absolute().parent) as passing:
        before = store.used_bytes
        counts = [_copy(passing, store, name, progress) for name in passing.models()]
        return ArchiveReport(
            file=str(file),
            models=passing.models(),
            revisions=sum(count for count, _ in counts),
            new_revisions=sum(new for _, new in counts),
            stored_bytes=store.used_bytes - before,
        )


def _copy(
    source: DiskBlockStore, target: DiskBlockStore, name: str, progress: Callable[[int], None] | None
) -> tuple[int, int]:
    """Copy a model with all its revisions, the oldest first; how many there are, and how many are new."""
    rows = source.disk.revisions_of(name)
    known = {row.commit for row in target.disk.revisions_of(name)} if target.disk.has_model(name) else set()
    new = [row for row in reversed(rows) if row.commit not in known]
    for row in new:
        _copy_revision(source, target, row, progress)
    with target.disk.writing() as tx:
        own = target.disk.tags(name)
        revisions.set_tags(target.disk, tx, name, {**source.disk.tags(name), **own})
    return len(rows), len(new)


def _copy_revision(
    source: DiskBlockStore,
    target: DiskBlockStore,
    row: ModelRow,
    progress: Callable[[int], None] | None,
) -> None:
    manifest = source.disk.manifest_of(row)
    with target.disk.writing() as tx:
        tx.spared.update(manifest.block_ids())
        for block_id in source.disk.blocks(f"{row.key.model}@{row.commit}"):
            if not target.has(block_id):
                stored = source.export_block(block_id)
                target.import_block(stored)
                if progress is not None:
                    progress(stored.stored_bytes)
        raw = all(target.info(block_id).codec == "raw" for block_id in manifest.block_ids())
        revisions.file(target.disk, tx, manifest, HOT if raw else COLD)


def _pack(folder: Path, file: Path) -> None:
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if _MEMBER.fullmatch(name):
                archive.add(path, name, recursive=False, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's file: an archive of the same models has the same bytes whoever makes it."""
    return member.replace(uid=0, gid=0, uname="", gname="", mode=0o644, mtime=0, deep=False)


@contextmanager
def _unpacked(file: Path, beside: Path) -> Iterator[DiskBlockStore]:
    """The store that an archive holds, in a passing folder; read-only."""
    with scratch(beside, PREFIX) as folder:
        root = folder / "store"
        try:
            with tarfile.open(file, "r:") as archive:
                for member in archive:
                    _take(archive, member, root, file)
        except (tarfile.TarError, EOFError) as error:
            raise BadFileError(str(file), f"expected an archive of `pbcast store export`: {error}") from None
        if not (root / "STORE.json").is_file():
            raise BadFileError(
                str(file), "expected an archive of `pbcast store export`, it has no STORE.json"
            )
        with open_store(root, durable=False) as passing:
            yield passing


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, file: Path) -> None:
    """Write one member; its name, kind and size are what they may be, or the archive is refused."""
    if not member.isreg() or not _MEMBER.fullmatch(member.name):
        raise BadFileError(str(file), f"it holds {member.name[:80]!r}, which no store has")
    content = archive.extractfile(member)
    path = root / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as opened:
        while content is not None and (part := content.read(_PART_BYTES)):
            opened.write(part)


__all__ = ["ArchiveReport", "export_archive", "import_archive"]
