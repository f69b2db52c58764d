"""What goes on the air: the plan's broadcasts, put together where they go alike; and what is sent again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo.parts import Part
from pbstore import BlockId
from policy.interfaces import Bool
from policy.slot.dynamics import SlotOutcome
from policy.slot.timeline import Broadcast

CAST_BYTES = 4 << 20
"""Units that go to the same users from the same holders are sent as one object of up to so many bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CastPlan:
    """Units that go out as one object."""

    units: tuple[int, ...]
    alone: bool
    holders: tuple[int, ...]
    users: tuple[int, ...]
    seconds: float
    """Time on the air, s; 0: not planned, to be found."""
    is_repair: bool = False


def alone_of(outcome: SlotOutcome, units: int) -> Bool:
    """Units that are sent in the form that needs no other, (units,)."""
    return np.zeros(units, dtype=bool) if outcome.alone is None else outcome.alone


def casts_of(outcome: SlotOutcome, unit_bytes: Sequence[int]) -> Iterator[CastPlan]:
    """The plan's broadcasts in order, those put together that go alike and are ready at one time."""
    alone = alone_of(outcome, len(unit_bytes))
    came = {(move.target, move.block): move.end_s for move in outcome.transfers}
    group: list[Broadcast] = []

    def joins(cast: Broadcast) -> bool:
        first = group[0]
        alike = (cast.holders, cast.users) == (first.holders, first.users)
        alike = alike and bool(alone[cast.block]) == bool(alone[first.block])
        in_time = all(came.get((node, cast.block), 0.0) <= first.start_s for node in cast.holders)
        return alike and in_time and sum(unit_bytes[one.block] for one in (*group, cast)) <= CAST_BYTES

    for cast in outcome.broadcasts:
        if group and not joins(cast):
            yield _together(group, alone)
            group = []
        group.append(cast)
    if group:
        yield _together(group, alone)


def _together(group: Sequence[Broadcast], alone: Bool) -> CastPlan:
    first = group[0]
    return CastPlan(
        units=tuple(cast.block for cast in group),
        alone=bool(alone[first.block]),
        holders=first.holders,
        users=first.users,
        seconds=sum(cast.end_s - cast.start_s for cast in group),
    )


def repairs(lacking: Mapping[int, Sequence[BlockId]], units: Sequence[Sequence[Part]]) -> Iterator[CastPlan]:
    """Each block that users lack, in the form that needs no other, to all who lack it.

    Args:
        lacking: Blocks that each user lacks.
        units: Parts of each unit.
    """
    users_of: dict[BlockId, set[int]] = {}
    for user, blocks in lacking.items():
        for block_id in blocks:
            users_of.setdefault(block_id, set()).add(user)
    for unit, parts in enumerate(units):
        users: set[int] = set().union(*(users_of.get(part.block_id, set()) for part in parts))
        if users:
            told = tuple(sorted(users))
            yield CastPlan(units=(unit,), alone=True, holders=(), users=told, seconds=0.0, is_repair=True)
