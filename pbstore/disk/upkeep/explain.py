"""How a stored model is stored: form, bases and bytes of each tensor."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pbstore.disk.add import identity
from pbstore.disk.models import Models
from pbstore.hashing import BlockId
from pbstore.tensors import StoredTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStory:
    """How one tensor of a model is stored."""

    name: str
    path: str
    dtype: str
    shape: tuple[int, ...]
    raw_bytes: int
    stored_bytes: int
    """Payload bytes; shared blocks count in full here, of a group the tensor's share of its bytes."""
    codec: str
    bases: tuple[str, ...]
    """`MODEL:TENSOR` of each block that it is coded against."""
    models: int
    """Models of the store that hold the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStory:
    """How a model is stored, and what it descends from."""

    name: str
    form: str
    base: str | None
    """The base that it was filed with."""
    base_present: bool
    """Whether a model with the base's weights is in the models."""
    lineage: dict[str, int]
    """Model -> raw bytes of this model that are coded against it."""
    raw_bytes: int
    shared_bytes: int
    """Raw bytes in blocks that other models hold too."""
    own_stored_bytes: int
    """Payload bytes of the blocks that no other model holds."""
    tensors: tuple[TensorStory, ...]


def explain(models: Models, name: str) -> ModelStory:
    """How each tensor of a model is stored, and from which base."""
    manifest, row = models.manifest(name), models.model_row(name)
    needed = {base for i in manifest.block_ids() for base in models.info(i).bases}
    owners = find_owners(models, needed, first=row.base)
    lineage: Counter[str] = Counter()
    shared = own = 0
    for block_id in manifest.block_ids():
        location = models.locate(block_id)
        if location.refs > 1:
            shared += location.record.raw_bytes
        else:
            own += location.record.stored_bytes
        for model in {owners[need].partition(":")[0] for need in location.info.bases if need in owners}:
            lineage[model] += location.record.raw_bytes
    return ModelStory(
        name=name,
        form=row.form,
        base=row.base,
        base_present=manifest.base is not None and identity.has_weights(models, manifest.base.weights),
        lineage=dict(lineage.most_common()),
        raw_bytes=manifest.raw_bytes,
        shared_bytes=shared,
        own_stored_bytes=own,
        tensors=tuple(_tensor_stories(models, name, owners)),
    )


def find_owners(models: Models, wanted: Iterable[BlockId], first: str | None = None) -> dict[BlockId, str]:
    """`MODEL:TENSOR` of blocks; reads manifests until all are found, that of `first` before the others."""
    left = set(wanted)
    owners: dict[BlockId, str] = {}
    names = [first] if first is not None and models.has_model(first) else []
    for name in dict.fromkeys([*names, *models.models()]):
        if not left:
            break
        if left.isdisjoint(models.manifest(name).block_ids()):
            continue
        for tensor in models.tensors(name):
            for piece in tensor.pieces:
                if piece.block_id in left:
                    owners[piece.block_id] = f"{name}:{tensor.name}"
                    left.discard(piece.block_id)
    return {**owners, **{block_id: f"block {block_id[:12]}" for block_id in left}}


def _tensor_stories(models: Models, name: str, owners: dict[BlockId, str]) -> Iterable[TensorStory]:
    for tensor in models.tensors(name):
        places = [models.locate(piece.block_id) for piece in tensor.pieces]
        bases = [base for place in places for base in place.info.bases]
        yield TensorStory(
            name=tensor.name,
            path=tensor.path,
            dtype=tensor.spec.dtype,
            shape=tensor.spec.shape,
            raw_bytes=tensor.spec.num_bytes,
            stored_bytes=_share(tensor, sum(place.record.stored_bytes for place in places)),
            codec="+".join(dict.fromkeys(place.record.codec for place in places)),
            bases=tuple(dict.fromkeys(owners[base] for base in bases)),
            models=min((place.refs for place in places), default=0),
        )


def _share(tensor: StoredTensor, stored_bytes: int) -> int:
    """A tensor's share of what its block takes."""
    raw_bytes = sum(piece.raw_bytes for piece in tensor.pieces)
    return round(stored_bytes * tensor.spec.num_bytes / raw_bytes) if raw_bytes else 0
