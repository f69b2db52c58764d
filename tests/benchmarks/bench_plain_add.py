"""What looking for derivations costs an add that has none: processor time, with the search and without.

Run: `python tests/benchmarks/bench_plain_add.py [--runs N] [--out FILE]`. Full fine-tunes, models with frozen
layers and unrelated ones of the small zoo are added one by one to a new store, the two ways by turns in one
process, behind a pair that does not count: load of the machine hits both alike, and pairs are compared.
Without the search no elements are kept to find merges by, no text is compared, and no program is tried.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.zoo import build_zoo
from pbstore import open_store
from pbstore.disk.add import adding, intake
from pbstore.disk.add.next_text import TextTrail
from pbstore.disk.add.relatives import Relatives

MADE = ("bf16", "lora", "soup")
"""Parts of names of models that are made of others: these are derived."""


def folders() -> list[Path]:
    """Models of the zoo that are derived from none."""
    return [model.folder for model in build_zoo("small") if not any(part in model.name for part in MADE)]


def add_all(searches: bool, models: list[Path]) -> dict[str, float]:
    """Processor seconds of adding all models to a new store, and bytes of the payloads."""
    off = [
        patch.object(Relatives, "may_search", False),
        patch.object(TextTrail, "guess", lambda *_: None),
        patch.object(adding, "probe", lambda *_: None),
        patch.object(intake, "probe", lambda *_: None),
    ]
    with ExitStack() as stack:
        for one in () if searches else off:
            stack.enter_context(one)
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(open_store(root / "store", durable=False))
        before = os.times()
        reports = [store.add(folder, f"model{number}") for number, folder in enumerate(models)]
        after = os.times()
    derived = sum(count for report in reports for codec, count in report.codecs.items() if "derive" in codec)
    return {
        "cpu_s": sum(after[:4]) - sum(before[:4]),
        "raw_bytes": sum(report.raw_bytes for report in reports),
        "stored_bytes": sum(report.stored_bytes for report in reports),
        "derived": derived,
    }


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="of each way")
    parser.add_argument("--out", type=Path, default=None, help="JSON file, too")
    options = parser.parse_args()
    models = folders()
    runs: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    for turn in range(-2, 2 * options.runs):
        way = ("on", "off")[(turn + turn // 2) % 2]  # on, off, off, on, on, ...
        found = add_all(way == "on", models)
        if turn >= 0:
            runs[way].append(found)
            print(f"{way}: {found['cpu_s']:.2f} s", flush=True)
    middle = {way: statistics.median(run["cpu_s"] for run in some) for way, some in runs.items()}
    pairs = [on["cpu_s"] / off["cpu_s"] for on, off in zip(runs["on"], runs["off"], strict=True)]
    ratios = {"median": statistics.median(pairs), "least": min(pairs), "most": max(pairs)}
    report = {"median_cpu_s": middle, "ratio_of_pairs": ratios, "runs": runs}
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("median_cpu_s", "ratio_of_pairs")}))


if __name__ == "__main__":
    main()
