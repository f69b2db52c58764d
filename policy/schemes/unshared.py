"""Ablation: no block sharing in the store: a block is cached once for each model that uses it."""

from dataclasses import replace

import numpy as np

from policy.interfaces import BlockCatalog, Float, Int
from policy.play.scheme import Observation, Placement, Scheme, SchemeEntry
from policy.scenario import Scenario


def copies_of(catalog: BlockCatalog) -> tuple[BlockCatalog, Int]:
    """The same models with blocks of their own, and the block that each copy is of, (copies,)."""
    model, block = np.nonzero(catalog.members)
    members = np.arange(catalog.num_models)[:, None] == model
    copies = BlockCatalog(
        sizes_bytes=catalog.sizes_bytes[block],
        members=members,
        model_names=catalog.model_names,
        block_names=tuple(
            f"{catalog.model_names[m]}/{catalog.block_names[b]}" for m, b in zip(model, block, strict=True)
        ),
    )
    return copies, block.astype(np.int64)


class Unshared:
    """Lets a scheme decide about copies, each paid for; a node holds a block if it holds any copy of it."""

    def __init__(self, inner: SchemeEntry, scenario: Scenario, rng: np.random.Generator) -> None:
        catalog, self._block = copies_of(scenario.catalog)
        room = tuple(scenario.capacity_bytes.tolist())
        self._scenario = Scenario(replace(scenario.config, capacity_bytes=room), catalog)
        self._inner: Scheme = inner.start(self._scenario, rng)
        self._copies = np.zeros((len(room), catalog.num_blocks), dtype=bool)
        self._num_blocks = scenario.catalog.num_blocks

    def decide(self, observation: Observation) -> Placement:
        """Decide about copies, then join the copies of each block."""
        seen = observation.history.recast(self._scenario)
        self._copies &= observation.placement[:, self._block]  # what the links could not bring is not there
        at_hand = self._copies | (observation.at_hand & ~observation.placement)[:, self._block]
        decided = self._inner.decide(
            replace(observation, placement=self._copies, history=seen, at_hand=at_hand)
        )
        self._copies = decided.holds
        holds = np.zeros((decided.holds.shape[0], self._num_blocks), dtype=bool)
        for node, row in enumerate(decided.holds):
            holds[node, self._block[row]] = True
        return replace(decided, holds=holds, value=self._joined(decided.value))

    def _joined(self, value: Float | None) -> Float | None:
        """A block is worth what its dearest copy is, (nodes, blocks)."""
        if value is None:
            return None
        joined = np.full((self._num_blocks, value.shape[0]), -np.inf)
        np.maximum.at(joined, self._block, value.T)
        return joined.T


def without_sharing(entry: SchemeEntry) -> SchemeEntry:
    """The same scheme with a store that keeps every model's blocks apart."""

    def start(scenario: Scenario, rng: np.random.Generator) -> Scheme:
        return Unshared(entry, scenario, rng)

    return replace(entry, start=start)
