"""What a model is by its weights: one hash for all that may hold weights, whatever it is called.

Tensors of safetensors files go in by name, dtype and blocks, so that sharding changes nothing. Other files
that may hold weights (pickles, GGUF, what could not be parsed) go in by path and sha256; a model without any
weights goes in with all of its files. So no two models with other weights have one hash, and none has none.

Earlier versions left out what was not parsed: a model of pickles had no hash at all, one of GGUF files an
incomplete one. Such a hash says nothing, so hashes are made anew where models are bound and looked for.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import PurePosixPath
from typing import NamedTuple

from blake3 import blake3

from pbstore.errors import BadFileError
from pbstore.hashing import BlockId, Buffer, hash_block
from pbstore.manifest import FileEntry, Manifest
from pbstore.spec import TensorSpec
from pbstore.tensors import ReadBlock, StoredTensor, header_of, tensors_of, with_parts

SAFETENSORS = ".safetensors"
_COMPANIONS = frozenset(
    [
        ".bpe",
        ".csv",
        ".gif",
        ".gitattributes",
        ".gitignore",
        ".html",
        ".jinja",
        ".jpeg",
        ".jpg",
        ".js",
        ".json",
        ".jsonl",
        ".lock",
        ".log",
        ".md",
        ".png",
        ".py",
        ".spm",
        ".svg",
        ".tiktoken",
        ".toml",
        ".tsv",
        ".txt",
        ".vocab",
        ".webp",
        ".yaml",
        ".yml",
    ]
)
_COMPANION_NAMES = frozenset((".gitattributes", ".gitignore", "LICENSE", "NOTICE", "README"))
_TOKENIZERS = ("tokenizer", "spiece", "sentencepiece")
TRAINING_STATES = ("events.out.tfevents", "optimizer", "rng_state", "scaler", "scheduler", "training_args")
"""How files begin that a trainer leaves beside the weights and no model is loaded from."""


class TensorLine(NamedTuple):
    """A tensor of a safetensors file, as it goes into the hash."""

    path: str
    name: str
    dtype: str
    trailing: str
    """Shape without its first axis, of the first block's rows where there are several."""
    ids: list[BlockId]
    """Of its blocks; of a member of a group, what its bytes hash to: it counts as with a block of its own."""
    pieces: int | None = None
    """Pieces of the file that it is the first tensor of; None for as many as ids."""

    @property
    def said(self) -> tuple[str, str, str, list[BlockId]]:
        """What goes into the hash."""
        return self[1], self[2], self[3], self[4]

    @property
    def num_pieces(self) -> int:
        """Pieces of the file that it adds to those of the tensors before."""
        return len(self.ids) if self.pieces is None else self.pieces


def may_hold_weights(path: str) -> bool:
    """Whether a file counts when models are told apart: by its name no text, picture or tokenizer."""
    file = PurePosixPath(path)
    is_tokenizer = file.suffix == ".model" and file.name.startswith(_TOKENIZERS)
    is_state = file.name.startswith(TRAINING_STATES)
    return not (file.suffix in _COMPANIONS or file.name in _COMPANION_NAMES or is_tokenizer or is_state)


def weights_hash(tensors: Iterable[TensorLine], files: Iterable[FileEntry]) -> str:
    """Hash of a model's weights, 64 hex digits; empty without files.

    Args:
        tensors: Those of its safetensors files.
        files: All of its files.
    """
    entries, by_path = list(files), _by_path(tensors)
    whole = {entry.path for entry in entries if _is_whole(entry, by_path.get(entry.path, []))}
    others = [entry for entry in entries if entry.path not in whole and may_hold_weights(entry.path)]
    lines = sorted(line.said for path in whole for line in by_path[path])
    if not lines and not others:
        others = entries
    return _digest(lines, others) if lines or others else ""


def identities(manifest: Manifest, read: ReadBlock) -> tuple[str, ...]:
    """The hashes by which a stored model may be known, from its manifest and headers; the full one first.

    The second one is that of its safetensors tensors alone, if it has any: it is what earlier versions
    stored, and what a model is loaded from where there are both.

    Raises:
        IntegrityError: If a header is damaged or lost.
    """
    lines = list(_lines(manifest, read))
    found = (weights_hash(lines, manifest.files), tensors_hash(lines))
    return tuple(dict.fromkeys(value for value in found if value))


def is_all_parsed(manifest: Manifest) -> bool:
    """Whether safetensors files alone may hold weights: what earlier versions stored is then complete."""
    return all(e.path.endswith(SAFETENSORS) for e in manifest.files if may_hold_weights(e.path))


def tensors_hash(tensors: Iterable[TensorLine]) -> str:
    """Hash of tensors alone; empty if there are none."""
    lines = sorted(line.said for line in tensors)
    return _digest(lines, ()) if lines else ""


def _digest(lines: Iterable[tuple[str, str, str, list[BlockId]]], files: Iterable[FileEntry]) -> str:
    digest = blake3()
    for name, dtype, trailing, ids in lines:
        digest.update("\0".join([name, dtype, trailing, *ids, ""]).encode("utf-8", "surrogatepass") + b"\n")
    for entry in sorted(files, key=attrgetter("path")):
        digest.update("\0".join(["\0file", entry.path, entry.sha256, ""]).encode() + b"\n")
    return digest.hexdigest()


def _by_path(tensors: Iterable[TensorLine]) -> dict[str, list[TensorLine]]:
    found: dict[str, list[TensorLine]] = {}
    for line in tensors:
        found.setdefault(line.path, []).append(line)
    return found


def _is_whole(entry: FileEntry, lines: list[TensorLine]) -> bool:
    """Whether a file is nothing but a header and these tensors."""
    return bool(lines) and len(entry.pieces) == 1 + sum(line.num_pieces for line in lines)


def _lines(manifest: Manifest, read: ReadBlock) -> Iterator[TensorLine]:
    for entry in manifest.files:
        if entry.path.endswith(SAFETENSORS):
            with suppress(BadFileError):  # then it goes in as a file
                tensors = list(tensors_of(entry, header_of(entry, read)))
                yield from [_line(one, part) for one, part in with_parts(tensors, read) if one.pieces]


def _line(tensor: StoredTensor, part: Buffer | None) -> TensorLine:
    """As `ingest` makes it while it cuts: a tensor of several blocks counts by the rows in its first one."""
    if part is not None:
        pieces = int(tensor.offset == 0)
        return tensor_line(tensor.path, tensor.name, tensor.spec, [hash_block(part)], pieces)
    spec: TensorSpec | None = tensor.spec
    if len(tensor.pieces) > 1:
        spec = rows_of(tensor.spec, tensor.pieces[0].raw_bytes)
    ids = [piece.block_id for piece in tensor.pieces]
    return tensor_line(tensor.path, tensor.name, spec, ids)


def tensor_line(
    path: str, name: str, spec: TensorSpec | None, ids: list[BlockId], pieces: int | None = None
) -> TensorLine:
    """A tensor's line, from dtype and shape of its first block, None where that has no whole elements."""
    dtype, trailing = ("", "") if spec is None else (spec.dtype, str(spec.shape[1:]))
    return TensorLine(path, name, dtype, trailing, ids, pieces)


def rows_of(spec: TensorSpec, num_bytes: int) -> TensorSpec | None:
    """Dtype and shape of a tensor's first bytes: rows where one fits, else elements; None if cut."""
    item = spec.item_bytes
    unit = row if (row := spec.row_bytes or item) <= num_bytes else item
    shape = (num_bytes // unit, unit // item) if unit > item else (num_bytes // item,)
    rows = TensorSpec(spec.dtype, shape)
    return rows if rows.num_bytes == num_bytes else None
