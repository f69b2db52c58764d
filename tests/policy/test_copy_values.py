import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.place.copy_values import CopyValues, place_by_copy_values, slot_copy_values
from policy.play.migration import separable_holders, serve_with
from policy.scenario import load_scenario
from policy.slot.tables import ServiceRules


def test_copy_values_are_what_copies_save() -> None:
    """A copy at one node that counts, then at all of them, against nothing cached."""
    world = load_scenario("findings").world(0)
    scenario, rules = world.scenario, ServiceRules()
    values = slot_copy_values(scenario, world.delay, 0, world.needs(0))
    for block in np.flatnonzero(values.first_s)[:6]:
        cost = []
        for nodes in (
            [],
            np.flatnonzero(values.copy_s[:, block])[:1],
            np.flatnonzero(values.copy_s[:, block]),
        ):
            placement = np.zeros((4, 60), dtype=bool)
            placement[nodes, block] = True
            holders = separable_holders(world, world.problem(0, placement, rules))
            cost.append(serve_with(world, 0, placement, holders, rules).block_delay_s[block])
        saved = values.first_s[block] + values.copy_s[:, block].sum()
        assert cost[0] - cost[-1] == pytest.approx(saved, rel=0.05)
        assert cost[0] - cost[1] == pytest.approx(
            values.first_s[block] + values.copy_s[:, block].max(), rel=0.05
        )


@given(seed=st.integers(0, 9999), budget=st.sampled_from([np.inf, 50.0]))
def test_placements_by_copy_values_fit_and_nothing_useful_is_left_out(seed: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    sizes, room = rng.integers(1, 30, size=12), rng.integers(0, 120, size=5).astype(float)
    values = CopyValues(
        copy_s=rng.exponential(size=(5, 12)) * (rng.random((5, 12)) < 0.3), first_s=rng.random(12)
    )
    before = rng.random((5, 12)) < 0.1
    made = place_by_copy_values(values, sizes, room, before, budget)

    assert (made @ sizes <= room).all()
    assert ((made & ~before) @ sizes <= budget).all()
    left = room - made @ sizes
    spare = budget - (made & ~before) @ sizes
    for block in np.flatnonzero(~made.any(axis=0)):
        price = np.where(before[:, block], 0.0, float(sizes[block]))
        assert ((sizes[block] > left) | (price > spare)).all()


def test_dear_updates_keep_what_is_there() -> None:
    values = CopyValues(copy_s=np.array([[0.0, 0.0]]), first_s=np.array([2.0, 1.0]))
    before = np.array([[False, True]])
    sizes, room = np.array([10, 10]), np.array([10.0])

    assert place_by_copy_values(values, sizes, room, before).tolist() == [[True, False]]
    costly = (np.full(2, 5.0), np.full(2, 5.0))
    assert place_by_copy_values(values, sizes, room, before, np.inf, costly).tolist() == [[False, True]]
