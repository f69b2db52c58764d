"""The rest of `pbcast store`: plan, explain, hot and cold, pins, eviction, repair, the Hugging Face cache."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, chosen, one_or_list
from demo.cli.store_convert import source_folder
from demo.cli.store_shared import (
    COPIES_PANEL,
    DEFAULT_STORE,
    MODELS_PANEL,
    ROOM_PANEL,
    TRUST_PANEL,
    ConvertOption,
    DequantiseOption,
    ExcludeOption,
    IncludeOption,
    JsonOption,
    KeepDamagedOption,
    StoreOption,
    ThoroughOption,
    existing,
    print_json,
    progress,
    selection,
    show,
    source_bytes,
    tell_exceptions,
)
from demo.console import busy, counted, say

if TYPE_CHECKING:
    pass

tools = typer.Typer(epilog=EXIT_CODES)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]


@tools.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def plan(
    folder: Annotated[Path, typer.Argument(help="Local folder of the model.")],
    base: Annotated[str | None, typer.Option("--base", help="Stored model that it was made from.")] = None,
    hot: Annotated[bool, typer.Option("--hot", help="Store all blocks raw.")] = False,
    thorough: ThoroughOption = False,
    convert: ConvertOption = False,
    dequantise: DequantiseOption = None,
    keep_damaged: KeepDamagedOption = False,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what adding a folder would cost; nothing is kept. Without a store: as the first model of one."""
    from pbstore.disk.trial import trial

    select, is_first = selection(exclude, include), not (store / "STORE.json").exists()
    with (
        trial(store) if is_first else existing(store) as opened,
        source_folder(folder, convert, dequantise, store) as source,
        progress(source_bytes(source.folder, store, select)) as advance,
    ):
        report = opened.plan.add(
            source.folder,
            base,
            form="hot" if hot else "cold",
            thorough=thorough or dequantise is not None,
            keep_damaged=keep_damaged,
            select=select,
            progress=lambda _, size: advance(size),
        ).report
        room = None if opened.capacity_bytes is None else opened.capacity_bytes - opened.used_bytes
    result = {**asdict(report), "fits": room is None or report.stored_bytes <= room}
    first = f" ({store} is no store yet)" if is_first else ""
    show(result, as_json, f"{folder}: {report.new_blocks} of {report.blocks} blocks would be new{first}")
    tell_exceptions(report)


MOST_SHOWN = 20
"""Problems that are listed."""


@tools.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def pin(
    names: NamesArgument,
    off: Annotated[bool, typer.Option("--off", help="Let it be evicted again.")] = False,
    priority: Annotated[float | None, typer.Option(help="Models with a lower priority go first.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Keep models from eviction."""
    with existing(store) as opened:
        wanted = chosen(opened, names)
        with opened.disk.writing():
            for name in wanted:
                opened.pin(name, not off, priority)
        rows = {name: opened.disk.model_row(name.partition("@")[0]) for name in wanted}
    if as_json:
        items = [{"name": name, "pinned": row.pinned, "priority": row.priority} for name, row in rows.items()]
        print_json(one_or_list(items))
        return
    for name, row in rows.items():
        state = "pinned" if row.pinned else "not pinned"
        say(f"{name} is {state}, priority {row.priority:g}")


@tools.command(epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def mount(
    folder: Annotated[Path, typer.Argument(help="Empty folder in which the models are shown.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show all models as folders, for reading, until Ctrl-C or `fusermount3 -u FOLDER`.

    Files are read from the store as they are asked for, each block checked against its hash. FOLDER/ORG/MODEL
    is a model, FOLDER/ORG/MODEL@REVISION a revision of it. Needs FUSE and pip install 'pbcast[mount]'.
    """
    from pbstore.mount import mount as mount_store

    with existing(store) as opened:
        line = f"{counted(len(opened.models()), 'model')} at {folder}, for reading; Ctrl-C ends it"
        mount_store(opened, folder, on_ready=lambda: say(line))


@tools.command(epilog=EXIT_CODES, rich_help_panel=TRUST_PANEL)
def repair(
    source: Annotated[Path | None, typer.Option("--from", help="Another store with good copies.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Build the index anew and mend damaged blocks from another store; exit code 3 if something is left."""
    from pbstore.disk.upkeep.mend import mend_settings

    mended = mend_settings(store) if store.is_dir() else None
    with existing(store) as opened, busy("read all packs"):
        if source is None:
            report = opened.repair()
        else:
            with existing(source) as other:
                report = opened.repair(other)
    line = (
        f"mended {counted(report.mended_blocks, 'block')} and {counted(report.mended_manifests, 'manifest')}"
    )
    hint = " (--from STORE takes good copies from another store)" if report.left and source is None else ""
    if mended is not None and not as_json:
        say(mended)
    result = {**asdict(report), "settings": mended}
    show(result, as_json, f"{line}, {len(report.left)} problems left{hint}")
    if not as_json:
        say(*(f"  {problem}" for problem in report.left[:MOST_SHOWN]))
    return 3 if report.left else 0
