"""A check names what is damaged: exactly the models that cannot be given back, and their tensors."""

import random
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, PBStoreError, open_store
from pbstore.disk.upkeep.concerned import MOST_PLACES
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("org/base", "org/child", "org/half", "org/other", "org/gone")


@pytest.fixture
def family(tmp_path: Path) -> DiskBlockStore:
    base = base_tensors(rows=100)
    half = {name: array.astype("float16") for name, array in base.items()}
    contents = (
        base,
        tuned(base, ("layer.weight", "embed.weight")),
        half,
        base_tensors(7, 90),
        base_tensors(8, 60),
    )
    store = open_store(tmp_path / "store", durable=False)
    for name, tensors in zip(NAMES, contents, strict=True):
        store.add(write_model(tmp_path / name, tensors, vocab__txt=name.encode()), name)
    store.remove("org/gone")
    return store


def flip(store: DiskBlockStore, block_id: str, position: int) -> None:
    location = store.disk.locate(block_id)  # type: ignore[arg-type]
    path = store.disk.readable_pack(location.pack)
    data = bytearray(path.read_bytes())
    data[location.record.payload_offset + position % location.record.stored_bytes] ^= 0x55
    path.write_bytes(data)


def models_not_given_back(store: DiskBlockStore, tmp_path: Path, number: int) -> set[str]:
    lost = set()
    for row in store.disk.model_rows():
        out = tmp_path / f"out{number}" / row.name
        try:
            store.checkout(row.name, out)
            assert folder_content(out) == folder_content(tmp_path / row.name)
        except PBStoreError:
            lost.add(row.name)
    return lost


@pytest.mark.parametrize("seed", range(6))
def test_the_models_that_a_check_names_are_those_that_cannot_be_given_back(
    family: DiskBlockStore, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    ids = sorted(family.block_ids())
    for number in range(4):
        bad = draw.choice(ids)
        before = family.disk.readable_pack(family.disk.locate(bad).pack).read_bytes()
        flip(family, bad, draw.randrange(1 << 20))
        report = family.verify()

        named = {name for name in report.damaged_models if "trash" not in name}
        assert named == models_not_given_back(family, tmp_path, number)
        told = [name for name in report.damaged_models if any(name in line for line in report.problems)]
        assert len(told) >= min(MOST_PLACES, len(report.damaged_models))
        family.disk.readable_pack(family.disk.locate(bad).pack).write_bytes(before)
    assert family.verify().ok


def test_a_damaged_tensor_is_called_by_its_name(family: DiskBlockStore) -> None:
    for tensor in family.disk.tensors("org/child"):
        flip(family, tensor.pieces[0].block_id, 0)
        told = "\n".join(family.verify().problems)
        assert f"org/child: {tensor.path}, tensor {tensor.name}" in told
        flip(family, tensor.pieces[0].block_id, 0)


def test_the_trash_is_named_as_such(family: DiskBlockStore) -> None:
    ids = set(family.block_ids()) - {i for name in family.models() for i in family.manifest(name).block_ids()}
    flip(family, min(ids), 0)

    assert family.verify().damaged_models == ("org/gone (in the trash)",)


def test_a_block_that_nobody_needs_is_told_so(family: DiskBlockStore) -> None:
    flip(family, family.put(b"nobody" * 100), 3)
    report = family.verify()

    assert report.damaged_models == ()
    assert "no model needs it" in report.problems[0]


def test_a_lost_manifest_names_its_model(family: DiskBlockStore) -> None:
    family.disk.layout.manifest("org/other").unlink()

    assert family.verify().damaged_models == ("org/other",)
