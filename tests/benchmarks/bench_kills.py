"""Kill -9 of a node under load: `python tests/benchmarks/bench_kills.py [--rounds N] [--seed N]`.

It exits with 1 if a wrong byte was served, or an acknowledged put was lost.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.pbstore.serve.kills import kill_rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pbcast-kills-") as work:
        seen = kill_rounds(Path(work), arguments.rounds, arguments.seed)
    told = {"MB right": seen.right_bytes / 1e6, "reads cut": seen.broken_reads}
    told |= {"blocks acknowledged": len(seen.acknowledged), "problems": len(seen.problems)}
    print(f"{arguments.rounds} rounds in {time.monotonic() - start:.0f} s: {told}")
    for problem in seen.problems[:20]:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if seen.problems else 0)


if __name__ == "__main__":
    main()
