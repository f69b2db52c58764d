"""Where a stored model's tensors lie: names and shapes from safetensors headers, bytes from blocks."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable
from itertools import chain
from typing import Any, TypeVar

from pbstore.checkpoint.errors import CheckpointError
from pbstore.checkpoint.safetensors_header import SafetensorsHeader
from pbstore.disk.store import DiskBlockStore
from pbstore.manifest import FileEntry, Manifest
from pbstore.store import BlockStore
from pbstore.tensors import StoredTensor, header_of, tensors_of

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
MAX_JSON_BYTES = 64 << 20
_MAX_KNOWN = 64
_known_manifests: dict[str, Manifest] = {}
"""By the hash of their JSON, with which the index names them: what it names may change, what it means not."""
_known_tensors: dict[FileEntry, tuple[StoredTensor, ...]] = {}
"""An entry, with the ids of its blocks, means only one thing."""
_known_headers: dict[tuple[str, int], SafetensorsHeader] = {}
"""By block and by bytes of the file: fine-tunes have their base's header."""
_INDEX = "model.safetensors.index.json"
_SINGLE = ("model.safetensors", "adapter_model.safetensors")


def manifest_of(store: BlockStore, name: str) -> Manifest:
    """A model's manifest, as the store has it now; one that this process has read before is not read again.

    Raises:
        ModelMissingError: If there is no such model.
        IntegrityError: If the manifest is damaged or lost.
    """
    if not isinstance(store, DiskBlockStore):
        return store.manifest(name)
    row = store.model_row(name)
    known = _known_manifests.get(row.manifest_hash)
    if known is None:
        known = store.manifest_of(row)
        _remember(_known_manifests, row.manifest_hash, known)
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


def weight_files(store: BlockStore, manifest: Manifest) -> list[FileEntry]:
    """The safetensors files that make the model: those of the index, a single one, or all in the top folder.

    Raises:
        CheckpointError: If there is none, or the index names a file that is not there.
    """
    index = read_json(store, manifest, _INDEX)
    if index is not None:
        return [_indexed(manifest, path) for path in _shards(manifest, index)]
    for path in _SINGLE:
        entry = find_file(manifest, path)
        if entry is not None:
            return [entry]
    found = [e for e in manifest.files if e.path.endswith(".safetensors") and "/" not in e.path]
    if not found:
        raise CheckpointError(
            f"{manifest.name} has no safetensors file; pickles and GGUF files must be converted first"
        )
    return found


def stored_tensors(
    store: BlockStore, manifest: Manifest, names: Collection[str] | None = None, file: str | None = None
) -> list[StoredTensor]:
    """The tensors of a model in the order of its files, or of one file.

    Args:
        store: Where the headers are read from.
        manifest: The model.
        names: Only these tensors.
        file: Only this file of the model, a safetensors file.

    Raises:
        BadFileError: If a header does not fit its blocks.
        CheckpointError: If a name is missing or stands in two files.
        TypeError: If `names` is one text.
    """
    if isinstance(names, str):
        raise TypeError(f"expected a collection of tensors' names, got the text {names[:80]!r}")
    entries = weight_files(store, manifest) if file is None else [_indexed(manifest, file)]
    wanted = None if names is None else set(names)
    found: dict[str, StoredTensor] = {}
    for tensor in chain.from_iterable(_of_file(store, entry) for entry in entries):
        if wanted is None or tensor.name in wanted:
            if tensor.name in found:
                raise CheckpointError(f"{manifest.name}: tensor {tensor.name!r} stands in two files")
            found[tensor.name] = tensor
    if wanted is not None and len(found) < len(wanted):
        missing = min(wanted - set(found))
        raise CheckpointError(f"{manifest.name} has no tensor {missing!r}")
    return list(found.values())


def _shards(manifest: Manifest, index: dict[str, Any]) -> list[str]:
    table = index.get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(path, str) for path in table.values()):
        raise CheckpointError(f"{_INDEX} of {manifest.name}: weight_map must map tensors to files")
    return list(dict.fromkeys(table.values()))


def _indexed(manifest: Manifest, path: str) -> FileEntry:
    entry = find_file(manifest, path)
    if entry is None:
        raise CheckpointError(f"{manifest.name} has no file {path[:80]!r}")
    return entry


def _of_file(store: BlockStore, entry: FileEntry) -> tuple[StoredTensor, ...]:
    """Tensors of one file, whose header is read and parsed once."""
    known = _known_tensors.get(entry)
    if known is None:
        known = tuple(tensors_of(entry, _header_of(store, entry)))
        _remember(_known_tensors, entry, known)
    return known


def _header_of(store: BlockStore, entry: FileEntry) -> SafetensorsHeader:
    key = (entry.pieces[0].block_id if entry.pieces else "", entry.size_bytes)
    known = _known_headers.get(key)
    if known is None:
        known = header_of(entry, store.get)
        _remember(_known_headers, key, known)
    return known


def _remember(known: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep a value, and let go of the oldest ones; for any thread."""
    for old in list(known)[: max(0, len(known) - _MAX_KNOWN + 1)]:
        known.pop(old, None)
    known[key] = value
