"""Augur's planner on better forecasts: what is knowledge worth, and what do its decisions lose?

All play as Augur does (`policy.learn.augur`); only the forecasts differ.

    process   told the request process (family loyalty, skew, reshuffles); infers the ranks by Bayes' rule
    demand    told the ranks, too: the whole state of demand
    state     told the speed and heading of each user, too, and how users move: the whole hidden state
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from policy.bounds.process import RankFilter, check_known, forecast, reshuffled
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.learn.augur import Augur
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import PlaceDraws
from policy.play.scheme import History, SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.learned import model_from
from policy.world.demand import DemandState
from policy.world.mobility import MobilityState, step_mobility
from policy.world.trace import WorldState

Knowledge = Literal["process", "demand", "state"]
"""What a policy is told, see the module."""
COURSES = 200
"""Samples of the ranks, and of what follows, behind a forecast."""


class ToldProcess(Forecaster):
    """Forecasts by Bayes' rule from the true request process; places as Augur forecasts them."""

    def __init__(self, scenario: Scenario, model: DemandModel, rng: np.random.Generator) -> None:
        super().__init__(scenario, model)
        self._scenario, self._rng = scenario, rng
        config = scenario.config
        self._filter = RankFilter(rng, config.num_users, scenario.families, config.requests)

    def chance(self, history: History, slot: int) -> Float:
        """As `Forecaster.chance`."""
        super().chance(history, slot)  # follows how users move
        ranks, last = self._believed(history, slot)
        return forecast(self._rng, ranks, last, self._scenario.families, self._scenario.config.requests)

    def _believed(self, history: History, slot: int) -> tuple[Int, Int]:
        """Samples of the ranks in the slot, (samples, models), and last models, (users, memory)."""
        if slot:
            self._filter.observe(history.requests[slot - 1])
        return self._rng.permutation(self._filter.ranks)[:COURSES], self._filter.last


class ToldDemand(ToldProcess):
    """Forecasts from the true state of demand."""

    def __init__(
        self, scenario: Scenario, model: DemandModel, rng: np.random.Generator, hidden: Sequence[WorldState]
    ) -> None:
        super().__init__(scenario, model, rng)
        self._hidden = hidden

    def _believed(self, history: History, slot: int) -> tuple[Int, Int]:
        demand = self._hidden[slot].demand
        if not isinstance(demand, DemandState):
            raise PolicyError("only the process 'ranks' has ranks to tell")
        common = np.tile(demand.ranks[0], (COURSES, 1))
        return reshuffled(self._rng, common, self._scenario.config.requests)[0], demand.last


class ToldState(ToldDemand):
    """Forecasts from the true state of demand and of motion."""

    def __init__(
        self, scenario: Scenario, model: DemandModel, rng: np.random.Generator, hidden: Sequence[WorldState]
    ) -> None:
        super().__init__(scenario, model, rng, hidden)
        self._seed, self._slot = int(rng.integers(2**32)), 0

    def chance(self, history: History, slot: int) -> Float:
        """As `Forecaster.chance`."""
        self._slot = slot
        return super().chance(history, slot)

    def places(self, draws: PlaceDraws) -> Float:
        """As `Forecaster.places`; the same draws every slot."""
        rng, config = np.random.default_rng(self._seed), self._scenario.config
        samples, users = draws.ahead.size, config.num_users
        state = _copies(self._hidden[self._slot].mobility, samples)
        places = np.zeros((samples, users, 2))
        for ahead in range(1, int(draws.ahead.max()) + 1):
            state = step_mobility(rng, state, config.slot_s, config.area_m, config.mobility)
            there = draws.ahead == ahead
            places[there] = state.xy.reshape(places.shape)[there]
        return places


def _copies(state: MobilityState, count: int) -> MobilityState:
    """All users `count` times over, one copy after another."""
    names = [field.name for field in fields(state)]
    return replace(state, **{name: np.concatenate([getattr(state, name)] * count) for name in names})


class Informed(Augur):
    """Augur's planner on the forecasts of one who was told more; plays one world."""

    def __init__(
        self, scenario: Scenario, rng: np.random.Generator, knowledge: Knowledge, hidden: Sequence[WorldState]
    ) -> None:
        model = model_from()
        super().__init__(scenario, rng, model)
        own = rng.spawn(1)[0]
        if knowledge == "process":
            self._forecaster = ToldProcess(scenario, model, own)
        else:
            kind = ToldDemand if knowledge == "demand" else ToldState
            self._forecaster = kind(scenario, model, own, hidden)


def informed_entry(world: World, knowledge: Knowledge) -> SchemeEntry:
    """The informed policy as a scheme, for this world alone.

    Args:
        world: Drawn by `Scenario.world`, of a scenario whose requests `policy.bounds.process` covers.
        knowledge: What it is told, see the module.

    Raises:
        PolicyError: If the world is a replayed trace, or its requests are not covered.
        ValueError: If there is no such knowledge.
    """
    if knowledge not in get_args(Knowledge):
        raise ValueError(f"knowledge must be one of {', '.join(get_args(Knowledge))}, got {knowledge!r}")
    check_known(world.scenario.config.requests)
    if knowledge != "process" and not world.hidden:
        raise PolicyError("only a drawn world has a hidden state to tell")
    return SchemeEntry(
        name=f"informed:{knowledge}",
        start=partial(Informed, knowledge=knowledge, hidden=world.hidden),
        paper="Augur's planner on forecasts of an oracle",
        random=True,
    )
