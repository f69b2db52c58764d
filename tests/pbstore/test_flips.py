"""One flipped bit, byte, number or row of the index: nothing that a model needs is lost, and `verify` tells.

The law holds for whatever is done to the store next, in any order: each call gives an error of ours or does
what it says, and the packs and manifests still hold every model that was acknowledged and not removed.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pbstore import BlockInUseError, DiskBlockStore, PBStoreError, open_store
from pbstore.disk.index import locations
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.thoroughness import TIMES

NAMES = ("org/base", "org/child", "org/half", "org/hot", "org/other")
TOLD = {
    "blocks": tuple(locations.BLOCK_COLUMNS.split(", ")),
    "needs": ("block", "base"),
    "packs": ("number", "end", "live_bytes", "live_overhead"),
    "models": ("name", "manifest_hash", "weights", "raw_bytes", "num_files", "num_blocks", "base"),
    "files": ("sha256", "refs"),
}
"""Tables and columns of which `verify` names every damage."""
OTHERS = {
    "needs": ("position",),
    "packs": (),
    "models": ("file", "base_weights", "form", "pinned", "priority", "uses", "used_at", "added_at"),
    "files": ("size_bytes",),
    "tensors": ("number", "block", "dtype", "shape", "sketch", "tried"),
    "marks": ("mark", "tensor"),
    "casts": ("key", "tensor"),
    "meta": ("key", "value"),
}
CELLS = [(table, column) for tables in (TOLD, OTHERS) for table in tables for column in tables[table]]
ROWS = [(table, "") for table in ("blocks", "needs", "packs", "models", "files", "tensors", "meta")]
BYTES = [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 8 + 30 * TIMES))]
SEEDS = [pytest.param(0), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 1 + 2 * TIMES))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several packs with raw, coded, based and hot blocks, and the folders it was made of."""
    root = tmp_path_factory.mktemp("flips")
    base = base_tensors(rows=80, width=32)
    child = tuned(base, ("embed.weight", "layer.weight"))
    half = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in child.items()}
    write_model(root / "base", base)
    write_model(root / "child", child)
    write_model(root / "half", half)
    write_model(root / "hot", base_tensors(seed=5, rows=40, width=32))
    write_model(root / "other", base_tensors(seed=6, rows=40, width=32))
    write_model(root / "new", tuned(base, ("layer.weight",), seed=9))
    with open_store(root / "store", pack_bytes=12_000, durable=False) as store:
        for name in NAMES:
            store.add(root / name.removeprefix("org/"), name, form="hot" if name == "org/hot" else "cold")
        store.remove("org/other", trash=False)
        store.gc()
        store.add(root / "other", "org/other")
        assert store.verify().ok
        assert {"delta", "raw"} < set(store.savings().by_kind)
        sqlite = sqlite3.connect(store.disk.layout.index)
        sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sqlite.close()
    return root


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "store", tmp_path / "store"))


def damage(path: Path, table: str, column: str, rng: np.random.Generator) -> bool:
    """Change one cell of a table, or take one row away; whether there was one."""
    sqlite = sqlite3.connect(path / "index.sqlite")
    try:
        keys = [row[1] for row in sqlite.execute(f"PRAGMA table_info({table})") if row[5]]
        rows = sqlite.execute(f"SELECT {', '.join([*keys, column or '1'])} FROM {table}").fetchall()
        if not rows:
            return False
        *key, value = rows[rng.integers(len(rows))]
        where = " AND ".join(f"{name} = ?" for name in keys)
        if not column:
            sqlite.execute(f"DELETE FROM {table} WHERE {where}", key)
        else:
            with suppress(sqlite3.IntegrityError):  # the changed key is another row's
                sqlite.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed(value, rng), *key))
        sqlite.commit()
        return bool(sqlite.total_changes)
    finally:
        sqlite.close()


def changed(value: object, rng: np.random.Generator) -> object:
    """A value in which one bit is another."""
    if value is None:
        return "x"
    if isinstance(value, int):
        return value ^ 1 << int(rng.integers(40))
    if isinstance(value, float):
        return value * 2 + 1
    raw = bytearray(value.encode() if isinstance(value, str) else bytes(value))  # type: ignore[call-overload]
    raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(7))
    return raw.decode("latin-1") if isinstance(value, str) else bytes(raw)


def live_on(path: Path, whole: Path, rng: np.random.Generator) -> set[str]:
    """Do things in a random order; returns the models that must be there afterwards."""
    sure = set(NAMES)

    def remove(store: DiskBlockStore) -> None:
        sure.discard("org/other")
        store.remove("org/other")

    def evict(store: DiskBlockStore) -> None:
        going = {row.name for row in store.disk.model_rows() if row.name != "org/half"}
        store.pin("org/half")
        sure.difference_update(going)
        sure.update(going - set(store.evict(1).models))

    def add(store: DiskBlockStore) -> None:
        store.add(whole / "new", "org/new")
        sure.add("org/new")

    def block(store: DiskBlockStore) -> None:
        for block_id in sorted(store.block_ids())[::3]:
            with suppress(BlockInUseError):
                store.delete_block(block_id)

    steps: list[Callable[[DiskBlockStore], object]] = [
        remove, evict, add, block, lambda s: s.gc(), lambda s: s.gc(), lambda s: s.forms.heat("org/child"),
        lambda s: s.forms.cool("org/base"), lambda s: s.verify(), lambda s: s.put(rng.bytes(20_000)),
    ]  # fmt: skip
    for place in rng.permutation(len(steps)):
        with suppress(PBStoreError, OSError), open_store(path, durable=False) as store:
            steps[place](store)
    return sure


def assert_not_lost(path: Path, whole: Path, sure: set[str]) -> None:
    """Packs and manifests hold every model, whatever the index says."""
    for file in path.glob("index.sqlite*"):
        file.unlink()
    with open_store(path, durable=False) as store:
        assert store.verify().problems == ()
        assert sure <= set(store.models())
        for name in sure:
            out = path.parent / "out" / name
            store.checkout(name, out)
            assert folder_content(out) == folder_content(whole / name.removeprefix("org/"))


@pytest.mark.sampled(14)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("table", "column"), CELLS + ROWS)
def test_nothing_is_lost_by_a_damaged_row(
    copy: Path, whole: Path, table: str, column: str, seed: int
) -> None:
    rng = np.random.default_rng([seed, *f"{table}.{column}".encode()])
    if damage(copy, table, column, rng):
        with open_store(copy, durable=False) as store:
            told = not store.verify().ok
        assert told or table not in TOLD or column not in ("", *TOLD[table])
    assert_not_lost(copy, whole, live_on(copy, whole, rng))


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(i, marks=pytest.mark.slow) for i in range(12, 12 + 30 * TIMES))]
)
def test_nothing_is_lost_by_a_flipped_byte(copy: Path, whole: Path, seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    raw = bytearray((copy / "index.sqlite").read_bytes())
    raw[rng.integers(len(raw))] ^= int(rng.integers(1, 256))
    (copy / "index.sqlite").write_bytes(raw)
    with suppress(PBStoreError), open_store(copy, durable=False) as store:
        told = not store.verify().ok
        for name in () if told else NAMES:
            out = copy.parent / "first" / name
            store.checkout(name, out)
            assert folder_content(out) == folder_content(whole / name.removeprefix("org/"))
    assert_not_lost(copy, whole, live_on(copy, whole, rng))
