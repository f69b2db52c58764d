"""What is said of all models at once is what counting block by block says."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.upkeep.lineage import kin_of
from pbstore.disk.upkeep.listing import ORDERS, listing
from pbstore.disk.upkeep.savings_by_cause import Causes, by_family, by_model
from tests.pbstore.folders import base_tensors, tuned, write_model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    """Two families, revisions, a copy, something in the trash, and a base that no model names any more."""
    tmp_path = tmp_path_factory.mktemp("listing")
    base, other = base_tensors(rows=120), base_tensors(seed=7, rows=90)
    kinds = {
        "org/base": base,
        "org/child": tuned(base, ("embed.weight",)),
        "org/half": {name: array.astype(np.float16) for name, array in base.items()},
        "org/gone": tuned(base, ("layer.weight",), seed=5),
        "you/base": other,
        "you/child": tuned(other, ("embed.weight", "layer.weight")),
    }
    with open_store(tmp_path / "store", durable=False) as opened:
        for name, tensors in kinds.items():
            opened.add(write_model(tmp_path / name, tensors, notes__txt=name.encode()), name)
        opened.add(write_model(tmp_path / "again", tuned(base, ("embed.weight",), seed=9)), "org/child")
        opened.history.copy("you/child", "you/copy")
        opened.remove("org/gone")
        opened.remove("you/base", trash=False)
        opened.gc()
        opened.pin("org/half")
        opened.checkout("org/half", tmp_path / "out")
        yield opened


def test_own_bytes_are_what_a_removal_frees(store: DiskBlockStore) -> None:
    for item in listing(store.disk):
        rows = store.disk.revisions_of(item.name)
        held = Counter(one for row in rows for one in store.disk.manifest_of(row).block_ids())
        places = {one: store.disk.locate(one) for one in held}
        assert item.own_stored_bytes == sum(
            at.record.stored_bytes for one, at in places.items() if at.refs == held[one]
        )
        current = set(store.manifest(item.name).block_ids())
        assert item.shared_bytes == sum(
            at.record.raw_bytes for one, at in places.items() if at.refs > held[one] and one in current
        )
        assert item.revisions == len(rows)


def test_each_model_stands_by_its_base(store: DiskBlockStore) -> None:
    bases = {item.name: item.base for item in listing(store.disk)}
    assert bases == {
        "org/base": None,
        "org/child": "org/base",
        "org/half": "org/base",
        "you/child": None,
        "you/copy": "you/child",
    }
    tree = kin_of(store.disk, "org/half")
    assert (tree.name, [one.name for one in tree.children], tree.more) == ("org/base", ["org/half"], 1)
    assert [one.name for one in kin_of(store.disk, "org/base").children] == ["org/child", "org/half"]


@pytest.mark.parametrize("sort", ORDERS)
def test_a_list_is_sorted_as_asked(store: DiskBlockStore, sort: str) -> None:
    items = listing(store.disk, sort)
    assert {item.name for item in items} == set(store.models())
    assert items == sorted(items, key=ORDERS[sort])
    by_name = {item.name: item for item in items}
    assert (by_name["org/half"].pinned, by_name["org/half"].uses, by_name["org/base"].uses) == (True, 1, 0)


def test_the_order_must_be_one(store: DiskBlockStore) -> None:
    with pytest.raises(ValueError, match="sorted by name, size"):
        listing(store.disk, "colour")


def test_savings_by_family_add_up_to_those_of_the_store(store: DiskBlockStore) -> None:
    report, rows = store.savings(), by_model(store.disk)
    total = sum((item.causes for item in rows), Causes())
    assert (total.raw_bytes, total.stored_bytes) == (report.raw_bytes, report.stored_bytes)
    saved = ("same_file", "same_tensor", "same_rows", "delta", "recipe", "compression", "stored_bytes")
    for item in rows:
        assert item.causes.raw_bytes == sum(getattr(item.causes, cause) for cause in saved), item
    assert set(by_family(rows)) == {"org/base", "you/child"}


def test_a_damaged_manifest_stops_no_list(store: DiskBlockStore) -> None:
    place = store.disk.layout.manifest("org/half")
    text = place.read_bytes()
    place.write_bytes(b"damaged")
    try:
        assert {item.name for item in listing(store.disk)} == set(store.models())
        assert by_model(store.disk)
    finally:
        place.write_bytes(text)
