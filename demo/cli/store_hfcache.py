"""`pbcast store import-hf-cache|export-hf-cache`: models from the Hugging Face cache, and into one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, chosen
from demo.cli.store_shared import (
    COPIES_PANEL,
    DEFAULT_STORE,
    JsonOption,
    KeepDamagedOption,
    StoreOption,
    existing,
    human,
    print_json,
    progress,
    source_bytes,
    told,
)
from demo.console import counted, say, warn

if TYPE_CHECKING:
    from pbstore import AddReport
    from pbstore.bulk import BadItem
    from pbstore.hfcache import ImportReport

hfcache = typer.Typer(epilog=EXIT_CODES)


@hfcache.command("import-hf-cache", epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def import_hf_cache(
    cache: Annotated[
        Path | None, typer.Argument(help="The cache's hub folder; default as HF_HOME says.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Names to take, as patterns: 'org/*'. Repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do it in a copy of the store, and show what would come.")
    ] = False,
    keep_damaged: KeepDamagedOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Add the models of the Hugging Face cache, or what is new in it; exit code 1 if one is left.

    Snapshots of one model become its revisions; the Hub's commits, branches and tags become tags.
    """
    from pbstore import open_store
    from pbstore.disk.trial import trial
    from pbstore.hfcache import choose, default_cache, import_cache, look_into

    content = look_into(cache or default_cache())
    content = choose(content, only) if only else content
    total = sum(source_bytes(item.folder, store, missing=0) for item in content.snapshots)
    place = trial(store) if dry_run else open_store(store)
    with place as opened, progress(total) as advance:
        tell = None if as_json or dry_run else _tell_one
        report = import_cache(opened, content, keep_damaged=keep_damaged, progress=advance, tell=tell)
    if as_json:
        print_json({"dry_run": dry_run, **asdict(report)})
    else:
        _print_import(report, dry_run)
    for item in report.failed:
        warn(f"pbcast: {item}")
    return max((item.exit_code for item in report.failed), default=0)


def _tell_one(result: "AddReport | BadItem") -> None:
    from pbstore import AddReport

    if isinstance(result, AddReport) and not result.already_there:
        say(f"{told(result)}, {human(result.raw_bytes)} -> {human(result.stored_bytes)} new")


def _print_import(report: "ImportReport", dry_run: bool) -> None:
    new = [item for item in report.models if not item.already_there]
    for item in new if dry_run else ():
        say(f"{item.name}: {human(item.raw_bytes)} -> {human(item.stored_bytes)} new")
    files, disk = human(report.savings.file_dedup_bytes), human(report.savings.disk_bytes)
    known = len(report.models) - len(new)
    there = f", {known} already there" if known else ""
    left = f", {len(report.failed)} not" if report.failed else ""
    line = f"{len(new)} {'would be added' if dry_run else 'added'}{there}{left}"
    say(f"{line}: {files} as files, {disk} in the store")


@hfcache.command("export-hf-cache", epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def export_hf_cache(
    names: NamesArgument,
    cache: Annotated[
        Path | None, typer.Option("--to", help="The cache's hub folder; default as HF_HOME says.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write models into a Hugging Face cache, so that `from_pretrained` works offline."""
    from pbstore.hfcache import default_cache, export_to_cache

    with existing(store) as opened:
        exported = export_to_cache(opened, chosen(opened, names), cache or default_cache())
    if as_json:
        print_json([asdict(item) for item in exported])
        return
    for item in exported:
        say(f"{item.name}: {counted(item.files, 'file')}, {human(item.written_bytes)} new in the cache")
        say(f"  {item.folder}")
