"""A slot served with the best plan found."""

import numpy as np

from policy.interfaces import Bool, Float
from policy.serving.clock import Plans
from policy.serving.freight import Freight, freight_of
from policy.serving.search import Effort, best_plan
from policy.slot.dynamics import SlotOutcome, outcome_of
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, SINGLE, AirTimes
from policy.slot.timeline import CLOUD, Cast, Move, Plan, run


def serve_planned(problem: SlotProblem, air: AirTimes, effort: Effort | None = None) -> SlotOutcome:
    """Serve a slot whose transfers overlap with broadcasts, with the best plan found.

    Args:
        problem: The slot; its timing is pipelined or sequential.
        air: Its radio.
        effort: How long is searched.

    Raises:
        PlacementError: If nobody can send some block to all who miss it.
    """
    moves: tuple[Move, ...] = ()
    casts: tuple[Cast, ...] = ()
    if problem.wanted.size:
        freight = freight_of(problem, air)
        plan = plan_in_full(problem, freight, best_plan(problem, freight, effort).plan, air)
        moves, casts = plan.moves, plan.casts
    line = run(
        Plan(moves=moves, casts=casts), problem.links_free.tolist(), problem.band_free_s, problem.timing
    )
    return outcome_of(problem, line, _block_seconds(problem, moves, casts))


def plan_in_full(problem: SlotProblem, freight: Freight, plans: Plans, air: AirTimes) -> Plan:
    """The first of some plans with every transfer and broadcast."""
    option = plans.option[0].tolist()
    moves: list[Move] = []
    places: dict[int, list[int]] = {}
    for turn in plans.moves[0].tolist():
        relayed, parcel = divmod(turn, freight.num_parcels)
        for move in _moves(problem, freight, parcel, option[parcel], bool(relayed), places.get(parcel, [])):
            places.setdefault(parcel, []).append(len(moves))
            moves.append(move)
    casts = [
        _cast(problem, freight, item, option[freight.item_parcel[item]], places, air)
        for item in plans.sends[0].tolist()
        if plans.active[0, item]
    ]
    return Plan(moves=tuple(moves), casts=tuple(casts))


def _moves(
    problem: SlotProblem, freight: Freight, parcel: int, option: int, relayed: bool, before: list[int]
) -> list[Move]:
    """Transfers of one turn of a parcel: from a cache or the cloud, or what came from the cloud relayed."""
    blocks = freight.blocks[parcel]
    first, bits = int(freight.first[parcel, option]), problem.wire_bits(blocks)
    from_cloud = not relayed and first >= 0
    if relayed and first < 0:
        return []
    links = problem.links
    seconds = bits / (links.cloud_bit_s if from_cloud else links.backhaul_bit_s)
    if from_cloud:
        source, targets = CLOUD, [first]
    else:
        targets = np.flatnonzero(freight.fetching[parcel, option]).tolist()
        source = first if relayed else int(problem.cached[:, blocks[0]].argmax())
    after = before[0] if relayed else None
    names, times = tuple(blocks.tolist()), tuple(seconds.tolist())
    return [Move(blocks=names, seconds=times, source=source, target=t, after=after) for t in targets]


def _cast(
    problem: SlotProblem,
    freight: Freight,
    item: int,
    option: int,
    places: dict[int, list[int]],
    air: AirTimes,
) -> Cast:
    """Broadcast of one item."""
    parcel, row = int(freight.item_parcel[item]), COMP if problem.rules.comp else SINGLE
    holders: Bool = freight.holders[parcel, option][None]
    users: Bool = freight.sets.members[freight.item_group[item]][None]
    blocks = freight.blocks[parcel]
    per_bit = air.per_bit(holders, users)[row, 0]
    return Cast(
        blocks=tuple(blocks.tolist()),
        seconds=tuple((problem.air_bits(blocks) * per_bit).tolist()),
        holders=tuple(np.flatnonzero(air.senders(holders, users, row)[0]).tolist()),
        users=tuple(np.flatnonzero(users[0]).tolist()),
        after=tuple(places.get(parcel, ())),
    )


def _block_seconds(problem: SlotProblem, moves: tuple[Move, ...], casts: tuple[Cast, ...]) -> Float:
    """Time of each block on links and on the air, one after another, (blocks,), s."""
    seconds = np.zeros(problem.num_blocks)
    parts: tuple[Move | Cast, ...] = (*moves, *casts)
    for part in parts:
        seconds[list(part.blocks)] += part.seconds
    return seconds
