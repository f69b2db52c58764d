"""A slot as the search sees it: parcels of blocks, who may hold each, and the broadcasts each may need."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.choices import holder_choices
from policy.serving.splits import UserSets, user_sets
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes, apart

SHARES = 128
"""Blocks with the same users and holders travel as parcels of at most this part of all bytes, or one
block."""

UNHEARD_S = 1e12
"""Time on the air that stands for never, s: somebody is out of reach."""


class Cargo(NamedTuple):
    """What the clock reads of a `Freight`."""

    wire_bits: Float
    held: Bool
    first: Int
    copies: Int
    target_start: Int
    """Where the nodes that fetch from a node start in `target`, (parcels x options + 1,)."""
    target: Int
    item_parcel: Int
    item_group: Int
    first_item: Int
    """With the number of items at the end, (parcels + 1,)."""
    group_start: Int
    """Where the users of each group start in `group_user`, (groups + 1,)."""
    group_user: Int
    kind: Int
    in_way: Bool
    air_s: Float
    bundle: Int
    chance: Float
    """That a change starts at this parcel or one before, (parcels,)."""
    num_ways: Int
    """Ways to split each set of users, (sets,)."""
    apart: Bool
    """`Freight.apart`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Freight:
    """All that can be chosen in a slot, in arrays.

    An item is one parcel sent to one set of users. An option of a parcel is a set of nodes that hold it, and
    the node that fetches it from the cloud if nobody caches it.
    """

    blocks: tuple[Int, ...]
    """Blocks of each parcel."""
    wire_bits: Float
    """(parcels,), bit."""
    held: Bool
    """Whether some node caches it, (parcels,)."""
    bundle: Int
    """Parcels of one bundle have the same users and caching nodes, (parcels,)."""
    sets: UserSets
    """Users, and how those of a parcel may be split."""
    kind: Int
    """Set of users of each parcel, (parcels,)."""
    holders: Bool
    """Of each option, (parcels, options, nodes)."""
    fetching: Bool
    """Nodes that fetch from a node, (parcels, options, nodes)."""
    first: Int
    """Node that fetches from the cloud, (parcels, options); -1 where nobody does."""
    valid: Bool
    """Whether there is such an option, (parcels, options)."""
    item_parcel: Int
    """(items,); items of one parcel stand together."""
    item_group: Int
    """Group of users of each item, (items,)."""
    in_way: Bool
    """Whether an item is sent if its users are split in a way, (items, ways)."""
    first_item: Int
    """First item of each parcel, (parcels,)."""
    air_s: Float
    """Time on the air, (2, items, options), s: with CoMP, and with one node sending."""
    apart: Bool
    """Groups that may be served at once, (groups, groups); (0, 0) where blocks are sent in turn."""

    @property
    def num_parcels(self) -> int:
        """Parcels."""
        return int(self.wire_bits.size)

    @cached_property
    def copies(self) -> Int:
        """Copies from node to node that each option needs, (parcels, options)."""
        return np.asarray(self.fetching.sum(axis=2))

    @cached_property
    def fetches(self) -> Bool:
        """Nodes that fetch from a node or from the cloud, (parcels, options, nodes)."""
        return np.asarray(self.fetching | (self.first[:, :, None] == np.arange(self.holders.shape[2])))

    @cached_property
    def cargo(self) -> Cargo:
        """The slot as the clock sees it."""
        parcel, option, node = np.nonzero(self.fetching)
        group, user = np.nonzero(self.sets.members)
        weight = self.wire_bits + self.wire_bits.mean()
        options, groups = self.holders.shape[1], self.sets.members.shape[0]
        arrays = Cargo(
            wire_bits=self.wire_bits,
            held=self.held,
            first=self.first,
            copies=self.copies,
            target_start=_starts(parcel * options + option, self.num_parcels * options),
            target=node,
            item_parcel=self.item_parcel,
            item_group=self.item_group,
            first_item=np.append(self.first_item, self.item_parcel.size),
            group_start=_starts(group, groups),
            group_user=user,
            kind=self.kind,
            in_way=self.in_way,
            air_s=self.air_s,
            bundle=self.bundle,
            chance=np.cumsum(weight / weight.sum()),
            num_ways=self.sets.num_ways,
            apart=self.apart,
        )
        return Cargo._make(map(np.ascontiguousarray, arrays))


def _starts(number: Int, count: int) -> Int:
    """Where each of so many numbers starts in a sorted list, and its end, (count + 1,)."""
    return np.searchsorted(number, np.arange(count + 1))


def freight_of(problem: SlotProblem, air: AirTimes) -> Freight:
    """Sort the missed blocks of a slot into parcels and list what may be done with each."""
    blocks, bundle = _parcels(problem)
    lead = np.array([part[0] for part in blocks], dtype=np.int64)
    needs, kind = np.unique(problem.needs[:, lead].T, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    weight = np.array([problem.air_bits(part).sum() for part in blocks])
    sets = user_sets(needs, np.bincount(kind, weights=weight).astype(np.float64), problem.num_nodes, air)
    cached = problem.cached[:, lead].T
    choices = holder_choices(cached, needs[kind], problem, air)
    groups = [sets.groups_of[number] for number in kind.tolist()]
    counts = np.array([len(parts) for parts in groups])
    item_parcel = np.repeat(np.arange(lead.size), counts)
    item_group = np.concatenate(groups)
    per_bit = _per_bit(choices.holders[item_parcel], choices.valid[item_parcel], item_group, sets, air)
    fetching = choices.holders & ~cached[:, None, :]
    row, option = np.nonzero(choices.first >= 0)
    fetching[row, option, choices.first[row, option]] = False
    return Freight(
        blocks=tuple(blocks),
        wire_bits=np.array([problem.wire_bits(part).sum() for part in blocks]),
        held=np.asarray(cached.any(axis=1)),
        bundle=bundle,
        sets=sets,
        kind=kind,
        holders=choices.holders,
        fetching=fetching,
        first=choices.first,
        valid=choices.valid,
        item_parcel=item_parcel,
        item_group=item_group,
        in_way=_in_way(sets, kind),
        first_item=np.concatenate([[0], np.cumsum(counts)[:-1]]),
        air_s=np.minimum(per_bit * weight[item_parcel][:, None], UNHEARD_S),
        apart=apart(sets.members) if problem.at_once > 1 else np.zeros((0, 0), dtype=bool),
    )


def _parcels(problem: SlotProblem) -> tuple[list[Int], Int]:
    """Blocks of each parcel, and its bundle."""
    wanted = problem.wanted
    alike = np.concatenate([problem.needs[:, wanted], problem.cached[:, wanted]]).T
    bundle = np.unique(alike, axis=0, return_inverse=True)[1].reshape(-1)
    bits = problem.wire_bits(wanted) + problem.air_bits(wanted)
    most = bits.sum() / SHARES
    parcels, of = [], []
    for number in range(int(bundle.max(initial=-1)) + 1):
        rows = np.flatnonzero(bundle == number)
        part = np.floor((np.cumsum(bits[rows]) - bits[rows]) / most)
        cuts = np.flatnonzero(np.diff(part)) + 1
        for piece in np.split(rows, cuts):
            parcels.append(wanted[piece])
            of.append(number)
    return parcels, np.array(of, dtype=np.int64)


def _in_way(sets: UserSets, kind: Int) -> Bool:
    """`Freight.in_way`; ways that a set does not have are as its last."""
    most = int(sets.num_ways.max())
    tables = [np.array([ways[min(way, len(ways) - 1)] for way in range(most)]).T for ways in sets.ways]
    return np.concatenate([tables[of] for of in kind.tolist()])


def _per_bit(holders: Bool, valid: Bool, group: Int, sets: UserSets, air: AirTimes) -> Float:
    """Air time of one bit of each item under each option, (2, items, options), s; inf where there is none."""
    items, options, nodes = holders.shape
    distinct, of = np.unique(np.packbits(holders.reshape(-1, nodes), axis=1), axis=0, return_inverse=True)
    unpacked = np.unpackbits(distinct, axis=1, count=nodes).astype(bool)
    pair = group[:, None] * distinct.shape[0] + of.reshape(items, options)
    code, back = np.unique(pair, return_inverse=True)
    senders, receivers = unpacked[code % distinct.shape[0]], sets.members[code // distinct.shape[0]]
    seconds = air.per_bit(senders, receivers)[:, back.reshape(items, options)]
    return np.where(valid, seconds, np.inf)
