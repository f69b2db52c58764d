"""What a node decides is a function of the slots it has heard of, and each of them is gone through once."""

from types import SimpleNamespace

import numpy as np
import pytest

from demo.emulation.roles.mind import Minds, Row
from policy.interfaces import Float, Int


class _Decider:
    """Decides to cache the unit that was asked for in most slots so far; counts what it goes through."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts, self._asked = counts, np.zeros(4, dtype=int)
        counts["deciders"] += 1
        self.growing = SimpleNamespace(num_slots=0, world=SimpleNamespace(devices=lambda slot: None))
        update = SimpleNamespace(backhaul_bytes=0, cloud_bytes=0)
        self.course = SimpleNamespace(placement=np.zeros((1, 4), dtype=bool), last_update=update)

    def decide(self) -> SimpleNamespace:
        self.course.placement = np.arange(4)[None] == self._asked.argmax()
        return SimpleNamespace(value=None, message_bytes=0)

    def serve(self, user_xy: Float, requests: Int) -> int:
        self._counts["slots"] += 1
        self.growing.num_slots += 1
        self._asked[requests] += 1
        return int(self.growing.num_slots)


@pytest.fixture
def counts() -> dict[str, int]:
    return {"deciders": 0, "slots": 0}


def minds_of(counts: dict[str, int]) -> Minds:
    return Minds(lambda: _Decider(counts))  # type: ignore[arg-type,return-value]


def rows_of(*asked: int) -> list[Row]:
    return [Row(np.zeros((1, 2)), np.array([one])) for one in asked]


def test_a_node_that_never_leads_goes_through_each_slot_once(counts: dict[str, int]) -> None:
    minds, rows = minds_of(counts), rows_of(*[2, 1] * 10)
    for slot in range(len(rows) + 1):
        minds.decision(rows[:slot])
    assert counts == {"deciders": 1, "slots": len(rows)}


def test_so_does_one_that_leads_now_and_then_and_one_that_comes_late(counts: dict[str, int]) -> None:
    minds, rows = minds_of(counts), rows_of(*[2, 1] * 10)
    for slot in range(4, len(rows)):
        minds.decision(rows[:slot])
        if slot % 3 == 0:
            assert minds.service(rows[: slot + 1]).outcome == slot + 1  # type: ignore[comparison-overlap]
    minds.decision(rows)
    assert counts == {"deciders": 1, "slots": len(rows)}


def test_another_history_is_gone_through_from_its_start(counts: dict[str, int]) -> None:
    minds, rows, others = minds_of(counts), rows_of(1, 1, 2), rows_of(1, 2, 2, 2)
    minds.decision(rows)
    other, fresh = minds.decision(others), minds_of({"deciders": 0, "slots": 0}).decision(others)
    assert np.array_equal(other.placement, fresh.placement)
    assert counts == {"deciders": 2, "slots": len(rows) + len(others)}
