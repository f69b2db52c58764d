"""How units come to a node: from the caches of others, else from the origin, each checked and told."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from demo.emulation.desk import Desk, DeskClosedError
from demo.emulation.log.events import ORIGIN, Rejected, Transferred
from demo.emulation.node import EdgeNode
from demo.emulation.roles.teller import Teller
from demo.emulation.wire.ask import NotReachedError, Wire
from demo.emulation.wire.offers import Asked, Offer, ask_offer, fetch_parts
from demo.parts import CodedPart, Part
from pbstore import BlockCorruptError, BlockMissingError, IntegrityError, PBStoreError

log = logging.getLogger(__name__)
FETCH_S = 10.0
"""How long one source is waited for, s."""
BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """A unit that a node is to get."""

    unit: int
    source: int
    """Node, or -1: the origin."""
    alone: bool
    seconds: float = 0.0
    """Time that it takes on the node's link, on the wall's clock; 0: as fast as it goes."""


class Shelves:
    """A node's cache and relay buffer, and how they are filled; safe to use from many threads."""

    def __init__(
        self, node: int, edge: EdgeNode, units: Sequence[Sequence[Part]], wire: Wire, teller: Teller
    ) -> None:
        self.node, self.edge, self.units = node, edge, units
        self.desk = Desk(f"node {node}")
        """Where all is done that is done in a store."""
        self._wire, self._teller = wire, teller
        self.unit_of = {part: unit for unit, parts in enumerate(units) for part in parts}
        """Unit of each part."""
        self.urls: dict[int, str] = {}
        """Addresses of the other nodes; the origin is -1."""
        self.slot = -1
        """The slot that this node has begun last; -1: none."""
        self._changed = threading.Condition()
        self._expected: set[tuple[int, bool]] = set()

    def begin(self, slot: int, wishes: Iterable[Wish]) -> None:
        """A slot begins, and this is what will come for the cache."""
        with self._changed:
            self.slot = slot
            self._expected.update((wish.unit, wish.alone) for wish in wishes)
            self._changed.notify_all()

    def expect(self, wishes: Iterable[Wish]) -> None:
        """Note what will come: who asks for it waits."""
        with self._changed:
            self._expected.update((wish.unit, wish.alone) for wish in wishes)

    def expect_nothing(self) -> None:
        """What has not come will not come any more."""
        with self._changed:
            self._expected.clear()
            self._changed.notify_all()

    def has(self, unit: int, *, alone: bool) -> bool:
        """Whether a unit can be given in a form."""
        return all(self.edge.can_read(part, alone=alone) for part in self.units[unit])

    def wait_for(self, units: Sequence[int], *, alone: bool, patience_s: float, slot: int = -1) -> list[int]:
        """Wait for units that are expected, or may be once a slot has begun; those not here in the end."""
        end = time.monotonic() + patience_s
        with self._changed:
            while True:
                missing = [unit for unit in units if not self.has(unit, alone=alone)]
                left = end - time.monotonic()
                may_come = bool(missing) and self.slot < slot
                may_come = may_come or any((unit, alone) in self._expected for unit in missing)
                if not may_come or left <= 0:
                    return missing
                self._changed.wait(min(left, 1.0))

    def give(self, part: Part, alone: bool) -> CodedPart:
        """A part from here; one that turns out to be damaged is dropped.

        Raises:
            BlockMissingError: If it is not here, or not any more.
        """
        return self.desk.do(partial(self._read, part, alone))

    def _read(self, part: Part, alone: bool) -> CodedPart:
        try:
            return self.edge.read(part, alone=alone)
        except IntegrityError as error:
            self._drop_damaged(part, error)
            raise BlockMissingError(part.block_id, f"node {self.node}, where it was damaged") from None

    def end_slot(self) -> int:
        """Drop what was only relayed; bytes in the cache."""
        self.desk.do(self.edge.end_slot)
        return self.desk.do(lambda: self.edge.cache.used_bytes)

    def evict(self, parts: Iterable[Part]) -> None:
        """Drop parts from the cache."""
        self.desk.do(partial(self._evict, tuple(parts)))

    def _evict(self, parts: Sequence[Part]) -> None:
        with self.edge.cache.batch():
            for part in parts:
                self.edge.cache.drop(part)

    def keep_relayed(self, unit: int) -> bool:
        """Cache what was sent here to serve the slot before, if it is in the form that caches hold."""
        return self.desk.do(partial(self._keep_relayed, self.units[unit]))

    def _keep_relayed(self, parts: Sequence[Part]) -> bool:
        if not all(self.edge.relays(part, alone=False) for part in parts):
            return False
        try:
            coded = [self.edge.relay.read(part) for part in parts]
        except BlockMissingError:
            return False
        with self.edge.cache.batch():
            for one in coded:
                self.edge.cache.write(one)
        return True

    def close(self) -> None:
        """Close the stores."""
        self.desk.close(self.edge.close)

    def fetch(self, wish: Wish, cause: str, *, cached: bool = False) -> bool:
        """Get a unit from where it is said to be, else from anybody, and file it; whether it came."""
        slot = self.slot if cached else -1
        put = partial(self._put, wish=wish, cached=cached)
        return self._in_turn(wish, cause, put, slot=slot) is not None

    def bring(self, wish: Wish, cause: str, offered: Offer | None) -> Sequence[CodedPart] | None:
        """Get a unit the same way, as it was offered, and leave it to `keep`; None if it did not come."""
        return self._in_turn(wish, cause, lambda coded: None, offered, still_expected=True)

    def keep(self, wish: Wish, coded: Sequence[CodedPart]) -> None:
        """File what `bring` brought; what does not decode is fetched again."""
        try:
            self._put(coded, wish, cached=False)
        except PBStoreError as error:
            self._reject(wish.unit, f"from {wish.source}: {error}")
            self.fetch(wish, "repair")
        self._came(wish)

    def _in_turn(
        self,
        wish: Wish,
        cause: str,
        put: Callable[[Sequence[CodedPart]], None],
        offered: Offer | None = None,
        *,
        still_expected: bool = False,
        slot: int = -1,
    ) -> Sequence[CodedPart] | None:
        """Try one source after another; what came."""
        others = [node for node in self.urls if node not in (wish.source, self.node, ORIGIN)]
        coded = None
        for number, source in enumerate([wish.source, *others, ORIGIN]):
            if source in self.urls:
                why, ready = (cause, offered) if number == 0 else ("repair", None)
                coded = self._try(wish, source, why, put, ready, slot)
                if coded is not None:
                    break
        if coded is None or not still_expected:
            self._came(wish)
        return coded

    def _came(self, wish: Wish) -> None:
        with self._changed:
            self._expected.discard((wish.unit, wish.alone))
            self._changed.notify_all()

    def offer(self, wish: Wish) -> Offer | None:
        """Have the source of a wish make it ready, before it is its turn; None if it does not."""
        try:
            return self._offer(wish, wish.source, -1) if wish.source in self.urls else None
        except (NotReachedError, PBStoreError) as error:
            log.info("%s", error)
            return None

    def _offer(self, wish: Wish, source: int, slot: int) -> Offer:
        asked = Asked(alone=wish.alone, patience_s=FETCH_S + wish.seconds, slot=slot)
        return ask_offer(self._wire, self.urls[source], self.units[wish.unit], asked)

    def _try(
        self,
        wish: Wish,
        source: int,
        cause: str,
        put: Callable[[Sequence[CodedPart]], None],
        offered: Offer | None,
        slot: int,
    ) -> Sequence[CodedPart] | None:
        began, parts = self._teller.now_s(), self.units[wish.unit]
        try:
            if offered is None:
                offered = self._offer(wish, source, slot)
            coded = fetch_parts(self._wire, self.urls[source], parts, offered)
            put(coded)
        except (NotReachedError, PBStoreError) as error:
            if isinstance(error, BlockCorruptError):
                self._reject(wish.unit, f"from {source}: {error}")
            self._told(wish, source, cause, 0, began, str(error)[:200])
            return None
        size = sum(len(one.payload) for one in coded)
        time.sleep(max(0.0, began + wish.seconds - self._teller.now_s()))
        self._told(wish, source, cause, size, began, "")
        return coded

    def _put(self, coded: Sequence[CodedPart], wish: Wish, *, cached: bool) -> None:
        self.desk.do(partial(self._file, coded, wish, cached))

    def _file(self, coded: Sequence[CodedPart], wish: Wish, cached: bool) -> None:
        shelf = self.edge.cache if cached else self.edge.relay
        with self._changed, shelf.batch():  # nobody sees what is not committed yet
            for one in coded:
                if cached:
                    self.edge.cache.write(one)
                else:
                    self.edge.take(one, alone=wish.alone)

    def _told(self, wish: Wish, source: int, cause: str, size: int, began: float, why_not: str) -> None:
        self._teller.tell(
            Transferred(
                slot=self.slot,
                unit=wish.unit,
                form="alone" if wish.alone else "kept",
                source=source,
                target=self.node,
                cause=cause,
                payload_bytes=size,
                started_s=began,
                ended_s=self._teller.now_s(),
                why_not=why_not,
            )
        )

    def _drop_damaged(self, part: Part, error: PBStoreError) -> None:
        """Drop what cannot be read of a part, and of all that its form on its own is made of."""
        edge, damaged = self.edge, [part]
        if edge.cache.has(part):
            needs = {part.block_id, *edge.cache.info(part).needs}
            damaged = [one for one in edge.cache.parts() if one.block_id in needs]
        for shelf in (edge.cache, edge.relay):
            for one in damaged:
                shelf.drop_if_damaged(one)
        self._reject(self.unit_of.get(part, -1), str(error))

    def _reject(self, unit: int, why: str) -> None:
        self._teller.tell(Rejected(slot=self.slot, place=f"node {self.node}", unit=unit, why=why[:200]))


class Link:
    """A node's incoming link: what the plan gives it comes one after another, in a thread of its own.

    The source makes the next ready, and what has come is filed, while one comes: neither holds up the wire.
    """

    def __init__(self, shelves: Shelves, done: Callable[[], None]) -> None:
        self._shelves, self._done = shelves, done
        self._thread: threading.Thread | None = None

    def start(self, wishes: Sequence[Wish]) -> None:
        """Begin to fetch, in order."""
        self.join()
        self._shelves.expect(wishes)
        self._thread = threading.Thread(target=self._work, args=(tuple(wishes),), daemon=True, name="link")
        self._thread.start()

    def join(self) -> None:
        """Wait until all has come or failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self, wishes: Sequence[Wish]) -> None:
        try:
            with ThreadPoolExecutor(1, "filing") as filing, ThreadPoolExecutor(1, "asking") as asking:
                filed, offers = None, [asking.submit(self._shelves.offer, wish) for wish in wishes[:1]]
                for number, wish in enumerate(wishes):
                    offered = offers.pop().result()
                    offers = [
                        asking.submit(self._shelves.offer, one) for one in wishes[number + 1 : number + 2]
                    ]
                    coded = self._shelves.bring(wish, "serve", offered)
                    if filed is not None:
                        filed.result()
                    filed = None if coded is None else filing.submit(self._shelves.keep, wish, coded)
        except DeskClosedError as error:
            log.info("%s", error)
        except Exception:
            log.exception("node %d: its link stops", self._shelves.node)
        finally:
            self._shelves.expect_nothing()
            self._done()
