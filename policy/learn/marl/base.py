"""What all learned baselines share: exploration, replay of past slots, the judge, a state to resume from."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from policy.learn.checkpoint import Arrays, part_of
from policy.learn.marl.actors import Actor, keep_noise
from policy.learn.marl.training_worlds import WorldSet
from policy.learn.state import load_optimizer, optimizer_state

Part = TypeVar("Part", nn.Module, torch.optim.Optimizer)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarlConfig:
    """Settings that every learner has; tuned with the same budget for each."""

    seed: int = 0
    """Source of weights, noise and minibatches."""
    learning_rate: float = 2e-3
    """Adam's, at first; it falls to nothing as a cosine."""
    discount: float = 0.8
    """Weight of the next slot: copies serve as long as they stay, and links bring few of them at once."""
    noise: float = 1.0
    """Scale of the Gumbel noise on the scores, at first; it falls to a tenth."""
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
    actor: Actor
    """What is deployed."""

    def __init__(self, world_set: WorldSet, config: MarlConfig) -> None:
        self.world_set, self.config = world_set, config
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.memory = Memory(config.memory, world_set.num_blocks)
        self.env_steps = 0
        self.share = 0.0
        """Share of training that is done."""
        self._notes: dict[str, list[float]] = defaultdict(list)

    def scores(self, features: Tensor) -> Tensor:
        """Scores by which caches are filled, (samples, nodes, blocks)."""
        scores: Tensor = self.actor(features, self.world_set.distance)
        return scores

    def noise(self, scores: Tensor) -> Tensor:
        """Noise of exploration."""
        scale = self.config.noise * (1 - 0.9 * self.share)
        return scale * keep_noise(scores, self.generator)

    @abstractmethod
    def update(self) -> None:
        """One optimiser step."""

    def episode(self) -> None:
        """Play some worlds once, learning on the way."""
        world_set, worlds = self.world_set, self.some_worlds()
        before = world_set.empty[worlds]
        for slot in range(world_set.num_slots):
            here = torch.full_like(worlds, slot)
            with torch.no_grad():
                decided = world_set.decide(self.actor, here, worlds, before, self.noise)
            after = world_set.holders_of(decided.holds)
            self.memory.add(slot, worlds, before, after)
            self.played(here, worlds, before, after)
            before = after
            self.update()

    def some_worlds(self) -> Tensor:
        """Worlds of an episode, counted as played."""
        count = min(self.config.worlds, self.world_set.num_worlds)
        self.env_steps += count * self.world_set.num_slots
        return torch.randperm(self.world_set.num_worlds, generator=self.generator)[:count]

    def played(self, slots: Tensor, worlds: Tensor, before: Tensor, after: Tensor) -> None:
        """Take in what was just played; for learners that learn more from it than `update` does."""
        return

    def note(self, **values: float | Tensor) -> None:
        """Take numbers down for the log: losses, errors, entropy, norms of gradients."""
        for name, value in values.items():
            self._notes[name].append(float(value.detach() if isinstance(value, Tensor) else value))

    def notes(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        means = {name: float(np.mean(values)) for name, values in self._notes.items()}
        self._notes.clear()
        return means

    def slow_down(self, share: float) -> None:
        """Tell how much of training is done: learning rates fall as a cosine, noise in a line."""
        self.share = min(share, 1.0)
        for _, optimizer in self._parts(torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.share))

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

    @torch.no_grad()
    def next_slots(self, slots: Slots) -> tuple[Slots, Tensor]:
        """The slots after, as the actor would decide them now, and 1 where there is one, (samples,)."""
        live = (slots.slot < self.world_set.num_slots - 1).float()
        later = (slots.slot + 1).clamp(max=self.world_set.num_slots - 1)
        decided = self.world_set.decide(self.actor, later, slots.world, slots.after)
        after = self.world_set.holders_of(decided.holds)
        return Slots(slot=later, world=slots.world, before=slots.after, after=after), live

    def features_of(self, slots: Slots) -> Tensor:
        """What nodes saw, see `WorldSet.features`."""
        return self.world_set.features(slots.slot, slots.world, slots.before, slots.after)

    def costs_of(self, slots: Slots) -> Tensor:
        """See `WorldSet.block_costs`."""
        return self.world_set.block_costs(slots.slot, slots.world, slots.before, slots.after)


@torch.no_grad()
def play(world_set: WorldSet, actor: Actor) -> float:
    """Mean cost of a slot when the best scores are taken, s."""
    worlds = torch.arange(world_set.num_worlds)
    before, total = world_set.empty, 0.0
    for slot in range(world_set.num_slots):
        here = torch.full_like(worlds, slot)
        after = world_set.holders_of(world_set.decide(actor, here, worlds, before).holds)
        total += float(world_set.block_costs(here, worlds, before, after).sum(dim=1).mean())
        before = after
    return total * world_set.scale_s / world_set.num_slots


def soft_update(target: nn.Module, source: nn.Module, rate: float = 0.01) -> None:
    """Let the target network follow slowly (Polyak averaging)."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), source.parameters(), strict=True):
            old.lerp_(new, rate)


def descend(steps: torch.optim.Optimizer, loss: Tensor, norm: float = 5.0) -> float:
    """One optimiser step with the gradient clipped to a norm; returns the norm before."""
    steps.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [value for group in steps.param_groups for value in group["params"]]
    total = nn.utils.clip_grad_norm_(parameters, norm)
    steps.step()
    return float(total)


def relative_error(value: Tensor, goal: Tensor) -> float:
    """Share of the goal's variance that a value leaves: 0 is exact, 1 no better than the mean."""
    with torch.no_grad():
        return float((value - goal).square().mean() / goal.var(unbiased=False).clamp(min=1e-9))
