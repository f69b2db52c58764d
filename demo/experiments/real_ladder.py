"""The ladder on the real chain, from results of `pbcast evaluate --json`: one table of numbers, one to read.

    python -m demo.experiments.real_ladder p1.json p2.json v30.json

Writes `real-ladder.csv` and `real-ladder.md`: each scheme with its interval, how much less delay than
EWMA-greedy on the same worlds, utilisation, backlog and update traffic, and the bounds.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from demo.experiments.options import experiment_parser
from demo.show.evaluation import markdown_table
from demo.show.ladder import ladder_order
from policy.evaluation import Evaluation

RESULTS = Path(__file__).parent / "results"
AGAINST = "ewma-greedy"
COLUMNS = (
    *("scenario", "split", "worlds", "looked_at_before", "scheme", "mean_s", "low_s", "high_s", "p95_s"),
    *("hits", f"less_than_{AGAINST}", "less_low", "less_high", "band", "busiest_link", "left_s"),
    *("update_mb_a_slot", "decision_ms"),
)


def rows_of(result: Evaluation) -> list[list[object]]:
    """One row a scheme, worst first; see `COLUMNS`."""
    settings, rows = result.settings, list[list[object]]()
    for name in ladder_order(result):
        one, step = result.schemes[name], result.paired.get(f"{name}|{AGAINST}")
        less = ["", "", ""] if step is None else [f"{x:.4f}" for x in (step.reduction, *step.ci95)]
        load = one.load
        busy = (
            ["", "", ""]
            if load is None
            else [
                f"{load.band:.3f}",
                f"{load.busiest_link:.3f}",
                f"{max(load.band_backlog_s, load.link_backlog_s):.2f}",
            ]
        )
        delays = [f"{x:.4f}" for x in (one.mean_delay_s, *one.mean_ci95, one.p95_delay_s, one.hit_ratio)]
        about = [settings["split"], settings["worlds"], settings["looked_at_before"], name]
        more = [f"{one.cache_update_bytes / 1e6:.1f}", f"{one.decision_ms:.2f}"]
        rows.append([settings["scenario"]["name"], *about, *delays, *less, *busy, *more])
    return rows


def text_of(result: Evaluation) -> str:
    """One scenario to read."""
    settings = result.settings
    title = f"## {settings['scenario']['name']}: {settings['worlds']} {settings['split']} worlds"
    seen = f"Looked at before: {settings['looked_at_before']}."
    return "\n\n".join([title, seen, markdown_table(result)])


def main(argv: Sequence[str] | None = None) -> int:
    """Read results, write both tables."""
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("results", nargs="+", type=Path, help="files of `pbcast evaluate --json`")
    parser.add_argument("--note", default="", help="how they were made: command, commit, machine")
    options = parser.parse_args(argv)
    read = [Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in options.results]
    with (options.out / "real-ladder.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *(row for result in read for row in rows_of(result))])
    texts = ["# The ladder on the real chain", options.note, *map(text_of, read)]
    (options.out / "real-ladder.md").write_text("\n\n".join(filter(None, texts)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
