"""M-PSO where slots overlap: particle swarms over placements, judged by the clock that `learned` plans with.

Forecast, sampled slots, prices and what links can bring are those of `policy.learn.augur_pipelined`; only
the search is another one, and users stay in one order, as if all nodes held all. So beside `learned` without
its rival (`planner-clock:guard=0;demand=1;clock=1;decisions=1`) it tells what that search, and an order that
suits the placement, are worth against a generic one, at any effort.
"""

import numpy as np

from policy.errors import SchemeError
from policy.interfaces import Bool, Float
from policy.learn.augur import message_bytes
from policy.learn.augur_pipelined import AugurPipelined, Learned, Outlook
from policy.learn.slot_clock import ImaginedSlots
from policy.play.scheme import Observation, Placement, Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill
from policy.schemes.learned import learned_from
from policy.schemes.swarms import swarm_search
from policy.slot.tables import MAX_TABLE_NODES, to_masks
from policy.slot.updates import UpdateRoom


class SwarmOnClock(AugurPipelined):
    """Plays one world; particles are scores of (node, block) pairs, best first until a node is full."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        learned: Learned,
        *,
        swarms: int,
        particles: int,
        rounds: int,
        inertia: float,
    ) -> None:
        super().__init__(scenario, rng, learned)
        shape = (swarms, particles, scenario.config.num_nodes, scenario.catalog.num_blocks)
        self._rng, self._shape, self._effort = rng, shape, (rounds, inertia)
        self._last = np.zeros(shape[2:])

    def _own(self, observation: Observation, outlook: Outlook) -> Placement:
        slots = self._imagine(observation, outlook, self._draws)
        start = self._rng.random(self._shape) - 0.3
        start[0, 0] = self._last  # what won in the last slot
        rounds, inertia = self._effort

        def cost(at: Float) -> Float:
            every = at.reshape(-1, *at.shape[2:])
            holds = within_reach(self._scenario, every, self._room(observation))
            return self.costs(holds, observation.at_hand, outlook, slots).reshape(at.shape[:2])

        self._last = swarm_search(start, cost, self._rng, rounds, inertia)
        holds = fill(self._scenario, self._last, observation.at_hand, floor=0.0)
        return Placement(holds=holds, value=self._last, message_bytes=message_bytes(self._scenario))

    def costs(self, holds: Bool, at_hand: Bool, outlook: Outlook, slots: ImaginedSlots) -> Float:
        """What users wait in the mean of the sampled slots, with the prices of work and of updates.

        Args:
            holds: Placements, (placements, nodes, blocks).
            at_hand: Copies that cost nothing, (nodes, blocks).
            outlook: What is forecast.
            slots: Sampled from it.

        Returns:
            (placements,), s.
        """
        masks = np.einsum("pnb,n->pb", holds, 1 << np.arange(holds.shape[1]))
        moves = self._update_s[to_masks(at_hand)[None, :], masks] @ self._bits
        sets, classes = self._update_s.shape[0], self._class_bits.size
        places = (np.arange(len(masks))[:, None] * sets + masks) * classes + self._of_block
        weights = np.broadcast_to(self._bits, places.shape)
        held = np.bincount(places.ravel(), weights.ravel(), len(masks) * sets * classes)
        bits: Float = held.astype(np.float64).reshape(len(masks), sets, classes)
        waits = mean_delays(slots, bits)
        return np.asarray(waits + bits[:, 0] @ self._work_s(outlook) + outlook.trade.update * moves)


def mean_delays(slots: ImaginedSlots, bits: Float) -> Float:
    """`ImaginedSlots.mean_delay_s` of many placements at once.

    Args:
        slots: Sampled slots.
        bits: Bits of each class that each set of nodes holds, (placements, 2^nodes, classes).

    Returns:
        (placements,), s.
    """
    units, sets, classes, samples = slots.cost_s.shape
    prices = slots.cost_s.transpose(2, 1, 0, 3).reshape(classes, sets, units * samples)
    work = bits.astype(np.float32).transpose(2, 0, 1) @ prices  # classes, placements, units * samples
    work = work.reshape(classes, len(bits), units, samples).transpose(3, 0, 1, 2)
    waits = slots.sent @ work.reshape(samples, classes, -1)  # samples, turns, placements * units
    longest = waits.reshape(*waits.shape[:2], len(bits), units).max(axis=3)
    return np.asarray(np.einsum("stp,st->p", longest, slots.weight, dtype=np.float64))


def within_reach(scenario: Scenario, scores: Float, room: UpdateRoom) -> Bool:
    """Best scores first until a node, its link's idle time or its budget is full; scores <= 0 stay out.

    Args:
        scenario: Sizes, capacities and links.
        scores: (particles, nodes, blocks).
        room: What may be brought. All first copies of a block are priced as from the cloud.

    Returns:
        (particles, nodes, blocks).
    """
    sizes, links = scenario.catalog.sizes_bytes.astype(np.float64), scenario.config.links
    rate = np.where(room.at_hand.any(axis=0), links.backhaul_bit_s, links.cloud_bit_s)
    fresh = np.where(room.at_hand, 0.0, sizes)
    ranks = np.argsort(-scores, axis=-1)
    wanted = np.take_along_axis(scores, ranks, axis=-1) > 0

    def within(cost: Float, most: Float) -> Bool:
        each = np.take_along_axis(np.broadcast_to(cost, scores.shape), ranks, axis=-1)
        return np.asarray(np.cumsum(each * wanted, axis=-1) <= most[:, None])

    old = np.take_along_axis(np.broadcast_to(room.at_hand, scores.shape), ranks, axis=-1)
    comes = within(8.0 * fresh / rate, room.idle_s) & within(fresh, np.full(len(fresh), room.budget_bytes))
    fits = wanted & within(sizes, scenario.capacity_bytes) & (old | comes)
    holds: Bool = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(holds, ranks, fits, axis=-1)
    return holds


def start(
    scenario: Scenario,
    rng: np.random.Generator,
    swarms: int = 3,
    particles: int = 10,
    rounds: int = 30,
    inertia: float = 0.5,
) -> Scheme:
    """The swarms of one world, with everything trained but the search.

    Raises:
        SchemeError: If there are more nodes than tables allow.
    """
    nodes = scenario.config.num_nodes
    if nodes > MAX_TABLE_NODES:
        raise SchemeError(f"m-pso-clock needs at most {MAX_TABLE_NODES} nodes, got {nodes}")
    effort = {"swarms": int(swarms), "particles": int(particles), "rounds": int(rounds)}
    return SwarmOnClock(scenario, rng, learned_from(), **effort, inertia=inertia)


ENTRY = SchemeEntry(
    name="m-pso-clock",
    start=start,
    paper=(
        "Multi-swarm particle swarm optimisation, after the M-PSO compared with in arXiv 2509.19341, whose "
        "exact form is not available to us; forecast, sampled slots and clock are those of `learned`"
    ),
    random=True,
)
