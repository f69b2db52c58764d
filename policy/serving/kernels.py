"""Plans from genes, and when users have all they miss, for rows of plans, compiled."""

import numpy as np
from numba import types

from policy.interfaces import Bool, Float, Int
from policy.serving.compiled import array, kernel, part
from policy.serving.freight import Cargo
from policy.serving.genes import Genes
from policy.serving.parts import Desk, begin, carry, derive, desk_for, fill, put_on_air, sort, wait_s
from policy.serving.plans import Lines, Plans

BOOLS, INTS, FLOATS = array("bool", 2), array("int", 2), array("float", 2)
BOOL, INT, FLOAT = array("bool", 1), array("int", 1), array("float", 1)
CARGO = types.NamedTuple(
    [FLOAT, BOOL, INTS, INTS, INT, INT, INT, INT, INT, INT, INT, INT, BOOLS, array("float", 3)], Cargo
)
GENES = types.NamedTuple([INTS, INTS, FLOATS, FLOATS, INT, BOOL, INT], Genes)
PLANS = types.NamedTuple([INTS, BOOLS, INTS, INTS], Plans)
LINES = types.NamedTuple([FLOAT, FLOAT, FLOAT, types.float64, types.boolean], Lines)


@kernel(CARGO, GENES, LINES, INT, PLANS, FLOAT)
def make_plans(cargo: Cargo, genes: Genes, lines: Lines, comp: Int, plans: Plans, delay_s: Float) -> None:
    """Fill in the plans of genes and the sum of delays of each."""
    desk = desk_for(cargo, lines, genes.turn.shape[1])
    for row in range(delay_s.size):
        derive(cargo, genes, row, lines, comp, plans, desk)
        delay_s[row] = wait_s(cargo, plans.active[row], plans.sends[row], lines.band_free_s, desk)


@kernel(CARGO, PLANS, LINES, INT, types.int64, FLOAT)
def time_plans(cargo: Cargo, plans: Plans, lines: Lines, comp: Int, users: int, delay_s: Float) -> None:
    """Fill in the sum of delays of each plan."""
    desk = desk_for(cargo, lines, users)
    for row in range(delay_s.size):
        option = plans.option[row]
        put_on_air(cargo, option, comp[row], desk.air)
        begin(lines, desk)
        backhaul, cloud = lines.backhaul_bit_s[row], lines.cloud_bit_s[row]
        carry(cargo, option, plans.moves[row], backhaul, cloud, lines.sequential, desk)
        delay_s[row] = wait_s(cargo, plans.active[row], plans.sends[row], lines.band_free_s, desk)


@part
def _first_sent(cargo: Cargo, active: Bool, sends: Int, desk: Desk) -> None:
    """Parcels in the order of their first broadcast."""
    fill(desk.first, np.inf)
    for place in range(sends.size):
        parcel = cargo.item_parcel[sends[place]]
        if active[sends[place]]:
            desk.first[parcel] = min(desk.first[parcel], float(place))
    for parcel in range(desk.parcels.size):
        desk.parcels[parcel] = parcel
    sort(desk.parcels, desk.parcels.size, desk.first, desk.spare)


@part
def _air_s(cargo: Cargo, parcel: int, option: int, active: Bool, comp: int) -> float:
    """Time of a parcel on the air."""
    seconds = 0.0
    for item in range(cargo.first_item[parcel], cargo.first_item[parcel + 1]):
        if active[item]:
            seconds += cargo.air_s[comp, item, option]
    return seconds


@part
def _arrivals(
    cargo: Cargo, parcel: int, option: int, hop_s: float, cloud_s: float, free: Float
) -> tuple[float, float]:
    """When a parcel has come from the cloud, and when all its holders have it, behind what links carry."""
    came = 0.0 if cargo.held[parcel] else free[cargo.first[parcel, option]] + cloud_s
    row, ready = parcel * cargo.first.shape[1] + option, came
    for at in range(cargo.target_start[row], cargo.target_start[row + 1]):
        ready = max(ready, max(free[cargo.target[at]], came) + hop_s)
    return came, ready


@part
def _choose(
    cargo: Cargo,
    parcel: int,
    may: Bool,
    active: Bool,
    comp: int,
    price_s: float,
    hop_s: float,
    cloud_s: float,
    start_s: float,
    free: Float,
) -> int:
    """The option of a parcel that is sent first, a copy at a price; a broadcast waits for `start_s`."""
    best, least = 0, np.inf
    for option in range(may.size):
        if may[option]:
            _, ready = _arrivals(cargo, parcel, option, hop_s, cloud_s, free)
            cost = _air_s(cargo, parcel, option, active, comp) + price_s * cargo.copies[parcel, option]
            if max(ready, start_s) + cost < least:
                best, least = option, max(ready, start_s) + cost
    return best


@part
def _spread_one(
    cargo: Cargo,
    parcels: Int,
    may: Bool,
    active: Bool,
    comp: int,
    price: float,
    backhaul: float,
    cloud: float,
    lines: Lines,
    free: Float,
    option: Int,
) -> None:
    """Options of one parcel after another."""
    band = lines.band_free_s
    for parcel in parcels:
        hop_s, cloud_s = cargo.wire_bits[parcel] / backhaul, cargo.wire_bits[parcel] / cloud
        start = lines.band_free_s if lines.sequential else band
        best = _choose(cargo, parcel, may[parcel], active, comp, price * hop_s, hop_s, cloud_s, start, free)
        option[parcel] = best
        came, ready = _arrivals(cargo, parcel, best, hop_s, cloud_s, free)
        row = parcel * cargo.first.shape[1] + best
        for at in range(cargo.target_start[row], cargo.target_start[row + 1]):
            free[cargo.target[at]] = max(free[cargo.target[at]], came) + hop_s
        if not cargo.held[parcel]:
            free[cargo.first[parcel, best]] = came
        band = max(band, ready) + _air_s(cargo, parcel, best, active, comp)


@kernel(CARGO, GENES, LINES, INT, FLOAT, array("bool", 3), PLANS)
def spread(
    cargo: Cargo, genes: Genes, lines: Lines, comp: Int, price: Float, allowed: Bool, plans: Plans
) -> None:
    """Fill in the options of plans, of one parcel after another by when it would have been sent."""
    desk = desk_for(cargo, lines, genes.turn.shape[1])
    for row in range(price.size):
        derive(cargo, genes, row, lines, comp, plans, desk)
        _first_sent(cargo, plans.active[row], plans.sends[row], desk)
        begin(lines, desk)
        _spread_one(
            cargo,
            desk.parcels,
            allowed[genes.thread[row]],
            plans.active[row],
            comp[row],
            price[row],
            lines.backhaul_bit_s[row],
            lines.cloud_bit_s[row],
            lines,
            desk.free,
            plans.option[row],
        )
