"""Against a real object store, Ceph's RADOS gateway, which the test starts itself on loopback."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import open_store
from pbstore.serve.fetch import copies
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.collect import OriginGcReport, collect
from pbstore.serve.origin.objects import open_objects
from pbstore.serve.origin.probe import probe
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.serve.clients import PULL, run_client
from tests.pbstore.serve.families import NAMES as FAMILY
from tests.pbstore.serve.families import make_family
from tests.pbstore.serve.nodes import edge_node
from tests.pbstore.serve.origin.ceph import Ceph, ceph, why_not
from tests.pbstore.serve.origin.kit import environment, pull, push, read_model, some_blocks
from tests.pbstore.serve.stores import hashes_of_folder

pytestmark = pytest.mark.slow
WRITERS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    if reason := why_not():
        pytest.skip(reason)
    with ceph(tmp_path_factory.mktemp("ceph")) as cluster, environment(**cluster.environment):
        cluster.make_bucket("bucket")
        yield cluster


def test_the_gateway_is_fit(cluster: Ceph) -> None:
    assert [check.name for check in probe(open_objects("s3://bucket/fit")) if not check.ok] == []


def test_every_race_of_eight_writers_has_exactly_one_winner(cluster: Ceph) -> None:
    objects = open_objects("s3://bucket/race")
    start = threading.Barrier(WRITERS)
    won: list[list[int]] = [[] for _ in range(40)]

    def race(writer: int) -> None:
        for number, winners in enumerate(won):
            start.wait(60)
            if objects.create(f"packs/{number}", bytes([writer]) * 5000):
                winners.append(writer)

    threads = [threading.Thread(target=race, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(winners) for winners in won] == [1] * len(won)
    assert [objects.read(f"packs/{n}") for n in range(len(won))] == [bytes(w) * 5000 for w in won]


def test_a_gateway_that_is_away_for_six_seconds_loses_no_put(cluster: Ceph) -> None:
    objects = open_objects("s3://bucket/away")
    stop = threading.Event()
    written: list[int] = []
    errors: list[BaseException] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                assert objects.create(f"packs/{number}", bytes([number % 256]) * 50_000)
                written.append(number)
            except BaseException as error:
                errors.append(error)
            number += 1
            time.sleep(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(2)
    cluster.kill_gateway()
    before = len(written)
    time.sleep(6)
    cluster.start_gateway()
    time.sleep(3)
    stop.set()
    thread.join(90)
    assert errors == []
    assert len(written) > before + 5 > 10
    assert {one.key for one in objects.list("packs/")} == {f"packs/{number}" for number in written}
    for number in written:
        assert objects.read(f"packs/{number}") == bytes([number % 256]) * 50_000


def test_a_family_goes_through_the_gateway(cluster: Ceph, tmp_path: Path) -> None:
    base = base_tensors(rows=20_000)
    catalog = Catalog(open_objects("s3://bucket/family"))
    with (
        open_store(tmp_path / "store", durable=False) as store,
        open_store(tmp_path / "pulled", durable=False) as pulled,
    ):
        for name, tensors in (("base", base), ("tuned", tuned(base, ("layer.weight",)))):
            store.add(write_model(tmp_path / name, tensors), name=name)
            push(store, catalog, name)
        for name in ("base", "tuned"):
            pull(Catalog(catalog.objects), pulled, name)
            pulled.checkout(name, tmp_path / "out" / name)
            assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)


class Told:
    """What four processes were told is done, over all rounds."""

    def __init__(self) -> None:
        self.state: dict[str, list[int] | None] = {}
        """Blocks of each name, None if it was removed; without names that were under way."""
        self.done = 0

    def follow(self, text: str) -> None:
        open_name = None
        for line in text.splitlines():
            word, *rest = line.split()
            if word in ("writing", "removing"):
                open_name = rest[0]
                continue
            open_name = None
            if word in ("wrote", "removed"):
                self.state[rest[0]] = [int(number) for number in rest[1:]] if word == "wrote" else None
                self.done += 1
        if open_name is not None:
            self.state.pop(open_name, None)  # it may be either

    def check(self, catalog: Catalog) -> None:
        """All that was acknowledged is there, and all that is there can be read."""
        names = catalog.names()
        for name, record in names.items():
            numbers = self.state.get(name, [])
            assert record.removed or numbers is not None, f"{name} was removed"
            if not record.removed:
                manifest, blocks = read_model(Catalog(catalog.objects), name)
                assert {block.block_id for block in blocks} == set(manifest.block_ids())
                if numbers:
                    wanted = [block.block_id for block in some_blocks(numbers, 20_000)]
                    assert list(manifest.block_ids()) == wanted
        assert {name for name, numbers in self.state.items() if numbers is not None} <= set(names)


def killed_writers(folder: Path, url: str, turn: int, lease_s: float) -> list[str]:
    """What four processes said until they were killed with -9."""
    running = []
    for writer in range(4):
        log = (folder / f"{turn}-{writer}").open("w")
        command = [sys.executable, "-m", "tests.pbstore.serve.origin.hammer", url, f"w{writer}"]
        command += [str(100 * turn + writer), str(lease_s)]
        running.append((subprocess.Popen(command, stdout=log, cwd=Path(__file__).parents[4]), log))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # the machine may be slow: by what they did, not by time
        texts = [(folder / f"{turn}-{writer}").read_text() for writer in range(4)]
        if min(text.count("\nwrote ") for text in texts) >= 5:
            break
        time.sleep(0.05)
    for process, log in running:
        process.kill()
        process.wait(30)
        log.close()
    return [(folder / f"{turn}-{writer}").read_text() for writer in range(4)]


def test_no_collection_takes_what_killed_writers_need(cluster: Ceph, tmp_path: Path) -> None:
    """Four processes write and remove, each is killed again and again; collections wait for nobody."""
    url, lease_s, stop = "s3://bucket/hammer", 2.0, threading.Event()
    catalog, told = Catalog(open_objects(url)), Told()
    reports: list[OriginGcReport] = []
    errors: list[BaseException] = []

    def clean() -> None:
        mine = Catalog(open_objects(url))
        try:
            while not stop.is_set():
                reports.append(collect(mine, grace_s=0.0, trash_s=0.0, wait_s=0.5))
        except BaseException as error:
            errors.append(error)

    collectors = [threading.Thread(target=clean) for _ in range(2)]
    for thread in collectors:
        thread.start()
    try:
        for turn in range(3):
            for text in killed_writers(tmp_path, url, turn, lease_s):
                told.follow(text)
            told.check(catalog)
    finally:
        stop.set()
        for thread in collectors:
            thread.join(60)
    assert errors == []
    assert told.done > 20
    assert sum(report.deleted_objects for report in reports) > 20

    time.sleep(lease_s + 1)
    planned = collect(catalog, dry_run=True, grace_s=0.0, trash_s=0.0)
    last = collect(catalog, grace_s=0.0, trash_s=0.0)
    assert (planned.deleted_objects, planned.deleted_bytes) == (last.deleted_objects, last.deleted_bytes)
    assert collect(catalog, grace_s=0.0, trash_s=0.0).marked_objects == 0
    told.check(catalog)


def test_a_stock_client_pulls_through_a_node_with_an_empty_disk(cluster: Ceph, tmp_path: Path) -> None:
    url = "s3://bucket/node"
    with make_family(tmp_path) as store:
        for name in FAMILY:
            copies.push(store, name, url)
        with edge_node(tmp_path / "empty", upstream=url) as node:
            got = run_client(PULL, node.url, tmp_path / "home", *FAMILY)
            again = run_client(PULL, node.url, tmp_path / "home-2", *FAMILY)
    wanted = {name: hashes_of_folder(tmp_path / name.removeprefix("org/")) for name in FAMILY}
    assert got == again == wanted
