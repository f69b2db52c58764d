"""A stored model's manifest and its small files, as loaders read them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import CheckpointError
from pbstore.manifest import FileEntry, Manifest
from pbstore.store import BlockStore

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
MAX_JSON_BYTES = 64 << 20
_MAX_KNOWN = 64
_known_manifests: dict[str, Manifest] = {}
"""By the hash of their JSON, with which the index names them: what it names may change, what it means not."""


@contextmanager
def models_of(place: BlockStore | str, *names: str) -> Iterator[BlockStore]:
    """The store that is given; for the URL of a node, one on this disk that then has some models.

    Raises:
        ModelMissingError: If the node has no such model.
        SourceError: If it cannot be reached, and the model was never fetched.
    """
    if not isinstance(place, str):
        yield place
        return
    from pbstore.serve.fetch.remote import fetched  # httpx only when it is needed

    with fetched(place, *names) as store:
        yield store


def manifest_of(store: BlockStore, name: str) -> Manifest:
    """A model's manifest, as the store has it now; one that this process has read before is not read again.

    Raises:
        ModelMissingError: If there is no such model.
        IntegrityError: If the manifest is damaged or lost.
    """
    if not isinstance(store, DiskBlockStore):
        return store.manifest(name)
    row = store.disk.model_row(name)
    known = _known_manifests.get(row.manifest_hash)
    if known is None:
        known = store.disk.manifest_of(row)
        remember(_known_manifests, row.manifest_hash, known)
    return known


def find_file(manifest: Manifest, path: str) -> FileEntry | None:
    """The entry of a path, None if the model has no such file."""
    return next((entry for entry in manifest.files if entry.path == path), None)


def read_file(store: BlockStore, manifest: Manifest, path: str) -> bytes | None:
    """All bytes of a small file, None if the model has no such file.

    Raises:
        CheckpointError: If it is larger than `MAX_JSON_BYTES`.
    """
    entry = find_file(manifest, path)
    if entry is None:
        return None
    if entry.size_bytes > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{path} of {manifest.name} has {entry.size_bytes} bytes, too many to be a config"
        )
    return b"".join(bytes(store.get(piece.block_id)) for piece in entry.pieces)


def read_json(store: BlockStore, manifest: Manifest, path: str) -> dict[str, Any] | None:
    """A JSON object that is a file of the model, None if there is no such file.

    Raises:
        CheckpointError: If it is no JSON object.
    """
    text = read_file(store, manifest, path)
    if text is None:
        return None
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} of {manifest.name} is not JSON ({type(error).__name__})") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} of {manifest.name}: expected an object, got {type(tree).__name__}")
    return tree


def remember(known: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep a value, and let go of the oldest ones; for any thread."""
    for old in list(known)[: max(0, len(known) - _MAX_KNOWN + 1)]:
        known.pop(old, None)
    known[key] = value
