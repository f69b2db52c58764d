from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.batched import VectorEnv, batch_worlds, fill_scores, greedy_masks
from policy.config import PRESETS, RequestConfig
from policy.place.greedy import fill_by_score, greedy_placement
from policy.play.rollout import rollout, slot_cost_s
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import ServiceRules, from_masks, to_masks
from tests.fakes import CountDelay

RULES = st.builds(ServiceRules, comp=st.booleans(), migration=st.booleans(), share_air=st.booleans())


@settings(max_examples=20)
@given(seed=st.integers(0, 999), rules=RULES, coherent=st.booleans(), keep=st.booleans())
def test_torch_tables_agree_with_the_reference(
    seed: int, rules: ServiceRules, coherent: bool, keep: bool
) -> None:
    base = load_scenario("findings")
    radio = replace(base.config.radio, combining="coherent" if coherent else "power-sum")
    requests = replace(base.config.requests, keep_downloads=keep, device_bytes=500e6)
    scenario = Scenario(replace(base.config, num_slots=4, radio=radio, requests=requests), base.catalog)
    world = scenario.world(seed)
    batch = batch_worlds([world], rules)
    for slot in range(4):
        want = world.table(slot, rules).cost_s
        assert batch.tables_s[0, slot].numpy() == pytest.approx(want, rel=2e-5, abs=1e-6)


def test_other_radios_are_stacked_from_their_own_tables() -> None:
    scenario = load_scenario("findings")
    world = scenario.world_of(scenario.world(1).trace, CountDelay(1e8))
    batch = batch_worlds([world])

    assert batch.snr is None
    assert batch.tables_s[0, 3].numpy() == pytest.approx(world.table(3).cost_s)
    with pytest.raises(ValueError, match="cheap radio"):
        VectorEnv(batch, tables=False).step(torch.zeros((1, 60), dtype=torch.int64))


@given(seed=st.integers(0, 9999), budget=st.sampled_from([np.inf, 40.0]))
def test_torch_decoders_agree_with_the_reference(seed: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    sizes, room = rng.integers(1, 30, size=9), rng.integers(20, 90, size=3).astype(float)
    scores = rng.integers(0, 5, size=(2, 3, 9)).astype(float)
    before = rng.random((2, 3, 9)) < 0.2
    tables = np.sort(rng.exponential(size=(2, 9, 8)), axis=2)[..., ::-1].copy()
    made = fill_scores(*map(torch.tensor, (scores, sizes, room, before)), budget)
    greedy = greedy_masks(*map(torch.tensor, (tables, sizes, room)))
    for row in range(2):
        want = fill_by_score(scores[row], sizes, room, before[row], budget)
        assert (from_masks(made[row].numpy(), 3) == want).all()
        assert (from_masks(greedy[row].numpy(), 3) == greedy_placement(tables[row], sizes, room)).all()


def test_vector_env_counts_what_the_played_slots_count() -> None:
    scenario = load_scenario("findings")
    worlds = [scenario.world(seed) for seed in range(3)]
    batch = batch_worlds(worlds)
    episodes = [rollout(w, find_scheme("popularity"), np.random.default_rng(0)) for w in worlds]
    for tables in (True, False):
        env = VectorEnv(batch, tables=tables)
        env.reset()
        for slot in range(batch.num_slots):
            holders = torch.tensor(np.stack([to_masks(e.placements[slot]) for e in episodes]))
            cost = env.step(holders)
            want = [slot_cost_s(e.outcomes[slot], PRESETS["findings"]) for e in episodes]
            assert cost.numpy() == pytest.approx(want, rel=1e-4)
        assert env.done
        with pytest.raises(ValueError, match="over"):
            env.step(env.holders)


def test_vector_env_decodes_within_capacity_and_budget() -> None:
    base = load_scenario("findings")
    scenario = Scenario(replace(base.config, update_budget_bytes=1e8, requests=RequestConfig()), base.catalog)
    env = VectorEnv(batch_worlds([scenario.world(0), scenario.world(1)]))
    generator = torch.Generator().manual_seed(0)
    while not env.done:
        before = env.holders.clone()
        holders = env.decode(torch.rand((2, 4, 60), generator=generator))
        env.step(holders)
        for row in range(2):
            holds, had = from_masks(holders[row].numpy(), 4), from_masks(before[row].numpy(), 4)
            assert (holds @ scenario.catalog.sizes_bytes <= scenario.capacity_bytes).all()
            assert ((holds & ~had) @ scenario.catalog.sizes_bytes <= 1e8).all()


def test_stepping_without_tables_is_refused_where_devices_keep_blocks() -> None:
    base = load_scenario("findings")
    requests = replace(base.config.requests, keep_downloads=True)
    scenario = Scenario(replace(base.config, requests=requests), base.catalog)
    env = VectorEnv(batch_worlds([scenario.world(0)]), tables=False)
    with pytest.raises(ValueError, match="devices that keep nothing"):
        env.step(env.holders)
