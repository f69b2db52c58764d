"""`pbcast store`: add models, look at them, get them back, check and clean the store."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, chosen, one_or_list
from demo.cli.store_add import adding
from demo.cli.store_hfcache import hfcache
from demo.cli.store_history import history
from demo.cli.store_list import listed
from demo.cli.store_remote import remote
from demo.cli.store_shared import (
    DEFAULT_STORE,
    MODELS_PANEL,
    JsonOption,
    StoreOption,
    YesOption,
    agree,
    existing,
    human,
    print_json,
    progress,
    some_of,
)
from demo.cli.store_shared import show as print_result
from demo.cli.store_tools import tools
from demo.cli.store_trust import trust
from demo.cli.store_upkeep import upkeep
from demo.console import Sheet, busy, counted, say, visible
from demo.show.figure import check_figure
from demo.show.savings_picture import CAUSES, draw_savings

if TYPE_CHECKING:
    from pbstore import DiskBlockStore, Manifest, Savings
    from pbstore.disk.upkeep.savings_by_cause import Causes

app = typer.Typer(
    help="Keep models in a deduplicating store of parameter blocks.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
)
own = typer.Typer(epilog=EXIT_CODES)
app.add_typer(adding)
app.add_typer(listed)
app.add_typer(own)
app.add_typer(history)
app.add_typer(upkeep)
app.add_typer(trust)
app.add_typer(tools)
app.add_typer(hfcache)
app.add_typer(remote)


@own.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def show(names: NamesArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show the files and blocks of models, or of NAME@REVISION."""
    with existing(store) as opened:
        wanted = chosen(opened, names)
        shown = [(name, opened.disk.model_row(name), opened.manifest(name)) for name in wanted]
    if as_json:
        print_json(one_or_list([_shown(row, manifest) for _, row, manifest in shown]))
        return
    for name, row, manifest in shown:
        table = Sheet("file", "#bytes", "#blocks", "#sha256", title=visible(name))
        for item in _shown(row, manifest)["files"]:
            table.row(item["path"], item["bytes"], item["blocks"], str(item["sha256"])[:16])
        table.print()


def _shown(row: Any, manifest: "Manifest") -> dict[str, Any]:  # noqa: ANN401
    files = [
        {
            "path": f.path,
            "bytes": f.size_bytes,
            "sha256": f.sha256,
            "blocks": len(f.pieces),
            "executable": f.executable,
        }
        for f in manifest.files
    ]
    extra = {"weights": manifest.weights, "empty_folders": manifest.empty_folders}
    return {**_model(row), **extra, "files": files}


@own.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def savings(
    by: Annotated[
        str | None, typer.Option("--by", help="model or family: which saving comes from what.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this file (png, svg or pdf).")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what the models cost as copies, as distinct files, as distinct blocks, and on the disk."""
    if by not in (None, "model", "family"):
        raise ValueError(f"--by must be model or family, got {by!r}")
    if picture is not None:
        check_figure(picture)
    with existing(store) as opened, busy("add up"):
        report = opened.savings()
        rows = _causes(opened, by or "model") if by or picture else {}
    if picture is not None:
        draw_savings(
            rows, picture, f"{counted(report.models, 'model')}: {human(report.disk_bytes)} on the disk"
        )
    if as_json:
        detail = {"by": {label: asdict(causes) for label, causes in rows.items()}} if rows else {}
        print_json({**asdict(report), "ratio": report.ratio, **detail})
        return
    if by is not None:
        _print_causes(rows, by)
    _print_steps(report)
    if picture is not None:
        say(f"{picture}, numbers in {picture.with_suffix('.csv').name}")


def _causes(store: "DiskBlockStore", by: str) -> "dict[str, Causes]":
    from pbstore.disk.upkeep.savings_by_cause import by_family, by_model

    models = by_model(store.disk)
    return by_family(models) if by == "family" else {item.name: item.causes for item in models}


def _print_causes(rows: "dict[str, Causes]", by: str) -> None:
    table = Sheet(by, "#raw", *(f"#{label}" for label, _ in CAUSES.values()))
    for label, causes in rows.items():
        table.row(label, human(causes.raw_bytes), *(human(getattr(causes, field)) for field in CAUSES))
    table.print()


def _print_steps(report: "Savings") -> None:
    table = Sheet(
        "", "#bytes", "#of raw", title=f"{counted(report.models, 'model')}, {counted(report.blocks, 'block')}"
    )
    steps = (
        ("plain copies", report.raw_bytes),
        ("each file once", report.file_dedup_bytes),
        ("each block once", report.block_dedup_bytes),
        ("blocks as stored", report.stored_bytes),
        *([("in the trash", report.trash_bytes)] if report.trash_bytes else []),
        ("on the disk", report.disk_bytes),
    )
    for label, size in steps:
        table.row(label, human(size), f"{size / report.raw_bytes:.3f}" if report.raw_bytes else "")
    table.print()


@own.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def checkout(
    names: NamesArgument,
    folder: Annotated[
        Path, typer.Argument(help="Target folder, made if missing; of several models, the folder of theirs.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that have other bytes; asks before it does.")
    ] = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a model's files and empty folders, byte for byte, each block checked against its hash.

    One model goes into FOLDER itself; several, and those that match a pattern, into FOLDER/ORG/MODEL each.
    """
    from pbstore.folders.restore import replaced_files

    with existing(store) as opened:
        wanted = chosen(opened, names)
        alone = names == wanted and len(wanted) == 1
        folders = {name: folder if alone else folder / name for name in wanted}
        lost = [
            str(place / path)
            for name, place in (folders if force else {}).items()
            for path in replaced_files(opened.manifest(name), place)
        ]
        if lost:
            agree(f"replace {counted(len(lost), 'file')} in {folder}", some_of(lost), yes)
        with progress(sum(opened.disk.model_row(name).raw_bytes for name in wanted)) as advance:
            reports = {
                name: opened.checkout(name, place, force=force, progress=lambda _, size: advance(size))
                for name, place in folders.items()
            }
    if as_json:
        print_json(one_or_list([asdict(report) for report in reports.values()]))
        return
    for name, report in reports.items():
        line = f"wrote {name} to {folders[name]}: {counted(report.files, 'file')}, all checked"
        print_result(asdict(report), as_json, line)


def _model(row: Any) -> dict[str, Any]:  # noqa: ANN401
    keys = ("name", "raw_bytes", "num_files", "num_blocks", "base", "form", "pinned", "priority", "uses")
    return {key: getattr(row, key) for key in keys}
