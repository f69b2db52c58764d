"""Replays the plan of a simulated slot with real bytes, and checks that it moves what the plan said."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from demo.emulation.network import Network, Traffic
from demo.parts import Part
from policy.interfaces import Bool
from policy.slot.dynamics import SlotOutcome


class EmulationError(Exception):
    """Real stores did not do what the plan said."""

    exit_code: ClassVar[int] = 3


def replay_slot(
    network: Network,
    units: Sequence[Sequence[Part]],
    placement: Bool,
    outcome: SlotOutcome,
    kept: Bool | None,
) -> None:
    """Bring every cache and device to the state before the slot, then move what the plan moves.

    Args:
        network: Nodes and devices as the previous slot left them.
        units: Blocks, or the range of one, of each column of the catalog.
        placement: Which node caches which unit, (nodes, units).
        outcome: The simulated slot: its transfers, its broadcasts and the forms of what they carry.
        kept: What each device still has, (users, units); None when devices keep nothing.

    Raises:
        EmulationError: If bytes from the cloud, between nodes, into caches or on the air differ.
    """
    before = network.traffic.snapshot()
    nothing = np.zeros(placement.shape[1], dtype=bool)
    by_itself = (nothing if outcome.alone is None else outcome.alone).tolist()
    with network.one_commit():
        for user, device in enumerate(network.devices):
            device.keep(_parts(units, nothing if kept is None else kept[user]))
        for node, held in enumerate(placement):
            network.place(node, _parts(units, held))
    network.end_slot()
    with network.one_commit():
        for move in sorted(outcome.transfers, key=lambda move: move.end_s):
            source = None if move.source < 0 else move.source
            network.transfer(units[move.block], source, move.target, alone=by_itself[move.block])
        for cast in outcome.broadcasts:
            network.broadcast(units[cast.block], cast.holders, cast.users, alone=by_itself[cast.block])
    moved = network.traffic.since(before)
    planned = Traffic(
        cloud_bytes=outcome.cloud_bytes,
        migrated_bytes=outcome.migrated_bytes,
        cache_update_bytes=outcome.cache_update_bytes,
        broadcast_bytes=outcome.sent_bytes,
    )
    if moved != planned:
        raise EmulationError(f"slot {outcome.slot} moved {moved}, the plan said {planned}")


def _parts(units: Sequence[Sequence[Part]], chosen: Bool) -> frozenset[Part]:
    return frozenset(part for unit in np.flatnonzero(chosen).tolist() for part in units[unit])
