"""What the search changes, and what stands for a plan.

A plan follows from the options, the ways users are split, the turns of users, and a few nudges: first all
that the first user misses, then what the second still misses, and so on; within a turn by Johnson's rule.
Links carry parcels in that order; the band passes over what has not arrived if `swift` is set. All this is
derived for the links that a plan is made for, never for those it is judged on.
"""

from typing import NamedTuple

import numpy as np

from policy.interfaces import Bool, Float, Int


class Genes(NamedTuple):
    """What stands for a plan, one a row."""

    option: Int
    """Option of each parcel, (plans, parcels)."""
    way: Int
    """Way to split each set of users, (plans, sets)."""
    turn: Float
    """Turn of each user, (plans, users)."""
    nudge: Float
    """Turns by which a parcel goes later (or earlier, < 0) than its users say, (plans, parcels)."""
    lag: Int
    """Places by which a copy of what came from the cloud stands behind it in its link's queue, (plans,)."""
    swift: Bool
    """Whether the band passes over what has not arrived, (plans,)."""
    thread: Int
    """Line of search that the plan belongs to, (plans,)."""

    @property
    def size(self) -> int:
        """Plans."""
        return int(self.lag.size)

    def rows(self, which: Int) -> "Genes":
        """Some of the plans, as a copy."""
        return Genes._make(part[which] for part in self)


def joined(parts: list[Genes]) -> Genes:
    """All plans of some."""
    return Genes._make(map(np.concatenate, zip(*parts, strict=True)))
