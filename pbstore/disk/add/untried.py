"""Sketches and cast keys that were put off until an add may want them."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from pbstore.codecs.sketch import CASTABLE, Sketch, cast_keys, sketch
from pbstore.codecs.types import TensorSpec
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import database, notes, sketches
from pbstore.disk.index.sketches import CastKeys
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError, PBStoreError
from pbstore.hashing import BlockId, Buffer


def sketch_untried(models: Models, tx: Transaction) -> None:
    """Make the sketches that were put off: of blocks that came in raw, or with a rebuilt index."""
    if database.get_meta(tx.connection, "derive") is not None:
        for name in models.models():
            with suppress(PBStoreError):
                notes.note_tensors(tx.connection, models.manifest(name), models.get)
                notes.note_adapter(tx.connection, models.manifest(name), models.get)
        database.set_meta(tx.connection, "derive", None)
    _offer(models, tx, sketches.untried(tx.connection), sketch)


def key_untried(models: Models, tx: Transaction, dtype: str) -> None:
    """Make the cast keys that were put off, of blocks of which a tensor of this dtype may be a cast."""
    if dtype in CASTABLE:
        _offer(models, tx, sketches.untried(tx.connection, other_than=dtype), cast_keys)


def _offer(
    models: Models,
    tx: Transaction,
    tensors: Sequence[tuple[BlockId, TensorSpec]],
    look: Callable[[Buffer, TensorSpec], Sketch | CastKeys | None],
) -> None:
    """Let blocks be found as bases; damaged ones are left out."""
    for block_id, spec in tensors:
        with suppress(IntegrityError, OSError):
            raw = models.get(block_id)
            found = look(raw, spec) if len(raw) == spec.num_bytes else None
            if found is not None:
                sketches.offer(tx.connection, block_id, found)
        sketches.mark_tried(tx.connection, block_id)
