"""Cache updates: the cut that links and budget make, the same for every scheme."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.place.greedy import fill_by_score
from policy.place.worth import worth_in_turn
from policy.slot.tables import to_masks
from policy.slot.updates import UpdateRoom, bring, cache_update

LINKS = LinkConfig(backhaul_bit_s=800.0, cloud_bit_s=80.0)


def _case(seed: int) -> tuple[Bool, Bool, Float, UpdateRoom, Int, Float]:
    """Caches, a wish within capacity, its values, and links and budgets of all kinds."""
    rng = np.random.default_rng(seed)
    nodes, blocks = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    sizes = rng.integers(1, 60, blocks).astype(np.int64)
    capacity = rng.uniform(20, 200, nodes)
    before, wanted = (fill_by_score(rng.random((nodes, blocks)), sizes, capacity) for _ in range(2))
    room = UpdateRoom(
        at_hand=before | (rng.random((nodes, blocks)) < 0.3),
        idle_s=rng.choice([0.0, 1.0, 5.0, np.inf], nodes),
        budget_bytes=float(rng.choice([0.0, 40.0, np.inf])),
    )
    value = rng.integers(0, 3, (nodes, blocks)).astype(np.float64)  # many ties
    return before, wanted, value, room, sizes, capacity


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_no_link_budget_or_cache_is_overdrawn_and_nothing_that_fits_is_left_out(seed: int) -> None:
    before, wanted, value, room, sizes, capacity = _case(seed)
    holds, update = bring(before, wanted, value, room, sizes, capacity, LINKS)
    brought, cut = holds & wanted & ~room.at_hand, wanted & ~holds
    spent = update.backhaul_s + update.cloud_s

    assert not (holds & ~(wanted | before)).any()
    assert (holds >= (wanted & room.at_hand)).all()
    assert (holds @ sizes <= capacity).all()
    assert (spent <= room.idle_s * (1 + 1e-9)).all()
    assert (brought @ sizes <= room.budget_bytes).all()
    assert update.backhaul_bytes + update.cloud_bytes == (brought @ sizes).sum()
    assert update.cut_bytes == (cut @ sizes).sum()
    there = room.at_hand.any(axis=0) | holds.any(axis=0)
    rate = np.where(there, LINKS.backhaul_bit_s, LINKS.cloud_bit_s)
    fits = (8.0 * sizes / rate <= (room.idle_s - spent)[:, None] * (1 - 1e-9)) & (
        sizes <= (room.budget_bytes - brought @ sizes)[:, None]
    )
    assert not (cut & fits).any()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_the_same_wish_gives_the_same_caches(seed: int) -> None:
    case = _case(seed)
    first, second = bring(*case, LINKS), bring(*case, LINKS)

    assert (first[0] == second[0]).all()
    assert first[1].seconds == second[1].seconds


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_links_that_hold_all_bring_all_as_links_that_are_not_counted(seed: int) -> None:
    before, wanted, value, room, sizes, capacity = _case(seed)
    wide = UpdateRoom(at_hand=room.at_hand, idle_s=np.full(before.shape[0], 1e9), budget_bytes=np.inf)
    holds, update = bring(before, wanted, value, wide, sizes, capacity, LINKS)
    whole = cache_update(room.at_hand, wanted, sizes, LINKS)

    assert (holds == wanted).all()
    assert (update.backhaul_bytes, update.cloud_bytes) == (whole.backhaul_bytes, whole.cloud_bytes)
    assert update.seconds == pytest.approx(whole.seconds)
    assert update.cut_bytes == 0


def test_the_dearest_come_first_and_old_blocks_stay_where_nothing_replaced_them() -> None:
    before = np.array([[1, 0, 0, 0]], dtype=bool)
    wanted = np.array([[0, 1, 1, 0]], dtype=bool)
    room = UpdateRoom(at_hand=before, idle_s=np.array([1.0]), budget_bytes=np.inf)  # 10 bytes of the cloud
    args = (room, np.array([10, 10, 10, 10]), np.array([20.0]), LINKS)

    assert bring(before, wanted, np.array([[0.0, 1, 2, 9]]), *args)[0].tolist() == [
        [True, False, True, False]
    ]
    assert bring(before, wanted, np.array([[0.0, 2, 1, 9]]), *args)[0].tolist() == [
        [True, True, False, False]
    ]


def test_a_copy_that_a_node_has_just_got_need_not_come_from_the_cloud() -> None:
    nothing, both = np.zeros((2, 1), dtype=bool), np.ones((2, 1), dtype=bool)
    room = UpdateRoom(at_hand=nothing, idle_s=np.array([0.2, 1.0]), budget_bytes=np.inf)
    value = np.array([[2.0], [1.0]])  # the node without time for the cloud asks first
    holds, update = bring(nothing, both, value, room, np.array([10]), np.full(2, 10.0), LINKS)

    assert holds.all()
    assert (update.cloud_s.tolist(), update.backhaul_s.tolist()) == ([0.0, 1.0], [0.1, 0.0])


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_copies_of_a_block_are_worth_what_all_of_them_save(seed: int) -> None:
    """One after another they add up to the whole, whichever nodes had the block before."""
    rng = np.random.default_rng(seed)
    nodes, blocks = 3, 4
    table, sizes = rng.random((blocks, 2**nodes)), rng.integers(1, 9, blocks)
    at_hand, wanted = rng.random((2, nodes, blocks)) < 0.5
    worth = worth_in_turn(table, sizes, at_hand, wanted) * sizes
    rows = np.arange(blocks)
    saved = table[rows, to_masks(wanted & at_hand)] - table[rows, to_masks(wanted)]

    assert np.where(wanted & ~at_hand, worth, 0.0).sum(axis=0) == pytest.approx(saved)
