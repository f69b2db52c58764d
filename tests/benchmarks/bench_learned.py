"""Time and message bytes of one decision of the learned policy, from 4 nodes and 60 blocks up.

python tests/benchmarks/bench_learned.py [--quick]
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from policy.config import FINDINGS
from policy.interfaces import BlockCatalog
from policy.play.rollout import empty_placement
from policy.play.scheme import History, Observation
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.synthetic import findings_catalog, synthetic_catalog

RESULT = Path(__file__).parent / "results" / "learned.json"
SIZES = ((4, 100, 10, 12), (6, 100, 10, 24), (16, 1000, 100, 100), (64, 10_000, 200, 200))
"""Nodes, blocks (about), models, users."""


def _catalog(blocks: int, models: int) -> BlockCatalog:
    rng = np.random.default_rng(0)
    per_model = max(2, round(blocks / models / 0.6))
    return synthetic_catalog(
        rng, models=models, blocks_per_model=per_model, families=max(1, models // 5), shared=0.5
    )


def measure(nodes: int, users: int, catalog: BlockCatalog, slots: int) -> dict[str, float]:
    """Median CPU and wall time of a decision after the first, ms."""
    side = 150.0 * nodes**0.5
    config = replace(
        FINDINGS, num_nodes=nodes, num_users=users, num_slots=slots, area_m=2 * side, capacity_bytes=()
    )
    scenario = Scenario(config, catalog)
    world, entry = scenario.world(1), find_scheme("learned")
    scheme, placement = entry.start(scenario, np.random.default_rng(0)), empty_placement(world)
    cpu, wall, sent = [], [], 0
    for slot in range(slots):
        if slot and nodes <= 6:
            world.table(slot - 1)  # the world's own work, done when the slot was served
        seen = Observation(
            slot=slot,
            placement=placement,
            history=History(world, slot, entry.rules),
            at_hand=placement,
            idle_s=np.full(nodes, np.inf),
        )
        began, began_cpu = time.perf_counter(), time.process_time()
        decided = scheme.decide(seen)
        cpu.append(time.process_time() - began_cpu)
        wall.append(time.perf_counter() - began)
        placement, sent = decided.holds, decided.message_bytes
    return {
        "nodes": nodes,
        "blocks": catalog.num_blocks,
        "models": catalog.num_models,
        "users": users,
        "cpu_ms": 1e3 * float(np.median(cpu[1:])),
        "least_cpu_ms": 1e3 * float(np.min(cpu[1:])),
        "wall_ms": 1e3 * float(np.median(wall[1:])),
        "message_bytes": sent,
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="The two small sizes only.")
    quick = parser.parse_args().quick
    rows = [measure(4, 12, findings_catalog(), 24)]
    for nodes, blocks, models, users in SIZES[: 2 if quick else None]:
        rows.append(measure(nodes, users, _catalog(blocks, models), 24 if nodes <= 6 else 4))
    print(" ".join(f"{key:>13}" for key in rows[0]))
    for row in rows:
        print(" ".join(f"{value:13.1f}" for value in row.values()))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
