"""The clock of `policy.serving` in plain Python, one plan at a time: what compiled kernels must equal."""

import numpy as np

from policy.serving.freight import Freight
from policy.serving.genes import Genes
from policy.serving.plans import Lines, Plans


def copies_needed(freight: Freight, option: np.ndarray, parcel: int) -> list[int]:
    return np.flatnonzero(freight.fetching[parcel, option[parcel]]).tolist()


def members(freight: Freight, item: int) -> list[int]:
    return np.flatnonzero(freight.sets.members[freight.item_group[item]]).tolist()


def planned(freight: Freight, genes: Genes, row: int, comp: int, lines: Lines) -> Plans:
    """The plan that a row of genes stands for: sorted by all keys at once."""
    option, parcels, items = genes.option[row], freight.num_parcels, range(freight.item_parcel.size)
    backhaul, cloud = float(lines.backhaul_bit_s[row]), float(lines.cloud_bit_s[row])
    active = [bool(freight.in_way[i, genes.way[row, freight.kind[freight.item_parcel[i]]]]) for i in items]
    air = [float(freight.air_s[comp, i, option[freight.item_parcel[i]]]) for i in items]
    travel = [
        (freight.wire_bits[p] / backhaul if copies_needed(freight, option, p) else 0.0)
        + (0.0 if freight.held[p] else freight.wire_bits[p] / cloud)
        for p in range(parcels)
    ]
    most, key = max([*travel, *air, 1e-300]), [np.inf] * len(air)
    for i in items:
        p = int(freight.item_parcel[i])
        slow = 0.4 * travel[p] / most if travel[p] < air[i] else 0.9 - 0.4 * air[i] / most
        if active[i]:
            key[i] = min(genes.turn[row, u] for u in members(freight, i)) + slow + genes.nudge[row, p]
    first = [min(key[i] for i in items if freight.item_parcel[i] == p) for p in range(parcels)]
    queue = sorted(range(parcels), key=first.__getitem__)
    place, lag = {p: at for at, p in enumerate(queue)}, int(genes.lag[row])
    copied = [p for p in range(parcels) if copies_needed(freight, option, p)]
    wanted = [(2 * place[p], p) for p in range(parcels) if not freight.held[p] or p in copied]
    wanted += [(2 * (place[p] + lag) + 1, parcels + p) for p in copied if not freight.held[p]]
    moves = [move for _, move in sorted(wanted)]
    sends = sorted(items, key=key.__getitem__)
    if genes.swift[row]:
        ready, spent = ready_s(freight, option.tolist(), moves, backhaul, cloud, lines), 0.0
        comes = [np.inf] * len(air)
        for i in (i for i in sends if active[i]):
            spent += air[i]
            comes[i] = max(lines.band_free_s + spent - air[i], ready[freight.item_parcel[i]])
        sends = sorted(sends, key=comes.__getitem__)
    moves += [-1] * (2 * parcels - len(moves))
    return Plans(*(np.array([part]) for part in (option, active, moves, sends)))


def ready_s(
    freight: Freight, option: list[int], moves: list[int], backhaul: float, cloud: float, lines: Lines
) -> list[float]:
    """When all holders have each parcel."""
    ready, free = [0.0] * freight.num_parcels, lines.links_free.tolist()
    for move in (move for move in moves if move >= 0):
        relayed, p = divmod(move, freight.num_parcels)
        if relayed or freight.held[p]:
            targets, took = copies_needed(freight, np.array(option), p), freight.wire_bits[p] * (1 / backhaul)
        else:
            targets, took = [int(freight.first[p, option[p]])], freight.wire_bits[p] * (1 / cloud)
        came = ready[p]
        for node in targets:
            free[node] = max(free[node], came) + took
            ready[p] = max(ready[p], free[node])
    return [max(ready)] * len(ready) if lines.sequential else ready


def delay_s(freight: Freight, plans: Plans, row: int, comp: int, lines: Lines) -> float:
    """Sum over users of when they have all they miss."""
    option, band = plans.option[row].tolist(), lines.band_free_s
    rates = float(lines.backhaul_bit_s[row]), float(lines.cloud_bit_s[row])
    ready = ready_s(freight, option, plans.moves[row].tolist(), *rates, lines)
    done = dict[int, float]()
    for item in (i for i in plans.sends[row].tolist() if plans.active[row, i]):
        p = int(freight.item_parcel[item])
        band = max(band, ready[p]) + float(freight.air_s[comp, item, option[p]])
        done |= dict.fromkeys(members(freight, item), band)
    return sum(done[user] for user in sorted(done))


def spread(
    freight: Freight, genes: Genes, row: int, comp: int, lines: Lines, price: float, allowed: np.ndarray
) -> list[int]:
    """Options of one parcel after another in the order of broadcasts, each as early as it can be sent."""
    plan = planned(freight, genes, row, comp, lines)
    sent = [i for i in plan.sends[0].tolist() if plan.active[0, i]]
    queue = list(dict.fromkeys(int(freight.item_parcel[i]) for i in sent))
    free, band, chosen = lines.links_free.tolist(), lines.band_free_s, genes.option[row].tolist()
    for p in queue:
        hop = freight.wire_bits[p] / lines.backhaul_bit_s[row]
        far = freight.wire_bits[p] / lines.cloud_bit_s[row]
        tries = []
        for option in np.flatnonzero(allowed[p]).tolist():
            links, first = list(free), int(freight.first[p, option])
            came = 0.0 if freight.held[p] else links[first] + far
            if not freight.held[p]:
                links[first] = came
            targets, ready = np.flatnonzero(freight.fetching[p, option]).tolist(), came
            for node in targets:
                links[node] = max(links[node], came) + hop
                ready = max(ready, links[node])
            seconds = sum(
                float(freight.air_s[comp, i, option]) for i in sorted(sent) if freight.item_parcel[i] == p
            )
            start = max(ready, lines.band_free_s if lines.sequential else band)
            tries.append((start + (seconds + price * hop * len(targets)), option, links, ready, seconds))
        _, chosen[p], free, ready, seconds = min(tries, key=lambda one: one[0])
        band = max(band, ready) + seconds
    return chosen
