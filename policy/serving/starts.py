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
    turn = np.ascontiguousarray(_turn_of_parcels(freight, plans.sends, plans.active).T)
    rows, option = np.arange(genes.count), np.empty_like(turn)
    hop = freight.wire_bits[turn] / lines.backhaul_bit_s
    cloud = np.where(freight.held[turn], 0.0, freight.wire_bits[turn] / lines.cloud_bit_s)
    air = _air_of_parcels(freight, plans.active, comp)[rows, turn]
    cost = air + (price * hop)[:, :, None] * freight.copies[turn]
    cost[~allowed[rows, turn]] = np.inf
    fetched, still = ~freight.held[turn], freight.copies[turn] == 0
    first = np.maximum(freight.first[turn], 0) + lines.links_free.size * rows[:, None]
    free, band = np.tile(lines.links_free, (genes.count, 1)), np.full(genes.count, lines.band_free)
    for at, parcel in enumerate(turn):
        copy = hop[at, :, None]
        came = (free.take(first[at]) + cloud[at, :, None]) * fetched[at, :, None]
        ready = freight.waits.take(parcel, axis=1)
        ready += free.T[:, :, None]
        ready = np.maximum(np.maximum.reduce(ready, axis=0), came) + copy
        np.copyto(ready, came, where=still[at])
        starts = np.maximum(ready, band[:, None] if lines.timing == "pipelined" else lines.band_free)
        option[at] = best = (starts + cost[at]).argmin(axis=1)
        band = np.maximum(band, ready[rows, best]) + air[at, rows, best]
        came = came[rows, best, None]
        free = np.where(freight.fetching[parcel, best], np.maximum(free, came) + copy, free)
        gone = fetched[at]
        free[rows[gone], freight.first[parcel, best][gone]] = came[gone, 0]
    chosen = genes.option.copy()
    chosen[rows, turn] = option
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
