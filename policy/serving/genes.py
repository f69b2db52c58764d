"""What the search changes, and the plan it stands for.

A plan follows from the options, the ways users are split, the turns of users, and a few nudges: first all
that the first user misses, then what the second still misses, and so on; within a turn by Johnson's rule.
Links carry parcels in that order; the band passes over what has not arrived if `swift` is set. All this is
derived for the links that a plan is made for, never for those it is judged on.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.clock import Lines, Plans, air_times, move_order, ready_times
from policy.serving.freight import Freight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Genes:
    """What stands for a plan, one a row."""

    option: Int
    """Option of each parcel, (plans, parcels)."""
    way: Int
    """Way to split each set of users, (plans, sets)."""
    turn: Float
    """Turn of each user, (plans, users)."""
    nudge: Float
    """Turns by which a parcel goes later (or earlier, < 0) than its users say, (plans, parcels)."""
    lag: Int
    """Places by which a copy of what came from the cloud stands behind it in its link's queue, (plans,)."""
    swift: Bool
    """Whether the band passes over what has not arrived, (plans,)."""
    thread: Int
    """Line of search that the plan belongs to, (plans,)."""

    @property
    def count(self) -> int:
        """Plans."""
        return int(self.lag.size)

    def rows(self, which: Int) -> "Genes":
        """Some of the plans, as a copy."""
        return Genes(**{name: getattr(self, name)[which] for name in self.__slots__})


def joined(parts: list[Genes]) -> Genes:
    """All plans of some."""
    names = Genes.__slots__
    return Genes(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def planned(freight: Freight, genes: Genes, comp: Int, lines: Lines) -> tuple[Plans, Float, Float]:
    """Plans that genes stand for on the links they are made for.

    Returns:
        The plans; when each parcel is ready, (plans, parcels), s; time on the air, (plans, items), s.
    """
    air = air_times(freight, genes.option, comp)
    chosen = genes.way[:, freight.kind[freight.item_parcel]]
    active = freight.in_way[np.arange(freight.item_parcel.size), chosen]
    key = _keys(freight, genes, active, air, lines)
    first = np.minimum.reduceat(key, freight.first_item, axis=1)
    place, at = np.empty(first.shape, dtype=np.int64), np.arange(first.shape[1])
    np.put_along_axis(place, np.argsort(first, axis=1, kind="stable"), at[None], axis=1)
    moves = move_order(freight, genes.option, place, genes.lag)
    ready = ready_times(freight, genes.option, moves, lines)
    sends = np.argsort(key, axis=1, kind="stable")
    swift = np.flatnonzero(genes.swift)
    sends[swift] = _passed_over(
        freight, sends[swift], active[swift], ready[swift], air[swift], lines.band_free
    )
    return Plans(option=genes.option, active=active, moves=moves, sends=sends), ready, air


def _keys(freight: Freight, genes: Genes, active: Bool, air: Float, lines: Lines) -> Float:
    """What items are sorted by, (plans, items); inf for those not sent."""
    user, starts = freight.receives
    turn = np.minimum.reduceat(genes.turn.take(user, axis=1), starts, axis=1)
    parcel, bits = freight.item_parcel, freight.wire_bits
    hops = freight.copies[np.arange(freight.num_parcels), genes.option] > 0
    fetch = np.where(hops, bits / lines.backhaul_bit_s[:, None], 0.0)
    fetch += np.where(freight.held, 0.0, bits / lines.cloud_bit_s[:, None])
    fetch = fetch[:, parcel]
    most = np.maximum(np.maximum(fetch.max(axis=1), air.max(axis=1)), 1e-300)[:, None]
    slow = np.where(fetch < air, 0.4 * fetch / most, 0.9 - 0.4 * air / most)
    key = turn + slow + genes.nudge[:, parcel]
    return np.asarray(np.where(active, key, np.inf))


def _passed_over(
    freight: Freight, sends: Int, active: Bool, ready: Float, air: Float, band_free: float
) -> Int:
    """Send order in which what is not ready at its turn waits until it is."""
    count, items = sends.shape
    row = np.arange(count)[:, None]
    to = sends + items * row
    sent = active.take(to)
    spent = air.take(to) * sent
    turn = band_free + np.cumsum(spent, axis=1) - spent
    at = np.maximum(turn, ready.take(freight.item_parcel[sends] + freight.num_parcels * row))
    again = np.argsort(np.where(sent, at, np.inf), axis=1, kind="stable")
    return np.asarray(sends.take(again + items * row))
