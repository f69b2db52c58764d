"""`pbcast store log|diff|tag|rename|cp|forget`: what a model was before, and under which name it goes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, age, chosen, chosen_in_trash, one_or_list, parse_duration
from demo.cli.store_shared import (
    DEFAULT_STORE,
    HISTORY_PANEL,
    DryRunOption,
    JsonOption,
    NameArgument,
    StoreOption,
    YesOption,
    agree,
    existing,
    human,
    print_json,
    room,
    some_of,
)
from demo.console import Sheet, busy, counted, say, visible

if TYPE_CHECKING:
    from pbstore import DiskBlockStore
    from pbstore.disk.upkeep.collect import GcReport
    from pbstore.disk.upkeep.diff import Difference
    from pbstore.disk.upkeep.history import ForgetReport, Revision
    from pbstore.disk.upkeep.plans import Plan

history = typer.Typer(epilog=EXIT_CODES)
AddressArgument = Annotated[
    str, typer.Argument(help="NAME, or NAME@REVISION: a tag, a commit, or ~N for the N-th before.")
]
SHORT = 12
"""Digits of a commit that are shown."""


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def log(names: NamesArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List models' revisions, the newest first."""
    with existing(store) as opened:
        logs = {name: opened.history.log(name) for name in chosen(opened, names)}
    if as_json:
        items = [[asdict(item) for item in revisions] for revisions in logs.values()]
        print_json(items[0] if len(items) == 1 else {"models": dict(zip(logs, items, strict=True))})
        return
    for name, revisions in logs.items():
        _print_log(name, revisions)


def _print_log(name: str, revisions: "Sequence[Revision]") -> None:
    table = Sheet("revision", "#age", "#files", "#size", "#own", "tags", title=visible(name))
    now = time.time()
    for item in revisions:
        tags = ", ".join((*(("main",) if item.is_current else ()), *item.tags))
        sizes = human(item.raw_bytes), human(item.own_stored_bytes)
        table.row(item.commit[:SHORT], age(now - item.added_at), item.num_files, *sizes, tags)
    table.print()


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def diff(
    first: AddressArgument,
    second: AddressArgument,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Compare two models or revisions, file by file and tensor by tensor."""
    with existing(store) as opened:
        difference = opened.history.diff(first, second)
    if as_json:
        print_json(asdict(difference))
        return
    _print_difference(difference)


MOST_TENSORS = 40
"""Tensors that are listed."""


def _print_difference(difference: "Difference") -> None:
    shared = f"{human(difference.shared_bytes)} of {human(difference.raw_bytes)} are the same bytes"
    say(f"{difference.first} -> {difference.second}: {shared}")
    if difference.is_empty:
        say("no file differs")
        return
    table = Sheet("file", "", "#before", "#after", "#of it known")
    for item in difference.files:
        before = human(item.old_bytes) if item.state != "added" else ""
        after = (human(item.new_bytes), human(item.shared_bytes)) if item.state != "removed" else ("", "")
        table.row(item.path, item.state, before, *after)
    table.print()
    renamed = [tensor for tensor in difference.tensors if tensor.is_same]
    tensors = [tensor for tensor in difference.tensors if not tensor.is_same]
    if tensors:
        table = Sheet("tensor", "", "before", "after", "#bytes")
        for tensor in tensors[:MOST_TENSORS]:
            kind = "" if tensor.old == tensor.new else tensor.new
            state = f"{tensor.state}, changed" if tensor.state == "renamed" else tensor.state
            table.row(tensor.name, state, tensor.old, kind, human(tensor.raw_bytes))
        table.print()
    if len(tensors) > MOST_TENSORS:
        say(f"and {len(tensors) - MOST_TENSORS} more tensors: --json lists all")
    if renamed:
        one = renamed[0]
        more = f"{counted(len(renamed), 'tensor')} with another name, such as {one.old_name} -> {one.name}"
        say(f"the same bytes: {more}")
    say(f"the same: {counted(difference.same_files, 'file')}, {counted(difference.same_tensors, 'tensor')}")


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def tag(
    name: AddressArgument,
    tag: Annotated[str | None, typer.Argument(help="The tag; without one, all are listed.")] = None,
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Take the tag away.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Take it from the revision that has it.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Give a revision a tag: a name that stays with it, and keeps `forget` from it.

    A pattern such as 'org/*' means each model that it matches: all get the tag, or none does.
    """
    if tag is None and (delete or move):
        raise ValueError("expected a tag")
    with existing(store) as opened:
        wanted = chosen(opened, [name])
        models = [opened.disk.model_row(one).key.model for one in wanted]
        if tag is not None:
            with opened.disk.writing():
                for one, model in zip(wanted, models, strict=True):
                    if delete:
                        opened.history.untag(model, tag)
                    else:
                        opened.history.tag(one, tag, move=move)
        tags = {model: opened.disk.tags(model) for model in models}
    if as_json:
        print_json(one_or_list([{"name": model, "tags": named} for model, named in tags.items()]))
        return
    for model, named in tags.items():
        _print_tags(model, named)


def _print_tags(model: str, tags: "Mapping[str, str]") -> None:
    table = Sheet("tag", "revision", title=visible(model))
    for one, commit in sorted(tags.items()):
        table.row(one, commit[:SHORT])
    if tags:
        table.print()
    else:
        say(f"{model} has no tags")


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def rename(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="Its new name, ORG/MODEL.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Give a model another name, with all its revisions and tags."""
    with existing(store) as opened:
        opened.history.rename(name, new_name)
        revisions = len(opened.disk.revisions_of(new_name))
    if as_json:
        print_json({"renamed": name, "name": new_name, "revisions": revisions})
    else:
        say(f"renamed {name} to {new_name}, {_count(revisions, 'revision')}")


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def cp(
    name: AddressArgument,
    new_name: Annotated[str, typer.Argument(help="The other name; its own takes an old revision back.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """File a model or a revision under another name too; no bytes are stored twice."""
    with existing(store) as opened:
        revision = opened.history.copy(name, new_name)
        count = len(opened.disk.revisions_of(new_name))
    if as_json:
        print_json(asdict(revision))
    else:
        more = f", with {_count(count - 1, 'earlier revision')}" if count > 1 else ""
        say(f"{new_name} is now {revision.commit[:SHORT]}{more}")


@history.command(epilog=EXIT_CODES, rich_help_panel=HISTORY_PANEL)
def forget(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models, or patterns such as 'org/*'.", metavar="[NAME]...")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the trash.")] = False,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", help="Keep so many of each model's revisions.")
    ] = None,
    keep_within: Annotated[
        str | None, typer.Option("--keep-within", help="Keep what came in this time: 30d, 12h.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Forget models in the trash for good, or move old revisions into it.

    With --keep-last or --keep-within: earlier revisions of the models named, of all models if none is.
    What a name means and what has a tag always stays. Otherwise: models in the trash, at once.
    """
    by_age = keep_last is not None or keep_within is not None
    if by_age and everything:
        raise ValueError("--all is for the trash, --keep-last and --keep-within are for revisions")
    if not by_age and bool(names) == everything:
        raise ValueError("expected names of models in the trash, or --all, or which revisions to keep")
    within_s = parse_duration(keep_within)
    with existing(store) as opened:
        if by_age:
            wanted = chosen(opened, names) if names else list(opened.models())
            with busy("look at revisions"):
                plan = opened.plan.forget_revisions(wanted, keep_last=keep_last, keep_within_s=within_s)
            _forget_revisions(opened, plan, dry_run, yes, as_json)
        else:
            gone = chosen_in_trash(opened, names) if names else None
            with busy("look for what no model needs"):
                collection = opened.plan.forget(gone)
            collect(collection, dry_run, yes, as_json)


def _forget_revisions(
    opened: "DiskBlockStore", plan: "Plan[ForgetReport]", dry_run: bool, yes: bool, as_json: bool
) -> None:
    report, days = plan.report, opened.trash.days
    freed = f"{human(report.stored_bytes)} that nothing else holds"
    after = f"a gc frees them {days:g} days later" if days else "they cannot be brought back"
    kept = [f"kept for their tag: {_some(report.kept_by_tag)}"] if report.kept_by_tag else []
    lines = [*report.revisions, freed, *kept, after]
    if not dry_run:
        if report.revisions and not days:
            agree(f"forget {_count(len(report.revisions), 'revision')}", some_of(lines), yes)
        report = plan.apply()
    if as_json:
        print_json(asdict(report))
        return
    verb = "would move" if dry_run else "moved"
    say(f"{verb} {_count(len(report.revisions), 'revision')} into the trash, {report.kept} stay")
    if report.revisions:
        say(*(f"  {line}" for line in (*some_of(report.revisions), freed, *kept, after)))


def collect(plan: "Plan[GcReport]", dry_run: bool, yes: bool, as_json: bool) -> None:
    """Carry a collection out, after asking, and say what it did."""
    report = plan.report
    if not dry_run:
        if report.trashed_models or report.orphan_blocks:
            agree("collect", _collect_lines(report), yes)
        with busy("collect"):
            report = plan.apply()
    print_collected(report, as_json)


def _collect_lines(report: "GcReport") -> list[str]:
    gone = [f"for good: {_some(report.trashed_models)}"] if report.trashed_models else []
    blocks = f"{counted(report.orphan_blocks, 'block')} that no model needs, {human(report.orphan_bytes)}"
    return [*gone, blocks, room(report.before, report.after)]


def print_collected(report: "GcReport", as_json: bool) -> None:
    """Say what a collection did or would do."""
    verb = "would delete" if report.dry_run else "deleted"
    line = f"{verb} {counted(report.orphan_blocks, 'block')}, {human(report.orphan_bytes)}"
    if as_json:
        print_json(asdict(report))
        return
    say(line)
    if report.trashed_models:
        say(f"  out of the trash, for good: {_some(report.trashed_models)}")
    say(f"  {room(report.before, report.after)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(some_of(names))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
