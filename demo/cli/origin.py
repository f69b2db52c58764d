"""`pbcast origin`: what lies on an object store, and giving its room back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import DryRunOption, JsonOption, YesOption, agree, human, print_json, show
from demo.console import busy, counted, say, warn

if TYPE_CHECKING:
    from pbstore.serve.origin.catalog import Catalog
    from pbstore.serve.origin.collect import OriginGcReport

app = typer.Typer(
    help="Look at models on an object store, remove and restore them, collect what nobody needs.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
)
DAY_S = 86_400.0
OriginOption = Annotated[
    str, typer.Option("--origin", envvar="PBCAST_ORIGIN", help="s3://BUCKET/PREFIX or file:///FOLDER.")
]
Name = Annotated[str, typer.Argument(help="Name of the model, ORG/MODEL.", metavar="NAME")]


@contextmanager
def opened(url: str) -> Iterator["Catalog"]:
    """An origin that must be there already."""
    from pbstore.serve.origin.catalog import Catalog
    from pbstore.serve.origin.objects import open_objects

    catalog = Catalog(open_objects(url))
    try:
        if not catalog.check_format():
            raise FileNotFoundError(f"no origin at {url}: make one with `pbcast store push NAME --to {url}`")
        yield catalog
    finally:
        catalog.close()


@app.command("ls", epilog=EXIT_CODES)
def list_models(origin: OriginOption, as_json: JsonOption = False) -> None:
    """List the models, and those that were removed and can still be restored."""
    with opened(origin) as catalog:
        records = sorted(catalog.names().values(), key=lambda record: record.name)
    if as_json:
        print_json({"models": [asdict(record) for record in records]})
    else:
        say(*(f"{record.name}{' (removed)' if record.removed else ''}" for record in records))


@app.command("rm", epilog=EXIT_CODES)
def remove_model(
    name: Name, origin: OriginOption, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Remove a model; `restore` brings it back until a gc lets go of it."""
    from pbstore.serve.origin.remove import remove

    with opened(origin) as catalog:
        catalog.record(name)
        agree(f"remove {name} from {origin}", ["`pbcast origin restore` brings it back for 7 days"], yes)
        remove(catalog, name)
    show({"removed": name}, as_json, f"removed {name}")


@app.command(epilog=EXIT_CODES)
def restore(name: Name, origin: OriginOption, as_json: JsonOption = False) -> None:
    """Bring a removed model back."""
    from pbstore.serve.origin.writer import Writer

    with opened(origin) as catalog, Writer(catalog) as writer:
        writer.restore(name)
    show({"restored": name}, as_json, f"restored {name}")


@app.command(epilog=EXIT_CODES)
def gc(
    origin: OriginOption,
    dry_run: DryRunOption = False,
    grace_days: Annotated[float, typer.Option(min=0, help="How long marked objects stay for readers.")] = 1.0,
    trash_days: Annotated[float, typer.Option(min=0, help="How long removed models can be restored.")] = 7.0,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mark what no model needs, and delete what was marked before and still nobody needs."""
    from pbstore.serve.origin.collect import collect

    with opened(origin) as catalog:
        grace_s, trash_s = grace_days * DAY_S, trash_days * DAY_S
        with busy("look for what no model needs"):
            report = collect(catalog, dry_run=True, grace_s=grace_s, trash_s=trash_s)
        if not dry_run:
            if report.deleted_objects:
                agree(f"delete from {origin}", _lines(report), yes)
            with busy("collect"):
                report = collect(catalog, grace_s=grace_s, trash_s=trash_s)
    if as_json:
        print_json(asdict(report))
    else:
        say(("would do:" if dry_run else "done:"), *(f"  {line}" for line in _lines(report)))


@app.command("verify", epilog=EXIT_CODES)
def check(origin: OriginOption, as_json: JsonOption = False) -> int:
    """Read everything that a model needs and compare it with its checksums; exit code 3 if it differs."""
    from pbstore.serve.origin.verify import verify

    with opened(origin) as catalog, busy("read and hash"):
        report = verify(catalog)
    if as_json:
        print_json(asdict(report))
    else:
        counts = (report.models, "model"), (report.packs, "pack"), (report.blocks, "block")
        what = ", ".join(counted(number, kind) for number, kind in counts)
        say(f"{what}, {human(report.read_bytes)}: {'damaged' if report.damaged else 'all as written'}")
        warn(*(f"pbcast: {line}" for line in report.damaged))
    return 3 if report.damaged else 0


def _lines(report: "OriginGcReport") -> list[str]:
    lines = [
        f"delete {report.deleted_objects} objects, {human(report.deleted_bytes)}",
        f"mark {report.marked_objects} objects, {human(report.marked_bytes)}",
        f"keep {human(report.kept_bytes)} of {report.models} models, {report.in_trash} more in the trash",
    ]
    if report.waits_for:
        lines.append(f"wait for {len(report.waits_for)} writers at work")
    return lines
