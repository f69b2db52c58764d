"""Plans to start from: turns of users, and holders at several prices of a copy."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.clock import Lines
from policy.serving.freight import Freight
from policy.serving.genes import Genes, planned
from policy.serving.threads import Threads
from policy.slot.order import exact_turns
from policy.slot.order_bounds import greedy_turns, group_needs
from policy.slot.rates import COMP

MOST_EXACT_TURNS = 7
"""Up to so many different users the turns to start from are exact."""


def start_turns(freight: Freight, threads: Threads) -> Float:
    """Turns of users to start from, (threads, 2, users): by air time, and with transfers from the cloud."""
    whole = freight.sets.members[[groups[0] for groups in freight.sets.groups_of]]
    needs = whole[freight.kind].T
    air = freight.air_s[COMP].min(axis=1)[freight.first_item]
    turns = np.zeros((threads.kind.size, 2, needs.shape[0]))
    turns[:, 0] = _turns(needs, air)
    for cloud_bit_s in np.unique(threads.cloud_bit_s).tolist():
        cloud = np.where(freight.held, 0.0, freight.wire_bits / cloud_bit_s) / freight.holders.shape[2]
        turns[threads.cloud_bit_s == cloud_bit_s, 1] = _turns(needs, air + cloud)
    return turns


def _turns(needs: Bool, seconds: Float) -> Float:
    """Turn of each user, (users,); those with the same needs share one."""
    groups = group_needs(needs)
    few = groups.weight.size <= MOST_EXACT_TURNS
    order = exact_turns(groups, seconds) if few else greedy_turns(groups, seconds)
    turn = np.full(needs.shape[0], float(len(order)))
    for place, group in enumerate(order):
        turn[(needs == groups.needs[group]).all(axis=1)] = place
    return turn


def spread(freight: Freight, genes: Genes, comp: Int, lines: Lines, price: Float, allowed: Bool) -> Int:
    """Choose the options of one parcel after another by when it would have been sent, seeing the queues.

    Args:
        freight: The slot.
        genes: Plans; their options are only used to order parcels.
        comp: Row of `Freight.air_s`, (plans,).
        lines: Links that each is made for.
        price: Of a copy, in units of its time, (plans,): links that are kept free help later parcels.
        allowed: Options that may be taken, (plans, parcels, options).

    Returns:
        Options, (plans, parcels).
    """
    plans, _, _ = planned(freight, genes, comp, lines)
    turn = _turn_of_parcels(freight, plans.sends, plans.active)
    rows = np.arange(genes.count)
    air = _air_of_parcels(freight, plans.active, comp)
    some = freight.valid.sum(axis=1)
    free, band = np.tile(lines.links_free[:, None], genes.count), np.full(genes.count, lines.band_free)
    chosen = genes.option.copy()
    for parcel in turn.T:
        few = int(some[parcel].max())
        hop = freight.wire_bits[parcel] / lines.backhaul_bit_s
        cloud = freight.wire_bits[parcel] / lines.cloud_bit_s
        ready, after = _arrival(freight, parcel, few, free, hop, cloud)
        sent = air[rows, parcel, :few].T
        starts = np.maximum(band if lines.timing == "pipelined" else lines.band_free, ready)
        value = starts + sent + (price * hop) * freight.copies[parcel, :few].T
        best = np.where(allowed[rows, parcel, :few].T, value, np.inf).argmin(axis=0)
        chosen[rows, parcel] = best
        free = after[:, best, rows]
        band = np.maximum(band, ready[best, rows]) + sent[best, rows]
    return chosen


def _turn_of_parcels(freight: Freight, sends: Int, active: Bool) -> Int:
    """Parcels in the order of their first broadcast, (plans, parcels)."""
    place = np.argsort(sends, axis=1)
    first = np.minimum.reduceat(np.where(active, place, place.shape[1]), freight.first_item, axis=1)
    return np.argsort(first, axis=1, kind="stable")


def _air_of_parcels(freight: Freight, active: Bool, comp: Int) -> Float:
    """Time on the air of each parcel under each option, (plans, parcels, options), s."""
    air = np.where(active[:, :, None], freight.air_s[comp], 0.0)
    return np.asarray(np.add.reduceat(air, freight.first_item, axis=1))


def _arrival(
    freight: Freight, parcel: Int, few: int, free: Float, hop: Float, cloud: Float
) -> tuple[Float, Float]:
    """When all holders would have a parcel under the first few options, and links be free.

    Returns:
        (options, plans) and (nodes, options, plans), s.
    """
    fetching, fetched = (table[:, :few].take(parcel, axis=2) for table in freight.by_parcel)
    first, held = freight.first[:, :few].T.take(parcel, axis=1), freight.held[parcel]
    came = np.where(held, 0.0, free[np.maximum(first, 0), np.arange(parcel.size)] + cloud)
    after = np.where(fetching, np.maximum(free[:, None], came) + hop, free[:, None])
    ready = np.maximum(np.where(fetching, after, 0.0).max(axis=0), came)
    np.copyto(after, came, where=fetched)
    return ready, after
