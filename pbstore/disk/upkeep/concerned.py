"""What a damaged block spoils: models, their files and tensors, also through the blocks that need it."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from pbstore.disk.index import locations, model_rows
from pbstore.disk.models import Models
from pbstore.errors import PBStoreError
from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry
from pbstore.tensors import blocks_as_tensors, header_of, tensors_of

MOST_PLACES = 3
"""Places that are told of one block; every model is named in the report."""


@dataclass(slots=True)
class Concerned:
    """Where damaged blocks are needed."""

    places: dict[BlockId, list[str]] = field(default_factory=dict)
    """Damaged block -> `MODEL: FILE, tensor NAME`."""
    models: dict[str, None] = field(default_factory=dict)
    """Models that need one."""

    def told(self, block_id: BlockId) -> str:
        """The end of a sentence about a damaged block."""
        places = self.places.get(block_id, [])
        if not places:
            return "; no model needs it"
        more = f" and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else ""
        return f", needed by {'; '.join(places[:MOST_PLACES])}{more}"


def find(models: Models, bad: Collection[BlockId]) -> Concerned:
    """Look all models through for some blocks; reads manifests once, and headers of the files concerned."""
    concerned = Concerned()
    if not bad:
        return concerned
    spoilt: dict[BlockId, list[BlockId]] = {block_id: [block_id] for block_id in bad}
    for block_id in bad:
        for user in locations.dependents(models.connection, block_id):
            spoilt.setdefault(user, []).append(block_id)
    for row in model_rows.all_models(models.connection):
        with suppress(PBStoreError, OSError):  # told elsewhere
            for entry in models.manifest_of(row).files:
                _note(models, concerned, row.title, entry, spoilt)
    return concerned


def _note(
    models: Models,
    concerned: Concerned,
    model: str,
    entry: FileEntry,
    spoilt: dict[BlockId, list[BlockId]],
) -> None:
    found = [piece.block_id for piece in entry.pieces if piece.block_id in spoilt]
    if not found:
        return
    tensors = _tensors(models, entry)
    for block_id in dict.fromkeys(found):
        what = f", tensor {tensors[block_id]}" if block_id in tensors else ""
        for cause in spoilt[block_id]:
            through = "" if cause == block_id else " (through what it is stored against)"
            concerned.places.setdefault(cause, []).append(f"{model}: {entry.path}{what}{through}")
            concerned.models[model] = None


def _tensors(models: Models, entry: FileEntry) -> dict[BlockId, str]:
    """Names of the tensors that blocks of a file hold; none if its header cannot be read."""
    names: dict[BlockId, str] = {}
    if entry.path.endswith(".safetensors"):
        with suppress(PBStoreError, OSError, ValueError):
            tensors = list(tensors_of(entry, header_of(entry, models.get)))
            for tensor in tensors:
                for piece in tensor.pieces:
                    names.setdefault(piece.block_id, tensor.name)
            names.update({block_id: name for block_id, _, name in blocks_as_tensors(tensors)})
    return names
