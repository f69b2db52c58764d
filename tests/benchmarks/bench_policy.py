"""How fast the placement problem runs, and how its costs grow.

Run: `python tests/benchmarks/bench_policy.py [--quick]`. All times are CPU seconds of this process on one
thread, so that other work on the machine shows as little as it can. Three parts: environment steps per
CPU-second (batched with tables, batched without, through PettingZoo), bounds and decoders, and the growth of
one slot with blocks, nodes, users and models, from tables of all sets to local ones.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from policy.batched import VectorEnv, batch_worlds
from policy.bounds import clairvoyant_costs, hindsight_bracket, lp_bound, planner_costs
from policy.config import PRESETS
from policy.place.greedy import fill_by_score, greedy_placement
from policy.place.holders import link_rates
from policy.place.local_tables import (
    candidate_nodes,
    fit_exponent,
    greedy_local,
    local_table,
    near_scores,
    slot_demand,
)
from policy.play.env import make_env
from policy.play.migration import serve_best
from policy.scenario import Scenario, World, load_scenario
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules
from policy.world.synthetic import synthetic_catalog

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One size of problem."""

    blocks: int
    nodes: int
    users: int
    models: int
    form: str
    """`table` (all sets of nodes) or `local` (sets of the 5 nodes that matter to a block)."""
    missed: int
    """Distinct blocks missed in the slot."""
    value_s: float
    """CPU seconds to value copies: delay tables over all sets, or over the sets of a few nodes a block."""
    place_s: float
    """CPU seconds to place."""
    serve_s: float
    """CPU seconds to choose migrations, order, and serve one slot."""


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def median_cpu_s(work: Callable[[], object], rounds: int) -> float:
    work()
    return float(np.median([cpu_s(work) for _ in range(rounds)]))


def step_rates(quick: bool) -> dict[str, float]:
    """Environment steps per CPU-second, one step being one world's slot."""
    scenario = load_scenario("findings")
    batch = batch_worlds([scenario.world(seed) for seed in range(32 if quick else 128)])
    generator = torch.Generator().manual_seed(0)
    holders = torch.randint(0, 16, (batch.num_worlds, 60), generator=generator)
    scores = torch.rand((batch.num_worlds, 4, 60), generator=generator)

    def play(env: VectorEnv, decode: bool) -> None:
        env.reset()
        while not env.done:
            env.step(env.decode(scores) if decode else holders)

    steps = batch.num_worlds * batch.num_slots
    rounds = 3 if quick else 9
    made = {
        "batched_with_tables": steps / median_cpu_s(lambda: play(VectorEnv(batch), False), rounds),
        "batched_with_tables_and_decoding": steps
        / median_cpu_s(lambda: play(VectorEnv(batch), True), rounds),
        "batched_without_tables": steps
        / median_cpu_s(lambda: play(VectorEnv(batch, tables=False), False), rounds),
    }
    env = make_env(scenario)
    rng = np.random.default_rng(0)
    actions = {agent: rng.random(60).astype(np.float32) for agent in env.possible_agents}

    def episode() -> None:
        env.reset()
        while env.agents:
            env.step(actions)

    made["pettingzoo_worlds_drawn_included"] = 24 / median_cpu_s(episode, rounds * 3)
    made["tables_built_per_s"] = (
        steps / cpu_s(lambda: batch_worlds([scenario.world(s) for s in range(8)])) / (batch.num_worlds / 8)
    )
    return made


def bound_times(quick: bool) -> dict[str, float]:
    """CPU milliseconds of decoders and bounds at the size of the `findings` scenario."""
    scenario = load_scenario("findings")
    worlds = [scenario.world(seed) for seed in range(4 if quick else 16)]
    batch = batch_worlds(worlds)
    table = worlds[0].table(3).cost_s
    sizes, room = scenario.catalog.sizes_bytes, scenario.capacity_bytes
    scores = np.random.default_rng(0).random((4, 60))
    rng = np.random.default_rng(0)
    count = len(worlds)
    return {
        "fill_by_score_ms": 1e3 * median_cpu_s(lambda: fill_by_score(scores, sizes, room), 20),
        "greedy_placement_ms": 1e3 * median_cpu_s(lambda: greedy_placement(table, sizes, room), 20),
        "one_slot_lp_ms": 1e3 * median_cpu_s(lambda: lp_bound(table, sizes, room), 5),
        "clairvoyant_ms_world": 1e3 * cpu_s(lambda: clairvoyant_costs(batch)) / count,
        "bracket_ms_world": 1e3 * cpu_s(lambda: hindsight_bracket(batch)) / count,
        "true_planner_64_futures_ms_world": 1e3
        * cpu_s(lambda: planner_costs(worlds[:2], batch_worlds(worlds[:2]), rng))
        / 2,
    }


def world_of(blocks: int, nodes: int, users: int, models: int) -> World:
    rng = np.random.default_rng(0)
    families = max(1, models // 20)
    per_model = max(2, round(blocks / (families + 0.5 * (models - families))))
    catalog = synthetic_catalog(rng, models=models, blocks_per_model=per_model, families=families, shared=0.5)
    side = 250.0 * np.ceil(np.sqrt(nodes))
    config = replace(
        PRESETS["default"],
        num_nodes=nodes,
        num_users=users,
        num_slots=1,
        area_m=float(side),
        capacity_share=0.05,
    )
    return Scenario(config, catalog).world(0)


def growth(blocks: int, nodes: int, users: int, models: int, rounds: int) -> Growth:
    world = world_of(blocks, nodes, users, models)
    scenario, needs, rules = world.scenario, world.needs(0), ServiceRules()
    sizes, room = scenario.catalog.sizes_bytes, scenario.capacity_bytes
    empty = np.zeros((nodes, sizes.size), dtype=bool)
    if nodes <= MAX_TABLE_NODES:
        form = "table"

        def fresh() -> World:
            return scenario.world_of(world.trace)

        value = median_cpu_s(lambda: fresh().table(0), rounds)
        table = world.table(0).cost_s
        placement = greedy_placement(table, sizes, room)
        place = median_cpu_s(lambda: greedy_placement(table, sizes, room), rounds)
    else:
        form = "local"

        def local() -> tuple[np.ndarray, np.ndarray]:
            links = link_rates(world.delay, 0, users, nodes)
            demand = slot_demand(needs, links, fit_exponent(world.delay, 0, links))
            candidates = candidate_nodes(near_scores(demand, sizes.size), 5)
            return local_table(scenario, demand, candidates), candidates

        table, candidates = local()
        value = median_cpu_s(local, rounds)
        placement = greedy_local(table, candidates, sizes, room, empty)
        place = median_cpu_s(lambda: greedy_local(table, candidates, sizes, room, empty), rounds)
    return Growth(
        blocks=sizes.size,
        nodes=nodes,
        users=users,
        models=models,
        form=form,
        missed=int(needs.any(axis=0).sum()),
        value_s=value,
        place_s=place,
        serve_s=median_cpu_s(lambda: serve_best(world, 0, placement, rules), rounds),
    )


SIZES = (
    # blocks, nodes, users, models
    (100, 4, 12, 12),
    (1_000, 4, 12, 12),
    (10_000, 4, 12, 12),
    (1_000, 4, 100, 100),
    (1_000, 4, 1_000, 100),
    (1_000, 6, 100, 100),
    (1_000, 8, 100, 100),
    (1_000, 16, 100, 100),
    (1_000, 64, 100, 100),
    (10_000, 64, 100, 1_000),
    (10_000, 64, 1_000, 1_000),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer worlds and rounds, no size past 1,000 blocks"
    )
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rates = step_rates(quick)
    print("environment steps per CPU-second")
    for name, rate in rates.items():
        print(f"  {name:36s}{rate:14,.0f}")
    times = bound_times(quick)
    print("CPU milliseconds, 4 nodes, 60 blocks, 12 users, 24 slots a world")
    for name, value in times.items():
        print(f"  {name:36s}{value:14,.2f}")
    print(f"{'blocks':>7}{'nodes':>7}{'users':>7}{'models':>8}{'form':>10}{'missed':>8}", end="")
    print(f"{'value s':>10}{'place s':>10}{'serve s':>10}")
    rows = []
    for size in SIZES:
        if quick and (size[0] > 1_000 or size[2] > 100):
            continue
        row = growth(*size, rounds=1 if quick or max(size) > 1_000 else 3)
        rows.append(row)
        print(
            f"{row.blocks:7d}{row.nodes:7d}{row.users:7d}{row.models:8d}{row.form:>10}{row.missed:8d}", end=""
        )
        print(f"{row.value_s:10.4f}{row.place_s:10.4f}{row.serve_s:10.4f}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    report = {
        "steps_per_cpu_s": rates,
        "milliseconds": times,
        "growth": [asdict(row) for row in rows],
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
    }
    path = RESULTS / ("policy_quick.json" if quick else "policy.json")
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
