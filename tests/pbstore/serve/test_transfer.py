"""Pull, push and sync: what comes is what was there, at the cost of what is missing, whatever ends it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.cli import main
from pbstore import (
    BlockCorruptError,
    BlockMissingError,
    DiskBlockStore,
    ModelExistsError,
    ModelMissingError,
    load_state_dict,
    open_store,
)
from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.hashing import BlockId
from pbstore.serve import create_app, serving
from pbstore.serve.fetch import copies
from pbstore.serve.fetch.copies import PULL, PUSH
from pbstore.serve.fetch.forms import cheaper_raw
from pbstore.serve.fetch.remote import fetched
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.wire import frames
from pbstore.serve.wire.blocks import PREFIX
from pbstore.store import raw_block
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.serve.families import NAMES, family_files
from tests.pbstore.serve.nodes import Liar, Proxy, edge_node, mostly_slow, store_node
from tests.pbstore.serve.test_nodes import LIES

ROWS = 6000


FAMILY = {"rows": ROWS}


@pytest.fixture
def node(family: DiskBlockStore) -> Iterator[Proxy]:
    with store_node(family, writable=False) as url, Proxy(url) as proxy:
        yield proxy


def check_whole(store: DiskBlockStore, root: Path, out: Path) -> None:
    assert store.verify().ok
    for name in store.models():
        store.checkout(name, out / name)
        assert folder_content(out / name) == family_files(root, name)


def same_but_dry(dry: object, real: object) -> bool:
    trees = [asdict(report) for report in (dry, real)]  # type: ignore[call-overload]
    for tree in trees:
        for one in (tree, *tree.get("models", ())):
            one.pop("dry_run")
    return trees[0] == trees[1]


def test_a_pull_brings_what_is_missing(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path
) -> None:
    with open_store(tmp_path / "store") as store:
        for name in NAMES:
            planned = copies.pull(store, name, node.url, dry_run=True)
            before = node.counted.to_client
            report = copies.pull(store, name, node.url)
            assert same_but_dry(planned, report)
            assert report.sent_bytes < node.counted.to_client - before < 1.01 * report.sent_bytes + 4096
            again = copies.pull(store, name, node.url)
            assert (again.blocks, again.sent_bytes, again.was_there) == (0, 0, True)
            assert store.manifest(name) == family.manifest(name)
        assert store.used_bytes == family.used_bytes
        check_whole(store, root, tmp_path / "out")


def test_a_push_brings_what_is_missing(family: DiskBlockStore, root: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        with store_node(store) as url, Proxy(url) as proxy:
            for name in NAMES:
                planned = copies.push(family, name, proxy.url, dry_run=True)
                before = proxy.counted.to_server
                report = copies.push(family, name, proxy.url)
                assert same_but_dry(planned, report)
                sent = proxy.counted.to_server - before
                assert report.sent_bytes < sent < 1.01 * report.sent_bytes + 4096
                assert copies.push(family, name, proxy.url).blocks == 0
        assert store.used_bytes == family.used_bytes
        check_whole(store, root, tmp_path / "out")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("by_peer", [False, True])
def test_a_pull_goes_through_nodes_that_have_nothing(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path, by_peer: bool
) -> None:
    with (
        edge_node(tmp_path / "one", upstream=node.url) as one,
        edge_node(
            tmp_path / "two", upstream=None if by_peer else one.url, peers=[one.url] if by_peer else []
        ) as two,
        open_store(tmp_path / "store") as store,
    ):
        for name in NAMES[:2]:
            planned = copies.pull(store, name, two.url, dry_run=True)
            assert same_but_dry(planned, copies.pull(store, name, two.url))
        assert store.used_bytes == sum(
            family.info(block_id).stored_bytes
            for block_id in {*family.blocks(NAMES[0]), *family.blocks(NAMES[1])}
        )
        check_whole(store, root, tmp_path / "out")


@pytest.mark.parametrize("direction", [PULL, PUSH])
@pytest.mark.parametrize("behind", mostly_slow([False, True], [False]))
def test_without_the_base_nobody_gets_more_than_the_model(
    family: DiskBlockStore, root: Path, tmp_path: Path, direction: str, behind: bool
) -> None:
    name = NAMES[1]
    with ExitStack() as stack:
        store = stack.enter_context(open_store(tmp_path / "store"))
        here, there = (store, family) if direction == PULL else (family, store)
        url = stack.enter_context(store_node(there))
        if behind and direction == PULL:
            url = stack.enter_context(edge_node(tmp_path / "node", upstream=url)).url
        proxy = stack.enter_context(Proxy(url))
        move = copies.pull if direction == PULL else copies.push
        planned = move(here, name, proxy.url, dry_run=True)
        before = proxy.counted.to_client + proxy.counted.to_server
        report = move(here, name, proxy.url)
        moved = proxy.counted.to_client + proxy.counted.to_server - before
        assert same_but_dry(planned, report)
        assert report.sent_bytes < moved < 1.01 * family.manifest(name).raw_bytes + 16_384
        check_whole(store, root, tmp_path / "out")


@settings(max_examples=25)
@given(data=st.data())
def test_the_cheaper_form_of_each_group_is_sent(data: st.DataObject) -> None:
    """Brute force: of all ways to send each group coded or raw none is cheaper, and no group is cut."""
    sizes = st.integers(1, 1 << 20)
    ids = [BlockId(f"{number:064x}") for number in range(7)]
    mine, extras = ids[:4], ids[4:]
    needs = {one: data.draw(st.lists(st.sampled_from(extras), unique=True, max_size=2)) for one in mine}
    infos = {
        one: BlockInfo(
            block_id=one,
            raw_bytes=data.draw(sizes),
            stored_bytes=data.draw(sizes),
            codec="delta",
            needs=tuple(needs.get(one, ())),
        )
        for one in ids
    }
    heads = {one: frames.frame_bytes(replace(infos[one], stored_bytes=0, needs=())) for one in ids}

    def cost(raw: set[BlockId]) -> int:
        coded = {need for one in mine if one not in raw for need in (one, *needs[one])}
        raw_bytes = sum(infos[one].raw_bytes + heads[one] for one in raw)
        return raw_bytes + sum(frames.frame_bytes(infos[one]) for one in coded)

    needing = [one for one in mine if needs[one]]
    ways = [set(raw) for count in range(5) for raw in combinations(needing, count)]
    pairs = [{one, other} for one in mine for other in mine if {*needs[one]} & {*needs[other]}]
    uncut = [raw for raw in ways if all(pair <= raw or not pair & raw for pair in pairs)]
    chosen = cheaper_raw(mine, infos)
    assert chosen in uncut
    assert cost(chosen) == min(map(cost, uncut))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("direction", [PULL, PUSH])
def test_a_sync_brings_all_and_its_dry_run_says_so(
    family: DiskBlockStore, root: Path, tmp_path: Path, direction: str
) -> None:
    with open_store(tmp_path / "store") as store:
        here, there = (store, family) if direction == PULL else (family, store)
        with store_node(there) as url:
            some = copies.sync(here, url, direction, only="org/tuned-*", dry_run=True)
            assert [model.name for model in some.models] == list(NAMES[1:])
            planned = copies.sync(here, url, direction, dry_run=True)
            assert store.models() == ()
            report = copies.sync(here, url, direction)
            assert same_but_dry(planned, report)
            assert copies.sync(here, url, direction).sent_bytes == 0
        check_whole(store, root, tmp_path / "out")


def test_a_sync_goes_on_past_a_model_that_cannot_be_copied(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path
) -> None:
    with open_store(tmp_path / "store") as store:
        store.add(root / "tuned-0", NAMES[0])
        own = store.manifest(NAMES[0])
        report = copies.sync(store, node.url, PULL)
        assert [item.name for item in report.failed] == [NAMES[0]]
        assert store.models() == NAMES
        assert store.manifest(NAMES[0]) == own
        with pytest.raises(ModelExistsError):
            copies.pull(store, NAMES[0], node.url)


@pytest.mark.parametrize("share", mostly_slow([0.05, 0.5, 0.95], [0.5]))
def test_what_breaks_off_goes_on_where_it_ended(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path, share: float
) -> None:
    node.cut_after = int(share * family.used_bytes)
    with open_store(tmp_path / "store") as store:
        report = copies.sync(store, node.url, PULL)
        assert report.failed
        assert store.verify().ok
        node.is_dead = False
        for name in NAMES:
            copies.pull(store, name, node.url)
        check_whole(store, root, tmp_path / "out")
    largest = max(family.info(block_id).stored_bytes for block_id in family.block_ids())
    assert node.counted.to_client < family.used_bytes + largest + 30_000


def test_a_source_that_is_back_at_once_costs_nothing_twice(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path
) -> None:
    node.cut_after, node.dies_once = family.used_bytes // 4, True
    with open_store(tmp_path / "store") as store:
        for name in NAMES:
            copies.pull(store, name, node.url)
        check_whole(store, root, tmp_path / "out")
    assert node.counted.to_client < 1.02 * family.used_bytes + 8192


@pytest.mark.parametrize("lie", mostly_slow(LIES, ["one bit"]))
def test_nothing_wrong_is_pulled(family: DiskBlockStore, root: Path, tmp_path: Path, lie: str) -> None:
    """A lie about a coded form harms nobody who is sent the block itself: then what came is right."""
    with serving(create_app(Liar(family, LIES[lie]))) as url, open_store(tmp_path / "store") as store:
        try:
            copies.pull(store, NAMES[0], url)
        except (BlockCorruptError, SourceError):
            assert store.models() == ()
        else:
            assert lie == "no needs"
        check_whole(store, root, tmp_path / "out")


def test_a_base_may_be_stored_in_another_form_there(root: Path, tmp_path: Path) -> None:
    """Here a block is the base of a difference; there it is a difference itself, which may be no base."""
    tensors = base_tensors(rows=ROWS)
    middle = tuned(tensors, ("embed.weight",), seed=1)
    last = tuned(middle, ("model.embed.weight",), seed=2)
    folders = {
        name: write_model(tmp_path / name, data)
        for name, data in {"first": tensors, "middle": middle, "last": last}.items()
    }
    with open_store(tmp_path / "here") as here, open_store(tmp_path / "there") as there:
        here.add(folders["middle"], "org/middle")
        here.add(folders["last"], "org/last", "org/middle")
        there.add(folders["first"], "org/first")
        there.add(folders["middle"], "org/middle", "org/first")
        needing = [one for one in here.blocks("org/last") if here.info(one).needs]
        assert any(there.info(need).needs for one in needing for need in here.info(one).needs)
        with store_node(there) as url:
            copies.push(here, "org/last", url)
        there.checkout("org/last", tmp_path / "out")
        assert folder_content(tmp_path / "out") == folder_content(folders["last"])
        assert there.verify().ok


def put(url: str, blocks: list[StoredBlock]) -> httpx.Response:
    parts = [
        part
        for stored in blocks
        for part in (frames.block_head(stored, frames.payload_check(stored.payload)), bytes(stored.payload))
    ]
    body = b"".join([frames.STREAM_START, *parts, frames.end_frame(len(blocks))])
    return httpx.put(f"{url}{PREFIX}/blocks", content=body)


def test_a_put_creates_only(family: DiskBlockStore, tmp_path: Path) -> None:
    good, other = raw_block(b"good"), raw_block(b"other")
    false = StoredBlock(block_id=good.block_id, raw_bytes=4, codec="raw", payload=b"evil")
    delta = next(
        family.export_block(one) for one in family.blocks(NAMES[1]) if family.info(one).codec == "delta"
    )
    with open_store(tmp_path / "store") as store, store_node(store) as url:
        assert [put(url, [good]).status_code, put(url, [good]).status_code] == [200, 200]
        assert put(url, [other, false]).json()["blocks"] == 2  # known blocks are not looked at
        assert bytes(store.get(good.block_id)) == b"good"
        wrong = StoredBlock(block_id=raw_block(b"x").block_id, raw_bytes=1, codec="raw", payload=b"y")
        reply = put(url, [raw_block(b"before"), wrong])
        assert (reply.status_code, reply.json()["block"]) == (422, wrong.block_id)
        assert store.has(raw_block(b"before").block_id)
        assert not store.has(wrong.block_id)
        reply = put(url, [delta])
        assert (reply.status_code, reply.json()["block"]) == (424, delta.needs[0])
        manifest = family.manifest(NAMES[0])
        text = manifest.to_json().encode()
        reply = httpx.put(f"{url}{PREFIX}/manifests/{NAMES[0]}", content=text)
        assert (reply.status_code, reply.json()["type"]) == (424, "BlockMissingError")
        reply = httpx.put(f"{url}{PREFIX}/manifests/org/other", content=text)
        assert reply.status_code == 400
        assert store.models() == ()


def test_a_node_that_takes_nothing_is_one_line(family: DiskBlockStore, node: Proxy, tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        store.add(write_model(tmp_path / "mine", base_tensors(rows=10)), "org/mine")
        with pytest.raises(SourceError, match="answers 40"):
            copies.push(store, "org/mine", node.url)


def test_errors_of_the_other_side_are_ours(family: DiskBlockStore, node: Proxy, tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        with pytest.raises(ModelMissingError, match=node.url):
            copies.pull(store, "org/nobody", node.url)
        with pytest.raises(ValueError, match="http://edge:8080"):
            copies.pull(store, NAMES[0], "ftp://edge")
        with pytest.raises(SourceError):
            copies.pull(store, NAMES[0], "http://127.0.0.1:9")
        assert not issubclass(BlockMissingError, ModelMissingError)


def test_the_commands_say_what_they_did(
    family: DiskBlockStore, node: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store")]
    assert main(["store", "pull", NAMES[1], "--from", node.url, "--dry-run", *where]) == 0
    assert not (tmp_path / "store").exists()
    planned = capsys.readouterr().out
    assert main(["store", "pull", NAMES[1], "--from", node.url, *where]) == 0
    assert capsys.readouterr().out == planned.replace("would copy", "copied")
    assert main(["store", "sync", "--from", node.url, "--json", *where]) == 0
    assert '"failed": []' in capsys.readouterr().out
    assert main(["store", "sync", *where]) == 1
    assert "expected one of --from URL and --to URL" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["pull", "org/model"], ["sync"]])
def test_an_address_that_is_none_makes_no_store(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *verb, "--from", "foo", "--store", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err == "pbcast: expected a URL such as http://edge:8080, got 'foo'\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_model_is_loaded_by_url(
    family: DiskBlockStore, node: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBCAST_CACHE", str(tmp_path / "cache"))
    for name in NAMES:
        state, wanted = load_state_dict(node.url, name), load_state_dict(family, name)
        assert state.keys() == wanted.keys()
        assert all((state[key] == wanted[key]).all() for key in wanted)
    assert node.counted.to_client < 1.02 * family.used_bytes + 8192
    node.is_dead = True
    assert load_state_dict(node.url, NAMES[1]).keys()


@pytest.mark.slow
def test_a_cache_stays_within_its_bounds_and_follows_the_node(
    family: DiskBlockStore, node: Proxy, root: Path, tmp_path: Path
) -> None:
    bound = int(0.8 * family.used_bytes)
    for name in (*NAMES, *NAMES):
        with fetched(node.url, name, folder=tmp_path / "cache", capacity_bytes=bound) as store:
            assert store.used_bytes <= bound
            store.checkout(name, tmp_path / "out", force=True)
            assert store.verify().ok
    with open_store(tmp_path / "other") as other, store_node(other) as url:
        for source in ("tuned-0", "tuned-1"):  # another content under the same name
            if other.models():
                other.remove("org/one")
            other.add(root / source, "org/one")
            with fetched(url, "org/one", folder=tmp_path / "second") as store:
                assert store.manifest("org/one") == other.manifest("org/one")
