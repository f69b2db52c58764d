"""`pbcast report`: a run as one page."""

from pathlib import Path
from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.options import parse_capacity
from demo.console import busy, say

app = typer.Typer(add_completion=False, epilog=EXIT_CODES)


@app.command(epilog=EXIT_CODES)
def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of `pbcast run` or `pbcast emulate`.", metavar="DIR")
    ],
    slot: Annotated[
        int | None, typer.Option(min=0, help="Slot whose timeline is drawn; default: the busiest.")
    ] = None,
    sweep: Annotated[
        str,
        typer.Option(help="Also play the run's schemes at these rooms of a node (10%,20%,40%): minutes."),
    ] = "",
) -> None:
    """Write one page about a run: figures, pictures, tables, the timeline of a slot, settings, versions.

    DIR/report.html needs nothing else; DIR/figures holds each picture as SVG, as PDF for one column and for
    two, and its numbers as CSV.
    """
    from demo.show.report import FIGURES, write_report

    if not folder.is_dir():
        raise ValueError(f"expected the folder of a run, there is none at {folder}")
    shares = [_share(text) for text in sweep.split(",") if text.strip()]
    with busy("play and draw" if shares else "draw"):
        page = write_report(folder, slot, shares)
    say(str(page), f"pictures and their numbers: {folder / FIGURES}")


def _share(text: str) -> float:
    share, _ = parse_capacity(text)
    if share is None:
        raise ValueError(f"expected shares of all blocks such as 10%, got {text!r}")
    return share
