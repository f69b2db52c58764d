"""Each model's time beside the 3GPP target, as computed; `bench_target.py` times it on a wire.

    python tests/benchmarks/bench_emulate.py [--json FILE]

TS 22.261 table 7.10.1-2 asks for 138 MB within 1 s. Every block of the zoo cached at every node of scenario
`default`, real beams: seconds of each model on the air to one user, and to all at once, beside the target for
as many bytes.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.jobs.config import RunConfig
from pbstore import open_store

TARGET_BYTES, TARGET_S = 138e6, 1.0


def target() -> list[dict[str, Any]]:
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


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {"target": target()}
    print(json.dumps(results, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
