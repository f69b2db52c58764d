from dataclasses import replace

import numpy as np
import pytest

from policy.config import FINDINGS, PRESETS
from policy.interfaces import BlockCatalog
from policy.learn.augur_many_nodes import AugurManyNodesConfig
from policy.learn.value import classes_of
from policy.place.copy_values import slot_copy_values
from policy.play.rollout import rollout
from policy.scenario import Scenario
from policy.schemes.learned import ENTRY
from policy.world.synthetic import synthetic_catalog


def test_it_plays_with_more_nodes_than_tables_allow() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=6, blocks_per_model=4, families=2, shared=0.5
    )
    config = replace(FINDINGS, num_nodes=9, num_users=10, num_slots=4, area_m=900.0, capacity_bytes=())
    scenario = Scenario(config, catalog)
    first, second = (rollout(scenario.world(2), ENTRY, np.random.default_rng(1)) for _ in range(2))

    assert np.isfinite(first.cost_s).all()
    np.testing.assert_array_equal(first.cost_s, second.cost_s)
    assert first.placements[-1].any(axis=1).all()


def test_where_slots_overlap_all_room_is_one_pool() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=6, blocks_per_model=4, families=2, shared=0.5
    )
    config = replace(PRESETS["default"], num_nodes=9, num_users=6, num_slots=3, capacity_share=0.2)
    scenario = Scenario(config, catalog)
    episode = rollout(scenario.world(2), ENTRY, np.random.default_rng(1))

    fits = (catalog.sizes_bytes <= scenario.capacity_bytes.max()).sum()
    assert episode.placements[-1].any(axis=0).sum() >= 0.8 * fits  # room for 180 %: nearly all lie somewhere


def test_blocks_of_a_class_are_worth_their_size() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=6, blocks_per_model=8, families=2, shared=0.5, size_sigma=1.0
    )
    config = replace(FINDINGS, num_nodes=9, num_users=10, num_slots=2, area_m=900.0, capacity_bytes=())
    scenario, classes = Scenario(config, catalog), classes_of(catalog.members)
    size = classes.members.shape[1]
    one_byte = Scenario(
        replace(config, capacity_bytes=(1.0,)),
        BlockCatalog(sizes_bytes=np.ones(size, dtype=np.int64), members=classes.members),
    )
    world = scenario.world(2)
    asked = world.trace.requests[1]
    needs = classes.members[asked] & (asked >= 0)[:, None]

    of_class = slot_copy_values(one_byte, world.delay, 1, needs)
    of_block = slot_copy_values(scenario, world.delay, 1, world.needs(1))

    sizes = catalog.sizes_bytes
    assert size < sizes.size
    np.testing.assert_allclose(of_class.copy_s[:, classes.of_block] * sizes, of_block.copy_s)
    np.testing.assert_allclose(of_class.first_s[classes.of_block] * sizes, of_block.first_s)


@pytest.mark.parametrize("changes", [{"samples": 0}, {"memory": 0.0}, {"update": -1.0}])
def test_bad_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="samples"):
        AugurManyNodesConfig(**changes)  # type: ignore[arg-type]
