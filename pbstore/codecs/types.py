"""Records and the one error that every codec shares."""

from __future__ import annotations

from dataclasses import dataclass

from pbstore.errors import CodecError
from pbstore.hashing import BlockId, Buffer
from pbstore.spec import DTYPE_BITS, HEAD_BYTES, TensorSpec

__all__ = ["DTYPE_BITS", "HEAD_BYTES", "BlockId", "Buffer", "CodecError", "Encoded", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A block in one stored form.

    Attributes:
        codec: Name of the form, for `decode`.
        payload: The stored bytes.
        needs: Blocks whose raw bytes `decode` wants as `bases`, in this order.
    """

    codec: str
    payload: Buffer
    needs: tuple[BlockId, ...] = ()
