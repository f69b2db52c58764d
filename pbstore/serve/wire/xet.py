"""Xet's formats, compatible with hf-xet 1.8: hashes, chunks in frames, and how a file is put together.

A block of a store is served as a xorb of its own: its raw bytes in chunks of `CHUNK_BYTES`, each behind 8
bytes of header. So no room is needed for it, and any part of it can be framed by itself. Its hash is the
block's id: on download a client takes it for a name. Hashes of files, and of xorbs that come in, are the true
ones: the root of a tree over the keyed BLAKE3 of chunks (huggingface.co/docs/xet/en/hashing).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import Piece

CHUNK_BYTES = 128 << 10
"""Raw bytes of a chunk, as many as one may have; the last of a block has fewer."""
HEADER_BYTES = 8
FETCH_CHUNKS = 128
"""Chunks that a client fetches at a time, 16 MiB, held in memory, and fetched again if that fails."""

_DATA_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_MEAN_BRANCHES = 4
_MOST_BRANCHES = 2 * _MEAN_BRANCHES + 1
_FRAME_BYTES = CHUNK_BYTES + HEADER_BYTES


def chunk_hash(chunk: Buffer) -> bytes:
    """Hash of a chunk, 32 bytes."""
    return blake3(chunk, key=_DATA_KEY).digest()


def tree_hash(chunks: Sequence[tuple[bytes, int]]) -> bytes:
    """Hash of a xorb, from hashes and sizes of its chunks: nodes of 2 to 9 children, level by level."""
    level = list(chunks)
    if not level:
        return bytes(32)
    while len(level) > 1:
        level = [_merged(group) for group in _groups(level)]
    return level[0][0]


def file_hash(chunks: Sequence[tuple[bytes, int]]) -> bytes:
    """Hash of a file, from the hashes and sizes of its chunks; 32 zeros for an empty one."""
    return blake3(tree_hash(chunks), key=bytes(32)).digest() if chunks else bytes(32)


def to_hex(digest: bytes) -> str:
    """A hash as text: four numbers of 64 bits, each with its bytes in turned order."""
    return "".join(digest[at : at + 8][::-1].hex() for at in range(0, 32, 8))


def from_hex(text: str) -> bytes:
    """A hash from its text.

    Raises:
        ValueError: If it is not 64 hex digits.
    """
    if len(text) != 64:
        raise ValueError(f"expected a hash of 64 hex digits, got {text[:80]!r}")
    turned = bytes.fromhex(text)
    return b"".join(turned[at : at + 8][::-1] for at in range(0, 32, 8))


def _groups(level: Sequence[tuple[bytes, int]]) -> Iterator[Sequence[tuple[bytes, int]]]:
    start = 0
    while start < len(level):
        stop = min(start + _MOST_BRANCHES, len(level))
        for index in range(start + 2, stop):
            if not level[index][0][24] % _MEAN_BRANCHES:  # the lowest byte of the last number
                stop = index + 1
                break
        yield level[start:stop]
        start = stop


def _merged(group: Sequence[tuple[bytes, int]]) -> tuple[bytes, int]:
    text = "".join(f"{to_hex(digest)} : {size}\n" for digest, size in group)
    return blake3(text.encode(), key=_NODE_KEY).digest(), sum(size for _, size in group)


def frame_header(raw_bytes: int) -> bytes:
    """Header of a chunk that is stored as it is: version 0, its length, scheme 0, its length."""
    length = raw_bytes.to_bytes(3, "little")
    return b"\0" + length + b"\0" + length


def framed_bytes(raw_bytes: int) -> int:
    """Length of a block's xorb."""
    return raw_bytes + HEADER_BYTES * -(-raw_bytes // CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a xorb: bytes of headers, or raw bytes `start` to `stop` of the block."""

    start: int
    stop: int
    head: bytes = b""


def segments(raw_bytes: int, start: int, stop: int) -> Iterator[Segment]:
    """What bytes `start` to `stop` of a block's xorb are, in order."""
    chunk = start // _FRAME_BYTES
    while start < stop:
        frame = chunk * _FRAME_BYTES
        size = min(CHUNK_BYTES, raw_bytes - chunk * CHUNK_BYTES)
        first, last = start - frame, min(stop - frame, HEADER_BYTES + size)
        if first < HEADER_BYTES:
            yield Segment(0, 0, frame_header(size)[first : min(last, HEADER_BYTES)])
        raw = chunk * CHUNK_BYTES - HEADER_BYTES
        if last > HEADER_BYTES:
            yield Segment(raw + max(first, HEADER_BYTES), raw + last)
        start, chunk = frame + HEADER_BYTES + size, chunk + 1


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks of a block that come next in a file."""

    block_id: BlockId
    first: int
    last: int
    """Behind the last chunk."""
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Chunks of a block that are fetched at once."""

    block_id: BlockId
    first: int
    last: int
    """Behind the last chunk."""
    start: int
    stop: int
    """Bytes of the xorb, `stop` excluded."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How a range of a file is put together."""

    skipped_bytes: int
    """Of the first term, before the range."""
    terms: tuple[Term, ...]
    fetches: tuple[Fetch, ...]


def reconstruct(pieces: Iterable[Piece], start: int, stop: int) -> Reconstruction:
    """How bytes `start` to `stop` of a file are put together from chunks of its blocks.

    Terms do not cross a multiple of `FETCH_CHUNKS`, so that one fetch holds all terms of the same part of a
    block, however often the file has it.
    """
    terms: list[Term] = []
    sizes: dict[BlockId, int] = {}
    skipped = position = 0
    for block_id, size in pieces:
        first, last = max(start - position, 0), min(stop - position, size)
        if first < last:
            if not terms:
                skipped = first % CHUNK_BYTES
            sizes[block_id] = size
            terms += _terms(block_id, size, first // CHUNK_BYTES, -(-last // CHUNK_BYTES))
        position += size
        if position >= stop:
            break
    return Reconstruction(skipped, tuple(terms), tuple(_fetches(terms, sizes)))


def _terms(block_id: BlockId, size: int, first: int, last: int) -> Iterator[Term]:
    while first < last:
        end = min(last, (first // FETCH_CHUNKS + 1) * FETCH_CHUNKS)
        yield Term(block_id, first, end, min(end * CHUNK_BYTES, size) - first * CHUNK_BYTES)
        first = end


def _fetches(terms: Iterable[Term], sizes: dict[BlockId, int]) -> Iterator[Fetch]:
    spans: dict[tuple[BlockId, int], tuple[int, int]] = {}
    for term in terms:
        key = (term.block_id, term.first // FETCH_CHUNKS)
        first, last = spans.get(key, (term.first, term.last))
        spans[key] = (min(first, term.first), max(last, term.last))
    for (block_id, _), (first, last) in spans.items():
        stop = min(last * _FRAME_BYTES, framed_bytes(sizes[block_id]))
        yield Fetch(block_id, first, last, first * _FRAME_BYTES, stop)


def raw_bytes_of(framed: int) -> int:
    """Raw length of a block whose xorb has a length.

    Raises:
        ValueError: If no block has such a xorb.
    """
    raw = framed - HEADER_BYTES * -(-framed // _FRAME_BYTES)
    if raw < 0 or framed_bytes(raw) != framed:
        raise ValueError(f"no block has a xorb of {framed} bytes")
    return raw


class Unframer:
    """Takes a xorb's bytes as they come, from a chunk's beginning, and gives whole chunks.

    Args:
        raw_bytes: Of the block.
        first: The chunk that comes first.
    """

    def __init__(self, raw_bytes: int, first: int) -> None:
        self._raw_bytes, self._chunk = raw_bytes, first
        self._held = bytearray()

    def feed(self, data: Buffer) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each chunk that is whole now.

        Raises:
            ValueError: If a chunk has another header than one of this block has.
        """
        self._held += data
        while self._chunk * CHUNK_BYTES < self._raw_bytes:
            size = min(CHUNK_BYTES, self._raw_bytes - self._chunk * CHUNK_BYTES)
            if len(self._held) < HEADER_BYTES + size:
                return
            if self._held[:HEADER_BYTES] != frame_header(size):
                raise ValueError(f"chunk {self._chunk} is not one of {size} raw bytes")
            yield self._chunk, bytes(memoryview(self._held)[HEADER_BYTES : HEADER_BYTES + size])
            del self._held[: HEADER_BYTES + size]
            self._chunk += 1
