"""Air time of one bit from a set of nodes to a set of users, asked of the radio once a slot."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from policy.errors import RateError
from policy.interfaces import Bool, DelayModel, Float, JointDelay, checked_rates

COMP, SINGLE = 0, 1
"""Rows of what `AirTimes.per_bit` answers: with CoMP, and with one node sending."""
MOST_TOGETHER = 16
"""Users of a broadcast that may go on the air with others: more leave no room beside them."""


def apart(users: Bool) -> Bool:
    """Which sets of users, (sets, users), may be served at once: no user is in both, (sets, sets)."""
    members = users.astype(np.float32)
    small = users.sum(axis=1) <= MOST_TOGETHER
    return np.asarray((members @ members.T < 0.5) & small & small[:, None])


@dataclass(frozen=True, slots=True)
class Party:
    """One broadcast of several at once."""

    holders: tuple[int, ...]
    users: tuple[int, ...]
    alone_bit_s: float = field(compare=False)
    """Its rate alone, bit/s."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AirTimes:
    """What the radio says of one slot, kept."""

    delay: DelayModel
    """The radio."""
    slot: int
    """Slot of the trace."""
    _known: dict[bytes, tuple[float, float, float]] = field(default_factory=dict, repr=False)
    _shares: dict[frozenset[Party], dict[Party, float]] = field(default_factory=dict, repr=False)

    def per_bit(self, holders: Bool, users: Bool) -> Float:
        """Seconds a bit is on the air if some of the holders send it to all of the users.

        With CoMP all holders send together, or the best of them alone where that is faster.

        Args:
            holders: Who may send, (rows, nodes).
            users: Who receives, (rows, users).

        Returns:
            (2, rows), s per bit: with CoMP, and with one node sending; inf where somebody is out of reach.
        """
        return self._look_up(holders, users)[:2]

    def senders(self, holders: Bool, users: Bool, row: int) -> Bool:
        """Who of the holders sends, (rows, nodes); `row` is `COMP` or `SINGLE`."""
        together, alone, best = self._look_up(holders, users)
        single = np.arange(holders.shape[1]) == best[:, None]
        joint = (together < alone) & (row == COMP)
        return np.where(joint[:, None], holders, single)

    def shares(self, sets: Sequence[Sequence[Party]], nodes: int, users: int) -> list[dict[Party, float]]:
        """Rate of each broadcast of some sets, all of a set at once, as a part of its rate alone: up to 1.

        Args:
            sets: Broadcasts that are on the air at once.
            nodes: Nodes of the world.
            users: Users of the world.

        Raises:
            RateError: If a rate is NaN or negative, or the radio knows of no broadcasts at once.
        """
        keys = [frozenset(parties) for parties in sets]
        fresh = [key for key in dict.fromkeys(keys) if key not in self._shares]
        if fresh:
            self._shares.update(zip(fresh, self._ask_together(fresh, nodes, users), strict=True))
        return [self._shares[key] for key in keys]

    def _ask_together(
        self, sets: Sequence[frozenset[Party]], nodes: int, users: int
    ) -> list[dict[Party, float]]:
        if not isinstance(self.delay, JointDelay):
            raise RateError(f"{type(self.delay).__name__} knows of no broadcasts at once")
        rows = [sorted(parties, key=lambda one: (one.users, one.holders)) for parties in sets]
        most = max(map(len, rows))
        holders, hear = np.zeros((len(rows), most, nodes), bool), np.zeros((len(rows), most, users), bool)
        alone = np.ones((len(rows), most))
        for row, parties in enumerate(rows):
            for place, party in enumerate(parties):
                holders[row, place, list(party.holders)] = hear[row, place, list(party.users)] = True
                alone[row, place] = party.alone_bit_s
        rates = np.asarray(self.delay.together_bit_s(self.slot, holders, hear, alone), dtype=np.float64)
        wanted = hear.any(axis=2)
        if rates.shape != alone.shape or not (rates[wanted] >= 0).all():
            raise RateError(f"need {alone.shape} rates >= 0 bit/s of broadcasts at once, got {rates.shape}")
        part = np.minimum(rates / alone, 1.0).tolist()
        return [dict(zip(parties, values, strict=False)) for parties, values in zip(rows, part, strict=True)]

    def _look_up(self, holders: Bool, users: Bool) -> Float:
        """Seconds a bit with CoMP, by the best node alone, and that node, (3, rows)."""
        packed = np.packbits(np.concatenate([holders, users], axis=1), axis=1)
        keys = [row.tobytes() for row in packed]
        fresh = {key: row for row, key in enumerate(keys) if key not in self._known}
        if fresh:
            rows = list(fresh.values())
            answers = self._ask(holders[rows], users[rows])
            self._known.update(zip(fresh, zip(*answers.tolist(), strict=True), strict=True))
        return np.array([self._known[key] for key in keys]).reshape(-1, 3).T

    def _ask(self, holders: Bool, users: Bool) -> Float:
        """Ask the radio for all sets together and for every node of them alone, (3, rows)."""
        count, nodes = holders.shape
        row, node = np.nonzero(holders)
        alone = np.zeros((row.size, nodes), dtype=bool)
        alone[np.arange(row.size), node] = True
        pairs = np.concatenate([np.hstack([holders, users]), np.hstack([alone, users[row]])])
        once, back = np.unique(pairs, axis=0, return_inverse=True)
        rates = checked_rates(self.delay, self.slot, once[:, :nodes], once[:, nodes:])[back.reshape(-1)]
        single = np.zeros(holders.shape)
        single[row, node] = rates[count:]
        best = single.max(axis=1)
        with np.errstate(divide="ignore"):
            return np.stack(
                [1.0 / np.maximum(rates[:count], best), 1.0 / best, single.argmax(axis=1).astype(np.float64)]
            )
