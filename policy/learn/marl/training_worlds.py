"""Training ground of the learned baselines: many worlds at once, every action judged by a gather.

Rates, places and requests are those of the worlds. A slot costs what the distilled clock says of it
(`slot_costs`); played with real beams and the real serving are only the tests. What links can bring before
a slot is limited as in play, by an idle time that is the same in all slots; work that a slot leaves to the
next is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from policy.batched import update_table
from policy.batched.worlds import batch_worlds, radio_of
from policy.config import ScenarioConfig
from policy.interfaces import Float
from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.marl.actors import Actor
from policy.learn.marl.slot_costs import SlotCosts, additive_costs, clock_costs
from policy.learn.marl.turns import Decided, Limits, decide, others_share, turn_of
from policy.learn.marl.view import distances, node_distance, precompute, told, with_held
from policy.learn.request_statistics import Single
from policy.learn.single_rates import world_rates
from policy.learn.slot_clock import SlotClock
from policy.scenario import Scenario, World

IDLE_SHARE = 0.6
"""Share of a slot that links have for updates in training where they need links."""

MakeWorld = Callable[[Scenario, int], World]
"""Draws the world of a seed, with its radio."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldSet:
    """Worlds of one scenario with all that never reacts to caching."""

    config: ScenarioConfig
    costs: SlotCosts
    view: Tensor
    """Features of each slot, (slots, worlds, nodes, blocks, NUM_VIEW), or as from `told`."""
    distance: Tensor
    """(nodes, nodes)."""
    limits: Limits
    idle_s: float
    """Time that every node's link has for updates, s; inf where they need no link."""
    update_s: Tensor
    """What is charged when holders of a block change, (2^nodes, 2^nodes, blocks), s; 0: links limit it."""
    scale_s: float
    """Cost of a slot with nothing cached; costs are learnt in units of it."""

    @property
    def num_nodes(self) -> int:
        """Nodes."""
        return int(self.limits.capacity.numel())

    @property
    def num_blocks(self) -> int:
        """Blocks."""
        return int(self.limits.sizes.numel())

    @property
    def num_slots(self) -> int:
        """Slots of each world."""
        return int(self.view.shape[0])

    @property
    def num_worlds(self) -> int:
        """Worlds."""
        return int(self.view.shape[1])

    @property
    def empty(self) -> Tensor:
        """Holders before slot 0, (worlds, blocks)."""
        return torch.zeros((self.num_worlds, self.num_blocks), dtype=torch.int64)

    @property
    def relative(self) -> Tensor:
        """Size of each block over the mean, (blocks,)."""
        sizes = self.limits.sizes.double()
        return (sizes / sizes.mean()).float()

    def told(self) -> "WorldSet":
        """The same worlds where nodes tell one another what they expect, see `view.told`."""
        return replace(self, view=told(self.view))

    def features(self, slots: Tensor, worlds: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """What each node saw when it decided, (samples, nodes, blocks, NUM_FEATURES).

        Args:
            slots: (samples,).
            worlds: (samples,).
            before: Holders before, as integers, (samples, blocks).
            after: Holders that were decided; nodes saw those of the nodes whose turn was earlier.
        """
        mine = self.bits_of(before)
        others = others_share(mine, self.bits_of(after), turn_of(slots, self.num_nodes))
        return with_held(self.view[slots, worlds], mine, others)

    def bits_of(self, holders: Tensor) -> Tensor:
        """Holders as 0 and 1, (samples, nodes, blocks)."""
        return ((holders[:, None, :] >> torch.arange(self.num_nodes)[:, None]) & 1).float()

    def holders_of(self, bits: Tensor) -> Tensor:
        """Inverse of `bits_of`, (samples, blocks)."""
        return (bits.long() << torch.arange(self.num_nodes)[:, None]).sum(dim=1)

    def decide(
        self,
        actor: Actor,
        slots: Tensor,
        worlds: Tensor,
        before: Tensor,
        noise: Callable[[Tensor], Tensor] | None = None,
    ) -> Decided:
        """Let all nodes decide in some slots; `before` as in `features`."""
        idle = torch.full((slots.numel(), self.num_nodes), self.idle_s, dtype=torch.float64)
        view, held = self.view[slots, worlds], self.bits_of(before)
        return decide(actor, view, held, slots, idle, self.limits, self.distance, noise)

    def block_costs(self, slots: Tensor, worlds: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Cost of each block, update included, in units of `scale_s`, (samples, blocks)."""
        delay = self.costs.by_block(worlds, slots, after)
        return delay / self.scale_s + self.update_costs(before, after)

    def update_costs(self, before: Tensor, after: Tensor) -> Tensor:
        """What changing holders is charged in units of `scale_s`, (samples, blocks)."""
        return self.update_s[before, after, torch.arange(self.num_blocks)] / self.scale_s


def waits_for_overlaps(config: ScenarioConfig) -> bool:
    """Whether slots overlap and users' mean delay counts: then the clock tells what slots cost."""
    return config.timing != "additive" and config.objective == "mean-user"


def make_world_set(
    scenario: Scenario, seeds: Sequence[int], make_world: MakeWorld = Scenario.world
) -> WorldSet:
    """Draw worlds, one per seed, and precompute everything."""
    config, catalog = scenario.config, scenario.catalog
    worlds = [make_world(scenario, seed) for seed in seeds]
    rates = [world_rates(world) for world in worlds]
    if waits_for_overlaps(config):
        clock = SlotClock.from_tensors(load_checkpoint(weights_of("augur-decisions")).tensors)
        costs = clock_costs(worlds, rates, clock)
    else:
        costs = additive_costs(batch_worlds(worlds).tables_s)
    bits = 8.0 * torch.tensor(catalog.sizes_bytes).double()
    weight = config.update_weight if config.charges_updates else 0.0
    return WorldSet(
        config=config,
        costs=costs,
        view=torch.from_numpy(_views(scenario, worlds, rates)),
        distance=torch.from_numpy(node_distance(worlds[0].trace.node_xy, config.area_m)),
        limits=limits_of(scenario),
        idle_s=float("inf") if config.charges_updates else IDLE_SHARE * config.slot_s,
        update_s=(weight * update_table(radio_of(scenario))[..., None] * bits).float(),
        scale_s=_with_nothing_cached(costs),
    )


def limits_of(scenario: Scenario) -> Limits:
    """Room and link times of a scenario."""
    bits, links = 8.0 * torch.tensor(scenario.catalog.sizes_bytes).double(), scenario.config.links
    return Limits(
        sizes=torch.tensor(scenario.catalog.sizes_bytes),
        capacity=torch.tensor(scenario.capacity_bytes),
        hop_s=bits / links.backhaul_bit_s,
        cloud_s=bits / links.cloud_bit_s,
        budget_bytes=scenario.config.update_budget_bytes,
    )


def _views(scenario: Scenario, worlds: Sequence[World], rates: Sequence[Float]) -> Single:
    cells = np.stack([world.trace.cells() for world in worlds])
    apart = np.stack([distances(world.trace.node_xy, world.trace.user_xy) for world in worlds])
    requests = np.stack([world.trace.requests for world in worlds])
    return precompute(scenario, requests, cells, np.stack(rates), apart)


def _with_nothing_cached(costs: SlotCosts) -> float:
    """Mean cost of a slot, s."""
    worlds, slots = costs.weight.shape[:2]
    none = torch.zeros((worlds, costs.sent.shape[-1]), dtype=torch.int64)
    rows = torch.arange(worlds)
    slot_s = [
        costs.by_block(rows, torch.full((worlds,), slot), none).sum(dim=1).mean() for slot in range(slots)
    ]
    return float(torch.stack(slot_s).mean())
