"""A slot as the search sees it: parcels of blocks, who may hold each, and the broadcasts each may need."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.choices import holder_choices
from policy.serving.splits import UserSets, user_sets
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes

SHARES = 64
"""Blocks with the same users and holders travel as parcels of at most this part of all bytes, or one
block."""

UNHEARD_S = 1e12
"""Time on the air that stands for never, s: somebody is out of reach."""


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
    spent_tables: dict[bytes, Float] = field(default_factory=dict, repr=False)
    """What `spent_s` has said."""

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
    def waits(self) -> Float:
        """0 for links that an option's copies from nodes wait for, else -inf, (nodes, parcels, options)."""
        return np.ascontiguousarray(np.where(self.fetching, 0.0, -np.inf).transpose(2, 0, 1))

    def spent_s(self, backhaul_bit_s: Float, cloud_bit_s: Float) -> Float:
        """What moves put on each incoming link, s, (nodes, rates x 2 x parcels x options); -inf: nothing.

        The first of two moves of a parcel brings it from a caching node or the cloud, the second is a copy
        of what came from the cloud.

        Args:
            backhaul_bit_s: (rates,).
            cloud_bit_s: (rates,).
        """
        asked = backhaul_bit_s.tobytes() + cloud_bit_s.tobytes()
        if asked not in self.spent_tables:
            self.spent_tables[asked] = self._spent_s(backhaul_bit_s, cloud_bit_s)
        return self.spent_tables[asked]

    def _spent_s(self, backhaul_bit_s: Float, cloud_bit_s: Float) -> Float:
        nodes = self.holders.shape[2]
        bits, to = self.wire_bits[:, None, None], np.arange(nodes)
        hop, held = bits * (1.0 / backhaul_bit_s)[:, None, None, None], self.held[:, None, None]
        cloud = bits * (1.0 / cloud_bit_s)[:, None, None, None]
        relayed = np.where(self.fetching & ~held, hop, -np.inf)
        direct = np.where(self.fetching & held, hop, np.where(self.first[:, :, None] == to, cloud, -np.inf))
        table = np.stack([direct, relayed], axis=1)
        return np.ascontiguousarray(table.reshape(-1, nodes).T)

    @cached_property
    def receives(self) -> tuple[Int, Int]:
        """Users of each item, one item after another, and where each starts."""
        item, user = np.nonzero(self.sets.members[self.item_group])
        return user, np.flatnonzero(np.diff(item, prepend=-1))

    @cached_property
    def received(self) -> tuple[Int, Int]:
        """Items of each user who misses something, one user after another, and where each starts."""
        user, item = np.nonzero(self.sets.members[self.item_group].T)
        return item, np.flatnonzero(np.diff(user, prepend=-1))


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
