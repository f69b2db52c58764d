"""Small changes of plans, drawn at random, compiled into `kernels`."""

import numpy as np

from policy.interfaces import Int
from policy.serving.compiled import part
from policy.serving.freight import Cargo
from policy.serving.genes import Genes
from policy.serving.parts import Desk, sort

OPTION, TURN, WAY, NUDGE, LAG = 0.42, 0.50, 0.58, 0.92, 0.98
"""Up to which draw a change is of this sort; beyond: whether the band waits."""
STEP, FIRST, SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@part
def draw(desk: Desk) -> float:
    """A number in [0, 1): SplitMix64 (Steele, Lea and Flood, 2014)."""
    desk.state[0] += STEP
    z = desk.state[0]
    z = (z ^ (z >> S30)) * FIRST
    z = (z ^ (z >> S27)) * SECOND
    return float((z ^ (z >> S31)) >> S11) * 2.0**-53


@part
def pick(count: int, desk: Desk) -> int:
    """One of so many."""
    return min(int(draw(desk) * count), count - 1)


@part
def pick_parcel(cargo: Cargo, desk: Desk) -> int:
    """A parcel, large ones rather than small ones."""
    value = draw(desk)
    low, high = 0, cargo.chance.size - 1
    while low < high:
        middle = (low + high) // 2
        if cargo.chance[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@part
def change(cargo: Cargo, genes: Genes, row: int, options: Int, split: bool, desk: Desk) -> bool:
    """One change of a plan; options of each parcel are the first so many. Whether anything is other."""
    sort_of = draw(desk)
    if sort_of < OPTION or WAY <= sort_of < NUDGE:
        return redirect(cargo, genes, row, options, sort_of < OPTION, desk)
    if sort_of < TURN:
        return put_elsewhere(cargo, genes, row, desk)
    if sort_of < WAY:
        kind = pick(cargo.num_ways.size, desk)
        before, way = genes.way[row, kind], pick(cargo.num_ways[kind], desk)
        genes.way[row, kind] = way if split else before
        return bool(genes.way[row, kind] != before)
    if sort_of < LAG:
        lag = genes.lag[row]
        genes.lag[row] = (1 << pick(5, desk)) >> 1
        return bool(genes.lag[row] != lag)
    genes.swift[row] = not genes.swift[row]
    return True


@part
def redirect(cargo: Cargo, genes: Genes, row: int, options: Int, holders: bool, desk: Desk) -> bool:
    """Other holders of a parcel, or another place in the queue, and so for some like it nearby."""
    parcel, count, users = pick_parcel(cargo, desk), cargo.chance.size, genes.turn.shape[1]
    reach = 8.0 * max(draw(desk) - 0.5, 0.0) ** 2 * count
    option, later = pick(options[parcel], desk), (2.0 * draw(desk) - 1.0) * users
    changed = not holders
    for other in range(max(0, int(np.ceil(parcel - reach))), min(count, int(parcel + reach) + 1)):
        if cargo.bundle[other] == cargo.bundle[parcel]:
            if holders:
                changed = changed or genes.option[row, other] != option
                genes.option[row, other] = option
            else:
                genes.nudge[row, other] = later
    return changed


@part
def put_elsewhere(cargo: Cargo, genes: Genes, row: int, desk: Desk) -> bool:
    """One user goes before or behind another."""
    one = cargo.group_user[pick(cargo.group_user.size, desk)]
    other = cargo.group_user[pick(cargo.group_user.size, desk)]
    turn = genes.turn[row]
    if one == other:
        return False
    turn[one] = turn[other] + (-0.5 if draw(desk) < 0.5 else 0.5)
    for user in range(turn.size):
        desk.order[user] = user
    sort(desk.order, turn.size, turn, desk.spare)
    for place in range(turn.size):
        turn[desk.order[place]] = place
    return True


@part
def copy_row(source: Genes, row: int, target: Genes, to: int) -> None:
    """Copy what stands for a plan, not its thread."""
    for parcel in range(source.option.shape[1]):
        target.option[to, parcel] = source.option[row, parcel]
        target.nudge[to, parcel] = source.nudge[row, parcel]
    for kind in range(source.way.shape[1]):
        target.way[to, kind] = source.way[row, kind]
    for user in range(source.turn.shape[1]):
        target.turn[to, user] = source.turn[row, user]
    target.lag[to], target.swift[to] = source.lag[row], source.swift[row]
