"""Replays the plan of a simulated slot with real bytes, and checks that it moves what the plan said."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from demo.emulation.network import Network, Traffic
from pbstore import BlockId
from policy.interfaces import Bool
from policy.slot.dynamics import SlotOutcome


class EmulationError(Exception):
    """Real stores did not do what the plan said."""

    exit_code: ClassVar[int] = 3


def replay_slot(
    network: Network,
    units: Sequence[Sequence[BlockId]],
    placement: Bool,
    outcome: SlotOutcome,
    kept: Bool | None,
) -> None:
    """Bring every cache and device to the state before the slot, then move what the plan moves.

    Args:
        network: Nodes and devices as the previous slot left them.
        units: Stored blocks of each column of the catalog.
        placement: Which node caches which unit, (nodes, units).
        outcome: The simulated slot: its transfers and broadcasts.
        kept: What each device still has, (users, units); None when devices keep nothing.

    Raises:
        EmulationError: If bytes from the cloud, between nodes, into caches or on the air differ.
    """
    before = network.traffic.snapshot()
    nothing = np.zeros(placement.shape[1], dtype=bool)
    network.end_slot()
    with network.one_commit():
        for user, device in enumerate(network.devices):
            device.keep(_blocks(units, nothing if kept is None else kept[user]))
        for node, held in enumerate(placement):
            network.place(node, _blocks(units, held))
    with network.one_commit():
        for move in sorted(outcome.transfers, key=lambda move: move.end_s):
            network.transfer(units[move.block], None if move.source < 0 else move.source, move.target)
        for cast in outcome.broadcasts:
            network.broadcast(units[cast.block], cast.holders, cast.users)
    moved = network.traffic.since(before)
    planned = Traffic(
        cloud_bytes=outcome.cloud_bytes,
        migrated_bytes=outcome.migrated_bytes,
        cache_update_bytes=outcome.cache_update_bytes,
        broadcast_bytes=outcome.sent_bytes,
    )
    if moved != planned:
        raise EmulationError(f"slot {outcome.slot} moved {moved}, the plan said {planned}")


def _blocks(units: Sequence[Sequence[BlockId]], chosen: Bool) -> frozenset[BlockId]:
    return frozenset(block_id for unit in np.flatnonzero(chosen).tolist() for block_id in units[unit])
