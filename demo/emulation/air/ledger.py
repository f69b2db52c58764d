"""What the receivers of one broadcast have said: who has it, who lacks what, who is given up."""

from collections.abc import Iterable
from dataclasses import dataclass

from demo.emulation.air.cast import Cast
from demo.emulation.air.coding import SURPLUS, enough, tries
from demo.emulation.air.settings import AirSettings
from demo.emulation.air.wire import Description, State, Status

_MOST_LOSS = 0.5
"""Loss that is believed on the word of a report alone; more only where the broadcast itself names it."""


@dataclass(slots=True)
class _User:
    """One user's last answer."""

    number: int = 0
    closed: int = 0
    silent: int = 0
    stalls: int = 0
    least: int | None = None
    needs: dict[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What to send of a piece."""

    symbols: int
    whole: bool
    """Somebody has nothing of it: the source symbols go out once more, uncoded."""


class Ledger:
    """Answers by user; nothing that an answer says is believed beyond what the broadcast can need."""

    def __init__(self, cast: Cast, what: Description, settings: AirSettings) -> None:
        """Nobody has anything yet."""
        self._cast, self._what, self._settings = cast, what, settings
        self._users = {user: _User() for user in cast.users}
        self._repaired: dict[int, int] = {}
        self.poll = 0
        """Number of the last poll."""
        self.pending = set(cast.users)
        """Users who are waited for."""
        self.done: dict[int, int] = {}
        """Microseconds from the last bit to the answer, of those who have it all."""
        self.missing: set[int] = set()
        """Users who refused or were given up."""

    @property
    def answered(self) -> bool:
        """Whether everybody who is waited for has answered the last poll."""
        return all(self._users[user].number == self.poll for user in self.pending)

    def hear(self, answer: Status) -> bool:
        """Take in an answer; whether it is this user's first word that it is done."""
        if answer.cast != self._cast.cast_id or answer.user not in self.pending or answer.number > self.poll:
            return False
        if answer.state is not State.LACKS:
            self.pending.discard(answer.user)
            if answer.state is State.DONE:
                self.done[answer.user] = answer.since_last_us
                return True
            self.missing.add(answer.user)
            return False
        user = self._users[answer.user]
        if answer.number >= user.number:
            user.number, user.needs = answer.number, self._possible(answer.needs.items())
        return False

    def close_round(self) -> None:
        """After a poll was waited for: give up users who are silent, or who lack as much as ever."""
        for user in sorted(self.pending):
            one = self._users[user]
            if one.number == one.closed:
                one.silent += 1
            else:
                one.closed = one.number
                one.silent, left = 0, sum((one.needs or {}).values())
                one.stalls = one.stalls + 1 if one.least is not None and left >= one.least else 0
                one.least = left if one.least is None else min(left, one.least)
            if one.silent >= self._patience(user) or one.stalls >= self._settings.max_stalls:
                self.pending.discard(user)
                self.missing.add(user)

    def demands(self, *, whole: bool) -> dict[int, Demand]:
        """Symbols to send by piece, for who lacks most; `whole`: also pieces of which somebody has none."""
        worst: dict[int, Demand] = {}
        for user in self.pending:
            one = self._users[user]
            for piece, need in (one.needs or {}).items():
                if one.number <= self._repaired.get(piece, 0):
                    continue  # said before the last repair could arrive
                mine = self._demand(user, piece, need)
                if mine.whole and not whole:
                    continue
                old = worst.get(piece, Demand(0, False))
                worst[piece] = Demand(max(old.symbols, mine.symbols), old.whole or mine.whole)
        return dict(sorted(worst.items()))

    def unheard(self) -> set[int]:
        """Pieces of which somebody lacks all, and every piece while somebody has not answered."""
        if not self.answered:
            return set(range(self._what.num_pieces))
        needs = [self._users[user].needs or {} for user in self.pending]
        return {p for mine in needs for p, need in mine.items() if need >= self._what.num_symbols(p)}

    def repaired(self, piece: int) -> None:
        """What was asked for has been sent: answers to polls up to now say nothing about it."""
        self._repaired[piece] = self.poll

    def _patience(self, user: int) -> int:
        """Polls that a user may leave unanswered: more where it loses most of them."""
        return max(self._settings.patience, tries(self._cast.loss.get(user, 0.0)))

    def _demand(self, user: int, piece: int, need: int) -> Demand:
        count, loss = self._what.num_symbols(piece), self._cast.loss.get(user, 0.0)
        whole = need >= count  # it joined late: that says nothing about what it loses
        seen = 0.0 if whole else min(need / count, _MOST_LOSS)
        return Demand(enough(need, max(loss, seen), self._settings.sigmas), whole)

    def _possible(self, needs: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Of what is asked for, the pieces that exist, and no more of each than it has symbols."""
        count, what = self._what.num_pieces, self._what
        return {p: min(need, what.num_symbols(p) + SURPLUS) for p, need in needs if p < count and need}
