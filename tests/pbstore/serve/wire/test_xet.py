"""Xet's formats: hashes as hf_xet computes them, frames that are a xorb, terms that are the file."""

import random
from pathlib import Path

import hf_xet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.manifest import Piece
from pbstore.serve.wire import xet
from pbstore.serve.wire.xet import CHUNK_BYTES, HEADER_BYTES

_FRAME = CHUNK_BYTES + HEADER_BYTES


@pytest.mark.parametrize("runs", [0, 1, 2, 3, 4, 9, 10, 11, 23, 90])
def test_file_hashes_are_those_of_hf_xet(tmp_path: Path, runs: int) -> None:
    """Runs of one byte each are cut after exactly `CHUNK_BYTES`: no window of them is a boundary."""
    rng = random.Random(runs)
    chunks = [bytes([rng.randrange(256)]) * CHUNK_BYTES for _ in range(runs)] + [rng.randbytes(100 + runs)]
    (tmp_path / "file").write_bytes(b"".join(chunks))
    expected = hf_xet.hash_files([str(tmp_path / "file")])[0].hash

    assert xet.to_hex(xet.file_hash([(xet.chunk_hash(chunk), len(chunk)) for chunk in chunks])) == expected


def test_an_empty_file_has_the_hash_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert xet.to_hex(xet.file_hash([])) == hf_xet.hash_files([str(tmp_path / "file")])[0].hash


@given(digest=st.binary(min_size=32, max_size=32))
def test_a_hash_comes_back_from_its_text(digest: bytes) -> None:
    assert xet.from_hex(xet.to_hex(digest)) == digest


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hash|hexadecimal"):
        xet.from_hex(text)


def whole_xorb(raw: bytes) -> bytes:
    chunks = [raw[at : at + CHUNK_BYTES] for at in range(0, len(raw), CHUNK_BYTES)]
    return b"".join(xet.frame_header(len(chunk)) + chunk for chunk in chunks)


near_frames = st.one_of(
    st.integers(0, 4 * _FRAME),
    st.builds(lambda n, d: max(n * _FRAME + d, 0), st.integers(0, 4), st.integers(-9, 9)),
)


@settings(max_examples=25)
@given(size=near_frames, bounds=st.tuples(near_frames, near_frames))
def test_any_part_of_a_xorb_is_that_part_of_the_whole(size: int, bounds: tuple[int, int]) -> None:
    raw = random.Random(size).randbytes(size)
    xorb = whole_xorb(raw)
    assert len(xorb) == xet.framed_bytes(size)
    start, stop = sorted(min(bound, len(xorb)) for bound in bounds)
    parts = [part.head or raw[part.start : part.stop] for part in xet.segments(size, start, stop)]

    assert b"".join(parts) == xorb[start:stop]
    assert all(parts)


def unframed(framed: bytes) -> list[bytes]:
    """Chunks, as a client reads them."""
    chunks, at = [], 0
    while at < len(framed):
        version, scheme = framed[at], framed[at + 4]
        packed, raw = (int.from_bytes(framed[at + i : at + i + 3], "little") for i in (1, 5))
        assert (version, scheme, packed) == (0, 0, raw)
        chunks.append(framed[at + HEADER_BYTES : at + HEADER_BYTES + raw])
        at += HEADER_BYTES + raw
    return chunks


def put_together(plan: xet.Reconstruction, xorbs: dict[str, bytes]) -> bytes:
    """What a client makes of it; it looks for a fetch by a xorb and its first chunk."""
    fetched: dict[tuple[str, int], tuple[int, list[bytes]]] = {}
    for fetch in plan.fetches:
        assert (fetch.block_id, fetch.first) not in fetched
        chunks = unframed(xorbs[fetch.block_id][fetch.start : fetch.stop])
        assert len(chunks) == fetch.last - fetch.first <= xet.FETCH_CHUNKS
        fetched[fetch.block_id, fetch.first] = (fetch.last, chunks)
    result = b""
    for term in plan.terms:
        (first, (_, chunks)), *more = [
            (key[1], value)
            for key, value in fetched.items()
            if key[0] == term.block_id and key[1] <= term.first and term.last <= value[0]
        ]
        assert not more
        raw = b"".join(chunks[term.first - first : term.last - first])
        assert len(raw) == term.raw_bytes
        result += raw
    return result[plan.skipped_bytes :]


@settings(max_examples=25)
@given(data=st.data())
def test_a_client_puts_any_range_together(data: st.DataObject) -> None:
    """With fetches of three chunks instead of 128, so that blocks need several."""
    sizes = data.draw(st.lists(st.one_of(st.integers(0, 3), st.integers(1, 900_000)), min_size=1, max_size=3))
    blocks = {f"{number:064x}": random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    order = data.draw(st.lists(st.sampled_from(sorted(blocks)), min_size=1, max_size=5))  # some several times
    file = b"".join(blocks[block] for block in order)
    pieces = [Piece(block, len(blocks[block])) for block in order]
    start = data.draw(st.integers(0, len(file)))
    stop = data.draw(st.integers(start, len(file)))
    before, xet.FETCH_CHUNKS = xet.FETCH_CHUNKS, 3
    try:
        plan = xet.reconstruct(pieces, start, stop)
        result = put_together(plan, {block: whole_xorb(raw) for block, raw in blocks.items()})
    finally:
        xet.FETCH_CHUNKS = before

    assert result[: stop - start] == file[start:stop]
    assert len(result) - (stop - start) < CHUNK_BYTES
