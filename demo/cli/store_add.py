"""`pbcast store add`: a folder, a file, a model of a Hub, or all models under a folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_convert import source_folder
from demo.cli.store_shared import (
    DEFAULT_STORE,
    MODELS_PANEL,
    ConvertOption,
    DequantiseOption,
    DryRunOption,
    ExcludeOption,
    IncludeOption,
    JsonOption,
    KeepDamagedOption,
    SizeOption,
    StoreOption,
    ThoroughOption,
    human,
    parse_size,
    print_json,
    progress,
    selection,
    show,
    some_of,
    source_bytes,
    tell_exceptions,
    told,
)
from demo.console import Sheet, counted, say, warn

if TYPE_CHECKING:
    from pbstore import AddReport, DiskBlockStore
    from pbstore.bulk import BadItem, BulkReport, Found
    from pbstore.folders.select import Selection

adding = typer.Typer(epilog=EXIT_CODES)
HUB = "hf://"


@dataclass(frozen=True, slots=True)
class _How:
    """How new blocks are stored."""

    form: str
    thorough: bool
    keep_damaged: bool


@adding.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def add(
    source: Annotated[
        str,
        typer.Argument(help="Folder or file of the model, or hf://ORG/MODEL@REV.", metavar="SOURCE"),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name to file it under, ORG/MODEL; hf:// has one.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Add all models under the folder.")
    ] = False,
    org: Annotated[
        str | None,
        typer.Option("--org", help="With --recursive: ORG of all names; else the first part of the path."),
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Stored model that it was made from.")] = None,
    hot: Annotated[bool, typer.Option("--hot", help="Store all blocks raw, to be mapped.")] = False,
    thorough: ThoroughOption = False,
    convert: ConvertOption = False,
    dequantise: DequantiseOption = None,
    keep_damaged: KeepDamagedOption = False,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="With --recursive: folders looked at ahead.")] = 2,
    dry_run: DryRunOption = False,
    capacity: SizeOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Split a model into blocks and store those that are new.

    Under a name that is taken other content becomes the newest revision; what was there stays, see `log`.
    With --recursive what is there already is skipped: the same call goes on after an interrupt.
    """
    select = selection(exclude, include)
    how = _How("hot" if hot else "cold", thorough or dequantise is not None, keep_damaged)
    if recursive:
        if name or base or convert or dequantise or source.startswith(HUB):
            raise ValueError("--recursive takes a folder, and no --name, --base, --convert or --dequantise")
        return _add_recursive(
            Path(source),
            org,
            select,
            how,
            store,
            dry_run=dry_run,
            jobs=jobs,
            capacity=capacity,
            as_json=as_json,
        )
    if org is not None or dry_run:
        raise ValueError("--org and --dry-run are for --recursive; `store plan` tells what an add costs")
    if source.startswith(HUB):
        if base or convert or dequantise or exclude or include or hot:
            raise ValueError("a model of a Hub is stored as it is: of the options only --name is for it")
        report = _add_from_hub(source, name, capacity, store)
    elif name is None:
        raise ValueError("expected --name ORG/MODEL, or --recursive for all models under the folder")
    else:
        from pbstore import open_store

        with (
            source_folder(Path(source), convert, dequantise, store) as ready,
            progress(source_bytes(ready.folder, store, select)) as advance,
            open_store(store, parse_size(capacity)) as opened,
        ):
            report = opened.add(
                ready.folder,
                name,
                base,
                form=how.form,
                thorough=how.thorough,
                keep_damaged=how.keep_damaged,
                select=select,
                check=ready.check,
                progress=lambda _, size: advance(size),
            )
            _tell_optimizer(opened, [report])
        _tell_several(Path(source), select)
    show(asdict(report), as_json, told(report))
    tell_exceptions(report)
    return 0


def _add_from_hub(source: str, name: str | None, capacity: str | None, store: Path) -> "AddReport":
    from pbstore import open_store
    from pbstore.hfcache import HubAddress, add_from_hub

    address = HubAddress.parse(source)
    with open_store(store, parse_size(capacity)) as opened, progress(None) as advance:
        return add_from_hub(opened, address, name, progress=advance)


def _tell_several(source: Path, select: "Selection") -> None:
    """Say so if a folder that was added as one model seems to hold several."""
    from pbstore.bulk import find_models

    try:
        models = find_models(source, select=select).models if source.is_dir() else ()
    except (OSError, ValueError):
        return
    if len(models) > 1 and all(item.folder != source for item in models):
        names = ", ".join(some_of([str(item.folder.relative_to(source)) for item in models]))
        warn(f"pbcast: {source} seems to hold {len(models)} models, stored as one ({names}): see --recursive")


MUCH = 0.1
"""Share of a model's bytes from which its optimizer states are worth a word."""


def _tell_optimizer(opened: "DiskBlockStore", reports: "Sequence[AddReport]") -> None:
    """Say how much of what was added is the state of a training run."""
    from pbstore.folders.select import Selection

    states, size = Selection(exclude=("optimizer",)), 0
    new = [report for report in reports if not report.already_there]
    for report in new:
        files = opened.manifest(f"{report.name}@{report.commit}").files
        size += sum(entry.size_bytes for entry in files if states.leaves_out(entry.path))
    if size > MUCH * (total := sum(report.raw_bytes for report in new)):
        share = f"{human(size)} of {human(total)}"
        warn(f"pbcast: optimizer states are {share}: --exclude optimizer leaves them out")


def _add_recursive(
    root: Path,
    org: str | None,
    select: "Selection",
    how: _How,
    store: Path,
    *,
    dry_run: bool,
    jobs: int,
    capacity: str | None,
    as_json: bool,
) -> int:
    from pbstore import open_store
    from pbstore.bulk import add_all, find_models

    models = find_models(root, org, select)
    if not models.models:
        raise FileNotFoundError(f"no model under {root}: no folder there has weights")
    if dry_run:
        _print_plan(models, as_json)
        return 0
    wanted = [item.to_add(select) for item in models.models]
    total = sum(source_bytes(item.folder, store, item.select, missing=0) for item in wanted)
    with progress(total) as advance, open_store(store, parse_size(capacity)) as opened:
        report = add_all(
            opened,
            wanted,
            workers=jobs,
            progress=advance,
            tell=None if as_json else _tell_one,
            form=how.form,
            thorough=how.thorough,
            keep_damaged=how.keep_damaged,
        )
        disk_bytes = opened.savings().disk_bytes
        _tell_optimizer(opened, report.models)
    if as_json:
        print_json(
            {
                "models": [asdict(item) for item in report.models],
                "failed": [asdict(item) for item in report.failed],
                "of_none": list(models.of_none),
                "hub_caches": list(models.hub_caches),
                "disk_bytes": disk_bytes,
            }
        )
    else:
        _print_summary(report, disk_bytes)
    _tell_rest(models, report)
    return max((item.exit_code for item in report.failed), default=0)


def _tell_one(result: "AddReport | BadItem") -> None:
    from pbstore import AddReport

    if isinstance(result, AddReport) and not result.already_there:
        say(f"{told(result)}, {human(result.raw_bytes)} -> {human(result.stored_bytes)}")


def _print_plan(models: "Found", as_json: bool) -> None:
    if as_json:
        items = [{"name": item.name, "place": item.place} for item in models.models]
        print_json({"models": items, "of_none": models.of_none, "hub_caches": models.hub_caches})
        return
    table = Sheet("would be called", "from")
    for item in models.models:
        table.row(item.name, item.place)
    table.print()
    say(f"{counted(len(models.models), 'model')}")
    _tell_rest(models, None)


def _print_summary(report: "BulkReport", disk_bytes: int) -> None:
    counts = (
        (report.added, "added"),
        (report.changed, "changed"),
        (report.already_there, "already there"),
        (len(report.failed), "not added"),
    )
    parts = [f"{count} {what}" for count, what in counts if count]
    say(f"{counted(len(report.models) + len(report.failed), 'model')}: {', '.join(parts)}")
    say(f"  {human(report.raw_bytes)} in all, {human(report.stored_bytes)} new in the store")
    say(f"  the store on the disk: {human(disk_bytes)}")


def _tell_rest(models: "Found", report: "BulkReport | None") -> None:
    """Name on stderr what was not added, and why."""
    for item in report.failed if report is not None else ():
        warn(f"pbcast: {item}")
    for one in report.models if report is not None else ():
        tell_exceptions(one, with_name=True)
    for what, paths in (
        ("of no model, not added", models.of_none),
        ("of a Hugging Face cache, see `import-hf-cache`", models.hub_caches),
    ):
        if paths:
            warn(f"pbcast: {what}: {_some(paths)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(some_of(names))
