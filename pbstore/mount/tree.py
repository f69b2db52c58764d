"""What a mounted store shows, whatever mounts it: folders, files, and ranges of these, each block checked.

`ORG/MODEL/...` is as the store has it now; `ORG/MODEL@REVISION/...` is found where it is asked for.
A file that is open stays what it was when it was opened.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import accumulate

from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import ModelMissingError
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry, Manifest

CACHE_BYTES = 256 << 20
"""Checked blocks that are held, bytes: a reader comes back for the next part of the one it had."""
MOST_MODELS = 256
"""Models whose files are remembered."""


@dataclass(frozen=True, slots=True)
class Node:
    """A folder or a file."""

    is_folder: bool
    size_bytes: int = 0
    executable: bool = False
    changed_at: float = 0.0
    """When its model was added, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of one revision of a model."""

    entry: FileEntry
    starts: tuple[int, ...]
    """Where each of its pieces starts, bytes."""


@dataclass(slots=True)
class _Model:
    """A model's files by the parts of their paths."""

    row: ModelRow
    manifest: Manifest
    folders: dict[str, set[str]] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folders[""] = set()
        for entry in self.manifest.files:
            self.files[entry.path] = entry
            self._list(entry.path)
        for folder in self.manifest.empty_folders:
            self.folders.setdefault(folder, set())
            self._list(folder)

    def _list(self, path: str) -> None:
        while path:
            parent, _, name = path.rpartition("/")
            self.folders.setdefault(parent, set()).add(name)
            path = parent


class StoreTree:
    """The files of all models of a store; safe to use from several threads.

    Args:
        models: The store.
        cache_bytes: Most bytes of checked blocks that are held.
    """

    def __init__(self, models: Models, cache_bytes: int = CACHE_BYTES) -> None:
        self._models, self._blocks = models, _Blocks(models, cache_bytes)
        self._known: OrderedDict[tuple[str, str], _Model] = OrderedDict()
        self._mutex = threading.Lock()

    def look(self, path: str) -> Node:
        """What is at a path, with single slashes and none at its ends; empty for the root.

        Raises:
            FileNotFoundError: If nothing is.
            IntegrityError: If the model's manifest is lost or damaged.
        """
        found = self._find(path)
        if found is None:
            if path and not self._names_under(path):
                raise FileNotFoundError(path)
            return Node(is_folder=True)
        model, rest = found
        if rest in model.folders:
            return Node(is_folder=True, changed_at=model.row.added_at)
        entry = self._entry(model, rest, path)
        return Node(
            is_folder=False,
            size_bytes=entry.size_bytes,
            executable=entry.executable,
            changed_at=model.row.added_at,
        )

    def listed(self, path: str) -> list[str]:
        """Names in a folder, sorted.

        Raises:
            FileNotFoundError: If there is no such folder.
            NotADirectoryError: If it is a file.
        """
        names, found = self._names_under(path), self._find(path)
        if found is not None:
            model, rest = found
            if rest in model.folders:
                names |= model.folders[rest]
            elif rest in model.files:
                raise NotADirectoryError(path)
        if not names and path and (found is None or found[1] not in found[0].folders):
            raise FileNotFoundError(path)
        return sorted(names)

    def open(self, path: str) -> OpenFile:
        """Open a file for reading.

        Raises:
            FileNotFoundError: If there is none.
            IsADirectoryError: If it is a folder.
        """
        if self.look(path).is_folder:
            raise IsADirectoryError(path)
        found = self._find(path)
        if found is None:  # its model went meanwhile
            raise FileNotFoundError(path)
        entry = self._entry(*found, path)
        ends = accumulate(piece.raw_bytes for piece in entry.pieces)
        return OpenFile(entry, (0, *ends))

    def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """A part of a file, shorter at its end; each block that it touches is checked against its hash.

        Raises:
            BlockMissingError: If the model was removed and collected since it was opened.
            BlockCorruptError: If the store's bytes are damaged.
        """
        end = min(offset + size, file.entry.size_bytes)
        parts = []
        place = bisect_right(file.starts, offset) - 1
        while offset < end and place < len(file.entry.pieces):
            start, stop = file.starts[place], min(end, file.starts[place + 1])
            if stop > offset:
                raw = self._blocks.get(file.entry.pieces[place].block_id)
                parts.append(bytes(memoryview(raw)[offset - start : stop - start]))
                offset = stop
            place += 1
        return b"".join(parts)

    def _entry(self, model: _Model, rest: str, path: str) -> FileEntry:
        if rest not in model.files:
            raise FileNotFoundError(path)
        return model.files[rest]

    def _find(self, path: str) -> tuple[_Model, str] | None:
        """The model that a path lies in, and the rest of the path; the longest name that is one."""
        parts = path.split("/") if path else []
        for count in range(len(parts), 0, -1):
            try:
                row = self._models.model_row("/".join(parts[:count]))
            except ModelMissingError:
                continue
            return self._model(row), "/".join(parts[count:])
        return None

    def _model(self, row: ModelRow) -> _Model:
        key = (row.name, row.manifest_hash)
        with self._mutex:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        model = _Model(row, self._models.manifest_of(row))
        with self._mutex:
            self._known[key] = model
            while len(self._known) > MOST_MODELS:
                self._known.popitem(last=False)
        return model

    def _names_under(self, path: str) -> set[str]:
        """The next parts of the names of models that begin with a path."""
        start = f"{path}/" if path else ""
        names = self._models.models()
        return {name[len(start) :].partition("/")[0] for name in names if name.startswith(start)}


class _Blocks:
    """Checked raw bytes of the blocks that were used last."""

    def __init__(self, models: Models, most_bytes: int) -> None:
        self._models, self._most = models, most_bytes
        self._held: OrderedDict[BlockId, Buffer] = OrderedDict()
        self._held_bytes = 0
        self._mutex = threading.Lock()

    def get(self, block_id: BlockId) -> Buffer:
        """The bytes of a block."""
        with self._mutex:
            if block_id in self._held:
                self._held.move_to_end(block_id)
                return self._held[block_id]
        raw = self._models.get(block_id)
        with self._mutex:
            if block_id not in self._held:
                self._held[block_id] = raw
                self._held_bytes += len(raw)
            while self._held_bytes > self._most and len(self._held) > 1:
                self._held_bytes -= len(self._held.popitem(last=False)[1])
        return raw
