"""Nodes with little room, or an empty disk: what they fetch, in which form, and what they keep of it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore, open_store
from pbstore.blocks import RAW, BlockInfo
from pbstore.hashing import BlockId
from pbstore.serve.fetch.fetcher import Fetcher
from pbstore.serve.fetch.forms import Credit, raw_frame_bytes
from pbstore.serve.fetch.here import Here
from pbstore.serve.fetch.keeper import Keeper
from pbstore.serve.fetch.lanes import Lane
from pbstore.serve.fetch.passing import Passing
from pbstore.serve.fetch.peers import Holdings, Speed
from pbstore.serve.fetch.policy import LeastRecentlyUsed
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library import StoreLibrary
from pbstore.serve.wire.frames import frame_bytes
from pbstore.store import raw_block
from tests.pbstore.serve.families import NAMES, family_files
from tests.pbstore.serve.measures import cluster
from tests.pbstore.serve.nodes import Counts, Proxy, edge_node, get_file, get_model, store_node
from tests.pbstore.serve.test_fetching import Memory

FAMILY = {"rows": 6_000}
ALONE = NAMES[1]
"""A fine-tune, whose differences and base are more than itself."""


@pytest.fixture
def upstream(family: DiskBlockStore) -> Iterator[Proxy]:
    with store_node(family, writable=False) as url, Proxy(url) as proxy:
        yield proxy


def raw_bytes(store: DiskBlockStore, name: str) -> int:
    return sum(store.info(block_id).raw_bytes for block_id in set(store.manifest(name).block_ids()))


@pytest.mark.parametrize("hops", [1, 2])
def test_a_model_by_itself_costs_no_more_than_it_is(
    family: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path, hops: int
) -> None:
    with ExitStack() as stack:
        url, proxies = upstream.url, [upstream]
        for hop in range(hops):
            url = stack.enter_context(edge_node(tmp_path / str(hop), upstream=url)).url
            proxies.append(stack.enter_context(Proxy(url)))
            url = proxies[-1].url
        assert get_model(url, family.manifest(ALONE)) == family_files(root, ALONE)
        for proxy in proxies[:hops]:
            assert proxy.counted.to_client <= 1.01 * raw_bytes(family, ALONE) + 16_384


def test_a_model_by_itself_costs_the_origin_of_three_nodes_no_more_than_it_is(
    family: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    with cluster(tmp_path, family, 3) as (urls, proxy):
        for url in urls:
            assert get_model(url, family.manifest(ALONE)) == family_files(root, ALONE)
        assert proxy.counted.to_client <= 1.01 * raw_bytes(family, ALONE) + 16_384


def test_whose_base_is_at_a_peer_costs_the_origin_its_difference(
    family: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    with cluster(tmp_path, family, 2) as (urls, proxy):
        get_model(urls[0], family.manifest(NAMES[0]))
        before, known = proxy.counted.to_client, set(family.blocks(NAMES[0]))
        assert get_model(urls[1], family.manifest(ALONE)) == family_files(root, ALONE)
        new = sum(family.info(one).stored_bytes for one in set(family.blocks(ALONE)) - known)
        assert proxy.counted.to_client - before <= 1.02 * new + 16_384


@given(
    base=st.integers(1_000, 100_000),
    siblings=st.lists(st.tuples(st.floats(0, 1.2), st.integers(1_000, 100_000)), min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_a_family_costs_at_most_twice_what_foresight_would_and_the_first_no_more_than_itself(
    base: int, siblings: list[tuple[float, int]]
) -> None:
    def info(number: int, raw: int, stored: int, needs: tuple[BlockId, ...]) -> BlockInfo:
        codec = "delta" if needs else "planes"
        return BlockInfo(
            block_id=BlockId(f"{number:064x}"), raw_bytes=raw, stored_bytes=stored, codec=codec, needs=needs
        )

    root = info(0, 2 * base, base, ())
    blocks = [info(n + 1, raw, int(share * raw), (root.block_id,)) for n, (share, raw) in enumerate(siblings)]
    credit, here, paid = Credit(), False, list[int]()
    for block in blocks:
        infos = {block.block_id: block} | ({} if here else {root.block_id: root})
        if credit.choose([block.block_id], infos):
            paid.append(raw_frame_bytes(block))
        else:
            paid.append(frame_bytes(block) + (0 if here else frame_bytes(root)))
            here = True
    coded = frame_bytes(root) + sum(map(frame_bytes, blocks))
    assert paid[0] <= raw_frame_bytes(blocks[0])
    assert sum(paid) <= 2 * min(coded, sum(map(raw_frame_bytes, blocks)))


def test_a_block_that_comes_again_buys_no_base() -> None:
    root = BlockInfo(block_id=BlockId("0" * 64), raw_bytes=1200, stored_bytes=1000, codec="planes", needs=())
    tuned = BlockInfo(
        block_id=BlockId("1" * 64), raw_bytes=1200, stored_bytes=300, codec="delta", needs=(root.block_id,)
    )
    credit, infos = Credit(), {root.block_id: root, tuned.block_id: tuned}
    for _ in range(5):
        assert credit.choose([tuned.block_id], infos) == {tuned.block_id}


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_ranges_of_a_block_that_is_not_kept_cost_one_fetch(
    family: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path, share: float
) -> None:
    largest = max(family.info(one).stored_bytes for one in family.blocks(NAMES[0]))
    wanted = family_files(root, NAMES[0])["model.safetensors"]
    with edge_node(tmp_path / "edge", upstream=upstream.url, capacity=int(share * largest)) as node:
        for _ in range(5):
            assert get_file(node.url, NAMES[0], "model.safetensors") == wanted
    assert upstream.counted.to_client <= 1.02 * family.used_bytes


MANY = [raw_block(bytes([number]) * 1000) for number in range(24)]
IDS = [stored.block_id for stored in MANY]


def fetches(store: DiskBlockStore, passes: list[range]) -> list[int]:
    """How many blocks each pass over some of them costs, by a node that reads one behind the other."""
    source = Memory("one", MANY)

    async def inside() -> list[int]:
        library, counts = StoreLibrary(store), Counts()
        keeper = Keeper(store, counts)
        found = []
        for some in passes:
            lanes, before = [Lane(source, Speed(), Holdings())], source.given.total()
            fetcher = Fetcher(Here(library), keeper, counts, lanes, passing=Passing(0))
            await fetcher.scout(IDS)
            for number in some:
                if await library.has([IDS[number]]):
                    keeper.used([IDS[number]])
                else:
                    await fetcher.get(IDS[number])
                    while fetcher.is_coming(IDS[number]):
                        await asyncio.sleep(0.001)
            await fetcher.close()
            found.append(source.given.total() - before)
        await keeper.close()
        await library.close()
        assert store.used_bytes <= (store.capacity_bytes or 0)
        return found

    return asyncio.run(inside())


def test_what_is_too_large_costs_only_what_does_not_fit_the_next_time(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", 4_100, durable=False) as store:
        assert fetches(store, [range(8)] * 4) == [8, 4, 4, 4]


def test_models_that_are_read_in_turn_do_not_push_out_one_another(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", 8_200, durable=False) as store:
        one, two = range(6), range(6, 12)
        costs = fetches(store, [one, two] * 4)
        assert costs[:2] == [6, 6]
        assert all(sum(costs[at : at + 2]) == 4 for at in range(2, 8, 2)), costs


def test_what_is_new_is_kept_the_first_time(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", 8_200, durable=False) as store:
        assert fetches(store, [range(12), range(12), range(12, 18), range(12, 18)])[2:] == [6, 0]


def test_what_can_never_fit_pushes_nothing_out(tmp_path: Path) -> None:
    async def inside(store: DiskBlockStore) -> None:
        counts = Counts()
        keeper = Keeper(store, counts)
        large = raw_block(bytes(5000))
        for stored in (*MANY[:3], large):
            kept = await keeper.keep(Checked(stored, stored.payload))
            assert kept == (stored is not large)
        await keeper.close()
        assert counts.evicted_blocks == 0
        assert set(store.block_ids()) == set(IDS[:3])

    with open_store(tmp_path / "store", 4_100, durable=False) as store:
        asyncio.run(inside(store))


@given(uses=st.lists(st.integers(0, 7), max_size=60), room=st.integers(1, 5))
@settings(max_examples=60)
def test_nothing_goes_for_what_was_used_longer_ago(uses: list[int], room: int) -> None:
    """The policy beside a model of it: only what was used before the last use of what comes may go."""
    policy, kept, last = LeastRecentlyUsed(), set[int](), dict[int, int]()
    for now, number in enumerate(uses):
        block_id = IDS[number]
        if number not in kept and len(kept) >= room:
            may_go = [IDS.index(one) for one in policy.first_to_go(block_id)]
            since = last.get(number, now)
            assert may_go == sorted((one for one in kept if last[one] < since), key=last.__getitem__)
            if may_go:
                kept.remove(may_go[0])
                policy.gone(IDS[may_go[0]])
        last[number] = now
        if number in kept or len(kept) < room:
            kept.add(number)
            policy.used([block_id])
        else:
            policy.passed(block_id)


def test_passing_blocks_are_bounded_and_the_last_is_always_there() -> None:
    passing = Passing(2_500)
    for stored in MANY[:5]:
        passing.put(Checked(stored, stored.payload))
        assert passing.held_bytes <= 2_500
        assert passing.get(stored.block_id) is not None
    assert passing.get(IDS[0]) is None
    large = raw_block(bytes(9_000))
    passing.put(Checked(large, large.payload))
    assert passing.get(large.block_id) is not None
    assert passing.held_bytes == 9_000
    assert large.codec == RAW
