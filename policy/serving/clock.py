"""When users have all they miss, for many plans at once.

A plan fixes everything but time: who holds each parcel, the order in which each link carries its transfers
and the order of broadcasts on the band. Then a start is the latest of a few ends, and an end is a start plus
a duration: a max-plus system. No end is later when a duration is shorter, so a faster link never slows a
plan. `policy.slot.timeline.run` is the same clock for one plan, with every transfer and broadcast.
"""

from dataclasses import dataclass

import numpy as np

from policy.config import Timing
from policy.interfaces import Bool, Float, Int
from policy.serving.freight import Freight
from policy.slot.problem import SlotProblem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plans:
    """Plans, one a row."""

    option: Int
    """Option of each parcel, (plans, parcels)."""
    active: Bool
    """Items that are sent, (plans, items): one way to split the users of each parcel."""
    moves: Int
    """Transfers in the order in which links take them, (plans, 2 x parcels): parcel p for its copies from a
    node that caches it, or from the cloud; parcels + p for copies of what came from the cloud."""
    sends: Int
    """Items in the order of the band, those not active anywhere, (plans, items)."""

    def rows(self, which: Int) -> "Plans":
        """Some of the plans."""
        return Plans(**{name: getattr(self, name)[which] for name in self.__slots__})


def joined_plans(parts: list[Plans]) -> Plans:
    """All plans of some."""
    names = Plans.__slots__
    return Plans(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lines:
    """Rates of the links of each plan, and when lines are free."""

    backhaul_bit_s: Float
    """(plans,)."""
    cloud_bit_s: Float
    """(plans,)."""
    links_free: Float
    """(nodes,), s."""
    band_free: float
    timing: Timing

    @classmethod
    def of(cls, problem: SlotProblem, backhaul_bit_s: Float, cloud_bit_s: Float) -> "Lines":
        """The lines of a slot, but with other rates."""
        return cls(
            backhaul_bit_s=backhaul_bit_s,
            cloud_bit_s=cloud_bit_s,
            links_free=problem.links_free,
            band_free=problem.band_free_s,
            timing=problem.timing,
        )

    @classmethod
    def real(cls, problem: SlotProblem, plans: int) -> "Lines":
        """The lines of a slot, for so many plans."""
        links = problem.links
        rates = np.full(plans, links.backhaul_bit_s), np.full(plans, links.cloud_bit_s)
        return cls.of(problem, *rates)


def air_times(freight: Freight, option: Int, comp: Int) -> Float:
    """Time on the air of every item, (plans, items), s; `comp` is a row of `Freight.air_s`, (plans,)."""
    items, options = freight.air_s.shape[1:]
    code = option[:, freight.item_parcel] + np.arange(items) * options + comp[:, None] * (items * options)
    return np.asarray(freight.air_s.ravel().take(code))


def ready_times(freight: Freight, option: Int, moves: Int, lines: Lines) -> Float:
    """When all holders have each parcel, (plans, parcels), s.

    Args:
        freight: The slot.
        option: See `Plans`.
        moves: See `Plans`.
        lines: The links.
    """
    (plans, parcels), options = option.shape, freight.holders.shape[1]
    rates, line = np.unique(lines.backhaul_bit_s + 1j * lines.cloud_bit_s, return_inverse=True)
    spent, at = freight.spent_s(rates.real, rates.imag), np.arange(parcels)
    copied = freight.copies[at, option] > 0
    steps = int((~freight.held).sum() + copied.sum(axis=1).max(initial=0))
    turn = np.ascontiguousarray(moves[:, :steps].T)
    relayed, parcel = np.divmod(turn, parcels)
    place, rows = parcel * plans, np.arange(plans)
    place += rows
    code = relayed + 2 * line
    code *= parcels
    code += parcel
    code *= options
    code += option.T.take(place)
    taken = spent.take(code, axis=1)
    ready = np.zeros(parcels * plans)
    free = np.repeat(lines.links_free[:, None], plans, axis=1)
    end = np.empty_like(free)
    for step, to in enumerate(place):
        came = ready.take(to)
        np.maximum(free, came, out=end)
        np.add(end, taken[:, step], out=end)
        np.maximum(free, end, out=free)
        ready[to] = np.maximum(np.maximum.reduce(end, axis=0), came)
    ready = ready.reshape(parcels, plans)
    if lines.timing == "sequential":
        ready[:] = ready.max(axis=0)
    return np.ascontiguousarray(ready.T)


def _moves_needed(freight: Freight, option: Int) -> Bool:
    """Which moves of each parcel there are, (plans, 2 x parcels)."""
    at = np.arange(freight.num_parcels)
    copied = freight.copies[at, option] > 0
    return np.concatenate([~freight.held | copied, ~freight.held & copied], axis=1)


def move_order(freight: Freight, option: Int, place: Int, lag: Int) -> Int:
    """Moves from the place of each parcel; those not needed come last.

    Args:
        freight: The slot.
        option: See `Plans`.
        place: Place of each parcel in the order of fetching, (plans, parcels).
        lag: Places by which a copy of what came from the cloud stands behind it, (plans,).
    """
    key = np.concatenate([2 * place, 2 * (place + lag[:, None]) + 1], axis=1)
    key = np.where(_moves_needed(freight, option), key, 2 * (place.shape[1] + int(lag.max(initial=0))) + 2)
    return np.argsort(_short(key), axis=1, kind="stable")


def _short(key: Int) -> "np.ndarray[tuple[int, int], np.dtype[np.int16 | np.int64]]":
    """Keys as 16-bit numbers if they fit: those are sorted by radix."""
    return key.astype(np.int16) if key.size == 0 or key.max() < 2**15 else key


def end_times(freight: Freight, plans: Plans, ready: Float, air_s: Float, lines: Lines) -> Float:
    """When each active item has been sent, (plans, items), s; -inf for the others.

    The end of the k-th is A_k + max over j <= k of (ready_j - A_(j-1)), with A the running sum of air times.
    """
    count, items = plans.sends.shape
    to = plans.sends + items * np.arange(count)[:, None]
    active = plans.active.take(to)
    air = air_s.take(to) * active
    sent = np.cumsum(air, axis=1)
    at = ready.take(freight.item_parcel[plans.sends] + freight.num_parcels * np.arange(count)[:, None])
    wait = np.maximum(at * active, lines.band_free)
    wait -= sent
    wait += air
    np.maximum.accumulate(wait, axis=1, out=wait)
    ends = np.empty_like(sent)
    ends.reshape(-1)[to] = np.where(active, sent + wait, -np.inf)
    return ends


def user_delays(freight: Freight, ends: Float) -> Float:
    """When each user who misses something has it all, (plans, such users), s; by number of user."""
    item, starts = freight.received
    return np.maximum.reduceat(ends.take(item, axis=1), starts, axis=1)
