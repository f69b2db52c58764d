"""Policies that know too much: the coming slot itself, or the process that draws it.

All costs here are additive, with weighed updates, whatever the scenario's timing: no bounds on a slot that is
played with another timing. Played oracles for every timing are in `policy.evaluation.oracles`.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from policy.batched.placing import greedy_masks
from policy.batched.tables import batched_tables
from policy.batched.worlds import WorldBatch, radio_of
from policy.bounds.horizon import hindsight_bracket
from policy.config import LinkConfig, ScenarioConfig
from policy.errors import PolicyError
from policy.interfaces import Float
from policy.scenario import World
from policy.world.cheap_radio import link_snr
from policy.world.trace import step_world


def clairvoyant_costs(batch: WorldBatch) -> Float:
    """Cost of the greedy that knows each slot's requests and places before it is decided, one slot ahead.

    Returns:
        (worlds, slots), s.
    """
    return _play(batch, [batch.tables_s[:, slot] for slot in range(batch.num_slots)])


def planner_costs(
    worlds: list[World], batch: WorldBatch, rng: np.random.Generator, futures: int = 64
) -> Float:
    """Cost of the greedy on the mean table of futures sampled from the true hidden state, one slot ahead.

    Args:
        worlds: Worlds with their hidden states (drawn by `Scenario.world`), of one scenario.
        batch: The same worlds.
        rng: Draws the futures.
        futures: Samples per slot.

    Returns:
        (worlds, slots), s.

    Raises:
        PolicyError: If the hidden states are not known, or the radio is not the cheap one.
    """
    return _play(batch, _expected_tables(worlds, batch, rng, futures))


def unforeseen_bound(
    worlds: list[World], batch: WorldBatch, rng: np.random.Generator, futures: int = 64, steps: int = 120
) -> Float:
    """Bound for all policies that do not see the future, however well they know process and hidden state.

    Such a policy pays in expectation what its placements cost on the tables expected before each slot, so the
    best placements in hindsight on those tables cost less (Brown, Smith and Sun, 2010: information
    relaxation). Sampled tables only lower it.

    Args:
        worlds: As for `planner_costs`.
        batch: The same worlds.
        rng: Draws the futures.
        futures: Samples per slot.
        steps: See `hindsight_bracket`.

    Returns:
        (worlds,), s per slot; its mean over many worlds bounds a policy's mean.
    """
    tables_s = torch.stack(_expected_tables(worlds, batch, rng, futures), dim=1)
    return hindsight_bracket(replace(batch, tables_s=tables_s), steps).lower_s


def _expected_tables(
    worlds: list[World], batch: WorldBatch, rng: np.random.Generator, futures: int
) -> list[Tensor]:
    """Tables expected before each slot from the hidden state, (worlds, blocks, 2^nodes) a slot, s."""
    if batch.snr is None or any(not world.hidden for world in worlds):
        raise PolicyError("a planner with true dynamics needs drawn worlds and the cheap radio")
    return [
        torch.stack([mean_future_table(world, slot, rng, futures) for world in worlds])
        for slot in range(batch.num_slots)
    ]


def mean_future_table(
    world: World, slot: int, rng: np.random.Generator, futures: int, links: LinkConfig | None = None
) -> Tensor:
    """Mean delay table over futures drawn from the hidden state before a slot, (blocks, 2^nodes), s.

    Args:
        world: Drawn world with its hidden states.
        slot: Slot of the trace.
        rng: Draws the futures.
        futures: How many.
        links: What a transfer is counted with; None: the scenario's links, which additive cost is made of. To
            plan for a played slot see `ScenarioConfig.planning_links`.
    """
    scenario = world.scenario
    radio = replace(radio_of(scenario), links=links or scenario.config.links)
    drawn = [step_world(rng, world.hidden[slot], scenario.config, scenario.families) for _ in range(futures)]
    places = np.stack([xy for _, xy, _ in drawn])
    requests = torch.tensor(np.stack([asked for _, _, asked in drawn]))
    snr = torch.tensor(link_snr(world.trace.node_xy, places, scenario.config.radio), dtype=torch.float32)
    kept = world.devices(slot)
    on_device = None if kept is None else torch.tensor(kept).expand(futures, *kept.shape)
    table, _ = batched_tables(radio, snr, requests, on_device)
    return table.mean(dim=0)


def _play(batch: WorldBatch, believed: list[Tensor]) -> Float:
    """Place greedily on believed tables plus the cache update; pay the true cost. (worlds, slots), s."""
    scenario, config = batch.scenario, batch.scenario.config
    _no_budget(config)
    sizes = torch.tensor(scenario.catalog.sizes_bytes)
    room = torch.tensor(scenario.capacity_bytes)
    held = torch.zeros((batch.num_worlds, sizes.numel()), dtype=torch.int64)
    costs = []
    for slot, table in enumerate(believed):
        update = config.update_weight * batch.update_s_bit[held] * batch.bits[:, None]
        after = greedy_masks(table + update, sizes, room)
        costs.append(batch.costs(slot, held, after))
        held = after
    return torch.stack(costs, dim=1).double().numpy()


def _no_budget(config: ScenarioConfig) -> None:
    if np.isfinite(config.update_budget_bytes):
        raise PolicyError("this bound is for scenarios without an update budget")
