"""Planners told more than anybody can know: the distribution of what comes, or what comes itself.

For evaluation only. `told:distribution` is told the hidden state of the world before each slot and the
process that goes on from it, but not the draws: nobody who does not see the future can forecast better.
`told:future` is told requests and places of the slots to come. Both decide as `learned` does, with the same
trained clock and trade-offs and a `pooled` rival of the same knowledge; pooled coverage alone where nodes are
too many for tables. So the first tells what better
forecasts could win with the same search, the second what foresight could; neither is a bound
(`policy.bounds.causal` is one, and is loose).
"""

from dataclasses import fields, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from policy.errors import PolicyError
from policy.interfaces import Float
from policy.learn.augur_pipelined import AugurPipelined
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import PlaceDraws
from policy.learn.request_statistics import LATER
from policy.play.scheme import History, Scheme, SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.learned import learned_from
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import MAX_TABLE_NODES
from policy.world.mobility import MobilityState, step_mobility
from policy.world.processes import request_chances
from policy.world.trace import Trace, WorldState, nearest, step_world

Told = Literal["distribution", "future"]
"""What is told, see the module."""
COURSES = 8
"""Courses of the world behind each forecast."""
HORIZON = 6
"""Slots ahead that a forecast looks at; the last one stands for all after it."""
AHEAD = np.append((1.0 - LATER) * LATER ** np.arange(HORIZON - 2), LATER ** (HORIZON - 2))
"""Weight of each slot after the coming one in the forecast of later slots, (HORIZON - 1,); sums to 1."""


class TrueChances(Forecaster):
    """Forecasts from the hidden state: exact but for what moves between slots, which is drawn."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        super().__init__(scenario, DemandModel.untrained())
        self._scenario, self._hidden, self._slot = scenario, world.hidden, 0

    def chance(self, history: History, slot: int) -> Float:
        """As `Forecaster.chance`; the same for the same slot."""
        self._slot = slot
        rng = np.random.default_rng(slot)
        courses = [self._course(rng, history, self._hidden[slot]) for _ in range(COURSES)]
        coming, later = np.mean(courses, axis=0)[0], np.mean(courses, axis=0)[1:]
        return np.stack([coming, np.tensordot(AHEAD, later, axes=1)])

    def _course(self, rng: np.random.Generator, history: History, state: WorldState) -> Float:
        """Chances in the coming slots, (HORIZON, users, models)."""
        config, families = self._scenario.config, self._scenario.families
        chances = []
        for _ in range(HORIZON):
            moved = step_mobility(rng, state.mobility, config.slot_s, config.area_m, config.mobility)
            cells = nearest(history.node_xy, moved.xy)
            chances.append(request_chances(rng, state.demand, cells, families, config.requests))
            state = step_world(rng, state, config, families)[0]
        return np.stack(chances)

    def places(self, draws: PlaceDraws) -> Float:
        """As `Forecaster.places`, one slot ahead; the same draws every slot."""
        rng, config = np.random.default_rng(0), self._scenario.config
        state = many(self._hidden[self._slot].mobility, draws.ahead.size)
        moved = step_mobility(rng, state, config.slot_s, config.area_m, config.mobility)
        return np.asarray(moved.xy.reshape(draws.ahead.size, config.num_users, 2))


class TrueFuture(Forecaster):
    """What will be asked for, and from where."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        super().__init__(scenario, DemandModel.untrained())
        self._trace: Trace = world.trace
        models = np.arange(scenario.families.size)
        self._asked = (world.trace.requests[..., None] == models).astype(np.float64)
        self._slot = 0

    def chance(self, history: History, slot: int) -> Float:
        """As `Forecaster.chance`: 1 for what is asked for."""
        self._slot = slot
        rest = self._asked[slot + 1 : slot + HORIZON]
        share = AHEAD[: len(rest)]
        later = np.tensordot(share, rest, axes=1) if len(rest) else self._asked[slot]
        return np.stack([self._asked[slot], later])

    def places(self, draws: PlaceDraws) -> Float:
        """Where the users will be, as often as there are samples."""
        return np.repeat(self._trace.user_xy[self._slot][None], draws.ahead.size, axis=0)


def true_forecaster(world: World, told: Told) -> Forecaster:
    """Who is told."""
    return TrueFuture(world.scenario, world) if told == "future" else TrueChances(world.scenario, world)


class ToldPooled(PooledCoverage):
    """Pooled coverage by a true forecast alone."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, world: World, told: Told) -> None:
        self._true = true_forecaster(world, told)
        super().__init__(scenario, rng, blend=1.0)

    def forecaster(self) -> Forecaster:
        """The true one."""
        return self._true


def _start(scenario: Scenario, rng: np.random.Generator, world: World, told: Told) -> Scheme:
    rival = ToldPooled(scenario, rng, world, told)
    if scenario.config.num_nodes > MAX_TABLE_NODES:
        return rival
    own = true_forecaster(world, told)
    return AugurPipelined(scenario, rng, learned_from(), rival=rival, forecaster=own)


def told_entry(world: World, told: Told) -> SchemeEntry:
    """The planner that is told, as a scheme, for this world alone.

    Raises:
        PolicyError: If the world has no hidden state to tell.
        ValueError: If there is no such knowledge.
    """
    if told not in get_args(Told):
        raise ValueError(f"told must be one of {', '.join(get_args(Told))}, got {told!r}")
    if told == "distribution" and not world.hidden:
        raise PolicyError("only a drawn world has a distribution to tell")
    return SchemeEntry(
        name=f"told:{told}",
        start=partial(_start, world=world, told=told),
        paper="Ours, told what nobody knows; for evaluation only",
        random=True,
    )


def many(state: MobilityState, count: int) -> MobilityState:
    """All users `count` times over, one copy after another."""
    names = [field.name for field in fields(state)]
    return replace(state, **{name: np.concatenate([getattr(state, name)] * count) for name in names})
