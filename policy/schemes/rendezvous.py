"""Rendezvous hashing: a block's place is decided by hashes alone; popularity only decides what stays."""

from hashlib import blake2b

import numpy as np

from policy.interfaces import Float
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import cell_counts, fill


def node_ranks(block_names: tuple[str, ...], nodes: int) -> Float:
    """Rank of each node for each block by highest random weight, 0 for the block's home, (nodes, blocks)."""
    weights = [[_weight(node, name) for name in block_names] for node in range(nodes)]
    return np.argsort(np.argsort(-np.array(weights, dtype=np.float64), axis=0), axis=0).astype(np.float64)


def _weight(node: int, name: str) -> float:
    digest = blake2b(f"{node}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Rendezvous:
    """Each node fills up with blocks whose home it is, then with second copies; most popular first."""

    def __init__(
        self, scenario: Scenario, rng: np.random.Generator, memory: float = 1.0, drop: float = 0.0
    ) -> None:
        self._scenario, self._memory = scenario, memory
        ranks = node_ranks(scenario.catalog.block_names, scenario.config.num_nodes)
        self._share = drop**ranks
        """How much a copy at each node counts: 1 at the home, `drop` at the second node, and so on."""

    def decide(self, observation: Observation) -> Placement:
        """Popularity of the block in the network, times what a copy counts at this node."""
        scenario = self._scenario
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        popular = (counts.sum(axis=0) + 1e-3) @ scenario.catalog.members.astype(np.float64)
        scores = self._share * popular + 1e-6 * observation.at_hand
        holds = fill(scenario, scores, observation.at_hand)
        others = scenario.config.num_nodes - 1
        return Placement(holds=holds, value=scores, message_bytes=others * 4 * scenario.catalog.num_models)


ENTRY = SchemeEntry(
    name="rendezvous",
    start=Rendezvous,
    paper="Highest random weight hashing (Thaler and Ravishankar, 1998), popularity within a node",
)
