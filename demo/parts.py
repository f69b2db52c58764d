"""What travels between stores: a whole coded block or a range of its payload."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pbstore import BlockCorruptError, BlockId, BlockInfo, DiskBlockStore, MemoryBlockStore, StoredBlock


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Range `index` of `count` of a block's payload, in whatever form the block travels."""

    block_id: BlockId
    index: int = 0
    count: int = 1

    def of(self, length: int) -> tuple[int, int]:
        """Begin and end of the range in a payload of so many bytes."""
        return length * self.index // self.count, length * (self.index + 1) // self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedPart:
    """Bytes of a part, and what the whole block is."""

    part: Part
    info: BlockInfo
    """The whole block in the form in which it travels."""
    payload: bytes

    @property
    def alone(self) -> bool:
        """Whether the form needs no other block."""
        return not self.info.needs


def cut(coded: StoredBlock, part: Part) -> CodedPart:
    """A part of a coded block."""
    begin, end = part.of(coded.stored_bytes)
    return CodedPart(part=part, info=coded.info, payload=bytes(memoryview(coded.payload)[begin:end]))


def join(parts: Sequence[CodedPart]) -> StoredBlock:
    """The coded block that all its parts make.

    Raises:
        BlockCorruptError: If they are not all parts of one block in one form, or add up to another length.
    """
    ordered = sorted(parts, key=lambda one: one.part)
    first, info = ordered[0].part, ordered[0].info
    whole = [Part(first.block_id, index, first.count) for index in range(first.count)]
    if [one.part for one in ordered] != whole or any(one.info != info for one in ordered):
        raise BlockCorruptError(first.block_id, "its parts are not those of one coded block")
    payload = b"".join(one.payload for one in ordered)
    if len(payload) != info.stored_bytes:
        raise BlockCorruptError(first.block_id, f"its parts have {len(payload)} of {info.stored_bytes} bytes")
    return StoredBlock.of(info, payload)


def alone_form(store: DiskBlockStore | MemoryBlockStore, block_id: BlockId) -> StoredBlock:
    """A block in its smallest form that needs no other: as it is stored, or coded anew.

    The same raw bytes always give the same payload, so that every node that can decode the block sends alike.
    """
    if not store.info(block_id).needs:
        return store.export_block(block_id)
    from pbstore.codecs import choose

    raw = store.get(block_id)
    coded = choose(raw, None, thorough=True)
    return StoredBlock(
        block_id=block_id, raw_bytes=len(raw), codec=coded.codec, payload=coded.payload, needs=()
    )


def decode_alone(block_id: BlockId, stored: Iterable[StoredBlock]) -> StoredBlock:
    """`alone_form` of a block out of its kept form and those of all that it needs.

    Raises:
        BlockMissingError: If one is not among them.
        BlockCorruptError: If one does not decode to what its id says.
    """
    store, waiting = MemoryBlockStore(), {one.block_id: one for one in stored}
    while ready := [one for one in waiting.values() if all(map(store.has, one.needs))]:
        for one in ready:
            store.import_block(one)
            del waiting[one.block_id]
    return alone_form(store, block_id)


def parts_of(block_id: BlockId, count: int) -> tuple[Part, ...]:
    """All parts of a block."""
    return tuple(replace(Part(block_id, count=count), index=index) for index in range(count))
