"""What is decoded ahead: in order, within bounds, by no more threads than cores, not for one who has gone."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from pbstore import BlockCorruptError, DiskBlockStore
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry
from pbstore.serve.http.bodies import PartsResponse
from pbstore.serve.http.connection import EXTENTS, GONE
from pbstore.serve.http.extents import ExtentsResponse
from pbstore.serve.library import StoreLibrary
from pbstore.serve.library.spans import Span, groups_of, spans_of
from pbstore.serve.library.window import Room, Steps, Window
from pbstore.serve.settings import ServeSettings
from tests.pbstore.serve.stores import family_store

COLD = "org/tuned"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("ahead")) as opened:
        yield opened


def file_of(library: StoreLibrary, name: str) -> FileEntry:
    return asyncio.run(library.revision(name)).by_path["model.safetensors"]


def bytes_of(store: DiskBlockStore, name: str) -> bytes:
    return (store.path.parent / "folders" / name / "model.safetensors").read_bytes()


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=12),
    seed=st.integers(0, 1000),
    most_bytes=st.integers(0, 20),
    most=st.integers(1, 5),
    all_bytes=st.integers(0, 30),
    taken=st.integers(0, 12),
)
def test_results_come_in_order_within_bounds(
    sizes: list[int], seed: int, most_bytes: int, most: int, all_bytes: int, taken: int
) -> None:
    room, running, begun, used = Room(all_bytes), dict[int, asyncio.Future[int]](), list[int](), list[int]()
    order = random.Random(seed)

    async def get(number: int) -> int:
        begun.append(number)
        running[number] = asyncio.get_running_loop().create_future()
        return await running[number]

    def check() -> None:
        held = [sizes[number] for number in begun if number not in used[:-1]]  # the last one is in use
        assert len(held) <= max(most, 2)
        assert len(held) <= 2 or sum(held[:-1]) < most_bytes
        assert len(held) <= 1 or sum(held[:-1]) < all_bytes

    async def some_end() -> None:
        while True:
            await asyncio.sleep(0)
            waiting = [future for future in running.values() if not future.done()]
            if waiting:
                chosen = order.choice(waiting)
                chosen.set_result(next(n for n, future in running.items() if future is chosen))

    async def main() -> None:
        ending = asyncio.ensure_future(some_end())
        window: Window[int, int] = Window(get, room, most_bytes, most)
        async with aclosing(window.results(enumerate(sizes))) as results:
            async for number in results:
                used.append(number)
                check()
                if len(used) == taken:
                    break
        ending.cancel()
        await asyncio.sleep(0)
        assert all(future.done() for future in running.values())  # cancelled, if not at their end

    asyncio.run(main())
    assert used == list(range(len(sizes)))[: taken or None]
    assert room.held_bytes == 0


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_an_error_comes_in_its_place(broken: int) -> None:
    room, used = Room(100), []

    async def get(number: int) -> int:
        if number == broken:
            raise BlockCorruptError(BlockId("0" * 64), "broken")
        return number

    async def main() -> None:
        async for number in Window(get, room, 100, 4).results((number, 1) for number in range(5)):
            used.append(number)

    with pytest.raises(BlockCorruptError):
        asyncio.run(main())
    assert used == list(range(broken))
    assert room.held_bytes == 0


@settings(max_examples=30)
@given(parts=st.lists(st.binary(min_size=1, max_size=5), max_size=9), counts=st.lists(st.integers(0, 9)))
def test_steps_give_the_same_bytes(parts: list[bytes], counts: list[int]) -> None:
    async def come() -> AsyncIterator[Buffer]:
        for part in parts:
            yield part

    async def main() -> list[bytes]:
        steps = Steps(come())
        return [b"".join([bytes(one) async for one in steps.next_bytes(count)]) for count in counts]

    whole, at = b"".join(parts), 0
    for count, step in zip(counts, asyncio.run(main()), strict=True):
        assert step == whole[at : at + count]
        at += count


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), max_size=12), most=st.integers(1, 12))
def test_groups_are_the_spans_in_order(lengths: list[int], most: int) -> None:
    spans = [Span(BlockId(f"{place:064x}"), 0, length) for place, length in enumerate(lengths)]
    groups = list(groups_of(spans, most))

    assert [span for group in groups for span in group] == spans
    totals = [sum(span.stop for span in group) for group in groups]
    assert all(len(group) == 1 or total <= most for group, total in zip(groups, totals, strict=True))
    for following, total in zip(groups[1:], totals, strict=False):
        assert following[0].stop + total > most  # as many together as may be


def test_many_readers_start_no_more_threads_than_cores(store: DiskBlockStore) -> None:
    before = set(threading.enumerate())
    library = StoreLibrary(store, ServeSettings(decoders=2, part_bytes=20_000, decoded_bytes=0))
    file, expected = file_of(library, COLD), bytes_of(store, COLD)

    async def one() -> bytes:
        return b"".join([bytes(part) async for part in library.read(file, 0, file.size_bytes)])

    async def many() -> list[bytes]:
        return await asyncio.gather(*(one() for _ in range(12)))

    results = asyncio.run(many())
    names = Counter(thread.name for thread in set(threading.enumerate()) - before)
    asyncio.run(library.close())
    assert all(result == expected for result in results)
    assert 1 <= names["serve-decode"] <= 2
    assert names.total() <= 2 + ServeSettings().readers


def test_who_does_not_read_holds_his_window_and_nobody_up(store: DiskBlockStore) -> None:
    how = ServeSettings(decoders=2, part_bytes=1000, ahead_bytes=2000, decoded_bytes=0)
    library = StoreLibrary(store, how)
    file, expected = file_of(library, COLD), bytes_of(store, COLD)
    largest = max(piece.raw_bytes for piece in file.pieces)

    async def main() -> bytes:
        slow = [library.read(file, 0, file.size_bytes) for _ in range(10)]
        for reading in slow:
            assert expected.startswith(bytes(await anext(reading)))
        got = b"".join([bytes(part) async for part in library.read(file, 0, file.size_bytes)])
        assert library.room.held_bytes <= 10 * (2000 + 2 * largest)
        for reading in slow:
            await reading.aclose()  # type: ignore[attr-defined]
        assert library.room.held_bytes == 0
        return got

    assert asyncio.run(main()) == expected
    asyncio.run(library.close())


def test_nothing_more_is_decoded_for_one_who_stops(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ServeSettings(decoders=1, part_bytes=1000, ahead_bytes=2000, decoded_bytes=0)
    library = StoreLibrary(store, how)
    file = file_of(library, COLD)
    opened: list[BlockId] = []
    real = library._open
    monkeypatch.setattr(library, "_open", lambda block_id: (opened.append(block_id), real(block_id))[1])

    async def main() -> None:
        reading = library.read(file, 0, file.size_bytes)
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
        await library.call(list)
        await library._on_a_core(list)  # behind what the decoding thread still did
        count = len(opened)
        await library._on_a_core(list)
        assert len(opened) == count

    asyncio.run(main())
    distinct = [
        one.block_id for group in groups_of(spans_of(file, 0, file.size_bytes), 1000) for one in group
    ]
    assert len(opened) < len(distinct)
    asyncio.run(library.close())


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", ["parts", "extents", "extents by memory"])
def test_an_answer_ends_when_its_client_has_gone(kind: str, after: int) -> None:
    sent: list[Message] = []
    given, closed = [], []

    async def read(start: int, stop: int) -> AsyncIterator[Buffer]:
        try:
            for at in range(start, stop):
                given.append(at)
                yield b"x"
        finally:
            closed.append(True)

    async def find(start: int, stop: int) -> None:
        return None

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"method": "GET", "path": "/", GONE: lambda: len(given) > after + 1}
    if kind == "extents by memory":
        scope["extensions"] = {EXTENTS: {}}
    response = (
        PartsResponse(read(0, 100), 100, 200, {})
        if kind == "parts"
        else ExtentsResponse(read, find, 0, 100, 200, {})
    )

    async def receive() -> Message:
        return {}

    asyncio.run(response(scope, receive, send))
    bodies = [message for message in sent if message["type"] == "http.response.body"]
    assert len(given) == after + 2
    assert len(bodies) == after + 1
    assert closed
    assert all(message["more_body"] for message in bodies)


def test_a_base_at_hand_is_not_read_again(store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for name in store.models() for block in store.blocks(name)]
    raw = {block: bytes(store.get(block)) for block in blocks}
    based = [block for block in dict.fromkeys(blocks) if store.info(block).needs]
    assert based
    read: list[BlockId] = []
    real = store.disk._reader.read_into
    monkeypatch.setattr(
        store.disk._reader,
        "read_into",
        lambda pack, record, out: (read.append(record.block_id), real(pack, record, out))[1],
    )
    for block in based:
        read.clear()
        assert store.disk.get(block, at_hand=raw.get) == raw[block]
        assert read == [block]
        with pytest.raises(BlockCorruptError):
            store.disk.get(block, at_hand=partial(changed, raw))


def changed(raw: dict[BlockId, bytes], block: BlockId) -> bytes:
    """Wrong bytes for a base."""
    return bytes(byte ^ 0x55 for byte in raw[block])


def test_what_holds_the_room_is_the_whole_house(tmp_path: Path) -> None:
    """A house that is full leaves each reader the block that it sends."""
    with family_store(tmp_path) as store:
        library = StoreLibrary(store, ServeSettings(part_bytes=1000, all_ahead_bytes=0))
        file = file_of(library, COLD)

        async def main() -> bytes:
            return b"".join([bytes(part) async for part in library.read(file, 0, file.size_bytes)])

        assert asyncio.run(main()) == bytes_of(store, COLD)
        asyncio.run(library.close())
