"""Nodes and stores take from an object store, and give to it, as they do with other nodes."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.errors import ModelExistsError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.serve.fetch import object_store
from pbstore.serve.fetch.local import LibrarySource, StoreSink
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.fetch.object_store import ObjectStore
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.fetch.transfer import TransferReport, transfer
from pbstore.serve.library import StoreLibrary
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.collect import collect
from pbstore.serve.origin.errors import RecordError, UnfitEndpointError
from pbstore.serve.origin.objects import Meta, Objects, open_objects
from pbstore.serve.origin.remove import remove
from pbstore.serve.origin.writer import Writer
from tests.pbstore.folders import folder_content
from tests.pbstore.serve.families import NAMES, family_files
from tests.pbstore.serve.nodes import edge_node, get_model
from tests.pbstore.serve.origin.endpoints import fake_bucket
from tests.pbstore.serve.origin.kit import keys_of
from tests.ports import free_ports


async def _push(store: DiskBlockStore, place: str, names: Sequence[str]) -> list[TransferReport]:
    library, target = StoreLibrary(store), ObjectStore(place)
    try:
        return [await transfer(name, LibrarySource(library), target) for name in names]
    finally:
        await target.close()
        await library.close()


async def _pull(store: DiskBlockStore, place: str, names: Sequence[str]) -> list[TransferReport]:
    source, sink = ObjectStore(place), StoreSink(store)
    try:
        return [await transfer(name, source, sink) for name in names]
    finally:
        await source.close()
        await sink.close()


@pytest.fixture(scope="module")
def origin(family: DiskBlockStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"file://{tmp_path_factory.mktemp('origin')}"
    asyncio.run(_push(family, url, NAMES))
    return url


def test_stores_give_and_take_by_the_same_steps_as_with_nodes(
    family: DiskBlockStore, origin: str, root: Path, tmp_path: Path
) -> None:
    again = asyncio.run(_push(family, origin, NAMES))
    assert [report.blocks for report in again] == [0] * len(NAMES)
    with open_store(tmp_path / "store", durable=False) as store:
        asyncio.run(_pull(store, origin, NAMES))
        assert store.used_bytes == family.used_bytes
        for name in NAMES:
            store.checkout(name, tmp_path / name)
            assert folder_content(tmp_path / name) == family_files(root, name)


class Counting:
    """Bytes that were read of packs."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain_ranges = Objects.read_ranges

        def read_ranges(objects: Objects, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
            parts = plain_ranges(objects, key, ranges)
            self.read_bytes += sum(map(len, parts))
            return parts

        monkeypatch.setattr(Objects, "read_ranges", read_ranges)


def test_three_nodes_with_empty_disks_read_each_block_of_the_origin_once(
    family: DiskBlockStore, origin: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    counting.attach(monkeypatch)
    ports = free_ports(3)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with ExitStack() as stack:
        for index, port in enumerate(ports):
            peers = [url for url in urls if url != urls[index]]
            stack.enter_context(edge_node(tmp_path / str(index), peers=peers, upstream=origin, port=port))
        asked = [(url, name) for name in NAMES for url in urls]
        with ThreadPoolExecutor(len(asked)) as pool:
            got = list(pool.map(lambda one: get_model(one[0], family.manifest(one[1])), asked))
    assert got == [family_files(root, name) for _, name in asked]
    assert family.used_bytes <= counting.read_bytes <= 1.05 * family.used_bytes


def test_asking_what_is_missing_writes_nothing(family: DiskBlockStore, tmp_path: Path) -> None:
    async def plan() -> set[BlockId]:
        target = ObjectStore(f"file://{tmp_path}/empty")
        try:
            return await target.has(family.blocks(NAMES[0]))
        finally:
            await target.close()

    assert asyncio.run(plan()) == set()
    assert keys_of(tmp_path) == set()


def test_an_unfit_endpoint_is_refused_before_anything_is_written(family: DiskBlockStore) -> None:
    with fake_bucket("ignores If-None-Match") as url:
        with pytest.raises(UnfitEndpointError, match="cannot be used: create-only puts"):
            asyncio.run(_push(family, url, NAMES[:1]))
        assert list(open_objects(url).list("packs/")) == []


def test_what_is_not_there_is_said_so(family: DiskBlockStore, origin: str, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        with pytest.raises(ModelMissingError):
            asyncio.run(_pull(store, origin, ["org/nothing"]))
        with fake_bucket("is broken") as url, pytest.raises(SourceError, match=r"400|Bad Request"):
            asyncio.run(_pull(store, url, ["org/base"]))


def other_content(manifest: Manifest) -> Manifest:
    return Manifest(name=manifest.name, files=manifest.files[:1], weights=manifest.weights)


def test_a_name_with_other_content_is_refused_and_the_lease_given_back(
    family: DiskBlockStore, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/other"

    async def push_other() -> None:
        target = ObjectStore(url)
        try:
            await target.put_manifest(other_content(family.manifest("org/base")))
        finally:
            await target.close()

    asyncio.run(_push(family, url, ["org/base"]))
    with pytest.raises(ModelExistsError):
        asyncio.run(push_other())
    assert {key for key in keys_of(tmp_path) if "/leases/" in key} == set()


def test_blocks_of_a_pack_that_a_collection_took_are_found_in_another(
    family: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/moved"
    asyncio.run(_push(family, url, ["org/base"]))

    async def read() -> int:
        source = ObjectStore(url)
        try:
            manifest = await source.manifest("org/base")
            ids = manifest.block_ids()
            catalog = Catalog(open_objects(url))
            remove(catalog, "org/base")
            assert collect(catalog, grace_s=0.0, trash_s=0.0).deleted_objects > 0
            library, target = StoreLibrary(family), ObjectStore(url)
            await transfer("org/base", LibrarySource(library), target)
            await target.close()
            await library.close()
            return len([stored async for stored in source.blocks(ids)]) - len(ids)
        finally:
            await source.close()

    monkeypatch.setattr(object_store, "LOOK_S", 0.0)
    assert asyncio.run(read()) == 0


def test_a_xet_hash_that_a_node_gives_out_leads_back_to_its_file(
    family: DiskBlockStore, origin: str, tmp_path: Path
) -> None:
    """Also where nobody upstream knows such hashes, and the node has come to have all blocks of the file."""

    async def ask(store: DiskBlockStore) -> bool:
        library = NodeLibrary(store, upstream=origin)
        try:
            revision = await library.revision(NAMES[0])
            file = revision.by_path["model.safetensors"]
            assert (await library.hashes(revision, file, plain=False)).xet == ""
            async for _ in library.read(file, 0, file.size_bytes):
                pass
            for _ in range(2400):  # blocks are kept behind the reader
                if xet := (await library.hashes(revision, file, plain=False)).xet:
                    return await library.file_of(xet) == file and await library.file_of(xet) == file
                await asyncio.sleep(0.05)
            return False
        finally:
            await library.close()

    with open_store(tmp_path / "store", durable=False) as store:
        assert asyncio.run(ask(store))


def test_a_pack_that_goes_while_it_is_looked_at_is_passed_over(
    family: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/going"
    asyncio.run(_push(family, url, ["org/base"]))
    asyncio.run(_push(family, url, ["org/tuned-0"]))
    first = next((tmp_path / "going" / "packs").iterdir())
    plain_list = Objects.list

    def listed_and_gone(objects: Objects, prefix: str) -> Iterator[Meta]:
        found = list(plain_list(objects, prefix))
        if prefix == "packs/":
            first.unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Objects, "list", listed_and_gone)

    async def ask() -> int:
        source = ObjectStore(url)
        try:
            return len(await source.infos(family.blocks("org/tuned-0")))
        finally:
            await source.close()

    assert asyncio.run(ask()) < len(family.blocks("org/tuned-0"))


def test_a_writer_that_cannot_begin_gives_its_lease_back(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / f"{'0' * 32}-{'0' * 16}.pack").write_bytes(b"no pack")
    with pytest.raises(RecordError):
        Writer(Catalog(open_objects(f"file://{tmp_path}")))
    assert {key for key in keys_of(tmp_path) if key.startswith("leases/")} == set()
