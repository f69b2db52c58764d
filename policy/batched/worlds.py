"""Many worlds of one scenario with all their delay tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.batched.tables import BatchedRadio, batched_tables, update_table
from policy.scenario import Scenario, World
from policy.slot.tables import ServiceRules
from policy.world.cheap_radio import ProxyDelay


@dataclass(frozen=True, eq=False)
class WorldBatch:
    """Exogenous tensors of many worlds: any placement is judged by gathers."""

    scenario: Scenario
    tables_s: Tensor
    """Additive delay of each block under each set of caching nodes, (worlds, slots, blocks, 2^nodes), s."""
    update_s_bit: Tensor
    """Transfer time of a bit when holders change, (2^nodes, 2^nodes), s."""
    bits: Tensor
    """Bits of each block, (blocks,)."""
    requests: Tensor
    """Model each user asks for, -1 for none, (worlds, slots, users)."""
    user_xy: Tensor
    """Places, (worlds, slots, users, 2), m."""
    snr: Tensor | None
    """SNR from one node alone, (worlds, slots, users, nodes); None for other radios."""

    @property
    def num_worlds(self) -> int:
        """Worlds."""
        return int(self.tables_s.shape[0])

    @property
    def num_slots(self) -> int:
        """Slots of each."""
        return int(self.tables_s.shape[1])

    def costs(self, slot: int, before: Tensor, after: Tensor) -> Tensor:
        """Cost of a slot in each world: sum of block delays plus the weighted cache update, (worlds,), s.

        Args:
            slot: Slot.
            before: Holders in the slot before, as integers, (worlds, blocks).
            after: Holders in this slot, (worlds, blocks).
        """
        table = self.tables_s[:, slot]
        delay = table.gather(2, after[..., None])[..., 0].sum(dim=1)
        sets = self.update_s_bit.shape[0]
        update = self.update_s_bit.view(-1)[before * sets + after] @ self.bits
        return delay + self.scenario.config.update_weight * update


def radio_of(scenario: Scenario, rules: ServiceRules | None = None, device: str = "cpu") -> BatchedRadio:
    """Constants of the scenario's cheap radio for `batched_tables`."""
    config = scenario.config
    return BatchedRadio(
        catalog=scenario.catalog,
        links=config.links,
        nodes=config.num_nodes,
        bandwidth_hz=config.radio.bandwidth_hz,
        coherent=config.radio.combining == "coherent",
        rules=rules or ServiceRules(),
        device=device,
    )


def batch_worlds(
    worlds: Sequence[World], rules: ServiceRules | None = None, device: str = "cpu", chunk: int = 256
) -> WorldBatch:
    """Stack worlds of one scenario; tables in torch for the cheap radio, one by one for others.

    Args:
        worlds: At least one; all of the same scenario.
        rules: Ablations (`whole_models` is up to the caller: pass `world.under(rules)`).
        device: Torch device.
        chunk: Slots per batch, bounds memory.
    """
    if not worlds:
        raise ValueError("need at least one world")
    scenario = worlds[0].scenario
    requests = torch.tensor(np.stack([w.trace.requests for w in worlds]), device=device)
    places = torch.tensor(np.stack([w.trace.user_xy for w in worlds]), dtype=torch.float32, device=device)
    radio = radio_of(scenario, rules, device)
    snr = _stack_snr(worlds, device)
    if snr is None or scenario.catalog.forms is not None:
        tables = _stack_tables(worlds, rules or ServiceRules(), device)
    else:
        flat_snr, flat_requests = snr.flatten(0, 1), requests.flatten(0, 1)
        kept = _stack_devices(worlds, device)
        slots = zip(torch.split(flat_snr, chunk), torch.split(flat_requests, chunk), strict=True)
        parts = [
            batched_tables(radio, near, asked, None if kept is None else kept[i * chunk : (i + 1) * chunk])[0]
            for i, (near, asked) in enumerate(slots)
        ]
        tables = torch.cat(parts).view(*requests.shape[:2], *parts[0].shape[1:])
    return WorldBatch(
        scenario=scenario,
        tables_s=tables,
        update_s_bit=update_table(radio),
        bits=radio.bits,
        requests=requests,
        user_xy=places,
        snr=snr,
    )


def _stack_snr(worlds: Sequence[World], device: str) -> Tensor | None:
    stacked = []
    for world in worlds:
        if not isinstance(world.delay, ProxyDelay):
            return None
        stacked.append(world.delay.snr)
    return torch.tensor(np.stack(stacked), dtype=torch.float32, device=device)


def _stack_devices(worlds: Sequence[World], device: str) -> Tensor | None:
    if worlds[0].devices(0) is None:
        return None
    rows = [world.devices(slot) for world in worlds for slot in range(world.trace.num_slots)]
    return torch.tensor(np.stack([row for row in rows if row is not None]), device=device)


def _stack_tables(worlds: Sequence[World], rules: ServiceRules, device: str) -> Tensor:
    tables = [[w.table(slot, rules).cost_s for slot in range(w.trace.num_slots)] for w in worlds]
    return torch.tensor(np.array(tables), dtype=torch.float32, device=device)
