"""Plans from genes, and when users have all they miss, for rows of plans, compiled."""

import numpy as np
from numba import types

from policy.interfaces import Bool, Float, Int
from policy.serving.changes import change, copy_row, draw, pick
from policy.serving.compiled import array, kernel, part
from policy.serving.freight import Cargo
from policy.serving.genes import Genes
from policy.serving.parts import Desk, begin, carry, derive, fill, line_up_parcels, put_on_air, split, wait_s
from policy.serving.plans import Climb, Lines, Plans

BOOLS, INTS, FLOATS = array("bool", 2), array("int", 2), array("float", 2)
BOOL, INT, FLOAT = array("bool", 1), array("int", 1), array("float", 1)
CARGO = types.NamedTuple(
    [
        FLOAT,
        BOOL,
        INTS,
        INTS,
        INT,
        INT,
        INT,
        INT,
        INT,
        INT,
        INT,
        INT,
        BOOLS,
        array("float", 3),
        INT,
        FLOAT,
        INT,
        BOOLS,
    ],
    Cargo,
)
GENES = types.NamedTuple([INTS, INTS, FLOATS, FLOATS, INT, BOOL, INT], Genes)
PLANS = types.NamedTuple([INTS, BOOLS, INTS, INTS], Plans)
LINES = types.NamedTuple([FLOAT, FLOAT, FLOAT, types.float64, types.boolean, FLOAT], Lines)
DESK = types.NamedTuple(
    [*[FLOAT] * 6, *[INT] * 4, types.Array(types.uint64, 1, "C"), FLOAT, INT, INT, FLOAT],
    Desk,
)
CLIMB = types.NamedTuple([INTS, array("bool", 3), BOOL, INT, INT, INT, types.int64, types.boolean], Climb)

AGAIN = 0.5
"""Of all changes, those that choose the holders of some parcels anew, seeing the queues."""
LOWEST, HIGHEST = 0.02, 2.0
"""Prices of a copy there, in units of its time."""


@kernel(CARGO, GENES, LINES, INT, PLANS, FLOAT, DESK)
def make_plans(
    cargo: Cargo, genes: Genes, lines: Lines, comp: Int, plans: Plans, delay_s: Float, desk: Desk
) -> None:
    """Fill in the plans of genes and the sum of delays of each."""
    for row in range(delay_s.size):
        derive(cargo, genes, row, lines, comp, plans, desk)
        delay_s[row] = wait_s(cargo, plans.active[row], plans.sends[row], lines, desk)


@kernel(CARGO, PLANS, LINES, INT, FLOAT, DESK)
def time_plans(cargo: Cargo, plans: Plans, lines: Lines, comp: Int, delay_s: Float, desk: Desk) -> None:
    """Fill in the sum of delays of each plan."""
    for row in range(delay_s.size):
        option = plans.option[row]
        put_on_air(cargo, option, comp[row], desk.air)
        begin(lines, desk)
        backhaul, cloud = lines.backhaul_bit_s[row], lines.cloud_bit_s[row]
        carry(cargo, option, plans.moves[row], backhaul, cloud, lines.sequential, desk)
        delay_s[row] = wait_s(cargo, plans.active[row], plans.sends[row], lines, desk)


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
            cost = _air_s(cargo, parcel, option, active, comp) + price_s * cargo.copies[parcel, option]
            if start_s + cost < least:  # else it is no better however early it comes
                _, ready = _arrivals(cargo, parcel, option, hop_s, cloud_s, free)
                if max(ready, start_s) + cost < least:
                    best, least = option, max(ready, start_s) + cost
    return best


@part
def _spread_one(
    cargo: Cargo,
    option: Int,
    allowed: Bool,
    active: Bool,
    comp: int,
    price: float,
    lines: Lines,
    row: int,
    desk: Desk,
) -> None:
    """Options of one parcel after another, of those that are marked in `desk.first`."""
    free, band, most = desk.free, lines.band_free_s, lines.shares.size - 1
    crowd = most * lines.shares[most]
    backhaul, cloud = lines.backhaul_bit_s[row], lines.cloud_bit_s[row]
    for parcel in desk.parcels:
        hop_s, cloud_s = cargo.wire_bits[parcel] / backhaul, cargo.wire_bits[parcel] / cloud
        start = lines.band_free_s if lines.sequential else band
        best = option[parcel]
        if desk.first[parcel] > 0.0:
            best = _choose(
                cargo, parcel, allowed[parcel], active, comp, price * hop_s, hop_s, cloud_s, start, free
            )
            option[parcel] = best
        came, ready = _arrivals(cargo, parcel, best, hop_s, cloud_s, free)
        code = parcel * cargo.first.shape[1] + best
        for at in range(cargo.target_start[code], cargo.target_start[code + 1]):
            free[cargo.target[at]] = max(free[cargo.target[at]], came) + hop_s
        if not cargo.held[parcel]:
            free[cargo.first[parcel, best]] = came
        band = max(band, ready) + _air_s(cargo, parcel, best, active, comp) / crowd


@kernel(CARGO, GENES, LINES, INT, FLOAT, array("bool", 3), PLANS, DESK)
def spread(
    cargo: Cargo,
    genes: Genes,
    lines: Lines,
    comp: Int,
    price: Float,
    allowed: Bool,
    plans: Plans,
    desk: Desk,
) -> None:
    """Fill in the options of plans, of one parcel after another by when it would have been sent."""
    for row in range(price.size):
        derive(cargo, genes, row, lines, comp, plans, desk)
        line_up_parcels(cargo, plans.active[row], plans.sends[row], desk)
        begin(lines, desk)
        fill(desk.first, 1.0)
        option, allow = plans.option[row], allowed[genes.thread[row]]
        _spread_one(cargo, option, allow, plans.active[row], comp[row], price[row], lines, row, desk)


@part
def _again(
    cargo: Cargo, genes: Genes, row: int, lines: Lines, comp: int, allowed: Bool, active: Bool, desk: Desk
) -> None:
    """Choose the options of some parcels anew: of any, or of some that are sent one after another."""
    split(cargo, genes.way[row], active)
    begin(lines, desk)
    count, price = desk.parcels.size, LOWEST * (HIGHEST / LOWEST) ** draw(desk)
    share = draw(desk) if draw(desk) < 0.5 else 0.0
    one = pick(count, desk)
    other = min(one + int(count * draw(desk)), count - 1)
    for place in range(count):
        parcel = desk.queue[place]
        desk.parcels[place] = parcel
        chosen = draw(desk) < share if share > 0.0 else one <= place <= other
        desk.first[parcel] = 1.0 if chosen else 0.0
    _spread_one(cargo, genes.option[row], allowed, active, comp, price, lines, row, desk)


@part
def _note(cargo: Cargo, active: Bool, sends: Int, desk: Desk) -> None:
    """Note the order in which the present plan sends parcels."""
    line_up_parcels(cargo, active, sends, desk)
    for place in range(desk.queue.size):
        desk.queue[place] = desk.parcels[place]


@part
def _try(
    cargo: Cargo, trial: Genes, row: int, lines: Lines, comp: Int, climb: Climb, plans: Plans, desk: Desk
) -> bool:
    """One change; whether anything is other."""
    if draw(desk) < AGAIN:
        allowed = climb.allowed[trial.thread[row]]
        _again(cargo, trial, row, lines, comp[row], allowed, plans.active[row], desk)
        return True
    return change(cargo, trial, row, climb.options[row], climb.split[row], desk)


@part
def copy_plan(genes: Genes, source: Plans, row: int, target: Plans, to: int) -> None:
    """Copy a plan that was just derived from genes."""
    for parcel in range(genes.option.shape[1]):
        target.option[to, parcel] = genes.option[row, parcel]
    for item in range(source.active.shape[1]):
        target.active[to, item] = source.active[row, item]
        target.sends[to, item] = source.sends[row, item]
    for at in range(source.moves.shape[1]):
        target.moves[to, at] = source.moves[row, at]


@kernel(CARGO, GENES, GENES, LINES, INT, CLIMB, PLANS, FLOAT, PLANS, INT, DESK)
def climb_up(
    cargo: Cargo,
    genes: Genes,
    trial: Genes,
    lines: Lines,
    comp: Int,
    climb: Climb,
    plans: Plans,
    delay_s: Float,
    kept: Plans,
    count: Int,
    desk: Desk,
) -> None:
    """Improve the plan of each thread; `kept` has plans on the way, of `count` the last."""
    for row in range(delay_s.size):
        desk.state[0] = np.uint64(climb.seeds[row])
        derive(cargo, genes, row, lines, comp, plans, desk)
        _note(cargo, plans.active[row], plans.sends[row], desk)
        for step in range(-1, climb.steps[row]):
            below = climb.below[row] if step < 0 <= climb.below[row] else row
            copy_row(genes, below, trial, row)
            if step >= 0 and not _try(cargo, trial, row, lines, comp, climb, plans, desk):
                continue
            derive(cargo, trial, row, lines, comp, plans, desk)
            tried = wait_s(cargo, plans.active[row], plans.sends[row], lines, desk)
            if climb.all_kept or tried < delay_s[row]:
                copy_plan(trial, plans, row, kept, row * climb.kept + count[row] % climb.kept)
                count[row] += 1
            if tried <= delay_s[row]:
                delay_s[row] = tried
                copy_row(trial, row, genes, row)
                _note(cargo, plans.active[row], plans.sends[row], desk)
