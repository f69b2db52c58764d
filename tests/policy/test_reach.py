"""A placement that the links can bring: within room, time and budget, and then brought in full."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.place.greedy import greedy_masks
from policy.place.reach import keep_at_hand, reachable_masks
from policy.place.worth import worth_in_turn
from policy.slot.tables import from_masks, mask_bits, to_masks
from policy.slot.updates import UpdateRoom, bring

LINKS = LinkConfig(backhaul_bit_s=800.0, cloud_bit_s=80.0)
NODES, BLOCKS = 3, 8


def _case(seed: int) -> tuple[Float, Int, Float, Bool]:
    """Table in which each further copy helps less, sizes, room, and what is at hand."""
    rng = np.random.default_rng(seed)
    near = rng.uniform(0.1, 1.0, (BLOCKS, NODES))
    table = rng.uniform(1.0, 5.0, BLOCKS)[:, None] / (0.2 + near @ mask_bits(NODES).T)
    sizes = rng.integers(1, 9, BLOCKS)
    return table, sizes, rng.uniform(4.0, 20.0, NODES), rng.random((NODES, BLOCKS)) < 0.3


@given(seed=st.integers(0, 10_000), idle=st.sampled_from([0.0, 0.3, 2.0, np.inf]))
def test_room_and_link_time_are_kept_and_nothing_is_cut(seed: int, idle: float) -> None:
    table, sizes, capacity, at_hand = _case(seed)
    room = UpdateRoom(at_hand=at_hand, idle_s=np.full(NODES, idle), budget_bytes=np.inf)
    holds = from_masks(reachable_masks(table, sizes, capacity, room, LINKS), NODES)

    assert (holds @ sizes <= capacity).all()
    if idle == 0.0:
        assert not (holds & ~at_hand).any()
    worth = worth_in_turn(table, sizes, at_hand, holds)
    _, update = bring(np.zeros_like(holds), holds, worth, room, sizes, capacity, LINKS)
    assert update.cut_bytes == 0


@given(seed=st.integers(0, 10_000))
def test_where_links_bring_all_it_is_the_greedy_placement(seed: int) -> None:
    table, sizes, capacity, at_hand = _case(seed)
    room = UpdateRoom(at_hand=at_hand, idle_s=np.full(NODES, np.inf), budget_bytes=np.inf)

    np.testing.assert_array_equal(
        reachable_masks(table, sizes, capacity, room, LINKS), greedy_masks(table, sizes, capacity)
    )


@given(seed=st.integers(0, 10_000), budget=st.integers(0, 12))
def test_the_budget_is_kept(seed: int, budget: int) -> None:
    table, sizes, capacity, at_hand = _case(seed)
    room = UpdateRoom(at_hand=at_hand, idle_s=np.full(NODES, np.inf), budget_bytes=budget)
    holds = from_masks(reachable_masks(table, sizes, capacity, room, LINKS), NODES)

    assert ((holds & ~at_hand) @ sizes <= budget).all()


@given(seed=st.integers(0, 10_000))
def test_old_copies_fill_what_is_left(seed: int) -> None:
    table, sizes, capacity, at_hand = _case(seed)
    holds = np.zeros((NODES, BLOCKS), dtype=bool)
    keep_at_hand(holds, at_hand, table[:, :1].T - table[:, 1 << np.arange(NODES)].T, sizes, capacity)

    assert not (holds & ~at_hand).any()
    left = capacity - holds @ sizes
    fits = sizes[None, :] <= left[:, None]
    assert not (fits & at_hand & ~holds).any()
    assert (to_masks(holds) <= 2**NODES).all()
