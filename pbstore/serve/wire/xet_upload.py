"""What a client of Xet uploads: xorbs of chunks, and shards that say how files are made of them (hf-xet 1.8).

Sizes in headers are not believed: each is held against what may be there before any memory is taken.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pbstore.serve.wire.xet import CHUNK_BYTES, HEADER_BYTES, file_hash, to_hex, tree_hash

MAX_XORB_BYTES = 64 << 20
"""Raw bytes of a xorb."""
MAX_XORB_CHUNKS = 8192
MAX_SHARD_BYTES = 64 << 20
MAX_UPLOAD_BYTES = MAX_XORB_BYTES + (2 << 20)
"""A xorb as it is sent, with headers and footer."""
_RAW, _LZ4, _GROUPED_LZ4 = 0, 1, 2
_FOOTER = b"XETBLOB"
_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_ENTRY = struct.Struct("<32sIIII")
_END = b"\xff" * 32
_WITH_VERIFICATION, _WITH_SHA256 = 1 << 31, 1 << 30
_SHARD_VERSION, _FOOTER_VERSION, _FOOTER_BYTES = 2, 1, 200


class UploadError(ValueError):
    """What was uploaded is not what it should be."""


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """A chunk of a xorb."""

    digest: bytes
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Chunks of a xorb that come next in a file."""

    xorb: bytes
    first: int
    last: int
    """Behind the last chunk."""
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class ShardFile:
    """How a file is made of chunks."""

    digest: bytes
    segments: tuple[Segment, ...]
    sha256: str
    """As the client says; empty if it does not."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Files and xorbs that belong together."""

    files: tuple[ShardFile, ...]
    xorbs: dict[bytes, tuple[ChunkInfo, ...]]


def chunks_of(body: bytes) -> Iterator[bytes]:
    """Raw bytes of the chunks of a xorb as it is sent, with or without its footer.

    Raises:
        UploadError: If it is damaged, of an unknown form, or too large.
    """
    at = count = total = 0
    while at < len(body) and body[at : at + len(_FOOTER)] != _FOOTER:
        header = body[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES or header[0] != 0:
            raise UploadError(f"expected the header of a chunk at byte {at}")
        packed, raw = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
        count, total = count + 1, total + raw
        payload = body[at + HEADER_BYTES : at + HEADER_BYTES + packed]
        if not 0 < raw <= CHUNK_BYTES or len(payload) != packed or total > MAX_XORB_BYTES:
            raise UploadError(f"expected a chunk of 1..{CHUNK_BYTES} bytes at byte {at}")
        if count > MAX_XORB_CHUNKS:
            raise UploadError(f"expected at most {MAX_XORB_CHUNKS} chunks")
        yield _decoded(payload, header[4], raw)
        at += HEADER_BYTES + packed
    if not count:
        raise UploadError("expected one chunk or more")


def _decoded(payload: bytes, scheme: int, raw_bytes: int) -> bytes:
    if scheme == _RAW:
        raw = payload
    elif scheme in (_LZ4, _GROUPED_LZ4):
        raw = _from_lz4(payload, raw_bytes)
    else:
        raise UploadError(f"expected a compression of 0, 1 or 2, got {scheme}")
    if len(raw) != raw_bytes:
        raise UploadError(f"expected a chunk of {raw_bytes} bytes, got {len(raw)}")
    return _ungrouped(raw) if scheme == _GROUPED_LZ4 else raw


def _from_lz4(payload: bytes, raw_bytes: int) -> bytes:
    """Bytes of an LZ4 frame; its end is looked for no further than it may be."""
    import pyarrow

    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(payload), "lz4") as stream:
            return bytes(stream.read(raw_bytes + 1))
    except (OSError, pyarrow.ArrowException) as error:
        raise UploadError(f"expected an LZ4 frame: {error}") from None


def _ungrouped(grouped: bytes) -> bytes:
    """Bytes whose every fourth were put together."""
    data = np.frombuffer(grouped, np.uint8)
    result, start = np.empty_like(data), 0
    for group in range(4):
        length = len(result[group::4])
        result[group::4] = data[start : start + length]
        start += length
    return result.tobytes()


def parse_shard(body: bytes) -> Shard:
    """Read a shard, with or without tables and footer.

    Raises:
        UploadError: If it is damaged, or of another version.
    """
    if body[:32] != _TAG or struct.unpack("<Q", body[32:40].ljust(8, b"\0"))[0] != _SHARD_VERSION:
        raise UploadError(f"expected a shard of version {_SHARD_VERSION}")
    entries = _Entries(body, 48)
    files = []
    while (head := entries.next())[0] != _END:
        files.append(_file(entries, head))
    xorbs = {}
    while (head := entries.next())[0] != _END:
        chunks = (entries.next() for _ in range(min(head[2], MAX_XORB_CHUNKS + 1)))
        xorbs[head[0]] = tuple(ChunkInfo(digest, size) for digest, _, size, _, _ in chunks)
    return Shard(tuple(files), xorbs)


def _file(entries: "_Entries", head: tuple[bytes, int, int, int, int]) -> ShardFile:
    digest, flags, count, _, _ = head
    segments = []
    for _ in range(entries.at_most(count)):
        xorb, _, size, first, last = entries.next()
        segments.append(Segment(xorb, first, last, size))
    for _ in range(count if flags & _WITH_VERIFICATION else 0):
        entries.next()
    sha256 = to_hex(entries.next()[0]) if flags & _WITH_SHA256 else ""
    return ShardFile(digest, tuple(segments), sha256)


class _Entries:
    """Entries of a shard, one after the other."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body, self._at = body, at

    def at_most(self, count: int) -> int:
        """A count, if so many entries can be there."""
        if count * _ENTRY.size > len(self._body) - self._at:
            raise UploadError(f"expected at least {count} entries more in the shard")
        return count

    def next(self) -> tuple[bytes, int, int, int, int]:
        """The next entry."""
        try:
            entry: tuple[bytes, int, int, int, int] = _ENTRY.unpack_from(self._body, self._at)
        except struct.error:
            raise UploadError("the shard ends within its entries") from None
        self._at += _ENTRY.size
        return entry


def check_xorb(digest: bytes, chunks: Sequence[ChunkInfo]) -> None:
    """Check that chunks are those of a xorb.

    Raises:
        UploadError: If their hash is another.
    """
    if tree_hash([(chunk.digest, chunk.raw_bytes) for chunk in chunks]) != digest:
        raise UploadError("the chunks of the xorb do not hash to its name")


def check_file(file: ShardFile, chunks: Iterable[ChunkInfo]) -> None:
    """Check that chunks are those of a file.

    Raises:
        UploadError: If their hash is another.
    """
    if file_hash([(chunk.digest, chunk.raw_bytes) for chunk in chunks]) != file.digest:
        raise UploadError("the chunks of the file do not hash to its name")


def build_shard(xorbs: Mapping[bytes, Sequence[ChunkInfo]], created_s: int, expires_s: int) -> bytes:
    """A shard that tells a client of the chunks of xorbs, with tables and footer: without it is not read."""
    body = bytearray(_TAG + struct.pack("<QQ", _SHARD_VERSION, _FOOTER_BYTES))
    body += _ENTRY.pack(_END, 0, 0, 0, 0)
    xorbs_at, xorb_table, chunk_table, index = len(body), bytearray(), [], 0
    for digest in sorted(xorbs, key=_number):
        chunks, start = xorbs[digest], 0
        total = sum(chunk.raw_bytes for chunk in chunks)
        body += _ENTRY.pack(digest, 0, len(chunks), total, total)
        xorb_table += struct.pack("<QI", _number(digest), index)
        for position, chunk in enumerate(chunks):
            body += _ENTRY.pack(chunk.digest, start, chunk.raw_bytes, 0, 0)
            chunk_table.append((_number(chunk.digest), index, position))
            start += chunk.raw_bytes
        index += 1 + len(chunks)
    body += _ENTRY.pack(_END, 0, 0, 0, 0)
    tables_at = len(body)
    body += xorb_table
    chunks_at = len(body)
    body += b"".join(struct.pack("<QII", *entry) for entry in sorted(chunk_table))
    offsets = (48, xorbs_at, tables_at, 0, tables_at, len(xorbs), chunks_at, len(chunk_table))
    total = sum(chunk.raw_bytes for chunks in xorbs.values() for chunk in chunks)
    footer = struct.pack("<9Q", _FOOTER_VERSION, *offsets) + bytes(32)
    footer += struct.pack("<2Q6Q4Q", created_s, expires_s, *(0,) * 6, total, total, total, len(body))
    return bytes(body) + footer


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")
