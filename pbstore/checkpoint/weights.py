"""Which files of a stored model are its weights: those that `from_pretrained` of its folder would take.

The order is that of transformers: the file that the config names, one file, shards with an index, pickles. A
pickle is never opened, so that a model whose weights would be pickles is refused, whatever lies beside them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pbstore.checkpoint.files import find_file, read_json
from pbstore.errors import CheckpointError
from pbstore.manifest import FileEntry, Manifest, Piece
from pbstore.store import BlockStore

_T = TypeVar("_T")
SAFETENSORS = ".safetensors"
INDEX = ".safetensors.index.json"
_DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors")
_OTHER_STEMS = ("adapter_model", "diffusion_pytorch_model")
"""Weights of adapters and of parts of pipelines, which no `from_pretrained` of transformers looks for."""
_MAX_KNOWN = 256
_known: dict[tuple[tuple[Piece, ...], str], object] = {}
"""What was read out of a JSON file, by its blocks: they mean only one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The files that hold a model's weights."""

    files: tuple[FileEntry, ...]
    """In the order in which they are read: of tensors of one name the last one counts."""
    dtype: object = None
    """What the index says of the dtype, if anything."""


def inside(subfolder: str, path: str = "") -> str:
    """A path of a model's file, from a subfolder (empty for the model's own folder) and a path in it.

    Raises:
        ValueError: If it leads out of the subfolder.
    """
    for part in (subfolder, path):
        normal = posixpath.normpath(part) + "/"
        if normal.startswith(("/", "../")):
            raise ValueError(f"expected a path inside the model, got {part[:80]!r}")
    joined = posixpath.normpath(posixpath.join(subfolder, path))
    return "" if joined == "." else joined


def choose_weights(
    store: BlockStore,
    manifest: Manifest,
    *,
    subfolder: str = "",
    variant: str | None = None,
    named: object = None,
    strict: bool = False,
) -> Weights:
    """The files that `from_pretrained` of the model's folder takes.

    Args:
        store: Where JSON files are read from.
        manifest: The model.
        subfolder: Folder in it that holds the weights.
        variant: As in `from_pretrained`: "fp16" for `model.fp16.safetensors`.
        named: `transformers_weights` of the config, which goes before all other names.
        strict: Refuse what transformers would not find: weights of adapters and pipelines, and other names.

    Raises:
        CheckpointError: If there is none, they are pickled or of an unknown layout, or several files could be
            meant and nothing tells which.
        ValueError: If `subfolder` leads out of the model.
    """
    folder = _Folder(store, manifest, inside(subfolder))
    if any(map(_DISTRIBUTED.fullmatch, folder.names())):
        folder.refuse("holds a distributed checkpoint (shard-*-model-*), which must be put together first")
    if named is not None:
        return folder.named(named)
    found = folder.of_stem("model", variant)
    if found is None:
        folder.refuse_pickled("pytorch_model", variant)
        found = None if strict else folder.other(variant)
    return found or folder.refuse_without(variant)


def config_names(store: BlockStore, manifest: Manifest, subfolder: str = "") -> object:
    """The file that a model's config.json names as its weights, as it stands there; None if it names none."""
    return remembered(store, manifest, inside(subfolder, "config.json"), _named)


def remembered(
    store: BlockStore, manifest: Manifest, path: str, what: Callable[[dict[str, Any] | None], _T]
) -> _T:
    """What a function reads out of a JSON file of the model, None if there is none; read once a process."""
    entry = find_file(manifest, path)
    key = (() if entry is None else entry.pieces, f"{what.__module__}.{what.__qualname__}")
    if key not in _known:
        value = what(read_json(store, manifest, path))
        for old in list(_known)[: max(0, len(_known) - _MAX_KNOWN + 1)]:
            _known.pop(old, None)
        _known[key] = value
    return _known[key]  # type: ignore[return-value]


def with_variant(name: str, variant: str | None) -> str:
    """A file's name with a variant before its last ending, as transformers writes it."""
    stem, _, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}.{ending}"


def _named(tree: dict[str, Any] | None) -> object:
    return (tree or {}).get("transformers_weights")


def _shards(tree: dict[str, Any] | None) -> tuple[tuple[str, ...], object] | None:
    """Files that an index names, in the order of their names, and the dtype it tells; None if it is bad."""
    table = (tree or {}).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(path, str) for path in table.values()):
        return None
    metadata = (tree or {}).get("metadata")
    dtype = metadata.get("dtype") if isinstance(metadata, dict) else None
    return tuple(sorted(set(table.values()))), dtype


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of a model, in which weights are looked for."""

    store: BlockStore
    manifest: Manifest
    path: str

    def names(self) -> Iterator[str]:
        """Names of the files that lie in it, not deeper."""
        lead = self.path + "/" if self.path else ""
        for entry in self.manifest.files:
            name = entry.path.removeprefix(lead)
            if entry.path.startswith(lead) and "/" not in name:
                yield name

    def refuse(self, why: str) -> NoReturn:
        """Say why its weights are not loaded."""
        place = f" (folder {self.path!r})" if self.path else ""
        raise CheckpointError(f"{self.manifest.name}{place} {why}")

    def file(self, name: str) -> FileEntry | None:
        """A file in it."""
        return find_file(self.manifest, inside(self.path, name))

    def named(self, name: object) -> Weights:
        """The file that a config names."""
        if not isinstance(name, str) or not name.endswith((SAFETENSORS, INDEX)):
            self.refuse(f"has {str(name)[:80]!r} as transformers_weights in its config: no safetensors file")
        try:
            entry = self.file(name)
        except ValueError:
            self.refuse(f"names weights outside its folder in its config: {name[:80]!r}")
        if entry is None:
            self.refuse(f"has no file {name[:80]!r}, which its config names as its weights")
        return self.indexed(name) if name.endswith(INDEX) else Weights(files=(entry,))

    def of_stem(self, stem: str, variant: str | None) -> Weights | None:
        """One safetensors file, else shards with an index."""
        entry = self.file(with_variant(stem + SAFETENSORS, variant))
        if entry is not None:
            return Weights(files=(entry,))
        index = with_variant(stem + INDEX, variant)
        return None if self.file(index) is None else self.indexed(index)

    def indexed(self, index: str) -> Weights:
        """The shards that an index names."""
        found = remembered(self.store, self.manifest, inside(self.path, index), _shards)
        if found is None:
            self.refuse(f"has an index {index} whose weight_map does not map tensors to files")
        files = []
        for name in found[0]:
            try:
                entry = self.file(name)
            except ValueError:
                entry = None
            if entry is None or not name.endswith(SAFETENSORS):
                self.refuse(f"has no safetensors file {name[:80]!r}, which {index} names")
            files.append(entry)
        return Weights(files=tuple(files), dtype=found[1])

    def refuse_pickled(self, stem: str, variant: str | None) -> None:
        """Refuse if there are pickles, which a loader would take now."""
        for name in (f"{stem}.bin", f"{stem}.bin.index.json"):
            wanted = with_variant(name, variant)
            if self.file(wanted) is not None:
                self.refuse(f"has its weights in {wanted}, a pickle: it must be converted first")

    def other(self, variant: str | None) -> Weights | None:
        """Weights of an adapter or of a part of a pipeline, else the only safetensors file."""
        for stem in _OTHER_STEMS:
            found = self.of_stem(stem, variant)
            if found is not None:
                return found
            self.refuse_pickled(stem, variant)
        files = sorted(name for name in self.names() if name.endswith(SAFETENSORS))
        if variant is not None or not files:
            return None
        if len(files) > 1:
            some = ", ".join(files[:5])
            self.refuse(f"has {len(files)} safetensors files and nothing tells which to load: {some}")
        entry = self.file(files[0])
        return None if entry is None else Weights(files=(entry,))

    def refuse_without(self, variant: str | None) -> NoReturn:
        """Say which files there are instead."""
        wanted = with_variant("model" + SAFETENSORS, variant)
        there = sorted(name for name in self.names() if name.endswith(SAFETENSORS))
        if there:
            self.refuse(f"has no {wanted} and no index of shards, but {', '.join(there[:5])}")
        deeper = [entry.path for entry in self.manifest.files if entry.path.endswith(SAFETENSORS)]
        if deeper:
            folders = sorted(set(map(posixpath.dirname, deeper)))[:5]
            self.refuse(f"has no {wanted}; safetensors files lie in the folders {', '.join(folders)}")
        self.refuse("has no safetensors file; pickles and GGUF files must be converted first")
