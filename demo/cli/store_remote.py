"""`pbcast store pull|push|sync`: models between a store and a node, only what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import is_pattern
from demo.cli.store_shared import (
    COPIES_PANEL,
    DEFAULT_STORE,
    IN_THE_STORE,
    DryRunOption,
    JsonOption,
    NameArgument,
    StoreOption,
    TokenOption,
    existing,
    human,
    print_json,
    progress,
)
from demo.console import counted, say, warn
from pbstore import ModelMissingError

if TYPE_CHECKING:
    from pbstore import DiskBlockStore
    from pbstore.serve.fetch.transfer import TransferReport

remote = typer.Typer(epilog=EXIT_CODES)
From = Annotated[str, typer.Option("--from", help="URL of the node that has it.")]
To = Annotated[str, typer.Option("--to", help="URL of the node that takes it.")]


@remote.command(epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def pull(
    name: NameArgument,
    url: From,
    dry_run: DryRunOption = False,
    token: TokenOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Copy a model from a node: only missing blocks, each checked; interrupted, it goes on where it ended.

    A pattern such as 'org/*' does what `sync --only` does.
    """
    from pbstore.serve.fetch import copies

    if is_pattern(name):
        return _sync(store, url, copies.PULL, name, dry_run, token, as_json)
    with _target(store, url, dry_run) as opened, progress(None) as advance:
        report = copies.pull(opened, name, url, token=token, dry_run=dry_run, progress=advance)
    _tell(report, f"{name} from {url}", as_json)
    return 0


@remote.command(epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def push(
    name: NameArgument,
    url: To,
    dry_run: DryRunOption = False,
    token: TokenOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Copy a model to a node: only missing blocks, which the node checks before it files the model.

    A pattern such as 'org/*' does what `sync --only` does.
    """
    from pbstore.serve.fetch import copies

    if is_pattern(name):
        return _sync(store, url, copies.PUSH, name, dry_run, token, as_json)
    with existing(store) as opened, progress(None) as advance:
        report = copies.push(opened, name, url, token=token, dry_run=dry_run, progress=advance)
    _tell(report, f"{name} to {url}", as_json)
    return 0


@remote.command(epilog=EXIT_CODES, rich_help_panel=COPIES_PANEL)
def sync(
    source: Annotated[str | None, typer.Option("--from", help="URL of a node to copy from.")] = None,
    target: Annotated[str | None, typer.Option("--to", help="URL of a node to copy to.")] = None,
    only: Annotated[str, typer.Option(help="Names to copy, as a pattern: 'org/*'.")] = "*",
    dry_run: DryRunOption = False,
    token: TokenOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Copy all models that the other side does not have; nothing is removed. Exit code 1 if one is not."""
    from pbstore.serve.fetch import copies

    url = source or target
    if url is None or (source and target):
        raise ValueError("expected one of --from URL and --to URL")
    return _sync(store, url, copies.PULL if source else copies.PUSH, only, dry_run, token, as_json)


def _sync(
    store: Path, url: str, direction: str, only: str, dry_run: bool, token: str | None, as_json: bool
) -> int:
    from pbstore.serve.fetch import copies

    place = _target(store, url, dry_run) if direction == copies.PULL else existing(store)
    with place as opened, progress(None) as advance:
        report = copies.sync(
            opened, url, direction, only=only, token=token, dry_run=dry_run, progress=advance
        )
    if only != "*" and not report.models and not report.failed:
        raise ModelMissingError(only, IN_THE_STORE if direction == copies.PUSH else f"at {url}")
    if as_json:
        print_json({**asdict(report), "sent_bytes": report.sent_bytes})
    else:
        for model in report.models:
            if model.blocks or not model.was_there:
                say(f"{model.name}: {counted(model.blocks, 'block')}, {human(model.sent_bytes)}")
        verb = "would be sent" if dry_run else "sent"
        say(f"{len(report.models)} models are the same on both sides, {human(report.sent_bytes)} {verb}")
    for item in report.failed:
        warn(f"pbcast: {item}")
    return max((item.exit_code for item in report.failed), default=0)


def _tell(report: "TransferReport", what: str, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    verb = "would copy" if report.dry_run else "copied"
    say(f"{verb} {what}: {human(report.raw_bytes)} of files")
    say(f"  {human(report.sent_bytes)} on the wire in {counted(report.blocks, 'block')}")
    say(f"  {report.kept_blocks} of its blocks were there already")


@contextmanager
def _target(store: Path, url: str, dry_run: bool) -> "Iterator[DiskBlockStore]":
    """A store to write to what an address has; where nothing is to be, and there is none, a passing one."""
    from pbstore import open_store
    from pbstore.disk.trial import trial
    from pbstore.serve.fetch.http_source import check_url
    from pbstore.serve.fetch.object_store import is_origin

    if not is_origin(url):
        check_url(url)
    place = trial(store) if dry_run and not (store / "STORE.json").exists() else open_store(store)
    with place as opened:
        yield opened
