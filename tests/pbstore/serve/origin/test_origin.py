"""What goes into an origin comes out of it, in its coded form, once, whoever else writes.

moto is a mock of S3; the same against a real object store is in `test_ceph.py`.
"""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.blocks import CAST, StoredBlock
from pbstore.errors import BlockCorruptError, BlockMissingError, ModelExistsError, ModelMissingError
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.errors import OriginError, RecordError
from pbstore.serve.origin.objects import open_objects
from pbstore.serve.origin.pack import PACK_BYTES, encode_pack
from pbstore.serve.origin.records import PACKS
from pbstore.serve.origin.remove import remove
from pbstore.serve.origin.writer import Writer
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.serve.origin.endpoints import moto_bucket
from tests.pbstore.serve.origin.kit import manifest_of, pull, push, put_model, read_model, some_blocks

FAMILY = {"org/base": (), "org/tuned": ("layer.weight",), "org/other": ("embed.weight",)}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DiskBlockStore, Path]]:
    folder = tmp_path_factory.mktemp("family")
    base = base_tensors()
    with open_store(folder / "store", durable=False) as store:
        for number, (name, changed) in enumerate(FAMILY.items()):
            tensors = tuned(base, changed, seed=number) if changed else base
            store.add(write_model(folder / name, tensors, notes__txt=name.encode()), name=name)
        yield store, folder


@pytest.fixture(params=["memory", "file", "moto (a mock)"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    places = {
        "memory": lambda: nullcontext(f"memory://{tmp_path}"),
        "file": lambda: nullcontext(f"file://{tmp_path}/origin"),
    }
    with places.get(request.param, moto_bucket)() as url:
        catalog = Catalog(open_objects(url))
        yield catalog
        catalog.close()


@pytest.mark.sampled(3)
def test_a_family_comes_back_whole_at_the_cost_of_its_coded_blocks(
    family: tuple[DiskBlockStore, Path], catalog: Catalog, tmp_path: Path
) -> None:
    store, folder = family
    sent = {name: push(store, catalog, name) for name in FAMILY}

    stored = sum(store.info(block_id).stored_bytes for block_id in store.block_ids())
    held = list(catalog.objects.list(""))
    packs = sum(one.size_bytes for one in held if one.key.startswith(PACKS))
    assert packs == sum(sent.values()) < stored + 1000 * len(FAMILY)
    assert sum(one.size_bytes for one in held) < stored + 4000 * len(FAMILY)
    assert sent["org/tuned"] < 0.2 * sent["org/base"]
    assert push(store, catalog, "org/tuned") == 0

    fresh = Catalog(catalog.objects)
    with open_store(tmp_path / "pulled", durable=False) as pulled:
        for name in FAMILY:
            pull(fresh, pulled, name)
            pulled.checkout(name, tmp_path / name)
            assert folder_content(tmp_path / name) == folder_content(folder / name)
        codecs = {one: store.info(one).codec for one in store.block_ids()}
        assert {one: pulled.info(one).codec for one in pulled.block_ids()} == codecs
        assert set(codecs.values()) > {"raw", "delta"}
    fresh.close()


def test_many_writers_of_one_model_publish_it_once(catalog: Catalog) -> None:
    start = threading.Barrier(4)
    blocks = some_blocks([1, 2, 3])
    records = []

    def write() -> None:
        mine = Catalog(catalog.objects)
        start.wait()
        records.append(put_model(mine, "m", blocks))
        mine.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 4
    assert set(records) == {catalog.record("m")}
    assert {record.generation for record in records} == {1}


def test_a_name_with_other_content_is_only_replaced_when_asked(catalog: Catalog) -> None:
    put_model(catalog, "org/m", some_blocks([1, 2]))
    with pytest.raises(ModelExistsError):
        put_model(catalog, "org/m", some_blocks([2, 3]))
    put_model(catalog, "org", some_blocks([5]))
    put_model(catalog, "org/m", some_blocks([2, 3]), replace=True)
    assert catalog.record("org/m").generation == 2
    assert [b.block_id for b in read_model(catalog, "org/m")[1]] == [b.block_id for b in some_blocks([2, 3])]
    assert set(catalog.names()) == {"org", "org/m"}
    remove(catalog, "org")
    with pytest.raises(ModelMissingError):
        remove(catalog, "org")


def test_nothing_is_published_without_all_of_its_blocks(catalog: Catalog) -> None:
    blocks = some_blocks([1, 2])
    with Writer(catalog) as writer:
        writer.put_blocks(blocks[:1])
        with pytest.raises(BlockMissingError):
            writer.commit(manifest_of("m", blocks))
    assert catalog.names() == {}
    with Writer(catalog) as writer:  # what a writer left behind need not be sent again
        assert set(writer.known(b.block_id for b in blocks)) == {blocks[0].block_id}


def delta(block: StoredBlock, base: StoredBlock, codec: str = "delta") -> StoredBlock:
    """A block that says that it is a difference; nothing decodes it here."""
    return replace(block, codec=codec, needs=(base.block_id,), payload=b"difference")


def test_packs_are_cut_and_large_blocks_have_their_own() -> None:
    catalog = Catalog(open_objects("memory://cut"))
    small = some_blocks(list(range(20)), size=100)
    large = some_blocks([100], size=PACK_BYTES + 1)
    put_model(catalog, "m", [*small[:10], *large, *small[10:]])
    assert sorted(one.size_bytes > PACK_BYTES for one in catalog.objects.list(PACKS)) == [False, False, True]
    assert len(read_model(Catalog(catalog.objects), "m")[1]) == 21


def test_no_block_is_taken_from_a_form_that_stands_on_itself() -> None:
    one, two = some_blocks([1, 2])
    catalog = Catalog(open_objects("memory://circle"))
    catalog.objects.create(*encode_pack([delta(one, two)], "0" * 16))
    catalog.objects.create(*encode_pack([delta(two, one)], "1" * 16))
    catalog.read_tables(meta.key for meta in catalog.objects.list(PACKS))
    assert catalog.resolve(one.block_id) is None
    catalog.objects.create(*encode_pack([one], "2" * 16))
    catalog.read_tables(meta.key for meta in catalog.objects.list(PACKS))
    chosen = catalog.resolve(two.block_id)
    assert chosen is not None
    assert [form.info.codec for form in chosen.values()] == ["raw", "delta"]


def test_only_a_cast_stands_on_what_stands_on_another() -> None:
    raw, middle, top = some_blocks([1, 2, 3])
    catalog = Catalog(open_objects("memory://steps"))
    with Writer(catalog) as writer:
        writer.put_blocks([raw, delta(middle, raw), delta(top, middle, CAST)])
        writer.flush()
        assert len(writer.known([top.block_id])) == 1
    catalog = Catalog(open_objects("memory://steps-2"))
    catalog.objects.create(*encode_pack([raw, delta(middle, raw), delta(top, middle)], "0" * 16))
    catalog.read_tables(meta.key for meta in catalog.objects.list(PACKS))
    assert catalog.resolve(top.block_id) is None


@pytest.mark.parametrize("where", ["head", "table", "payload", "cut"])
def test_a_flipped_byte_is_found(where: str, tmp_path: Path) -> None:
    url = f"file://{tmp_path}"
    put_model(Catalog(open_objects(url)), "m", some_blocks([1, 2], size=2000))
    (pack,) = (tmp_path / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    at = {"head": 2, "table": 20, "payload": len(data) - 100, "cut": -1}[where]
    pack.write_bytes(bytes(data[:-500]) if at < 0 else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises((RecordError, BlockCorruptError)):
        read_model(Catalog(open_objects(url)), "m")


def test_an_origin_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ORIGIN.json").write_text('{"format":"pbstore-origin","version":2}')
    with pytest.raises(OriginError, match="version"):
        put_model(Catalog(open_objects(f"file://{tmp_path}")), "m", some_blocks([1]))
