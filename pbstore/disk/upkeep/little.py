"""What two models may have in common without being kin: blocks that are tiny, or one element repeated."""

from pbstore.blocks import RAW
from pbstore.disk.models import Models
from pbstore.hashing import BlockId, Buffer

MIN_BYTES = 64
"""Smaller blocks say nothing."""
PERIOD = 8
"""Bytes after which a block of one repeated element begins anew, whatever the element's size."""
_SAMPLE = 4096


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
