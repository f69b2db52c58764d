"""A pack of an origin: one immutable object with the payloads of many blocks, as a store has them.

    8 bytes   `PBORIG01`
    4         length of the table, little-endian
              the table: zstd of canonical JSON {format, version, blocks}
              the payloads, end to end

Each entry of `blocks` is [id, raw bytes, codec, offset, stored bytes, check, [needs]]: the offset counts from
the end of the table, the check is the first 16 bytes of the BLAKE3 of the payload, in hex. The key names the
hash of the table and so, through the checks, all of the object. Blocks need blocks of other packs, too: which
packs hold all that a model needs stands in the model's record.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import zstandard
from blake3 import blake3

from pbstore.blocks import MAX_BLOCK_BYTES, MAX_NEEDS, BlockInfo, StoredBlock
from pbstore.errors import BlockCorruptError
from pbstore.hashing import Buffer, as_block_id
from pbstore.serve.origin.errors import RecordError

PACK_BYTES = 32 << 20
"""A pack is closed before a block that would make it longer; a larger block has a pack of its own."""
PACK_BLOCKS = 10_000
"""Most blocks of a pack."""
HEAD_BYTES = 64 << 10
"""What is read of a pack at first: most tables lie within it."""
MAX_TABLE_BYTES = 64 << 20
"""A longer table, packed or unpacked, is refused before memory is taken for it."""
_MAGIC = b"PBORIG01"
_HEAD = struct.Struct("<8sI")
_FORMAT = "pbstore-origin-pack"


@dataclass(frozen=True, slots=True)
class Form:
    """One block in one form, in one pack."""

    pack: str
    """Key of the object."""
    offset: int
    """Where its payload starts, from the start of the object."""
    check: str
    """First 16 bytes of the BLAKE3 of the payload, in hex."""
    info: BlockInfo

    @property
    def stop(self) -> int:
        """Where its payload ends."""
        return self.offset + self.info.stored_bytes

    def block(self, payload: Buffer) -> StoredBlock:
        """The block, with the payload that was read from here.

        Raises:
            BlockCorruptError: If it is not the one that was written.
        """
        info = self.info
        if len(payload) != info.stored_bytes or _check(payload) != self.check:
            raise BlockCorruptError(info.block_id, f"its payload in {self.pack} is damaged")
        return StoredBlock.of(info, payload)


def encode_pack(blocks: Sequence[StoredBlock], writer: str) -> tuple[str, bytes]:
    """Key and bytes of a pack. `writer` goes into the key: no two writers ever write the same object."""
    rows: list[Any] = []
    offset = 0
    for block in blocks:
        rows.append(
            [
                block.block_id,
                block.raw_bytes,
                block.codec,
                offset,
                block.stored_bytes,
                _check(block.payload),
                list(block.needs),
            ]
        )
        offset += block.stored_bytes
    tree = {"format": _FORMAT, "version": 1, "blocks": rows}
    text = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    table = zstandard.ZstdCompressor(level=3).compress(text)
    head = _HEAD.pack(_MAGIC, len(table))
    key = f"packs/{blake3(text).hexdigest(length=16)}-{writer}.pack"
    return key, b"".join([head, table, *(block.payload for block in blocks)])


def table_bytes(key: str, head: Buffer) -> int:
    """How many bytes of a pack its table ends at.

    Raises:
        RecordError: If the object is no pack.
    """
    if len(head) < _HEAD.size:
        raise RecordError(key, "too short for a pack")
    magic, length = _HEAD.unpack_from(head)
    if magic != _MAGIC or length > MAX_TABLE_BYTES:
        raise RecordError(key, "not a pack of this version")
    return int(_HEAD.size + length)


def read_table(key: str, head: Buffer) -> list[Form]:
    """The blocks of a pack; nothing in it is believed before its hash was compared with the key.

    Args:
        key: The pack's key.
        head: Its bytes up to the end of the table, or more.

    Raises:
        RecordError: If it is not the table that was written under this key.
    """
    start = table_bytes(key, head)
    try:
        packed = BytesIO(bytes(head[_HEAD.size : start]))
        text = zstandard.ZstdDecompressor().stream_reader(packed).read(MAX_TABLE_BYTES + 1)
        if blake3(text).hexdigest(length=16) != key.removeprefix("packs/").split("-")[0]:
            raise RecordError(key, "its table does not hash to its key")
        tree = json.loads(text)
        if tree["format"] != _FORMAT or tree["version"] != 1:
            raise RecordError(key, "a table of an unknown version")
        return [_form(key, start, row) for row in tree["blocks"]]
    except (zstandard.ZstdError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(key, f"its table is damaged: {str(error)[:120]}") from None


def _form(key: str, start: int, row: Any) -> Form:  # noqa: ANN401 - JSON
    block_id, raw_bytes, codec, offset, stored_bytes, check, needs = row
    sizes = (raw_bytes, stored_bytes, offset)
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or raw_bytes > MAX_BLOCK_BYTES:
        raise ValueError(f"sizes {str(sizes)[:60]}")
    if not isinstance(codec, str) or not isinstance(check, str) or len(needs) > MAX_NEEDS:
        raise ValueError(f"codec, check or needs of {str(block_id)[:12]}")
    info = BlockInfo(
        block_id=as_block_id(block_id),
        raw_bytes=raw_bytes,
        stored_bytes=stored_bytes,
        codec=codec,
        needs=tuple(map(as_block_id, needs)),
    )
    return Form(key, start + offset, check, info)


def _check(payload: Buffer) -> str:
    return blake3(payload).hexdigest(length=16)
