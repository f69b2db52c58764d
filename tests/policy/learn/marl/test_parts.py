import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import FINDINGS
from policy.learn.marl.actors import FlatActor, SemanticActor, soft_choice
from policy.learn.marl.critics import BlockCritic, Mixing, MonotoneMixer
from policy.learn.marl.mappo import order_log_chance
from policy.learn.marl.view import NUM_FEATURES, View, precompute, turns
from policy.scenario import Scenario
from policy.world.synthetic import synthetic_catalog

SCENARIO = Scenario(
    FINDINGS,
    synthetic_catalog(np.random.default_rng(0), models=5, blocks_per_model=4, families=2, shared=0.5),
)


def _features(samples: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    made = torch.rand(samples, 4, 6, NUM_FEATURES)
    made[..., -2] = made[..., -2].round()
    return made


def test_views_online_and_precomputed_agree() -> None:
    trace = SCENARIO.world(1).trace
    requests, cells = trace.requests[None], trace.cells()[None]
    made = precompute(SCENARIO, requests, cells)
    view = View(SCENARIO, 1)
    for slot in range(5):
        np.testing.assert_array_equal(view.features(), made[slot])
        view.observe(requests[:, slot], cells[:, slot])

    assert np.isfinite(made).all()


def test_every_block_has_one_node_whose_turn_is_first() -> None:
    made = turns(4, 30)

    assert ((made == 0).sum(axis=0) == 1).all()
    assert (made == 0).any(axis=1).all()


@pytest.mark.parametrize("actor", [FlatActor, SemanticActor])
def test_renumbering_nodes_and_blocks_renumbers_scores(actor: type[torch.nn.Module]) -> None:
    net, features, distance = actor(), _features(), torch.rand(4, 4)
    distance = distance + distance.T
    nodes, blocks = torch.randperm(4), torch.randperm(6)
    scores = net(features, distance)
    moved = net(features[:, nodes][:, :, blocks], distance[nodes][:, nodes])

    torch.testing.assert_close(moved, scores[:, nodes][:, :, blocks])


def test_a_node_without_a_block_cannot_send_it() -> None:
    net, features = SemanticActor(), _features()
    features[..., -2] = 0
    alone = net.own(features).squeeze(-1)

    torch.testing.assert_close(net(features, torch.rand(4, 4)), alone)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_mixer_is_monotone(seed: int) -> None:
    torch.manual_seed(seed)
    mixer, state, values = MonotoneMixer(3, 4), torch.randn(8, 3), torch.randn(8, 4)
    more = values.clone()
    more[:, seed % 4] += torch.rand(8)

    assert (mixer(more, state) >= mixer(values, state) - 1e-5).all()


@pytest.mark.parametrize("mixing", ["vdn", "qmix", "qplex"])
def test_each_node_may_choose_alone(mixing: Mixing) -> None:
    """The IGM principle: the joint minimum is where each node takes its own minimum."""
    torch.manual_seed(1)
    critic, features = BlockCritic(mixing, 4), _features(1)
    actions = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))[:, :, None].expand(16, 4, 6)
    with torch.no_grad():
        costs = critic(features.expand(16, 4, 6, NUM_FEATURES), actions)
        effect = critic.value(features)[0, ..., 1]

    best = actions[costs.argmin(dim=0), :, torch.arange(6)].T
    torch.testing.assert_close(best, (effect < 0).float())


def test_likelihoods_of_all_orders_sum_to_one() -> None:
    scores = torch.randn(1, 1, 4)
    total = 0.0
    for order in itertools.permutations(range(4), 2):
        noisy = torch.zeros(1, 1, 4)
        noisy[0, 0, list(order)] = torch.tensor([2.0, 1.0])
        taken = torch.zeros(1, 1, 4)
        taken[0, 0, list(order)] = 1
        total += float(torch.exp(2 * order_log_chance(scores, noisy, taken)))

    assert total == pytest.approx(1.0, abs=1e-5)


def test_choices_are_hard_forward_and_soft_backward() -> None:
    scores = torch.tensor([[[3.0, 1.0, 2.0]]], requires_grad=True)
    hard = torch.tensor([[[1.0, 0.0, 1.0]]])
    choice = soft_choice(scores, hard, 1.0)
    choice.sum().backward()

    torch.testing.assert_close(choice.detach(), hard)
    assert scores.grad is not None
    assert (scores.grad > 0).all()


def test_an_unknown_mixing_is_refused() -> None:
    with pytest.raises(ValueError, match="mixing"):
        BlockCritic("sum", 4)  # type: ignore[arg-type]
