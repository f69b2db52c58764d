"""Fetching by itself, from sources in memory: one fetch for all, the fastest source, past those that fail."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import BlockMissingError, DiskBlockStore, open_store
from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import Manifest
from pbstore.serve.fetch import fetcher as fetching
from pbstore.serve.fetch.fetcher import Fetcher
from pbstore.serve.fetch.here import Here
from pbstore.serve.fetch.keeper import Keeper
from pbstore.serve.fetch.lanes import Lane
from pbstore.serve.fetch.peers import Holdings, Speed, rendezvous
from pbstore.serve.fetch.policy import LeastRecentlyUsed
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.library import StoreLibrary
from pbstore.serve.library.flights import Flights
from pbstore.serve.wire.frames import Partial
from pbstore.store import raw_block
from tests.pbstore.serve.nodes import Counts


class Memory:
    """A source in memory that may be slow, broken, or lie."""

    def __init__(self, name: str, blocks: Sequence[StoredBlock], delay_s: float = 0.0) -> None:
        self.name, self.delay_s = name, delay_s
        self.held = {stored.block_id: stored for stored in blocks}
        self.given: Counter[BlockId] = Counter()
        self.lie: Callable[[StoredBlock], StoredBlock] = lambda stored: stored
        self.failures = 0

    async def names(self) -> tuple[str, ...]:
        return ()

    async def manifest(self, name: str) -> Manifest:
        raise NotImplementedError

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        return {one: self.held[one].info for one in block_ids if one in self.held}

    async def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        for block_id in block_ids:
            await asyncio.sleep(self.delay_s)
            if self.failures:
                self.failures -= 1
                raise SourceError(self.name, "breaks off")
            if block_id in self.held:
                self.given[block_id] += 1
                yield self.lie(self.held[block_id])

    async def close(self) -> None:
        pass


BLOCKS = [raw_block(bytes([number]) * 1000) for number in range(8)]
IDS = [stored.block_id for stored in BLOCKS]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        yield opened


def run(
    store: DiskBlockStore,
    sources: Sequence[Memory],
    work: Callable[[Fetcher], Awaitable[object]],
    counts: Counts | None = None,
) -> object:
    async def inside() -> object:
        library, counted = StoreLibrary(store), counts or Counts()
        keeper = Keeper(store, counted)
        lanes = [Lane(source, Speed(), Holdings()) for source in sources]
        fetcher = Fetcher(Here(library), keeper, counted, lanes)
        try:
            await fetcher.scout(IDS)
            return await asyncio.wait_for(work(fetcher), 20)
        finally:
            await fetcher.close()
            await keeper.close()
            await library.close()

    return asyncio.run(inside())


async def get_all(fetcher: Fetcher) -> None:
    found = await asyncio.gather(*(fetcher.get(block_id) for block_id in IDS))
    assert [bytes(block.raw) for block in found] == [stored.payload for stored in BLOCKS]


def test_all_who_ask_get_one_fetch(store: DiskBlockStore) -> None:
    source = Memory("one", BLOCKS, delay_s=0.01)

    async def ask(fetcher: Fetcher) -> None:
        await asyncio.gather(*(get_all(fetcher) for _ in range(50)))
        await get_all(fetcher)  # from what is here now

    run(store, [source], ask)
    assert source.given == Counter(dict.fromkeys(IDS, 1))
    assert set(store.block_ids()) == set(IDS)


def test_who_leaves_stops_nobody_and_a_fetch_for_nobody_ends(store: DiskBlockStore) -> None:
    source = Memory("one", BLOCKS, delay_s=0.05)

    async def ask(fetcher: Fetcher) -> None:
        leaving = [asyncio.ensure_future(get_all(fetcher)) for _ in range(3)]
        staying = asyncio.ensure_future(fetcher.get(IDS[-1]))
        await asyncio.sleep(0.07)
        for task in leaving:
            task.cancel()
        assert bytes((await staying).raw) == BLOCKS[-1].payload
        alone = asyncio.ensure_future(fetcher.get(IDS[0]))
        await asyncio.sleep(0)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone

    run(store, [source], ask)


def test_an_error_is_everybodys_and_is_not_kept(store: DiskBlockStore) -> None:
    source = Memory("one", [])

    async def ask(fetcher: Fetcher) -> None:
        errors = await asyncio.gather(*(fetcher.get(IDS[0]) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(error, BlockMissingError) for error in errors)
        source.held[IDS[0]] = BLOCKS[0]
        for lane in fetcher._lanes:
            lane.holdings.note(IDS, {IDS[0]: BLOCKS[0].info})
        assert (await fetcher.get(IDS[0])).raw == BLOCKS[0].payload

    run(store, [source], ask)


def test_a_source_that_breaks_off_is_asked_again_if_there_is_no_other(store: DiskBlockStore) -> None:
    source = Memory("one", BLOCKS)
    source.failures = 2
    run(store, [source], get_all)


def test_a_slow_source_has_another_asked_beside_it(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "HEDGE_LEAST_S", 0.05)
    slow, fast = Memory("slow", BLOCKS, delay_s=30.0), Memory("fast", BLOCKS)

    async def ask(fetcher: Fetcher) -> None:
        fetcher._lanes[1].speed.latency_s = 1.0  # so that the slow one is asked first
        await get_all(fetcher)

    run(store, [slow, fast], ask)
    assert sum(fast.given.values()) == len(IDS)


def test_a_liar_is_named_and_others_are_asked(store: DiskBlockStore) -> None:
    counts, liar, honest = Counts(), Memory("liar", BLOCKS), Memory("honest", BLOCKS)
    liar.lie = lambda stored: replace(stored, payload=bytes(len(stored.payload)))

    async def ask(fetcher: Fetcher) -> None:
        fetcher._lanes[1].speed.latency_s = 1.0
        await get_all(fetcher)
        assert not fetcher._lanes[0].speed.is_open

    run(store, [liar, honest], ask, counts)
    assert set(counts.corrupt_blocks) == {"liar"}
    assert store.verify().ok


def test_where_all_lie_nobody_gets_anything(store: DiskBlockStore) -> None:
    liar = Memory("liar", BLOCKS)
    liar.lie = lambda stored: replace(stored, payload=b"x" * len(stored.payload))

    async def ask(fetcher: Fetcher) -> None:
        for block_id in IDS:
            with pytest.raises(Exception, match="corrupt"):
                await fetcher.get(block_id)

    run(store, [liar], ask)
    assert list(store.block_ids()) == []


def test_work_is_shared_by_speed(store: DiskBlockStore) -> None:
    big = [raw_block(bytes([number]) * 300_000) for number in range(40)]
    fast, slow = Memory("fast", big), Memory("slow", big)

    async def ask(fetcher: Fetcher) -> None:
        ids = [stored.block_id for stored in big]
        fetcher._lanes[0].speed.rate_bytes_s, fetcher._lanes[1].speed.rate_bytes_s = 80e6, 20e6
        await fetcher.scout(ids)
        await asyncio.gather(*map(fetcher.get, ids))

    run(store, [fast, slow], ask)
    share = sum(fast.given.values()) / len(big)
    assert 0.6 < share < 1.0


def test_a_damaged_block_here_is_fetched(store: DiskBlockStore) -> None:
    store.put(bytes(BLOCKS[1].payload))
    pack = next((store.path / "packs").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    at = data.index(bytes(BLOCKS[1].payload)[:100])
    data[at] ^= 1
    pack.write_bytes(data)
    source = Memory("one", BLOCKS)

    async def ask(fetcher: Fetcher) -> None:
        assert (await fetcher.get(IDS[1])).raw == BLOCKS[1].payload

    run(store, [source], ask)
    assert source.given[IDS[1]] == 1


class Choosy(LeastRecentlyUsed):
    """Keeps only some blocks."""

    def wants(self, info: BlockInfo) -> bool:
        return info.block_id in IDS[:3]


def test_a_policy_says_what_is_kept(store: DiskBlockStore) -> None:
    source = Memory("one", BLOCKS)

    async def inside() -> None:
        library, counts = StoreLibrary(store), Counts()
        keeper = Keeper(store, counts, Choosy())
        fetcher = Fetcher(Here(library), keeper, counts, [Lane(source, Speed(), Holdings())])
        await fetcher.scout(IDS)
        await get_all(fetcher)
        await keeper.close()
        await library.close()

    asyncio.run(inside())
    assert set(store.block_ids()) == set(IDS[:3])


async def get_and_keep(fetcher: Fetcher, block_id: BlockId) -> None:
    await fetcher.get(block_id)
    while fetcher.is_coming(block_id):  # it is kept behind who asked
        await asyncio.sleep(0.001)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    async def inside(store: DiskBlockStore) -> None:
        library, counts = StoreLibrary(store), Counts()
        keeper = Keeper(store, counts)
        fetcher = Fetcher(Here(library), keeper, counts, [Lane(Memory("one", BLOCKS), Speed(), Holdings())])
        await fetcher.scout(IDS)
        for block_id in IDS[:4]:
            await get_and_keep(fetcher, block_id)
        keeper.used([IDS[0]])
        with keeper.holding([IDS[1]]):
            await get_and_keep(fetcher, IDS[4])
        await keeper.close()
        await library.close()
        assert set(store.block_ids()) == {IDS[0], IDS[1], IDS[3], IDS[4]}
        assert counts.evicted_blocks == 1

    with open_store(tmp_path / "store", 4200, durable=False) as store:
        asyncio.run(inside(store))


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=6), st.binary(max_size=4))
@settings(max_examples=40)
def test_a_block_falls_to_another_node_only_if_its_own_goes(nodes: set[str], raw: bytes) -> None:
    block_id = hash_block(raw)
    order = rendezvous(nodes, block_id)
    assert set(order) == nodes
    for gone in nodes:
        assert rendezvous(nodes - {gone}, block_id) == [node for node in order if node != gone]


def test_blocks_fall_to_all_nodes_alike() -> None:
    firsts = Counter(rendezvous("abc", hash_block(bytes([i, j])))[0] for i in range(30) for j in range(30))
    assert all(240 < count < 360 for count in firsts.values())


def test_a_source_that_fails_is_left_alone_longer_each_time_and_taken_back() -> None:
    now = 0.0
    speed = Speed(clock=lambda: now)
    waits = []
    for _ in range(10):
        speed.note_failure()
        start = now
        while not speed.is_open:
            now += 0.25
        waits.append(now - start)
    assert waits[0] < 1
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(30, abs=0.5)
    speed.note(1 << 20, 0.01)
    speed.note_failure()
    assert speed.failures == 1


def test_one_late_answer_of_a_source_that_was_fine_is_forgiven() -> None:
    now = 0.0
    speed = Speed(clock=lambda: now)
    speed.note_failure(late=True)
    assert not speed.is_open  # it never was fine
    now = 10.0
    speed.note(0, 0.0)
    speed.note_failure(late=True)
    assert speed.is_open
    speed.note_failure(late=True)
    assert not speed.is_open
    now = 100.0
    speed.note(0, 0.0)
    speed.note_failure()
    assert not speed.is_open  # it broke off


def test_flights_end_when_nobody_waits() -> None:
    async def inside() -> None:
        flights: Flights[str, int] = Flights()
        ended = asyncio.Event()

        async def call() -> int:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return 1

        waiting = [asyncio.ensure_future(flights.join("key", call)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), 60)

        async def two() -> int:
            return 2

        assert await flights.join("key", two) == 2

    asyncio.run(inside())
