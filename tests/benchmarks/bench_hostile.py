"""Hostile clients in great number: `python tests/benchmarks/bench_hostile.py [--requests N] [--seed N]`.

It exits with 1 if an answer is a fault of the server, or if anything leaked, hung, grew or was changed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import open_store
from tests.pbstore.serve.hostile import attack, attacked, expect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pbcast-hostile-") as work, attacked(Path(work)) as target:
        start = time.monotonic()
        attack(target, arguments.requests, seed=arguments.seed)
        with open_store(Path(work) / "store", read_only=True) as store:
            expect(target, store.verify().ok, "the store is damaged")
    print(f"{arguments.requests} requests in {time.monotonic() - start:.0f} s: {dict(target.codes)}")
    for problem in target.problems[:20]:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if target.problems else 0)


if __name__ == "__main__":
    main()
