"""What it costs to change the caches between two slots, and how much of a change the links can bring.

With additive timing updates are charged by weight (`ScenarioConfig.update_weight`) and need no link. In every
other world they ride on what the slot before has left idle of each node's incoming link; what does not fit is
not brought, so requests are never delayed by it.
"""

from dataclasses import dataclass, field

import numpy as np

from policy.config import LinkConfig
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CacheUpdate:
    """Transfers that turn one placement into the next."""

    backhaul_bytes: int
    """Bytes copied from node to node."""
    cloud_bytes: int
    """Bytes fetched from the cloud: blocks that no node held before."""
    seconds: float
    """Time of all these transfers one after another, s."""
    backhaul_s: Float = field(default_factory=lambda: np.zeros(0))
    """Time of each node's incoming link for copies from nodes, (nodes,), s; empty where nobody counts it."""
    cloud_s: Float = field(default_factory=lambda: np.zeros(0))
    """The same for copies from the cloud."""
    cut_bytes: int = 0
    """Bytes of copies that were wanted and that the links or the budget could not bring."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpdateRoom:
    """What may be brought into the caches before a slot."""

    at_hand: Bool
    """Copies that nodes have already: cached, or fetched to serve the slot before, (nodes, blocks)."""
    idle_s: Float
    """Time that each node's incoming link has left, (nodes,), s; inf where updates need no link."""
    budget_bytes: float
    """Most bytes a node may add to its cache."""

    @property
    def unlimited(self) -> bool:
        """Whether whatever is wanted can be brought."""
        return bool(np.isinf(self.idle_s).all() and np.isinf(self.budget_bytes))


def update_seconds(before: Int, after: Int, sizes_bytes: Int, links: LinkConfig) -> Float:
    """Transfer time of each block when its set of holders changes (sets as integers).

    A first copy comes from the cloud, all others from a node.

    Returns:
        Seconds, in the common shape of `before`, `after` and `sizes_bytes`.
    """
    added = after & ~before
    fresh = (before == 0) & (added != 0)
    copies = np.bitwise_count(added.astype(np.uint64)).astype(np.float64) - fresh
    bits = 8.0 * np.asarray(sizes_bytes, dtype=np.float64)
    return np.asarray(copies * bits / links.backhaul_bit_s + fresh * bits / links.cloud_bit_s)


def cache_update(before: Bool, after: Bool, sizes_bytes: Int, links: LinkConfig) -> CacheUpdate:
    """Bytes and seconds to go from one placement to the next, both (nodes, blocks); any number of nodes.

    Where several nodes add a block that nobody held, the first of them takes it from the cloud.
    """
    added = after & ~before
    fresh = added.any(axis=0) & ~before.any(axis=0)
    from_cloud = added & fresh & (np.arange(added.shape[0])[:, None] == added.argmax(axis=0))
    bits = 8.0 * np.asarray(sizes_bytes, dtype=np.float64)
    cloud = int(sizes_bytes[fresh].sum())
    backhaul = int(((added.sum(axis=0) - fresh) * sizes_bytes).sum())
    return CacheUpdate(
        backhaul_bytes=backhaul,
        cloud_bytes=cloud,
        seconds=8.0 * cloud / links.cloud_bit_s + 8.0 * backhaul / links.backhaul_bit_s,
        backhaul_s=(added & ~from_cloud) @ bits / links.backhaul_bit_s,
        cloud_s=from_cloud @ bits / links.cloud_bit_s,
    )


def check_placement(placement: Bool, before: Bool, sizes_bytes: Int, capacity_bytes: Float) -> None:
    """Refuse a placement that does not fit.

    Raises:
        PlacementError: If it has another shape, or a node would hold more than its capacity.
    """
    if placement.shape != before.shape or placement.dtype != np.bool_:
        raise PlacementError(f"a placement is bool {before.shape}, got {placement.dtype} {placement.shape}")
    held = placement @ sizes_bytes
    for node in np.flatnonzero(held > capacity_bytes):
        raise PlacementError(f"node {node} would hold {held[node]} bytes of {capacity_bytes[node]:.0f}")


def bring(
    before: Bool,
    wanted: Bool,
    value: Float,
    room: UpdateRoom,
    sizes_bytes: Int,
    capacity_bytes: Float,
    links: LinkConfig,
) -> tuple[Bool, CacheUpdate]:
    """Change the caches as far as links and budget allow; the same rule for every scheme.

    Wanted copies that are at hand stay and cost nothing. The others come one after another, most valued first
    (ties: lowest block, then lowest node), each if the node's idle link time and budget still hold all of it;
    the first copy of a block comes from the cloud, others from a node, also from one that has just got it (a
    copy is passed on while it arrives). A node that did not get all it wanted keeps of its old blocks, most
    valued first, what still has room.

    Args:
        before: Caches now, (nodes, blocks).
        wanted: What the scheme wants, (nodes, blocks), within capacity.
        value: What each copy is worth to the scheme, (nodes, blocks).
        room: What may be brought.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        links: Backhaul and cloud.

    Returns:
        The caches for the coming slot, and what it took to get there.
    """
    if room.unlimited:
        return wanted, cache_update(room.at_hand, wanted, sizes_bytes, links)
    work = _Bringing(room, sizes_bytes, links)
    holds, missing = wanted & room.at_hand, wanted & ~room.at_hand
    node, block = np.nonzero(missing)
    turn = np.lexsort((node, block, -value[node, block]))
    left = list(zip(node[turn].tolist(), block[turn].tolist(), strict=True))
    going = bool(left)
    while going:  # again, while a copy that the cloud was too slow for may now be had from a node
        late = [(n, b) for n, b in left if not work.take(n, b)]
        going = len(late) < len(left) and work.opened(late)
        left = late
    for n, b in work.taken:
        holds[n, b] = True
    for n in sorted({n for n, _ in left}):
        _keep_old(holds[n], before[n], value[n], sizes_bytes, float(capacity_bytes[n]))
    return holds, work.update(sum(int(sizes_bytes[b]) for _, b in left))


class _Bringing:
    """Link time and budget as they are used up."""

    def __init__(self, room: UpdateRoom, sizes_bytes: Int, links: LinkConfig) -> None:
        nodes = room.idle_s.size
        self._size: list[int] = sizes_bytes.tolist()
        self._idle, self._budget = room.idle_s.tolist(), [room.budget_bytes] * nodes
        there: Bool = np.asarray(room.at_hand.any(axis=0))
        self._there: list[bool] = there.tolist()
        self._links, self._first = links, set[int]()
        self.taken: list[tuple[int, int]] = []
        self._bytes = {"backhaul": 0, "cloud": 0}
        self._spent = {"backhaul": [0.0] * nodes, "cloud": [0.0] * nodes}

    def take(self, node: int, block: int) -> bool:
        """Bring one copy, if the node's link time and budget hold all of it."""
        size, there = self._size[block], self._there[block]
        rate = self._links.backhaul_bit_s if there else self._links.cloud_bit_s
        seconds = 8.0 * size / rate
        if seconds > self._idle[node] or size > self._budget[node]:
            return False
        self._idle[node] -= seconds
        self._budget[node] -= size
        kind = "backhaul" if there else "cloud"
        self._bytes[kind] += size
        self._spent[kind][node] += seconds
        if not there:
            self._there[block] = True
            self._first.add(block)
        self.taken.append((node, block))
        return True

    def opened(self, late: list[tuple[int, int]]) -> bool:
        """Whether some copy that came too late may be had from a node by now."""
        return any(block in self._first for _, block in late)

    def update(self, cut_bytes: int) -> CacheUpdate:
        """What was brought."""
        backhaul, cloud = (np.array(self._spent[kind]) for kind in ("backhaul", "cloud"))
        return CacheUpdate(
            backhaul_bytes=self._bytes["backhaul"],
            cloud_bytes=self._bytes["cloud"],
            seconds=float(backhaul.sum() + cloud.sum()),
            backhaul_s=backhaul,
            cloud_s=cloud,
            cut_bytes=cut_bytes,
        )


def _keep_old(holds: Bool, before: Bool, value: Float, sizes_bytes: Int, capacity_bytes: float) -> None:
    """Let one node keep, in place, old blocks that nobody asked it to drop room for."""
    old = np.flatnonzero(before & ~holds)
    free = capacity_bytes - float(holds @ sizes_bytes)
    for block in old[np.argsort(-value[old], kind="stable")]:
        if sizes_bytes[block] <= free:
            holds[block] = True
            free -= float(sizes_bytes[block])
