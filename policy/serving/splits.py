"""How the users of a block may be split into groups that are served one after another, near ones first."""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.slot.rates import COMP, AirTimes

MOST_SETS = 16
"""Sets of users that are cut in two: those with most on the air."""
MOST_CUTS = 2
"""Ways to cut a set of users in two that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UserSets:
    """Sets of users that miss some block, and the ways to split each."""

    members: Bool
    """Users of each group, (groups, users)."""
    groups_of: tuple[Int, ...]
    """Groups that may be served of each set, (groups,) a set; the first is all of it."""
    ways: tuple[tuple[Bool, ...], ...]
    """Of each set: which of its groups each way serves, bool (groups,)."""

    @property
    def num_ways(self) -> Int:
        """Ways to split each set, (sets,): all at once is the first, each user alone the last."""
        return np.array([len(ways) for ways in self.ways], dtype=np.int64)


def user_sets(needs: Bool, weight: Float, nodes: int, air: AirTimes) -> UserSets:
    """List the ways to split each set of users.

    Args:
        needs: Distinct sets, (sets, users).
        weight: What each set has on the air, (sets,), bit.
        nodes: Nodes; users are near if all nodes together reach them fast.
        air: The radio of the slot.
    """
    users = np.flatnonzero(needs.any(axis=0))
    alone = np.zeros((users.size, needs.shape[1]), dtype=bool)
    alone[np.arange(users.size), users] = True
    far = np.full(needs.shape[1], np.inf)
    far[users] = air.per_bit(np.ones((users.size, nodes), dtype=bool), alone)[COMP]
    number: dict[tuple[int, ...], int] = {}
    groups_of: list[Int] = []
    ways: list[tuple[Bool, ...]] = []
    heavy = np.argsort(np.argsort(-weight, kind="stable")) < MOST_SETS
    for members, cut in zip(needs, heavy.tolist(), strict=True):
        splits = [
            [number.setdefault(tuple(sorted(group)), len(number)) for group in way]
            for way in _ways(np.flatnonzero(members), far, cut)
        ]
        once = list(dict.fromkeys(group for way in splits for group in way))
        groups_of.append(np.array(once, dtype=np.int64))
        ways.append(tuple(np.isin(groups_of[-1], way) for way in splits))
    table = np.zeros((len(number), needs.shape[1]), dtype=bool)
    for group, index in number.items():
        table[index, list(group)] = True
    return UserSets(members=table, groups_of=tuple(groups_of), ways=tuple(ways))


def _ways(users: Int, far: Float, cut: bool) -> list[list[list[int]]]:
    """All at once, a few cuts into near and far, each alone."""
    near_first = users[np.argsort(far[users], kind="stable")].tolist()
    ways = [[near_first]]
    if cut and len(near_first) > 2:
        ways += [[near_first[:near], near_first[near:]] for near in _cuts(far[near_first])]
    if len(near_first) > 1:
        ways.append([[user] for user in near_first])
    return ways


def _cuts(far: Float) -> list[int]:
    """Where to cut users in order of distance: by the sum of their delays if there were nothing else."""
    cut = np.arange(1, far.size)
    near, rest = far[cut - 1], far[-1]
    total = far.size * near + (far.size - cut) * rest
    return [int(c) for c in cut[np.argsort(total, kind="stable")][:MOST_CUTS]]
