"""How long users wait in a slot, in a few numbers: a small network distilled from served slots.

The pipelined clock of `policy.serving` is a search; deciding what to cache needs its answer for thousands of
placements. Users are served one after another, those with least to wait for first, and many who wait for the
same before few (`ImaginedSlots.in_turn`). By the time that one of them is done, band and links have done all
work up to there: its delay is the largest of a few sums over the blocks sent so far (a maxout network,
Goodfellow et al., 2013). In each unit a block counts its seconds on the band, on a backhaul link and from the
cloud at the unit's prices, with the holders that are cheapest at these prices. Prices that are at most 1
together, a link's once for each node, give a lower bound on what any serving takes (weak duality); trained
ones are near the mean of what ours takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.learn.request_statistics import Single
from policy.learn.value import Classes

BOUND = ((1.0, 0.0), (1.0, 0.1), (1.0, 0.3), (1.0, 0.8), (0.0, 0.25))
"""Untrained units: price of the band, and of each link."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotClock:
    """Prices of a second on the band, on the backhaul link of one node and from the cloud, (units, 3)."""

    prices: Float

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Single]) -> "SlotClock":
        """Read what `demo.experiments.slot_clock` trained."""
        return cls(np.asarray(tensors["clock.prices"], dtype=np.float64))

    @classmethod
    def bound(cls, nodes: int) -> "SlotClock":
        """Untrained: prices that bound every serving from below."""
        return cls(np.array([np.array([b, link, link]) / (b + nodes * link) for b, link in BOUND]))

    def costs(self, air: Single, links: LinkConfig, migration: bool = True) -> Single:
        """Priced seconds a bit of each class under each set of caching nodes.

        Args:
            air: Time on the air of a bit of each class, (2^nodes, classes, samples), s; 0 where nobody misses
                it; see `policy.learn.value.class_times`.
            links: Backhaul and cloud.
            migration: Whether nodes may fetch from one another.

        Returns:
            (units, 2^nodes, classes, samples), s.
        """
        sets = air.shape[0]
        nodes, wanted = sets.bit_length() - 1, air[-1] > 0
        costs = np.empty((len(self.prices), *air.shape), dtype=np.float32)
        for cost, (band, hop, cloud) in zip(costs, self.prices.tolist(), strict=True):
            np.multiply(air, np.float32(band), out=cost)
            cost[0] = np.inf
            fetch = np.float32(hop / links.backhaul_bit_s)
            for node in range(nodes if migration else 0):
                view = cost.reshape(sets >> (node + 1), 2, 1 << node, *wanted.shape)
                np.minimum(view[:, 0], view[:, 1] + fetch, out=view[:, 0])
            cost[0] = cost[1 << np.arange(nodes)].min(axis=0) + np.float32(cloud / links.cloud_bit_s)
        costs *= wanted
        return costs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImaginedSlots:
    """Sampled slots, priced: how long their users wait under any placement."""

    cost_s: Single
    """See `SlotClock.costs`, (units, 2^nodes, classes, samples), s per bit."""
    sent: Single
    """1 for classes that are sent before the user in a turn is done, (samples, turns, classes)."""
    weight: Single
    """What each turn's delay counts in the mean over users and samples, (samples, turns)."""
    misses: Single | None = None
    """1 for classes that a user misses, (samples, users, classes); None: turns stay as they are."""
    alone: Single | None = None
    """The same if the user is sent blocks in their other form; None: they have one."""

    def in_turn(self, bits: Float) -> "ImaginedSlots":
        """The same slots with users in the order that suits a placement.

        Always the one comes next whose blocks, as far as they were not sent to others, take least at the mean
        of all prices for what they bring: a user counts with the part of what it still misses that comes with
        them. So who finds all in the caches does not wait for who does not, and few do not go before many
        who miss the same. Ties: the first user.

        Args:
            bits: Bits of each class that each set of nodes holds, (2^nodes, classes).
        """
        if self.misses is None:
            return self
        work = np.einsum("umcs,mc->sc", self.cost_s, bits.astype(np.float32), optimize=True)
        best = replace(self, sent=_in_turn(work, self.misses[:, None], self.sent.shape[1]))
        if self.alone is None:
            return best
        both = np.stack([self.misses, self.alone], axis=1)
        other = replace(self, sent=_in_turn(work, both, self.sent.shape[1]))
        less = other.delays(bits) < best.delays(bits)
        return replace(self, sent=np.where(less[:, None, None], other.sent, best.sent))

    def waits(self, bits: Float) -> Single:
        """What each unit says of the delay of each turn, (units, samples, turns), s.

        Args:
            bits: Bits of each class that each set of nodes holds, (2^nodes, classes).
        """
        work = np.einsum("umcs,mc->ucs", self.cost_s, bits.astype(np.float32), optimize=True)
        return np.asarray(np.einsum("stc,ucs->ust", self.sent, work, optimize=True))

    def delays(self, bits: Float) -> Single:
        """Mean delay of a user in each sample, (samples,), s: the largest of the units counts."""
        each = (self.waits(bits).max(axis=0) * self.weight).sum(axis=1)
        return np.asarray(each * len(self.weight))

    def mean_delay_s(self, bits: Float) -> float:
        """Mean delay of a user over all samples, s."""
        return float(self.delays(bits).mean())

    def marginal(self, share: Single) -> Float:
        """Seconds a bit of each class under each set of nodes, (2^nodes, classes).

        Args:
            share: How much each unit counts in each turn, (units, samples, turns).
        """
        return self.priced(self.counts(share))

    def counts(self, share: Single) -> Single:
        """How much each unit's price of each class counts, (units, classes, samples); `share` as above."""
        return np.asarray(np.einsum("ust,stc->ucs", share, self.sent, optimize=True))

    def priced(self, counts: Single) -> Float:
        """Seconds a bit of each class under each set of nodes, (2^nodes, classes); see `counts`."""
        return np.asarray(np.einsum("ucs,umcs->mc", counts, self.cost_s, optimize=True), dtype=np.float64)

    def binding(self, bits: Float) -> Single:
        """The share of the unit that is largest in each turn: its weight; the others 0."""
        waits = self.waits(bits)
        largest = np.arange(waits.shape[0])[:, None, None] == waits.argmax(axis=0)
        return np.asarray(largest * self.weight)


def _in_turn(work: Single, forms: Single, turns: int) -> Single:
    """What is sent by the end of each turn, see `ImaginedSlots.in_turn`, (samples, turns, classes).

    Args:
        work: What each class takes, (samples, classes), s.
        forms: 1 for classes that a user misses in each form, (samples, forms, users, classes).
        turns: How many.
    """
    samples, _, users, classes = forms.shape
    forms, waiting = forms.reshape(samples, -1, classes), forms[:, 0].max(axis=2)
    seconds, rows = forms * work[:, None, :], np.arange(samples)
    sent, done = np.empty((samples, turns, classes), dtype=work.dtype), np.zeros_like(work)
    for turn in range(turns):
        still = 1.0 - done
        left = np.matmul(seconds, still[:, :, None]).reshape(samples, -1, users)
        first = np.arange(left.shape[1])[:, None] == left.argmin(axis=1)[:, None]  # the cheaper form counts
        each = np.divide(first * waiting[:, None], left, out=np.zeros_like(left), where=left > 0)
        part = np.matmul(each.reshape(samples, 1, -1), seconds)[:, 0] * still  # parts of users, a class
        brought = np.matmul(forms, part[:, :, None]).reshape(left.shape)
        cost = np.divide(left, brought, out=np.zeros_like(left), where=brought > 0)
        cost[(brought <= 0) & (left > 0) | (waiting[:, None] <= 0)] = np.inf
        chosen = cost.reshape(samples, -1).argmin(axis=1)
        waits = waiting[rows, chosen % users, None]  # 0 where nobody waits any more
        done = np.maximum(done, waits * forms[rows, chosen])
        waiting[rows, chosen % users] = 0.0
        sent[:, turn] = done
    return sent


def turns_of(
    asked: Int, fastest: Single, of: Classes, class_bits: Float, kept: Bool | None
) -> tuple[Single, Single, Single]:
    """Turns of the users in each sample, those with least to wait for first if all nodes hold all.

    Args:
        asked: Model of each user, -1 for none, (samples, users).
        fastest: Time on the air of a bit to each user if all nodes send, (samples, users), s.
        of: The classes.
        class_bits: Bits of each class, (classes,).
        kept: Classes on each device, (users, classes); None: devices keep nothing.

    Returns:
        `sent`, `weight` and `misses` of `ImaginedSlots`.
    """
    needs = np.vstack([of.members, np.zeros((1, of.members.shape[1]), dtype=bool)])[asked]
    if kept is not None:
        needs &= ~kept
    misses: Bool = np.asarray(needs.any(axis=2))
    alone = np.where(misses, (needs @ class_bits) * fastest, np.inf)
    order = np.argsort(alone, axis=1, kind="stable")[:, : max(1, int(misses.sum(axis=1).max()))]
    rows = np.arange(asked.shape[0])[:, None]
    sent = np.maximum.accumulate(needs[rows, order], axis=1).astype(np.float32)
    users = np.maximum((asked >= 0).sum(axis=1, keepdims=True), 1)
    weight = misses[rows, order] / (users * asked.shape[0])
    return sent, weight.astype(np.float32), needs.astype(np.float32)


def alone_of(asked: Int, of: Classes) -> Single | None:
    """`alone` of `ImaginedSlots`; None where classes have one form.

    Args:
        asked: Model of each user, -1 for none, (samples, users).
        of: The classes.
    """
    if of.alone is None:
        return None
    needs = np.vstack([of.alone, np.zeros((1, of.alone.shape[1]), dtype=bool)])[asked]
    return needs.astype(np.float32)
