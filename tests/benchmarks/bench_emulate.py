"""A live edge: each model against the 3GPP target, rounds of faults.

    python tests/benchmarks/bench_emulate.py [--quick] [--only target rounds] [--json FILE]

target: TS 22.261 table 7.10.1-2 asks for 138 MB within 1 s. Every block of the zoo cached at every node of
scenario `default`, real beams, one user: seconds of each model on the air as computed, beside the target for
as many bytes. rounds: scripts of faults drawn by a seed.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.jobs.config import RunConfig
from pbstore import open_store
from tests.benchmarks.live_family import make_family
from tests.demo.emulation.faulty import faulty_round

TARGET_BYTES, TARGET_S = 138e6, 1.0


def target(quick: bool) -> list[dict[str, Any]]:
    """Each model of the zoo against the target, with every block cached where it is sent from."""
    from demo.bridge.radio_delay import RadioDelay
    from demo.bridge.store_catalog import catalog_from_store
    from demo.jobs.run import fill
    from demo.zoo import build_zoo
    from policy.config import load_config
    from policy.scenario import Scenario

    zoo = build_zoo("small", progress=False)
    scenario = replace(load_config("default"), num_slots=16)
    run = RunConfig(scenario=scenario, num_slots=16, emulated_slots=1)
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store") as store:
        fill(store, zoo, lambda done, total: None)
        catalog = catalog_from_store(store, {model.name: None for model in zoo}).catalog
        assert catalog.forms is not None
        trace = Scenario(scenario, catalog).world(0).trace
        radio = RadioDelay(run.radio, trace, 0)
        everyone = np.ones((1, scenario.num_nodes), dtype=bool)
        users = np.eye(scenario.num_users, dtype=bool)
        senders = np.repeat(everyone, scenario.num_users, axis=0)
        rates = np.concatenate([radio.rate_bit_s(slot, senders, users) for slot in range(trace.num_slots)])
        together = np.array(
            [
                radio.rate_bit_s(slot, everyone, np.ones((1, scenario.num_users), bool))[0]
                for slot in range(16)
            ]
        )
    rows = []
    for row, name in enumerate(catalog.model_names):
        size = float(catalog.forms.alone_bytes[catalog.forms.content[row]].sum())
        raw = next(model.raw_bytes for model in zoo if model.name == name)
        rows.append(
            {
                "model": name,
                "raw_bytes": raw,
                "sent_bytes": int(size),
                "one_user_s": float(np.median(8 * size / rates)),
                "one_user_p95_s": float(np.quantile(8 * size / rates, 0.95)),
                "all_users_s": float(np.median(8 * size / together)),
                "target_s": TARGET_S * raw / TARGET_BYTES,
            }
        )
    return rows


def rounds(quick: bool) -> dict[str, Any]:
    """Scripts of faults: how many were lived through, and what went wrong."""
    failed: list[str] = []
    seeds = range(5 if quick else 100)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        store = make_family(Path(folder), 1 << 14)
        for seed in seeds:
            try:
                faulty_round(store, Path(folder) / "out", seed)
            except Exception as error:
                failed.append(f"{seed}: {error}"[:200])
            shutil.rmtree(Path(folder) / "out", ignore_errors=True)
    return {"rounds": len(seeds), "failed": failed, "seconds": time.monotonic() - began}


PARTS: dict[str, Callable[[bool], Any]] = {
    "target": target,
    "rounds": rounds,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.only:
        results[name] = PARTS[name](options.quick)
        print(json.dumps({name: results[name]}, indent=1), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
