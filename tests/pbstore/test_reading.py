"""Reading a model into a store: many small tensors, short reads, interrupts."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.buffers import Buffers
from pbstore.folders import feed
from tests.pbstore.folders import folder_content, write_model


def add_within(store: DiskBlockStore, folder: Path, name: str, seconds: float) -> None:
    """Add a model, or fail if that has not ended in time."""
    errors: list[BaseException] = []

    def add() -> None:
        try:
            store.add(folder, name)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    assert not errors


def assert_is_stored(store: DiskBlockStore, folder: Path, name: str, out: Path) -> None:
    for entry in store.manifest(name).files:
        assert entry.sha256 == hashlib.sha256((folder / entry.path).read_bytes()).hexdigest()
    store.checkout(name, out)
    assert folder_content(out) == folder_content(folder)


def test_short_reads_stop_no_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        f"{i}{kind}": rng.normal(size=size).astype(np.float32)
        for i in range(3)
        for kind, size in (("a", 1 << 18), ("b", 100))
    }
    folder = write_model(tmp_path / "model", tensors)
    read = os.preadv

    def read_less(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        whole = memoryview(buffers[0])
        return read(fd, [whole[: len(whole) - 1000] if len(whole) > 1000 else whole], offset)

    monkeypatch.setattr(os, "preadv", read_less)
    monkeypatch.setattr(feed, "FEED_BYTES", 1 << 20)
    with open_store(tmp_path / "store") as store:
        add_within(store, folder, "org/model", 60)
        assert_is_stored(store, folder, "org/model", tmp_path / "out")


def test_very_many_small_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {f"scale{i}": rng.normal(size=1).astype(np.float32) for i in range(3000)}
    tensors["weight"] = rng.normal(size=(300, 300)).astype(np.float32)
    folder = write_model(tmp_path / "model", tensors)
    with open_store(tmp_path / "store") as store:
        add_within(store, folder, "org/model", 60)
        assert_is_stored(store, folder, "org/model", tmp_path / "out")


def test_memory_is_taken_though_an_interrupt_left_a_size_without_any() -> None:
    buffers = Buffers()
    buffers.give(buffers.take(60 << 20))
    buffers._free[70 << 20] = {}
    taken: list[memoryview] = []
    thread = threading.Thread(target=lambda: taken.append(buffers.take(200 << 20)), daemon=True)
    thread.start()
    thread.join(30)
    assert [len(memory) for memory in taken] == [200 << 20]


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
def test_a_transaction_that_an_interrupt_left_open_is_undone(begin: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", {"weight": np.ones((64, 64), np.float32)})
    with open_store(tmp_path / "store") as store:
        store.disk.connection.execute(begin)
        store.disk.connection.execute("SELECT * FROM blocks").fetchall()
        store.add(folder, "org/model")
        with open_store(tmp_path / "store") as other:
            other.add(folder, "org/copy")
            assert_is_stored(other, folder, "org/model", tmp_path / "out")
