"""Steps from genes to a plan and from a plan to delays, each for one plan, compiled into `kernels`.

What arrays mean: `freight.Cargo`, `plans.Plans`, `plans.Lines`, `genes.Genes`.
"""

from typing import Any, NamedTuple

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.compiled import part
from policy.serving.freight import Cargo
from policy.serving.genes import Genes
from policy.serving.plans import Lines, Plans
from policy.serving.together import DONE, WINDOW

RUN = 16
"""Up to so many numbers are sorted by insertion."""


class Desk(NamedTuple):
    """Room to work on one plan."""

    air: Float
    """Time of each item on the air, (items,), s."""
    key: Float
    """What items are sorted by, (items,)."""
    ready: Float
    """When all holders have each parcel, (parcels,), s."""
    first: Float
    """A number or mark of each parcel, (parcels,)."""
    free: Float
    """When each link is free, (nodes,), s."""
    done: Float
    """When each user has all it misses, (users,), s."""
    parcels: Int
    """In the order of their first item, (parcels,)."""
    queue: Int
    """Parcels in the order in which the present plan sends them, (parcels,)."""
    spare: Int
    """To sort with, (items + users,)."""
    order: Int
    """Of users, (users,)."""
    state: Any
    """Of the draws, uint64 (1,)."""
    left: Float
    """What is left to send of each item, in time on the air alone, (items,), s; < 0: nothing."""
    behind: Int
    """Item behind each one in the order of the band, (items,); -1: none."""
    crowd: Int
    """Items that are on the air, (at once,)."""
    turn: Float
    """The first turn of the users of each group, (groups,)."""


def desk_for(cargo: Cargo, lines: Lines, users: int) -> Desk:
    """Room for plans of a slot; not compiled, for kernels cannot make arrays."""
    items, parcels = cargo.item_parcel.size, cargo.wire_bits.size
    return Desk(
        air=np.empty(items),
        key=np.empty(items),
        ready=np.empty(parcels),
        first=np.empty(parcels),
        free=np.empty(lines.links_free.size),
        done=np.empty(users),
        parcels=np.empty(parcels, np.int64),
        queue=np.empty(parcels, np.int64),
        spare=np.empty(items + users, np.int64),
        order=np.empty(users, np.int64),
        state=np.zeros(1, np.uint64),
        left=np.empty(items),
        behind=np.empty(items, np.int64),
        crowd=np.empty(lines.shares.size, np.int64),
        turn=np.empty(cargo.group_start.size - 1),
    )


@part
def fill(numbers: Float, value: float) -> None:
    """Make all numbers the same."""
    for at in range(numbers.size):
        numbers[at] = value


@part
def largest(numbers: Float) -> float:
    """The largest number."""
    most = -np.inf
    for number in numbers:
        most = max(most, number)
    return most


@part
def begin(lines: Lines, desk: Desk) -> None:
    """No link has carried anything in this slot."""
    for node in range(desk.free.size):
        desk.free[node] = lines.links_free[node]


@part
def sort(order: Int, count: int, key: Float, spare: Int) -> None:
    """Sort the first numbers of an order by their keys, those with equal keys as they stand."""
    for start in range(0, count, RUN):
        for at in range(start + 1, min(start + RUN, count)):
            one, to = order[at], at
            while to > start and key[order[to - 1]] > key[one]:
                order[to] = order[to - 1]
                to -= 1
            order[to] = one
    width = RUN
    while width < count:
        for left in range(0, count - width, 2 * width):
            merge(order, left, left + width, min(left + 2 * width, count), key, spare)
        width *= 2


@part
def merge(order: Int, left: int, middle: int, right: int, key: Float, spare: Int) -> None:
    """Merge two sorted neighbours."""
    if key[order[middle - 1]] <= key[order[middle]]:
        return
    for at in range(left, middle):
        spare[at] = order[at]
    at, low, high = left, left, middle
    while low < middle:
        if high < right and key[order[high]] < key[spare[low]]:
            order[at] = order[high]
            high += 1
        else:
            order[at] = spare[low]
            low += 1
        at += 1


@part
def sort_anew(order: Int, count: int, key: Float, spare: Int) -> None:
    """Sort the first numbers of an order by their keys, those with equal keys by number.

    How they stand before does not matter, but little is to do where it is nearly right.
    """
    for at in range(1, count):
        one, to = order[at], at
        while to > 0 and is_behind(order[to - 1], one, key):
            order[to] = order[to - 1]
            to -= 1
        order[to] = one


@part
def is_behind(one: int, other: int, key: Float) -> bool:
    """Whether a number comes behind another one."""
    return bool(key[one] > key[other] or (key[one] == key[other] and one > other))


@part
def put_on_air(cargo: Cargo, option: Int, comp: int, air: Float) -> None:
    """Time of each item on the air."""
    for item in range(air.size):
        air[item] = cargo.air_s[comp, item, option[cargo.item_parcel[item]]]


@part
def split(cargo: Cargo, way: Int, active: Bool) -> None:
    """Which items are sent."""
    for item in range(active.size):
        active[item] = cargo.in_way[item, way[cargo.kind[cargo.item_parcel[item]]]]


@part
def travel_s(cargo: Cargo, option: Int, backhaul: float, cloud: float, seconds: Float) -> None:
    """How long each parcel travels, for Johnson's rule."""
    for parcel in range(seconds.size):
        seconds[parcel] = 0.0
        if cargo.copies[parcel, option[parcel]] > 0:
            seconds[parcel] = cargo.wire_bits[parcel] / backhaul
        if not cargo.held[parcel]:
            seconds[parcel] += cargo.wire_bits[parcel] / cloud


@part
def rank_items(cargo: Cargo, turn: Float, nudge: Float, active: Bool, desk: Desk) -> None:
    """What items are sorted by: the first of their users, then Johnson's rule; inf for those not sent."""
    travel = desk.first
    most = max(largest(travel), largest(desk.air), 1e-300)
    for group in range(desk.turn.size):
        first = np.inf
        for at in range(cargo.group_start[group], cargo.group_start[group + 1]):
            first = min(first, turn[cargo.group_user[at]])
        desk.turn[group] = first
    for item in range(active.size):
        desk.key[item] = np.inf
        if active[item]:
            parcel = cargo.item_parcel[item]
            comes, sent = travel[parcel], desk.air[item]
            slow = 0.4 * comes / most if comes < sent else 0.9 - 0.4 * sent / most
            desk.key[item] = desk.turn[cargo.item_group[item]] + slow + nudge[parcel]


@part
def line_up_parcels(cargo: Cargo, active: Bool, sends: Int, desk: Desk) -> None:
    """Parcels in the order of their first item that is sent, those without one behind."""
    fill(desk.first, 0.0)
    count = 0
    for item in sends:
        parcel = cargo.item_parcel[item]
        if active[item] and desk.first[parcel] == 0.0:
            desk.first[parcel] = 1.0
            desk.parcels[count] = parcel
            count += 1
    for parcel in range(desk.parcels.size):
        if desk.first[parcel] == 0.0:
            desk.parcels[count] = parcel
            count += 1


@part
def line_up(cargo: Cargo, option: Int, parcels: Int, lag: int, moves: Int) -> None:
    """Moves in the order of parcels, copies of what comes from the cloud some places later; then -1."""
    count, at = parcels.size, 0
    for place in range(moves.size):
        moves[place] = -1
    for place in range(count + lag):
        if place < count:
            parcel = parcels[place]
            if not cargo.held[parcel] or cargo.copies[parcel, option[parcel]] > 0:
                moves[at] = parcel
                at += 1
        if place >= lag:
            parcel = parcels[place - lag]
            if not cargo.held[parcel] and cargo.copies[parcel, option[parcel]] > 0:
                moves[at] = count + parcel
                at += 1


@part
def carry(
    cargo: Cargo, option: Int, moves: Int, backhaul: float, cloud: float, sequential: bool, desk: Desk
) -> None:
    """When all holders have each parcel; moves the times at which links are free."""
    count, options = cargo.first.shape
    ready, free = desk.ready, desk.free
    fill(ready, 0.0)
    for move in moves:
        if move < 0:
            break
        parcel = move % count
        row, came = parcel * options + option[parcel], ready[parcel]
        if move < count and not cargo.held[parcel]:
            node = cargo.first[parcel, option[parcel]]
            free[node] = max(free[node], came) + cargo.wire_bits[parcel] * (1.0 / cloud)
            ready[parcel] = free[node]
        else:
            for at in range(cargo.target_start[row], cargo.target_start[row + 1]):
                node = cargo.target[at]
                free[node] = max(free[node], came) + cargo.wire_bits[parcel] * (1.0 / backhaul)
                ready[parcel] = max(ready[parcel], free[node])
    if sequential:
        fill(ready, largest(ready))


@part
def order_items(active: Bool, key: Float, sends: Int, spare: Int) -> int:
    """Items by their keys, those not sent behind; how many are sent."""
    sent, rest = 0, 0
    for item in range(active.size):
        rest += active[item]
    for item in range(active.size):
        if active[item]:
            sends[sent] = item
            sent += 1
        else:
            sends[rest] = item
            rest += 1
    sort(sends, sent, key, spare)
    return sent


@part
def pass_over(cargo: Cargo, sends: Int, sent: int, band_free: float, desk: Desk) -> None:
    """What is not ready at its turn waits until it is."""
    spent = 0.0
    for at in range(sent):
        item = sends[at]
        spent += desk.air[item]
        desk.key[item] = max(band_free + spent - desk.air[item], desk.ready[cargo.item_parcel[item]])
    sort(sends, sent, desk.key, desk.spare)


@part
def wait_s(cargo: Cargo, active: Bool, sends: Int, lines: Lines, desk: Desk) -> float:
    """Sum over users of when they have all they miss, s."""
    fill(desk.done, 0.0)
    if lines.shares.size > 2:
        send_together(cargo, active, sends, lines, desk)
    else:
        send_in_turn(cargo, active, sends, lines.band_free_s, desk)
    total = 0.0
    for seconds in desk.done:
        total += seconds
    return total


@part
def send_in_turn(cargo: Cargo, active: Bool, sends: Int, band: float, desk: Desk) -> None:
    """When users have what they miss, one item after another."""
    for item in sends:
        if active[item]:
            band = max(band, desk.ready[cargo.item_parcel[item]]) + desk.air[item]
            group = cargo.item_group[item]
            for at in range(cargo.group_start[group], cargo.group_start[group + 1]):
                desk.done[cargo.group_user[at]] = band


@part
def send_together(cargo: Cargo, active: Bool, sends: Int, lines: Lines, desk: Desk) -> None:
    """When users have what they miss, several items at once; as `together.schedule` with equal shares."""
    first, last = -1, -1
    for item in sends:
        if active[item]:
            desk.left[item], desk.behind[item] = desk.air[item], -1
            if last < 0:
                first = item
            else:
                desk.behind[last] = item
            last = item
    now = lines.band_free_s
    while first >= 0:
        if desk.left[first] < 0.0:
            first = desk.behind[first]
            continue
        count, soon = crowd(cargo, first, lines.shares.size - 1, now, desk)
        if count == 0:
            now = soon
            continue
        rate, spent = lines.shares[count], soon - now
        for at in range(count):
            spent = min(spent, desk.left[desk.crowd[at]] / rate)
        now += spent
        for at in range(count):
            item = desk.crowd[at]
            desk.left[item] -= rate * spent
            if desk.left[item] <= DONE * desk.air[item]:
                desk.left[item] = -1.0
                hand_over(cargo, cargo.item_group[item], now, desk)


@part
def hand_over(cargo: Cargo, group: int, now: float, desk: Desk) -> None:
    """Users of a group have an item."""
    for at in range(cargo.group_start[group], cargo.group_start[group + 1]):
        desk.done[cargo.group_user[at]] = now


@part
def crowd(cargo: Cargo, first: int, most: int, now: float, desk: Desk) -> tuple[int, float]:
    """Which items are on the air now, how many; and when one of those before them is ready."""
    count, seen, soon = 0, 0, np.inf
    item = first
    while item >= 0 and count < most and (count == 0 or seen < WINDOW):
        ready = desk.ready[cargo.item_parcel[item]]
        if ready > now:
            soon = min(soon, ready)
        elif is_apart(cargo, cargo.item_group[item], count, desk):
            desk.crowd[count] = item
            count += 1
        seen += 1
        behind = desk.behind[item]
        while behind >= 0 and desk.left[behind] < 0.0:
            behind = desk.behind[behind]
        desk.behind[item] = behind
        item = behind
    return count, soon


@part
def is_apart(cargo: Cargo, group: int, count: int, desk: Desk) -> bool:
    """Whether a group may be served together with all that are."""
    free = True
    for at in range(count):
        free = free and cargo.apart[group, cargo.item_group[desk.crowd[at]]]
    return free


@part
def derive(cargo: Cargo, genes: Genes, row: int, lines: Lines, comp: Int, plans: Plans, desk: Desk) -> None:
    """The plan that genes stand for, and when each parcel is ready."""
    option, active, moves, sends = genes.option[row], plans.active[row], plans.moves[row], plans.sends[row]
    backhaul, cloud = lines.backhaul_bit_s[row], lines.cloud_bit_s[row]
    split(cargo, genes.way[row], active)
    put_on_air(cargo, option, comp[row], desk.air)
    travel_s(cargo, option, backhaul, cloud, desk.first)
    rank_items(cargo, genes.turn[row], genes.nudge[row], active, desk)
    sent = order_items(active, desk.key, sends, desk.spare)
    line_up_parcels(cargo, active, sends, desk)
    line_up(cargo, option, desk.parcels, genes.lag[row], moves)
    begin(lines, desk)
    carry(cargo, option, moves, backhaul, cloud, lines.sequential, desk)
    if genes.swift[row]:
        pass_over(cargo, sends, sent, lines.band_free_s, desk)
