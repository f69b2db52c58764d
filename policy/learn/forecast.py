"""The forecast of one world, slot by slot: who asks for what, and from where."""

import numpy as np

from policy.interfaces import Float
from policy.learn.demand import DemandModel
from policy.learn.motion import Motion, PlaceDraws, likely_cells
from policy.learn.request_statistics import RequestStatistics, overlap_matrix
from policy.play.scheme import History
from policy.scenario import Scenario
from policy.world.trace import nearest


class Forecaster:
    """Learns from every slot as it passes; one object a world."""

    def __init__(self, scenario: Scenario, model: DemandModel) -> None:
        config = scenario.config
        self._model, self._users = model, config.num_users
        overlap = overlap_matrix(scenario.catalog)
        self._statistics = RequestStatistics(
            (1, config.num_users), scenario.families, overlap, config.num_nodes
        )
        self._motion = Motion(config.area_m)

    def chance(self, history: History, slot: int) -> Float:
        """Chance that each user asks for each model in `slot`, and in a slot after it; once a slot, in order.

        Returns:
            (2, users, models); how far the later slot is ahead is random, see `request_statistics.LATER`.
        """
        cells = np.zeros((1, self._users), dtype=np.int64)
        if slot:
            places = history.user_xy[slot - 1]
            cells = nearest(history.node_xy, places)[None]
            self._statistics.observe(history.requests[None, slot - 1], cells)
            self._motion.observe(places)
            cells = likely_cells(history.node_xy, places, history.user_xy[max(slot - 2, 0)])[None]
        base, pair, ask = self._statistics.features(cells)
        return np.asarray(self._model.chances(base, pair, ask)[:, 0])

    def places(self, draws: PlaceDraws) -> Float:
        """Sampled places in the slot that `chance` was last asked for, or later, (samples, users, 2), m."""
        return self._motion.places(draws)
