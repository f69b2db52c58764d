"""A model's files as ordered block ids, and their canonical JSON.

The same manifest always gives the same bytes: sorted keys, no white space, UTF-8. Names of tensors are not
kept here: they stand in the safetensors header, which is a block itself. What few models have (files that may
be run, empty folders) stands in it only where it is so: manifests without it stay as they were.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pbstore.blocks import MAX_BLOCK_BYTES
from pbstore.errors import ManifestError
from pbstore.hashing import BlockId, as_block_id

FORMAT = "pbstore-manifest"
VERSION = 1
MAX_MANIFEST_BYTES = 256 << 20

_NAME_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_BAD_CHARACTER = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Piece(NamedTuple):
    """A block inside a file."""

    block_id: BlockId
    raw_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a model: the pieces in order are its bytes."""

    path: str
    """Relative, with forward slashes, inside the model's folder."""
    size_bytes: int
    sha256: str
    """Of the source file when it was added, 64 hex digits."""
    pieces: tuple[Piece, ...]
    executable: bool = False
    """Whether its owner may run it."""

    def __post_init__(self) -> None:
        check_path(self.path)
        if not _SHA256.fullmatch(self.sha256):
            raise ManifestError(self.path, f"sha256 must be 64 hex digits, got {self.sha256[:80]!r}")
        total = sum(piece.raw_bytes for piece in self.pieces)
        if total != self.size_bytes:
            raise ManifestError(self.path, f"blocks add up to {total} bytes, expected {self.size_bytes}")

    def __hash__(self) -> int:  # equal entries have equal ones; without a walk through all pieces
        return hash((self.path, self.sha256))


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLink:
    """The model that this one was made from: its name for people, its content for the machine."""

    name: str
    weights: str
    """`Manifest.weights` of the base, 64 hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A model: its files in order, and the base that it is bound to, if any."""

    name: str
    files: tuple[FileEntry, ...]
    weights: str = ""
    """Hash of all weights, see `pbstore.weights`; earlier versions wrote empty and incomplete ones."""
    base: BaseLink | None = None
    meta: dict[str, str] = field(default_factory=dict)
    empty_folders: tuple[str, ...] = ()
    """Folders without files, as `FileEntry.path`."""

    def __post_init__(self) -> None:
        check_name(self.name)
        files = [entry.path for entry in self.files]
        paths = [*files, *map(check_path, self.empty_folders)]
        if len(set(paths)) != len(paths):
            raise ManifestError(self.name, "a path stands in it twice")
        folders = {parent for path in paths for parent in _parents(path)}
        if clash := folders & set(files):
            raise ManifestError(self.name, f"{min(clash)!r} is a file and a folder")

    def __repr__(self) -> str:
        base = "" if self.base is None else f", base {self.base.name!r}"
        sizes = f"{len(self.files)} files, {len(self.block_ids())} blocks, {self.raw_bytes / 1e6:.1f} MB"
        return f"Manifest({self.name!r}, {sizes}{base})"

    @property
    def raw_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.files)

    def pieces(self) -> Iterator[Piece]:
        """All pieces, in the order of files and bytes."""
        for entry in self.files:
            yield from entry.pieces

    def block_ids(self) -> tuple[BlockId, ...]:
        """Distinct ids in the order of first use."""
        return tuple(dict.fromkeys(piece.block_id for piece in self.pieces()))

    def to_json(self) -> str:
        """Canonical JSON."""
        tree: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "weights": self.weights,
            "files": [_file_tree(entry) for entry in self.files],
            "meta": self.meta,
        }
        if self.empty_folders:
            tree["folders"] = list(self.empty_folders)
        if self.base is not None:
            tree["base"] = {"name": self.base.name, "weights": self.base.weights}
        return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read and check a manifest; nothing in it is trusted.

        Raises:
            ManifestError: If it is no JSON, of an unknown version, or breaks a rule.
        """
        tree = _load(text)
        try:
            return _from_tree(tree)
        except ManifestError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestError("manifest", f"bad or missing field: {error}") from None


def check_name(name: object) -> str:
    """Check a model's name: `MODEL` or `ORG/MODEL` and deeper, of letters, digits, `.`, `_` and `-`.

    Raises:
        ValueError: If it is anything else.
    """
    parts = name.split("/") if isinstance(name, str) else []
    good = 1 <= len(parts) <= 8 and all(_NAME_PART.fullmatch(part) and ".." not in part for part in parts)
    if not isinstance(name, str) or not good:
        raise ManifestError(
            "model name", f"expected ORG/MODEL of letters, digits, . _ -, got {str(name)[:80]!r}"
        )
    return name


def check_path(path: object) -> str:
    """Check that a path stays inside the folder it is joined to.

    Raises:
        ManifestError: If it is absolute, empty, too long, or has an empty, `.` or `..` part, a backslash or a
            control character.
    """
    if not isinstance(path, str) or not path or len(path.encode("utf-8", "surrogatepass")) > 1024:
        raise ManifestError("manifest", f"a path must be a text of 1..1024 bytes, got {str(path)[:80]!r}")
    bad_part = any(part in ("", ".", "..") or len(part) > 255 for part in path.split("/"))
    if bad_part or _BAD_CHARACTER.search(path):
        raise ManifestError("manifest", f"path leaves its folder or has bad characters: {path[:80]!r}")
    return path


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _file_tree(entry: FileEntry) -> dict[str, Any]:
    extra = {"executable": True} if entry.executable else {}
    return extra | {
        "path": entry.path,
        "bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "blocks": [[piece.block_id, piece.raw_bytes] for piece in entry.pieces],
    }


def _load(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestError("manifest", f"expected at most {MAX_MANIFEST_BYTES} bytes, got {len(text)}")
    try:
        tree = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ManifestError("manifest", f"not JSON: {str(error)[:120]}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ManifestError("manifest", f"expected an object of format {FORMAT}")
    if tree.get("version") != VERSION:
        raise ManifestError("manifest", f"expected version {VERSION}, got {str(tree.get('version'))[:20]}")
    return tree


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key stands in an object twice")
    return tree


def _from_tree(tree: dict[str, Any]) -> Manifest:
    base = None
    if (link := tree.get("base")) is not None:
        base = BaseLink(name=check_name(link["name"]), weights=_hash_or_empty(link["weights"]))
    meta = tree.get("meta", {})
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in meta.items()):
        raise ManifestError("manifest", "meta must map texts to texts")
    return Manifest(
        name=check_name(tree["name"]),
        files=tuple(_file_entry(item) for item in _list(tree["files"])),
        weights=_hash_or_empty(tree.get("weights", "")),
        base=base,
        meta=dict(meta),
        empty_folders=tuple(_list(tree.get("folders", []))),
    )


def _file_entry(item: dict[str, Any]) -> FileEntry:
    blocks = _list(item["blocks"])
    executable = item.get("executable", False)
    if not isinstance(executable, bool):
        raise ManifestError("manifest", f"executable must be true or false, got {str(executable)[:40]!r}")
    return FileEntry(
        executable=executable,
        path=item["path"],
        size_bytes=_size(item["bytes"]),
        sha256=str(item["sha256"]),
        pieces=tuple(Piece(as_block_id(block), _size(size, MAX_BLOCK_BYTES)) for block, size in blocks),
    )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ManifestError("manifest", f"expected a list, got {type(value).__name__}")
    return value


def _size(value: object, limit: int = 1 << 62) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ManifestError("manifest", f"expected a size of 0..{limit} bytes, got {str(value)[:40]!r}")
    return value


def _hash_or_empty(value: object) -> str:
    return "" if value == "" else str(as_block_id(value))
