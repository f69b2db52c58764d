"""A learner of one's own: it learns what a copy saves from what it would have saved, slot by slot.

pbcast train policy/examples/my_learner.py:Regression --out runs/mine --steps 20
pbcast evaluate --weights runs/mine/best.safetensors --schemes lru,policy/examples/my_learner.py:ENTRY
"""

import torch

from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.marl.actor_scheme import ActorScheme
from policy.learn.marl.actors import FlatActor
from policy.learn.marl.base import Learner, MarlConfig, descend
from policy.learn.marl.training_worlds import WorldSet
from policy.schemes import SchemeEntry


class Regression(Learner):
    """The score of a block is the time that the node's copy is expected to save, a byte."""

    name = "my-regression"

    def __init__(self, world_set: WorldSet, config: MarlConfig) -> None:
        super().__init__(world_set, config)
        self.actor = FlatActor()
        self._steps = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)

    def update(self) -> None:
        """One step towards the cost of the block as it was served, the larger the more a copy could save."""
        slots = self.memory.sample(self.config.batch, self.generator)
        cost = self.costs_of(slots)
        descend(self._steps, (self.scores(self.features_of(slots)) - cost[:, None]).square().mean())


def start(scenario, rng):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """A scheme that plays the weights named by `--weights`."""
    actor = FlatActor()
    tensors = load_checkpoint(weights_of(Regression.name)).tensors
    actor.load_state_dict({key: torch.from_numpy(tensors[key].copy()) for key in actor.state_dict()})
    return ActorScheme(scenario, actor.eval())


ENTRY = SchemeEntry(name=Regression.name, start=start, paper="an example")
