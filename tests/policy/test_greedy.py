"""Greedy placement: by sets it sees past a first copy that hurts; capacities and budgets always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.place.greedy import greedy_placement
from policy.slot.tables import from_masks, mask_bits, to_masks


def test_it_sees_past_a_first_copy_that_hurts() -> None:
    table = np.array([[10.0, 11.0, 11.0, 2.0]])

    assert greedy_placement(table, np.array([5]), np.array([5.0, 5.0]), joint=True).all()
    assert not greedy_placement(table, np.array([5]), np.array([5.0, 5.0])).any()


def test_a_set_is_taken_only_if_every_node_has_room() -> None:
    table = np.array([[10.0, 11.0, 11.0, 2.0]])

    assert not greedy_placement(table, np.array([5]), np.array([5.0, 4.0]), joint=True).any()


@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 4), blocks=st.integers(1, 8), joint=st.booleans())
def test_it_fits_and_cost_never_rises(seed: int, nodes: int, blocks: int, joint: bool) -> None:
    table, sizes, room, before, budget = _instance(seed, nodes, blocks)

    made = greedy_placement(table, sizes, room, before, budget, joint)

    assert (made @ sizes <= room).all()
    assert ((made & ~before) @ sizes <= budget).all()
    rows = np.arange(blocks)
    assert (table[rows, to_masks(made)] <= table[:, 0] + 1e-12).all()


@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 4), blocks=st.integers(1, 8), joint=st.booleans())
def test_every_step_is_the_best_one_left(seed: int, nodes: int, blocks: int, joint: bool) -> None:
    table, sizes, room, before, budget = _instance(seed, nodes, blocks)
    bits, masks, rows = mask_bits(nodes), np.zeros(blocks, dtype=np.int64), np.arange(blocks)
    steps = [s for s in range(1, 2**nodes) if joint or bits[s].sum() == 1]
    left, money = room.copy(), np.full(nodes, budget)
    while True:  # the plain way: try everything, take the best
        best, choice = 0.0, None
        for step, block in ((s, b) for s in steps for b in rows):
            added = np.flatnonzero(bits[step])
            price = np.where(before[added, block], 0, sizes[block])
            if masks[block] & step or (sizes[block] > left[added]).any() or (price > money[added]).any():
                continue
            saved = table[block, masks[block]] - table[block, masks[block] | step]
            if saved / (added.size * sizes[block]) > best:
                best, choice = saved / (added.size * sizes[block]), (step, block, added, price)
        if choice is None:
            break
        step, block, added, price = choice
        masks[block] |= step
        left[added] -= sizes[block]
        money[added] -= price

    made = greedy_placement(table, sizes, room, before, budget, joint)

    np.testing.assert_array_equal(made, from_masks(masks, nodes))


Instance = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def _instance(seed: int, nodes: int, blocks: int) -> Instance:
    """Table, sizes, room, placement before and update budget."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0, 10, (blocks, 2**nodes))
    sizes, room = rng.integers(1, 10, blocks), rng.uniform(0, 25, nodes)
    return table, sizes, room, rng.random((nodes, blocks)) < 0.3, float(rng.uniform(0, 20))


def test_a_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="need a table of shape"):
        greedy_placement(np.zeros((2, 2)), np.array([1, 1]), np.ones(2))
