"""TrimCaching in its own terms: models are placed once, and a request hits if a node delivers in time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from demo.bridge.beamformed import beamformed_world
from demo.experiments.papers.description import Experiment, Point
from policy.interfaces import BlockCatalog, Bool, Float
from policy.scenario import Scenario, World
from policy.schemes.trimcaching import HitProblem, combinations, place_gen, place_spec

EVERYWHERE = "everything everywhere"
"""What no placement exceeds: each node has all models."""


def hit_ratios(scenario: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Place for where the users are at first, then count hits as they walk.

    As in Qu et al. (arXiv 2404.14204): demand is known and Zipf, half of it over an order of the user's own;
    models reach a user from a node, or through another one over the backhaul; the nodes' bands are shared
    evenly among the users that are expected to be active there.

    Args:
        scenario: Catalog, rooms, users and radio.
        settings: `deadline_s`, of a download.
        seed: Of the world.
    """
    world = beamformed_world(scenario, seed)
    problems = [
        hit_problem(world, slot, float(settings["deadline_s"])) for slot in range(scenario.config.num_slots)
    ]
    return {
        name: {"hit_ratio": float(np.mean([problem.hit_ratio(placed) for problem in problems]))}
        for name, placed in placements(problems[0]).items()
    }


def hit_problem(world: World, slot: int, deadline_s: float) -> HitProblem:
    """Who asks for what, and who is reached in time, in one slot."""
    scenario = world.scenario
    return HitProblem(
        demand=zipf_demand(world),
        reach=in_reach(scenario, _rates(world, slot), deadline_s),
        catalog=scenario.catalog,
        capacity_bytes=scenario.capacity_bytes,
    )


def zipf_demand(world: World) -> Float:
    """Each user's demand, (users, models): Zipf, in part over an order of its own, in part over a common one.

    Orders are drawn by the world's digest; `cell_taste` is the part of a user's own.
    """
    config, models = world.scenario.config, world.scenario.catalog.num_models
    rng = np.random.default_rng(int(world.trace.digest[:16], 16))
    popularity = (1.0 + np.arange(models)) ** -config.requests.zipf_exponent
    popularity /= popularity.sum()
    orders = rng.permuted(np.tile(np.arange(models), (config.num_users, 1)), axis=1)
    own = config.requests.cell_taste
    return np.asarray(own * popularity[orders] + (1 - own) * popularity[rng.permutation(models)])


def _rates(world: World, slot: int) -> Float:
    """Rate of each node alone to each user alone, with its share of the band, (nodes, users), bit/s."""
    config = world.scenario.config
    nodes, users = config.num_nodes, config.num_users
    sender = np.repeat(np.eye(nodes, dtype=bool), users, axis=0)
    target = np.tile(np.eye(users, dtype=bool), (nodes, 1))
    active = max(1.0, config.requests.request_prob * users / nodes)
    return np.asarray(world.delay.rate_bit_s(slot, sender, target).reshape(nodes, users) / active)


def in_reach(scenario: Scenario, rate_bit_s: Float, deadline_s: float) -> Bool:
    """Which node delivers which model to which user in time, (nodes, users, models).

    Args:
        scenario: Sizes and backhaul.
        rate_bit_s: (nodes, users).
        deadline_s: Of the whole download: from the node itself, or over the backhaul and from the user's
            best node.
    """
    with np.errstate(divide="ignore"):
        direct = 1.0 / rate_bit_s
    relayed = direct.min(axis=0) + 1.0 / scenario.config.links.backhaul_bit_s
    bits = 8.0 * scenario.catalog.model_bytes
    return np.asarray(np.minimum(direct, relayed)[:, :, None] * bits <= deadline_s)


def placements(problem: HitProblem) -> dict[str, Bool]:
    """Models on nodes, (nodes, models), by each scheme."""
    whole = HitProblem(
        demand=problem.demand,
        reach=problem.reach,
        catalog=problem.catalog.whole_models(),
        capacity_bytes=problem.capacity_bytes,
    )
    return {
        "trimcaching-spec": place_spec(problem, combinations(problem.catalog)),
        "trimcaching-gen": place_gen(problem),
        "independent caching": place_gen(whole),
        "most popular": most_popular(problem, whole.catalog),
        EVERYWHERE: np.ones((problem.capacity_bytes.size, problem.catalog.num_models), dtype=bool),
    }


def most_popular(problem: HitProblem, whole: BlockCatalog) -> Bool:
    """Each node keeps what all users together ask for most, each model whole."""
    placed = np.zeros((problem.capacity_bytes.size, whole.num_models), dtype=bool)
    for model in np.argsort(-problem.demand.sum(axis=0), kind="stable"):
        used = placed @ whole.sizes_bytes
        placed[used + whole.sizes_bytes[model] <= problem.capacity_bytes, model] = True
    return placed


DEADLINE = Experiment(
    name="deadline",
    question="Which share of requests finds its model at the edge in time? TrimCaching in its own terms",
    paper="Qu, Lin, Liu, Chen, Huang: TrimCaching, arXiv 2405.03990 and 2404.14204",
    axis="deadline of a download (s)",
    points=tuple(
        Point(x=limit, settings={"deadline_s": limit}, catalog="resnets")
        for limit in (0.5, 0.75, 1.0, 1.5, 2.0)
    ),
    schemes=("trimcaching-spec", "trimcaching-gen", "independent caching", "most popular", EVERYWHERE),
    references=("independent caching",),
    scenario={
        "base": "default",
        "num_slots": 12,
        "num_users": 20,
        "capacity_bytes": [0.2e9],
        "radio": {"bandwidth_hz": 400e6},
        "requests": {"request_prob": 0.3},
    },
    measures=("hit_ratio",),
    note="ResNet-18, -34 and -50 in single precision by exact shape, each with five tasks of two fine-tunes "
    "(a quarter and half of the layers tuned): 33 models. 0.2 GB a node, 20 users on 400 MHz, placed "
    "once for the first slot's channels and counted over 12 slots in which the users walk. Demand, "
    "sizes and radio are ours, so only the order of the curves compares with the paper.",
    player=hit_ratios,
)
