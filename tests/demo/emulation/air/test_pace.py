"""A rate that changes while something is sent: what is due is the integral of the rate."""

import math
import threading
import time
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.emulation.air import pace
from demo.emulation.air.pace import Pacer, Tempo

RATES = st.floats(1.0, 1e3)


@given(
    first=RATES,
    changes=st.lists(st.tuples(st.floats(0.01, 5.0), RATES), max_size=6),
    start=st.floats(-2.0, 20.0),
    bits=st.floats(0.0, 1e4),
)
def test_what_is_due_is_the_integral_of_the_rate(
    first: float, changes: list[tuple[float, float]], start: float, bits: float
) -> None:
    clock = SimpleNamespace(now=0.0)
    edges, rates = [-math.inf], [first]
    with patch.object(pace, "time", SimpleNamespace(monotonic=lambda: clock.now)):
        tempo = Tempo(first, most_bit_s=1e3)
        for after, rate in changes:
            clock.now += after
            tempo.set(rate)
            edges.append(clock.now)
            rates.append(rate)
        due = tempo.due(start, bits)
    ends = [*edges[1:], math.inf]
    through = sum(
        max(0.0, min(end, due) - max(edge, start)) * rate
        for edge, end, rate in zip(edges, ends, rates, strict=True)
    )
    assert due >= start
    assert through == pytest.approx(bits, rel=1e-6, abs=1e-6)
    assert tempo.rate_bit_s == rates[-1]


def test_a_rate_stays_within_its_bounds() -> None:
    tempo = Tempo(10.0, most_bit_s=20.0)
    tempo.set(1e9)
    assert tempo.rate_bit_s == 20.0
    with pytest.raises(ValueError, match="must be > 0"):
        tempo.set(0.0)


def test_a_sender_that_sleeps_is_woken_by_a_faster_rate() -> None:
    tempo = Tempo(1.0, most_bit_s=1e12)
    pacer, over = Pacer(tempo, credit_bytes=1), threading.Event()

    def send() -> None:
        pacer.wait(1 << 20)  # at first due in three months
        over.set()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while not over.is_set():
        tempo.set(1e12)
        over.wait(0.01)
    sender.join()


def test_an_unlimited_rate_takes_no_time() -> None:
    began = time.monotonic()
    assert Tempo(math.inf).wait(began, 1e15) == began
