"""Serving of slots beside that of an older commit, on the same worlds and placements with real beamformers.

    python tests/benchmarks/bench_serving_slot.py [--quick] [--old COMMIT]

Schemes play v30 and P2 (23 ResNet and ViT models by exact shape, pipelined, mean user delay) with both; then
no cache at 0.3, 1 and 10 Gbit/s backhaul, with each rule off; then CPU time of a slot as it grows. The old
code runs from a temporary `git archive`, in the same run. Delays are exact; times are of a shared machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
OLD = "7b3b7af1b"
"""Last commit that served slots by the overlap heuristics."""
FIRST_SEED = 8000
"""Of the worlds; the search was tuned on 7000 and 7001."""
CASES = {
    "v30": {
        "capacity_share": 0.3,
        "links": {"backhaul_bit_s": 1e9, "cloud_bit_s": 1e8},
        "requests": {
            "request_prob": 0.3,
            "zipf_exponent": 0.9,
            "stickiness": 0.8,
            "no_repeat": 2,
            "reshuffle_prob": 0.02,
            "drift_prob": 0.0,
            "cell_taste": 0.0,
        },
    },
    "P2": {
        "capacity_share": 0.1,
        "links": {"backhaul_bit_s": 1e9, "cloud_bit_s": 2e8},
        "requests": {"request_prob": 0.3, "keep_downloads": True, "device_bytes": 700e6},
    },
}
SCHEMES = ("no-cache", "lru", "rendezvous", "ewma-greedy", "planner", "learned")


def play(job: dict[str, Any]) -> dict[str, float]:
    """Mean user delay of each scheme, s; runs in either tree."""
    from demo.bridge.architectures import architecture_catalog
    from demo.bridge.beamformed import beamformed_world
    from policy.config import config_from_dict
    from policy.play.rollout import rollout
    from policy.scenario import Scenario
    from policy.schemes import find_scheme

    catalog = architecture_catalog(["resnet", "vit-base", "vit-large"])
    scenario = Scenario(config_from_dict(job["config"]), catalog)
    delays: dict[str, list[float]] = {name: [] for name in job["schemes"]}
    for seed in job["seeds"]:
        world = beamformed_world(scenario, seed)
        for name in job["schemes"]:
            episode = rollout(world, find_scheme(name), np.random.default_rng(seed))
            delays[name] += [outcome.mean_delay_s for outcome in episode.outcomes]
    return {name: float(np.mean(values)) for name, values in delays.items()}


def run_in(tree: Path, job: dict[str, Any]) -> dict[str, float]:
    """`play` with the code of a tree."""
    done = subprocess.run(
        [sys.executable, __file__, "--play", json.dumps(job)],
        env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def both(old: Path, title: str, job: dict[str, Any]) -> dict[str, Any]:
    before, now = run_in(old, job), run_in(ROOT, job)
    for name in job["schemes"]:
        change = 100 * (now[name] / before[name] - 1)
        print(f"  {title:24s}{name:24s}{before[name]:9.3f}{now[name]:9.3f}{change:+8.1f} %", flush=True)
    return {"before": before, "now": now}


def no_cache(seeds: tuple[int, ...], slots: int) -> dict[str, dict[str, float]]:
    """Mean user delay of slots with nothing cached, by backhaul and by the rule that is off, s."""
    from demo.bridge.beamformed import beamformed_world
    from policy.config import LinkConfig, load_config
    from policy.play.migration import serve_best
    from policy.scenario import Scenario, shipped_catalog
    from policy.slot.tables import ServiceRules

    config, catalog = load_config("v30"), shipped_catalog("vision")
    worlds = [beamformed_world(Scenario(config, catalog), seed) for seed in seeds]
    nothing = np.zeros((config.num_nodes, catalog.num_blocks), dtype=bool)
    rows = {}
    for backhaul in (3e8, 1e9, 1e10):
        links = LinkConfig(backhaul_bit_s=backhaul, cloud_bit_s=1e8)
        linked = [
            replace(w, scenario=Scenario(replace(config, links=links), catalog), _tables={}) for w in worlds
        ]
        row = {}
        for name in ("", "comp", "migration", "groups", "share_air"):
            rules = ServiceRules(**({name: False} if name else {}))
            played = [
                serve_best(w, slot, nothing, rules).mean_delay_s for w in linked for slot in range(slots)
            ]
            row[f"no {name}" if name else "all rules"] = float(np.mean(played))
        print(
            f"  {backhaul / 1e9:5g} Gbit/s  " + "  ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True
        )
        rows[f"{backhaul:g}"] = row
    return rows


def growth(rounds: int) -> list[dict[str, float]]:
    """CPU seconds of a slot, the radio's answers known already."""
    from policy.config import PRESETS
    from policy.play.migration import serve_best
    from policy.scenario import Scenario
    from policy.slot.tables import ServiceRules
    from policy.world.synthetic import synthetic_catalog

    rows = []
    for nodes, users, models in ((4, 12, 24), (4, 100, 100), (8, 100, 100), (16, 100, 100), (64, 100, 100)):
        catalog = synthetic_catalog(
            np.random.default_rng(0), models=models, blocks_per_model=40, families=models // 4, shared=0.5
        )
        config = replace(
            PRESETS["default"], num_nodes=nodes, num_users=users, num_slots=1, capacity_bytes=(1e12,)
        )
        world = Scenario(config, catalog).world(0)
        placement = np.random.default_rng(0).random((nodes, catalog.num_blocks)) < 0.8 / nodes
        serve_best(world, 0, placement, ServiceRules())
        times = []
        for _ in range(rounds):
            start = time.process_time()
            serve_best(world, 0, placement, ServiceRules())
            times.append(time.process_time() - start)
        missed = int(world.needs(0).any(axis=0).sum())
        rows.append({"nodes": nodes, "users": users, "missed": missed, "cpu_s": min(times)})
        print(
            f"  {nodes:6d} nodes {users:6d} users {missed:6d} blocks missed {min(times):9.3f} s", flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two worlds of six slots, four schemes")
    parser.add_argument("--old", default=OLD, help="commit to compare with")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        print(json.dumps(play(json.loads(options.play))))
        return
    seeds = [FIRST_SEED, FIRST_SEED + 1] if options.quick else list(range(FIRST_SEED, FIRST_SEED + 6))
    slots = 6 if options.quick else 24
    schemes = ("no-cache", "rendezvous", "ewma-greedy", "learned") if options.quick else SCHEMES
    base = {"timing": "pipelined", "objective": "mean-user", "num_slots": slots}
    report: dict[str, Any] = {"worlds": len(seeds), "slots": slots, "old": options.old}
    packed = subprocess.run(
        ["git", "archive", options.old], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(packed)) as tree:
        old = Path(folder)
        tree.extractall(old, filter="data")
        print(f"mean user delay, s: {options.old}, now ({len(seeds)} worlds of {slots} slots)")
        for name, case in CASES.items():
            job = {"config": base | case, "schemes": schemes, "seeds": seeds}
            report[name] = both(old, name, job)
    print("no cache in v30, each slot by itself: mean user delay, s")
    report["no-cache"] = no_cache(seeds=(1, 2), slots=8)
    print("CPU seconds of a slot, `default`")
    report["growth"] = growth(1 if options.quick else 5)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "serving_slot.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
