"""Before and after: what adding a model would cost, and how a stored model is stored."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.disk.add import adding
from pbstore.disk.add.adding import HowStored
from pbstore.hashing import BlockId
from pbstore.ingest import AddReport, Origin

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStory:
    """How one tensor of a model is stored."""

    name: str
    path: str
    dtype: str
    shape: tuple[int, ...]
    raw_bytes: int
    stored_bytes: int
    """Payload bytes; shared blocks count in full here."""
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
    """Whether a model with the base's weights is in the store."""
    lineage: dict[str, int]
    """Model -> raw bytes of this model that are coded against it."""
    raw_bytes: int
    shared_bytes: int
    """Raw bytes in blocks that other models hold too."""
    own_stored_bytes: int
    """Payload bytes of the blocks that no other model holds."""
    tensors: tuple[TensorStory, ...]


class _RolledBackError(Exception):
    """Ends a trial transaction."""


def plan_add(store: "DiskBlockStore", origin: Origin, how: HowStored) -> AddReport:
    """What adding a folder would cost; encodes everything and keeps nothing."""
    if store.read_only:
        from pbstore.disk.rehearse import rehearsal  # it is a store itself

        with rehearsal(store) as copy:
            return plan_add(copy, origin, how)
    reports: list[AddReport] = []
    try:
        with store.writing():
            reports.append(adding.try_blocks(store, origin, how))
            raise _RolledBackError
    except _RolledBackError:
        return reports[0]


def explain(store: "DiskBlockStore", name: str) -> ModelStory:
    """How each tensor of a model is stored, and from which base."""
    manifest, row = store.manifest(name), store.model_row(name)
    needed = {base for i in manifest.block_ids() for base in store.info(i).bases}
    owners = find_owners(store, needed, first=row.base)
    lineage: Counter[str] = Counter()
    shared = own = 0
    for block_id in manifest.block_ids():
        location = store.locate(block_id)
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
        base_present=manifest.base is not None and store.has_weights(manifest.base.weights),
        lineage=dict(lineage.most_common()),
        raw_bytes=manifest.raw_bytes,
        shared_bytes=shared,
        own_stored_bytes=own,
        tensors=tuple(_tensor_stories(store, name, owners)),
    )


def find_owners(
    store: "DiskBlockStore", wanted: Iterable[BlockId], first: str | None = None
) -> dict[BlockId, str]:
    """`MODEL:TENSOR` of blocks; reads manifests until all are found, that of `first` before the others."""
    left = set(wanted)
    owners: dict[BlockId, str] = {}
    names = [first] if first is not None and store.has_model(first) else []
    for name in dict.fromkeys([*names, *store.models()]):
        if not left:
            break
        if left.isdisjoint(store.manifest(name).block_ids()):
            continue
        for tensor in store.tensors(name):
            for piece in tensor.pieces:
                if piece.block_id in left:
                    owners[piece.block_id] = f"{name}:{tensor.name}"
                    left.discard(piece.block_id)
    return {**owners, **{block_id: f"block {block_id[:12]}" for block_id in left}}


def _tensor_stories(store: "DiskBlockStore", name: str, owners: dict[BlockId, str]) -> Iterable[TensorStory]:
    for tensor in store.tensors(name):
        places = [store.locate(piece.block_id) for piece in tensor.pieces]
        bases = [base for place in places for base in place.info.bases]
        yield TensorStory(
            name=tensor.name,
            path=tensor.path,
            dtype=tensor.spec.dtype,
            shape=tensor.spec.shape,
            raw_bytes=sum(place.record.raw_bytes for place in places),
            stored_bytes=sum(place.record.stored_bytes for place in places),
            codec="+".join(dict.fromkeys(place.record.codec for place in places)),
            bases=tuple(dict.fromkeys(owners[base] for base in bases)),
            models=min((place.refs for place in places), default=0),
        )
