"""What goes on the air: the plan's broadcasts, put together where they go alike; and what is sent again."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo.parts import Part
from pbstore import BlockId
from policy.interfaces import Bool
from policy.slot.dynamics import SlotOutcome
from policy.slot.timeline import Broadcast, Piece

CAST_BYTES = 4 << 20
"""Units that go to the same users from the same holders are sent as one object of up to so many bytes."""
MOMENT_S = 1e-9
"""Times that differ by less are one, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CastPlan:
    """Units that go out as one object."""

    units: tuple[int, ...]
    alone: bool
    holders: tuple[int, ...]
    users: tuple[int, ...]
    seconds: float
    """Time on the air with nothing beside it, s; 0: not planned, to be found."""
    is_repair: bool = False
    number: int = -1
    """Which of its slot it is, from 0; -1: it is not planned."""
    start_s: float = 0.0
    """When it begins, by the plan, s."""
    end_s: float = 0.0
    pieces: tuple[Piece, ...] = ()
    """When it is on the air, where the plan has blocks at once; else empty."""

    @property
    def on_air_s(self) -> float:
        """Time on the air, by the plan, s."""
        return sum(one.end_s - one.start_s for one in self.pieces) if self.pieces else self.seconds

    def is_beside(self, other: "CastPlan") -> bool:
        """Whether both are on the air at some time of the plan."""
        if min(self.end_s, other.end_s) - max(self.start_s, other.start_s) <= MOMENT_S:
            return False
        return any(
            min(mine.end_s, its.end_s) - max(mine.start_s, its.start_s) > MOMENT_S
            for mine in self.pieces
            for its in other.pieces
        )


def alone_of(outcome: SlotOutcome, units: int) -> Bool:
    """Units that are sent in the form that needs no other, (units,)."""
    return np.zeros(units, dtype=bool) if outcome.alone is None else outcome.alone


def casts_of(outcome: SlotOutcome, unit_bytes: Sequence[int]) -> list[CastPlan]:
    """The plan's broadcasts by their starts, those put together that go alike and are ready at one time.

    Where blocks are on the air at once, what goes to some users is put together beside what goes to others,
    as long as it is on the air without a break.
    """
    alone = alone_of(outcome, len(unit_bytes))
    came = {(move.target, move.block): move.end_s for move in outcome.transfers}

    def joins(group: Sequence[Broadcast], cast: Broadcast) -> bool:
        first = group[0]
        alike = (cast.holders, cast.users) == (first.holders, first.users)
        alike = alike and bool(alone[cast.block]) == bool(alone[first.block])
        in_time = all(came.get((node, cast.block), 0.0) <= first.start_s for node in cast.holders)
        fits = sum(unit_bytes[one.block] for one in (*group, cast)) <= CAST_BYTES
        return alike and in_time and fits and not _is_broken(group[-1], cast)

    groups: list[list[Broadcast]] = []
    going: list[list[Broadcast]] = []
    for cast in outcome.broadcasts:
        group = next((one for one in going if joins(one, cast)), None)
        if group is None:
            going = [one for one in going if one[-1].end_s > cast.start_s + MOMENT_S]
            groups.append(group := [])
            going.append(group)
        group.append(cast)
    return [_together(group, alone, number) for number, group in enumerate(groups)]


def _is_broken(before: Broadcast, cast: Broadcast) -> bool:
    """Whether the plan has something else on the air in the middle of a broadcast or before the next."""
    parts = (*before.pieces, *cast.pieces[:1])
    return any(next_.start_s - one.end_s > MOMENT_S for one, next_ in itertools.pairwise(parts))


def _together(group: Sequence[Broadcast], alone: Bool, number: int) -> CastPlan:
    first = group[0]
    return CastPlan(
        units=tuple(cast.block for cast in group),
        alone=bool(alone[first.block]),
        holders=first.holders,
        users=first.users,
        seconds=sum(cast.alone_s for cast in group),
        number=number,
        start_s=first.start_s,
        end_s=group[-1].end_s,
        pieces=tuple(piece for cast in group for piece in cast.pieces),
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
