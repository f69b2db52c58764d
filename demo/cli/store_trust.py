"""`pbcast store verify|scrub|audit|export|import`: is all still what it was, and a store as one file."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import chosen, matching, parse_duration
from demo.cli.store_shared import (
    COPIES_PANEL,
    DEFAULT_STORE,
    TRUST_PANEL,
    JsonOption,
    StoreOption,
    complete_name,
    existing,
    human,
    parse_size,
    print_json,
    progress,
    some_of,
)
from demo.console import Sheet, counted, say, warn

if TYPE_CHECKING:
    from pbstore.disk.upkeep.scrub import ScrubReport
    from pbstore.disk.upkeep.verify import VerifyReport

trust = typer.Typer(epilog=EXIT_CODES)
SomeNames = Annotated[
    list[str] | None,
    typer.Argument(
        help="Only these models, or patterns such as 'org/*'.",
        metavar="[NAME]...",
        autocompletion=complete_name,
    ),
]


@trust.command(epilog=EXIT_CODES, rich_help_panel=TRUST_PANEL)
def verify(
    names: SomeNames = None,
    sample: Annotated[str, typer.Option(help="Share of the blocks to read, such as 0.05 or 5%.")] = "1",
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Check that everything still hashes to what it should; exit code 3 if not.

    With names: these models or revisions and all that they need, not the index and other models.
    """
    import numpy as np

    share = _share(sample)
    with existing(store) as opened:
        wanted = chosen(opened, names) if names else None
        total = None if wanted is not None else round(share * _raw_bytes(store))
        with progress(total) as advance:
            report = opened.verify(share, np.random.default_rng(seed), advance, wanted)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        say(f"verified {counted(report.blocks, 'block')} of {counted(report.models, 'model')}")
    return _tell_problems(report, as_json)


def _raw_bytes(store: Path) -> int:
    """Raw bytes of all blocks."""
    with existing(store) as opened:
        return sum(kind["raw_bytes"] for kind in opened.savings().by_kind.values())


def _share(text: str) -> float:
    """A share of 0..1 from `0.05` or `5%`."""
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share such as 0.05 or 5%, got {text!r}")
    return share


@trust.command(epilog=EXIT_CODES, rich_help_panel=TRUST_PANEL)
def scrub(
    rate: Annotated[str | None, typer.Option(help="Most bytes a second, such as 20MB.")] = None,
    time_limit: Annotated[str | None, typer.Option("--for", help="How long, such as 30m or 2h.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Check block after block, slowly, on from where the last scrub ended; exit code 3 if one is damaged.

    It takes no lock: let it run beside everything else, or for an hour each night.
    """
    from pbstore.disk.upkeep.scrub import scrub as run_scrub

    with existing(store) as opened, progress(None) as advance:
        report = run_scrub(
            opened.disk,
            rate_bytes_s=parse_size(rate),
            seconds=parse_duration(time_limit),
            progress=advance,
        )
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        end = "the pass is done" if report.is_whole else "the next scrub goes on from here"
        say(f"checked {counted(report.blocks, 'block')}, {human(report.raw_bytes)}: {end}")
    return _tell_problems(report, as_json)


def _tell_problems(report: "VerifyReport | ScrubReport", as_json: bool) -> int:
    if report.ok:
        return 0
    if not as_json:
        say(*(f"  {problem}" for problem in some_of(report.problems)))
        if report.damaged_models:
            say(f"models concerned: {', '.join(some_of(report.damaged_models))}")
    more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
    warn(f"pbcast: {report.problems[0]}{more}")
    return 3


@trust.command("snapshot", epilog=EXIT_CODES, rich_help_panel=TRUST_PANEL)
def take_snapshot(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Keep a copy of the index; a store that finds its index lost or damaged takes it back by itself.

    If the store has changed since, the index is built from packs and manifests, and pins, priorities, uses
    and times are those of the copy and the log of changes. A large store makes a copy once a day by itself.
    """
    with existing(store) as opened:
        size, models = opened.disk.take_snapshot(), len(opened.models())
    if as_json:
        print_json({"bytes": size, "models": models})
    else:
        say(f"kept a copy of the index of {models} models: {human(size)}")


@trust.command(epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def export(
    file: Annotated[Path, typer.Argument(help="The archive to be written.")],
    names: SomeNames = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write models, or the whole store, into one file for transport: revisions, tags and blocks."""
    from pbstore.bulk import export_archive

    with existing(store) as opened:
        wanted = chosen(opened, names) if names else None
        with progress(opened.used_bytes if wanted is None else None) as advance:
            report = export_archive(opened, file, wanted, progress=advance)
    if as_json:
        print_json(asdict(report))
    else:
        size = human(file.stat().st_size)
        what = f"{counted(len(report.models), 'model')}, {counted(report.revisions, 'revision')}"
        say(f"wrote {what} to {file}: {size}")


@trust.command("import", epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def import_file(
    file: Annotated[Path, typer.Argument(help="An archive that `export` wrote.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Take the models of an archive in; each block is hashed, what is there already is kept."""
    from pbstore import open_store
    from pbstore.bulk import import_archive

    if not file.is_file():
        raise FileNotFoundError(f"expected an archive of `pbcast store export`, there is none at {file}")
    with open_store(store) as opened, progress(file.stat().st_size) as advance:
        report = import_archive(opened, file, progress=advance)
    if as_json:
        print_json(asdict(report))
    else:
        new = f"{report.new_revisions} of {report.revisions} revisions new"
        say(f"{counted(len(report.models), 'model')}: {new}, {human(report.stored_bytes)} more in the store")


@trust.command(epilog=EXIT_CODES, rich_help_panel=TRUST_PANEL)
def audit(
    names: SomeNames = None,
    since: Annotated[str | None, typer.Option(help="Only what is younger: 7d, 12h.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what changed when: models filed, removed, restored, renamed, tagged, pinned; collections."""
    from pbstore.disk.index.audit import read

    age_s = parse_duration(since)
    oldest = 0.0 if age_s is None else time.time() - age_s
    with existing(store) as opened:
        changes = list(read(opened.disk.layout.audit))
    if names:
        known = [name for one in changes for name in (one.model, one.new_name) if name]
        wanted = set(matching(known, names, "in the audit log", all_known=True))
        changes = [one for one in changes if {one.model, one.new_name} & wanted]
    changes = [one for one in changes if one.at >= oldest]
    if as_json:
        print_json([asdict(one) for one in changes])
        return
    table = Sheet("when", "what", "model", "revision", "")
    for one in changes:
        when = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        model = f"{one.model} -> {one.new_name}" if one.new_name else one.model
        table.row(when, one.what, model, one.commit[:12], one.detail)
    table.print()
