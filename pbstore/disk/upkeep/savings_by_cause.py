"""Where the bytes went, model by model and family by family: which saving comes from what."""

from collections import Counter
from dataclasses import dataclass, fields

from pbstore.disk.models import Models
from pbstore.disk.upkeep.lineage import Lineage
from pbstore.disk.upkeep.overview import Entry, Overview

CAUSE_OF_CODEC = {
    "raw": "compression",
    "zstd": "compression",
    "planes": "compression",
    "grid": "compression",
    "rows": "same_rows",
    "delta": "delta",
    "cast": "recipe",
    "recast": "recipe",
    "lora": "recipe",
    "derive1": "recipe",
    "derive2": "recipe",
    "derive3": "recipe",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """Bytes saved by cause. `raw_bytes` is the sum of the savings and of `stored_bytes`."""

    raw_bytes: int = 0
    same_file: int = 0
    """Whole files that an older model has."""
    same_tensor: int = 0
    """Blocks that an older model has, or that stand in the model more than once."""
    same_rows: int = 0
    """Rows copied from a base."""
    delta: int = 0
    """Differences to a base."""
    recipe: int = 0
    """Casts and merged adapters."""
    compression: int = 0
    """Coding without a base."""
    stored_bytes: int = 0

    def __add__(self, other: "Causes") -> "Causes":
        return Causes(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCauses:
    """One model's bytes, of all its revisions; a block counts for the model that brought it."""

    name: str
    family: str
    """Root of the model's line: its base, the base's base, and so on. See `Lineage`."""
    causes: Causes


def by_model(models: Models) -> list[ModelCauses]:
    """Savings of each model, the oldest first.

    Their sums are those of the whole store: raw bytes of all revisions, and stored bytes without orphans and
    the trash. A base that no model names any more is what its differences cost.
    """
    overview = Overview.of(models)
    lineage = Lineage(models, overview)
    counted = _Counted(overview)
    for entry in overview.entries:
        counted.take(entry)
    for key in overview.kept_bases():
        counted.take_base(key)
    return [
        ModelCauses(name=name, family=lineage.root(name), causes=Causes(**bytes_of))
        for name, bytes_of in counted.causes.items()
    ]


def by_family(models: list[ModelCauses]) -> dict[str, Causes]:
    """Savings of each family, summed over its models."""
    families: dict[str, Causes] = {}
    for item in models:
        families[item.family] = families.get(item.family, Causes()) + item.causes
    return families


class _Counted:
    """Bytes by cause of each model, block after block."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self.causes: dict[str, Counter[str]] = {}
        self._files: set[str] = set()
        self._blocks: set[bytes] = set()
        self._first_user: dict[bytes, str] = {}

    def take(self, entry: Entry) -> None:
        """Count a revision."""
        causes = self.causes.setdefault(entry.name, Counter())
        causes["raw_bytes"] += entry.row.raw_bytes
        for file in entry.files:
            if file.sha256 in self._files:
                causes["same_file"] += file.size_bytes
                continue
            self._files.add(file.sha256)
            for key in file.keys:
                self._take_block(key, causes, entry.name)

    def _take_block(self, key: bytes, causes: Counter[str], name: str) -> None:
        facts = self._overview.facts(key)
        if key in self._blocks:
            causes["same_tensor"] += facts.raw_bytes
            return
        self._blocks.add(key)
        causes[CAUSE_OF_CODEC.get(facts.codec, "compression")] += facts.raw_bytes - facts.stored_bytes
        causes["stored_bytes"] += facts.stored_bytes
        for base in self._overview.needs.get(key, ()):
            self._first_user.setdefault(base, name)

    def take_base(self, key: bytes) -> None:
        """Count a block that is kept for others alone."""
        name = self._first_user.get(key)
        if name is not None:
            size = self._overview.facts(key).stored_bytes
            self.causes[name]["stored_bytes"] += size
            self.causes[name]["delta"] -= size
