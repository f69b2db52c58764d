"""Where a stored model's tensors lie: names and shapes from safetensors headers, bytes from blocks."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

from pbstore.checkpoint.files import find_file, remember
from pbstore.checkpoint.weights import choose_weights, config_names, inside
from pbstore.errors import CheckpointError
from pbstore.formats.safetensors_header import SafetensorsHeader
from pbstore.manifest import FileEntry, Manifest
from pbstore.store import BlockStore
from pbstore.tensors import StoredTensor, header_of, tensors_of

_known_tensors: dict[FileEntry, tuple[StoredTensor, ...]] = {}
"""An entry, with the ids of its blocks, means only one thing."""
_known_headers: dict[tuple[str, int], SafetensorsHeader] = {}
"""By block and by bytes of the file: fine-tunes have their base's header."""


def stored_tensors(
    store: BlockStore,
    manifest: Manifest,
    names: Collection[str] | None = None,
    file: str | None = None,
    *,
    subfolder: str = "",
    variant: str | None = None,
) -> list[StoredTensor]:
    """The tensors of a model's weights (see `choose_weights`), in the order of its files, or of one file.

    Args:
        store: Where the headers are read from.
        manifest: The model.
        names: Only these tensors.
        file: Only this file of the model, a safetensors file.
        subfolder: Folder of the model in which its weights, or `file`, are.
        variant: As in `from_pretrained`.

    Raises:
        BadFileError: If a header does not fit its blocks.
        CheckpointError: If a name is missing, or the weights are not found.
        TypeError: If `names` is one text.
        ValueError: If a path leads out of the model.
    """
    if isinstance(names, str):
        raise TypeError(f"expected a collection of tensors' names, got the text {names[:80]!r}")
    if file is None:
        named = config_names(store, manifest, subfolder)
        chosen = choose_weights(store, manifest, subfolder=subfolder, variant=variant, named=named)
        files = chosen.files
    else:
        files = (_file(manifest, inside(subfolder, file)),)
    found = tensors_in(store, files)
    if names is None:
        return list(found.values())
    if missing := set(names) - found.keys():
        raise CheckpointError(f"{manifest.name} has no tensor {min(missing)!r}")
    wanted = set(names)
    return [tensor for tensor in found.values() if tensor.name in wanted]


def tensors_in(store: BlockStore, files: Collection[FileEntry]) -> dict[str, StoredTensor]:
    """The tensors of some files by name; of several of one name the last, as a loader takes them."""
    return {tensor.name: tensor for tensor in chain.from_iterable(_of_file(store, entry) for entry in files)}


def _file(manifest: Manifest, path: str) -> FileEntry:
    entry = find_file(manifest, path)
    if entry is None:
        raise CheckpointError(f"{manifest.name} has no file {path[:80]!r}")
    return entry


def _of_file(store: BlockStore, entry: FileEntry) -> tuple[StoredTensor, ...]:
    """Tensors of one file, whose header is read and parsed once."""
    known = _known_tensors.get(entry)
    if known is None:
        known = tuple(tensors_of(entry, _header_of(store, entry)))
        remember(_known_tensors, entry, known)
    return known


def _header_of(store: BlockStore, entry: FileEntry) -> SafetensorsHeader:
    key = (entry.pieces[0].block_id if entry.pieces else "", entry.size_bytes)
    known = _known_headers.get(key)
    if known is None:
        known = header_of(entry, store.get)
        remember(_known_headers, key, known)
    return known
