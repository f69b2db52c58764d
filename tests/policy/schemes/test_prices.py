import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.interfaces import Float
from policy.place.greedy import greedy_placement
from policy.schemes.prices import clear_prices, price_placement
from policy.slot.tables import mask_bits, to_masks


def random_table(rng: np.random.Generator, blocks: int, nodes: int) -> Float:
    """Costs that fall with every holder."""
    gain = rng.random((blocks, nodes))
    return 1.0 + 3.0 / (1.0 + gain @ mask_bits(nodes).T)


@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 6), share=st.floats(0.1, 1.2))
@settings(deadline=None, max_examples=40)
def test_prices_lie_between_the_dual_bound_and_greedy(seed: int, blocks: int, share: float) -> None:
    rng, nodes = np.random.default_rng(seed), 2
    table, sizes = random_table(rng, blocks, nodes), rng.integers(1, 9, blocks)
    room = np.full(nodes, share * sizes.sum())
    held = price_placement(table, sizes, room)
    rows = np.arange(blocks)
    cost = table[rows, to_masks(held)].sum()
    prices = clear_prices(table, sizes, room)
    dual = (table + sizes[:, None] * (mask_bits(nodes) @ prices)).min(axis=1).sum() - prices @ room
    best = min(
        table[rows, list(masks)].sum()
        for masks in itertools.product(range(2**nodes), repeat=blocks)
        if (mask_bits(nodes)[list(masks)].T @ sizes <= room).all()
    )

    assert (held @ sizes <= room).all()
    assert dual - 1e-9 <= best <= cost + 1e-9
    assert cost <= table[rows, to_masks(greedy_placement(table, sizes, room))].sum() + 1e-9


@given(seed=st.integers(0, 10**6), budget=st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_the_update_budget_is_kept(seed: int, budget: int) -> None:
    rng, nodes, blocks = np.random.default_rng(seed), 3, 6
    table, sizes = random_table(rng, blocks, nodes), rng.integers(1, 9, blocks)
    room = np.full(nodes, 0.6 * sizes.sum())
    before = greedy_placement(random_table(rng, blocks, nodes), sizes, room)
    held = price_placement(table, sizes, room, before, budget)

    assert (held @ sizes <= room).all()
    assert ((held & ~before) @ sizes <= budget).all()
