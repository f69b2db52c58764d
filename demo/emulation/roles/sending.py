"""Objects on the air: holders make them ready, the first puts them out, and what became of it is told."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from demo.emulation.log.events import Broadcast, Rejected
from demo.emulation.roles.casts import CastPlan
from demo.emulation.roles.mind import Minds, Row
from demo.emulation.roles.neighbours import Neighbours
from demo.emulation.roles.settings import EdgeSettings
from demo.emulation.roles.teller import Teller
from policy.slot.rates import Party


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """An object that its holders have ready, or that is on the air."""

    slot: int
    cast: CastPlan
    holders: tuple[int, ...]
    size_bytes: int
    blake3: str
    alone_bit_s: float
    """Its rate with nothing beside it."""
    rate_bit_s: float
    """Its rate now."""
    began_s: float
    sender: int = -1
    """Who is asked to put it out."""
    beside: set[int] = field(default_factory=set)
    """Numbers of those that have been on the air with it."""
    rates: list[tuple[float, float]] = field(default_factory=list)
    """When it has had which rate, if that may change: s on the teller's clock, bit/s."""

    @property
    def party(self) -> Party:
        """It, as the radio sees it."""
        return Party(self.holders, self.cast.users, self.alone_bit_s)

    def mean_bit_s(self, ended_s: float) -> float:
        """Its rate over the time on the air, up to an end."""
        if not self.rates or ended_s <= self.rates[0][0]:
            return self.rate_bit_s
        ends = [*(at for at, _ in self.rates[1:]), ended_s]
        bits = sum((end - at) * rate for (at, rate), end in zip(self.rates, ends, strict=True))
        return bits / (ended_s - self.rates[0][0])


class Sending:
    """Sends objects for the node that leads.

    Args:
        settings: Of the node.
        minds: What knows the radio.
        neighbours: Who there is.
        teller: Where events go.
    """

    def __init__(self, settings: EdgeSettings, minds: Minds, neighbours: Neighbours, teller: Teller) -> None:
        self._settings, self._minds = settings, minds
        self._neighbours, self._teller = neighbours, teller
        self.gone: set[int] = set()
        """Users whose devices do not answer."""

    def send_all(self, rows: Sequence[Row], casts: Sequence[CastPlan]) -> None:
        """Send objects one after another; holders make the next one ready while one is on the air."""
        with ThreadPoolExecutor(1, "ahead") as ahead:
            ready = [ahead.submit(self.ready_holders, cast) for cast in casts[:1]]
            for number, cast in enumerate(casts):
                told = ready.pop().result()
                ready = [ahead.submit(self.ready_holders, one) for one in casts[number + 1 : number + 2]]
                self.send(rows, cast, told)

    def send(
        self, rows: Sequence[Row], cast: CastPlan, told: Mapping[int, Mapping[str, Any]] | None = None
    ) -> None:
        """Send one object from all of its holders that have it; `told` by them, if they were asked before."""
        began = self._teller.now_s()
        if told is None and self._here(cast).users:
            told = self.ready_holders(cast)
        flight = self.flight(rows, cast, told or {})
        if flight is None:
            return
        if not self._settings.pace:
            flight.began_s = began
        users = flight.cast.users
        loss = self._minds.loss(rows, flight.holders, users) if self._settings.snr_loss else {}
        self.landed(rows, flight, self.put_out(flight, loss))

    def flight(
        self, rows: Sequence[Row], cast: CastPlan, told: Mapping[int, Mapping[str, Any]]
    ) -> Flight | None:
        """An object that may go out now; None if nobody has it, or nobody is there who wants it."""
        cast = self._here(cast)
        if not (told and cast.users):
            return None
        holders = tuple(sorted(told))
        size = int(told[holders[0]]["payload_bytes"])
        rate = self._rate(rows, cast, holders, size)
        if rate <= 0:
            return None
        return Flight(
            slot=len(rows) - 1,
            cast=cast,
            holders=holders,
            size_bytes=size,
            blake3=str(told[holders[0]]["blake3"]),
            alone_bit_s=rate,
            rate_bit_s=rate,
            began_s=self._teller.now_s(),
        )

    def put_out(self, flight: Flight, loss: Mapping[int, float]) -> dict[str, Any]:
        """Let the first holder that is there put an object on the air for all."""
        cast, pace = flight.cast, self._settings.pace
        question = {
            "units": list(cast.units),
            "alone": cast.alone,
            "users": list(cast.users),
            "loss": [[user, share] for user, share in loss.items()],
        }
        if flight.rates and pace:
            question |= self._tempo(flight)
        for node in flight.holders:
            flight.sender = node  # before its rate is read: who sets another from now on tells the sender
            rate = flight.rate_bit_s * pace
            answer = self._neighbours.ask_node(node, "air", 600.0, rate_bit_s=rate, **question)
            if answer is not None:
                return answer
        return {"wire_bytes": 0, "repair_bytes": 0, "missed": list(cast.users)}

    def set_rate(self, flight: Flight, rate_bit_s: float) -> None:
        """Let an object on the air, or about to be, go at another rate from now on."""
        flight.rate_bit_s = rate_bit_s
        flight.rates.append((self._teller.now_s(), rate_bit_s))
        pace = self._settings.pace
        if pace and flight.sender >= 0:
            told = self._tempo(flight)
            self._neighbours.ask_node(flight.sender, "tempo", 2.0, rate_bit_s=rate_bit_s * pace, **told)

    def _tempo(self, flight: Flight) -> dict[str, Any]:
        """How a sender knows an object whose rate may change, and the most that it may be."""
        most = flight.alone_bit_s * self._settings.pace
        return {"tempo": [flight.slot, flight.cast.number], "most_bit_s": most}

    def losses(self, rows: Sequence[Row], flights: Sequence[Flight]) -> list[dict[int, float]]:
        """Shares that users of objects at once lose, each by its margin; empty if none are to be lost so."""
        if not self._settings.snr_loss:
            return [{} for _ in flights]
        if len(flights) == 1:
            return [self._minds.loss(rows, flights[0].holders, flights[0].cast.users)]
        return self._minds.losses_together(rows, [flight.party for flight in flights])

    def landed(self, rows: Sequence[Row], flight: Flight, answer: Mapping[str, Any]) -> None:
        """Tell what became of an object."""
        cast, missed, ended_s = flight.cast, tuple(answer["missed"]), self._teller.now_s()
        self.gone |= {user for user in missed if self._neighbours.ask_device(user, "ping", 2.0) is None}
        rate = flight.mean_bit_s(ended_s)
        self._teller.tell(
            Broadcast(
                slot=flight.slot,
                units=cast.units,
                form="alone" if cast.alone else "kept",
                holders=flight.holders,
                users=cast.users,
                rate_bit_s=rate,
                bound_bit_s=max(rate, self._minds.bound_bit_s(rows, flight.holders, cast.users)),
                payload_bytes=flight.size_bytes,
                wire_bytes=int(answer["wire_bytes"]),
                repair_bytes=int(answer["repair_bytes"]),
                started_s=flight.began_s,
                ended_s=ended_s,
                blake3=flight.blake3,
                missed=missed,
                is_repair=cast.is_repair,
                number=cast.number if flight.rates else -1,
                together=tuple(sorted(flight.beside)),
                alone_bit_s=flight.alone_bit_s if flight.rates else 0.0,
            )
        )
        self._teller.flush()

    def ready_holders(self, cast: CastPlan) -> dict[int, dict[str, Any]]:
        """Holders that have all units and agree on their bytes; when all of the plan's are gone, any node."""
        told = self._ensure(cast, cast.holders)
        if not told:
            others = [node for node in self._neighbours.nodes if node not in cast.holders]
            for node in others:
                if told := self._ensure(cast, [node]):
                    break
        if not told:
            return {}
        agreed, _ = Counter(str(one["blake3"]) for one in told.values()).most_common(1)[0]
        for node in [node for node, one in told.items() if one["blake3"] != agreed]:
            self._reject(len(cast.units), f"node {node} would send other bytes")
            del told[node]
        return told

    def _here(self, cast: CastPlan) -> CastPlan:
        """An object to those of its users who are there."""
        return replace(cast, users=tuple(user for user in cast.users if user not in self.gone))

    def _ensure(self, cast: CastPlan, nodes: Sequence[int]) -> dict[int, dict[str, Any]]:
        question = {"units": list(cast.units), "alone": cast.alone, "wait_s": 60.0}

        def ask(node: int) -> dict[str, Any] | None:
            answer = self._neighbours.ask_node(node, "ensure", 120.0, **question)
            # Once more: an answer that was lost on a worn connection must not change who sends.
            return answer or self._neighbours.ask_node(node, "ensure", 120.0, **question)

        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            answers = list(pool.map(ask, nodes))
        return {node: answer for node, answer in zip(nodes, answers, strict=True) if answer is not None}

    def _rate(self, rows: Sequence[Row], cast: CastPlan, holders: tuple[int, ...], size: int) -> float:
        if holders == cast.holders and cast.seconds > 0:
            return 8.0 * size / cast.seconds
        return self._minds.rate_bit_s(rows, holders, cast.users)

    def _reject(self, unit: int, why: str) -> None:
        self._teller.tell(Rejected(slot=-1, place=f"node {self._settings.node}", unit=unit, why=why))
