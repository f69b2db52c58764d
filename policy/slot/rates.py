"""Air time of one bit from a set of nodes to a set of users, asked of the radio once a slot."""

from dataclasses import dataclass, field

import numpy as np

from policy.interfaces import Bool, DelayModel, Float, checked_rates

COMP, SINGLE = 0, 1
"""Rows of what `AirTimes.per_bit` answers: with CoMP, and with one node sending."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AirTimes:
    """What the radio says of one slot, kept."""

    delay: DelayModel
    """The radio."""
    slot: int
    """Slot of the trace."""
    _known: dict[bytes, tuple[float, float, float]] = field(default_factory=dict, repr=False)

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
