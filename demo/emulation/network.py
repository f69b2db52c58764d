"""Cloud, edge nodes and devices: moves real bytes as a plan says and counts them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from demo.emulation.device import Device
from demo.emulation.node import EdgeNode
from demo.emulation.wire.air import AirObject
from demo.parts import CodedPart, Part, alone_form, cut
from pbstore import BlockCorruptError, BlockId, BlockMissingError, DiskBlockStore, StoredBlock


@dataclass(slots=True)
class Traffic:
    """Bytes moved."""

    cloud_bytes: int = 0
    """From the cloud to nodes, for requests."""
    migrated_bytes: int = 0
    """From node to node, for requests."""
    cache_update_bytes: int = 0
    """To nodes from the cloud or other nodes, for a new placement."""
    broadcast_bytes: int = 0
    """On the air, each broadcast once however many devices hear it."""

    def snapshot(self) -> "Traffic":
        """The counts now."""
        return replace(self)

    def since(self, before: "Traffic") -> "Traffic":
        """What was moved after a snapshot."""
        return Traffic(
            **{name: count - getattr(before, name) for name, count in asdict(self).items()},
        )


@dataclass(frozen=True, slots=True)
class Copy:
    """A part that came to a node for its cache."""

    part: Part
    source: int | None
    """Node, or None: the cloud."""
    payload_bytes: int


class Network:
    """The emulated network; `None` as a node stands for the cloud."""

    def __init__(
        self, cloud: DiskBlockStore, folder: Path, capacities_bytes: Sequence[int], num_users: int
    ) -> None:
        """Make empty nodes and devices below a folder.

        Args:
            cloud: Store that holds every model.
            folder: Where the stores of nodes and devices are made, anew.
            capacities_bytes: Cache of each node, payload bytes.
            num_users: Number of devices.
        """
        self.cloud = cloud
        self.nodes = [EdgeNode(folder / f"node{n}", size) for n, size in enumerate(capacities_bytes)]
        self.devices = [Device(folder / f"device{k}") for k in range(num_users)]
        self.traffic = Traffic()
        self._last: tuple[tuple[BlockId, bool], StoredBlock] | None = None

    @contextmanager
    def one_commit(self) -> Iterator[None]:
        """What every store writes inside the context is one commit, at its end."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node.cache.batch())
                stack.enter_context(node.relay.batch())
            for device in self.devices:
                stack.enter_context(device.store.disk.writing())
            yield

    def place(self, node: int, wanted: frozenset[Part]) -> list[Copy]:
        """Make a node's cache hold exactly these parts: evict first, then fetch what is new.

        What the node was sent to serve the slot before, in the form that caches hold, need not travel again.

        Returns:
            What travelled, in order.

        Raises:
            CapacityError: If they do not fit.
        """
        cache, relay = self.nodes[node].cache, self.nodes[node].relay
        for part in cache.parts() - wanted:
            cache.drop(part)
        copies = []
        for part in sorted(wanted - cache.parts()):
            source, coded = self._nearest(part)
            cache.write(coded)
            if not (relay.has(part) and relay.read(part) == coded):
                copies.append(Copy(part, source, len(coded.payload)))
        self.traffic.cache_update_bytes += sum(copy.payload_bytes for copy in copies)
        return copies

    def transfer(self, parts: Iterable[Part], source: int | None, target: int, *, alone: bool = False) -> int:
        """Copy parts to a node's relay buffer, from the cloud (`source` None) or from another node.

        Args:
            parts: Which.
            source: Node, or None for the cloud.
            target: Node.
            alone: In the form that needs no other block, not in the one in which the cloud keeps them.

        Returns:
            Bytes that travelled.

        Raises:
            BlockMissingError: If the source does not hold one.
        """
        moved_bytes = 0
        for part in parts:
            coded = self._read(part, source, alone=alone)
            self.nodes[target].take(coded, alone=alone)
            moved_bytes += len(coded.payload)
        if source is None:
            self.traffic.cloud_bytes += moved_bytes
        else:
            self.traffic.migrated_bytes += moved_bytes
        return moved_bytes

    def broadcast(
        self, parts: Sequence[Part], holders: Iterable[int], users: Iterable[int], *, alone: bool = False
    ) -> AirObject:
        """Send parts jointly from their holders to all these users; `alone` as in `transfer`.

        Returns:
            What was on the air.

        Raises:
            BlockMissingError: If a holder does not hold one: CoMP needs it at every one that transmits.
            BlockCorruptError: If two holders would send different bytes.
        """
        senders, receivers = list(holders), [self.devices[user] for user in users]
        sent = []
        for part in parts:
            coded = self._agreed(part, senders, alone=alone)
            sent.append(coded)
            for device in receivers:
                device.receive(coded)
        content = AirObject(parts=tuple(sent))
        self.traffic.broadcast_bytes += content.payload_bytes
        return content

    def end_slot(self) -> None:
        """Empty every relay buffer."""
        for node in self.nodes:
            node.end_slot()

    def _agreed(self, part: Part, senders: Sequence[int], *, alone: bool) -> CodedPart:
        copies = [self._read(part, node, alone=alone) for node in senders]
        if not copies:
            raise BlockMissingError(part.block_id, "a broadcast without a holder")
        if any(copy != copies[0] for copy in copies):
            raise BlockCorruptError(part.block_id, "its holders do not agree on its bytes")
        return copies[0]

    def _read(self, part: Part, node: int | None, *, alone: bool) -> CodedPart:
        if node is not None:
            return self.nodes[node].read(part, alone=alone)
        key = (part.block_id, alone)
        if self._last is None or self._last[0] != key:  # the ranges of a block follow one another
            coded = (alone_form if alone else DiskBlockStore.export_block)(self.cloud, part.block_id)
            self._last = (key, coded)
        return cut(self._last[1], part)

    def _nearest(self, part: Part) -> tuple[int | None, CodedPart]:
        for number, node in enumerate(self.nodes):
            if node.cache.has(part):
                return number, node.cache.read(part)
        return None, self._read(part, None, alone=False)
