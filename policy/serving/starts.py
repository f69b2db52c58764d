"""Turns of users that plans start from."""

import numpy as np

from policy.interfaces import Bool, Float
from policy.serving.freight import Freight
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
