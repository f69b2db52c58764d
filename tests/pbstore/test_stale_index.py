"""An index that is not the newest, and parts that only it still knows: nothing committed is taken away."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import BlockCorruptError, DiskBlockStore, IntegrityError, load_state_dict, open_store
from tests.pbstore.folders import base_tensors, folder_content, write_model

NAMES = ("org/one", "org/two", "org/three")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        name: write_model(tmp_path / f"model-{seed}", base_tensors(seed=seed, rows=200))
        for seed, name in enumerate(NAMES)
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", pack_bytes=60_000) as opened:
        yield opened


def assert_whole(store: DiskBlockStore, folders: dict[str, Path], *names: str) -> None:
    assert set(store.models()) == set(names)
    assert store.verify().problems == ()
    for name in names:
        out = store.path.parent / f"out-{len(list(store.path.parent.iterdir()))}"
        store.checkout(name, out)
        assert folder_content(out) == folder_content(folders[name])


def test_a_writer_follows_an_index_that_another_built_anew(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    store.add(folders["org/one"], "org/one", form="hot")
    with open_store(store.path) as other:
        other.repair()
        other.add(folders["org/two"], "org/two", form="hot")
        store.pin("org/one")
        store.add(folders["org/three"], "org/three", form="hot")
        assert_whole(other, folders, *NAMES)
    assert_whole(store, folders, *NAMES)


def test_an_index_that_is_older_than_the_packs_takes_nothing_away(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    """As after a copy that left the write-ahead log behind."""
    store.add(folders["org/one"], "org/one", form="hot")
    store.close()
    old = (store.path / "index.sqlite").read_bytes()
    with open_store(store.path) as later:
        later.add(folders["org/two"], "org/two", form="hot")
    for file in store.path.glob("index.sqlite*"):
        file.unlink()
    (store.path / "index.sqlite").write_bytes(old)

    with open_store(store.path) as stale:
        stale.pin("org/one")
        with pytest.raises(IntegrityError, match=r"older than the packs.*repair"):
            stale.add(folders["org/three"], "org/three", form="hot")
        assert stale.repair().left == ()
        stale.add(folders["org/three"], "org/three", form="hot")
        assert_whole(stale, folders, *NAMES)


def give_up(store: DiskBlockStore) -> None:
    with store.disk.writing() as tx:
        tx.start_new_pack()
        store.get(store.put(b"never committed" * 100))
        raise KeyboardInterrupt


def test_a_pack_that_came_to_nothing_is_not_taken_for_the_next(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        give_up(store)
    store.gc()
    store.add(folders["org/one"], "org/one")

    assert_whole(store, folders, "org/one")


def test_a_block_whose_header_is_damaged_is_stored_anew(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    store.add(folders["org/one"], "org/one", form="hot")
    location = max(store.disk.locations(), key=lambda item: item.record.raw_bytes)
    with (store.path / "packs" / f"{location.pack:08d}.pack").open("r+b") as file:
        file.seek(location.record.offset)
        file.write(b"????")
    assert not store.verify().ok

    report = store.repair()
    assert (report.mended_blocks, report.left) == (1, ())
    assert_whole(store, folders, "org/one")


def test_what_cannot_be_read_is_not_cut_off(store: DiskBlockStore, folders: dict[str, Path]) -> None:
    store.add(folders["org/one"], "org/one", form="hot")
    last = max(store.disk.locations(), key=lambda item: (item.pack, item.record.offset))
    path = store.path / "packs" / f"{last.pack:08d}.pack"
    size = path.stat().st_size
    store.close()
    with path.open("r+b") as file:
        file.seek(last.record.offset)
        file.write(b"????")
    (store.path / "index.sqlite").unlink()
    with open_store(store.path) as again:
        again.put(b"more")
        assert path.stat().st_size >= size


def test_a_damaged_block_keeps_its_pack_and_stops_no_gc(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    for name in NAMES:
        store.add(folders[name], name, form="hot")
    location = store.disk.locate(store.manifest("org/one").block_ids()[1])
    with (store.path / "packs" / f"{location.pack:08d}.pack").open("r+b") as file:
        file.seek(location.record.payload_offset)
        file.write(b"????")
    store.remove("org/two", trash=False)
    store.gc()

    assert len(store.verify().problems) == 1
    assert (store.path / "packs" / f"{location.pack:08d}.pack").exists()


def test_memory_that_is_shared_was_checked(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    store.add(folders["org/one"], "org/one", form="hot")
    location = max(store.disk.locations(), key=lambda item: item.record.raw_bytes)
    shutil.copytree(store.path, tmp_path / "damaged")
    with (tmp_path / "damaged" / "packs" / f"{location.pack:08d}.pack").open("r+b") as file:
        file.seek(location.record.payload_offset)
        file.write(b"????")
    with open_store(tmp_path / "damaged") as damaged, pytest.raises(BlockCorruptError):
        load_state_dict(damaged, "org/one", share=True, eager=True)
    assert load_state_dict(store, "org/one", share=True, eager=True)


def test_adding_a_model_again_puts_its_lost_manifest_back(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    store.add(folders["org/one"], "org/one")
    store.disk.layout.manifest("org/one").unlink()

    assert store.add(folders["org/one"], "org/one").already_there
    assert_whole(store, folders, "org/one")


def test_heating_a_model_of_many_tiny_blocks_ends(tmp_path: Path) -> None:
    tensors = {f"t{i:05d}": base_tensors(seed=i, rows=1, width=1)["layer.bias"] for i in range(2000)}
    folder = write_model(tmp_path / "tiny", {**tensors, **base_tensors(rows=900)})
    with open_store(tmp_path / "store", capacity_bytes=500_000, durable=False) as store:
        store.add(folder, "org/tiny")
        store.forms.heat("org/tiny")
        assert store.verify().ok
