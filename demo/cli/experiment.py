"""`pbcast experiment`: the questions of the papers, each by one command."""

from pathlib import Path
from typing import Annotated

import typer

from demo.console import print_json, say, table_of, tell_count

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Exit codes: 0 done; 1 an error, in one line; 2 usage; 130 interrupted (run it again to go on)."
)
def experiment(
    name: Annotated[str | None, typer.Argument(help="Which one; none: list them all.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List all with their questions.")] = False,
    worlds: Annotated[int, typer.Option(min=1, help="Worlds at each place of the axis.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per world, for schemes that draw.")] = 3,
    first_world: Annotated[
        int, typer.Option(min=0, help="Number of the first world in split `test`.")
    ] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray (pip install 'pbcast[ray]').")] = False,
    out: Annotated[Path, typer.Option(help="Folder for NAME.csv, .svg, .pdf and .md.")] = Path("out"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A try: two places of the axis, two worlds of two slots, one seed."),
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Where finished worlds are kept; default: in pbcast's cache folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Answer a question of the papers on the real chain: curves with intervals, as CSV, SVG and PDF.

    Finished worlds are kept, so that an interrupted experiment goes on where it stopped, and more worlds can
    be added later.
    """
    if name is None or list_all:
        _list(as_json)
        return
    from demo.experiments.papers.play import QUICK, Extent
    from demo.experiments.papers.registry import find_experiment
    from demo.experiments.papers.run import quick as tried
    from demo.experiments.papers.run import run_experiment
    from demo.experiments.papers.table import csv_rows
    from demo.jobs.evaluate import kept_in
    from demo.show.figure import check_figure

    asked = find_experiment(name)
    check_figure(out / f"{asked.name}.pdf")
    extent = Extent(worlds=worlds, seeds=seeds, first_world=first_world, workers=workers, ray=ray)
    if quick:
        asked = tried(asked)
        extent = Extent(
            worlds=min(worlds, QUICK.worlds),
            seeds=QUICK.seeds,
            first_world=first_world,
            slots=QUICK.slots,
            workers=workers,
            ray=ray,
        )
    words = ["pbcast", "experiment", asked.name, *(["--quick"] if quick else [])]
    words += ["--worlds", str(extent.worlds), "--seeds", str(extent.seeds)]
    answer = run_experiment(
        asked,
        extent,
        out,
        kept=kept_in(cache),
        command=" ".join(words),
        progress=lambda done, total: tell_count("worlds", done, total),
    )
    rows = csv_rows(asked, answer.rows)
    if as_json:
        print_json({"experiment": asked.name, "question": asked.question, "rows": rows})
        return
    measure = asked.measures[0]
    heads = ("x", "curve", "worlds", measure, f"{measure}_low", f"{measure}_high")
    table_of(
        [head if head == "curve" else f"#{head}" for head in heads],
        ([row[head] for head in heads] for row in rows),
        asked.question,
    ).print()
    say(f"Written: {', '.join(map(str, answer.files))}")


def _list(as_json: bool) -> None:
    from demo.experiments.papers.registry import EXPERIMENTS

    if as_json:
        print_json(
            [{"name": one.name, "question": one.question, "paper": one.paper} for one in EXPERIMENTS.values()]
        )
        return
    table_of(["name", "question"], ([one.name, one.question] for one in EXPERIMENTS.values())).print()
