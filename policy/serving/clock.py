"""Plans and when users have all they miss, for many plans at once.

A plan fixes everything but time: who holds each parcel, the order in which each link carries its transfers
and the order of broadcasts on the band. Then a start is the latest of a few ends, and an end is a start plus
a duration: a max-plus system. No end is later when a duration is shorter, so a faster link never slows a
plan. `policy.slot.timeline.run` is the same clock for one plan, with every transfer and broadcast.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving import kernels
from policy.serving.freight import Freight
from policy.serving.genes import Genes
from policy.serving.parts import Desk, desk_for
from policy.serving.plans import Climb, Lines, Plans


def planned(freight: Freight, genes: Genes, comp: Int, lines: Lines) -> tuple[Plans, Float]:
    """Plans that genes stand for on the links they are made for, and the sum of user delays of each.

    Args:
        freight: The slot.
        genes: What stands for each plan.
        comp: Row of `Freight.air_s`, (plans,).
        lines: Links that each is made for.

    Returns:
        The plans; sum over users of when they have all they miss, (plans,), s.
    """
    plans, delay_s = _blank(freight, genes), np.empty(genes.size)
    kernels.make_plans(freight.cargo, genes, lines, comp, plans, delay_s, _desk(freight, lines))
    return plans, delay_s


def timed(freight: Freight, plans: Plans, comp: Int, lines: Lines) -> Float:
    """Sum over users of when they have all they miss on some links, (plans,), s; arguments as above."""
    delay_s = np.empty(comp.size)
    kernels.time_plans(freight.cargo, plans, lines, comp, delay_s, _desk(freight, lines))
    return delay_s


def spread(freight: Freight, genes: Genes, comp: Int, lines: Lines, price: Float, allowed: Bool) -> Genes:
    """Choose the options of one parcel after another by when it would have been sent, seeing the queues.

    Args:
        freight: The slot.
        genes: Plans; their options are only used to order parcels.
        comp: Row of `Freight.air_s`, (plans,).
        lines: Links that each is made for.
        price: Of a copy, in units of its time, (plans,): links that are kept free help later parcels.
        allowed: Options that may be taken by each thread, (threads, parcels, options).
    """
    plans = _blank(freight, genes)
    kernels.spread(freight.cargo, genes, lines, comp, price, allowed, plans, _desk(freight, lines))
    return genes._replace(option=plans.option)


def climbed(
    freight: Freight, genes: Genes, delay_s: Float, comp: Int, lines: Lines, climb: Climb
) -> tuple[Genes, Float, Plans]:
    """Improve the plan of each thread by one small change after another, as long as none makes it slower.

    Args:
        freight: The slot.
        genes: A plan of each thread.
        delay_s: What they take, (threads,), s.
        comp: Row of `Freight.air_s`, (threads,).
        lines: Links that each is made for.
        climb: What may be changed and how often.

    Returns:
        The plans reached, what they take, and plans on the way.
    """
    genes, trial = (Genes._make(part.copy() for part in genes) for _ in range(2))
    delay_s, count = delay_s.copy(), np.zeros(genes.size, dtype=np.int64)
    kept = _blank(freight, genes.rows(np.repeat(np.arange(genes.size), climb.kept)))
    blank, desk = _blank(freight, genes), _desk(freight, lines)
    kernels.climb_up(freight.cargo, genes, trial, lines, comp, climb, blank, delay_s, kept, count, desk)
    return genes, delay_s, kept.rows(np.flatnonzero(np.arange(climb.kept) < count[:, None]))


def _blank(freight: Freight, genes: Genes) -> Plans:
    """Plans with the options of genes, the rest to be filled in."""
    (count, parcels), items = genes.option.shape, freight.item_parcel.size
    return Plans(
        option=genes.option.copy(),
        active=np.empty((count, items), dtype=np.bool_),
        moves=np.empty((count, 2 * parcels), dtype=np.int64),
        sends=np.empty((count, items), dtype=np.int64),
    )


def _desk(freight: Freight, lines: Lines) -> Desk:
    return desk_for(freight.cargo, lines, freight.sets.members.shape[1])
