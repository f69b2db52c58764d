"""Models under a folder: which folders and files are one, what each is called, and what is of none."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from pbstore.bulk.add import ToAdd
from pbstore.bulk.order import in_order
from pbstore.folders.nesting import is_store
from pbstore.folders.select import ALL, Selection
from pbstore.manifest import check_name

CONFIGS = ("config.json", "adapter_config.json", "params.json", "open_clip_config.json")
"""A folder with weights and one of these is a model, wherever it lies."""
PIPELINES = ("model_index.json", "modules.json")
"""A folder with one of these is a model with all that lies in it."""
PROCESSORS = ("tokenizer_config.json", "tokenizer.json", "preprocessor_config.json")
"""A folder without weights that has one of these is a model, too: a tokenizer has a repository of its own."""
_INDEX = ".index.json"
_WEIGHTS = re.compile(r".*\.(safetensors|gguf|bin|pt|pth|ckpt|onnx|h5|msgpack|npz)")
_LOOSE = re.compile(r".*\.(safetensors|gguf)")
_SHARD = re.compile(
    r".*-\d{5}-of-\d{5}\.[a-z]+|(model|adapter_model|pytorch_model|diffusion_pytorch_model)\.[a-z]+"
)
_HUB_CACHE = re.compile(r"(models|datasets|spaces)--.+")
_LONGEST_NAME = 96
_MOST_FOLDERS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model under a folder."""

    name: str
    """What it is filed as."""
    folder: Path
    files: tuple[str, ...] | None
    """Its files, where others in the folder are none of its; None for the whole folder."""
    apart: frozenset[str] = frozenset()
    """Folders in it that are models of their own."""
    is_adapter: bool = False

    def to_add(self, select: Selection = ALL) -> ToAdd:
        """What adds it; `select` says what is left out besides the models in it."""
        own = replace(select, apart=self.apart, files=self.files)
        return ToAdd(name=self.name, folder=self.folder, select=own)

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return str(self.folder / self.files[0] if self.files else self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies under a folder."""

    models: tuple[FoundModel, ...]
    """Bases that others name first, and adapters behind their bases: see `in_order`."""
    of_none: tuple[str, ...]
    """Files and folders that are of no model, relative to the folder that was looked through."""
    hub_caches: tuple[str, ...]
    """Parts of a Hugging Face cache, which is not looked into."""


@dataclass(slots=True)
class _Search:
    root: Path
    select: Selection
    models: list[tuple[str, Path, tuple[str, ...] | None, frozenset[str], bool]] = field(default_factory=list)
    """Relative path that gives the name, folder, files, folders apart, whether it is an adapter."""
    of_none: list[str] = field(default_factory=list)
    hub_caches: list[str] = field(default_factory=list)
    folders: int = 0


def find_models(root: Path, org: str | None = None, select: Selection = ALL) -> Found:
    """Look a folder through for models.

    A folder is one if it has weights and a configuration, or a tokenizer and no weights, or is all of a
    pipeline; models in it are models of their own. In a folder without a configuration each file of weights
    is one, with those called as it is.

    Args:
        root: Where to look.
        org: First part of all names; the rest is the path below `root`, with `-` for `/`. None: the first
            part of the path. So no name has more than the two parts that clients of the Hub can ask for.
        select: What is left out.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is no such folder.
        ValueError: If there are too many folders, or `org` is no name.
    """
    if not root.is_dir():
        kind = NotADirectoryError if root.exists() else FileNotFoundError
        raise kind(f"expected a folder with models, there is none at {root}")
    search = _Search(root, select)
    _look(search, root, "", ())
    names = _names([path for path, *_ in search.models], root, org)
    models = [
        FoundModel(name=name, folder=folder, files=files, apart=apart, is_adapter=is_adapter)
        for name, (_, folder, files, apart, is_adapter) in zip(names, search.models, strict=True)
    ]
    return Found(
        models=tuple(in_order(models)),
        of_none=tuple(search.of_none),
        hub_caches=tuple(sorted(search.hub_caches)),
    )


def _look(search: _Search, folder: Path, path: str, above: tuple[tuple[int, int], ...]) -> None:
    """Find the models in one folder and below."""
    entries = _entries(search, folder, path, above)
    if entries is None:
        return
    files, folders, here = entries
    if set(files) & set(PIPELINES):
        search.models.append((path, folder, None, frozenset(), False))
        return
    inner = (*above, here)
    if _is_model(files):
        is_adapter = "adapter_config.json" in files
        place = len(search.models)
        search.models.append((path, folder, None, frozenset(), is_adapter))
        apart = frozenset(_apart(search, folder, path, "", folders, inner))
        search.models[place] = (path, folder, None, apart, is_adapter)
        return
    _take_loose(search, folder, path, files)
    for name in folders:
        _look(search, folder / name, _below(path, name), inner)


def _is_model(files: Sequence[str]) -> bool:
    """Whether the files of a folder make one model of it: a tokenizer, or weights not each for themselves."""
    weights = [name for name in files if _WEIGHTS.fullmatch(name)]
    if not weights:
        return bool(set(files) & set(PROCESSORS))
    one = any(_SHARD.fullmatch(name) for name in weights) or any(name.endswith(_INDEX) for name in files)
    return bool(set(files) & set(CONFIGS)) or one or not any(map(_LOOSE.fullmatch, weights))


def _apart(
    search: _Search,
    folder: Path,
    path: str,
    inside: str,
    folders: Sequence[str],
    above: tuple[tuple[int, int], ...],
) -> Iterator[str]:
    """Models inside a model, which are its own: with weights and a configuration of theirs."""
    for name in folders:
        place, below = folder / name, _below(inside, name)
        entries = _entries(search, place, _below(path, name), above)
        if entries is None:
            continue
        files, further, here = entries
        if set(files) & set(CONFIGS) and any(map(_WEIGHTS.fullmatch, files)):
            _look(search, place, _below(path, name), above)
            yield below
        else:
            yield from _apart(search, place, _below(path, name), below, further, (*above, here))


def _take_loose(search: _Search, folder: Path, path: str, files: Sequence[str]) -> None:
    """Each file of weights with the files that are called as it is; the others are of no model."""
    stems = [name.rpartition(".")[0] for name in files if _LOOSE.fullmatch(name)]
    groups: dict[str, list[str]] = {stem: [] for stem in stems}
    for name in files:
        owners = [stem for stem in stems if name.startswith(f"{stem}.")]
        if owners:
            groups[max(owners, key=len)].append(name)
        else:
            search.of_none.append(_below(path, name))
    for stem, own in groups.items():
        own.sort(key=lambda name: not _LOOSE.fullmatch(name))
        search.models.append((_below(path, stem), folder, tuple(own), frozenset(), False))


def _entries(
    search: _Search, folder: Path, path: str, above: tuple[tuple[int, int], ...]
) -> tuple[list[str], list[str], tuple[int, int]] | None:
    """Names of files and of folders; None of what is not looked into."""
    search.folders += 1
    if search.folders > _MOST_FOLDERS:
        raise ValueError(f"more than {_MOST_FOLDERS} folders under {search.root}")
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above or is_store(folder):
        search.of_none.append(f"{path}/")
        return None
    files, folders = [], []
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if search.select.leaves_out(_below(path, entry.name)):
            continue
        if _HUB_CACHE.fullmatch(entry.name) and entry.is_dir():
            search.hub_caches.append(_below(path, entry.name))
        elif entry.is_dir():
            folders.append(entry.name)
        else:
            files.append(entry.name)
    return files, folders, here


def _names(paths: Sequence[str], root: Path, org: str | None) -> list[str]:
    """A name for each path, all different: what no name may have becomes `-`, what is taken gets a hash."""
    taken: set[str] = set()
    names = []
    for path in paths:
        parts = [_name_part(part) for part in (path or root.resolve().name).split("/")]
        first = [*parts[: len(parts) > 1]] if org is None else [check_name(org)]
        rest = parts[len(first) :] if org is None else parts
        name = "/".join([*first, _name_part("-".join(rest))])
        if name in taken:
            name = f"{name[: _LONGEST_NAME - 9]}-{blake3(path.encode('utf-8', 'surrogatepass')).hexdigest(4)}"
        taken.add(name)
        names.append(check_name(name))
    return names


def _name_part(text: str) -> str:
    part = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", text)).strip("-.")
    return (part or "model")[:_LONGEST_NAME]


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
