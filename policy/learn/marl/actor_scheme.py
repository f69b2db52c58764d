"""A trained actor as a scheme: nodes score blocks by what they see, in turn, and fill their caches."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.marl.actors import Actor, FlatActor, SemanticActor, Utilities
from policy.learn.marl.training_worlds import limits_of
from policy.learn.marl.turns import decide
from policy.learn.marl.view import FORECAST_BYTES, View, bits_of_holders, distances, node_distance, told
from policy.learn.single_rates import node_rates
from policy.play.scheme import Observation, Placement, Scheme
from policy.scenario import Scenario
from policy.world.trace import nearest

ACTORS: dict[str, type[Actor]] = {
    "maasn-da": SemanticActor,
    "maddpg": FlatActor,
    "mappo": FlatActor,
    "qmix": Utilities,
    "vdn": Utilities,
}
"""Kind of actor of each learner."""


@cache
def load_actor(name: str, path: Path) -> Actor:
    """The actor of a learner's checkpoint."""
    actor = ACTORS[name]()
    tensors = load_checkpoint(path).tensors
    actor.load_state_dict({key: torch.from_numpy(tensors[key].copy()) for key in actor.state_dict()})
    return actor.eval()


def message_bytes(nodes: int, blocks: int, told: bool = False) -> int:
    """What nodes send in a slot: to each other node, what it will hold and what it pushes, 2 bits a block.

    Where they tell one another what they expect (`told`), also `FORECAST_BYTES` a block.
    """
    return nodes * (nodes - 1) * (2 * -(-blocks // 8) + (FORECAST_BYTES * blocks if told else 0))


class ActorScheme:
    """Plays one world."""

    def __init__(self, scenario: Scenario, actor: Actor) -> None:
        self._scenario, self._actor = scenario, actor
        self._view, self._limits = View(scenario, 1), limits_of(scenario)

    def decide(self, observation: Observation) -> Placement:
        """Look, score, fill, one node after another."""
        config, history, slot = self._scenario.config, observation.history, observation.slot
        if slot:
            places, users = history.user_xy[slot - 1], np.arange(config.num_users)
            rates = node_rates(_Past(observation), slot - 1, users, (config.num_users, config.num_nodes))
            cells = nearest(history.node_xy, places)[None]
            apart = distances(history.node_xy, places)[None]
            self._view.observe(history.requests[None, slot - 1], cells, rates[None], apart)
        view = torch.from_numpy(self._view.features())
        with torch.no_grad():
            decided = decide(
                self._actor,
                told(view) if self._actor.told else view,
                torch.from_numpy(bits_of_holders(observation.at_hand)),
                torch.tensor([slot]),
                torch.from_numpy(observation.idle_s)[None],
                self._limits,
                torch.from_numpy(node_distance(history.node_xy, config.area_m)),
            )
        return Placement(
            holds=decided.holds[0].numpy() > 0,
            value=decided.scores[0].double().numpy(),
            message_bytes=message_bytes(
                config.num_nodes, self._scenario.catalog.num_blocks, self._actor.told
            ),
        )


class _Past:
    """The radio of slots that have passed."""

    def __init__(self, observation: Observation) -> None:
        self.rate_bit_s = observation.history.rate_bit_s


def start_actor(name: str, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """A scheme that plays the weights of a learner, the shipped ones unless told; draws nothing."""
    return ActorScheme(scenario, load_actor(name, weights_of(name)))
