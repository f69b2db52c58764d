"""One slot, served: from who asks and who caches to transfers, broadcasts and delays. Pure functions."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from policy.config import LinkConfig, Timing
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int, checked_rates
from policy.slot.backlog import SlotLoad
from policy.slot.order import best_order
from policy.slot.problem import SlotProblem
from policy.slot.queue import Job, Send, plan_of
from policy.slot.tables import ServiceRules
from policy.slot.timeline import Broadcast, Timeline, Transfer, busy_s, run
from policy.slot.updates import CacheUpdate

NO_UPDATE = CacheUpdate(backhaul_bytes=0, cloud_bytes=0, seconds=0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotOutcome:
    """What happened in one slot. Per-user and per-block arrays are read-only."""

    slot: int
    """Slot of the trace."""
    asked: Bool
    """Users who asked for a model, (users,)."""
    user_delay_s: Float
    """Request to last missing block, 0 for users who did not ask or miss nothing, (users,), s."""
    edge_hit: Bool
    """Users who asked and whose missing blocks were all cached at some node, (users,)."""
    block_delay_s: Float
    """Transfer plus air time of each block, one after another, (blocks,), s; 0 when nobody misses it."""
    airtime_s: float
    """Time the band was busy, s."""
    migrated_bytes: int
    """Bytes copied from node to node to serve requests."""
    cloud_bytes: int
    """Bytes fetched from the cloud to serve requests."""
    sent_bytes: int
    """Bytes broadcast."""
    update: CacheUpdate = field(default=NO_UPDATE)
    """Cache update before the slot."""
    alone: Bool | None = None
    """Blocks that were sent in a form that needs no other block, (blocks,); None: none."""
    load: SlotLoad = field(default_factory=SlotLoad)
    """How busy band and links were, and what they left undone."""
    transfers: tuple[Transfer, ...]
    """Copies made to serve requests, in order."""
    broadcasts: tuple[Broadcast, ...]
    """Broadcasts, in order."""

    @property
    def mean_delay_s(self) -> float:
        """Mean delay of the users who asked, s; 0 when nobody did."""
        return float(self.user_delay_s[self.asked].mean()) if self.asked.any() else 0.0

    @property
    def total_delay_s(self) -> float:
        """Sum of all blocks' delays, s."""
        return float(self.block_delay_s.sum())

    @property
    def hit_ratio(self) -> float:
        """Share of requests served without the cloud; 1 when nobody asked."""
        return float(self.edge_hit.sum() / self.asked.sum()) if self.asked.any() else 1.0

    @property
    def cache_update_bytes(self) -> int:
        """Bytes moved to change the caches before this slot."""
        return self.update.backhaul_bytes + self.update.cloud_bytes


def serve_slot(
    problem: SlotProblem, holders: Bool, *, order: Int | None = None, air_s: Float | None = None
) -> SlotOutcome:
    """Serve one slot of requests with a given migration.

    Args:
        problem: The slot.
        holders: Nodes that hold each block when it is sent, (nodes, blocks): the caching ones plus migration
            targets.
        order: Blocks in sending order; None: the order of `best_order`.
        air_s: Time on the air of each block from its holders, (blocks,), s, where it is known already; the
            delay model is then not asked. Only with CoMP and shared air.

    Returns:
        The outcome, with every transfer and broadcast.

    Raises:
        PlacementError: If holders lose a cached copy, or a missed block has no holder.
    """
    wanted, links, timing = problem.wanted, problem.links, problem.timing
    if (problem.cached & ~holders)[:, wanted].any() or not holders[:, wanted].any(axis=0).all():
        raise PlacementError("holders must contain the caching nodes, and every missed block needs a holder")
    if air_s is None:
        sends = _sends(problem, holders, wanted)
    else:
        sends = _known_sends(air_s, problem.needs, holders, wanted)
    jobs = _jobs(problem, holders, sends, wanted)
    fetch, air = np.zeros(problem.num_blocks), np.zeros(problem.num_blocks)
    for block, job in jobs.items():
        fetch[block], air[block] = _fetch_s(job, links), sum(send.seconds for send in job.sends)
    turn = _order(problem.needs, fetch, air, timing) if order is None else order
    if order is not None and sorted(order.tolist()) != wanted.tolist():
        raise ValueError("order must list every missed block exactly once")
    free = problem.links_free.tolist()
    plan = plan_of([jobs[int(b)] for b in turn], links, free)
    line = run(plan, free, problem.band_free_s, timing)
    return outcome_of(problem, line, fetch + air)


def outcome_of(problem: SlotProblem, line: Timeline, block_delay_s: Float) -> SlotOutcome:
    """Read delays and bytes off a finished timeline; `block_delay_s` is (blocks,)."""
    user_delay = [0.0] * problem.asked.size
    for cast in line.broadcasts:
        for user in cast.users:
            user_delay[user] = max(user_delay[user], cast.end_s)
    missing = problem.needs & ~problem.cached.any(axis=0)
    wire = problem.sizes_bytes if problem.wire_bytes is None else problem.wire_bytes
    air = problem.sizes_bytes if problem.air_bytes is None else problem.air_bytes
    return SlotOutcome(
        slot=problem.slot,
        asked=problem.asked,
        user_delay_s=np.array(user_delay),
        edge_hit=problem.asked & ~missing.any(axis=1),
        block_delay_s=block_delay_s,
        airtime_s=busy_s(line.broadcasts),
        migrated_bytes=sum(int(wire[t.block]) for t in line.transfers if t.source >= 0),
        cloud_bytes=sum(int(wire[t.block]) for t in line.transfers if t.source < 0),
        sent_bytes=sum(int(air[cast.block]) for cast in line.broadcasts),
        transfers=line.transfers,
        broadcasts=line.broadcasts,
    )


def _order(needs: Bool, fetch_s: Float, air_s: Float, timing: Timing) -> Int:
    """Sending order for a timing: what keeps the band waiting counts, what overlaps only breaks ties."""
    if timing == "additive":
        return best_order(needs, fetch_s + air_s)
    return best_order(needs, air_s, fetch_s if timing == "pipelined" else None)


def _fetch_s(job: Job, links: LinkConfig) -> float:
    """Time of all copies of one block one after another: from the cloud, then over the backhaul."""
    copies = len(job.holders) - max(len(job.cached), 1)
    cloud = 0.0 if job.cached else job.size_bits / links.cloud_bit_s
    return cloud + copies * job.size_bits / links.backhaul_bit_s


def _known_sends(air_s: Float, needs: Bool, holders: Bool, wanted: Int) -> dict[int, list[Send]]:
    """One broadcast a block, of known length."""
    seconds = air_s[wanted].tolist()
    parts = zip(wanted.tolist(), _members(holders, wanted), _members(needs, wanted), seconds, strict=True)
    return {block: [Send(holders=nodes, users=users, seconds=air)] for block, nodes, users, air in parts}


def _jobs(problem: SlotProblem, holders: Bool, sends: dict[int, list[Send]], wanted: Int) -> dict[int, Job]:
    """All that has to happen for each missed block."""
    had, have = _members(problem.cached, wanted), _members(holders, wanted)
    parts = zip(wanted.tolist(), problem.wire_bits(wanted).tolist(), had, have, strict=True)
    return {
        block: Job(block=block, size_bits=size, cached=cached, holders=nodes, sends=tuple(sends[block]))
        for block, size, cached, nodes in parts
    }


def _members(table: Bool, columns: Int) -> list[tuple[int, ...]]:
    """Row numbers that are set in each of some columns."""
    column, row = np.nonzero(table[:, columns].T)
    ends = np.searchsorted(column, np.arange(columns.size + 1)).tolist()
    rows = row.tolist()
    return [tuple(rows[a:b]) for a, b in pairwise(ends)]


def _sends(problem: SlotProblem, holders: Bool, wanted: Int) -> dict[int, list[Send]]:
    """Who sends each block to whom and for how long, under the rules; all rates in one batch."""
    block, sender, user = _candidates(problem.needs, holders, wanted, problem.rules)
    rates = checked_rates(problem.delay, problem.slot, sender, user)
    air_bits = problem.air_bits(np.arange(problem.num_blocks))
    sends: dict[int, list[Send]] = {int(b): [] for b in wanted}
    best: dict[tuple[int, bytes], int] = {}
    for row, b in enumerate(block.tolist()):  # of the candidates for the same block and users, the fastest
        key = (b, user[row].tobytes())
        if key not in best or rates[row] > rates[best[key]]:
            best[key] = row
    for (b, _), row in best.items():
        if rates[row] <= 0:
            raise PlacementError(f"nobody can send block {b} to users {np.flatnonzero(user[row]).tolist()}")
        sends[b].append(
            Send(
                holders=tuple(np.flatnonzero(sender[row]).tolist()),
                users=tuple(np.flatnonzero(user[row]).tolist()),
                seconds=float(air_bits[b] / rates[row]),
            )
        )
    return sends


def _candidates(needs: Bool, holders: Bool, wanted: Int, rules: ServiceRules) -> tuple[Int, Bool, Bool]:
    """Possible broadcasts: block (rows,), senders (rows, nodes), users (rows, users)."""
    nodes, users = holders.shape[0], needs.shape[0]
    blocks, senders, receivers = [], [], []
    one_node, one_user = np.eye(nodes, dtype=bool), np.eye(users, dtype=bool)
    for block in wanted.tolist():
        groups = one_user[needs[:, block]] if not rules.share_air else needs[None, :, block]
        sets = one_node[holders[:, block]] if not rules.comp else holders[None, :, block]
        for group in groups:
            blocks += [block] * len(sets)
            senders.append(sets)
            receivers.append(np.tile(group, (len(sets), 1)))
    if not blocks:
        return np.zeros(0, dtype=np.int64), np.zeros((0, nodes), dtype=bool), np.zeros((0, users), dtype=bool)
    return np.array(blocks, dtype=np.int64), np.concatenate(senders), np.concatenate(receivers)
