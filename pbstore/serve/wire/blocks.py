"""The block protocol's questions: where they are asked, lists of ids, and lists of blocks that are wanted.

The layout stands in `BLOCKS.md` beside this file. A count follows from the length of what came.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pbstore.errors import PBStoreError
from pbstore.hashing import BlockId

PREFIX = "/-/pbcast/v1"
"""Where the block protocol lies on a server; no model's name begins with `-`."""
STREAM_TYPE = "application/vnd.pbcast.blocks"
IDS_TYPE = "application/vnd.pbcast.ids"
WANTS_TYPE = "application/vnd.pbcast.wants"
VIA_HEADER = "X-Pbcast-Via"
"""Ids of the nodes that a request came through, oldest first, with commas: so loops between peers end."""
MAX_HOPS = 8
"""No request goes through more nodes than this."""
MAX_IDS = 1 << 16
"""Most ids in one question."""
MAX_WANTS = 4096
"""Most blocks in one request."""

_IDS_MAGIC, _WANTS_MAGIC = b"PBIDS001", b"PBWANT01"
_WANT = struct.Struct("<32sQ16s")
_KEY_BYTES = 32


class WireError(PBStoreError, ValueError):
    """A message of the block protocol is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A block that is asked for."""

    block_id: BlockId
    offset: int = 0
    """Bytes of its payload that are there already."""
    check: bytes = b""
    """Checksum of the payload whose first bytes are there: that of another form is sent from its start."""


def encode_ids(block_ids: Sequence[BlockId]) -> bytes:
    """A question about some blocks.

    Raises:
        ValueError: If they are more than `MAX_IDS`.
    """
    if len(block_ids) > MAX_IDS:
        raise ValueError(f"expected at most {MAX_IDS} ids, got {len(block_ids)}")
    return _IDS_MAGIC + b"".join(map(bytes.fromhex, block_ids))


def decode_ids(body: bytes) -> list[BlockId]:
    """Ids that were asked about.

    Raises:
        WireError: If the body is of another format or version, or has too many.
    """
    data = _entries(body, _IDS_MAGIC, _KEY_BYTES, MAX_IDS)
    return [BlockId(data[at : at + _KEY_BYTES].hex()) for at in range(0, len(data), _KEY_BYTES)]


def encode_wants(wants: Sequence[Want]) -> bytes:
    """A request for some blocks, in the order in which they are wanted.

    Raises:
        ValueError: If they are more than `MAX_WANTS`.
    """
    if len(wants) > MAX_WANTS:
        raise ValueError(f"expected at most {MAX_WANTS} blocks, got {len(wants)}")
    entries = (_WANT.pack(bytes.fromhex(want.block_id), want.offset, want.check) for want in wants)
    return _WANTS_MAGIC + b"".join(entries)


def decode_wants(body: bytes) -> list[Want]:
    """Blocks that are asked for.

    Raises:
        WireError: If the body is of another format or version, or has too many.
    """
    data = _entries(body, _WANTS_MAGIC, _WANT.size, MAX_WANTS)
    entries = _WANT.iter_unpack(data)
    return [Want(block_id=BlockId(key.hex()), offset=offset, check=check) for key, offset, check in entries]


def longest_body(is_question: bool) -> int:
    """Most bytes of the body of a question, or of a request."""
    return len(_IDS_MAGIC) + (MAX_IDS * _KEY_BYTES if is_question else MAX_WANTS * _WANT.size)


def _entries(body: bytes, magic: bytes, size: int, most: int) -> bytes:
    if not body.startswith(magic):
        raise WireError(f"expected a body that starts with {magic.decode()}, got {body[:8]!r}")
    data = body[len(magic) :]
    if len(data) % size or len(data) > most * size:
        raise WireError(f"expected at most {most} entries of {size} bytes, got {len(data)} bytes")
    return data
