"""Where the bytes went, model by model and family by family: which saving comes from what."""

from dataclasses import dataclass, fields, replace

from pbstore.disk.models import Models
from pbstore.disk.upkeep.families import Families
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest

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
    """One model's bytes; a block counts for the model that brought it."""

    name: str
    family: str
    """Root of the model's line: its base, the base's base, and so on. See `Families`."""
    causes: Causes


def by_model(models: Models) -> list[ModelCauses]:
    """Savings of each model, the oldest first."""
    rows = sorted(models.model_rows(), key=lambda row: (row.added_at, row.name))
    owners: dict[BlockId, str] = {}
    files: set[str] = set()
    result = []
    families = Families(models)
    for row in rows:
        manifest = models.manifest(row.name)
        family = families.place(manifest, owners)
        causes = _causes(models, manifest, owners, files)
        result.append(ModelCauses(name=row.name, family=family, causes=causes))
    return result


def by_family(models: list[ModelCauses]) -> dict[str, Causes]:
    """Savings of each family, summed over its models."""
    families: dict[str, Causes] = {}
    for item in models:
        families[item.family] = families.get(item.family, Causes()) + item.causes
    return families


def _causes(models: Models, manifest: Manifest, owners: dict[BlockId, str], files: set[str]) -> Causes:
    causes = Causes(raw_bytes=manifest.raw_bytes)
    for entry in manifest.files:
        if entry.sha256 in files:
            causes = replace(causes, same_file=causes.same_file + entry.size_bytes)
            continue
        files.add(entry.sha256)
        for piece in entry.pieces:
            if piece.block_id in owners:
                causes = replace(causes, same_tensor=causes.same_tensor + piece.raw_bytes)
                continue
            owners[piece.block_id] = manifest.name
            info = models.info(piece.block_id)
            cause = CAUSE_OF_CODEC.get(info.codec, "compression")
            saved = getattr(causes, cause) + info.raw_bytes - info.stored_bytes
            causes = replace(causes, **{cause: saved}, stored_bytes=causes.stored_bytes + info.stored_bytes)
    return causes
