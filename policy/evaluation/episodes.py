"""One world: every scheme and bound that is asked for, boiled down to what the report needs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np

from policy.config import ScenarioConfig
from policy.evaluation.load import Load, load_of_episode
from policy.evaluation.oracles import BOUNDS, bound_cost_s
from policy.interfaces import DelayModel, LossyDelay
from policy.play.rollout import Episode, rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes import find_scheme

WorldMaker: TypeAlias = Callable[[Scenario, int], World]
"""Makes the world of a seed; must be importable by name to run in other processes."""


def draw_world(scenario: Scenario, seed: int) -> World:
    """The scenario's own world of a seed, with its cheap radio."""
    return scenario.world(seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """What one scheme did in one world with one seed. Sums are over the slots of the episode."""

    scheme: str
    """Name in the registry, or `bound:...`."""
    world: int
    """Seed of the world."""
    seed: int
    """Seed of the scheme."""
    slots: int = 0
    """Slots of the episode."""
    cost_s: float
    """What the scenario minimises, mean over slots, s."""
    user_delay_s: tuple[float, ...] = ()
    """Delay of every request, s."""
    hits: int = 0
    """Requests served without the cloud."""
    migrated_bytes: int = 0
    """Bytes copied from node to node to serve requests."""
    cloud_bytes: int = 0
    """Bytes fetched from the cloud to serve requests."""
    update_bytes: int = 0
    """Bytes moved to change the caches."""
    update_s: float = 0.0
    """Time of these transfers, s."""
    airtime_s: float = 0.0
    """Time the band was busy, s."""
    decision_s: float = 0.0
    """Time spent on decisions, s."""
    message_bytes: int = 0
    """Bytes nodes sent one another to decide."""
    in_time: int = 0
    """Requests served within the scenario's deadline."""
    load: Load | None = None
    """How busy band and links were; None for bounds."""
    lost_ratio: float | None = None
    """Share of broadcasts that were lost at first; None where the radio loses none."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for strict JSON: a cost that is not known is None."""
        return {**asdict(self), "cost_s": self.cost_s if np.isfinite(self.cost_s) else None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EpisodeResult":
        """Inverse of `to_dict`; raises TypeError or KeyError when fields are missing."""
        cost_s = np.nan if data["cost_s"] is None else data["cost_s"]
        load = None if data["load"] is None else Load(**data["load"])
        delays = tuple(data["user_delay_s"])
        return cls(**{**data, "cost_s": cost_s, "user_delay_s": delays, "load": load})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work on one world: names with their seeds."""

    world: int
    """Seed of the world."""
    wanted: tuple[tuple[str, int], ...]
    """Scheme or bound, and its seed."""


def run_job(
    scenario: Scenario,
    job: Job,
    make_world: WorldMaker = draw_world,
    entries: Mapping[str, SchemeEntry] | None = None,
) -> list[EpisodeResult]:
    """Make the world once and play all that is wanted on it; `entries` are schemes that no registry has."""
    world = make_world(scenario, job.world)
    return [_run_one(world, job.world, name, seed, entries or {}) for name, seed in job.wanted]


def _run_one(
    world: World, world_seed: int, name: str, seed: int, entries: Mapping[str, SchemeEntry]
) -> EpisodeResult:
    rng = np.random.default_rng([seed, world_seed, crc32(name.encode())])
    if name in BOUNDS:
        return EpisodeResult(scheme=name, world=world_seed, seed=seed, cost_s=bound_cost_s(world, name, rng))
    entry = entries.get(name) or find_scheme(name)
    episode = rollout(world, entry, rng)
    result = summarise(episode, name, world_seed, seed, world.scenario.config)
    return replace(result, lost_ratio=lost_ratio(episode, world.delay))


def lost_ratio(episode: Episode, radio: DelayModel) -> float | None:
    """Share of an episode's broadcasts that were lost at first; None where the radio loses none."""
    if not isinstance(radio, LossyDelay) or not radio.may_lose:
        return None
    casts = [(outcome.slot, cast) for outcome in episode.outcomes for cast in outcome.broadcasts]
    lost = [radio.lost(slot, cast.holders, cast.users) for slot, cast in casts]
    return float(np.mean(lost)) if lost else 0.0


def summarise(episode: Episode, name: str, world: int, seed: int, config: ScenarioConfig) -> EpisodeResult:
    """Boil an episode down."""
    outcomes = episode.outcomes
    delays = np.concatenate([o.user_delay_s[o.asked] for o in outcomes])
    return EpisodeResult(
        scheme=name,
        world=world,
        seed=seed,
        slots=len(outcomes),
        cost_s=episode.mean_cost_s,
        user_delay_s=tuple(np.round(delays, 6).tolist()),
        hits=sum(int((o.edge_hit & o.asked).sum()) for o in outcomes),
        migrated_bytes=sum(o.migrated_bytes for o in outcomes),
        cloud_bytes=sum(o.cloud_bytes for o in outcomes),
        update_bytes=sum(o.cache_update_bytes for o in outcomes),
        update_s=sum(o.update.seconds for o in outcomes),
        airtime_s=sum(o.airtime_s for o in outcomes),
        decision_s=float(episode.decision_s.sum()),
        message_bytes=episode.message_bytes,
        in_time=int((delays <= config.deadline_s).sum()),
        load=load_of_episode(outcomes, config.slot_s),
    )
