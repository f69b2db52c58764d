"""Plans of a slot played with several blocks on the air at once, with what the radio says of each set."""

from collections.abc import Sequence

import numpy as np

from policy.interfaces import Float
from policy.serving.plans import IN_TURN
from policy.serving.together import Sendings, ends_of, part_of, schedule
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, MOST_TOGETHER, AirTimes, Party
from policy.slot.timeline import Broadcast, Plan, Timeline, carried, run

SAMPLES = 4
"""Sets of users of each size that the radio is asked of before plans are searched."""
PASSES = 3
"""Times a plan is timed: each finds sets of broadcasts of which the radio has not been asked; what is unknown
in the last one is not sent at once."""


def usual_shares(problem: SlotProblem, air: AirTimes) -> Float:
    """`Lines.shares` of a slot: what single users have when all nodes serve so many at once, on average.

    As far as more at once carry more together; `IN_TURN` where nothing is gained.
    """
    users = np.flatnonzero(problem.needs.any(axis=1))
    most = min(problem.at_once, users.size)
    if most < 2:
        return IN_TURN
    count, nodes = problem.needs.shape[0], problem.num_nodes
    per_bit = air.per_bit(np.ones((users.size, nodes), bool), np.arange(count) == users[:, None])[COMP]
    everywhere = tuple(range(nodes))
    heard = [
        Party(everywhere, (user,), 1.0 / seconds)
        for user, seconds in zip(users.tolist(), per_bit.tolist(), strict=True)
        if np.isfinite(seconds)
    ]
    sets = [
        [heard[(first + step) % len(heard)] for step in range(size)]
        for size in range(2, min(most, len(heard)) + 1)
        for first in range(min(SAMPLES, len(heard)))
    ]
    sizes = [[1.0], *([] for _ in range(most - 1))]
    for values in air.shares(sets, nodes, count):
        sizes[len(values) - 1].append(min(values.values()))
    shares = np.array([1.0, *(float(np.mean(each)) for each in sizes if each)])
    best = int((np.arange(shares.size) * shares).argmax())
    return shares[: best + 1] if best > 1 else IN_TURN


def timeline_together(problem: SlotProblem, plan: Plan, air: AirTimes, usual: Float) -> Timeline:
    """A plan with several blocks at once, or in turn if that is no slower for the users.

    Args:
        problem: The slot.
        plan: Its transfers and broadcasts.
        air: Its radio.
        usual: What is supposed of sets until the radio is asked, see `Lines.shares`.
    """
    links_free = problem.links_free.tolist()
    in_turn = run(plan, links_free, problem.band_free_s, problem.timing)
    if usual.size <= 2 or len(plan.casts) < 2:
        return in_turn
    transfers, ready_s = carried(plan, links_free, problem.timing)
    sendings = Sendings(
        seconds=[sum(cast.seconds) for cast in plan.casts],
        ready_s=ready_s,
        users=[_bits(cast.users) for cast in plan.casts],
    )
    broadcasts = _broadcasts(problem, plan, sendings, air, usual)
    together = Timeline(transfers=transfers, broadcasts=broadcasts)
    return min(in_turn, together, key=total_delay_s)


def _bits(users: tuple[int, ...]) -> int:
    """Users bit by bit; all bits where there are too many to be served beside others."""
    return sum(1 << user for user in users) if len(users) <= MOST_TOGETHER else -1


def total_delay_s(line: Timeline) -> float:
    """Sum over users of when they have all they miss, s."""
    ends: dict[int, float] = {}
    for cast in line.broadcasts:
        for user in cast.users:
            ends[user] = max(ends.get(user, 0.0), cast.end_s)
    return sum(ends.values())


def _broadcasts(
    problem: SlotProblem, plan: Plan, sendings: Sendings, air: AirTimes, usual: Float
) -> tuple[Broadcast, ...]:
    """When each block is on the air, by start."""
    parties = _parties(problem, plan, sendings)
    known: dict[frozenset[Party], dict[Party, float]] = {}
    for turn in range(PASSES):
        missing: dict[frozenset[Party], None] = {}

        def shares(
            chosen: tuple[int, ...],
            missing: dict[frozenset[Party], None] = missing,
            last: bool = turn == PASSES - 1,
        ) -> Sequence[float] | None:
            key = frozenset(parties[one] for one in chosen)
            if key in known:
                return [known[key][parties[one]] for one in chosen]
            missing[key] = None
            return None if last else [float(usual[len(chosen)])] * len(chosen)

        pieces = schedule(sendings, problem.band_free_s, usual.size - 1, shares)
        if not missing or turn == PASSES - 1:
            break
        keys = list(missing)
        rates = air.shares([tuple(key) for key in keys], problem.num_nodes, problem.needs.shape[0])
        known.update(zip(keys, rates, strict=True))
    sent = [
        Broadcast(
            block=block,
            holders=cast.holders,
            users=cast.users,
            start_s=start,
            end_s=end,
            pieces=part_of(parts, start, end),
        )
        for cast, parts in zip(plan.casts, pieces, strict=True)
        for block, (start, end) in zip(cast.blocks, ends_of(parts, cast.seconds), strict=True)
    ]
    return tuple(sorted(sent, key=lambda one: (one.start_s, one.end_s)))


def _parties(problem: SlotProblem, plan: Plan, sendings: Sendings) -> list[Party]:
    """Who sends each cast to whom, and how fast alone."""
    bits = problem.air_bits(np.arange(problem.num_blocks))
    return [
        Party(cast.holders, cast.users, float(bits[list(cast.blocks)].sum() / seconds))
        for cast, seconds in zip(plan.casts, sendings.seconds, strict=True)
    ]
