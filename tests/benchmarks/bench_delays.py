"""Delays of a live edge on shaped links beside the computed ones.

    python tests/benchmarks/bench_delays.py [--quick] [--slots N] [--pace P] [--loss P] [--json FILE]

A store of made-up models (a base of 4 MB, some that share layers of it, strangers) on nodes with room for
half, run by `pbcast emulate --links shaped`: a process and a namespace for each role, backhaul, cloud and air
at the scenario's and the radio's rates times the pace. Measured: from the start of a slot's service to the
arrival of the user's last bit, in seconds of the scenario; over deliveries that needed the air. What is above
the computed delay is told apart: headers and repair; polls, answers and decoding around a broadcast; waits
between broadcasts beyond the plan's. A machine that cannot keep up shows it: lower the pace. Load and stolen
processor time are told beside.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.emulation.log import read_log
from demo.emulation.log.events import Broadcast, Delivered, Transferred
from demo.jobs.config import RunConfig
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from pbstore import open_store
from policy.config import ScenarioConfig

LAYERS, SHAPE = 8, (512, 256)
SHARED = (8, 6, 4, 2, 0, 0)
"""Layers that each model has of the base."""


def make_store(root: Path) -> Path:
    """Models of 4.2 MB each."""
    rng = np.random.default_rng(5)
    base = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(LAYERS)]
    with open_store(root / "store") as store:
        for number, shared in enumerate(SHARED):
            own = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(LAYERS - shared)]
            folder = root / f"model{number}"
            folder.mkdir()
            save_file(
                {f"layer.{i}": x for i, x in enumerate([*base[:shared], *own])}, folder / "model.safetensors"
            )
            (folder / "config.json").write_text(f'{{"model": {number}}}')
            store.add(folder, name=f"org/model{number}")
    return root / "store"


def config_of(store: Path, options: argparse.Namespace) -> EmulateConfig:
    """A live edge on shaped links."""
    slots = 6 if options.quick else options.slots
    config = ScenarioConfig(
        num_nodes=options.nodes,
        num_users=options.users,
        num_slots=slots,
        capacity_share=0.5,
        timing="pipelined",
    )
    scenario = replace(config, requests=replace(config.requests, request_prob=1.0))
    run = RunConfig(
        store=store,
        seed=3,
        scenario=scenario,
        num_slots=slots,
        emulated_slots=slots,
        emulated_scheme="rendezvous",
    )
    return EmulateConfig(
        run=run, runtime="processes", links="shaped", pace=options.pace, loss=options.loss, clients=0
    )


def told(name: str, ratios: Sequence[float], unit: str = "") -> None:
    """Print one line of quantiles."""
    if len(ratios) > 1:
        cuts = statistics.quantiles(ratios, n=20, method="inclusive")
        print(
            f"{name}: {len(ratios)}, median {cuts[9]:.3f}, p95 {cuts[18]:.3f}, most {max(ratios):.3f}{unit}"
        )


def stolen() -> tuple[float, float]:
    """Processor time that others took from this machine, and all, s."""
    times = psutil.cpu_times()
    return float(getattr(times, "steal", 0.0)), float(sum(times))


def parts_of(delivery: Delivered, casts: Sequence[Broadcast], pace: float) -> dict[str, float]:
    """What a measured delay is made of, in shares of the computed one."""
    mine = [one for one in casts if one.slot == delivery.slot]
    last = max(number for number, one in enumerate(mine) if delivery.user in one.users)
    until, whole = mine[: last + 1], delivery.computed_delay_s
    payload = sum(8 * one.payload_bytes / one.rate_bit_s for one in until)
    over = sum(8 * (one.wire_bytes - one.payload_bytes) / one.rate_bit_s for one in until)
    spans = sum(one.ended_s - one.started_s for one in until) * pace
    silent = delivery.delay_s - spans
    return {
        "headers and repair": over / whole,
        "around broadcasts (polls, answers, decoding)": (spans - payload - over) / whole,
        "between broadcasts beyond the plan": (silent - (whole - payload)) / whole,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six slots")
    parser.add_argument("--slots", type=int, default=60)
    parser.add_argument("--pace", type=float, default=0.01)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--json", type=Path, help="where deliveries and broadcasts are kept")
    options = parser.parse_args()
    before = stolen()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder))
        report = emulate(config_of(store, options), Path(folder) / "out", progress=False)
        events = [line.event for line in read_log(Path(folder) / "out" / LOG_NAME)]
    steal, spent = (after - since for after, since in zip(stolen(), before, strict=True))
    every = [one for one in events if isinstance(one, Delivered)]
    casts = [one for one in events if isinstance(one, Broadcast)]
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in (*every, *casts)], indent=1))
    delivered = [one for one in every if one.by_air and one.computed_delay_s > 0]
    moves = [one for one in events if isinstance(one, Transferred) and one.cause == "serve"]
    print(
        f"deliveries right: {report.good}; load {os.getloadavg()[0]:.1f}; stolen {steal / spent:.1%}; "
        f"{report.seconds:.0f} s; {len(every) - len(delivered)} of {len(every)} did not need the air"
    )
    told("measured over computed delay", [one.delay_s / one.computed_delay_s for one in delivered])
    told("from the request to the checked model", [one.lived_s for one in every], " s of the wall")
    with_moves = {one.slot for one in moves}
    for name, some in (("with", True), ("without", False)):
        chosen = [one for one in delivered if (one.slot in with_moves) is some]
        told(f"  in slots {name} transfers", [one.delay_s / one.computed_delay_s for one in chosen])
    shares = [parts_of(one, casts, options.pace) for one in delivered]
    for name in shares[0] if shares else ():
        told(f"  of it {name}", [share[name] for share in shares])
    planned = [8 * one.payload_bytes / one.rate_bit_s / options.pace for one in casts]
    spans = [one.ended_s - one.started_s for one in casts]
    told(
        "broadcast until all said done, over payload at the rate",
        [s / p for s, p in zip(spans, planned, strict=True)],
    )
    told("Ethernet bytes over payload bytes", [one.wire_bytes / one.payload_bytes for one in casts])
    pairs = [(a, b) for a, b in itertools.pairwise(casts) if a.slot == b.slot]
    if pairs:
        silence = statistics.median(b.started_s - a.ended_s for a, b in pairs)
        span = statistics.median(spans)
        print(
            f"silence between broadcasts: {1e3 * silence:.1f} ms in the median; a broadcast {1e3 * span:.0f}"
        )


if __name__ == "__main__":
    main()
