"""A lost or damaged index comes back from its snapshot, or from packs with what only the snapshot knew."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.blocks import disk_blocks, recover
from pbstore.disk.index import audit, database
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


def known(store: DiskBlockStore) -> dict[str, Any]:
    """All that people see of a store's models."""
    rows = store.disk.settled_rows()
    return {
        row.name: (
            row.commit, row.pinned, row.priority, row.uses, row.added_at, store.disk.tags(row.name),
            [one.commit for one in store.history.log(row.name)],
        )
        for row in rows
    } | {"trash": store.trash.models()}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> DiskBlockStore:
    base = base_tensors(rows=20)
    opened = open_store(tmp_path / "store", durable=False)
    opened.add(write_model(tmp_path / "v0", base), "org/m")
    opened.add(write_model(tmp_path / "v1", tuned(base, ("layer.weight",))), "org/m")
    opened.add(write_model(tmp_path / "other", base_tensors(1, rows=9)), "org/other")
    opened.add(write_model(tmp_path / "gone", base_tensors(2, rows=9)), "org/gone")
    opened.history.tag("org/m@~1", "first")
    opened.pin("org/m", priority=3)
    opened.checkout("org/other", tmp_path / "out")
    opened.remove("org/gone")
    return opened


def lose(index: Path) -> None:
    index.unlink()


def cut(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:100])


def overwrite(index: Path) -> None:
    index.write_bytes(b"\xff" * index.stat().st_size)


LATER: dict[str, Callable[[DiskBlockStore, Path], object]] = {
    "nothing": lambda store, _: None,
    "a new model": lambda store, root: store.add(root / "v0", "org/late"),
    "a revision": lambda store, root: store.add(root / "other", "org/m"),
    "pins": lambda store, _: (store.pin("org/m", False), store.pin("org/other", priority=1.5)),
    "a rename": lambda store, _: store.history.rename("org/m", "org/renamed"),
    "a removal": lambda store, _: store.remove("org/m"),
    "a removal and back": lambda store, _: (store.remove("org/m"), store.trash.restore("org/m", "org/back")),
    "removed for good": lambda store, _: (store.remove("org/other", trash=False), store.gc()),
    "a tag": lambda store, _: store.history.tag("org/other", "v1"),
}


@pytest.mark.parametrize("damage", [lose, cut, overwrite])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.sampled(9)
def test_all_that_was_known_comes_back(
    store: DiskBlockStore, tmp_path: Path, later: str, damage: Callable[[Path], None]
) -> None:
    with store:
        known(store)  # counts the uses
        assert store.disk.take_snapshot() < 4 * database.size_bytes(store.disk.connection)
        LATER[later](store, tmp_path)
        before = known(store)
    damage(store.disk.layout.index)
    with open_store(store.path, durable=False) as again:
        after = known(again)
        if later != "nothing":  # times of what came later are those of the log of changes
            assert after.keys() == before.keys()
            for name in before.keys() - {"trash"}:
                assert after[name][4] == pytest.approx(before[name][4], abs=60)
                assert after[name][:4] + after[name][5:] == before[name][:4] + before[name][5:]
        else:
            assert after == before
        assert again.verify().ok
        if later == "nothing":
            again.checkout("org/m@first", tmp_path / "back")
            assert folder_content(tmp_path / "back") == folder_content(tmp_path / "v0")
        last = list(audit.read(again.disk.layout.audit))[-1].what
        assert last == ("index from its snapshot" if later in ("nothing", "pins") else "index built anew")


def test_without_a_snapshot_the_log_of_changes_tells_of_pins(store: DiskBlockStore) -> None:
    with store:
        before = known(store)
    store.disk.layout.index.unlink()
    with open_store(store.path, durable=False) as again:
        after = known(again)
    for name in ("org/m", "org/other"):
        assert after[name][:3] == before[name][:3]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("place", [0, 5, 9, 30, 45, 200, -1, None])
def test_a_damaged_snapshot_is_no_snapshot(store: DiskBlockStore, place: int | None) -> None:
    with store:
        before = known(store)
        store.disk.take_snapshot()
    path = store.disk.layout.snapshot
    data = bytearray(path.read_bytes())
    if place is None:
        data = data[: len(data) // 2]
    else:
        data[place] ^= 0x41
    path.write_bytes(data)
    store.disk.layout.index.unlink()
    with open_store(store.path, durable=False) as again:
        after = known(again)
        assert {name: row[:2] for name, row in after.items() if name != "trash"} == {
            name: row[:2] for name, row in before.items() if name != "trash"
        }
        assert again.verify().ok
    assert not list(store.path.glob(".tmp-*"))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("change", ["pack longer", "pack gone", "manifest other", "manifest more"])
def test_a_store_that_is_not_the_snapshots_is_read_anew(
    store: DiskBlockStore, tmp_path: Path, change: str
) -> None:
    with store:
        store.disk.take_snapshot()
        manifest = store.disk.layout.manifest("org/other")
        pack = next(store.disk.layout.packs.iterdir())
    store.disk.layout.index.unlink()
    match change:
        case "pack longer":
            pack.write_bytes(pack.read_bytes() + bytes(40))
        case "pack gone":
            pack.unlink()
        case "manifest other":
            shutil.copyfile(store.disk.layout.manifest("org/m"), manifest)
        case "manifest more":
            shutil.copyfile(manifest, manifest.with_name(f"{'0' * 40}.json"))
    with open_store(store.path, durable=False) as again:
        changes = list(audit.read(again.disk.layout.audit))
        assert "index from its snapshot" not in [one.what for one in changes]


def test_a_long_index_is_copied_once_a_day(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.disk.layout.snapshot
    store.close()
    assert not path.exists()
    monkeypatch.setattr(disk_blocks, "SNAPSHOT_BYTES", 0)
    with open_store(store.path, durable=False) as opened:
        opened.models()
    assert not path.exists()  # nothing was written
    with open_store(store.path, durable=False) as opened:
        opened.pin("org/other")
    first = path.stat().st_ino, path.stat().st_mtime_ns
    with open_store(store.path, durable=False) as opened:
        opened.pin("org/other", False)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == first
    monkeypatch.setattr(disk_blocks, "SNAPSHOT_AGE_S", -1.0)
    with open_store(store.path, durable=False) as opened:
        opened.pin("org/other")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != first
    assert recover.index_is_usable(store.disk.layout)
