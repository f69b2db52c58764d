"""`pbcast dashboard`: a page to look at a run while it goes on, or afterwards."""

import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.options import parse_capacity
from demo.console import say

app = typer.Typer(add_completion=False, epilog=EXIT_CODES)
LOG_NAME = "events.jsonl"
RUNS = Path("out")
"""Where runs leave their folders unless they are told otherwise."""


@app.command(epilog=EXIT_CODES)
def dashboard(
    log: Annotated[
        Path | None,
        typer.Option(help="Event log of a run, or the folder that holds it; default: the newest below out/."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Start a live edge (`pbcast emulate`), and anew from the page.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option(help="With --live: a block store in place of the zoo.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="With --live: how long it lives at least.")] = 10.0,
    pace: Annotated[float, typer.Option(min=0, help="With --live: 1 real time, 0 as fast as it goes.")] = 1.0,
    out: Annotated[Path, typer.Option(help="With --live: folder for its logs.")] = RUNS / "live",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8780,
) -> None:
    """Show a run as it happens, or again: who sends what to whom, caches, delays, and why. Until Ctrl-C.

    Served on this machine only; the page fetches nothing from elsewhere. The log may still grow.
    """
    from demo.dashboard import Chosen, LiveRun, LogFeed, create_app
    from pbstore.serve.http.guard_settings import GuardSettings
    from pbstore.serve.run import serve

    if live and log is not None:
        raise ValueError("give one of --log and --live")
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    with ExitStack() as stack:
        feed = stack.enter_context(closing(LogFeed(out / LOG_NAME if live else log_at(log))))
        run = None
        if live:
            options = ["--minutes", str(minutes), "--pace", str(pace)]
            options += ["--store", str(store)] if store is not None else []
            run = LiveRun(out, options, feed.watch, parse_capacity)
            stack.callback(run.end)
            run.restart(Chosen())
        serve(
            create_app(feed, run),
            port=port,
            limits=GuardSettings(grace_s=1.0),
            on_ready=lambda url: say(f"{feed.path} at {url}"),
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Not that streams of open pages were ended with the server."""
    return not record.getMessage().startswith("Cancel ")


def log_at(path: Path | None) -> Path:
    """The log that is meant: a file, the one in a folder, or the newest below `out/`.

    Raises:
        ValueError: If none is named and there is none.
    """
    if path is not None:
        return path / LOG_NAME if path.is_dir() else path
    there = sorted(RUNS.glob(f"*/{LOG_NAME}"), key=lambda one: one.stat().st_mtime)
    if not there:
        raise ValueError(
            f"no {LOG_NAME} below {RUNS}/: make one with `pbcast run` or `pbcast emulate`, "
            "name one with --log, or use --live"
        )
    return there[-1]
