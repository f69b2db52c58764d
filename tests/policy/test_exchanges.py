import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.bounds.one_slot import lp_bound, milp_optimum
from policy.place.exchanges import decode, room_prices
from policy.place.greedy import greedy_placement
from policy.slot.tables import mask_bits, to_masks


def _table(rng: np.random.Generator, blocks: int, nodes: int) -> np.ndarray:
    """Costs that never grow with more holders."""
    table = rng.random((blocks, 2**nodes)) * rng.random((blocks, 1)) * 10
    for node in range(nodes):
        without = np.flatnonzero((np.arange(2**nodes) >> node) % 2 == 0)
        table[:, without | 1 << node] = np.minimum(table[:, without | 1 << node], table[:, without])
    return table


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(1, 4), budget=st.sampled_from([np.inf, 30.0]))
def test_decoding_fits_and_is_never_worse_than_greedy(seed: int, nodes: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    table, sizes = _table(rng, 12, nodes), rng.integers(1, 20, size=12)
    room = rng.uniform(20, 80, size=nodes)
    before = rng.random((nodes, 12)) < 0.1
    before &= (before @ sizes <= room)[:, None]

    start, _ = decode(table, sizes, room, before, budget, rounds=0)
    held, prices = decode(table, sizes, room, before, budget)
    plain = greedy_placement(table, sizes, room, before, budget)

    rows = np.arange(12)
    np.testing.assert_array_equal(start, plain)
    assert (held @ sizes <= room + 1e-9).all()
    assert ((held & ~before) @ sizes <= budget).all()
    assert table[rows, to_masks(held)].sum() <= table[rows, to_masks(plain)].sum() + 1e-9
    assert (prices >= 0).all()


def test_an_exchange_mends_what_greed_gets_wrong() -> None:
    sizes, room = np.array([1, 1]), np.array([1.0, 1.0])
    table = np.array([[10.0, 0.0, 1.0, 0.0], [9.0, 0.0, 9.0, 0.0]])  # block 1 is of use at node 0 alone

    greedy, _ = decode(table, sizes, room, rounds=0)
    held, _ = decode(table, sizes, room)

    assert greedy.tolist() == [[True, False], [False, False]]
    assert held.tolist() == [[False, True], [True, False]]


def test_exchanges_come_close_to_the_optimum() -> None:
    gaps = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        table, sizes = _table(rng, 16, 3), np.full(16, 10)
        room = np.full(3, 50.0)
        least = milp_optimum(table, sizes, room).lower_s
        rows = np.arange(16)
        tried = [decode(table, sizes, room, rounds=rounds)[0] for rounds in (0, 12)]
        gaps.append([table[rows, to_masks(held)].sum() / least - 1 for held in tried])
    greedy, ours = np.mean(gaps, axis=0)

    assert greedy > 0.15
    assert ours < 0.2 * greedy


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_prices_of_room_bound_the_optimum_from_below(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, sizes, room = _table(rng, 20, 2), rng.integers(1, 20, size=20), rng.uniform(30, 90, size=2)

    def bound(prices: np.ndarray) -> float:
        rent = np.outer(sizes, mask_bits(2) @ prices)
        return float((table + rent).min(axis=1).sum() - prices @ room)

    found = bound(room_prices(table, sizes.astype(float), room))
    least = lp_bound(table, sizes, room).lower_s

    assert found <= least + 1e-6
    assert least - found < 0.25 * (least - bound(np.zeros(2))) + 0.02 * least


def test_room_for_all_costs_nothing() -> None:
    table, sizes = _table(np.random.default_rng(0), 5, 2), np.ones(5)
    held, prices = decode(table, sizes.astype(np.int64), np.array([9.0, 9.0]))

    assert (prices == 0).all()
    assert table[np.arange(5), to_masks(held)].sum() == table[:, -1].sum()
