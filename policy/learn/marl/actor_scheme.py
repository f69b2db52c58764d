"""A trained actor as a scheme: every node scores its blocks from what it sees, then fills its cache."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from policy.learn.augur import message_bytes
from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.marl.actors import FlatActor, SemanticActor
from policy.learn.marl.vdn import Utilities
from policy.learn.marl.view import View, held_features, node_distance
from policy.place.greedy import fill_by_score
from policy.play.scheme import Observation, Placement, Scheme
from policy.scenario import Scenario
from policy.world.trace import nearest

ACTORS: dict[str, type[nn.Module]] = {
    "maasn-da": SemanticActor,
    "maddpg": FlatActor,
    "mappo": FlatActor,
    "qmix": Utilities,
    "vdn": Utilities,
}
"""Kind of actor of each learner."""


@cache
def load_actor(name: str, path: Path) -> nn.Module:
    """The actor of a learner's checkpoint."""
    actor = ACTORS[name]()
    tensors = load_checkpoint(path).tensors
    actor.load_state_dict({key: torch.from_numpy(tensors[key].copy()) for key in actor.state_dict()})
    return actor.eval()


class ActorScheme:
    """Plays one world."""

    def __init__(self, scenario: Scenario, actor: nn.Module) -> None:
        self._scenario, self._actor = scenario, actor
        self._view = View(scenario, 1)
        sizes = scenario.catalog.sizes_bytes
        self._relative = sizes.mean() / sizes if isinstance(actor, Utilities) else np.ones(sizes.size)

    def decide(self, observation: Observation) -> Placement:
        """Look, score, fill."""
        scenario, history, slot = self._scenario, observation.history, observation.slot
        if slot:
            cells = nearest(history.node_xy, history.user_xy[slot - 1])[None]
            self._view.observe(history.requests[None, slot - 1], cells)
        held = held_features(observation.placement[None])
        features = torch.from_numpy(np.concatenate([self._view.features(), held], axis=-1))
        distance = torch.from_numpy(node_distance(history.node_xy, scenario.config.area_m))
        with torch.no_grad():
            scores: Tensor = self._actor(features, distance)[0]
        value = scores.double().numpy() * self._relative
        holds = fill_by_score(
            value,
            scenario.catalog.sizes_bytes,
            scenario.capacity_bytes,
            observation.at_hand,
            scenario.config.update_budget_bytes,
        )
        return Placement(holds=holds, value=value, message_bytes=message_bytes(scenario))


def start_actor(name: str, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """A scheme that plays the weights of a learner, the shipped ones unless told; draws nothing."""
    return ActorScheme(scenario, load_actor(name, weights_of(name)))
