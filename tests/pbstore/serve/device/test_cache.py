"""A device's cache: blocks by id, only right ones, within their room, whatever dies."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.hashing import hash_block
from pbstore.serve.device.cache import BlockCache
from pbstore.serve.wire.xet import CHUNK_BYTES

SIZES = (1, 5000, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 77)


def block(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def put_all(cache: BlockCache, raw: bytes, order: list[int] | None = None, name: str | None = None) -> None:
    chunks = -(-len(raw) // CHUNK_BYTES)
    for chunk in order or range(chunks):
        data = raw[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
        cache.put(name or hash_block(raw), len(raw), chunk, data)


def get_all(cache: BlockCache, block_id: str) -> bytes | None:
    found = cache.open(block_id)
    return None if found is None else found.read(0, found.raw_bytes)


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_a_block_comes_back_and_survives_the_process(tmp_path: Path, number: int) -> None:
    raw = block(number)
    cache = BlockCache(tmp_path, 10 << 20)
    put_all(cache, raw, list(reversed(range(-(-len(raw) // CHUNK_BYTES)))))
    assert get_all(cache, hash_block(raw)) == raw
    assert get_all(BlockCache(tmp_path, 10 << 20), hash_block(raw)) == raw


def test_nothing_of_a_part_is_given(tmp_path: Path) -> None:
    """What was not checked whole may be wrong."""
    raw = block(4)
    cache = BlockCache(tmp_path, 10 << 20)
    cache.put(hash_block(raw), len(raw), 1, raw[CHUNK_BYTES : 2 * CHUNK_BYTES])
    assert cache.open(hash_block(raw)) is None
    BlockCache(tmp_path, 10 << 20)
    assert list((tmp_path / "coming").iterdir()) == []


def test_what_does_not_hash_to_its_id_is_forgotten(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 10 << 20)
    put_all(cache, block(4), name=hash_block(b"another"))
    assert get_all(cache, hash_block(b"another")) is None
    assert cache.held_bytes == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_block_that_was_damaged_on_the_disk_is_forgotten(tmp_path: Path) -> None:
    raw = block(1)
    put_all(BlockCache(tmp_path, 10 << 20), raw)
    (tmp_path / "blocks" / hash_block(raw)).write_bytes(raw[:-1] + b"!")
    cache = BlockCache(tmp_path, 10 << 20)
    assert get_all(cache, hash_block(raw)) is None
    put_all(cache, raw)
    assert get_all(cache, hash_block(raw)) == raw


@settings(max_examples=12)
@given(puts=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=15))
def test_it_stays_within_its_room_and_never_gives_wrong_bytes(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[int, bool]]
) -> None:
    folder, room = tmp_path_factory.mktemp("cache"), 700_000
    cache = BlockCache(folder, room)
    for number, whole in puts:
        raw = block(number)
        put_all(cache, raw, None if whole else [0])
        for other in range(10):
            assert get_all(cache, hash_block(block(other))) in (None, block(other))
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert used <= cache.held_bytes <= room
    if puts and puts[-1][1]:
        assert get_all(cache, hash_block(block(puts[-1][0]))) is not None


@pytest.mark.parametrize(("chunk", "size"), [(-1, 5), (1, 5), (0, 4), (0, CHUNK_BYTES + 1)])
def test_a_chunk_that_is_none_of_its_block_is_refused(tmp_path: Path, chunk: int, size: int) -> None:
    with pytest.raises(ValueError, match="is none of a block"):
        BlockCache(tmp_path, 10 << 20).put("0" * 64, 5, chunk, bytes(size))
