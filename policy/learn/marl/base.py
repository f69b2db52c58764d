"""What all learned baselines share: exploration, replay of past slots, the judge, a state to resume from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from policy.learn.checkpoint import Arrays, part_of
from policy.learn.marl.actors import gumbel_like
from policy.learn.marl.training_worlds import WorldSet
from policy.learn.state import load_optimizer, optimizer_state

Part = TypeVar("Part", nn.Module, torch.optim.Optimizer)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarlConfig:
    """Settings that every learner has; tuned with the same budget for each."""

    seed: int = 0
    """Source of weights, noise and minibatches."""
    learning_rate: float = 2e-3
    """Adam's."""
    discount: float = 0.0
    """Weight of the next slot; placements act on later slots through update costs alone."""
    noise: float = 1.0
    """Scale of the Gumbel noise on the scores."""
    worlds: int = 48
    """Worlds that step together."""
    batch: int = 48
    """Slots in a minibatch."""
    memory: int = 20_000
    """Slots that are remembered."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.noise < 0 or not 0 <= self.discount < 1:
            raise ValueError("need learning_rate > 0, noise >= 0 and 0 <= discount < 1")
        if min(self.worlds, self.batch, self.memory) < 1:
            raise ValueError("worlds, batch and memory must be >= 1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Some slots that were played: where, from what, to what."""

    slot: Tensor
    world: Tensor
    before: Tensor
    after: Tensor


class Memory:
    """Ring buffer of played slots; costs and features are looked up again when needed."""

    def __init__(self, size: int, blocks: int) -> None:
        self._index = torch.zeros((size, 2), dtype=torch.int64)
        self._masks = torch.zeros((size, 2, blocks), dtype=torch.uint8)  # sets of at most 6 nodes
        self._next, self.count = 0, 0

    def add(self, slot: int, worlds: Tensor, before: Tensor, after: Tensor) -> None:
        """Remember one slot of some worlds."""
        rows = (self._next + torch.arange(worlds.numel())) % self._index.shape[0]
        self._index[rows, 0], self._index[rows, 1] = slot, worlds
        self._masks[rows, 0], self._masks[rows, 1] = before.byte(), after.byte()
        self._next = int(rows[-1] + 1) % self._index.shape[0]
        self.count = min(self.count + worlds.numel(), self._index.shape[0])

    def sample(self, size: int, generator: torch.Generator) -> Slots:
        """Draw with replacement."""
        rows = torch.randint(self.count, (size,), generator=generator)
        index, masks = self._index[rows], self._masks[rows].long()
        return Slots(slot=index[:, 0], world=index[:, 1], before=masks[:, 0], after=masks[:, 1])

    def state(self) -> Arrays:
        """What is remembered, to go on from."""
        count = self.count
        place = np.array([self._next, count])
        return {
            "place": place,
            "index": self._index[:count].numpy(),
            "masks": self._masks[:count].numpy(),
        }

    def load(self, state: Arrays) -> None:
        """Inverse of `state`."""
        self._next, self.count = map(int, state["place"])
        self._index[: self.count] = torch.from_numpy(state["index"].copy())
        self._masks[: self.count] = torch.from_numpy(state["masks"].copy())


class Learner(ABC):
    """A way to learn an actor."""

    name: str
    actor: nn.Module
    """What is deployed: features and distances to scores."""

    def __init__(self, world_set: WorldSet, config: MarlConfig) -> None:
        self.world_set, self.config = world_set, config
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.memory = Memory(config.memory, world_set.sizes.numel())
        self.env_steps = 0

    def scores(self, features: Tensor) -> Tensor:
        """Scores by which capacities are filled, (samples, nodes, blocks)."""
        scores: Tensor = self.actor(features, self.world_set.distance)
        return scores

    def explore(self, features: Tensor) -> Tensor:
        """Placement with Gumbel noise on the scores, (samples, blocks)."""
        scores = self.scores(features)
        return self.world_set.fill(scores + self.config.noise * gumbel_like(scores, self.generator))

    @abstractmethod
    def update(self) -> None:
        """One optimiser step."""

    def episode(self) -> None:
        """Play some worlds once, learning on the way."""
        world_set, count = self.world_set, min(self.config.worlds, self.world_set.batch.num_worlds)
        worlds = torch.randperm(world_set.batch.num_worlds, generator=self.generator)[:count]
        before = world_set.empty[worlds]
        for slot in range(world_set.batch.num_slots):
            with torch.no_grad():
                after = self.explore(world_set.features(torch.tensor(slot), worlds, before))
            self.memory.add(slot, worlds, before, after)
            self.env_steps += count
            before = after
            self.update()

    def slow_down(self, share: float) -> None:
        """Let all learning rates fall as a cosine while the share of training that is done grows to 1."""
        for _, optimizer in self._parts(torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def state(self) -> Arrays:
        """Everything that training goes on from, but the world set and the config."""
        arrays = {"generator": self.generator.get_state().numpy(), "env_steps": np.array(self.env_steps)}
        arrays |= {f"memory.{key}": value for key, value in self.memory.state().items()}
        for name, module in self._parts(nn.Module):
            arrays |= {f"{name}.{key}": value.numpy() for key, value in module.state_dict().items()}
        for name, optimizer in self._parts(torch.optim.Optimizer):
            arrays |= {f"{name}.{key}": value for key, value in optimizer_state(optimizer).items()}
        return arrays

    def load(self, state: Arrays) -> None:
        """Inverse of `state`."""
        self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        self.env_steps = int(state["env_steps"])
        self.memory.load(part_of(state, "memory."))
        for name, module in self._parts(nn.Module):
            own = part_of(state, f"{name}.")
            module.load_state_dict({key: torch.from_numpy(own[key].copy()) for key in module.state_dict()})
        for name, optimizer in self._parts(torch.optim.Optimizer):
            load_optimizer(optimizer, part_of(state, f"{name}."))

    def _parts(self, kind: type[Part]) -> Iterator[tuple[str, Part]]:
        """Networks or optimisers of this learner with their names."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value

    def next_features(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """Features of the slot after, and 1 where there is one, (samples,)."""
        last = self.world_set.batch.num_slots - 1
        live = (slots.slot < last).float()
        after = (slots.slot + 1).clamp(max=last)
        return self.world_set.features(after, slots.world, slots.after), live


@torch.no_grad()
def play(world_set: WorldSet, scores: Callable[[Tensor], Tensor]) -> float:
    """Mean cost of a slot when the best scores are taken, s."""
    worlds = torch.arange(world_set.batch.num_worlds)
    before, total = world_set.empty, 0.0
    for slot in range(world_set.batch.num_slots):
        here = torch.full_like(worlds, slot)
        after = world_set.fill(scores(world_set.features(here, worlds, before)))
        total += float(world_set.batch.costs(slot, before, after).mean())
        before = after
    return total / world_set.batch.num_slots


def soft_update(target: nn.Module, source: nn.Module, rate: float = 0.01) -> None:
    """Let the target network follow slowly (Polyak averaging)."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), source.parameters(), strict=True):
            old.lerp_(new, rate)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One clipped gradient step."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
