import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import LinkConfig
from policy.slot.tables import (
    ServiceRules,
    air_table,
    delay_table,
    from_masks,
    mask_bits,
    migration_table,
    to_masks,
)
from policy.world.cheap_radio import ProxyDelay

LINKS = LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=250e6)


def _radio(rng: np.random.Generator, users: int, nodes: int, coherent: bool = False) -> ProxyDelay:
    return ProxyDelay(snr=rng.exponential(3.0, size=(1, users, nodes)), bandwidth_hz=1e8, coherent=coherent)


def _brute(air: np.ndarray, bits: float, held: frozenset[int], nodes: int) -> float:
    """The formula of the scenario, word by word."""
    best = np.inf
    for size in range(1, nodes + 1):
        for sender in map(frozenset, itertools.combinations(range(nodes), size)):
            if held <= sender:
                mask = sum(1 << n for n in sender)
                copies = len(sender) - max(len(held), 1)
                best = min(best, copies * bits / 1e9 + air[mask])
    return best + (0.0 if held else bits / 250e6)


@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 4), users=st.integers(1, 5), coherent=st.booleans())
def test_superset_recursion_is_the_minimum_over_all_supersets(
    seed: int, nodes: int, users: int, coherent: bool
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 10**8, size=3)
    needs = rng.random((users, 3)) < 0.6
    table = delay_table(_radio(rng, users, nodes, coherent), 0, needs, sizes, nodes, LINKS, ServiceRules())
    for block, mask in itertools.product(range(3), range(2**nodes)):
        held = frozenset(n for n in range(nodes) if mask >> n & 1)
        want = _brute(table.air_s[block], 8.0 * sizes[block], held, nodes) if needs[:, block].any() else 0.0
        assert table.cost_s[block, mask] == pytest.approx(want)
        target = int(table.target[block, mask])
        if needs[:, block].any():
            assert target & mask == mask
            copies = target.bit_count() - max(mask.bit_count(), 1)
            cloud = 0.0 if mask else 8.0 * sizes[block] / 250e6
            paid = cloud + copies * 8.0 * sizes[block] / 1e9 + table.air_s[block, target]
            assert paid == pytest.approx(want)


@given(seed=st.integers(0, 10_000))
def test_each_rule_switched_off_never_helps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, needs, radio = rng.integers(1, 10**8, size=4), rng.random((5, 4)) < 0.5, _radio(rng, 5, 3)
    full = delay_table(radio, 0, needs, sizes, 3, LINKS, ServiceRules()).cost_s
    for rules in (ServiceRules(comp=False), ServiceRules(migration=False), ServiceRules(share_air=False)):
        assert (delay_table(radio, 0, needs, sizes, 3, LINKS, rules).cost_s >= full - 1e-12).all()


@given(seed=st.integers(0, 10_000))
def test_more_caching_nodes_never_hurt(seed: int) -> None:
    rng = np.random.default_rng(seed)
    radio = _radio(rng, 4, 3)
    table = delay_table(radio, 0, np.ones((4, 1), bool), np.array([10**7]), 3, LINKS, ServiceRules()).cost_s[
        0
    ]
    for mask, node in itertools.product(range(8), range(3)):
        assert table[mask | 1 << node] <= table[mask] + 1e-12


def test_air_table_by_hand() -> None:
    radio = ProxyDelay(snr=np.array([[[1.0, 2.0], [3.0, 0.0]]]), bandwidth_hz=1.0, coherent=False)
    needs = np.array([[True], [True]])
    table = air_table(radio, 0, needs, np.array([1]), 2, ServiceRules())[0]

    assert table == pytest.approx([np.inf, 8 / 1.0, np.inf, 8 / np.log2(4.0)])
    unicast = air_table(radio, 0, needs, np.array([1]), 2, ServiceRules(share_air=False))[0]
    assert unicast == pytest.approx([np.inf, 8 / 1 + 8 / 2, np.inf, 8 / 2 + 8 / 2])


def test_without_migration_only_the_cloud_helps_out() -> None:
    air = np.array([[np.inf, 4.0, 2.0, 1.0]])
    cost, target = migration_table(air, np.array([125_000_000]), LINKS, migration=False)

    assert cost[0] == pytest.approx([4.0 + 2.0, 4.0, 2.0, 1.0])
    assert target[0].tolist() == [2, 1, 2, 3]


@given(seed=st.integers(0, 999), nodes=st.integers(1, 6))
def test_masks_and_placements_are_the_same_thing(seed: int, nodes: int) -> None:
    placement = np.random.default_rng(seed).random((nodes, 7)) < 0.5

    assert (from_masks(to_masks(placement), nodes) == placement).all()
    assert (placement == mask_bits(nodes)[to_masks(placement)].T).all()


def test_too_many_nodes_for_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6 nodes"):
        air_table(
            _radio(np.random.default_rng(0), 1, 7), 0, np.ones((1, 1), bool), np.ones(1), 7, ServiceRules()
        )
