"""`pbcast store`, giving room back: remove and restore, collect, evict, heat and cool; plans come first."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, chosen, chosen_in_trash, one_or_list
from demo.cli.store_history import collect, print_collected
from demo.cli.store_shared import (
    DEFAULT_STORE,
    ROOM_PANEL,
    DryRunOption,
    JsonOption,
    StoreOption,
    YesOption,
    agree,
    existing,
    human,
    parse_size,
    print_json,
    room,
    some_of,
)
from demo.console import busy, counted, say, table_of

if TYPE_CHECKING:
    from pbstore import DiskBlockStore
    from pbstore.disk.upkeep.dependents import Dependents
    from pbstore.disk.upkeep.heat import FormReport

upkeep = typer.Typer(epilog=EXIT_CODES)


@upkeep.command("rm", epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def remove(
    names: NamesArgument,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Move models into the trash; `restore` brings them back, `gc` frees their blocks some days later.

    With its name a model goes with all its revisions; NAME@REVISION removes an earlier one alone.
    """
    with existing(store) as opened:
        going, days = chosen(opened, names), opened.trash.days
        dependents = dict(zip(going, opened.trash.dependents_of_all(going), strict=True))
        lines = [line for name in going for line in _removal_lines(opened, name, dependents[name])]
        lines.append(f"`restore` brings back for {days:g} days" if days else "nothing can be brought back")
        what = f"remove {going[0] if len(going) == 1 else counted(len(going), 'model')}"
        if not dry_run:
            agree(what, lines, yes)
            opened.trash.put(going)
    if as_json:
        _print_removed(going, dependents, dry_run, days)
    elif dry_run:
        say(f"would {what}", *(f"  {line}" for line in lines))
    else:
        hint = f"; `pbcast store restore {going[0]}` brings it back" if days and len(going) == 1 else ""
        say(f"removed {', '.join(some_of(going))}{hint}")


def _removal_lines(opened: "DiskBlockStore", name: str, dependents: "Dependents") -> list[str]:
    row = opened.disk.model_row(name)
    earlier = len(opened.disk.revisions_of(name)) - 1 if row.key.past_ms is None and "@" not in name else 0
    more = f", and {earlier} earlier revisions" if earlier else ""
    line = f"{name}: {human(row.raw_bytes)} in {counted(row.num_files, 'file')}{more}"
    return [line, *(f"  {one}" for one in _dependent_lines(dependents))]


def _print_removed(
    going: Sequence[str], dependents: "dict[str, Dependents]", dry_run: bool, days: float
) -> None:
    """One document for one model, a list of them for several."""
    items = [
        {"removed": name, "dry_run": dry_run, "trash_days": days, "dependents": asdict(dependents[name])}
        for name in going
    ]
    print_json(one_or_list(items))


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def restore(
    names: NamesArgument,
    new_name: Annotated[str | None, typer.Option("--as", help="Another name, if it is taken.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Take models out of the trash, all or none; of several of one name, the one that was removed last."""
    with existing(store) as opened:
        wanted = chosen_in_trash(opened, names)
        if new_name is not None and len(wanted) > 1:
            raise ValueError(f"--as is for one model, got {len(wanted)}")
        with opened.disk.writing():
            restored = {name: opened.trash.restore(name, new_name).name for name in wanted}
    if as_json:
        print_json(one_or_list([{"restored": old, "name": name} for old, name in restored.items()]))
    else:
        say(f"restored {', '.join(some_of(list(restored.values())))}")


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def trash(
    days: Annotated[
        float | None, typer.Option("--days", help="Set for how many days a gc leaves removed models alone.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """List removed models that can be restored, and until when."""
    with existing(store) as opened:
        if days is not None:
            opened.trash.keep(days)
        models, days = opened.trash.models(), opened.trash.days
    if as_json:
        print_json({"trash_days": days, "models": [asdict(item) for item in models]})
        return
    times = [(_day(item.removed_at), _day(item.expires_at)) for item in models]
    rows = [(item.name, human(item.raw_bytes), *days) for item, days in zip(models, times, strict=True)]
    table_of(("model", "#size", "#removed", "#kept until"), rows).print()


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def gc(
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Delete blocks that no model needs, also of models whose time in the trash is over; give room back."""
    with existing(store) as opened:
        if yes and not dry_run:
            with busy("collect"):
                report = opened.gc()
            print_collected(report, as_json)
        else:
            with busy("look for what no model needs"):
                plan = opened.plan.gc()
            collect(plan, dry_run, yes, as_json)


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def evict(
    free: Annotated[str, typer.Option("--free", help="Payload bytes to free, such as 500MB.")],
    order: Annotated[str, typer.Option(help="lru, lfu or largest; lower priority first.")] = "lru",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Remove models that are not pinned, for good, until so much room is free; the trash goes first.

    A goal that cannot be reached is an error and changes nothing.
    """
    with existing(store) as opened:
        with busy("choose what goes"):
            plan = opened.plan.evict(parse_size(free) or 0, order)
        report = plan.report
        lines = [
            *([f"out of the trash: {_some(report.trashed_models)}"] if report.trashed_models else []),
            *_evicted_lines(opened, report.models),
            room(report.before, report.after),
        ]
        count = len(report.models) + len(report.trashed_models)
        if not dry_run:
            if count:
                agree(f"remove {counted(count, 'model')} for good", lines, yes)
            with busy("evict"):
                report = plan.apply()
    if as_json:
        print_json(asdict(report))
        return
    say(
        f"{'would remove' if dry_run else 'removed'} {counted(count, 'model')}",
        *(f"  {line}" for line in lines[:-1]),
    )
    say(f"  {human(report.freed_bytes)} of payloads; {room(report.before, report.after)}")


def _evicted_lines(opened: "DiskBlockStore", names: Sequence[str]) -> list[str]:
    lines = []
    for name, dependents in zip(names, opened.trash.dependents_of_all(names), strict=True):
        lines += [name, *(f"  {line}" for line in _dependent_lines(dependents))]
    return lines


def _dependent_lines(dependents: "Dependents") -> list[str]:
    lines = []
    if dependents.bound:
        lines.append(f"have it as their base, adapters cannot be loaded without: {_some(dependents.bound)}")
    if dependents.coded:
        lines.append(f"stored against it, stay whole, may take more room: {_some(dependents.coded)}")
    return lines


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def heat(
    names: NamesArgument,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Store models' blocks raw, so that they are mapped when they are loaded."""
    with existing(store) as opened:
        change = opened.forms.heat if not dry_run else lambda name: opened.plan.heat(name).report
        _print_forms(_changed(change, chosen(opened, names)), as_json)


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def cool(
    names: NamesArgument,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Store models as small as possible."""
    with existing(store) as opened:
        change = opened.forms.cool if not dry_run else lambda name: opened.plan.cool(name).report
        _print_forms(_changed(change, chosen(opened, names)), as_json)


def _changed(change: "Callable[[str], FormReport]", names: Sequence[str]) -> "list[FormReport]":
    reports = []
    with busy("encode anew") as step:
        for name in names:
            reports.append(change(name))
            step(len(reports), len(names))
    return reports


def _print_forms(reports: "Sequence[FormReport]", as_json: bool) -> None:
    """One document for one model, a list of them for several."""
    if as_json:
        items = [asdict(report) for report in reports]
        print_json(items[0] if len(items) == 1 else {"models": items})
        return
    for report in reports:
        state = "would be" if report.dry_run else "is"
        say(f"{report.name} {state} {report.form}: {report.changed_blocks} blocks change")
        say(f"  {room(report.before, report.after)}")


@upkeep.command(epilog=EXIT_CODES, rich_help_panel=ROOM_PANEL)
def balance(
    raw_room: Annotated[
        str | None, typer.Option("--room", help="Raw bytes for hot models, such as 2GB.")
    ] = None,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Heat the models used most, as far as they fit, and cool the others."""
    with existing(store) as opened, busy("balance"):
        report = opened.forms.balance(parse_size(raw_room), dry_run=dry_run)
    if as_json:
        print_json(asdict(report))
        return
    for change in report.changes:
        say(f"{change.name}: {change.form} ({change.why})")
    say(f"{len(report.changes)} models {'would change' if dry_run else 'changed'}")
    say(f"  {room(report.before, report.after)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(some_of(names))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
