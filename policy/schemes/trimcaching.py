"""The problem of TrimCaching and its two algorithms, on plain arrays.

Qu, Lin, Liu, Chen, Huang: "TrimCaching: Parameter-sharing AI Model Caching in Wireless Edge Networks",
ICDCS 2024, arXiv 2405.03990; journal version arXiv 2404.14204. Choose whole models for each node, paying for
a shared block once, so that most requests find their model at a node that reaches the user in time.
Submodular, with submodular capacity constraints: Gen is greedy; Spec goes node by node, and at each node
tries every combination of shared blocks with a rounded knapsack over what the models own alone, which gives
(1 - eps) / 2 of the optimum.
"""

from dataclasses import dataclass

import numpy as np

from policy.errors import SchemeError
from policy.interfaces import BlockCatalog, Bool, Float, Int

MAX_COMBINATIONS = 4096
"""More combinations of shared blocks than this are not "a small fixed number": use Gen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HitProblem:
    """Who asks for what, who reaches whom, and how much room there is."""

    demand: Float
    """Chance that a user asks for a model, (users, models), >= 0."""
    reach: Bool
    """Whether a node can deliver a model to a user in time, (nodes, users, models)."""
    catalog: BlockCatalog
    """Blocks of the models."""
    capacity_bytes: Float
    """Room of each node, (nodes,)."""

    def hit_ratio(self, placed: Bool) -> float:
        """Share of the demand that finds its model in reach; `placed` is (nodes, models)."""
        served = (placed[:, None, :] & self.reach).any(axis=0)
        return float((self.demand * served).sum() / max(self.demand.sum(), 1e-300))

    def used_bytes(self, placed: Bool) -> Int:
        """Bytes each node needs, shared blocks once, (nodes,)."""
        return np.asarray((placed @ self.catalog.members) @ self.catalog.sizes_bytes, dtype=np.int64)

    def open_demand(self, placed: Bool) -> Float:
        """Demand that no placed model serves yet, (users, models)."""
        return np.where((placed[:, None, :] & self.reach).any(axis=0), 0.0, self.demand)


def place_gen(problem: HitProblem) -> Bool:
    """TrimCaching Gen: always the (node, model) that adds most to the hit ratio and fits; (nodes, models)."""
    catalog, nodes = problem.catalog, problem.capacity_bytes.size
    placed = np.zeros((nodes, catalog.num_models), dtype=bool)
    while True:
        gain = np.einsum("kui,ui->ki", problem.reach, problem.open_demand(placed))
        held = placed @ catalog.members
        extra = (catalog.members[None] & ~held[:, None]) @ catalog.sizes_bytes
        room = problem.capacity_bytes - held @ catalog.sizes_bytes
        gain[placed | (extra > room[:, None])] = 0.0
        best = int(gain.argmax())
        if gain.flat[best] <= 0:
            return placed
        placed.flat[best] = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Combinations:
    """Sets of shared blocks worth storing, each with the models it makes possible."""

    size_bytes: Int
    """Bytes of each set, (sets,)."""
    allows: Bool
    """Models whose shared blocks are all in the set, (sets, models)."""
    own_bytes: Int
    """Bytes of each model that no other model shares, (models,)."""


def combinations(catalog: BlockCatalog) -> Combinations:
    """All unions of the models' shared parts: any other set of shared blocks only wastes room.

    Raises:
        SchemeError: If there are more than `MAX_COMBINATIONS`.
    """
    shared = catalog.members.sum(axis=0) > 1
    parts = {np.packbits(row & shared).tobytes() for row in catalog.members}
    unions = {np.packbits(np.zeros(catalog.num_blocks, dtype=bool)).tobytes()}
    for part in sorted(parts):
        unions |= {bytes(a | b for a, b in zip(union, part, strict=True)) for union in unions}
        if len(unions) > MAX_COMBINATIONS:
            raise SchemeError(
                f"trimcaching-spec needs at most {MAX_COMBINATIONS} combinations of shared blocks; "
                "use trimcaching-gen"
            )
    packed = np.array([list(union) for union in sorted(unions)], dtype=np.uint8)
    sets = np.unpackbits(packed, axis=1, count=catalog.num_blocks).astype(bool)
    allows = ~((catalog.members & shared)[None] & ~sets[:, None]).any(axis=2)
    return Combinations(
        size_bytes=sets @ catalog.sizes_bytes,
        allows=allows,
        own_bytes=(catalog.members & ~shared) @ catalog.sizes_bytes,
    )


def place_spec(problem: HitProblem, choices: Combinations, epsilon: float = 0.1) -> Bool:
    """TrimCaching Spec: one node after another, each filled (1 - epsilon)-optimally for what is still open.

    Returns:
        Placement of models, (nodes, models).
    """
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be in (0, 1), got {epsilon}")
    placed = np.zeros((problem.capacity_bytes.size, problem.catalog.num_models), dtype=bool)
    for node, room in enumerate(problem.capacity_bytes):
        value = (problem.reach[node] * problem.open_demand(placed)).sum(axis=0)
        placed[node] = _fill_node(value, float(room), choices, epsilon)
    return placed


def _fill_node(value: Float, room: float, choices: Combinations, epsilon: float) -> Bool:
    """Best models for one node over all combinations of shared blocks, (models,)."""
    fits = choices.size_bytes <= room
    bound = np.where(fits, choices.allows @ value, -1.0)
    best, taken = 0.0, np.zeros(value.size, dtype=bool)
    for row in np.argsort(-bound, kind="stable"):
        if bound[row] <= best:
            break
        items = choices.allows[row] & (value > 0)
        chosen = knapsack(
            np.where(items, value, 0.0), choices.own_bytes, room - float(choices.size_bytes[row]), epsilon
        )
        if value[chosen].sum() > best:
            best, taken = float(value[chosen].sum()), chosen
    return taken


def knapsack(value: Float, weight: Int, room: float, epsilon: float) -> Bool:
    """0/1 knapsack, at least (1 - epsilon) of the optimum, by dynamic programming on rounded values.

    Args:
        value: Worth of each item, (items,); items of worth 0 are not taken.
        weight: Weight of each item, (items,), >= 0.
        room: Most weight.
        epsilon: Values are rounded down to multiples of epsilon x largest value / items.

    Returns:
        Which items to take, (items,).
    """
    taken: Bool = (value > 0) & (weight == 0)
    open_items = np.flatnonzero((value > 0) & (weight > 0) & (weight <= room))
    if weight[open_items].sum() <= room:
        taken[open_items] = True
        return taken
    worths = value[open_items]
    if worths.max() < np.finfo(np.float64).tiny / np.finfo(np.float64).eps:  # or the unit may be 0
        worths = worths / worths.max()
    unit = epsilon * worths.max() / open_items.size
    worth = np.floor(worths / unit).astype(np.int64)
    lightest = np.full(int(worth.sum()) + 1, np.inf)
    lightest[0] = 0.0
    used = np.zeros((open_items.size, lightest.size), dtype=bool)
    for row, item in enumerate(open_items):
        step = int(worth[row])
        shifted = lightest[: lightest.size - step] + weight[item]
        used[row, step:] = shifted < lightest[step:]
        lightest[step:] = np.minimum(lightest[step:], shifted)
    left = int(np.flatnonzero(lightest <= room)[-1])
    for row in range(open_items.size - 1, -1, -1):
        if used[row, left]:
            taken[open_items[row]] = True
            left -= int(worth[row])
    return taken
