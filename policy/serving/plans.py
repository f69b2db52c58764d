"""Plans of a slot, and the lines that they are timed on."""

from typing import NamedTuple

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.slot.problem import SlotProblem

IN_TURN: Float = np.ones(2)
"""`Lines.shares` where one block is sent after another."""


class Plans(NamedTuple):
    """Plans, one a row."""

    option: Int
    """Option of each parcel, (plans, parcels)."""
    active: Bool
    """Items that are sent, (plans, items): one way to split the users of each parcel."""
    moves: Int
    """Transfers in the order in which links take them, (plans, 2 x parcels): parcel p for its copies from a
    node that caches it, or from the cloud; parcels + p for copies of what came from the cloud; then -1."""
    sends: Int
    """Items in the order of the band, those not active anywhere, (plans, items)."""

    def rows(self, which: Int) -> "Plans":
        """Some of the plans."""
        return Plans._make(part[which] for part in self)


def joined_plans(parts: list[Plans]) -> Plans:
    """All plans of some."""
    return Plans._make(map(np.concatenate, zip(*parts, strict=True)))


class Lines(NamedTuple):
    """Rates of the links of each plan, and when lines are free."""

    backhaul_bit_s: Float
    """(plans,)."""
    cloud_bit_s: Float
    """(plans,)."""
    links_free: Float
    """(nodes,), s."""
    band_free_s: float
    sequential: bool
    """Whether all transfers come before all broadcasts."""
    shares: Float = IN_TURN
    """Rate of each of 0, 1, 2, ... broadcasts that are on the air at once, as a part of its rate alone; up to
    1: they are sent in turn."""

    @classmethod
    def of(
        cls, problem: SlotProblem, backhaul_bit_s: Float, cloud_bit_s: Float, shares: Float = IN_TURN
    ) -> "Lines":
        """The lines of a slot, but with other rates."""
        return cls(
            backhaul_bit_s=backhaul_bit_s,
            cloud_bit_s=cloud_bit_s,
            links_free=np.ascontiguousarray(problem.links_free, dtype=np.float64),
            band_free_s=float(problem.band_free_s),
            sequential=problem.timing == "sequential",
            shares=shares,
        )

    @classmethod
    def real(cls, problem: SlotProblem, plans: int, shares: Float = IN_TURN) -> "Lines":
        """The lines of a slot, for so many plans."""
        links = problem.links
        rates = np.full(plans, float(links.backhaul_bit_s)), np.full(plans, float(links.cloud_bit_s))
        return cls.of(problem, *rates, shares)


class Climb(NamedTuple):
    """What may be changed of the plan of each thread."""

    options: Int
    """Options of each parcel that may be taken, the first so many, (threads, parcels)."""
    allowed: Bool
    """The same, (threads, parcels, options)."""
    split: Bool
    """Whether users may be split otherwise, (threads,)."""
    steps: Int
    """Changes tried, (threads,)."""
    below: Int
    """Thread before it whose plan is tried, too, (threads,); -1: none."""
    seeds: Int
    """Of the draws, (threads,)."""
    kept: int
    """Plans on the way that are kept of each thread, the last so many."""
    all_kept: bool
    """Whether they are all that were tried, not only those that were better."""
