"""Cross-check of our mixers with torchrl's, which is no dependency:

pip install --no-deps torchrl==0.14.1 tensordict pyvers orjson cloudpickle
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policy.config import FINDINGS
from policy.learn.marl.base import MarlConfig, play
from policy.learn.marl.critics import MonotoneMixer
from policy.learn.marl.qmix import Qmix
from policy.learn.marl.training_worlds import WorldSet, make_world_set
from policy.learn.marl.vdn import SumMixer, Vdn
from policy.learn.marl.view import NUM_FEATURES
from policy.scenario import Scenario
from policy.world.synthetic import synthetic_catalog

pytestmark = pytest.mark.slow
AGENTS, STATE, EMBED = 4, 7, 32
EPISODES = 2


def _mixers() -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """torchrl's QMixer and VDNMixer; its import warns of what it lacks."""
    made = pytest.importorskip("torchrl.modules.models.multiagent")
    return made.QMixer, made.VDNMixer


class _Theirs(nn.Module):
    """torchrl's mixer behind our call."""

    def __init__(self, mixer: nn.Module, needs_state: bool) -> None:
        super().__init__()
        self.mixer, self._needs_state = mixer, needs_state

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        inputs = (values[..., None], state) if self._needs_state else (values[..., None],)
        made: Tensor = self.mixer(*inputs)[..., 0]
        return made


def _with_weights_of(ours: MonotoneMixer, mixer: nn.Module) -> nn.Module:
    """Names differ; our value of the state alone has one layer more."""
    for name, layer in (("hyper_w_1", ours.first), ("hyper_b_1", ours.bias), ("hyper_w_final", ours.second)):
        getattr(mixer, name).load_state_dict(layer.state_dict())
    mixer.V = deepcopy(ours.rest)
    return mixer


def test_the_sum_is_torchrls() -> None:
    theirs = _Theirs(_mixers()[1](n_agents=AGENTS, device="cpu"), needs_state=False)
    values, state = torch.randn(16, AGENTS), torch.randn(16, STATE)

    torch.testing.assert_close(SumMixer()(values, state), theirs(values, state))


def test_the_monotone_mixer_is_torchrls() -> None:
    torch.manual_seed(0)
    ours = MonotoneMixer(STATE, AGENTS)
    mixer = _mixers()[0](state_shape=(STATE,), mixing_embed_dim=EMBED, n_agents=AGENTS, device="cpu")
    theirs = _Theirs(_with_weights_of(ours, mixer), needs_state=True)
    values, state = torch.randn(16, AGENTS, requires_grad=True), torch.randn(16, STATE)

    one, two = ours(values, state), theirs(values, state)

    torch.testing.assert_close(one, two)
    slopes = [torch.autograd.grad(made.sum(), values, retain_graph=True)[0] for made in (one, two)]
    torch.testing.assert_close(*slopes)


@pytest.fixture(scope="module")
def world_set() -> WorldSet:
    catalog = synthetic_catalog(
        np.random.default_rng(1), models=8, blocks_per_model=6, families=3, shared=0.5
    )
    return make_world_set(Scenario(replace(FINDINGS, num_slots=6), catalog), range(8))


@pytest.mark.parametrize("learner", [Vdn, Qmix])
def test_learning_with_torchrls_mixer_gives_the_same_actor(learner: type[Vdn], world_set: WorldSet) -> None:
    qmixer, vdn_mixer = _mixers()

    class WithTheirs(learner):  # type: ignore[misc, valid-type]
        def make_mixer(self) -> nn.Module:
            ours = super().make_mixer()
            if not isinstance(ours, MonotoneMixer):
                return _Theirs(vdn_mixer(n_agents=AGENTS, device="cpu"), needs_state=False)
            made = qmixer(state_shape=(NUM_FEATURES,), mixing_embed_dim=EMBED, n_agents=AGENTS, device="cpu")
            return _Theirs(_with_weights_of(ours, made), needs_state=True)

    config = MarlConfig(worlds=8, batch=16, learning_rate=1e-2, noise=0.3, discount=0.3)
    ours, theirs = learner(world_set, config), WithTheirs(world_set, config)
    for _ in range(EPISODES):
        ours.episode()
        theirs.episode()

    assert play(world_set, ours.actor) == pytest.approx(play(world_set, theirs.actor), rel=1e-3)
    for one, two in zip(ours.actor.parameters(), theirs.actor.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
