"""What `repair` mends, and what it must never do."""

import json
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from demo.cli.app import main
from pbstore import DiskBlockStore, NotAStoreError, StoreLockedError, hash_block, open_store
from pbstore.disk.blocks import recount
from pbstore.disk.files import lock
from pbstore.disk.upkeep.mend import mend_settings
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("org/base", "org/child")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    base = base_tensors(rows=100)
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "child", tuned(base, ("embed.weight",)))
    with open_store(tmp_path / "store", durable=False) as opened:
        for name in NAMES:
            opened.add(tmp_path / name.removeprefix("org/"), name)
        yield opened


def change(store: DiskBlockStore, statement: str, *values: object) -> None:
    connection = sqlite3.connect(store.disk.layout.index)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def assert_whole(store: DiskBlockStore) -> None:
    assert store.verify().problems == ()
    for name in NAMES:
        out = store.path.parent / "out" / name
        store.checkout(name, out, force=True)
        assert folder_content(out) == folder_content(store.path.parent / name.removeprefix("org/"))


def assert_no_false_id(store: DiskBlockStore) -> None:
    """No record of any pack is filed under an id that its bytes do not hash to."""
    for number in [int(path.stem) for path in store.disk.layout.packs.iterdir()]:
        for record in recount.records_of(store.disk, number):
            assert hash_block(store.get(record.block_id)) == record.block_id


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE blocks SET id = x'" + "ab" * 32 + "' WHERE rowid_ = 1",
        "UPDATE blocks SET codec = 'raw' WHERE codec = 'delta'",
        "UPDATE blocks SET codec = 'zstd', raw_bytes = raw_bytes + 1 WHERE codec = 'raw'",
        "UPDATE blocks SET raw_bytes = raw_bytes - 1",
        "DELETE FROM needs",
        "UPDATE needs SET base = x'" + "cd" * 32 + "'",
    ],
)
def test_repair_files_nothing_under_a_false_id(store: DiskBlockStore, statement: str) -> None:
    first = "id = (SELECT id FROM blocks ORDER BY stored_bytes DESC LIMIT 1)"
    change(store, statement.replace("rowid_ = 1", first))
    sizes = [path.stat().st_size for path in store.disk.layout.packs.iterdir()]
    with open_store(store.path, durable=False) as again:
        assert not again.verify().ok
        assert again.repair().left == ()
        assert [path.stat().st_size for path in store.disk.layout.packs.iterdir()] == sizes
        assert_no_false_id(again)
        assert_whole(again)


def test_swapped_rows_are_put_right(store: DiskBlockStore) -> None:
    one, other = [item.record for item in store.disk.locations()][:2]
    key, other_key = bytes.fromhex(one.block_id), bytes.fromhex(other.block_id)
    for old, new in ((key, b"x" * 32), (other_key, key), (b"x" * 32, other_key)):
        change(store, "UPDATE blocks SET id = ? WHERE id = ?", new, old)
    with open_store(store.path, durable=False) as again:
        assert not again.verify().ok
        assert again.repair().left == ()
        assert_no_false_id(again)
        assert_whole(again)


def test_a_flipped_hash_of_a_manifest_does_not_cost_the_model(store: DiskBlockStore) -> None:
    row = store.disk.model_row("org/child")
    flipped = ("0" if row.manifest_hash[0] != "0" else "1") + row.manifest_hash[1:]
    change(store, "UPDATE models SET manifest_hash = ? WHERE name = ?", flipped, row.name)
    with open_store(store.path, durable=False) as again:
        assert again.repair().left == ()
        assert_whole(again)


BAD_SETTINGS = {
    "lost": None,
    "empty": b"",
    "cut": b'{\n "capacity_bytes": nul',
    "no JSON": b"\0" * 90,
    "another format": b'{"format": "pbstora", "version": 1}',
}


@pytest.mark.parametrize("index_too", [False, True], ids=["", "index lost"])
@pytest.mark.parametrize("bad", BAD_SETTINGS)
def test_settings_are_written_anew(store: DiskBlockStore, bad: str, index_too: bool) -> None:
    store.close()
    with open_store(store.path, 123 << 20, trash_days=3.0) as opened:
        opened.pin("org/base")
        before, text = opened.disk.settings, opened.disk.layout.settings.read_bytes()
    damaged = BAD_SETTINGS[bad]
    if damaged is None:
        opened.disk.layout.settings.unlink()
    else:
        opened.disk.layout.settings.write_bytes(damaged)
    if index_too:
        for file in store.path.glob("index.sqlite*"):
            file.unlink()
    with pytest.raises(NotAStoreError, match=r"STORE\.json.*|not empty"):
        open_store(store.path)

    said = mend_settings(store.path)
    assert said is not None
    assert ("defaults" if index_too else "copy in the index") in said
    assert mend_settings(store.path) is None
    with open_store(store.path) as again:
        if not index_too:
            assert again.disk.settings == before
            assert again.disk.layout.settings.read_bytes() == text
        assert_whole(again)


def test_a_flipped_setting_is_seen(store: DiskBlockStore) -> None:
    store.close()
    with open_store(store.path, 987_654_321) as opened, opened.disk.writing():
        pass
    text = opened.disk.layout.settings.read_text()
    for place, letter in enumerate(text):
        if letter.isdigit():
            flipped = text[:place] + str((int(letter) + 1) % 10) + text[place + 1 :]
            opened.disk.layout.settings.write_text(flipped)
            with pytest.raises(NotAStoreError):
                open_store(store.path)
            assert mend_settings(store.path)
            assert opened.disk.layout.settings.read_text() == text


def test_settings_of_earlier_and_later_versions_stay(store: DiskBlockStore, tmp_path: Path) -> None:
    store.close()
    earlier = {"format": "pbstore", "version": 1, "capacity_bytes": None, "pack_bytes": 1 << 20}
    store.disk.layout.settings.write_text(json.dumps(earlier))
    assert mend_settings(store.path) is None
    open_store(store.path).close()
    change(store, "DELETE FROM meta WHERE key = 'settings'")
    later = json.dumps({"format": "pbstore", "version": 3})
    store.disk.layout.settings.write_text(later)
    with pytest.raises(NotAStoreError, match="version 3"):
        mend_settings(store.path)
    assert store.disk.layout.settings.read_text() == later
    (tmp_path / "no store").mkdir()
    with pytest.raises(NotAStoreError):
        mend_settings(tmp_path / "no store")


def test_repair_of_the_settings_is_said(store: DiskBlockStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.close()
    store.disk.layout.settings.write_bytes(b"?")
    assert main(["store", "repair", "--store", str(store.path)]) == 0
    assert "STORE.json was damaged" in capsys.readouterr().out


def hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with lock.exclusive(path, 5):
        held.set()
        time.sleep(600)


def test_an_add_waits_once_and_says_how_long(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, waits = lock.exclusive, []

    def counted(path: Path, wait_s: float) -> AbstractContextManager[None]:
        waits.append(wait_s)
        return real(path, wait_s)

    fork = multiprocessing.get_context("fork")
    held = fork.Event()
    holder = fork.Process(target=hold, args=(store.disk.layout.lock, held))
    holder.start()
    try:
        assert held.wait(120)
        with open_store(store.path, lock_wait_s=0.4) as waiting:
            monkeypatch.setattr(lock, "exclusive", counted)
            with pytest.raises(StoreLockedError, match=r"waited 0\.4 s"):
                waiting.add(tmp_path / "child", "org/new")
            assert waits == [0.4]
    finally:
        holder.kill()
        holder.join()
