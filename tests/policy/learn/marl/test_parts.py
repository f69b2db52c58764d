import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import FINDINGS
from policy.learn.marl.actors import FlatActor, SemanticActor, room_price, soft_choice
from policy.learn.marl.critics import BlockCritic, Mixing, MonotoneMixer
from policy.learn.marl.mappo import order_log_chance
from policy.learn.marl.view import MINE, NUM_FEATURES, NUM_VIEW, VIEW, View, distances, precompute, told
from policy.learn.single_rates import joint_air, world_rates
from policy.scenario import Scenario
from policy.world.synthetic import merged_catalog, synthetic_catalog

SCENARIO = Scenario(
    FINDINGS,
    synthetic_catalog(np.random.default_rng(0), models=5, blocks_per_model=4, families=2, shared=0.5),
)


def _features(samples: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    made = torch.rand(samples, 4, 6, NUM_FEATURES)
    made[..., MINE] = made[..., MINE].round()
    return made


def test_views_online_and_precomputed_agree() -> None:
    trace = SCENARIO.world(1).trace
    requests, cells = trace.requests[None], trace.cells()[None]
    rates = world_rates(SCENARIO.world(1))[None]
    apart = distances(trace.node_xy, trace.user_xy)[None]
    made = precompute(SCENARIO, requests, cells, rates, apart)
    view = View(SCENARIO, 1)
    for slot in range(5):
        np.testing.assert_array_equal(view.features(), made[slot])
        view.observe(requests[:, slot], cells[:, slot], rates[:, slot], apart[:, slot])

    assert np.isfinite(made).all()


def test_a_node_sees_of_demand_its_own_users_and_the_band_alone() -> None:
    trace = SCENARIO.world(1).trace
    cells, rates = trace.cells()[None], world_rates(SCENARIO.world(1))[None]
    apart = distances(trace.node_xy, trace.user_xy)[None]
    view = View(SCENARIO, 1)
    view.observe(trace.requests[None, 0], cells[:, 0], rates[:, 0], apart[:, 0])
    features, members = view.features()[0], SCENARIO.catalog.members
    for node in range(4):
        here = [r for r, cell in zip(trace.requests[0], cells[0, 0], strict=True) if cell == node and r >= 0]
        np.testing.assert_allclose(features[node, :, VIEW["own_last"]][:, 0], members[here].sum(axis=0))
    everyone = members[[r for r in trace.requests[0] if r >= 0]].sum(axis=0)
    np.testing.assert_allclose(features[:, :, VIEW["heard_last"]][..., 0], np.tile(everyone, (4, 1)))


def test_told_nodes_hear_the_sum_and_the_most_of_what_the_others_expect() -> None:
    own = torch.tensor([[0.5], [2.0], [0.1]])  # nodes, blocks
    view = torch.zeros(3, 1, NUM_VIEW)
    view[..., VIEW["own_expected"]] = own[..., None]
    seen = told(view)

    torch.testing.assert_close(seen[..., :NUM_VIEW], view)
    expected = torch.tensor([[2.1, 2.0], [0.6, 0.5], [2.5, 2.0]])[:, None]
    torch.testing.assert_close(seen[..., NUM_VIEW:], expected, rtol=1e-3, atol=0)
    assert (told(view[:1])[..., NUM_VIEW:] == 0).all()


def test_amplitudes_of_single_nodes_add() -> None:
    rates = np.array([[2.0, 4.0]])
    air = joint_air(rates, 1.0)[0]
    joint = (np.sqrt(3.0) + np.sqrt(15.0)) ** 2

    np.testing.assert_allclose(1 / air[1:], [2.0, 4.0, np.log2(1 + joint)])


def test_merging_keeps_every_models_bytes() -> None:
    merged = merged_catalog(SCENARIO.catalog)

    assert np.unique(merged.members, axis=1).shape[1] == merged.num_blocks
    np.testing.assert_array_equal(merged.model_bytes, SCENARIO.catalog.model_bytes)


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
    features[..., MINE] = 0

    torch.testing.assert_close(net(features, torch.rand(4, 4)), net.own(features))


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


def test_choices_are_hard_forward_and_within_the_room_backward() -> None:
    scores = torch.tensor([[[3.0, 1.0, 2.0]]], dtype=torch.float64, requires_grad=True)
    hard, sizes = (
        torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0]).double(),
    )
    choice = soft_choice(scores, hard, sizes, 1.0)
    torch.testing.assert_close(choice.detach(), hard)

    (choice * sizes).sum().backward()  # bytes taken do not change, whatever the scores
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.zeros_like(scores))

    first = torch.autograd.grad(soft_choice(scores, hard, sizes, 1.0)[..., 0].sum(), scores)[0]
    assert first[0, 0, 0] > 0
    assert (first[0, 0, 1:] < 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), temperature=st.floats(0.1, 3.0))
def test_the_price_of_room_takes_as_many_bytes_as_were_taken(seed: int, temperature: float) -> None:
    torch.manual_seed(seed)
    scores, sizes = torch.randn(3, 7).double(), torch.rand(7).double() + 0.1
    taken = (torch.rand(3, 1).double() * 0.8 + 0.1) * sizes.sum()
    price = room_price(scores, taken, sizes, temperature)

    soft = (torch.sigmoid((scores - price) / temperature) * sizes).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(soft, taken, rtol=1e-3, atol=1e-3)


def test_an_unknown_mixing_is_refused() -> None:
    with pytest.raises(ValueError, match="mixing"):
        BlockCritic("sum", 4)  # type: ignore[arg-type]
