"""Which models are of one line: by the base that a model is bound to, else by what tensors have in common.

A few tensors in common make no relation: unrelated models share zeros, ones, masks and tables of positions.
"""

from collections import Counter

from pbstore.blocks import RAW
from pbstore.disk.models import Models
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import Manifest

KIN_SHARE = 0.1
"""So much of a model's tensor bytes must be copies of another one's, or stored against it."""
MIN_BYTES = 64
"""Smaller blocks say nothing."""
PERIOD = 8
"""Bytes after which a block of one repeated element begins anew, whatever the element's size."""
_SAMPLE = 4096


class Families:
    """Places models one by one, the oldest first."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._roots: dict[str, str] = {}
        self._by_weights: dict[str, str] = {}
        self._says_little: dict[BlockId, bool] = {}

    def place(self, manifest: Manifest, owners: dict[BlockId, str]) -> str:
        """The root of a model's line; `owners` says which of the models before it brought a block."""
        kin = self._bound_to(manifest) or self._most_in_common(manifest, owners)
        root = manifest.name if kin is None else self._roots[kin]
        self._roots[manifest.name] = root
        if manifest.weights:
            self._by_weights.setdefault(manifest.weights, manifest.name)
        return root

    def _bound_to(self, manifest: Manifest) -> str | None:
        """The base that it is bound to, by content, else by name."""
        if manifest.base is None:
            return None
        found = self._by_weights.get(manifest.base.weights)
        return found or (manifest.base.name if manifest.base.name in self._roots else None)

    def _most_in_common(self, manifest: Manifest, owners: dict[BlockId, str]) -> str | None:
        votes: Counter[str] = Counter()
        total = 0
        for tensor in self._models.tensors(manifest.name):
            for piece in tensor.pieces:
                total += piece.raw_bytes
                found = {
                    owners.get(one) for one in (piece.block_id, *self._models.info(piece.block_id).needs)
                }
                if found - {None} and not self._is_little(piece.block_id):
                    votes.update({owner: piece.raw_bytes for owner in found if owner is not None})
        ((kin, most),) = votes.most_common(1) or [("", 0)]
        return kin if most and most >= KIN_SHARE * total else None

    def _is_little(self, block_id: BlockId) -> bool:
        if block_id not in self._says_little:
            self._says_little[block_id] = says_little(self._models, block_id)
        return self._says_little[block_id]


def says_little(models: Models, block_id: BlockId) -> bool:
    """Whether a block is tiny, or one element repeated; reads it only where it may be."""
    record = models.locate(block_id).record
    if record.raw_bytes < MIN_BYTES:
        return True
    if record.codec == RAW:
        view = models.view(block_id)
        if view is not None and not _repeats(view[:_SAMPLE]):
            return False
    elif record.raw_bytes > _SAMPLE and record.stored_bytes * 20 > record.raw_bytes:
        return False
    return _repeats(models.get(block_id))


def _repeats(data: Buffer) -> bool:
    view = memoryview(data).cast("B")
    return view[PERIOD:] == view[: len(view) - PERIOD]
