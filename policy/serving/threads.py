"""Lines of search: each makes plans under some rules, for some links, whatever the slot is judged on.

Laws, by construction: a faster link, a further node that may hold, CoMP, migration, groups of users, sharing
of the air each never slow a slot. Rules only say which plans of the pool count and how long they are on the
air. Links only say how long plans take, and up to which rates plans are made: what is tried on slow links is
tried on fast ones too. And no plan takes longer under more (`clock`).
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.serving.freight import Freight
from policy.slot.rates import COMP, SINGLE

DECADES = tuple(10.0**power for power in range(4, 14))
"""Backhauls that plans are made for, bit/s: the rates that links are sold by."""
CLOUD_SHARES = (0.05, 0.1, 0.2, 0.5)
"""Clouds that plans are made for, as parts of the backhaul; none faster than the slowest of the next decade:
links that have a level have the one before it, too (`below`)."""
SLOWEST = 0.25
"""Links with a backhaul below this part of the band's rate in the slot are not planned for."""


MOST_DECADES = 4
NUM_LEVELS = MOST_DECADES * len(CLOUD_SHARES)
MAIN_STARTS = ((0, 0.03), (1, 0.1), (0, 0.5), (1, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rules that plans are made under."""

    comp: int
    """Row of `Freight.air_s`."""
    migration: bool
    groups: bool
    """Whether users may be split."""
    alone: bool = False
    """Whether each user is served alone."""
    steps: int
    """Changes tried in a round."""
    starts: tuple[tuple[int, float], ...] = ((1, 0.1), (1, 0.5))
    """Plans to start from: which `starts.start_turns`, and the price of a copy in units of its time."""
    ways: tuple[int, ...] = (0,)
    """Ways to split users in plans to start from; -1: each alone."""


KINDS = (
    Kind(comp=COMP, migration=True, groups=True, steps=200, starts=MAIN_STARTS, ways=(0, 1)),
    Kind(comp=SINGLE, migration=True, groups=True, steps=8),
    Kind(comp=COMP, migration=True, groups=False, steps=8),
    Kind(comp=COMP, migration=False, groups=True, steps=6, starts=((0, 0.0), (1, 0.0)), ways=(0, 1, -1)),
    Kind(comp=COMP, migration=True, groups=True, alone=True, steps=4, ways=(-1,)),
)
"""First all rules, which gets most of the effort, then one less. Twice weakened rules have hardly any."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Threads:
    """One line of search for each kind and level."""

    kind: Int
    """(threads,)."""
    level: Int
    """Number of the pair of link rates, steps of the backhaul x MOST_STEPS + steps of the cloud,
    (threads,)."""
    backhaul_bit_s: Float
    """Links that plans are made for, (threads,)."""
    cloud_bit_s: Float

    def of_kind(self, name: str) -> Int:
        """A property of the kind of each thread, (threads,)."""
        return np.array([getattr(kind, name) for kind in KINDS])[self.kind]


def threads_of(freight: Freight, links: LinkConfig) -> Threads:
    """Threads for a slot: the levels up to its links, the lowest at least, each with all kinds."""
    whole = freight.in_way[:, 0]
    band = float(freight.wire_bits.sum() / freight.air_s[COMP].min(axis=1)[whole].sum())
    lowest = min(bisect_left(DECADES, SLOWEST * band), len(DECADES) - 1)
    pairs = [(b, b * share) for b in DECADES[lowest:][:MOST_DECADES] for share in CLOUD_SHARES]
    slack = 1 + 1e-9
    used = [
        level
        for level, (b, c) in enumerate(pairs)
        if level == 0 or (b <= links.backhaul_bit_s * slack and c <= links.cloud_bit_s * slack)
    ]
    kind, level = (part.ravel() for part in np.meshgrid(np.arange(len(KINDS)), used, indexing="ij"))
    rates = np.array(pairs)[level]
    return Threads(kind=kind, level=level, backhaul_bit_s=rates[:, 0], cloud_bit_s=rates[:, 1])


def below(threads: Threads) -> Int:
    """Thread of the same kind that is made for links one level slower, (threads,); -1: none."""
    same = threads.kind[:, None] == threads.kind
    slower = same & (threads.level[:, None] == threads.level + 1)
    return np.where(slower.any(axis=1), slower.argmax(axis=1), -1)


def options_of(freight: Freight, threads: Threads) -> Bool:
    """Options that plans of each thread may take, (threads, parcels, options)."""
    still = freight.valid & (freight.copies == 0)
    return np.where(threads.of_kind("migration")[:, None, None], freight.valid, still)
