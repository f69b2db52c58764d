"""`pbcast replay`: the log of a live edge, told again and checked."""

from pathlib import Path
from typing import Annotated

import typer

from demo.console import print_json, say

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Exit codes: 0 the log keeps all laws; 1 an error, in one line; 2 usage; 3 it breaks one."
)
def replay(
    log: Annotated[Path, typer.Argument(help="An events.jsonl, or the folder that holds one.")],
    until: Annotated[float | None, typer.Option(min=0, help="Tell only what was so by then, s.")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Tell it in its own time, so many times as fast; 0: at once.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Tell a log again, line by line, and check its laws: numbers, hashes, capacities, sums of bytes."""
    from demo.show.replayed import replay_log

    verdict = replay_log(log, until, speed, quiet=as_json)
    if as_json:
        print_json(verdict.to_dict())
    else:
        say(*verdict.lines())
    return 3 if verdict.broken else 0
