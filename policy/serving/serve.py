"""A slot served with the best plan found."""

import numpy as np

from policy.interfaces import Bool, Float
from policy.serving.effort import Effort
from policy.serving.freight import Freight, freight_of
from policy.serving.joint import timeline_together, usual_shares
from policy.serving.plans import IN_TURN, Plans
from policy.slot.dynamics import SlotOutcome, outcome_of
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, SINGLE, AirTimes
from policy.slot.timeline import CLOUD, Cast, Move, Plan, Timeline

TOGETHER = 0.5
"""`Effort.share` where blocks may go at once: a plan takes longer to time then, and twice the changes bring
less than 1 % (training worlds 100 and 101 of v30 and default)."""


def serve_planned(problem: SlotProblem, air: AirTimes, effort: Effort | None = None) -> SlotOutcome:
    """Serve a slot whose transfers overlap with broadcasts, with the best plan found.

    Args:
        problem: The slot; its timing is pipelined or sequential.
        air: Its radio.
        effort: How long is searched.

    Raises:
        PlacementError: If nobody can send some block to all who miss it.
    """
    if not problem.wanted.size:
        return outcome_of(problem, Timeline(transfers=(), broadcasts=()), np.zeros(problem.num_blocks))
    from policy.serving.search import best_plan  # its kernels take a while to load

    freight = freight_of(problem, air)
    usual = usual_shares(problem, air) if problem.at_once > 1 else IN_TURN
    wide = usual.size > len(IN_TURN)
    chosen = best_plan(problem, freight, effort or Effort(share=TOGETHER if wide else 1.0), usual)
    plan = plan_in_full(problem, freight, chosen.plan, air)
    line = timeline_together(problem, plan, air, usual)
    return outcome_of(problem, line, _block_seconds(problem, plan.moves, plan.casts))


def plan_in_full(problem: SlotProblem, freight: Freight, plans: Plans, air: AirTimes) -> Plan:
    """The first of some plans with every transfer and broadcast."""
    moves, places = _moves(problem, freight, plans)
    return Plan(moves=moves, casts=_casts(problem, freight, plans, places, air))


def _moves(
    problem: SlotProblem, freight: Freight, plans: Plans
) -> tuple[tuple[Move, ...], dict[int, list[int]]]:
    """Transfers in their order, and the places of those of each parcel.

    A parcel has up to two turns: it comes from a cache or the cloud, and what came from the cloud is relayed.
    """
    at, option, links = np.arange(freight.num_parcels), plans.option[0], problem.links
    first = freight.first[at, option].tolist()
    to, bits = _members(freight.fetching[at, option]), problem.wire_bits(np.arange(problem.num_blocks))
    source = problem.cached[:, [part[0] for part in freight.blocks]].argmax(0)
    moves: list[Move] = []
    places: dict[int, list[int]] = {}
    for turn in plans.moves[0][plans.moves[0] >= 0].tolist():
        relayed, parcel = divmod(turn, freight.num_parcels)
        node = first[parcel]
        if relayed and node < 0:
            continue
        from_cloud = not relayed and node >= 0
        targets = (node,) if from_cloud else to[parcel]
        if not targets:
            continue
        blocks, rate = freight.blocks[parcel], links.cloud_bit_s if from_cloud else links.backhaul_bit_s
        names, seconds = tuple(blocks.tolist()), tuple((bits[blocks] / rate).tolist())
        came_from = CLOUD if from_cloud else node if relayed else int(source[parcel])
        after = places[parcel][0] if relayed else None
        places.setdefault(parcel, []).extend(range(len(moves), len(moves) + len(targets)))
        moves += [
            Move(blocks=names, seconds=seconds, source=came_from, target=target, after=after)
            for target in targets
        ]
    return tuple(moves), places


def _casts(
    problem: SlotProblem, freight: Freight, plans: Plans, places: dict[int, list[int]], air: AirTimes
) -> tuple[Cast, ...]:
    """Broadcasts in the order of the band."""
    row = COMP if problem.rules.comp else SINGLE
    items = plans.sends[0][plans.active[0, plans.sends[0]]]
    parcels = freight.item_parcel[items]
    holders: Bool = freight.holders[parcels, plans.option[0][parcels]]
    users: Bool = freight.sets.members[freight.item_group[items]]
    per_bit, senders = air.per_bit(holders, users)[row], air.senders(holders, users, row)
    bits = problem.air_bits(np.arange(problem.num_blocks))
    return tuple(
        Cast(
            blocks=tuple(freight.blocks[parcel].tolist()),
            seconds=tuple((bits[freight.blocks[parcel]] * seconds).tolist()),
            holders=sends,
            users=hears,
            after=tuple(places.get(parcel, ())),
        )
        for parcel, seconds, sends, hears in zip(
            parcels.tolist(), per_bit, _members(senders), _members(users), strict=True
        )
    )


def _members(table: Bool) -> list[tuple[int, ...]]:
    """Columns that are set in each row."""
    return [tuple(at for at, there in enumerate(row) if there) for row in table.tolist()]


def _block_seconds(problem: SlotProblem, moves: tuple[Move, ...], casts: tuple[Cast, ...]) -> Float:
    """Time of each block on links and on the air, one after another, (blocks,), s."""
    seconds = np.zeros(problem.num_blocks)
    parts: tuple[Move | Cast, ...] = (*moves, *casts)
    for part in parts:
        seconds[list(part.blocks)] += part.seconds
    return seconds
