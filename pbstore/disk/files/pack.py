"""Packs: append-only files of records. A record is a header, padding, and a payload on an aligned offset.

All numbers are little-endian. See `FORMAT.md` for the layout. The records of a pack are its own table: `scan`
finds them all again when the index is lost.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from pbstore.blocks import MAX_BLOCK_BYTES, MAX_NEEDS, PAGE_BYTES, RAW, StoredBlock
from pbstore.disk.files import fsio
from pbstore.errors import PackCorruptError
from pbstore.hashing import BlockId, Buffer

PACK_MAGIC = b"PBPACK01"
PACK_HEADER_BYTES = 64
RECORD_MAGIC = b"PBR1"
RECORD_ALIGN = 8
"""Every record starts on a multiple of this, bytes; in the first stores on one of `ALIGN`."""
ALIGN = 64
"""Every raw payload starts on a multiple of this, bytes."""
PAGE_ALIGN = PAGE_BYTES
"""Raw payloads of at least `PAGE_ALIGN_FROM` bytes start on a multiple of this, bytes."""
PAGE_ALIGN_FROM = 64 << 10
MAX_OVERHEAD = 3 * PAGE_ALIGN + 32 * MAX_NEEDS
"""More than any record has before its payload, bytes."""

_FIXED = struct.Struct("<4sHH16sQQII32s16s")
_CRC = struct.Struct("<I")
_HEAD_WINDOW = _FIXED.size + 32 * MAX_NEEDS + _CRC.size + ALIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A block's place in a pack."""

    block_id: BlockId
    codec: str
    raw_bytes: int
    stored_bytes: int
    check: bytes
    """First 16 bytes of the payload's BLAKE3."""
    needs: tuple[BlockId, ...]
    offset: int
    """First byte of the record."""
    payload_offset: int

    @property
    def end(self) -> int:
        """First byte behind the payload."""
        return self.payload_offset + self.stored_bytes

    @property
    def overhead_bytes(self) -> int:
        """Header and padding."""
        return self.payload_offset - self.offset


def align(offset: int, alignment: int) -> int:
    """Smallest multiple of `alignment` that is not below `offset`."""
    return -(-offset // alignment) * alignment


def payload_check(payload: Buffer) -> bytes:
    """Checksum of a payload as it is stored, 16 bytes."""
    return blake3(payload).digest(length=16)


def pack_path(folder: Path, number: int) -> Path:
    """File of a pack."""
    return folder / f"{number:08d}.pack"


def pack_numbers(folder: Path) -> list[int]:
    """Numbers of all packs in a folder, ascending."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.pack") if path.stem.isdigit())


def place(block: StoredBlock, end: int) -> Record:
    """Where a block goes in a pack that ends at `end`."""
    offset = align(end, RECORD_ALIGN)
    length = header_bytes(block.needs)
    page = block.codec == RAW and block.stored_bytes >= PAGE_ALIGN_FROM
    alignment = PAGE_ALIGN if page else ALIGN if block.codec == RAW else 1  # what is coded is never mapped
    check = bytes.fromhex(block.block_id)[:16] if block.codec == RAW else payload_check(block.payload)
    return Record(
        block_id=block.block_id,
        codec=block.codec,
        raw_bytes=block.raw_bytes,
        stored_bytes=block.stored_bytes,
        check=check,
        needs=block.needs,
        offset=offset,
        payload_offset=align(offset + length, alignment),
    )


def header_bytes(needs: Sequence[BlockId]) -> int:
    """Length of a record's header, without padding."""
    return _FIXED.size + 32 * len(needs) + _CRC.size


def encode_header(record: Record) -> bytes:
    """Header of a record."""
    codec = record.codec.encode("ascii")
    if not 1 <= len(codec) <= 16 or len(record.needs) > MAX_NEEDS:
        raise ValueError(f"codec name of 1..16 letters and at most {MAX_NEEDS} needs, got {record.codec!r}")
    fixed = _FIXED.pack(
        RECORD_MAGIC,
        len(record.needs),
        0,
        codec,
        record.raw_bytes,
        record.stored_bytes,
        record.payload_offset - record.offset,
        0,
        bytes.fromhex(record.block_id),
        record.check,
    )
    body = fixed + b"".join(bytes.fromhex(need) for need in record.needs)
    return body + _CRC.pack(zlib.crc32(body))


def decode_header(data: Buffer, offset: int, pack: int = 0) -> Record:
    """Read the header of the record at `offset`; `data` starts there.

    Raises:
        PackCorruptError: If it is no header, or claims what no record may be.
    """
    if len(data) < _FIXED.size + _CRC.size:
        raise PackCorruptError(pack, offset, "record header is cut short")
    magic, num_needs, flags, codec, raw, stored, shift, zero, block_id, check = _FIXED.unpack_from(data)
    size = _FIXED.size + 32 * num_needs
    if magic != RECORD_MAGIC or flags or zero or num_needs > MAX_NEEDS or len(data) < size + _CRC.size:
        raise PackCorruptError(pack, offset, "no record header here")
    if _CRC.unpack_from(data, size)[0] != zlib.crc32(bytes(data[:size])):
        raise PackCorruptError(pack, offset, "record header has a wrong checksum")
    name = codec.rstrip(b"\0")
    if raw > MAX_BLOCK_BYTES or stored > 2 * MAX_BLOCK_BYTES or shift < size or shift > 2 * PAGE_ALIGN + size:
        raise PackCorruptError(
            pack, offset, f"record claims {raw} raw and {stored} stored bytes, shift {shift}"
        )
    if not name.isascii() or not name.decode("ascii").isprintable() or not name:
        raise PackCorruptError(pack, offset, "record has a bad codec name")
    needs = tuple(BlockId(bytes(data[i : i + 32]).hex()) for i in range(_FIXED.size, size, 32))
    return Record(
        block_id=BlockId(block_id.hex()),
        codec=name.decode("ascii"),
        raw_bytes=raw,
        stored_bytes=stored,
        check=check,
        needs=needs,
        offset=offset,
        payload_offset=offset + shift,
    )


def append(fd: int, end: int, block: StoredBlock) -> Record:
    """Write a block's record behind `end`; nothing is durable before the next fsync."""
    record = place(block, end)
    header = encode_header(record)
    lead = bytes(record.offset - end)
    gap = bytes(record.overhead_bytes - len(header))
    fsio.write_record(fd, [lead, header, gap], block.payload, end)
    return record


def create(path: Path, number: int) -> int:
    """Start a new pack; returns its open file. An unfinished pack of that number is overwritten."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    header = PACK_MAGIC + struct.pack("<Q", number)
    fsio.write_all(fd, [header.ljust(PACK_HEADER_BYTES, b"\0")], 0)
    return fd


def read_exact(fd: int, offset: int, length: int) -> bytes:
    """Bytes [offset, offset + length) of a file, fewer only at its end."""
    parts = []
    while length > 0:
        part = os.pread(fd, length, offset)
        if not part:
            break
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def scan(fd: int, number: int, size: int) -> Iterator[Record]:
    """All whole records of a pack of `size` bytes, in order; damaged stretches are stepped over."""
    offset = PACK_HEADER_BYTES
    while offset + _FIXED.size <= size:
        data = read_exact(fd, offset, _HEAD_WINDOW)
        if data[:4] != RECORD_MAGIC and (old := align(offset, ALIGN)) != offset:
            data, offset = data[old - offset :], old
        try:
            record = decode_header(data, offset, number)
        except PackCorruptError:
            offset = _next_magic(fd, offset + RECORD_ALIGN, size)
            continue
        if record.end > size:
            return
        yield record
        offset = align(record.end, RECORD_ALIGN)


def _next_magic(fd: int, offset: int, size: int) -> int:
    """Next aligned offset where a record seems to start, `size` if there is none."""
    window = 1 << 20
    while offset < size:
        data = read_exact(fd, offset, window)
        position = data.find(RECORD_MAGIC)
        while position >= 0:
            if position % RECORD_ALIGN == 0:
                return offset + position
            position = data.find(RECORD_MAGIC, position + 1)
        offset += window
    return size
