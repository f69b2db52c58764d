"""Replays the plan of a simulated slot with real bytes, and checks that it moves what the plan said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from demo.bridge.store_catalog import StoreCatalog
from demo.emulation.network import Network, Traffic
from demo.emulation.roles.casts import CastPlan, casts_of
from demo.emulation.wire.air import AirObject
from demo.parts import Part
from policy.interfaces import Bool
from policy.slot.dynamics import SlotOutcome
from policy.slot.timeline import Transfer


class EmulationError(Exception):
    """Real stores did not do what the plan said."""

    exit_code: ClassVar[int] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A unit, or what was missing of it, that came to a node's cache."""

    unit: int
    source: int
    """Node, or -1: the cloud."""
    target: int
    payload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Units that were broadcast in one go."""

    plan: CastPlan
    payload_bytes: int
    blake3: str
    """Of the object that they make, as a live edge would put it on the air."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """All that was moved in a slot, in order."""

    updates: tuple[Update, ...]
    transfers: tuple[tuple[Transfer, int], ...]
    """What the plan says, and the bytes that it was."""
    casts: tuple[Sent, ...]


def replay_slot(
    network: Network,
    offer: StoreCatalog,
    placement: Bool,
    outcome: SlotOutcome,
    kept: Bool | None,
) -> Moved:
    """Bring every cache and device to the state before the slot, then move what the plan moves.

    Args:
        network: Nodes and devices as the previous slot left them.
        offer: The catalog, and the blocks, or the range of one, of each of its columns.
        placement: Which node caches which unit, (nodes, units).
        outcome: The simulated slot: its transfers, its broadcasts and the forms of what they carry.
        kept: What each device still has, (users, units); None when devices keep nothing.

    Returns:
        What was moved.

    Raises:
        EmulationError: If bytes from the cloud, between nodes, into caches or on the air differ.
    """
    before, units = network.traffic.snapshot(), offer.units
    nothing = np.zeros(placement.shape[1], dtype=bool)
    by_itself = (nothing if outcome.alone is None else outcome.alone).tolist()
    with network.one_commit():
        for user, device in enumerate(network.devices):
            device.keep(_parts(units, nothing if kept is None else kept[user]))
        updates = _fill(network, units, placement)
    network.end_slot()
    transfers, casts = [], []
    with network.one_commit():
        for move in sorted(outcome.transfers, key=lambda move: move.end_s):
            source = None if move.source < 0 else move.source
            size = network.transfer(units[move.block], source, move.target, alone=by_itself[move.block])
            transfers.append((move, size))
        for cast in casts_of(outcome, offer.catalog.sizes_bytes.tolist()):
            parts = [part for unit in cast.units for part in units[unit]]
            content = network.broadcast(parts, cast.holders, cast.users, alone=cast.alone)
            digest = AirObject.hash_of(content.encode())
            casts.append(Sent(plan=cast, payload_bytes=content.payload_bytes, blake3=digest))
    moved = network.traffic.since(before)
    planned = Traffic(
        cloud_bytes=outcome.cloud_bytes,
        migrated_bytes=outcome.migrated_bytes,
        cache_update_bytes=outcome.cache_update_bytes,
        broadcast_bytes=outcome.sent_bytes,
    )
    if moved != planned:
        raise EmulationError(f"slot {outcome.slot} moved {moved}, the plan said {planned}")
    return Moved(updates=tuple(updates), transfers=tuple(transfers), casts=tuple(casts))


def _fill(network: Network, units: Sequence[Sequence[Part]], placement: Bool) -> list[Update]:
    """Make every cache hold its row; what came, by unit."""
    unit_of = {part: unit for unit, parts in enumerate(units) for part in parts}
    sums: dict[tuple[int, int, int], int] = {}
    for node, held in enumerate(placement):
        for copy in network.place(node, _parts(units, held)):
            key = (unit_of[copy.part], -1 if copy.source is None else copy.source, node)
            sums[key] = sums.get(key, 0) + copy.payload_bytes
    return [
        Update(unit=unit, source=source, target=node, payload_bytes=size)
        for (unit, source, node), size in sums.items()
    ]


def _parts(units: Sequence[Sequence[Part]], chosen: Bool) -> frozenset[Part]:
    return frozenset(part for unit in np.flatnonzero(chosen).tolist() for part in units[unit])
