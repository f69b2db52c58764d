"""Adapters in the index: which pair of low-rank factors may have been merged into a new weight."""

import json
import math
import sqlite3
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry, Manifest
from pbstore.tensors import ReadBlock, StoredTensor

CONFIG = "adapter_config.json"
_TAIL_PARTS = 3
_LONGEST_LIST = 64
_ID_BYTES = 32
_PLACE = struct.Struct("<QI")
MAX_PAIRS = 4
"""Pairs tried per weight."""


class Factor(NamedTuple):
    """A factor's place: a block, or some bytes of one that is a group."""

    block_id: BlockId
    offset: int = 0
    rank: int = 0
    """0 if the factor has a block of its own, whose shape is known."""

    @classmethod
    def of(cls, tensor: StoredTensor, rank: int) -> "Factor":
        """Where a tensor with some rank lies."""
        block_id = tensor.pieces[0].block_id
        return cls(block_id, tensor.offset, rank) if tensor.is_part else cls(block_id)

    @classmethod
    def from_key(cls, key: bytes) -> "Factor":
        """As `key` gives it."""
        has_place = len(key) == _ID_BYTES + _PLACE.size
        place = _PLACE.unpack(key[_ID_BYTES:]) if has_place else (0, 0)
        return cls(BlockId(key[:_ID_BYTES].hex()), *place)

    @property
    def key(self) -> bytes:
        """How it stands in the index."""
        return bytes.fromhex(self.block_id) + (_PLACE.pack(self.offset, self.rank) if self.rank else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The factors of one weight's update: weight + scale * (up @ down)."""

    module: str
    down: Factor
    up: Factor
    scale: float


def pairs_of(manifest: Manifest, tensors: Iterable[StoredTensor], read: ReadBlock) -> list[Pair]:
    """Pairs of factors of the LoRA adapters in a model's folder, in PEFT's form."""
    configs = {str(PurePosixPath(entry.path).parent): entry for entry in adapter_configs(manifest)}
    scales = {folder: _read_scale(entry, read) for folder, entry in configs.items()}
    halves: dict[tuple[str, str, str], StoredTensor] = {}
    for tensor in tensors:
        folder = str(PurePosixPath(tensor.path).parent)
        for half in ("lora_A", "lora_B"):
            module, found, _ = tensor.name.partition(f".{half}.")
            if found and len(tensor.pieces) == 1 and len(tensor.spec.shape) == 2:
                halves[folder, module, half] = tensor
    return [
        Pair(
            module=module,
            down=Factor.of(down, down.spec.shape[0]),
            up=Factor.of(halves[folder, module, "lora_B"], down.spec.shape[0]),
            scale=scale.of(module, down.spec.shape[0]),
        )
        for (folder, module, half), down in halves.items()
        if half == "lora_A" and (folder, module, "lora_B") in halves and (scale := scales.get(folder))
    ]


def adapter_configs(manifest: Manifest) -> list[FileEntry]:
    """The files of a model that describe an adapter."""
    return [entry for entry in manifest.files if PurePosixPath(entry.path).name == CONFIG]


def named_base(folder: Path) -> str | None:
    """The base that an adapter's folder names in its configuration, None if there is none."""
    path = folder / CONFIG
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return None
        name = json.loads(path.read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def note_pairs(connection: sqlite3.Connection, model: str, pairs: list[Pair]) -> list[BlockId]:
    """Remember a model's pairs; returns the factors of older ones that are let go: none looks so far back."""
    rows = [(model, p.module, _tail(p.module), p.down.key, p.up.key, p.scale) for p in pairs]
    connection.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?, ?)", rows)
    old: dict[bytes, None] = {}
    for tail in sorted({row[2] for row in rows}):
        older = (
            "FROM pairs WHERE tail = ? AND rowid <= (SELECT rowid FROM pairs WHERE tail = ?"
            " ORDER BY rowid DESC LIMIT 1 OFFSET ?)"
        )
        for factors in connection.execute(f"SELECT down, up {older}", (tail, tail, _LONGEST_LIST)).fetchall():
            old.update(dict.fromkeys(factors))
        connection.execute(f"DELETE {older}", (tail, tail, _LONGEST_LIST))
    return list(dict.fromkeys(Factor.from_key(key).block_id for key in old))


def forget_pairs(connection: sqlite3.Connection, model: str) -> None:
    """Forget a model's pairs."""
    connection.execute("DELETE FROM pairs WHERE model = ?", (model,))


def find_pairs(connection: sqlite3.Connection, tensor_name: str) -> list[Pair]:
    """Pairs whose module is called as a weight is, whatever prefixes both have; the newest first."""
    module = tensor_name.removesuffix(".weight")
    if module == tensor_name:
        return []
    rows = connection.execute(
        "SELECT DISTINCT module, down, up, scale FROM pairs WHERE tail = ? ORDER BY rowid DESC LIMIT ?",
        (_tail(module), _LONGEST_LIST),
    ).fetchall()
    found = [
        Pair(module=name, down=Factor.from_key(down), up=Factor.from_key(up), scale=scale)
        for name, down, up, scale in rows
        if f".{name}".endswith(f".{module}") or f".{module}".endswith(f".{_bare(name)}")
    ]
    return found[:MAX_PAIRS]


def _tail(module: str) -> str:
    return ".".join(module.split(".")[-_TAIL_PARTS:])


def _bare(module: str) -> str:
    return module.removeprefix("base_model.model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """How PEFT scales the update of a module: alpha / rank, or alpha / sqrt(rank)."""

    alpha: float
    special: dict[str, float]
    rooted: bool

    def of(self, module: str, rank: int) -> float:
        """Scale of one module."""
        alpha = next((value for key, value in self.special.items() if module.endswith(key)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rooted else max(rank, 1))


def _read_scale(entry: FileEntry, read: ReadBlock) -> _Scale | None:
    if entry.size_bytes > 1 << 20:
        return None
    try:
        config = json.loads(b"".join(bytes(read(piece.block_id)) for piece in entry.pieces))
        special = {str(key): float(value) for key, value in (config.get("alpha_pattern") or {}).items()}
        return _Scale(
            alpha=float(config["lora_alpha"]), special=special, rooted=bool(config.get("use_rslora"))
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
