"""Pickles to safetensors, on explicit request only, and only what torch's weights-only loader accepts."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pbstore.checkpoint.pickles import ENDINGS, is_pickle_name, read_pickle
from pbstore.errors import CheckpointError
from pbstore.folders.nesting import OwnStore
from pbstore.folders.source import Source, check_unchanged, list_source

if TYPE_CHECKING:
    import torch

_INDEX = re.compile(r"(?P<stem>.+)\.bin\.index(?P<variant>\.[^./]+)?\.json")
_LOADED = re.compile(r"(pytorch_model|adapter_model|diffusion_pytorch_model)[^/]*\.bin")
"""Files that transformers, peft and diffusers load: weights, or an error."""
_USUAL, _OURS = "pytorch_model", "model"
_MAX_INDEX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertReport:
    """What a conversion wrote.

    Attributes:
        folder: Where it wrote.
        converted: Pickle files, indexes of shards, and the files made of them.
        copied: Files that were copied as they are.
        kept: Those of them that are called as pickles of weights are, and why they are none, or are refused.
        left_out: Of converted files, and why: what they hold beside tensors by name.
    """

    folder: str
    converted: dict[str, str]
    copied: tuple[str, ...]
    kept: dict[str, str]
    left_out: dict[str, str]


def convert_folder(
    source: Path, target: Path, *, own: OwnStore | None = None, link: bool = False
) -> ConvertReport:
    """Copy a checkpoint's folder, with its weight pickles turned into safetensors files.

    No file of the folder is ever written over: where the usual name is taken, a pickle gets another one. All
    names of a tied tensor are kept. A pickle that holds no weights is copied as it is.

    Args:
        source: The folder; not changed.
        target: A folder that does not exist yet or is empty.
        own: A store that is left out where it lies in the folder.
        link: Link to what is not converted instead of copying it.

    Raises:
        CheckpointError: If a file that loaders load holds anything but tensors (nothing in it is run), or no
            file can be converted. The target is then removed.
        BadFileError, SourceChangedError: If something in the folder cannot be read, or changes meanwhile.
        FileExistsError: If the target has files.
        ValueError: If the target lies in the source.
    """
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"expected an empty folder, got {target}")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"expected a folder outside of {source}, got {target}")
    found = list_source(source, own)
    target.mkdir(parents=True, exist_ok=True)
    try:
        report = _Conversion(source, target, found, link).run()
        check_unchanged(source, own, found)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return report


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, each under all of its names.

    Raises:
        CheckpointError: If one is of a kind that such a file cannot hold.
    """
    import torch
    from safetensors.torch import save_file

    out: dict[str, torch.Tensor] = {}
    written: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise CheckpointError(
                f"{name[:80]!r} is sparse, quantised or without data, which safetensors cannot hold"
            )
        storage = tensor.untyped_storage()
        part = storage.nbytes() != tensor.numel() * tensor.element_size()
        again = storage.data_ptr() in written
        written.add(storage.data_ptr())
        out[name] = (
            tensor.clone(memory_format=torch.contiguous_format) if part or again else tensor.contiguous()
        )
    try:
        save_file(out, path, metadata={"format": "pt"})
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"safetensors cannot hold it: {' '.join(str(error).split())[:200]}") from error


@dataclass(slots=True)
class _Conversion:
    """Running state of converting one folder."""

    source: Path
    target: Path
    found: Source
    link: bool
    converted: dict[str, str] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tensors of each converted file."""
    copied: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def run(self) -> ConvertReport:
        """Convert what are weights, then the indexes of their shards, and take over all else."""
        paths = [file.path for file in self.found.files]
        targets = _target_names(paths, self.found.folders)
        for path in self.found.folders:
            (self.target / path).mkdir(parents=True, exist_ok=True)
        for path in sorted(paths, key=lambda path: (path not in targets, not is_pickle_name(path))):
            convert = self.convert if is_pickle_name(path) else self.convert_index
            if path not in targets or not convert(path, targets[path]):
                self.take_over(path)
        if not self.names:
            why = next(iter(self.kept.items()), None)
            reason = f": {why[0]} is kept, {why[1]}" if why else ""
            raise CheckpointError(f"{self.source} has no weight pickles to convert{reason}")
        self.left_out |= dict.fromkeys(self.found.skipped, "the store itself")
        return ConvertReport(
            folder=str(self.target),
            converted=self.converted,
            copied=tuple(sorted(self.copied)),
            kept=self.kept,
            left_out=self.left_out,
        )

    def convert(self, path: str, new: str) -> bool:
        """Convert a pickle; False, with the reason noted, if it has to stay as it is."""
        try:
            weights = read_pickle(self.source / path)
            write_safetensors(weights.tensors, self.target / new)
        except CheckpointError as error:
            name = PurePosixPath(path).name
            reason = str(error).removeprefix(f"{name}: ")
            if _LOADED.fullmatch(name):
                raise type(error)(f"{path}: {reason}") from error
            self.kept[path] = reason
            (self.target / new).unlink(missing_ok=True)
            return False
        self.converted[path] = new
        self.names[path] = tuple(weights.tensors)
        if weights.left_out:
            self.left_out[path] = _listed(weights.left_out)
        return True

    def convert_index(self, path: str, new: str) -> bool:
        """Convert the index of shards; False if none of these is there, as of a model without its pickles."""
        tree, shards = _read_index(self.source / path)
        parent = PurePosixPath(path).parent
        places = {shard: str(parent / shard) for shard in shards}
        missing = [shard for shard, place in places.items() if place not in self.converted]
        if len(missing) == len(shards):
            return False
        if missing:
            raise CheckpointError(f"{path} names {missing[0][:80]!r}, which is not there")
        tree["weight_map"] = {
            name: os.path.relpath(self.converted[place], str(parent))
            for place in places.values()
            for name in self.names[place]
        }
        (self.target / new).write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n")
        self.converted[path] = new
        return True

    def take_over(self, path: str) -> None:
        """Copy a file, or link to it."""
        place, to = self.source / path, self.target / path
        if self.link:
            to.symlink_to(place.resolve())
        else:
            shutil.copy(place, to)  # with its mode
        self.copied.append(path)


def _target_names(paths: Sequence[str], folders: Mapping[str, object]) -> dict[str, str]:
    """A name that no other file has, for each pickle and each index of shards."""
    taken = {*paths, *folders}
    found: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: (not _is_loaded(path), path)):
        if is_pickle_name(path) or _INDEX.fullmatch(PurePosixPath(path).name):
            found[path] = next(name for name in _candidates(path, paths) if name not in taken)
            taken.add(found[path])
    return found


def _candidates(path: str, paths: Sequence[str]) -> Iterator[str]:
    """Names for what is made of a file, the usual one first."""
    parent, name = PurePosixPath(path).parent, PurePosixPath(path).name
    index = _INDEX.fullmatch(name)
    ending = f".safetensors.index{index['variant'] or ''}.json" if index else ".safetensors"
    stem = index["stem"] if index else _without_ending(name)
    if stem.startswith(_USUAL) and not _has_own(parent, paths):
        yield str(parent / (_OURS + stem.removeprefix(_USUAL) + ending))
    yield str(parent / (stem + ending))
    yield str(parent / (name + ending))
    number = 2
    while True:
        yield str(parent / f"{name}-{number}{ending}")
        number += 1


def _has_own(folder: PurePosixPath, paths: Sequence[str]) -> bool:
    """Whether a folder has a safetensors model of its author, which another one must not be mixed with."""
    mine = (PurePosixPath(path) for path in paths)
    return any(
        path.parent == folder and path.name.startswith(_OURS) and ".safetensors" in path.name for path in mine
    )


def _without_ending(name: str) -> str:
    ending = max((ending for ending in ENDINGS if name.endswith(ending)), key=len)
    return name.removesuffix(ending)


def _is_loaded(path: str) -> bool:
    return _LOADED.fullmatch(PurePosixPath(path).name) is not None


def _read_index(path: Path) -> tuple[dict[str, Any], list[str]]:
    """An index of shards, and the files that it names."""
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError
        tree: dict[str, Any] = json.loads(path.read_bytes())
        shards = list(dict.fromkeys(tree["weight_map"].values()))
        if not all(isinstance(shard, str) for shard in shards):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: no valid index of shards") from error
    return tree, shards


def _listed(names: Sequence[str]) -> str:
    counted = Counter(name.partition(".")[0] for name in names)
    shown = [name if count == 1 else f"{name} ({count})" for name, count in list(counted.items())[:8]]
    return ", ".join(shown) + (f" and {len(counted) - 8} more" if len(counted) > 8 else "")
