"""Cloud, edge nodes and devices: moves real bytes as a plan says and counts them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from demo.emulation.device import Device
from demo.emulation.node import EdgeNode
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

    def place(self, node: int, wanted: frozenset[BlockId]) -> None:
        """Make a node's cache hold exactly these blocks: evict first, then fetch what is new.

        Raises:
            CapacityError: If they do not fit.
        """
        cache = self.nodes[node].cache
        for block_id in cache.block_ids() - wanted:
            cache.drop(block_id)
        for block_id in sorted(wanted - cache.block_ids()):
            coded = self._nearest(block_id)
            cache.write(coded)
            self.traffic.cache_update_bytes += coded.stored_bytes

    def transfer(self, blocks: Iterable[BlockId], source: int | None, target: int) -> None:
        """Copy blocks to a node's relay buffer, from the cloud (`source` None) or from another node.

        Raises:
            BlockMissingError: If the source does not hold one.
        """
        for block_id in blocks:
            coded = self._read(block_id, source)
            self.nodes[target].relay.write(coded)
            if source is None:
                self.traffic.cloud_bytes += coded.stored_bytes
            else:
                self.traffic.migrated_bytes += coded.stored_bytes

    def broadcast(self, blocks: Sequence[BlockId], holders: Iterable[int], users: Iterable[int]) -> int:
        """Send blocks jointly from their holders to all these users.

        Returns:
            Bytes on the air.

        Raises:
            BlockMissingError: If a holder does not hold one: CoMP needs it at every one that transmits.
            BlockCorruptError: If two holders would send different bytes.
        """
        senders, receivers = list(holders), [self.devices[user] for user in users]
        sent_bytes = 0
        for block_id in blocks:
            coded = self._agreed(block_id, senders)
            sent_bytes += coded.stored_bytes
            for device in receivers:
                device.receive(coded)
        self.traffic.broadcast_bytes += sent_bytes
        return sent_bytes

    def end_slot(self) -> None:
        """Empty every relay buffer."""
        for node in self.nodes:
            node.end_slot()

    def _agreed(self, block_id: BlockId, senders: Sequence[int]) -> StoredBlock:
        copies = [self._read(block_id, node) for node in senders]
        if not copies:
            raise BlockMissingError(block_id, "a broadcast without a holder")
        if any(copy != copies[0] for copy in copies):
            raise BlockCorruptError(block_id, "its holders do not agree on its bytes")
        return copies[0]

    def _read(self, block_id: BlockId, node: int | None) -> StoredBlock:
        return self.cloud.export_block(block_id) if node is None else self.nodes[node].read(block_id)

    def _nearest(self, block_id: BlockId) -> StoredBlock:
        for node in self.nodes:
            if node.cache.has(block_id):
                return node.cache.read(block_id)
        return self._read(block_id, None)
