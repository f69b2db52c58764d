"""Laws of a checkout: every block by its hash, and every file by its sha256 unless this store made both."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pbstore import BlockCorruptError, DiskBlockStore, open_store
from pbstore.buffers import Buffers
from pbstore.disk.files import fsio
from pbstore.disk.index import model_rows
from pbstore.errors import FileCorruptError
from pbstore.manifest import Manifest
from tests.pbstore.folders import base_tensors, folder_content, write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", base_tensors(), vocab__txt=b"a b c")


def with_false_sums(manifest: Manifest) -> Manifest:
    return replace(manifest, files=tuple(replace(entry, sha256="0" * 64) for entry in manifest.files))


def is_own(store: DiskBlockStore, name: str) -> bool:
    return model_rows.is_own(store.disk.connection, store.disk.model_row(name))


def test_a_manifest_of_others_with_false_sums_is_refused(folder: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "one") as one, open_store(tmp_path / "two") as two:
        one.add(folder, "org/base")
        for block_id in one.blocks("org/base"):
            two.import_block(one.export_block(block_id))
        two.put_manifest(with_false_sums(one.manifest("org/base")))

        with pytest.raises(FileCorruptError):
            two.checkout("org/base", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


def test_only_models_that_the_store_cut_itself_count_as_its_own(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folder, "org/base")
        assert is_own(store, "org/base")
        false = with_false_sums(store.manifest("org/base"))
        store.remove("org/base", trash=False)
        store.put_manifest(false)
        assert not is_own(store, "org/base")
        store.remove("org/base", trash=False)
        store.add(folder, "org/base")
    (path / "index.sqlite").unlink()
    with open_store(path) as store:
        assert not is_own(store, "org/base")
        store.checkout("org/base", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(folder)


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_damage_in_a_pack_leaves_no_file(form: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folder, "org/base", form=form)
        location = max(store.disk.locations(), key=lambda found: found.record.stored_bytes)
    pack = path / "packs" / f"{location.pack:08d}.pack"
    data = bytearray(pack.read_bytes())
    data[location.record.payload_offset + location.record.stored_bytes // 2] ^= 1
    pack.write_bytes(data)
    with open_store(path) as store, pytest.raises(BlockCorruptError):
        store.checkout("org/base", tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_memory_is_used_again_but_never_twice_at_a_time() -> None:
    buffers = Buffers()
    one, two = buffers.take(70_000), buffers.take(70_000)
    one[:] = b"1" * len(one)
    two[:] = b"2" * len(two)
    assert bytes(one[:1]) + bytes(two[-1:]) == b"12"
    buffers.give(one)
    again = buffers.take(100_000)
    assert again.obj is one.obj
    assert all(buffers.take(100_000).obj is not held.obj for held in (again, two))
    buffers.give(two)
    with pytest.raises(ValueError, match="given back twice"):
        buffers.give(two)


def test_large_memory_is_used_again_where_it_is_not_much_too_large() -> None:
    buffers = Buffers()
    large = buffers.take(30 << 20)
    memory = large.obj
    buffers.give(large)

    assert buffers.take(14 << 20).obj is not memory
    again = buffers.take(20 << 20)
    assert again.obj is memory
    assert len(again) == 20 << 20
    assert buffers.take(20 << 20).obj is not memory


def test_memory_that_is_kept_makes_room_for_what_is_wanted() -> None:
    buffers = Buffers()
    held = [buffers.take(40 << 20) for _ in range(3)]
    kept = {id(memory.obj) for memory in held}
    for memory in held:
        buffers.give(memory)
    first = buffers.take(90 << 20)  # nothing fits: what is kept goes

    assert len(first) == 90 << 20
    assert all(id(buffers.take(40 << 20).obj) not in kept for _ in range(3))


def test_memory_that_cannot_be_written_is_not_kept() -> None:
    buffers = Buffers()
    fixed = np.frombuffer(bytes(1 << 16), np.uint8)
    buffers.give(fixed.data)
    assert buffers.take(1 << 16).obj is not fixed


def test_pages_of_raw_files_are_shared_where_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = []

    def clone(source: int, source_offset: int, length: int, fd: int, offset: int) -> bool:
        assert not (source_offset | length | offset) % fsio.CLONE_ALIGN
        assert os.copy_file_range(source, fd, length, source_offset, offset) == length
        shared.append(length)
        return True

    raw = np.random.default_rng(0).bytes(300_001)
    model = write_model(tmp_path / "model", base_tensors(), weights__gguf=raw)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(model, "org/model", form="hot")
        monkeypatch.setattr(fsio, "clone_range", clone)
        store.checkout("org/model", tmp_path / "shared")
        monkeypatch.setattr(fsio, "clone_range", lambda *_: False)
        store.checkout("org/model", tmp_path / "copied")

    assert max(shared) == len(raw) // fsio.CLONE_ALIGN * fsio.CLONE_ALIGN
    assert folder_content(tmp_path / "shared") == folder_content(tmp_path / "copied") == folder_content(model)
