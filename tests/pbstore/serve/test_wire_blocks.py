"""The block protocol's bytes: what goes in comes out, however it is cut; nothing else does."""

import hashlib
import zlib
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbstore.blocks import MAX_BLOCK_BYTES, StoredBlock
from pbstore.errors import PBStoreError
from pbstore.hashing import BlockId, hash_block
from pbstore.serve.wire import blocks, frames
from pbstore.serve.wire.blocks import MAX_IDS, MAX_WANTS, Want, WireError
from pbstore.serve.wire.frames import BlockReader, Head, Partial
from pbstore.store import raw_block

ids = st.binary(min_size=32, max_size=32).map(lambda key: BlockId(key.hex()))
wants = st.builds(
    Want,
    block_id=ids,
    offset=st.integers(0, 1 << 40),
    check=st.binary(min_size=16, max_size=16),
)
raw = st.binary(max_size=200)
stored_blocks = st.one_of(
    raw.map(raw_block),
    st.builds(
        StoredBlock,
        block_id=ids,
        raw_bytes=st.integers(0, MAX_BLOCK_BYTES),
        codec=st.sampled_from(["delta", "planes", "recast"]),
        payload=raw,
        needs=st.lists(ids, max_size=3).map(tuple),
    ),
)


def stream(items: Iterable[StoredBlock | BlockId], offsets: dict[BlockId, int] | None = None) -> bytes:
    parts, count = [frames.STREAM_START], 0
    for item in items:
        count += 1
        if isinstance(item, str):
            parts.append(frames.absent_frame(item))
            continue
        offset = (offsets or {}).get(item.block_id, 0)
        parts += [frames.block_head(item, frames.stored_check(item), offset), bytes(item.payload[offset:])]
    return b"".join([*parts, frames.end_frame(count)])


def read(
    data: bytes, cuts: Iterable[int] = (), reader: BlockReader | None = None
) -> list[StoredBlock | Head]:
    reader = reader or BlockReader()
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    items = [item for start, stop in pairwise(edges) for item in reader.feed(data[start:stop])]
    reader.finish()
    return items


def same(item: StoredBlock | Head, wanted: StoredBlock | BlockId) -> bool:
    if isinstance(wanted, str):
        return isinstance(item, Head) and item.kind == frames.ABSENT and item.block_id == wanted
    return isinstance(item, StoredBlock) and item.info == wanted.info and item.payload == wanted.payload


@given(st.lists(ids, max_size=5), st.lists(wants, max_size=5))
def test_questions_come_back(asked: list[BlockId], wanted: list[Want]) -> None:
    assert blocks.decode_ids(blocks.encode_ids(asked)) == asked
    assert blocks.decode_wants(blocks.encode_wants(wanted)) == wanted


@pytest.mark.parametrize(
    "body", [b"", b"PBIDS001x", b"PBIDS002" + bytes(32), b"PBIDS001" + bytes(32 * (MAX_IDS + 1))]
)
def test_a_bad_question_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        blocks.decode_ids(body)


@pytest.mark.parametrize(
    "body", [b"PBWANT01" + bytes(55), b"PBWANT09" + bytes(56), b"PBWANT01" + bytes(56 * (MAX_WANTS + 1))]
)
def test_a_bad_request_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        blocks.decode_wants(body)


@given(st.lists(st.one_of(stored_blocks, ids), max_size=5), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_a_stream_comes_back_however_it_is_cut(items: list[StoredBlock | BlockId], cuts: list[int]) -> None:
    back = read(stream(items), cuts)
    assert len(back) == len(items)
    assert all(map(same, back, items))


@given(st.lists(stored_blocks, min_size=1, max_size=3), st.data())
def test_a_stream_that_is_cut_short_is_found_out(items: list[StoredBlock], data: st.DataObject) -> None:
    whole = stream(items)
    reader = BlockReader()
    with pytest.raises(WireError, match="cut short"):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))], reader=reader)


@given(st.lists(stored_blocks, min_size=1, max_size=3), st.data())
def test_a_changed_byte_never_gives_another_block(items: list[StoredBlock], data: st.DataObject) -> None:
    whole = bytearray(stream(items))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    reader, back = BlockReader(), []
    try:
        back.extend(reader.feed(bytes(whole)))
        reader.finish()
    except PBStoreError:
        return
    assert all(map(same, back, items))


@given(stored_blocks, st.data())
def test_a_payload_goes_on_where_it_ended(stored: StoredBlock, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(stored.payload)))
    head = Head(
        kind=frames.BLOCK,
        block_id=stored.block_id,
        codec=stored.codec,
        raw_bytes=stored.raw_bytes,
        stored_bytes=stored.stored_bytes,
        check=frames.stored_check(stored),
        needs=stored.needs,
    )
    partial = Partial(head, bytes(stored.payload[:offset]))
    (back,) = read(stream([stored], {stored.block_id: offset}), reader=BlockReader(partial))
    assert same(back, stored)


def test_what_a_head_claims_takes_no_memory() -> None:
    """A gigabyte is claimed and ten bytes come: a reader that believed it would fail, or show in its size."""
    stored = StoredBlock(block_id=BlockId("0" * 64), raw_bytes=1, codec="zstd", payload=bytes(10))
    head = bytearray(frames.block_head(stored, bytes(16)))
    head[28:36] = MAX_BLOCK_BYTES.to_bytes(8, "little")
    head[-4:] = zlib.crc32(head[:-4]).to_bytes(4, "little")
    reader = BlockReader()
    assert list(reader.feed(frames.STREAM_START + bytes(head) + bytes(10))) == []
    assert reader.partial is not None
    assert len(reader.partial.data) == 10


def test_the_format_stays() -> None:
    """Nodes of other versions read these bytes: a change of the format needs a new path and new magic."""
    stored = StoredBlock(
        block_id=hash_block(b"abc"), raw_bytes=3, codec="raw", payload=b"abc", needs=(BlockId("01" * 32),)
    )
    told = stream([stored, BlockId("02" * 32)]) + frames.info_frame(stored.info) + frames.wait_frame()
    asked = blocks.encode_ids([BlockId("03" * 32)]) + blocks.encode_wants([Want(block_id=BlockId("04" * 32))])
    assert (
        hashlib.sha256(told + asked).hexdigest()
        == "66d0966170d0b2afcee735ee6bd45a1e8cf95fc744ccf256f5e06bfca3546842"
    )
