"""The whole store at a glance: every revision with its blocks, read once, for lists, lineages and savings.

Manifests are read as they lie there, checked against their hash and not piece by piece; blocks come from the
index in two queries. So a question about all models takes time linear in their manifests, a few seconds for
ten thousand of them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pbstore.disk.index import bulk_rows, model_rows
from pbstore.disk.index.bulk_rows import BlockFacts
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import PBStoreError
from pbstore.weights import SAFETENSORS

NOTHING = BlockFacts(0, 0, "", 0)


class FileBlocks(NamedTuple):
    """A file of a model."""

    path: str
    size_bytes: int
    sha256: str
    keys: tuple[bytes, ...]
    """Its blocks in order."""

    @property
    def tensors(self) -> tuple[bytes, ...]:
        """Blocks that hold tensors of a safetensors file: all but its header."""
        return self.keys[1:] if self.path.endswith(SAFETENSORS) else ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A revision of a model."""

    row: ModelRow
    files: tuple[FileBlocks, ...]
    base_name: str | None = None
    base_weights: str | None = None
    is_readable: bool = True

    @property
    def name(self) -> str:
        """The model's name."""
        return self.row.key.model

    def distinct(self) -> dict[bytes, None]:
        """Its distinct blocks, in order."""
        return dict.fromkeys(key for file in self.files for key in file.keys)


@dataclass(slots=True)
class Overview:
    """All revisions that are not in the trash, the oldest first."""

    entries: list[Entry]
    blocks: dict[bytes, BlockFacts]
    needs: dict[bytes, tuple[bytes, ...]]
    brought_by: dict[bytes, Entry] = field(default_factory=dict)
    """Block -> the oldest revision that names it."""

    @classmethod
    def of(cls, models: Models) -> "Overview":
        """Read it."""
        rows = (row for row in model_rows.all_models(models.connection) if row.removed_ms is None)
        ordered = sorted(rows, key=lambda row: (row.added_at, row.name))
        overview = cls(
            [_entry(models, row) for row in ordered],
            bulk_rows.all_blocks(models.connection),
            bulk_rows.all_needs(models.connection),
        )
        for entry in overview.entries:
            for key in entry.distinct():
                overview.brought_by.setdefault(key, entry)
        return overview

    def facts(self, key: bytes) -> BlockFacts:
        """What is known of a block; zeros of one that is lost."""
        return self.blocks.get(key, NOTHING)

    def kept_bases(self) -> Iterator[bytes]:
        """Blocks that nothing names and that others need."""
        named = (base for bases in self.needs.values() for base in bases)
        return (key for key in dict.fromkeys(named) if not self.facts(key).refs)


def _entry(models: Models, row: ModelRow) -> Entry:
    try:
        tree = json.loads(model_rows.read_text(models.layout, row))
        files = tuple(
            FileBlocks(
                str(file["path"]),
                int(file["bytes"]),
                str(file["sha256"]),
                tuple(bytes.fromhex(block) for block, _ in file["blocks"]),
            )
            for file in tree["files"]
        )
    except (PBStoreError, OSError, ValueError, KeyError, TypeError):
        return Entry(row, (), is_readable=False)
    base = tree.get("base") or {}
    return Entry(row, files, base.get("name"), base.get("weights"))
