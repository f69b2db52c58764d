from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from policy.batched import batch_worlds
from policy.config import FINDINGS
from policy.learn.marl.actor_scheme import ACTORS, ActorScheme
from policy.learn.marl.actors import Actor, SemanticActor
from policy.learn.marl.base import Learner, MarlConfig, play
from policy.learn.marl.echo_state import EchoStateNetwork
from policy.learn.marl.maasn_da import MaasnConfig, MaasnDa
from policy.learn.marl.maddpg import Maddpg
from policy.learn.marl.mappo import Mappo, advantages
from policy.learn.marl.qmix import Qmix
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, SPEEDS, ablated, episodes_in
from policy.learn.marl.training_worlds import WorldSet, make_world_set
from policy.learn.marl.turns import turn_of
from policy.learn.marl.vdn import Vdn
from policy.learn.marl.view import NUM_VIEW, VIEW
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


@pytest.fixture(scope="module")
def clocked() -> WorldSet:
    return make_world_set(_overlapping(), range(8))


def _overlapping() -> Scenario:
    """The same where slots overlap: links limit updates, the clock tells delays."""
    plain = _scenario()
    changed = replace(plain.config, timing="pipelined", objective="mean-user", slot_s=4.0)
    return Scenario(changed, plain.catalog)


class Hand(Actor):
    """Scores made by hand."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._score = score

    def own(self, features: Tensor) -> Tensor:
        return self._score(features)


def _trained(name: str, world_set: WorldSet, episodes: int, discount: float = 0.0) -> Learner:
    learner = LEARNERS[name](world_set, replace(CONFIG, discount=discount))
    for _ in range(episodes):
        learner.episode()
    return learner


@pytest.mark.sampled(6)
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
    heard = Hand(lambda features: features[..., VIEW["heard_slow"]].squeeze(-1))
    wanted, blind = (
        play(world_set, actor) for actor in (heard, Hand(lambda seen: torch.zeros(seen.shape[:-1])))
    )
    learnt = play(world_set, _trained(name, world_set, 16 if name == "vdn" else 30).actor)

    assert learnt < blind - 0.5 * (blind - wanted)


def test_costs_that_add_agree_with_the_batch(world_set: WorldSet) -> None:
    draws = torch.Generator().manual_seed(0)
    worlds, slots = torch.arange(16), torch.full((16,), 3)
    before, after = (torch.randint(4, (16, 18), generator=draws) for _ in range(2))
    costs = world_set.block_costs(slots, worlds, before, after).sum(dim=1) * world_set.scale_s
    scenario = _scenario()
    batch = batch_worlds([scenario.world(seed) for seed in range(16)])

    torch.testing.assert_close(costs, batch.costs(3, before, after), rtol=1e-4, atol=1e-4)


def test_parts_of_blocks_add_up_to_what_the_clock_says(clocked: WorldSet) -> None:
    costs, worlds = clocked.costs, torch.arange(8)
    holders = torch.randint(4, (8, 18), generator=torch.Generator().manual_seed(1))
    for slot in range(3):
        slots = torch.full((8,), slot)
        split = costs.by_block(worlds, slots, holders).sum(dim=1)
        for world in range(8):
            work = costs.cost_s[world, slot].gather(1, holders[world].expand(5, 1, -1))[:, 0]
            turns = (costs.sent[world, slot] @ work.T).amax(dim=1)
            torch.testing.assert_close(split[world], turns @ costs.weight[world, slot])


def test_more_holders_never_cost_more(clocked: WorldSet) -> None:
    worlds, slots = torch.arange(8), torch.full((8,), 2)
    fewer = torch.randint(4, (8, 18), generator=torch.Generator().manual_seed(2))
    more = fewer | torch.randint(4, (8, 18), generator=torch.Generator().manual_seed(3))
    one, two = (clocked.costs.by_block(worlds, slots, holders).sum(dim=1) for holders in (fewer, more))

    assert (two <= one + 1e-6).all()


def test_nodes_take_what_fits_and_what_their_links_bring(clocked: WorldSet) -> None:
    limits, slots, worlds = clocked.limits, torch.tensor([0, 1, 2, 3]), torch.arange(4)
    before = torch.randint(4, (4, 18), generator=torch.Generator().manual_seed(4))
    noise = torch.Generator().manual_seed(5)
    actor = Hand(lambda features: torch.rand(features.shape[:-1], generator=noise))
    decided = clocked.decide(actor, slots, worlds, before)
    held, fresh = decided.holds, decided.holds * (1 - clocked.bits_of(before))

    assert ((held * limits.sizes).sum(dim=-1) <= limits.capacity).all()
    assert ((fresh * limits.hop_s).sum(dim=-1) <= clocked.idle_s + 1e-9).all()
    torch.testing.assert_close(clocked.bits_of(clocked.holders_of(held)), held)


def test_no_node_brings_more_than_the_budget_of_updates() -> None:
    plain = _overlapping()
    budget = 1.1 * float(plain.catalog.sizes_bytes.max())
    scenario = Scenario(replace(plain.config, update_budget_bytes=budget), plain.catalog)
    worlds, slots = make_world_set(scenario, range(4)), torch.arange(4)
    before = torch.randint(4, (4, 18), generator=torch.Generator().manual_seed(4))
    draws = torch.Generator().manual_seed(5)
    decided = worlds.decide(
        Hand(lambda features: torch.rand(features.shape[:-1], generator=draws)), slots, slots, before
    )
    fresh = (decided.holds * (1 - worlds.bits_of(before)) * worlds.limits.sizes).sum(dim=-1)

    assert (fresh <= budget).all()
    assert (fresh > 0).any()


def test_told_nodes_learn_on_what_the_others_expect_and_pay_for_it(clocked: WorldSet) -> None:
    own = MaasnConfig(temperature=0.5, units=4, told=True)
    learner = MaasnDa(clocked.told(), replace(CONFIG, discount=0.5), own)
    learner.episode()
    entry = SchemeEntry(
        name="told", start=lambda scenario, rng: ActorScheme(scenario, learner.actor), paper=""
    )
    plain = SchemeEntry(
        name="plain", start=lambda scenario, rng: ActorScheme(scenario, SemanticActor()), paper=""
    )
    world = _overlapping().world(3)
    told, alone = (rollout(world, one, np.random.default_rng(0)) for one in (entry, plain))

    assert np.isfinite(play(clocked.told(), learner.actor))
    assert told.message_bytes - alone.message_bytes == 8 * 2 * 1 * 18 * 2


@pytest.mark.parametrize("other", ["semantics", "decomposition"])
def test_told_needs_the_parts_that_read_it(other: str) -> None:
    with pytest.raises(ValueError, match="told needs"):
        MaasnConfig(**{"told": True, other: False})


def test_what_a_node_saw_is_what_the_features_of_a_replay_say(clocked: WorldSet) -> None:
    seen: list[Tensor] = []

    def score(features: Tensor) -> Tensor:
        seen.append(features)
        return features[..., VIEW["heard_slow"]].squeeze(-1) - features[..., NUM_VIEW + 1]

    before = torch.randint(4, (4, 18), generator=torch.Generator().manual_seed(6))
    slots, worlds = torch.tensor([0, 1, 2, 5]), torch.arange(4)
    decided = clocked.decide(Hand(score), slots, worlds, before)
    replayed = clocked.features(slots, worlds, before, clocked.holders_of(decided.holds))
    turn = turn_of(slots, clocked.num_nodes)

    for place, features in enumerate(seen):
        node = (turn == place).int().argmax(dim=1)
        torch.testing.assert_close(features, replayed[torch.arange(4), node])


def test_the_echo_learns_to_predict_worlds_that_it_never_saw(clocked: WorldSet) -> None:
    echo, draws = EchoStateNetwork(clocked, units=16, seed=0), torch.Generator().manual_seed(0)
    worlds = torch.arange(8)
    assert echo.explained == 0.0
    for _ in range(2):
        for slot in range(clocked.num_slots):
            slots = torch.full((8,), slot)
            holders = torch.randint(4, (8, 18), generator=draws)
            echo.played(slots, worlds, holders, clocked.costs.by_block(worlds, slots, holders))
        first = echo.explained
        echo.fit()
    late = EchoStateNetwork(clocked, units=16, seed=0)
    late.load_state_dict(echo.state_dict())

    assert first > 0.02
    assert (late.predict(slots, worlds, holders) == echo.predict(slots, worlds, holders)).all()


def test_a_reservoir_of_zeros_is_mended(world_set: WorldSet) -> None:
    assert torch.isfinite(EchoStateNetwork(world_set, units=1, seed=3, radius=0.0)._states).all()


@pytest.mark.parametrize(("augmentation", "share"), [("exact", 0.5), ("none", 0.0), ("echo", 0.0)])
def test_the_share_of_synthetic_samples_follows_what_was_predicted(
    augmentation: Literal["exact", "none", "echo"], share: float, clocked: WorldSet
) -> None:
    learner = MaasnDa(clocked, CONFIG, MaasnConfig(augmentation=augmentation, units=4))

    assert learner.synthetic_share == share
    if augmentation == "echo":
        assert learner._echo_network is not None
        learner._echo_network.error.copy_(torch.tensor([1.0, 1.0, 4.0]))
        assert learner.synthetic_share == pytest.approx(0.5 * 0.75)


def test_advantages_match_a_case_worked_by_hand() -> None:
    cost, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [1.0]])
    last = 2.0 - 1.0
    first = 1.0 + 0.5 * 1.0 - 3.0 + 0.5 * 0.9 * last

    torch.testing.assert_close(advantages(cost, value, 0.5, 0.9), torch.tensor([[first], [last]]))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ACTORS)
def test_an_actor_plays_and_fits(name: str) -> None:
    torch.manual_seed(0)
    actor = ACTORS[name]()
    entry = SchemeEntry(name=name, start=lambda scenario, rng: ActorScheme(scenario, actor), paper="")
    for scenario in (_scenario(), _overlapping()):
        episode = rollout(scenario.world(3), entry, np.random.default_rng(0))
        assert np.isfinite(episode.cost_s).all()
        assert all(outcome.update.cut_bytes == 0 for outcome in episode.outcomes)


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

    changed = [
        {key for key in before[part] if before[part][key] != after[part][key]} for part in ("own", "config")
    ]
    assert changed[0] | changed[1] == set(ABLATIONS[name])


@pytest.mark.parametrize("field", ["learning_rate", "worlds", "discount"])
def test_bad_settings_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=r"learning_rate|worlds"):
        replace(CONFIG, **{field: -1})
