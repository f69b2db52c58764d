"""What each edge node sees of each block: its own users, its own radio and links, and the band.

A node forecasts its own users only (those in its cell). What is sent on the band all nodes hear; so
popularity, which the forecast corrects for, is common knowledge, and `heard` says what was lately on the air.
Of the caches a node knows its own, and what the others have announced: one bit a block, whenever it decides.
As an ablation nodes also tell one another what they expect, see `told`. A leading axis is of worlds.
"""

import numpy as np
from torch import Tensor, cat, eye, float16

from policy.interfaces import Bool, Float, Int
from policy.learn.columns import columns, width_of
from policy.learn.request_statistics import RequestStatistics, Single, overlap_matrix
from policy.scenario import Scenario

VIEW = columns(
    own_expected=1,  # requests of its users that will need the block, by the fitted mixture
    own_last=1,  # of them in the last slot
    own_slow=1,  # exponential average
    heard_last=1,  # users anywhere who were sent the block in the last slot
    heard_slow=1,
    size=1,  # over the mean
    degree=1,  # share of the models that need the block
    room=1,  # of the node, over the catalog
    users=1,  # in the node's cell
    own_rate=1,  # of the node alone to its users, mean, bit/s/Hz
    own_worst=1,  # to the slowest of them
    all_rate=1,  # to all users that it hears
    place=1,  # mean distance of its users, over the side of the area
    hop_s=1,  # of the block on the node's link from another node, s
    cloud_s=1,  # from the cloud, s
)
"""Features of one (node, block) pair that no placement changes."""
NUM_VIEW = width_of(VIEW)
TOLD = columns(
    others_expected=1,  # what all other nodes expect of their own users
    others_most=1,  # the most that one of them does
)
"""Features that follow only where nodes tell one another their forecasts."""
NUM_TOLD = width_of(TOLD)
FORECAST_BYTES = 2
"""Of a forecast of one block, as a half-precision number."""
HELD = columns(mine=1, others=1, nowhere=1)
"""Does the node hold it, what share of the others has announced it, does nobody have it."""
NUM_HELD = width_of(HELD)
NUM_FEATURES = NUM_VIEW + NUM_HELD
MINE = HELD["mine"].start - NUM_HELD
"""Column of what the node holds, from the end."""
SLOW = 0.9
"""What slow counts keep each slot."""
RATE_SCALE = 8.0
"""bit/s/Hz that count as 1."""


class View:
    """What nodes see, kept up to date slot by slot."""

    def __init__(self, scenario: Scenario, worlds: int) -> None:
        config, catalog = scenario.config, scenario.catalog
        self._config = config
        self._members = np.vstack([catalog.members, np.zeros((1, catalog.num_blocks))]).astype(np.float32)
        self._statistics = RequestStatistics(
            (worlds, config.num_users), scenario.families, overlap_matrix(catalog), config.num_nodes
        )
        shape = (worlds, config.num_nodes, catalog.num_blocks)
        self._last, self._slow = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        self._asks, self._slots = np.zeros((worlds, config.num_users)), 0
        self._cells = np.zeros((worlds, config.num_users), dtype=np.int64)
        self._radio = np.zeros((4, worlds, config.num_nodes), dtype=np.float32)
        bits = 8.0 * catalog.sizes_bytes
        self._fixed = {
            "size": catalog.sizes_bytes / catalog.sizes_bytes.mean(),
            "degree": catalog.members.sum(axis=0) / catalog.num_models,
            "hop_s": bits / config.links.backhaul_bit_s,
            "cloud_s": bits / config.links.cloud_bit_s,
        }
        self._room = (scenario.capacity_bytes / catalog.dedup_bytes).astype(np.float32)

    def observe(self, requests: Int, cells: Int, rates: Float, apart_m: Float) -> None:
        """Take in one slot.

        Args:
            requests: Model of each user, -1 for none, (worlds, users).
            cells: Nearest node of each user, (worlds, users).
            rates: Of each user from each node alone, (worlds, users, nodes), bit/s.
            apart_m: Distance of each user from each node, (worlds, users, nodes), m.
        """
        self._statistics.observe(requests, cells)
        self._last = self._by_cell(self._members[requests], cells)
        self._slow = SLOW * self._slow + (1 - SLOW) * self._last
        self._asks += requests >= 0
        self._slots += 1
        self._cells = cells
        here = np.eye(self._config.num_nodes)[cells]
        count = np.maximum(here.sum(axis=1), 1.0)
        efficiency = rates / (self._config.radio.bandwidth_hz * RATE_SCALE)
        worst = np.where(here > 0, efficiency, np.inf).min(axis=1)
        self._radio = np.stack(
            [
                (here * efficiency).sum(axis=1) / count,
                np.where(np.isfinite(worst), worst, 0.0),
                efficiency.mean(axis=1),
                (here * apart_m).sum(axis=1) / (count * self._config.area_m),
            ]
        ).astype(np.float32)

    def features(self) -> Single:
        """Features of the next slot, (worlds, nodes, blocks, NUM_VIEW)."""
        ask = (self._asks + 1.4) / (self._slots + 2.0)
        chance = (self._statistics.mixture().whole * ask[:, :, None]).astype(np.float32)
        expected = self._by_cell(chance @ self._members[:-1], self._cells)
        features = np.empty((*expected.shape, NUM_VIEW), dtype=np.float32)
        heard = [seen.sum(axis=1, keepdims=True) for seen in (self._last, self._slow)]
        here = np.eye(self._config.num_nodes, dtype=np.float32)[self._cells].sum(axis=1)
        by_node = dict(zip(("own_rate", "own_worst", "all_rate", "place"), self._radio, strict=True))
        by_node |= {"users": 2 * here / self._config.num_users, "room": self._room[None]}
        seen = {"own_expected": expected, "own_last": self._last, "own_slow": self._slow}
        seen |= {"heard_last": heard[0], "heard_slow": heard[1]}
        for name, values in seen.items():
            features[..., VIEW[name]] = values[..., None]
        for name, values in by_node.items():
            features[..., VIEW[name]] = values[..., None, None]
        for name, fixed in self._fixed.items():
            features[..., VIEW[name]] = fixed[:, None]
        return features

    def _by_cell(self, per_user: Single, cells: Int) -> Single:
        """Sum over the users of each cell, (worlds, nodes, blocks)."""
        here = np.eye(self._config.num_nodes, dtype=np.float32)[cells]
        return np.asarray(np.swapaxes(here, 1, 2) @ per_user, dtype=np.float32)


def precompute(scenario: Scenario, requests: Int, cells: Int, rates: Float, apart_m: Float) -> Single:
    """Features of every slot of many worlds: requests never react to caches.

    Args:
        scenario: The scenario.
        requests: (worlds, slots, users).
        cells: Nearest node of each user, (worlds, slots, users).
        rates: See `View.observe`, (worlds, slots, users, nodes).
        apart_m: See `View.observe`, (worlds, slots, users, nodes).

    Returns:
        (slots, worlds, nodes, blocks, NUM_VIEW).
    """
    view, features = View(scenario, requests.shape[0]), []
    for slot in range(requests.shape[1]):
        features.append(view.features())
        view.observe(requests[:, slot], cells[:, slot], rates[:, slot], apart_m[:, slot])
    return np.stack(features)


def distances(node_xy: Float, user_xy: Float) -> Float:
    """Distance of each user from each node, (..., users, nodes), m."""
    return np.asarray(np.linalg.norm(user_xy[..., :, None, :] - node_xy, axis=-1))


def node_distance(node_xy: Float, area_m: float) -> Single:
    """Distance of every two nodes as a share of the area's side, (nodes, nodes)."""
    return np.asarray(distances(node_xy, node_xy) / area_m, dtype=np.float32)


def told(view: Tensor) -> Tensor:
    """What nodes see when each has told all others what it expects of its own users.

    Args:
        view: What they see by themselves, (..., nodes, blocks, NUM_VIEW).

    Returns:
        (..., nodes, blocks, NUM_VIEW + NUM_TOLD); what is told comes in half precision.
    """
    sent = view[..., VIEW["own_expected"]].to(float16).to(view.dtype)
    heard = sent.unsqueeze(-4) * (1 - eye(view.shape[-3], dtype=view.dtype))[..., None, None]
    return cat([view, heard.sum(dim=-3), heard.amax(dim=-3)], dim=-1)


def with_held(view: Tensor, mine: Tensor, others: Tensor) -> Tensor:
    """All features, (..., blocks, NUM_FEATURES), or NUM_TOLD more where the view has them.

    Args:
        view: (..., blocks, NUM_VIEW), or as from `told`.
        mine: 1 where the node holds the block, (..., blocks).
        others: Share of the other nodes that have announced it, (..., blocks).
    """
    nowhere = ((mine + others) == 0).to(view.dtype)
    return cat([view, mine[..., None], others[..., None], nowhere[..., None]], dim=-1)


def bits_of_holders(holds: Bool) -> Single:
    """A placement as numbers with an axis of worlds, (1, nodes, blocks)."""
    return holds[None].astype(np.float32)
