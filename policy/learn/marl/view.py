"""What each edge node sees of each block, with a leading axis of worlds; shared by all learned baselines.

A node sees the requests of its own users and what the other nodes report of theirs. The expected demand comes
from the mixture of `request_statistics`, before any network corrects it: the baselines start from no less
than a good hand-made forecast.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.columns import columns, width_of
from policy.learn.request_statistics import RequestStatistics, Single, overlap_matrix
from policy.scenario import Scenario

VIEW = columns(
    **{f"{who}_{what}": 1 for what in ("expected", "last", "slow") for who in ("own", "others")},
    size=1,  # over the mean
    degree=1,  # share of the models that need the block
    room=1,  # of the node, over the catalog
    users=1,  # in the node's cell
    turn=1,  # see `turns`
)
"""Features of one (node, block) pair that no placement changes; demand here and elsewhere first."""
NUM_VIEW = width_of(VIEW)
NUM_FEATURES = NUM_VIEW + 2
"""All features: `held_features` adds what the caches hold."""
SLOW = 0.9
"""What slow counts keep each slot."""


def turns(nodes: int, blocks: int) -> Single:
    """Whose turn a block is, (nodes, blocks): a fixed shuffle of 0..1 over the nodes, another for each block.

    It stands for the agent's number: nodes that see the same and decide at once can still choose differently.
    """
    order = np.tile(np.linspace(0.0, 1.0, nodes), (blocks, 1))
    return np.asarray(np.random.default_rng(0).permuted(order, axis=1).T, dtype=np.float32)


class View:
    """Demand for each block in each cell, kept up to date slot by slot."""

    def __init__(self, scenario: Scenario, worlds: int) -> None:
        config, catalog = scenario.config, scenario.catalog
        self._nodes, self._users = config.num_nodes, config.num_users
        self._members = np.vstack([catalog.members, np.zeros((1, catalog.num_blocks))]).astype(np.float32)
        self._statistics = RequestStatistics(
            (worlds, config.num_users), scenario.families, overlap_matrix(catalog), config.num_nodes
        )
        shape = (worlds, self._nodes, catalog.num_blocks)
        self._last, self._slow = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        self._asks, self._slots = np.zeros((worlds, config.num_users)), 0
        self._cells = np.zeros((worlds, config.num_users), dtype=np.int64)
        sizes = catalog.sizes_bytes
        self._size = (sizes / sizes.mean()).astype(np.float32)
        self._degree = (catalog.members.sum(axis=0) / catalog.num_models).astype(np.float32)
        self._turn = turns(self._nodes, catalog.num_blocks)
        self._room = (scenario.capacity_bytes / catalog.dedup_bytes).astype(np.float32)

    def observe(self, requests: Int, cells: Int) -> None:
        """Take in one slot; both (worlds, users)."""
        self._statistics.observe(requests, cells)
        self._last = self._by_cell(self._members[requests], cells)
        self._slow = SLOW * self._slow + (1 - SLOW) * self._last
        self._asks += requests >= 0
        self._slots += 1
        self._cells = cells

    def features(self) -> Single:
        """Features of the next slot, (worlds, nodes, blocks, NUM_VIEW)."""
        ask = (self._asks + 1.4) / (self._slots + 2.0)
        chance = (self._statistics.mixture().whole * ask[:, :, None]).astype(np.float32)
        expected = self._by_cell(chance @ self._members[:-1], self._cells)
        features = np.empty((*expected.shape, NUM_VIEW), dtype=np.float32)
        for what, seen in (("expected", expected), ("last", self._last), ("slow", self._slow)):
            features[..., VIEW[f"own_{what}"]] = seen[..., None]
            features[..., VIEW[f"others_{what}"]] = (seen.sum(axis=1, keepdims=True) - seen)[..., None]
        here = np.eye(self._nodes, dtype=np.float32)[self._cells].sum(axis=1)
        features[..., VIEW["size"]] = self._size[:, None]
        features[..., VIEW["degree"]] = self._degree[:, None]
        features[..., VIEW["room"]] = self._room[:, None, None]
        features[..., VIEW["users"]] = 2 * (here / self._users)[:, :, None, None]
        features[..., VIEW["turn"]] = self._turn[..., None]
        return features

    def _by_cell(self, per_user: Single, cells: Int) -> Single:
        """Sum over the users of each cell, (worlds, nodes, blocks)."""
        here = np.eye(self._nodes, dtype=np.float32)[cells]
        return np.asarray(np.swapaxes(here, 1, 2) @ per_user, dtype=np.float32)


def precompute(scenario: Scenario, requests: Int, cells: Int) -> Single:
    """Features of every slot of many worlds: requests never react to caches.

    Args:
        scenario: The scenario.
        requests: (worlds, slots, users).
        cells: Nearest node of each user, (worlds, slots, users).

    Returns:
        (slots, worlds, nodes, blocks, NUM_VIEW).
    """
    view, features = View(scenario, requests.shape[0]), []
    for slot in range(requests.shape[1]):
        features.append(view.features())
        view.observe(requests[:, slot], cells[:, slot])
    return np.stack(features)


def node_distance(node_xy: Float, area_m: float) -> Single:
    """Distance of every two nodes as a share of the area's side, (nodes, nodes)."""
    apart = np.linalg.norm(node_xy[:, None] - node_xy[None], axis=-1)
    return np.asarray(apart / area_m, dtype=np.float32)


def held_features(held: Bool) -> Single:
    """Does the node hold the block, and what share of the others, (worlds, nodes, blocks, 2)."""
    mine = held.astype(np.float32)
    others = (mine.sum(axis=1, keepdims=True) - mine) / max(held.shape[1] - 1, 1)
    return np.stack([mine, others], axis=-1)
