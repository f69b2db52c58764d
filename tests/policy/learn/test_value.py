import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import LinkConfig, RadioProxyConfig
from policy.learn.value import (
    class_times,
    classes_of,
    draw_requests,
    expected_tables,
    seconds_per_bit,
    spread_draws,
)
from policy.slot.tables import ServiceRules, delay_table
from policy.world.cheap_radio import proxy_delay

LINKS = LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=2.5e8)


@given(
    seed=st.integers(0, 2**32 - 1),
    nodes=st.integers(1, 4),
    combining=st.sampled_from(["power-sum", "coherent"]),
    keep=st.booleans(),
    rules=st.builds(ServiceRules, comp=st.booleans(), migration=st.booleans(), share_air=st.booleans()),
)
def test_the_expectation_is_the_mean_of_exact_tables(
    seed: int, nodes: int, combining: str, keep: bool, rules: ServiceRules
) -> None:
    rng = np.random.default_rng(seed)
    samples, users, models, blocks = 3, 4, 3, 5
    radio = RadioProxyConfig(combining=combining)  # type: ignore[arg-type]
    node_xy, user_xy = rng.uniform(0, 500, (nodes, 2)), rng.uniform(0, 500, (samples, users, 2))
    members, asked = rng.random((models, blocks)) < 0.5, rng.integers(-1, models, (samples, users))
    kept = rng.random((users, blocks)) < 0.3 if keep else None
    delay = proxy_delay(node_xy, user_xy, radio)
    classes = classes_of(members)
    first = np.unique(classes.of_block, return_index=True)[1]
    kept = None if kept is None else kept[:, first]
    needs = classes.members[np.maximum(asked, 0)] & (asked >= 0)[:, :, None]
    needs = needs if kept is None else needs & ~kept
    blocks = first.size
    one_byte = np.ones(blocks, dtype=np.int64)
    exact = [delay_table(delay, s, needs[s], one_byte, nodes, LINKS, rules).cost_s for s in range(samples)]

    times = class_times(asked, seconds_per_bit(node_xy, user_xy, radio), classes, kept, rules)
    made = 8 * expected_tables(times, LINKS, rules.migration)[0]

    np.testing.assert_allclose(made, np.mean(exact, axis=0), rtol=1e-4)


@given(seed=st.integers(0, 2**32 - 1))
def test_blocks_of_a_class_are_needed_by_the_same_models(seed: int) -> None:
    members = np.random.default_rng(seed).random((3, 12)) < 0.5
    classes = classes_of(members)

    np.testing.assert_array_equal(classes.members[:, classes.of_block], members)
    assert np.unique(classes.members, axis=1).shape == classes.members.shape


def test_drawn_requests_follow_the_chances() -> None:
    rng = np.random.default_rng(0)
    chance = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 1.0]])
    drawn = draw_requests(chance, spread_draws(rng, 400, 2))

    counts = [(drawn[:, 0] == model).mean() for model in (-1, 0, 1, 2)]
    np.testing.assert_allclose(counts, [0.25, 0.5, 0.25, 0.0], atol=0.003)
    assert (drawn[:, 1] == 2).all()


def test_draws_are_spread_evenly() -> None:
    draws = spread_draws(np.random.default_rng(0), 10, 3)

    np.testing.assert_array_equal(
        np.sort((draws * 10).astype(int), axis=0), np.tile(np.arange(10)[:, None], 3)
    )


def test_nobody_asks_nothing_costs() -> None:
    air = np.ones((2, 3, 4), dtype=np.float32)
    times = class_times(np.full((2, 3), -1), air, classes_of(np.eye(4, dtype=bool)))

    assert expected_tables(times, LINKS)[0] == pytest.approx(0.0)
