"""Delay tables of many slots at once; agrees with `policy.slot.tables`, which is the reference.

Only for the cheap radios of `policy.world.cheap_radio`, whose rate is a formula of per-link SNRs. Tables of
other radios are made one by one by `World.table` and stacked.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from policy.config import LinkConfig
from policy.interfaces import BlockCatalog
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules, mask_bits


@dataclass(frozen=True, eq=False)
class BatchedRadio:
    """What `batched_tables` needs of scenario and catalog, as tensors on one device."""

    catalog: BlockCatalog
    links: LinkConfig
    nodes: int
    bandwidth_hz: float
    coherent: bool
    rules: ServiceRules = field(default_factory=ServiceRules)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.nodes > MAX_TABLE_NODES:
            raise ValueError(f"tables need at most {MAX_TABLE_NODES} nodes, got {self.nodes}")
        put = object.__setattr__
        put(
            self,
            "bits",
            torch.tensor(8.0 * self.catalog.sizes_bytes, dtype=torch.float32, device=self.device),
        )
        put(self, "sets", torch.tensor(mask_bits(self.nodes), dtype=torch.float32, device=self.device))
        put(self, "models_of", torch.tensor(_padded_models(self.catalog), device=self.device))

    bits: Tensor = None  # type: ignore[assignment]
    """Bits of each block, (blocks,)."""
    sets: Tensor = None  # type: ignore[assignment]
    """Members of each set of nodes, (2^nodes, nodes)."""
    models_of: Tensor = None  # type: ignore[assignment]
    """Models that contain each block, padded with `models`, (blocks, most models)."""


def _padded_models(catalog: BlockCatalog) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    most = int(catalog.members.sum(axis=0).max())
    models_of = np.full((catalog.num_blocks, most), catalog.num_models, dtype=np.int64)
    for block in range(catalog.num_blocks):
        having = np.flatnonzero(catalog.members[:, block])
        models_of[block, : having.size] = having
    return models_of


def batched_tables(
    radio: BatchedRadio, snr: Tensor, requests: Tensor, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Additive delay with the best migration, and air time, of many slots.

    Args:
        radio: Constants.
        snr: SNR from one node alone, linear, (slots, users, nodes).
        requests: Model each user asks for, -1 for none, (slots, users).
        kept: Blocks on the devices, bool (slots, users, blocks); None: devices keep nothing.

    Returns:
        Cost and air time, both (slots, blocks, 2^nodes), s; 0 where nobody misses the block.
    """
    per_bit = _seconds_per_bit(radio, snr)
    air = _per_model(radio, per_bit, requests) if kept is None else _per_user(radio, per_bit, requests, kept)
    wanted = air[..., -1] > 0
    air = air * radio.bits[:, None]
    air[..., 0] = torch.where(wanted, torch.inf, 0.0)
    return _migrate(radio, air, wanted), air


def _seconds_per_bit(radio: BatchedRadio, snr: Tensor) -> Tensor:
    """Air time of one bit to each single user from each set, (slots, users, 2^nodes); 0 for the empty set."""
    if radio.rules.comp:
        joint = (snr.sqrt() @ radio.sets.T).square() if radio.coherent else snr @ radio.sets.T
        rate = torch.log1p(joint) * (radio.bandwidth_hz / float(np.log(2.0)))
        seconds = 1.0 / rate
    else:  # the best single node per group is found after the groups are formed: keep the singles
        seconds = torch.full((*snr.shape[:-1], radio.sets.shape[0]), torch.inf, device=snr.device)
        rate = torch.log1p(snr) * (radio.bandwidth_hz / float(np.log(2.0)))
        seconds[..., 1 << torch.arange(radio.nodes)] = 1.0 / rate
    seconds[..., 0] = 0.0
    return seconds


def _best_single(radio: BatchedRadio, per_bit: Tensor) -> Tensor:
    """Without CoMP a set is as fast as the best node in it; `per_bit` holds singles, 0 for the empty set."""
    if radio.rules.comp:
        return per_bit
    best = per_bit.clone()
    for held in range(1, radio.sets.shape[0]):
        low = held & -held
        if held != low:
            best[..., held] = torch.minimum(per_bit[..., low], best[..., held ^ low])
    return best


def _per_model(radio: BatchedRadio, per_bit: Tensor, requests: Tensor) -> Tensor:
    """Seconds a bit of each block: slowest (or, unicast, sum) over the users of all its models."""
    slots, users, sets = per_bit.shape
    models = radio.catalog.num_models
    where = torch.where(requests >= 0, requests, models)[..., None].expand(slots, users, sets)
    grouped = torch.zeros((slots, models + 1, sets), dtype=per_bit.dtype, device=per_bit.device)
    if radio.rules.share_air:
        grouped.scatter_reduce_(1, where, per_bit, "amax")
        grouped[:, models] = 0.0
        seconds = grouped[:, radio.models_of[:, 0]]
        for column in radio.models_of.T[1:]:
            seconds = torch.maximum(seconds, grouped[:, column])
        return _best_single(radio, seconds)
    grouped.scatter_add_(1, where, _best_single(radio, per_bit))
    grouped[:, models] = 0.0
    seconds = grouped[:, radio.models_of[:, 0]]
    for column in radio.models_of.T[1:]:
        seconds = seconds + grouped[:, column]
    return seconds


def _per_user(radio: BatchedRadio, per_bit: Tensor, requests: Tensor, kept: Tensor) -> Tensor:
    """The same when devices hold blocks already, so that needs differ within a model."""
    members = torch.tensor(radio.catalog.members, device=per_bit.device)
    shape = (per_bit.shape[0], radio.catalog.num_blocks, per_bit.shape[2])
    seconds = torch.zeros(shape, dtype=per_bit.dtype, device=per_bit.device)
    alone = per_bit if radio.rules.share_air else _best_single(radio, per_bit)
    for user in range(per_bit.shape[1]):
        asked = requests[:, user]
        needs = members[asked.clamp(min=0)] & (asked >= 0)[:, None] & ~kept[:, user]
        share = torch.where(needs[..., None], alone[:, user, None], 0.0)
        seconds = torch.maximum(seconds, share) if radio.rules.share_air else seconds + share
    return _best_single(radio, seconds) if radio.rules.share_air else seconds


def _migrate(radio: BatchedRadio, air: Tensor, wanted: Tensor) -> Tensor:
    """Superset recursion of `policy.slot.tables.migration_table`, for all slots at once."""
    slots, blocks, sets = air.shape
    cost = air.clone()
    hop = (radio.bits / radio.links.backhaul_bit_s)[:, None, None]
    for node in range(radio.nodes if radio.rules.migration else 0):
        view = cost.view(slots, blocks, sets >> (node + 1), 2, 1 << node)
        torch.minimum(view[..., 0, :], view[..., 1, :] + hop, out=view[..., 0, :])
    singles = 1 << torch.arange(radio.nodes, device=air.device)
    first = cost[..., singles].amin(dim=-1) + radio.bits / radio.links.cloud_bit_s
    cost[..., 0] = first
    return torch.where(wanted[..., None], cost, 0.0)


def update_table(radio: BatchedRadio) -> Tensor:
    """Transfer time of one bit when a block's holders change, (2^nodes before, 2^nodes after), s."""
    sets = np.arange(radio.sets.shape[0])
    added = sets[None, :] & ~sets[:, None]
    fresh = (sets[:, None] == 0) & (added != 0)
    copies = np.bitwise_count(added.astype(np.uint64)).astype(np.float64) - fresh
    seconds = copies / radio.links.backhaul_bit_s + fresh / radio.links.cloud_bit_s
    return torch.tensor(seconds, dtype=torch.float32, device=radio.device)
