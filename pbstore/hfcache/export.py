"""Stored models as a Hugging Face cache, so that `from_pretrained` works offline: blobs, snapshots, refs."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pbstore.disk.index.revisions import MAIN
from pbstore.disk.store import DiskBlockStore
from pbstore.folders.nesting import check_target
from pbstore.manifest import Manifest

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """A revision that was written into a cache."""

    name: str
    revision: str
    """The Hub's commit where a tag of the revision tells it, else the store's."""
    folder: str
    """Its snapshot."""
    files: int
    written_bytes: int
    """Bytes of blobs that the cache did not have."""


def export_to_cache(store: DiskBlockStore, names: Sequence[str], cache: Path) -> list[ExportedModel]:
    """Write models into a cache, each file once; what is there already is not written again.

    A model's snapshot is put in place whole, and `main` is set to it after that.

    Args:
        store: Has the models.
        names: Models, or `NAME@REVISION`; without one, `main` of the cache comes to mean it.
        cache: The cache's `hub` folder, made if missing.

    Raises:
        ModelMissingError: If there is no such model.
        BadFileError: If the cache lies in the store.
        IntegrityError: If the store's bytes are damaged.
    """
    check_target(cache, store.disk.own)
    cache.mkdir(parents=True, exist_ok=True)
    return [_export(store, name, cache) for name in names]


def _export(store: DiskBlockStore, address: str, cache: Path) -> ExportedModel:
    row = store.disk.model_row(address)
    manifest, model = store.disk.manifest_of(row), row.key.model
    tags = sorted(tag for tag, commit in store.disk.tags(model).items() if commit == row.commit)
    revision = next((tag for tag in tags if _COMMIT.fullmatch(tag)), row.commit)
    repo = cache / f"models--{model.replace('/', '--')}"
    snapshot = repo / "snapshots" / revision
    written = 0 if _is_whole(snapshot, manifest) else _write(store, address, manifest, repo, snapshot)
    refs = [tag for tag in tags if tag != revision]
    for ref in [*refs, *([MAIN] if row.key.past_ms is None else [])]:
        _put_text(repo / "refs" / ref, revision)
    return ExportedModel(
        name=address,
        revision=revision,
        folder=str(snapshot),
        files=len(manifest.files),
        written_bytes=written,
    )


def _is_whole(snapshot: Path, manifest: Manifest) -> bool:
    """Whether a snapshot has all files, each with its length."""
    paths = ((snapshot / entry.path, entry.size_bytes) for entry in manifest.files)
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _write(store: DiskBlockStore, address: str, manifest: Manifest, repo: Path, snapshot: Path) -> int:
    """Write what is missing of a model's blobs, then the links to them; the bytes written."""
    blobs = repo / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True, exist_ok=True)
    written = 0
    with tempfile.TemporaryDirectory(dir=repo, prefix=".tmp-pbcast-export-") as folder:
        if not all(_has_blob(blobs, entry.sha256, entry.size_bytes) for entry in manifest.files):
            store.checkout(address, folder)
        for entry in manifest.files:
            blob = blobs / entry.sha256
            if not _has_blob(blobs, entry.sha256, entry.size_bytes):
                (Path(folder) / entry.path).replace(blob)
                written += entry.size_bytes
            _put_link(snapshot / entry.path, blob)
    return written


def _has_blob(blobs: Path, sha256: str, size: int) -> bool:
    blob = blobs / sha256
    return blob.is_file() and blob.stat().st_size == size


def _put_link(place: Path, blob: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    waiting = place.with_name(f".tmp-pbcast-{os.getpid()}")
    waiting.unlink(missing_ok=True)
    waiting.symlink_to(os.path.relpath(blob, place.parent))
    waiting.replace(place)


def _put_text(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    waiting = place.with_name(f".tmp-pbcast-{os.getpid()}")
    waiting.write_text(text)
    waiting.replace(place)
