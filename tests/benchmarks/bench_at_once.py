"""What users wait with blocks in turn and with blocks at once, by the wall clock of a live edge.

    python tests/benchmarks/bench_at_once.py [--seeds N] [--slots N] [--pace P] [--links plain] --json FILE

The same worlds lived twice by `pbcast emulate`, with `--superpose 1` and with more: the store of
`bench_delays.py`, four nodes with room for half, six users who all ask in every slot. Delays are in seconds
of the scenario, over deliveries that needed the air; beside them those that the plan computed, and those by
the rule of the lanes (`rule_s`: no object is pushed aside) where nothing but air and links takes time.
What differs is told apart: bytes beyond the payload, time that a broadcast took beyond its bytes at its rate,
and silence of the air. FILE keeps each run: what was lived is not lived again.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Broadcast, Delivered
from demo.jobs.config import RunConfig
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from policy.config import AirConfig, ScenarioConfig
from tests.benchmarks.bench_delays import make_store
from tests.benchmarks.lanes_clock import mean_delay_s


def config_of(store: Path, options: argparse.Namespace, seed: int, at_once: int) -> EmulateConfig:
    """One live edge."""
    config = ScenarioConfig(
        num_nodes=4,
        num_users=6,
        num_slots=options.slots,
        capacity_share=0.5,
        timing="pipelined",
        air=AirConfig(superpose=at_once),
    )
    requests = replace(config.requests, request_prob=1.0, keep_downloads=False)
    run = RunConfig(
        store=store,
        seed=seed,
        scenario=replace(config, requests=requests),
        num_slots=options.slots,
        emulated_slots=options.slots,
        emulated_scheme="rendezvous",
    )
    return EmulateConfig(
        run=run,
        runtime="processes",
        links=options.links,
        pace=options.pace,
        loss=options.loss,
        clients=0,
        patience_s=60.0,
    )


def busy_s(casts: Sequence[Broadcast]) -> float:
    """Time in which something is on the air, s of the wall."""
    busy, until = 0.0, float("-inf")
    for cast in sorted(casts, key=lambda one: one.started_s):
        busy += max(0.0, cast.ended_s - max(cast.started_s, until))
        until = max(until, cast.ended_s)
    return busy


def lived(store: Path, folder: Path, options: argparse.Namespace, seed: int, at_once: int) -> dict[str, Any]:
    """One run, in sums and means."""
    report = emulate(config_of(store, options, seed, at_once), folder, progress=False)
    lines = list(read_log(folder / LOG_NAME))
    check_log(lines).raise_if_broken()
    events = [line.event for line in lines]
    casts = [one for one in events if isinstance(one, Broadcast)]
    every = [one for one in events if isinstance(one, Delivered)]
    by_air = [one for one in every if one.by_air and one.computed_delay_s > 0]
    spans = [(one.ended_s - one.started_s) * options.pace for one in casts]
    full = [8 * one.wire_bytes / one.rate_bit_s for one in casts]
    slots = [[one for one in casts if one.slot == slot] for slot in sorted({one.slot for one in casts})]
    return {
        "good": report.good,
        "deliveries": len(by_air),
        "delay_s": float(np.mean([one.delay_s for one in by_air])),
        "computed_s": float(np.mean([one.computed_delay_s for one in by_air])),
        "broadcasts": len(casts),
        "together": sum(bool(one.together) for one in casts),
        "repairs": sum(one.is_repair for one in casts),
        "wire_over_payload": sum(one.wire_bytes for one in casts) / sum(one.payload_bytes for one in casts),
        "around_a_broadcast_ms": 1e3 * float(np.mean(np.subtract(spans, full))) / options.pace,
        "busy_s": sum(busy_s(own) for own in slots) * options.pace,
        "from_first_to_last_s": options.pace
        * sum(max(one.ended_s for one in own) - min(one.started_s for one in own) for own in slots),
        "seconds": report.seconds,
        "load": os.getloadavg()[0],
    }


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1%}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1%} [{mean - half:.1%}, {mean + half:.1%}]"


def tell(rows: dict[str, dict[str, Any]], at_once: int) -> None:
    """Print each pair, and what is less."""
    pairs = [
        (int(key.split()[1]), row, rows[f"{at_once} {key.split()[1]}"])
        for key, row in rows.items()
        if key.startswith("1 ") and f"{at_once} {key.split()[1]}" in rows
    ]
    for seed, turn, once in pairs:
        print(
            f"seed {seed}: measured {turn['delay_s']:.4f} and {once['delay_s']:.4f} s, computed "
            f"{turn['computed_s']:.4f} and {once['computed_s']:.4f}; {once['together']} of "
            f"{once['broadcasts']} broadcasts beside others; all right: {turn['good'] and once['good']}"
        )
    for name in ("delay_s", "computed_s", "rule_s", "busy_s", "from_first_to_last_s"):
        print(f"less {name} with {at_once} at once: {interval([1 - b[name] / a[name] for _, a, b in pairs])}")
    for name in ("wire_over_payload", "around_a_broadcast_ms", "broadcasts", "repairs", "load"):
        sums = [
            statistics.fmean(row[name] for row in own) for own in zip(*[p[1:] for p in pairs], strict=True)
        ]
        print(f"{name}: {sums[0]:.3f} in turn, {sums[1]:.3f} at once")
    for which, name in ((1, "in turn"), (2, "at once")):
        for what in ("computed_s", "rule_s"):
            ratios = [pair[which]["delay_s"] / pair[which][what] for pair in pairs]
            print(f"measured over {what} {name}: {statistics.fmean(ratios):.3f}")


def main() -> None:
    """Live what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=6)
    parser.add_argument("--pace", type=float, default=0.006)
    parser.add_argument("--loss", type=float, default=0.001)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--links", choices=("shaped", "plain"), default="shaped")
    parser.add_argument("--json", type=Path, required=True, help="where runs are kept")
    options = parser.parse_args()
    told = {name: getattr(options, name) for name in ("slots", "pace", "loss", "links")}
    kept = json.loads(options.json.read_text()) if options.json.exists() else {"settings": told, "runs": {}}
    if kept["settings"] != told:
        raise SystemExit(f"{options.json} has runs of other settings: {kept['settings']}")
    rows: dict[str, dict[str, Any]] = kept["runs"]
    with tempfile.TemporaryDirectory() as root:
        store = make_store(Path(root))
        for seed in range(options.seeds):
            for at_once in (1, options.at_once):
                key, folder = f"{at_once} {seed}", Path(root) / "out"
                if key not in rows:
                    rows[key] = lived(store, folder, options, seed, at_once)
                    options.json.write_text(json.dumps(kept, indent=1) + "\n")
                    shutil.rmtree(folder, ignore_errors=True)
                if "rule_s" not in rows[key]:
                    rows[key]["rule_s"] = mean_delay_s(config_of(store, options, seed, at_once).run)
                    options.json.write_text(json.dumps(kept, indent=1) + "\n")
    tell(rows, options.at_once)


if __name__ == "__main__":
    main()
