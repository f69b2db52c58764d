import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.slot.order import MAX_SIDNEY_GROUPS, best_order, exact_turns, johnson_rank, mean_completion
from policy.slot.order_bounds import (
    NeedGroups,
    greedy_turns,
    group_needs,
    lightest_set,
    sidney_turns,
    turns_cost_s,
)


@given(seed=st.integers(0, 10_000), users=st.integers(1, 4), blocks=st.integers(1, 6))
def test_exact_order_beats_every_permutation(seed: int, users: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    needs, seconds = rng.random((users, blocks)) < 0.5, rng.exponential(size=blocks)
    wanted = np.flatnonzero(needs.any(axis=0))
    order = best_order(needs, seconds)

    assert sorted(order.tolist()) == wanted.tolist()
    every = (
        mean_completion(np.array(p, dtype=int), needs, seconds)
        for p in itertools.permutations(wanted.tolist())
    )
    assert mean_completion(order, needs, seconds) == pytest.approx(min(every))


def _instance(seed: int, users: int = 8, blocks: int = 12) -> tuple[NeedGroups, np.ndarray]:
    rng = np.random.default_rng(seed)
    return group_needs(rng.random((users, blocks)) < 0.3), rng.exponential(size=blocks) + 1e-3


@given(seed=st.integers(0, 10_000))
def test_orders_stand_as_theory_says(seed: int) -> None:
    groups, seconds = _instance(seed)
    exact = turns_cost_s(groups, seconds, exact_turns(groups, seconds))
    sidney = sidney_turns(groups, seconds)

    assert sorted(sidney.turns) == list(range(groups.weight.size))
    assert sidney.lower_s <= exact * (1 + 1e-6)
    assert exact <= sidney.cost_s * (1 + 1e-9)
    assert sidney.cost_s <= 2 * sidney.lower_s * (1 + 1e-6)
    assert exact <= turns_cost_s(groups, seconds, greedy_turns(groups, seconds)) * (1 + 1e-9)


@given(seed=st.integers(0, 10_000))
def test_the_lightest_set_is_lightest(seed: int) -> None:
    groups, seconds = _instance(seed, users=6)
    count = groups.weight.size
    if count == 0:
        return

    def ratio(chosen: np.ndarray) -> float:
        return float(seconds[groups.needs[chosen].any(axis=0)].sum() / groups.weight[chosen].sum())

    every = (np.array(c, dtype=bool) for c in itertools.product([0, 1], repeat=count) if any(c))
    assert ratio(lightest_set(groups, seconds)) == pytest.approx(min(map(ratio, every)), rel=1e-5)


@given(seed=st.integers(0, 10_000))
def test_groups_count_users_with_equal_needs(seed: int) -> None:
    needs = np.random.default_rng(seed).random((9, 3)) < 0.5
    groups = group_needs(needs)

    assert groups.weight.sum() == needs.any(axis=1).sum()
    for row, weight in zip(groups.needs, groups.weight, strict=True):
        assert (needs == row).all(axis=1).sum() == weight


@given(seed=st.integers(0, 10_000), blocks=st.integers(1, 6))
def test_johnson_ends_first_on_one_link(seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    fetch, air = rng.exponential(size=blocks), rng.exponential(size=blocks)

    def end(order: tuple[int, ...]) -> float:
        link = band = 0.0
        for block in order:
            link += fetch[block]
            band = max(band, link) + air[block]
        return band

    ours = tuple(np.argsort(johnson_rank(fetch, air)).tolist())
    assert end(ours) == pytest.approx(min(map(end, itertools.permutations(range(blocks)))))


def test_many_users_are_ordered_by_smiths_rule_alone() -> None:
    groups, seconds = _instance(3, users=90, blocks=40)
    order = best_order(groups.needs, seconds)

    assert groups.weight.size > MAX_SIDNEY_GROUPS
    assert sorted(order.tolist()) == np.flatnonzero(groups.needs.any(axis=0)).tolist()
    lower = sidney_turns(groups, seconds).lower_s / groups.weight.sum()
    assert lower <= mean_completion(order, groups.needs, seconds) <= 2 * lower
