"""In which form each block travels in a slot: as it is kept (perhaps a delta), or alone, needing no other.

A block has one form for all who miss it in a slot, so that one broadcast serves them. What is kept as a delta
is small but drags its base along to users who lack it. The choice with the fewest bytes on the air is a
selection of projects: keeping block g in its small form gains `alone - kept` bytes and opens the bases that
some user of g lacks. The constraint matrix of that program is totally unimodular (Picard 1976, maximal
closure), so its linear relaxation has a whole optimum. The same program takes seconds in place of bytes: then
what the caches lack costs its way from the cloud, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from policy.config import RequestConfig
from policy.interfaces import BlockCatalog, BlockForms, Bool, Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """Who is sent what in one slot, and how."""

    needs: Bool
    """Which user is to receive which block, (users, blocks)."""
    alone: Bool
    """Blocks that are sent in the form that needs no other, (blocks,)."""

    @property
    def key(self) -> bytes:
        """What tells two ways to serve a slot apart."""
        return self.needs.tobytes() + self.alone.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """The deliveries of a whole trace."""

    slots: tuple[Delivery, ...]
    kept: Bool | None
    """Blocks on each device before each slot, (slots, users, blocks); None when devices keep nothing."""


class FormChoice:
    """Chooses the forms of a catalog's blocks, slot by slot."""

    def __init__(self, catalog: BlockCatalog) -> None:
        """Gather the blocks that travel in one form.

        Args:
            catalog: With `forms`.

        Raises:
            ValueError: If it has none.
        """
        if catalog.forms is None:
            raise ValueError("the catalog's blocks have one form each: there is nothing to choose")
        forms: BlockForms = catalog.forms
        labels, self._group = np.unique(forms.together, return_inverse=True)
        self._count = labels.size
        self.content = self._any(forms.content)
        """Which model is made of which group, (models, groups)."""
        self.members = self._any(catalog.members)
        self._block_bytes = (catalog.sizes_bytes, forms.alone_bytes)
        self.kept_bytes, self.alone_bytes = (
            np.bincount(self._group, sizes, self._count).astype(np.float64) for sizes in self._block_bytes
        )
        """Bytes of each group in either form, (groups,)."""
        self.requires = np.zeros((self._count, self._count), dtype=bool)
        """Which group in its kept form is useless without which, (groups, groups)."""
        self.requires[tuple(self._group[catalog.requires].T)] = True
        np.fill_diagonal(self.requires, False)
        self._all_required = self._closure()
        self._tied = self.requires.any(axis=1)

    def choose(self, wanted: Bool, has: Bool) -> tuple[Bool, Bool]:
        """Forms and receivers with the fewest bytes on the air; never more than with one form throughout.

        Args:
            wanted: Groups that the model each user asked for is made of, (users, groups).
            has: Groups on each device, (users, groups).

        Returns:
            Who receives which group, (users, groups), and the groups sent alone, (groups,).
        """
        plans = [self._least(wanted, has, self.kept_bytes, self.alone_bytes), *self._throughout()]
        resolved = [self.resolve(kept, wanted, has) for kept in plans]
        best = int(
            np.argmin([self.air_bytes(kept, needs) for kept, needs in zip(plans, resolved, strict=True)])
        )
        return resolved[best], self._alone(plans[best], resolved[best])

    def quick(
        self, wanted: Bool, has: Bool, placement: Bool, air_s: float, cloud_s: Sequence[float]
    ) -> list[tuple[Bool, Bool]]:
        """Forms and receivers that may be the fastest with given caches, to be tried on the slot's own clock.

        Each form throughout, and those with the least sum of time on the air and time from the cloud of what
        no node can send, at several prices of that time: it counts in full where nothing overlaps, less where
        the nodes' links and the band work side by side.

        Args:
            wanted: As for `choose`.
            has: As for `choose`.
            placement: Kept copies, (nodes, blocks).
            air_s: Seconds of one byte on the air.
            cloud_s: Prices of one byte from the cloud, each in seconds.

        Returns:
            As `choose` returns, for each.
        """
        kept_lacks, alone_lacks = self._lacking(placement)
        plans = self._throughout()
        for price in cloud_s:
            kept = air_s * self.kept_bytes + price * kept_lacks
            alone = air_s * self.alone_bytes + price * alone_lacks
            plans.append(self._least(wanted, has, kept, np.where(self._tied, alone, kept)))
        resolved = [self.resolve(kept, wanted, has) for kept in plans]
        return [(needs, self._alone(kept, needs)) for kept, needs in zip(plans, resolved, strict=True)]

    def _throughout(self) -> list[Bool]:
        """Each block alone, and each as kept."""
        return [np.asarray(~self._tied), np.ones(self._count, dtype=bool)]

    def _alone(self, kept: Bool, needs: Bool) -> Bool:
        return np.asarray(self._tied & ~kept & needs.any(axis=0))

    def _lacking(self, placement: Bool) -> tuple[Float, Float]:
        """Bytes of each group that no node can send, as kept and alone, (groups,)."""
        everything = np.ones(self._group.size, dtype=bool)
        absent = [~self.ready(placement, form).any(axis=0) for form in (~everything, everything)]
        kept, alone = (
            np.bincount(self._group, gone * sizes, self._count).astype(np.float64)
            for gone, sizes in zip(absent, self._block_bytes, strict=True)
        )
        return kept, alone

    def resolve(self, kept: Bool, wanted: Bool, has: Bool) -> Bool:
        """Who receives which group if those of `kept`, (groups,), travel as kept, (users, groups)."""
        return self._spread(wanted & ~has, self.requires & kept[:, None], has)

    def air_bytes(self, kept: Bool, needs: Bool) -> float:
        """Bytes sent, each group once however many users receive it."""
        return float(np.where(kept, self.kept_bytes, self.alone_bytes)[needs.any(axis=0)].sum())

    def ready(self, placement: Bool, alone: Bool) -> Bool:
        """Copies that can be sent in the slot's forms, (nodes, blocks).

        A node makes the form that needs no other block out of what it caches if it holds the block and all
        that its kept form needs.

        Args:
            placement: Kept copies, (nodes, blocks).
            alone: Blocks that are sent alone, (blocks,).
        """
        whole = ~self._any(~placement)
        able = whole & ((~whole).astype(np.int64) @ self._all_required.T == 0)
        return np.where(alone, able[:, self._group], placement)

    def blocks(self, groups: Bool) -> Bool:
        """From groups, (..., groups), to blocks, (..., blocks)."""
        return np.asarray(groups[..., self._group])

    def _least(self, wanted: Bool, has: Bool, kept_cost: Float, alone_cost: Float) -> Bool:
        """Groups that travel in their kept form at the least cost, (groups,); costs are (groups,)."""
        missed = wanted & ~has
        maybe = self._spread(missed, self.requires, has)
        gain = alone_cost - kept_cost
        worth = self._tied & maybe.any(axis=0) & (gain > 0)
        opened = ~missed.any(axis=0)  # would be sent only as a base
        lacks = (maybe.astype(np.int64).T @ (~has).astype(np.int64)) > 0
        group, base = np.nonzero(self.requires & worth[:, None] & lacks & opened)
        own = np.flatnonzero(worth & opened)
        chosen = ~self._tied | worth
        if group.size + own.size:
            pairs = np.array([np.concatenate([group, own]), np.concatenate([base, own])])
            chosen[worth] = self._select(pairs, gain, alone_cost)[worth]
        return chosen

    def _select(self, pairs: Int, gain: Float, price: Float) -> Bool:
        """Projects worth their items: row 0 of `pairs` has a project, row 1 an item that it opens."""
        many, row = 2 * self._count, np.arange(pairs.shape[1])
        items = np.unique(pairs[1])
        cost = np.zeros(many)
        cost[: self._count] = -gain
        cost[self._count + items] = price[items]
        entries = np.concatenate([np.ones(row.size), -np.ones(row.size)])
        place = (np.concatenate([row, row]), np.concatenate([pairs[0], self._count + pairs[1]]))
        best = linprog(  # type: ignore[call-overload, unused-ignore]  # the stubs know no sparse rows
            cost,
            A_ub=coo_array((entries, place), shape=(row.size, many)).tocsr(),
            b_ub=np.zeros(row.size),
            bounds=(0, 1),
            method="highs",
        )
        return np.asarray(best.x[: self._count] > 0.5)

    def _spread(self, needs: Bool, requires: Bool, has: Bool) -> Bool:
        """Add what is required and lacking until nothing is."""
        edges = requires.astype(np.int64)
        while True:
            wider = needs | ((needs.astype(np.int64) @ edges > 0) & ~has)
            if (wider == needs).all():
                return wider
            needs = wider

    def _closure(self) -> Bool:
        reach = self.requires
        while True:
            wider = reach | (reach.astype(np.int64) @ reach.astype(np.int64) > 0)
            if (wider == reach).all():
                return wider
            reach = wider

    def _any(self, table: Bool) -> Bool:
        """Groups any of whose blocks is set, (rows, groups)."""
        groups = np.zeros((table.shape[0], self._count), dtype=bool)
        row, block = np.nonzero(table)
        groups[row, self._group[block]] = True
        return groups


def deliveries(requests: Int, choice: FormChoice, config: RequestConfig) -> Delivered:
    """Forms of a whole trace; what devices keep follows from what they were sent, see `DeliveryFold`.

    Args:
        requests: Model each user asks for, -1 for none, (slots, users).
        choice: The catalog's forms.
        config: `keep_downloads` and `device_bytes`.
    """
    fold = DeliveryFold(choice, config, requests.shape[1])
    for asked in requests:
        fold.add(asked)
    return fold.delivered()


class DeliveryFold:
    """Forms of the deliveries of a trace that grows slot by slot.

    After a slot a device holds, while there is room, the blocks that it used most recently, each at the bytes
    it was sent in, and whole groups only.
    """

    def __init__(self, choice: FormChoice, config: RequestConfig, num_users: int) -> None:
        """Start with empty devices."""
        self._choice, self._config = choice, config
        groups = choice.kept_bytes.size
        self._used, self._held_bytes = np.full((num_users, groups), -1), np.zeros((num_users, groups))
        self._before = self._used >= 0
        self._sent: list[Delivery] = []
        self._kept: list[Bool] = []

    def add(self, asked: Int) -> None:
        """Take the next slot's requests, (users,), -1 for none."""
        choice = self._choice
        has = self._before = self._used >= 0
        self._kept.append(choice.blocks(has))
        wanted, needs, alone = self._chosen(asked)
        self._sent.append(Delivery(choice.blocks(needs), choice.blocks(alone)))
        if self._config.keep_downloads:
            members = choice.members[np.maximum(asked, 0)] & has
            self._keep(asked, (wanted | needs | members) & (asked >= 0)[:, None], needs, alone)

    def see(self, asked: Int) -> None:
        """Let the needs of the last slot be those of these requests; what devices hold after it stays."""
        _, needs, alone = self._chosen(asked)
        self._sent[-1] = Delivery(self._choice.blocks(needs), self._choice.blocks(alone))

    def _chosen(self, asked: Int) -> tuple[Bool, Bool, Bool]:
        """What requests of the last slot want, need and get alone, in groups."""
        wanted = self._choice.content[np.maximum(asked, 0)] & (asked >= 0)[:, None]
        return (wanted, *self._choice.choose(wanted, self._before))

    def delivered(self) -> Delivered:
        """All slots so far."""
        return Delivered(tuple(self._sent), np.array(self._kept) if self._config.keep_downloads else None)

    def ahead(self) -> Delivered:
        """All slots so far, and one more in which nobody asks: what devices keep before the coming slot."""
        nobody = np.zeros(self._used.shape, dtype=bool)
        sent = (*self._sent, Delivery(self._choice.blocks(nobody), self._choice.blocks(nobody[0])))
        if not self._config.keep_downloads:
            return Delivered(sent, None)
        return Delivered(sent, np.array([*self._kept, self._choice.blocks(self._used >= 0)]))

    def _keep(self, asked: Int, touched: Bool, needs: Bool, alone: Bool) -> None:
        choice, used, slot = self._choice, self._used, len(self._sent) - 1
        used[touched] = slot
        sizes = np.where(alone, choice.alone_bytes, choice.kept_bytes)
        self._held_bytes[needs] = sizes[np.nonzero(needs)[1]]
        for user in np.flatnonzero(asked >= 0):
            newest = np.argsort(-used[user], kind="stable")
            filled = np.cumsum(np.where(used[user] >= 0, self._held_bytes[user], 0.0)[newest])
            used[user, newest[filled > self._config.device_bytes]] = -1


def always_alone(catalog: BlockCatalog) -> BlockCatalog:
    """The same models with every block kept and sent in the form that needs no other: no deltas.

    Raises:
        ValueError: If the catalog says nothing of such a form.
    """
    if catalog.forms is None:
        raise ValueError("the catalog does not say how large its blocks are on their own")
    used = catalog.forms.content.any(axis=0)
    if not used.all():
        raise ValueError(f"block {int(np.flatnonzero(~used)[0])} is in no model's content")
    return BlockCatalog(
        sizes_bytes=catalog.forms.alone_bytes,
        members=catalog.forms.content,
        model_names=catalog.model_names,
        block_names=catalog.block_names,
        whole_bytes=catalog.whole_bytes,
    )
