"""Static distinct partition: the nodes together hold as many different blocks as fit, drawn once.

What a cache is worth before anything is known of demand: a block that lies somewhere never comes from the
cloud. It needs the catalog and the capacities, no request, no radio.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill


def first_copies(order: Int, sizes_bytes: Int, room_bytes: Float, liking: Float) -> Bool:
    """One copy of each block, in the given order, at the node that likes it best of those with room.

    Args:
        order: Blocks, those to be placed first in front.
        sizes_bytes: (blocks,).
        room_bytes: Room of each node, (nodes,); what is taken is taken off in place.
        liking: How much each node wants each block, (nodes, blocks).

    Returns:
        Placement, (nodes, blocks): no block twice, and none is left out that a node still has room for.
    """
    holds = np.zeros(liking.shape, dtype=bool)
    ranked, sizes = np.argsort(-liking, axis=0, kind="stable").T.tolist(), sizes_bytes.tolist()
    room = room_bytes.tolist()
    for block in order.tolist():
        for node in ranked[block]:
            if sizes[block] <= room[node]:
                holds[node, block] = True
                room[node] -= sizes[block]
                break
    room_bytes[:] = room
    return holds


def further_copies(holds: Bool, order: Int, sizes_bytes: Int, room_bytes: Float) -> None:
    """Fill what room is left with second copies, then third, in the given order; in place."""
    room = room_bytes.tolist()
    for _ in range(len(room) - 1):
        for block in order[sizes_bytes[order] <= max(room)].tolist():
            size = int(sizes_bytes[block])
            for node in sorted(range(len(room)), key=room.__getitem__, reverse=True):
                if size > room[node]:
                    break
                if not holds[node, block]:
                    holds[node, block] = True
                    room[node] -= size
                    break
    room_bytes[:] = room


def whole_models_first(order: Int, members: Bool) -> Int:
    """Blocks in an order of models, each model's missing blocks together, (blocks,).

    Args:
        order: Models.
        members: Which model needs which block, (models, blocks).
    """
    seen, blocks = np.zeros(members.shape[1], dtype=bool), []
    for model in order.tolist():
        fresh = np.flatnonzero(members[model] & ~seen)
        seen[fresh] = True
        blocks += fresh.tolist()
    return np.array([*blocks, *np.flatnonzero(~seen).tolist()], dtype=np.int64)


class StaticDistinct:
    """One partition, drawn at the start and kept."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, whole: float = 1.0) -> None:
        self._scenario = scenario
        catalog = scenario.catalog
        if whole >= 0.5:
            order = whole_models_first(rng.permutation(catalog.num_models), catalog.members)
        else:
            order = rng.permutation(catalog.num_blocks)
        room = scenario.capacity_bytes.copy()
        liking = rng.random((room.size, catalog.num_blocks))
        self._wanted = first_copies(order, catalog.sizes_bytes, room, liking)
        self._first = self._wanted.copy()
        further_copies(self._wanted, order, catalog.sizes_bytes, room)

    def decide(self, observation: Observation) -> Placement:
        """The same blocks in every slot, first copies first as far as the update budget allows."""
        scores = self._wanted.astype(np.float64) + self._first.astype(np.float64)
        holds = fill(self._scenario, scores, observation.at_hand, floor=0.5)
        return Placement(holds=holds, value=scores)


ENTRY = SchemeEntry(
    name="static-distinct",
    start=StaticDistinct,
    paper="Random partition of the blocks over the nodes, first fit; no paper; sees no request",
    random=True,
)
