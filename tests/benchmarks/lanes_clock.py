"""The rule by which a live edge puts objects on the air, on a clock that costs nothing beside the air."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.emulation.roles.casts import CastPlan, casts_of
from demo.jobs.config import RunConfig
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.simulate import make_world, play_scheme
from pbstore import open_store
from policy.serving.together import WORTH
from policy.slot.dynamics import SlotOutcome
from policy.slot.rates import AirTimes, Party

Going = list[tuple[CastPlan, float]]
"""Objects on the air, each with what is left of it: s alone."""


@dataclass(frozen=True, slots=True)
class SlotAir:
    """The radio of one slot."""

    times: AirTimes
    nodes: int
    users: int

    def shares(self, casts: Sequence[CastPlan]) -> list[float]:
        """What each has of its rate alone; empty if they cannot go together."""
        users = [user for cast in casts for user in cast.users]
        if len(casts) < 2 or len(users) > len(set(users)):
            return [1.0] * len(casts) if len(casts) < 2 else []
        parties = [Party(cast.holders, cast.users, 1.0 / self._alone_s(cast)) for cast in casts]
        told = self.times.shares([parties], self.nodes, self.users)[0]
        return [told[party] for party in parties]

    def _alone_s(self, cast: CastPlan) -> float:
        """Time of a bit alone, s."""
        holders = np.isin(np.arange(self.nodes), cast.holders)[None]
        hear = np.isin(np.arange(self.users), cast.users)[None]
        return float(self.times.per_bit(holders, hear)[0, 0])


def ends_of(outcome: SlotOutcome, sizes: Sequence[int], air: SlotAir, most: int) -> dict[int, float]:
    """When each user of a slot has all, s, if objects go by the rule and everything else takes no time."""
    came = {(move.target, move.block): move.end_s for move in outcome.transfers}
    queue, going, now, ends = deque(casts_of(outcome, sizes)), Going(), 0.0, dict[int, float]()
    limit = most if any(cast.pieces for cast in queue) else 1
    while queue or going:
        soon = np.inf
        while queue and len(going) < limit:
            head = queue[0]
            ready = max(came.get((node, unit), 0.0) for node in head.holders for unit in head.units)
            if ready > now:
                soon = ready
                break
            on_air = [cast for cast, _ in going]
            more = air.shares([*on_air, head])
            if on_air and not (more and min(more) > 0 and sum(more) > sum(air.shares(on_air)) + WORTH):
                break
            going.append((queue.popleft(), head.seconds))
        shares = air.shares([cast for cast, _ in going])
        over = [left / share for (_, left), share in zip(going, shares, strict=True)]
        until = min([soon, *(now + one for one in over)])
        left = [
            (cast, rest - share * (until - now)) for (cast, rest), share in zip(going, shares, strict=True)
        ]
        now = until
        for cast, rest in left:
            if rest <= 1e-12:
                ends |= dict.fromkeys(cast.users, now)
        going = [(cast, rest) for cast, rest in left if rest > 1e-12]
    return ends


def mean_delay_s(run: RunConfig) -> float:
    """Mean delay of a run's deliveries that need the air, s."""
    assert run.store is not None
    with open_store(run.store, read_only=True) as store:
        offer = offer_of(run, store, {name: one.base for name, one in of_store(store).items()})
    world, ends = make_world(run, offer), list[float]()
    steps, delay = play_scheme(run, world, run.emulated_scheme)
    config, sizes = world.scenario.config, offer.catalog.sizes_bytes.tolist()
    for step in steps:
        air = SlotAir(AirTimes(delay=delay, slot=step.outcome.slot), config.num_nodes, config.num_users)
        ends += ends_of(step.outcome, sizes, air, config.air.superpose).values()
    return float(np.mean(ends))
