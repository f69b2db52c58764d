"""What is uploaded by Xet: every form of a chunk is read, and nothing in a header is believed."""

import contextlib
import random

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.serve.wire.xet import CHUNK_BYTES
from pbstore.serve.wire.xet_upload import (
    ChunkInfo,
    UploadError,
    build_shard,
    chunks_of,
    parse_shard,
)


def lz4(raw: bytes) -> bytes:
    return pyarrow.Codec("lz4").compress(raw).to_pybytes()


def grouped(raw: bytes) -> bytes:
    return b"".join(raw[group::4] for group in range(4))


def frame(raw: bytes, scheme: int) -> bytes:
    payload = {0: raw, 1: lz4(raw), 2: lz4(grouped(raw))}[scheme]
    head = bytes([0]) + len(payload).to_bytes(3, "little") + bytes([scheme])
    return head + len(raw).to_bytes(3, "little") + payload


chunk_bytes = st.one_of(
    st.binary(min_size=1, max_size=50),
    st.builds(lambda seed, n: random.Random(seed).randbytes(n), st.integers(0, 9), st.integers(1, 3000)),
    st.builds(lambda b, n: bytes([b]) * n, st.integers(0, 255), st.integers(1, CHUNK_BYTES)),
)


@settings(max_examples=20)
@given(
    chunks=st.lists(st.tuples(chunk_bytes, st.integers(0, 2)), min_size=1, max_size=5), footer=st.booleans()
)
def test_chunks_of_every_form_come_back(chunks: list[tuple[bytes, int]], footer: bool) -> None:
    body = b"".join(frame(raw, scheme) for raw, scheme in chunks) + (b"XETBLOB and more" if footer else b"")
    assert list(chunks_of(body)) == [raw for raw, _ in chunks]


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused() -> None:
    for scheme in (1, 2):
        bomb = bytearray(frame(bytes(CHUNK_BYTES), scheme))
        bomb[5:8] = (100).to_bytes(3, "little")
        with pytest.raises(UploadError, match="expected a chunk of 100 bytes"):
            list(chunks_of(bytes(bomb)))


@settings(max_examples=30)
@given(data=st.data())
def test_a_damaged_xorb_is_refused_or_read_and_never_worse(data: st.DataObject) -> None:
    body = bytearray(frame(b"abcd" * 100, 2) + frame(b"x" * 99, 1) + frame(b"y" * 30, 0))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    try:
        chunks = list(chunks_of(bytes(body[:cut])))
    except UploadError:
        return
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)


digests = st.binary(min_size=32, max_size=32).filter(lambda digest: digest != b"\xff" * 32)
infos = st.lists(st.builds(ChunkInfo, digests, st.integers(1, CHUNK_BYTES)), min_size=1, max_size=5)


@settings(max_examples=20)
@given(xorbs=st.dictionaries(digests, infos, max_size=4))
def test_a_shard_that_is_built_is_read(xorbs: dict[bytes, list[ChunkInfo]]) -> None:
    shard = parse_shard(build_shard(xorbs, 1, 2))
    assert shard.files == ()
    assert shard.xorbs == {digest: tuple(chunks) for digest, chunks in xorbs.items()}


@settings(max_examples=30)
@given(data=st.data())
def test_a_damaged_shard_is_refused_or_read(data: st.DataObject) -> None:
    chunks = [ChunkInfo(bytes(32), 5), ChunkInfo(b"\1" * 32, 6)]
    body = bytearray(build_shard({b"\2" * 32: chunks}, 1, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UploadError):
        parse_shard(bytes(body[: data.draw(st.integers(0, len(body)))]))
