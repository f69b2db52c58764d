"""Models made of stored ones: found, two steps at most, every byte, whatever becomes of their parents."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pbstore import DiskBlockStore, MemoryBlockStore, open_store
from pbstore.disk.add import relatives
from pbstore.disk.index import database
from pbstore.disk.index.sqlite import Cursor
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.folders import ingest
from tests.pbstore.codecs.edits import int8, weights
from tests.pbstore.folders import folder_content

Tensors = dict[str, torch.Tensor]
PARENTS = ("base", "one", "two")


def model(place: int) -> Tensors:
    """The base, or a fine-tune of it: large tensors, a square one, small ones."""
    made: Tensors = {}
    for number, shape in enumerate(((96, 128), (160, 160), (128, 96))):
        g = torch.Generator().manual_seed(number)
        all_three = [torch.randn(shape, generator=g) * 0.05]
        all_three += [all_three[0] + torch.randn(shape, generator=g) * 0.003 for _ in range(2)]
        made[f"layer.{number}.weight"] = all_three[place]
        made[f"layer.{number}.bias"] = all_three[place][0].clone()
    return made


def write(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


MODELS = [model(place) for place in range(3)]


def merged(*weights: float, dtype: torch.dtype = torch.float32) -> Tensors:
    return {
        name: sum(weight * parent[name] for weight, parent in zip(weights, MODELS, strict=True) if weight).to(
            dtype
        )
        for name in MODELS[0]
    }


EDITS = {
    "mean-of-base-and-one": (lambda: merged(0.5, 0.5, 0), 0.03),
    "mean-of-two": (lambda: merged(0, 0.5, 0.5), 0.03),
    "mean-in-bf16": (lambda: merged(0, 0.5, 0.5, dtype=torch.bfloat16), 0.05),
    "all-three": (lambda: merged(0.5, 0.3, 0.2), 0.04),
    "scaled": (lambda: {name: tensor * 1.1 for name, tensor in MODELS[0].items()}, 0.02),
    "transposed": (lambda: {n: t.T if t.ndim == 2 else t for n, t in MODELS[0].items()}, 0.02),
    "int8": (lambda: {n: int8(t)[0] if t.ndim == 2 else t for n, t in MODELS[0].items()}, 0.05),
    "fp8": (lambda: {n: t.to(torch.float8_e4m3fn) for n, t in MODELS[1].items()}, 0.05),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("family")
    made = {name: write(root / name, tensors) for name, tensors in zip(PARENTS, MODELS, strict=True)}
    return made | {name: write(root / name, make()) for name, (make, _) in EDITS.items()}


@pytest.fixture
def store(tmp_path: Path, folders: dict[str, Path]) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        for name in PARENTS:
            opened.add(folders[name], name)
        yield opened


def check(store: DiskBlockStore, folders: dict[str, Path], out: Path, *names: str) -> None:
    """Every byte comes back, and everything that blocks need is there."""
    for name in names:
        store.checkout(name, out / name)
        assert folder_content(out / name) == folder_content(folders[name])
    assert store.verify().problems == ()
    assert reference_problems(store.disk) == []


def derived(store: DiskBlockStore) -> list[str]:
    return [one for one in store.block_ids() if store.info(one).codec.startswith("derive")]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", EDITS)
def test_each_edit_of_a_model_is_found(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    report = store.add(folders[kind], kind)

    large = report.new_bytes if "int8" not in kind and kind != "transposed" else report.raw_bytes
    assert report.stored_bytes < EDITS[kind][1] * large + 2500
    check(store, folders, tmp_path / "out", kind, *PARENTS)


def test_each_piece_of_a_widened_tensor_is_made_of_the_same_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (1 << 16,))
    monkeypatch.setattr(relatives, "PARENT_BYTES", 0)  # one parent is read, as of large tensors
    g = torch.Generator().manual_seed(7)
    base = torch.randn(256, 64, generator=g)
    made = {"tuned": base + 0.003 * torch.randn(256, 64, generator=g), "base": base, "wide": base.double()}
    found = {name: write(tmp_path / name, {"layer.0.weight": tensor}) for name, tensor in made.items()}
    with open_store(tmp_path / "store", durable=False) as store:
        for name, folder in found.items():
            report = store.add(folder, name)
        assert report.codecs == {"derive1": 2, "raw": 1}
        check(store, found, tmp_path / "out", *found)


def test_scales_of_many_rows_are_found_though_they_hold_no_weight(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(2)
    table = {"layer.0.weight": torch.randn(8192, 16, generator=g)}
    folders = {
        "table": write(tmp_path / "table", table),
        "int8": write(tmp_path / "int8", with_scales(table)),
    }
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(folders["table"], "table")
        assert store.add(folders["int8"], "int8").codecs["derive1"] == 2
        check(store, folders, tmp_path / "out", *folders)


def test_no_tensor_is_read_that_a_new_one_cannot_be_made_of(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(relatives.Relatives, "parent", lambda *asked: read.append(asked[1]))
    g = torch.Generator().manual_seed(77)
    other = {name: torch.randn(tensor.shape, generator=g) for name, tensor in MODELS[0].items()}

    store.add(write(tmp_path / "other", other), "other")

    assert read == []


def with_scales(tensors: Tensors) -> Tensors:
    made = dict(tensors)
    for name in [name for name, tensor in tensors.items() if tensor.ndim == 2]:
        made[name], made[f"{name}_scale"] = int8(tensors[name])
    return made


def test_scales_are_made_of_the_weights_that_they_belong_to(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relatives, "PARENT_BYTES", 0)  # one parent at a time, as of large tensors
    made = {"base8": with_scales(MODELS[0]), "one8": with_scales(MODELS[1])}
    for name, tensors in made.items():
        folder = write(tmp_path / name, tensors)
        report = store.add(folder, name)
        assert report.codecs["derive1"] == 6
        assert all(store.info(one).stored_bytes < 400 for one in derived(store))
        check(store, {name: folder}, tmp_path / "out", name)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["bool", "uint64", "complex64", "int32", "float8_e5m2"])
def test_moved_elements_of_any_dtype_are_found(tmp_path: Path, kind: str) -> None:
    dtype = getattr(torch, kind)
    g = torch.Generator().manual_seed(1)
    numbers = torch.randint(0, 256, (128, 96 * dtype.itemsize), dtype=torch.uint8, generator=g)
    tensor = (numbers & 1).bool() if kind == "bool" else numbers.view(dtype)
    made = {
        "old": tensor,
        "turned": tensor.view(torch.uint8).T.contiguous().view(dtype) if kind == "bool" else tensor.T,
        "cut": tensor[:, :48],
        "beside": torch.cat([tensor.view(torch.uint8)] * 2, 1).view(dtype),
    }
    found = {name: write(tmp_path / name, {"layer.0.w": one}) for name, one in made.items()}
    for name in ("turned", "cut", "beside"):
        with open_store(tmp_path / f"store-{name}", durable=False) as store:
            store.add(found["old"], "old")
            assert store.add(found[name], name).codecs == {"raw": 1, "derive1": 1}
            check(store, found, tmp_path / f"out-{name}", "old", name)


def test_a_derived_block_needs_its_parents_and_what_these_need(
    store: DiskBlockStore, folders: dict[str, Path]
) -> None:
    store.add(folders["mean-of-two"], "mean")
    found = derived(store)
    assert found
    for block_id in found:
        info = store.info(block_id)
        assert len(info.bases) == int(info.codec[-1])
        assert set(info.needs) == {*info.bases, *(n for one in info.bases for n in store.info(one).needs)}
    order = store.blocks("mean")
    for place, block_id in enumerate(order):
        assert set(store.info(block_id).needs) <= set(order[:place])


def test_parents_may_change_their_form_and_leave(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    store.add(folders["mean-of-two"], "mean-of-two")
    kind = "mean-of-two"
    for step, name in ((store.forms.heat, "one"), (store.forms.cool, "one"), (store.forms.heat, kind)):
        step(name)
        check(store, folders, tmp_path / f"out-{step.__name__}-{name}", kind, *PARENTS)
    store.forms.cool(kind)
    for gone in ("two", "base"):
        store.remove(gone, trash=False)
        store.gc()
        check(store, folders, tmp_path / f"without-{gone}", kind, "one")
    store.remove("one", trash=False)
    store.gc()
    check(store, folders, tmp_path / "alone", kind)


def test_an_index_is_built_anew(store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path) -> None:
    store.add(folders["all-three"], "all-three")
    count = len(derived(store))
    store.close()
    (store.path / "index.sqlite").unlink()
    with open_store(store.path, durable=False) as again:
        assert len(derived(again)) == count > 0
        check(again, folders, tmp_path / "out", "all-three", *PARENTS)
        assert again.add(folders["scaled"], "scaled").codecs.get("derive1", 0) >= 2


def test_a_derived_block_travels_to_another_store(store: DiskBlockStore, folders: dict[str, Path]) -> None:
    store.add(folders["all-three"], "all-three")
    other = MemoryBlockStore()
    for block_id in store.blocks("all-three"):
        other.import_block(store.export_block(block_id))
    for block_id in derived(store):
        assert bytes(other.get(block_id)) == bytes(store.get(block_id))


def test_a_plan_says_what_an_add_takes(store: DiskBlockStore, folders: dict[str, Path]) -> None:
    plan = store.plan.add(folders["all-three"])

    report = store.add(folders["all-three"], "all-three")

    assert plan.report.stored_bytes == report.stored_bytes


def test_an_unrelated_model_is_not_searched_for_long(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pbstore.disk.add import relatives

    searches: list[int] = []
    real = relatives.search
    monkeypatch.setattr(relatives, "search", lambda *a: searches.append(1) or real(*a))
    g = torch.Generator().manual_seed(99)
    tensors = {f"layer.{n}.weight": torch.randn(96, 128, generator=g) for n in range(30)}

    report = store.add(write(tmp_path / "other", tensors), "other")

    assert not any(codec.startswith("derive") for codec in report.codecs)
    assert len(searches) <= 2 * (relatives.TRIES + 1)


def test_weights_of_the_laws_are_what_they_say() -> None:
    base, one, _ = weights()
    assert np.corrcoef(base.numpy().ravel(), one.numpy().ravel())[0, 1] > 0.99


def test_who_encodes_ends_no_transaction_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are encoded in another thread while the writer commits; both use the writer's connection."""
    writer, strangers, seen = threading.current_thread(), set(), set()
    begin, execute = database.begin, Cursor.execute

    def watch(cursor: Cursor, sql: str, parameters: Sequence[object] = ()) -> Cursor:
        if threading.current_thread() is not writer:
            seen.add(cursor.connection)
            if sql.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
                strangers.add((cursor.connection, sql))
        return execute(cursor, sql, parameters)

    def begin_late(connection: sqlite3.Connection) -> None:
        writers.add(connection)
        time.sleep(0.02)  # between two transactions: look-ups come now
        begin(connection)

    writers: set[sqlite3.Connection] = set()
    monkeypatch.setattr(Cursor, "execute", watch)
    monkeypatch.setattr(database, "begin", begin_late)
    monkeypatch.setattr("pbstore.disk.add.adding.COMMIT_BYTES", 10_000)
    with open_store(tmp_path / "store", durable=False) as store:
        for place, tensors in enumerate([*MODELS, merged(0.5, 0.25, 0.25)]):
            store.add(write(tmp_path / f"model-{place}", tensors), f"org/model-{place}")
        assert store.verify().ok
    assert seen & writers
    assert [sql for connection, sql in strangers if connection in writers] == []
