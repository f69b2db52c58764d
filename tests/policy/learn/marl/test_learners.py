from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from policy.config import FINDINGS
from policy.learn.marl.actor_scheme import ACTORS, ActorScheme
from policy.learn.marl.base import Learner, MarlConfig, play
from policy.learn.marl.echo_state import EchoStateNetwork
from policy.learn.marl.maasn_da import MaasnConfig, MaasnDa
from policy.learn.marl.maddpg import Maddpg
from policy.learn.marl.mappo import Mappo
from policy.learn.marl.qmix import Qmix
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, SPEEDS, ablated, episodes_in
from policy.learn.marl.training_worlds import WorldSet, make_world_set
from policy.learn.marl.vdn import Vdn
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario
from policy.world.synthetic import synthetic_catalog

CONFIG = MarlConfig(worlds=8, batch=8, learning_rate=1e-2, noise=0.3)
LEARNERS: dict[str, Callable[[WorldSet, MarlConfig], Learner]] = {
    "maasn-da": lambda world_set, config: MaasnDa(world_set, config, MaasnConfig(temperature=0.5, units=8)),
    "maddpg": Maddpg,
    "mappo": Mappo,
    "qmix": Qmix,
    "vdn": Vdn,
}


def _scenario() -> Scenario:
    """Nearly all ask for one model, which differs from world to world; caches hold about two models."""
    catalog = synthetic_catalog(
        np.random.default_rng(1), models=6, blocks_per_model=3, families=6, shared=0.0, size_sigma=0.1
    )
    requests = replace(FINDINGS.requests, zipf_exponent=6.0, stickiness=0.0, no_repeat=0, reshuffle_prob=0.0)
    config = replace(
        FINDINGS, num_nodes=2, num_users=6, num_slots=8, requests=requests, capacity_bytes=(150e6,)
    )
    return Scenario(config, catalog)


@pytest.fixture(scope="module")
def world_set() -> WorldSet:
    return make_world_set(_scenario(), range(16))


def _trained(name: str, world_set: WorldSet, episodes: int, discount: float = 0.0) -> Learner:
    learner = LEARNERS[name](world_set, replace(CONFIG, discount=discount))
    for _ in range(episodes):
        learner.episode()
    return learner


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_seed_gives_the_same_actor(name: str, world_set: WorldSet) -> None:
    first, second = (_trained(name, world_set, 2, discount=0.5) for _ in range(2))

    assert first.env_steps == 2 * 8 * 8
    for one, two in zip(first.actor.parameters(), second.actor.parameters(), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("maasn-da", "mappo")), "vdn"]
)
def test_a_popular_model_is_learnt_to_be_cached(name: str, world_set: WorldSet) -> None:
    wanted = play(world_set, lambda features: features[..., 0] + features[..., 1])
    blind = play(world_set, lambda features: torch.zeros(features.shape[:3]))
    learnt = play(world_set, _trained(name, world_set, 30).scores)

    assert learnt < blind - 0.6 * (blind - wanted)


def test_costs_agree_with_the_batch(world_set: WorldSet) -> None:
    draws = torch.Generator().manual_seed(0)
    worlds, slots = torch.arange(16), torch.full((16,), 3)
    before, after = (world_set.fill(torch.rand(16, 2, 18, generator=draws)) for _ in range(2))
    costs = world_set.block_costs(slots, worlds, before, after).sum(dim=1) * world_set.scale_s

    torch.testing.assert_close(costs, world_set.batch.costs(3, before, after), rtol=1e-4, atol=1e-4)


def test_the_echo_predicts_better_than_the_mean(world_set: WorldSet) -> None:
    echo = EchoStateNetwork(world_set, units=16, seed=0)

    assert 0.05 < echo.explained < 1
    assert echo.tables.shape == world_set.batch.tables_s.shape


def test_a_reservoir_of_zeros_is_mended(world_set: WorldSet) -> None:
    assert np.isfinite(EchoStateNetwork(world_set, units=1, seed=3, radius=0.0).explained)


@pytest.mark.parametrize("name", ACTORS)
def test_an_actor_plays_and_fits(name: str) -> None:
    torch.manual_seed(0)
    actor = ACTORS[name]()
    entry = SchemeEntry(name=name, start=lambda scenario, rng: ActorScheme(scenario, actor), paper="")
    scenario = _scenario()

    episode = rollout(scenario.world(3), entry, np.random.default_rng(0))

    assert np.isfinite(episode.cost_s).all()


def test_every_learner_has_the_same_number_of_settings() -> None:
    assert {len(choices) for choices in CHOICES.values()} == {3}
    assert set(CHOICES) == set(ACTORS) == set(BEST)
    assert all(BEST[name] in CHOICES[name] for name in CHOICES)
    assert set(SPEEDS) == {*CHOICES, *ABLATIONS}
    assert all(episodes_in(name, 10.0) >= episodes_in("maasn-da", 10.0) for name in ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing(name: str) -> None:
    best = CHOICES["maasn-da"][BEST["maasn-da"]]
    before, after = asdict(best), asdict(ablated(name, best))

    assert {key for key in before["own"] if before["own"][key] != after["own"][key]} == set(ABLATIONS[name])
    assert before["config"] == after["config"]


@pytest.mark.parametrize("field", ["learning_rate", "worlds", "discount"])
def test_bad_settings_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=r"learning_rate|worlds"):
        replace(CONFIG, **{field: -1})
