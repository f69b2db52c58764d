"""Neurons matched before an average: names do not matter, and a renamed twin is recognised bit for bit."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from demo.zoo.fusion import State, aligned, fused, parts_of, shuffled
from demo.zoo.train import seeded

HEADS = 3
CONFIG = BertConfig(
    vocab_size=13,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    intermediate_size=20,
    num_labels=4,
)
TOKENS = torch.arange(21).reshape(3, 7) % 13


def net_of(seed: int) -> BertForSequenceClassification:
    with seeded(seed):
        net = BertForSequenceClassification(CONFIG).eval()
        for value in net.parameters():
            value.data.add_(0.1 * torch.randn_like(value))
    return net


def state_of(seed: int) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net_of(seed).state_dict().items()}


def distance(first: State, second: State) -> float:
    return float(sum((first[name] - second[name]).double().square().sum() for name in first))


@pytest.mark.parametrize("seed", range(3))
def test_new_names_change_nothing_that_is_computed(seed: int) -> None:
    net = net_of(seed)
    with torch.no_grad():
        before = net(TOKENS).logits
        moved = shuffled(net.state_dict(), HEADS, np.random.default_rng(seed))
        assert sum(not torch.equal(moved[name], value) for name, value in net.state_dict().items()) > 20
        net.load_state_dict(moved)
        torch.testing.assert_close(net(TOKENS).logits, before)


@pytest.mark.parametrize("seed", range(3))
def test_a_renamed_twin_is_recognised(seed: int) -> None:
    state = state_of(seed)
    back = aligned(state, shuffled(state, HEADS, np.random.default_rng(seed)), HEADS)

    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_is_matched_does_not_depend_on_names_and_nothing_is_nearer() -> None:
    first, second = state_of(1), state_of(2)
    matched = aligned(first, second, HEADS)
    for seed in range(4):
        renamed = shuffled(second, HEADS, np.random.default_rng(seed))
        again = aligned(first, renamed, HEADS)
        assert all(torch.equal(again[name], matched[name]) for name in matched)
        assert distance(first, matched) < distance(first, renamed)
    assert distance(first, matched) < distance(first, second)


def test_the_average_of_twins_is_the_twin_only_if_they_are_matched() -> None:
    state = state_of(3)
    twin = shuffled(state, HEADS, np.random.default_rng(0))

    assert distance(state, fused(state, aligned(state, twin, HEADS))) == 0.0
    assert distance(state, fused(state, twin)) > 1.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_an_average_lies_between_its_parents(share: float) -> None:
    first, second = state_of(1), state_of(2)
    child = fused(first, second, share)

    if share in (0.0, 1.0):
        parent = second if share else first
        assert all(torch.equal(child[name], parent[name]) for name in parent)
    assert distance(first, child) == pytest.approx(share**2 * distance(first, second), rel=1e-5)
    assert child["classifier.weight"].dtype == torch.float32


def test_every_layer_and_the_pooler_are_matched_and_strangers_refused() -> None:
    state = state_of(0)
    assert len(parts_of(state, HEADS)) == 2 * CONFIG.num_hidden_layers + 1
    with pytest.raises(ValueError, match="same names and shapes"):
        aligned(state, {**state, "classifier.bias": torch.zeros(3)}, HEADS)
