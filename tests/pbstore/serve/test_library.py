"""A library gives every byte range of every file, and never one of a damaged block."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore, ModelMissingError
from pbstore.errors import IntegrityError, RevisionMissingError
from pbstore.manifest import FileEntry, Piece
from pbstore.serve.library import StoreLibrary
from pbstore.serve.library.decoded import DecodedBlocks
from pbstore.serve.library.library import commit_of_manifest
from pbstore.serve.library.spans import runs_of, spans_of
from pbstore.serve.settings import ServeSettings
from tests.pbstore.serve.stores import FAMILY, family_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        yield opened


def read(library: StoreLibrary, file: FileEntry, start: int, stop: int) -> bytes:
    async def gather() -> bytes:
        return b"".join([bytes(part) async for part in library.read(file, start, stop)])

    return asyncio.run(gather())


def file_of(library: StoreLibrary, name: str, path: str = "model.safetensors") -> FileEntry:
    return asyncio.run(library.revision(name)).by_path[path]


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=12)
@given(data=st.data())
def test_any_range_is_the_same_bytes(store: DiskBlockStore, name: str, data: st.DataObject) -> None:
    library = StoreLibrary(store, ServeSettings(part_bytes=data.draw(st.sampled_from((7, 1000, 1 << 20)))))
    file = file_of(library, name)
    start = data.draw(st.integers(0, file.size_bytes))
    stop = data.draw(st.integers(start, min(file.size_bytes, start + 5000)))
    expected = (store.path.parent / "folders" / name / file.path).read_bytes()[start:stop]

    assert read(library, file, start, stop) == expected
    asyncio.run(library.close())


def test_every_file_comes_whole(store: DiskBlockStore) -> None:
    library = StoreLibrary(store)
    for name in asyncio.run(library.names()):
        for file in asyncio.run(library.revision(name)).manifest.files:
            expected = (store.path.parent / "folders" / name / file.path).read_bytes()
            assert read(library, file, 0, file.size_bytes) == expected
    asyncio.run(library.close())


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 9), max_size=9), most=st.integers(1, 7), data=st.data())
def test_runs_cover_a_range_once_in_order(sizes: list[int], most: int, data: st.DataObject) -> None:
    ids = [f"{number:064x}" for number in range(len(sizes))]
    file = FileEntry(path="f", size_bytes=sum(sizes), sha256="0" * 64, pieces=tuple(map(Piece, ids, sizes)))
    start = data.draw(st.integers(0, file.size_bytes))
    stop = data.draw(st.integers(start, file.size_bytes))
    everything = [(block, at) for block, size in zip(ids, sizes, strict=True) for at in range(size)]
    runs = list(runs_of(spans_of(file, start, stop), most))

    assert [(b, at) for run in runs for b, first, last in run for at in range(first, last)] == everything[
        start:stop
    ]
    assert all(0 < sum(last - first for _, first, last in run) <= most for run in runs)


def test_a_revision_is_its_manifest(store: DiskBlockStore) -> None:
    library = StoreLibrary(store)
    for name in FAMILY:
        found = asyncio.run(library.revision(name))
        assert found.commit == commit_of_manifest(store.manifest(name))
        assert asyncio.run(library.revision(name, found.commit)) is found
        with pytest.raises(RevisionMissingError):
            asyncio.run(library.revision(name, "0" * 40))
    with pytest.raises(ModelMissingError):
        asyncio.run(library.revision("org/none"))
    asyncio.run(library.close())


@pytest.mark.parametrize("name", FAMILY)
def test_a_damaged_block_gives_no_byte(tmp_path: Path, name: str) -> None:
    with family_store(tmp_path) as store:
        library = StoreLibrary(store, ServeSettings(decoded_bytes=0))
        file = file_of(library, name)
        block = max(file.pieces, key=lambda piece: store.info(piece.block_id).stored_bytes).block_id
        start = next(s for s in range(file.size_bytes) if next(spans_of(file, s, s + 1)).block_id == block)
        assert len(read(library, file, start, start + 10)) == 10
        location = store.disk.locate(block)
        pack = store.disk.readable_pack(location.pack)
        with pack.open("r+b") as opened:  # in its last byte, which is not asked for
            opened.seek(location.record.end - 1)
            byte = opened.read(1)
            opened.seek(location.record.end - 1)
            opened.write(bytes([byte[0] ^ 1]))
        os.utime(pack, ns=(time.time_ns(), time.time_ns() + 1))  # a clock may be coarse

        with pytest.raises(IntegrityError):
            read(library, file, start, start + 10)
        asyncio.run(library.close())


def test_what_is_appended_does_not_cost_trust_and_time_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with family_store(tmp_path) as store:
        checks = []
        real = store.disk.check_raw
        monkeypatch.setattr(
            store.disk, "check_raw", lambda location: (checks.append(location), real(location))
        )
        library = StoreLibrary(store, ServeSettings(trust_s=3600))
        file = file_of(library, "org/base")
        read(library, file, 0, file.size_bytes)
        first = len(checks)
        assert first == len({piece.block_id for piece in file.pieces})
        store.put(b"another block" * 1000)
        read(library, file, 0, file.size_bytes)
        assert len(checks) == first
        hasty = StoreLibrary(store, ServeSettings(trust_s=0))
        for _ in range(2):
            read(hasty, file, 0, file.size_bytes)
        assert len(checks) == 3 * first
        for one in (library, hasty):
            asyncio.run(one.close())


def test_a_cold_block_is_decoded_once_for_many(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = StoreLibrary(store)
    file = file_of(library, "org/tuned")
    decoded = []
    real = store.disk.get
    monkeypatch.setattr(
        store.disk, "get", lambda block_id, **how: (decoded.append(block_id), real(block_id, **how))[1]
    )

    async def many() -> list[list[bytes]]:
        async def one() -> list[bytes]:
            return [bytes(part) async for part in library.read(file, 0, file.size_bytes)]

        return await asyncio.gather(*(one() for _ in range(8)))

    results = asyncio.run(many())
    assert all(result == results[0] for result in results)
    assert len(decoded) == len(set(decoded))
    asyncio.run(library.close())


@settings(max_examples=25)
@given(puts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=30))
def test_decoded_blocks_stay_within_their_room(puts: list[tuple[int, int]]) -> None:
    kept = DecodedBlocks(64)
    sizes = {}
    for key, size in puts:
        kept.put(f"{key:064x}", bytes(size))
        sizes[key] = size
        assert kept.held_bytes <= 64
        assert len(kept.get(f"{key:064x}") or b"") == size
    held = [kept.get(f"{key:064x}") for key in sizes]
    assert kept.held_bytes == sum(len(raw) for raw in held if raw is not None)


def test_packs_that_a_gc_deleted_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbstore.serve.library.store._LOOK_FOR_GONE_S", 0.0)
    with family_store(tmp_path) as store:
        library = StoreLibrary(store)
        file = file_of(library, "org/base")
        read(library, file, 0, file.size_bytes)
        for pack in store.disk.layout.packs.iterdir():  # as if another process had written all blocks anew
            pack.replace(pack.with_suffix(".old"))
            pack.with_suffix(".pack").write_bytes(pack.with_suffix(".old").read_bytes())
            pack.with_suffix(".old").unlink()
        read(library, file, 0, file.size_bytes)
        assert not [path for path in open_files() if str(tmp_path) in path and "(deleted)" in path]
        asyncio.run(library.close())


def open_files() -> list[str]:
    return [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]


def test_its_threads_end_with_it(store: DiskBlockStore) -> None:
    before = set(threading.enumerate())
    library = StoreLibrary(store)
    asyncio.run(library.names())
    begun = set(threading.enumerate()) - before
    assert begun
    asyncio.run(library.close())
    for thread in begun:
        thread.join(60)
    assert not any(thread.is_alive() for thread in begun)
