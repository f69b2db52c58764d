"""A sketch from the index's bytes. It needs numpy, which a look at the index does not."""

from pbstore.codecs.sketch import Sketch
from pbstore.errors import CodecError, IndexCorruptError


def as_sketch(stored: bytes) -> Sketch:
    """A sketch from a tensor's row.

    Raises:
        IndexCorruptError: If it is none.
    """
    try:
        return Sketch.from_bytes(stored)
    except (CodecError, TypeError, ValueError):
        raise IndexCorruptError("a tensor's row has an impossible sketch") from None
