"""`pbcast store`, giving room back: remove and restore, collect, evict, heat and cool; plans come first."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import (
    DEFAULT_STORE,
    DryRunOption,
    JsonOption,
    NameArgument,
    StoreOption,
    YesOption,
    agree,
    existing,
    human,
    parse_size,
    print_json,
    room,
    show,
    some_of,
)
from demo.console import say, table_of
from pbstore import DiskBlockStore

if TYPE_CHECKING:
    from pbstore.disk.upkeep.collect import GcReport
    from pbstore.disk.upkeep.dependents import Dependents
    from pbstore.disk.upkeep.heat import FormReport
    from pbstore.disk.upkeep.plans import Plan

upkeep = typer.Typer(epilog=EXIT_CODES)


@upkeep.command("rm", epilog=EXIT_CODES)
def remove(
    name: NameArgument,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Move a model into the trash; `restore` brings it back, `gc` frees its blocks some days later."""
    with existing(store) as opened:
        row, dependents = opened.disk.model_row(name), opened.trash.dependents_of(name)
        days = opened.trash.days
        lines = [f"{human(row.raw_bytes)} in {row.num_files} files", *_dependent_lines(dependents)]
        lines.append(f"`restore` brings it back for {days:g} days" if days else "it cannot be brought back")
        if not dry_run:
            agree(f"remove {name}", lines, yes)
            opened.remove(name)
    result = {"removed": name, "dry_run": dry_run, "trash_days": days, "dependents": asdict(dependents)}
    if as_json:
        print_json(result)
    elif dry_run:
        say(f"would remove {name}", *(f"  {line}" for line in lines))
    else:
        say(f"removed {name}" + (f"; `pbcast store restore {name}` brings it back" if days else ""))


@upkeep.command(epilog=EXIT_CODES)
def restore(
    name: NameArgument,
    new_name: Annotated[str | None, typer.Option("--as", help="Another name, if it is taken.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of the trash; of several of one name, the one that was removed last."""
    with existing(store) as opened:
        manifest = opened.trash.restore(name, new_name)
    show({"restored": name, "name": manifest.name}, as_json, f"restored {manifest.name}")


@upkeep.command(epilog=EXIT_CODES)
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


@upkeep.command(epilog=EXIT_CODES)
def forget(
    names: Annotated[list[str] | None, typer.Argument(help="Models in the trash.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the trash.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Forget models in the trash at once, and give their room back."""
    if bool(names) == everything:
        raise ValueError("expected names of models in the trash, or --all")
    with existing(store) as opened:
        plan = opened.plan.forget(names or None)
        _collect(plan, dry_run, yes, as_json)


@upkeep.command(epilog=EXIT_CODES)
def gc(
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Delete blocks that no model needs, also of models whose time in the trash is over; give room back."""
    with existing(store) as opened:
        if yes and not dry_run:
            _print_collected(opened.gc(), as_json)
        else:
            _collect(opened.plan.gc(), dry_run, yes, as_json)


def _collect(plan: "Plan[GcReport]", dry_run: bool, yes: bool, as_json: bool) -> None:
    report = plan.report
    if not dry_run:
        if report.trashed_models or report.orphan_blocks:
            agree("collect", _collect_lines(report), yes)
        report = plan.apply()
    _print_collected(report, as_json)


def _collect_lines(report: "GcReport") -> list[str]:
    gone = [f"for good: {_some(report.trashed_models)}"] if report.trashed_models else []
    blocks = f"{report.orphan_blocks} blocks that no model needs, {human(report.orphan_bytes)}"
    return [*gone, blocks, room(report.before, report.after)]


def _print_collected(report: "GcReport", as_json: bool) -> None:
    verb = "would delete" if report.dry_run else "deleted"
    line = f"{verb} {report.orphan_blocks} blocks, {human(report.orphan_bytes)}"
    if as_json:
        print_json(asdict(report))
        return
    say(line)
    if report.trashed_models:
        say(f"  out of the trash, for good: {_some(report.trashed_models)}")
    say(f"  {room(report.before, report.after)}")


@upkeep.command(epilog=EXIT_CODES)
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
        plan = opened.plan.evict(parse_size(free) or 0, order)
        report = plan.report
        lines = [
            *([f"out of the trash: {_some(report.trashed_models)}"] if report.trashed_models else []),
            *(line for name in report.models for line in _evicted_lines(opened, name, report.models)),
            room(report.before, report.after),
        ]
        count = len(report.models) + len(report.trashed_models)
        if not dry_run:
            if count:
                agree(f"remove {count} models for good", lines, yes)
            report = plan.apply()
    if as_json:
        print_json(asdict(report))
        return
    say(f"{'would remove' if dry_run else 'removed'} {count} models", *(f"  {line}" for line in lines[:-1]))
    say(f"  {human(report.freed_bytes)} of payloads; {room(report.before, report.after)}")


def _evicted_lines(opened: DiskBlockStore, name: str, others: Iterable[str]) -> list[str]:
    dependents = opened.trash.dependents_of(name, besides=others)
    return [name, *(f"  {line}" for line in _dependent_lines(dependents))]


def _dependent_lines(dependents: "Dependents") -> list[str]:
    lines = []
    if dependents.bound:
        lines.append(f"have it as their base, adapters cannot be loaded without: {_some(dependents.bound)}")
    if dependents.coded:
        lines.append(f"stored against it, stay whole, may take more room: {_some(dependents.coded)}")
    return lines


@upkeep.command(epilog=EXIT_CODES)
def heat(
    name: NameArgument,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Store a model's blocks raw, so that they are mapped when it is loaded."""
    with existing(store) as opened:
        report = opened.plan.heat(name).report if dry_run else opened.forms.heat(name)
    _print_form(report, as_json)


@upkeep.command(epilog=EXIT_CODES)
def cool(
    name: NameArgument,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Store a model as small as possible."""
    with existing(store) as opened:
        report = opened.plan.cool(name).report if dry_run else opened.forms.cool(name)
    _print_form(report, as_json)


def _print_form(report: "FormReport", as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    state = "would be" if report.dry_run else "is"
    say(f"{report.name} {state} {report.form}: {report.changed_blocks} blocks change")
    say(f"  {room(report.before, report.after)}")


@upkeep.command(epilog=EXIT_CODES)
def balance(
    raw_room: Annotated[
        str | None, typer.Option("--room", help="Raw bytes for hot models, such as 2GB.")
    ] = None,
    dry_run: DryRunOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Heat the models used most, as far as they fit, and cool the others."""
    with existing(store) as opened:
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
