"""Lanes of the air: the order of the plan, no user hears two at once, rates are of what is on the air."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.emulation.roles.casts import CAST_BYTES, CastPlan, casts_of
from demo.emulation.roles.lanes import Lanes
from demo.emulation.roles.sending import Flight
from policy.serving import Effort, serve_planned
from policy.slot.rates import AirTimes, Party
from policy.slot.timeline import Piece
from tests.policy.serving.test_together import crowded


def share(count: int, weak: bool) -> float:
    return {1: 1.0, 2: 0.5 if weak else 0.8, 3: 0.6}.get(count, 0.0)


class Radio:
    """Shares by the number on the air."""

    def __init__(self, *, weak: bool) -> None:
        self.weak = weak

    def shares(self, rows: Sequence[Any], parties: Sequence[Party]) -> list[float]:
        users = [user for party in parties for user in party.users]
        assert len(users) == len(set(users)), "the radio was asked of one user in two broadcasts"
        return [share(len(parties), self.weak)] * len(parties)


class Air:
    """Takes objects, and lets them land when the lanes have settled, in an order that a seed draws."""

    def __init__(self, rng: np.random.Generator, lost: set[int], weak: bool) -> None:
        self._rng, self._lost, self._weak = rng, lost, weak
        self._mutex = threading.Lock()
        self.flying: dict[int, Flight] = {}
        self.started: list[int] = []
        self.over: list[Flight] = []
        self.most = 0

    def ready_holders(self, cast: CastPlan) -> dict[int, dict[str, Any]]:
        return {} if cast.number in self._lost else {0: {"payload_bytes": 10, "blake3": ""}}

    def flight(self, rows: Sequence[Any], cast: CastPlan, told: dict[int, Any]) -> Flight | None:
        if not told:
            return None
        return Flight(
            slot=0,
            cast=cast,
            holders=cast.holders,
            size_bytes=10,
            blake3="",
            alone_bit_s=1e6,
            rate_bit_s=1e6,
            began_s=0.0,
        )

    def losses(self, rows: Sequence[Any], flights: Sequence[Flight]) -> list[dict[int, float]]:
        return [{} for _ in flights]

    def set_rate(self, flight: Flight, rate_bit_s: float) -> None:
        flight.rate_bit_s = rate_bit_s
        flight.rates.append((0.0, rate_bit_s))

    def put_out(self, flight: Flight, loss: dict[int, float]) -> dict[str, Any]:
        with self._mutex:
            self.flying[flight.cast.number] = flight
            self.started.append(flight.cast.number)
            self.most = max(self.most, len(self.flying))
            heard = [user for one in self.flying.values() for user in one.cast.users]
            assert len(heard) == len(set(heard)), "a user hears two at once"
        threading.Event().wait(float(self._rng.uniform(0, 2e-3)))
        with self._mutex:
            del self.flying[flight.cast.number]
        return {"missed": []}

    def landed(self, rows: Sequence[Any], flight: Flight, answer: dict[str, Any]) -> None:
        self.over.append(flight)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), most=st.integers(2, 3), weak=st.booleans())
def test_all_go_in_order_and_fit(seed: int, count: int, most: int, weak: bool) -> None:
    rng = np.random.default_rng(seed)
    lost = {number for number in range(count) if rng.random() < 0.2}
    casts = [
        CastPlan(
            units=(number,),
            alone=False,
            holders=(0,),
            users=tuple({int(user) for user in rng.integers(0, 4, 2)}),
            seconds=1.0,
            number=number,
            pieces=(Piece(start_s=0.0, end_s=1.0, share=1.0),),
        )
        for number in range(count)
    ]
    air = Air(rng, lost, weak)
    Lanes(air, Radio(weak=weak), (), most).run(casts)  # type: ignore[arg-type]

    assert sorted(air.started) == [number for number in range(count) if number not in lost]
    assert air.most <= (1 if weak else most)
    by_number = {flight.cast.number: flight for flight in air.over}
    for number, flight in by_number.items():
        assert all(number in by_number[other].beside for other in flight.beside)
        rates = {rate for _, rate in flight.rates}
        assert rates <= {1e6 * share(n, weak) for n in (1, 2, 3)}
        if not flight.beside:
            assert rates == {1e6}
    early = [by_number[one] for one in air.started]
    for at, flight in enumerate(early):  # nothing overtakes what it does not go beside
        assert all(
            later.cast.number in flight.beside
            for later in early[at + 1 :]
            if later.cast.number < flight.cast.number
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_objects_carry_the_plan(seed: int, at_once: int) -> None:
    """Every block once to each of its users, in objects of one kind that are no larger than they may be."""
    problem = crowded(seed, at_once, users=6, blocks=12)
    outcome = serve_planned(problem, AirTimes(delay=problem.delay, slot=0), Effort(rounds=2, share=0.25))
    sizes = problem.sizes_bytes.tolist()
    casts = casts_of(outcome, sizes)

    sent = [(unit, cast.holders, cast.users) for cast in casts for unit in cast.units]
    assert sorted(sent) == sorted((one.block, one.holders, one.users) for one in outcome.broadcasts)
    assert all(
        sum(sizes[unit] for unit in cast.units) <= CAST_BYTES or len(cast.units) == 1 for cast in casts
    )
    assert [cast.start_s for cast in casts] == sorted(cast.start_s for cast in casts)
    assert [cast.number for cast in casts] == list(range(len(casts)))
    assert sum(cast.seconds for cast in casts) == pytest.approx(
        sum(one.alone_s for one in outcome.broadcasts)
    )
    for cast in casts:
        for other in casts:
            if cast is not other and cast.is_beside(other):
                assert other.is_beside(cast)
                assert not {*cast.users} & {*other.users}
    if at_once == 1:
        assert sent == [(one.block, one.holders, one.users) for one in outcome.broadcasts]
        assert not any(cast.pieces for cast in casts)
