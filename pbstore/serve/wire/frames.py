"""The block protocol's streams: blocks in their coded form, one frame behind the other.

The layout stands in `BLOCKS.md` beside this file. All numbers are little-endian. Nothing that a peer says
is believed: a length only bounds what is read, and a payload grows as its bytes arrive. What a block is, only
its hash tells: whoever takes one in decodes it.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blake3 import blake3

from pbstore.blocks import MAX_BLOCK_BYTES, MAX_NEEDS, RAW, BlockInfo, StoredBlock
from pbstore.errors import BlockCorruptError
from pbstore.hashing import BlockId, Buffer
from pbstore.serve.wire.blocks import Want, WireError

STREAM_START = b"PBWIRE01"
"""What every stream of frames starts with."""
MAX_STORED_BYTES = MAX_BLOCK_BYTES + (1 << 20)
"""No payload is longer: one that is longer than the block it stands for gains nothing."""
BLOCK, INFO, ABSENT, END, WAIT = 1, 2, 3, 4, 5
"""Kinds of frames."""
_HEAD = struct.Struct("<BBH16sQQQ32s16s")
_CRC = struct.Struct("<I")
_KEY_BYTES, _CHECK_BYTES = 32, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands before a payload."""

    kind: int
    block_id: BlockId
    codec: str = RAW
    raw_bytes: int = 0
    stored_bytes: int = 0
    offset: int = 0
    """First byte of the payload that follows."""
    check: bytes = bytes(_CHECK_BYTES)
    """First 16 bytes of the BLAKE3 of the payload."""
    needs: tuple[BlockId, ...] = ()

    @property
    def info(self) -> BlockInfo:
        """The block that it tells of."""
        return BlockInfo(
            block_id=self.block_id,
            raw_bytes=self.raw_bytes,
            stored_bytes=self.stored_bytes,
            codec=self.codec,
            needs=self.needs,
        )


def payload_check(payload: Buffer) -> bytes:
    """Checksum of a payload as it travels."""
    return blake3(payload).digest(length=_CHECK_BYTES)


def stored_check(stored: StoredBlock) -> bytes:
    """Checksum of a block's payload; that of a raw one stands in its id."""
    if stored.codec == RAW:
        return bytes.fromhex(stored.block_id)[:_CHECK_BYTES]
    return payload_check(stored.payload)


def block_head(stored: StoredBlock, check: bytes, offset: int = 0) -> bytes:
    """What stands before a block's payload from a byte on."""
    return _frame(BLOCK, stored.info, check, offset)


def frame_bytes(info: BlockInfo) -> int:
    """Bytes of a block's frame: its head and its payload."""
    return _HEAD.size + _KEY_BYTES * len(info.needs) + _CRC.size + info.stored_bytes


def info_frame(info: BlockInfo) -> bytes:
    """A frame that tells of a block without its payload."""
    return _frame(INFO, info, bytes(_CHECK_BYTES), 0)


def absent_frame(block_id: BlockId) -> bytes:
    """A frame that tells that a block is not there, or can no longer be read."""
    return _frame(ABSENT, _nothing(block_id), bytes(_CHECK_BYTES), 0)


def wait_frame() -> bytes:
    """A frame that only tells that the next one is on its way."""
    return _frame(WAIT, _nothing(BlockId("0" * 64)), bytes(_CHECK_BYTES), 0)


def end_frame(frames: int) -> bytes:
    """What every whole stream ends with; it counts the frames before it."""
    return _frame(END, _nothing(BlockId("0" * 64)), bytes(_CHECK_BYTES), frames)


def _nothing(block_id: BlockId) -> BlockInfo:
    return BlockInfo(block_id=block_id, raw_bytes=0, stored_bytes=0, codec="")


def _frame(kind: int, info: BlockInfo, check: bytes, offset: int) -> bytes:
    key, needs = bytes.fromhex(info.block_id), info.needs
    codec, sizes = info.codec.encode("ascii"), (info.raw_bytes, info.stored_bytes, offset)
    head = _HEAD.pack(kind, 0, len(needs), codec, *sizes, key, check) + b"".join(map(bytes.fromhex, needs))
    return head + _CRC.pack(zlib.crc32(head))


class FrameReader:
    """Takes a stream in as it arrives, and gives heads and parts of payloads.

    Args:
        most_bytes: Longest payload that is taken.
    """

    def __init__(self, most_bytes: int = MAX_STORED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting = bytearray()
        self._left = 0
        """Bytes of the open payload that are still to come."""
        self._started = self.ended = False
        self._frames = 0

    def feed(self, data: Buffer) -> Iterator[Head | memoryview]:
        """Heads, and behind the head of a block the parts of its payload, each valid until the next.

        Raises:
            WireError: If the stream is of another format or version, or breaks a rule of it.
        """
        view = memoryview(data)
        while len(view):
            if self.ended:
                raise WireError("bytes behind the end of a stream of blocks")
            if self._left:
                part = view[: self._left]
                self._left -= len(part)
                view = view[len(part) :]
                yield part
                continue
            view, head = self._take_head(view)
            if head is not None and head.kind not in (END, WAIT):
                yield head

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            WireError: If the stream was cut short.
        """
        if not self.ended:
            raise WireError("a stream of blocks was cut short")

    def _take_head(self, view: memoryview) -> tuple[memoryview, Head | None]:
        """Use what came up to the end of the next head; the head, if it is whole."""
        missing = self._missing()
        self._waiting += view[:missing]
        view = view[missing:]
        if self._missing():
            return view, None
        if not self._started:
            self._start()
            return view, None
        head = _read_head(bytes(self._waiting), self._most_bytes)
        self._waiting.clear()
        if head.kind == END:
            if head.offset != self._frames:
                raise WireError(f"a stream of {self._frames} frames says that it has {head.offset}")
            self.ended = True
        else:
            self._frames += 1
        self._left = head.stored_bytes - head.offset if head.kind == BLOCK else 0
        return view, head

    def _missing(self) -> int:
        """Bytes that the next step needs; 0 if they are there."""
        if not self._started:
            return len(STREAM_START) - len(self._waiting)
        length = _HEAD.size + _CRC.size
        if len(self._waiting) >= _HEAD.size:
            length += _KEY_BYTES * _num_needs(self._waiting)
        return length - len(self._waiting)

    def _start(self) -> None:
        if self._waiting != STREAM_START:
            start = bytes(self._waiting)
            raise WireError(f"expected a stream that starts with {STREAM_START.decode()}, got {start!r}")
        self._waiting.clear()
        self._started = True


def _num_needs(head: Buffer) -> int:
    count = int.from_bytes(head[2:4], "little")
    if count > MAX_NEEDS:
        raise WireError(f"a block of a stream claims {count} needs, expected at most {MAX_NEEDS}")
    return count


def _read_head(head: bytes, most_bytes: int) -> Head:
    body, crc = head[: -_CRC.size], head[-_CRC.size :]
    if _CRC.pack(zlib.crc32(body)) != crc:
        raise WireError("a frame of a stream of blocks does not match its checksum")
    kind, zero, _, codec, raw_bytes, stored_bytes, offset, key, check = _HEAD.unpack_from(body)
    if zero or kind not in (BLOCK, INFO, ABSENT, END, WAIT):
        raise WireError(f"a frame of an unknown kind: {kind}")
    if kind in (BLOCK, INFO) and (raw_bytes > MAX_BLOCK_BYTES or stored_bytes > most_bytes):
        raise WireError(f"a block claims {stored_bytes} bytes, {raw_bytes} decoded: more than one may have")
    if kind == BLOCK and offset > stored_bytes:
        raise WireError(f"a payload of {stored_bytes} bytes starts at byte {offset}")
    needs = body[_HEAD.size :]
    return Head(
        kind=kind,
        block_id=BlockId(key.hex()),
        codec=_codec(codec),
        raw_bytes=raw_bytes,
        stored_bytes=stored_bytes,
        offset=offset,
        check=check,
        needs=tuple(BlockId(needs[at : at + _KEY_BYTES].hex()) for at in range(0, len(needs), _KEY_BYTES)),
    )


def _codec(field: bytes) -> str:
    try:
        return field.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise WireError(f"a codec must be ASCII, got {field!r}") from None


@dataclass(frozen=True, slots=True)
class Partial:
    """The first bytes of a payload whose stream was cut short."""

    head: Head
    data: Buffer

    @property
    def want(self) -> Want:
        """What asks for the rest."""
        return Want(block_id=self.head.block_id, offset=len(self.data), check=self.head.check)


class BlockReader:
    """Puts a stream's frames together to blocks; a payload that was begun before goes on where it ended.

    Args:
        partial: What an earlier stream left of a block.
        most_bytes: Longest payload that is taken.
    """

    def __init__(self, partial: Partial | None = None, most_bytes: int = MAX_STORED_BYTES) -> None:
        self._frames = FrameReader(most_bytes)
        self._before = partial
        self._head: Head | None = None
        self._data = bytearray()

    def feed(self, data: Buffer) -> Iterator[StoredBlock | Head]:
        """Whole blocks whose payload matches its checksum, and heads of those without a payload.

        Raises:
            WireError: If the stream breaks a rule of its format.
            BlockCorruptError: If a payload does not match its checksum.
        """
        for item in self._frames.feed(data):
            if isinstance(item, Head):
                if item.kind != BLOCK:
                    yield item
                    continue
                self._open(item)
            else:
                self._data += item
            if self._head is not None and len(self._data) == self._head.stored_bytes:
                yield self._close()

    def finish(self) -> None:
        """Say that nothing more comes; WireError if the stream was cut short."""
        self._frames.finish()

    @property
    def partial(self) -> Partial | None:
        """What is there of the block that is open, or was left by an earlier stream."""
        return self._before if self._head is None else Partial(self._head, bytes(self._data))

    def _open(self, head: Head) -> None:
        before, self._before = self._before, None
        self._head, self._data = head, bytearray()
        if head.offset:
            if before is None or before.head != replace(head, offset=before.head.offset):
                raise WireError(f"block {head.block_id[:12]} goes on at a byte that nobody asked for")
            if len(before.data) != head.offset:
                raise WireError(f"block {head.block_id[:12]} goes on at another byte than was asked for")
            self._data += before.data
        elif before is not None and before.head.block_id != head.block_id:
            self._before = before

    def _close(self) -> StoredBlock:
        head, data = self._head, self._data
        self._head, self._data = None, bytearray()
        if head is None:
            raise WireError("a payload without a head")
        if payload_check(data) != head.check:
            raise BlockCorruptError(head.block_id, "its payload does not match the checksum it came with")
        return StoredBlock.of(head, data)
