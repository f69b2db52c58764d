"""Several blocks on the air at once, each for users of its own: who is sent what when, for one plan.

Broadcasts keep the plan's order. At any time those are on the air that come first among the ready ones, as
far as their users differ from those of the ones before, up to so many. Each then has a part of the rate that
it has alone. One that becomes ready may push a later one aside, which goes on where it was: blocks are sent
in coded symbols that may come with gaps between. What this takes is compared with sending in turn by who
calls, so that no plan is slower for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float
from policy.slot.timeline import Piece

WINDOW = 24
"""Broadcasts behind the first that are looked at for what may go with it."""
DONE = 1e-9
"""What is left of a broadcast, as a part of it, that is nothing."""
WORTH = 0.1
"""By what one more broadcast on the air has to raise the sum of their shares."""

Shares = Callable[[tuple[int, ...]], Sequence[float] | None]
"""Rate of each of some broadcasts that are on the air at once, as a part of its rate alone; None: not at
once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sendings:
    """Broadcasts of a plan in its order."""

    seconds: Sequence[float]
    """Time on the air alone, s."""
    ready_s: Sequence[float]
    """When its senders have each, s."""
    users: Sequence[int]
    """Users of each, bit by bit; those that share no bit may be on the air at once."""


def schedule(sendings: Sendings, band_free_s: float, most: int, shares: Shares) -> list[list[Piece]]:
    """When each broadcast is on the air.

    Args:
        sendings: What is sent.
        band_free_s: When the band is free, s.
        most: Broadcasts at once at most.
        shares: What each has of its rate alone.
    """
    left, pieces = list(sendings.seconds), [list[Piece]() for _ in sendings.seconds]
    waiting, now = list(range(len(left))), band_free_s
    while waiting:
        chosen, part, soon = _crowd(sendings, waiting, now, most, shares)
        if not chosen:
            now = soon
            continue
        spent = min(soon - now, *(left[one] / share for one, share in zip(chosen, part, strict=True)))
        for one, share in zip(chosen, part, strict=True):
            left[one] -= share * spent
            pieces[one].append(Piece(start_s=now, end_s=now + spent, share=share))
        now += spent
        done = {one for one in chosen if left[one] <= DONE * sendings.seconds[one]}
        waiting = [one for one in waiting if one not in done] if done else waiting
    return pieces


def _crowd(
    sendings: Sendings, waiting: Sequence[int], now: float, most: int, shares: Shares
) -> tuple[tuple[int, ...], Sequence[float], float]:
    """What is on the air now, with which shares, and when one of those before the last of them is ready."""
    chosen, part, soon, busy = tuple[int, ...](), list[float](), np.inf, 0
    for seen, one in enumerate(waiting):
        if len(chosen) == most or (chosen and seen >= WINDOW):
            break
        if sendings.ready_s[one] > now:
            soon = min(soon, sendings.ready_s[one])
        elif not sendings.users[one] & busy:
            more = [1.0] if not chosen else shares((*chosen, one))
            if more is not None and min(more) > 0 and sum(more) > sum(part) + WORTH:
                chosen, part, busy = (*chosen, one), list(more), busy | sendings.users[one]
    return chosen, part, float(soon)


def ends_of(pieces: Sequence[Piece], seconds: Sequence[float]) -> list[tuple[float, float]]:
    """When each block of a broadcast begins and has come, blocks one after another.

    Args:
        pieces: When the broadcast is on the air.
        seconds: Time of each block alone, s.
    """
    sent = np.concatenate([[0.0], np.cumsum([(p.end_s - p.start_s) * p.share for p in pieces])])
    start = np.array([p.start_s for p in pieces])
    share = np.array([p.share for p in pieces])
    marks = np.concatenate([[0.0], np.cumsum(seconds)])
    marks *= sent[-1] / marks[-1] if marks[-1] > 0 else 0.0
    opens = _at(marks[:-1], sent, start, share, side="right")
    closes = _at(marks[1:], sent, start, share, side="left")
    closes[-1] = pieces[-1].end_s
    return list(zip(opens.tolist(), closes.tolist(), strict=True))


def part_of(pieces: Sequence[Piece], start_s: float, end_s: float) -> tuple[Piece, ...]:
    """What of the time on the air lies between two times: the pieces of one block of a broadcast."""
    least = DONE * (end_s - start_s)
    within = (
        Piece(start_s=max(one.start_s, start_s), end_s=min(one.end_s, end_s), share=one.share)
        for one in pieces
    )
    return tuple(one for one in within if one.end_s - one.start_s > least)


def _at(marks: Float, sent: Float, start: Float, share: Float, side: str) -> Float:
    """When so much has been sent, (marks,), s; at a gap before it (left) or behind it (right)."""
    where = np.searchsorted(sent, marks, side=side) - 1  # type: ignore[call-overload]
    at = np.clip(where, 0, start.size - 1)
    return np.asarray(start[at] + (marks - sent[at]) / share[at])
