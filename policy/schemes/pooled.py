"""Pooled coverage: all nodes' room is one pool, each block once, likeliest first; nothing is trained.

Distinct coverage comes first, for what lies nowhere comes from the cloud. Demand is an exponential average of
which blocks somebody missed, mixed with the forecast of the fair planner: counts and a mixture fitted online.
A block that completes a likely model can count like that model, since a request ends with its last block.
Blocks stay where they lie; second copies, which broadcast along, fill what room is left.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import cell_counts, central_message_bytes, fill
from policy.schemes.static_distinct import first_copies, further_copies


class PooledCoverage:
    """Averaged demand of blocks, one pool of room."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        memory: float = 0.95,
        blend: float = 0.8,
        later: float = 0.3,
        whole: float = 0.0,
        update: float = 1.0,
        local: float = 0.3,
        prior: float = 4.0,
    ) -> None:
        self._scenario, self._memory, self._whole = scenario, memory, whole
        self._blend, self._later = blend, later
        self._forecaster = self.forecaster()
        self._stay, self._local = update * scenario.config.update_weight, local
        catalog, users = scenario.catalog, scenario.config.num_users
        # before anything is seen: every second user asks, for any model
        chance = 1.0 - (1.0 - 0.5 / catalog.num_models) ** (users * catalog.members.sum(axis=0))
        self._seen, self._slots = prior * chance, prior

    def forecaster(self) -> Forecaster:
        """Who forecasts."""
        return Forecaster(self._scenario, self.demand_model())

    def demand_model(self) -> DemandModel:
        """What corrects the forecast: nothing."""
        return DemandModel.untrained()

    def decide(self, observation: Observation) -> Placement:
        """Take in which blocks were missed in the last slot, then cover."""
        scenario, before = self._scenario, observation.at_hand
        if observation.slot:
            missed = observation.history.needs(observation.slot - 1).any(axis=0)
            self._seen = self._memory * self._seen + missed
            self._slots = self._memory * self._slots + 1.0
        average = self._seen / max(self._slots, 1e-9)
        need = self._blend * self._forecast(observation) + (1 - self._blend) * average
        worth = (1 - self._whole) * need + self._whole * completing(scenario, need)
        lies = before.any(axis=0)
        order = np.argsort(-(worth + self._stay * lies), kind="stable")
        room = scenario.capacity_bytes.copy()
        holds = first_copies(order, scenario.catalog.sizes_bytes, room, self._liking(observation))
        first = holds.copy()
        for node in range(room.size):  # old copies in what is left
            for block in order[(before[node] & ~holds[node])[order]].tolist():
                if scenario.catalog.sizes_bytes[block] <= room[node]:
                    holds[node, block] = True
                    room[node] -= scenario.catalog.sizes_bytes[block]
        further_copies(holds, order, scenario.catalog.sizes_bytes, room)
        scores = self._scores(order, first, holds)
        return Placement(
            holds=fill(scenario, scores, before, floor=0.0),
            value=scores,
            message_bytes=central_message_bytes(scenario),
        )

    def _forecast(self, observation: Observation) -> Float:
        """Chance that anybody misses a block, in the next slot and in later ones mixed, (blocks,)."""
        members = self._scenario.catalog.members.astype(np.float64)
        coming, later = self._forecaster.chance(observation.history, observation.slot) @ members
        kept = observation.history.devices()
        chances = [c if kept is None else np.where(kept, 0.0, c) for c in (coming, later)]
        anybody = [1.0 - np.prod(1.0 - np.minimum(c, 1.0), axis=0) for c in chances]
        return np.asarray((1 - self._later) * anybody[0] + self._later * anybody[1])

    def _liking(self, observation: Observation) -> Float:
        """Where a first copy should lie: where it is, else near those who want it, else where room is."""
        scenario = self._scenario
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        here = counts @ scenario.catalog.members.astype(np.float64)
        share = here / np.maximum(here.sum(axis=0), 1e-9)
        even = np.random.default_rng(0).random(share.shape)  # spreads what nobody is nearer to
        return np.asarray(2.0 * observation.at_hand + self._local * share + (1 - self._local) * even)

    def _scores(self, order: Int, first: Bool, holds: Bool) -> Float:
        """What the update budget goes to: first copies by worth, then the others; 0: not wanted."""
        rank = np.empty(order.size)
        rank[order] = 1.0 - np.arange(order.size) / (order.size + 1.0)
        return np.asarray(2.0 * first + holds * (1.0 + rank))


def completing(scenario: Scenario, need: Float) -> Float:
    """Worth of each block by the models that it completes, (blocks,).

    Models are taken one after another, always the one whose missing bytes are likeliest to be needed in the
    mean; its missing blocks get that mean.

    Args:
        scenario: Sizes and members.
        need: Chance that somebody misses a block in a slot, (blocks,).
    """
    members = scenario.catalog.members.astype(np.float64)
    sizes = scenario.catalog.sizes_bytes.astype(np.float64)
    missing, gain = members * sizes, members * (sizes * need)
    worth, bytes_left, gain_left = np.zeros(sizes.size), missing.sum(axis=1), gain.sum(axis=1)
    open_blocks = np.ones(sizes.size, dtype=bool)
    for _ in range(members.shape[0]):
        density = np.where(bytes_left > 0.5, gain_left / np.maximum(bytes_left, 1.0), -1.0)
        model = int(density.argmax())
        if density[model] < 0:
            break
        fresh = np.flatnonzero((members[model] > 0) & open_blocks)
        worth[fresh] = density[model]
        open_blocks[fresh] = False
        bytes_left -= missing[:, fresh].sum(axis=1)
        gain_left -= gain[:, fresh].sum(axis=1)
    return worth


ENTRY = SchemeEntry(
    name="pooled",
    start=PooledCoverage,
    paper="Ours, unlearned: distinct coverage first (cf. FemtoCaching, Golrezaei et al., 2012), copies after",
)
