"""Objects on the air at once: each starts in its turn, and senders are told rates as others come and go.

Objects keep the order in which the plan starts them. One starts when a lane is free, none of its users is
being sent another, and the radio says that it is worth it (`policy.serving.together`, the rule of the plan);
until then it waits, and all behind it. What each has of its rate alone the radio computes for those that are
on the air now, whatever the plan supposed. An object that has begun goes on to its end: where the plan has
another push it aside, that one starts when it is over.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from demo.emulation.roles.casts import CastPlan
from demo.emulation.roles.mind import Minds, Row
from demo.emulation.roles.sending import Flight, Sending
from policy.serving.together import WORTH
from policy.slot.rates import MOST_TOGETHER

SAME_RATE = 0.01
"""Rates that differ by less are not told anew."""
Told = Mapping[int, Mapping[str, Any]]


class Lanes:
    """The air of one slot.

    Args:
        sending: What makes objects ready and puts them out.
        minds: What knows the radio.
        rows: History, the slot to be served last.
        most: Objects at once at most.
    """

    def __init__(self, sending: Sending, minds: Minds, rows: Sequence[Row], most: int) -> None:
        self._sending, self._minds, self._rows, self._most = sending, minds, rows, most
        self._flying: dict[Future[dict[str, Any]], Flight] = {}

    def run(self, casts: Sequence[CastPlan]) -> None:
        """Send objects; returns when all are over."""
        queue, ready = deque(casts), deque[Future[dict[int, dict[str, Any]]]]()
        with (
            ThreadPoolExecutor(self._most, "ahead") as ahead,
            ThreadPoolExecutor(self._most, "lane") as lanes,
        ):
            while queue or self._flying:
                while len(ready) < min(self._most, len(queue)):
                    ready.append(ahead.submit(self._sending.ready_holders, queue[len(ready)]))
                room = bool(queue) and len(self._flying) < self._most
                if room and ready[0].done() and self._start(queue[0], ready[0].result(), lanes):
                    queue.popleft()
                    ready.popleft()
                    continue
                self._set_rates()
                awaited: list[Future[Any]] = [
                    *self._flying,
                    *([ready[0]] if room and not ready[0].done() else []),
                ]
                wait(awaited, return_when=FIRST_COMPLETED)
                for one in [one for one in self._flying if one.done()]:
                    self._sending.landed(self._rows, self._flying.pop(one), one.result())

    def _start(self, cast: CastPlan, told: Told, lanes: ThreadPoolExecutor) -> bool:
        """Put an object on the air unless it has to wait; whether its turn is over."""
        flight = self._sending.flight(self._rows, cast, told)
        if flight is None:
            return True
        others = list(self._flying.values())
        shares = self._beside(others, flight)
        if not shares:
            return False
        loss = self._sending.losses(self._rows, [*others, flight])[-1]
        self._set_rates(shares[:-1])
        self._sending.set_rate(flight, shares[-1] * flight.alone_bit_s)
        for other in others:
            other.beside.add(cast.number)
            flight.beside.add(other.cast.number)
        self._flying[lanes.submit(self._sending.put_out, flight, loss)] = flight
        return True

    def _beside(self, others: Sequence[Flight], flight: Flight) -> list[float]:
        """What each has of its rate alone if an object goes beside those on the air; empty: it may not."""
        if not others:
            return [1.0]
        sets = [set(one.cast.users) for one in (*others, flight)]
        if max(map(len, sets)) > MOST_TOGETHER or any(sets[-1] & users for users in sets[:-1]):
            return []
        shares = self._shares([*others, flight])
        is_worth_it = min(shares) > 0 and sum(shares) > sum(self._shares(others)) + WORTH
        return shares if is_worth_it else []

    def _shares(self, flights: Sequence[Flight]) -> list[float]:
        if len(flights) < 2:
            return [1.0] * len(flights)
        return self._minds.shares(self._rows, [flight.party for flight in flights])

    def _set_rates(self, shares: Sequence[float] | None = None) -> None:
        """Tell senders on the air their rates, where these are others than before."""
        flying = list(self._flying.values())
        for flight, share in zip(flying, shares or self._shares(flying), strict=True):
            rate = share * flight.alone_bit_s
            if abs(rate / flight.rate_bit_s - 1.0) > SAME_RATE:
                self._sending.set_rate(flight, rate)
