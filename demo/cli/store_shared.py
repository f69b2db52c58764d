"""What the commands of `pbcast store` share: options, sizes, the progress bar, output."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from demo.console import answers_yes, counted, errors, say, warn
from demo.console import print_json as print_json  # commands take it from here
from pbstore import ModelMissingError, PBStoreError
from pbstore.folders.select import ALL, LEFT_OUT, Selection

if TYPE_CHECKING:
    from pbstore import AddReport, DiskBlockStore
    from pbstore.disk.blocks.space import DiskUse

ThoroughOption = Annotated[
    bool,
    typer.Option(
        "--thorough", help="Try slow forms, too: half the size for models that were once quantised."
    ),
]
KeepDamagedOption = Annotated[
    bool,
    typer.Option("--keep-damaged", help="Keep files that are not what their names say as they are."),
]
ConvertOption = Annotated[
    bool, typer.Option("--convert", help="Turn pickles into safetensors; weights only, no code is run.")
]
DequantiseOption = Annotated[
    str | None,
    typer.Option("--dequantise", help="Turn a GGUF file into float32, float16 or bfloat16 tensors."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Leave out files and folders: '*.pt', `optimizer`. Repeatable."),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", help="Take what is left out by itself: .git, caches. Repeatable."),
]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="PBCAST_STORE", help="Folder of the store; made if missing.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def complete_name(incomplete: str) -> list[str]:
    """Names of stored models for the shell's completion."""
    folder = Path(os.environ.get("PBCAST_STORE", str(DEFAULT_STORE)))
    try:
        with existing(folder) as store:
            return [name for name in store.models() if name.startswith(incomplete)]
    except (PBStoreError, OSError):
        return []


NameArgument = Annotated[
    str,
    typer.Argument(help="Name of the model, ORG/MODEL.", metavar="NAME", autocompletion=complete_name),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
SizeOption = Annotated[
    str | None, typer.Option("--capacity", help="Most payload bytes, such as 500MB or 2GiB.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="PBCAST_TOKEN", help="Bearer token for other nodes.")
]
DEFAULT_STORE = Path("store")
IN_THE_STORE = "in the store"
"""Where `ModelMissingError` says that a model is not."""
MODELS_PANEL, HISTORY_PANEL, ROOM_PANEL, TRUST_PANEL, COPIES_PANEL = (
    "Models in and out",
    "Revisions and names",
    "Room",
    "Trust",
    "Other places",
)
"""Headings of the list of verbs."""
MOST_NAMED = 10
"""Models or files that are named in a plan."""


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_size(text: str | None) -> int | None:
    """Bytes from a text such as `500MB` or `2GiB`.

    Raises:
        ValueError: If it is not a number with a unit.
    """
    if text is None:
        return None
    digits = text.strip().lower()
    number = digits.rstrip("bgikm ")
    unit = digits[len(number) :].strip()
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"expected a size such as 500MB or 2GiB, got {text!r}") from None


def human(size: float) -> str:
    """A size for people: 91.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def selection(exclude: Sequence[str] | None, include: Sequence[str] | None) -> Selection:
    """What of a folder is stored: all but what is wished away, version control and caches."""
    return Selection(exclude=(*LEFT_OUT, *(exclude or ())), include=tuple(include or ()))


def source_bytes(folder: Path, store: Path, select: Selection = ALL, missing: int | None = None) -> int:
    """Bytes of all files under a folder; refuses one that cannot be stored before a store is made for it.

    With `missing` it refuses none: so many bytes are told of one that cannot be stored.
    """
    from pbstore.folders.nesting import OwnStore, is_store
    from pbstore.folders.source import list_source, steadily

    own = OwnStore.at(store) if is_store(store) else None
    try:
        return steadily(lambda: list_source(folder, own, select)).total_bytes
    except (PBStoreError, OSError):
        if missing is None:
            raise
        return missing


def told(report: "AddReport") -> str:
    """What an add did, in a line."""
    what = f"{counted(report.files, 'file')}, {counted(report.blocks, 'block')}"
    if report.already_there:
        return f"{report.name} is already there: {what}, revision {report.commit[:12]}"
    if report.follows:
        return f"{report.name} is now revision {report.commit[:12]}, after {report.follows[:12]}: {what}"
    return f"added {report.name}: {what}"


def tell_exceptions(report: "AddReport", *, with_name: bool = False) -> None:
    """Name on stderr what of a folder was left out, and which files were kept though they are damaged."""
    start = f"pbcast: {report.name}:" if with_name else "pbcast:"
    for path in report.skipped:
        warn(f"{start} left out {path!r}: it is this store itself")
    if report.left_out:
        names = ", ".join(some_of([repr(path) for path in report.left_out]))
        warn(f"{start} left out {names} (--include PATTERN takes it)")
    for path in report.damaged:
        warn(f"{start} kept {path!r} as it is: it is not what its name says")


@contextmanager
def existing(store: Path) -> "Iterator[DiskBlockStore]":
    """Open a store that must be there already; a model that is not there is told with the nearest that is."""
    from pbstore import open_store

    if not (store / "STORE.json").exists():
        raise FileNotFoundError(f"no block store at {store}: make one with `pbcast store add`")
    with open_store(store) as opened:
        try:
            yield opened
        except ModelMissingError as error:
            near = get_close_matches(error.name, opened.models(), 1)
            if type(error) is not ModelMissingError or error.where != IN_THE_STORE or not near:
                raise
            raise ModelMissingError(error.name, error.where, near[0]) from error


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if that is a terminal; gives a function that takes the bytes just done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda size: bar.update(task, advance=size)


def show(result: dict[str, Any], as_json: bool, line: str) -> None:
    """Print a result as JSON, or as a line and its sizes."""
    if as_json:
        print_json(result)
        return
    say(line)
    for key in ("new_bytes", "shared_bytes", "stored_bytes", "written_bytes"):
        if key in result:
            say(f"  {key.replace('_', ' '):14}{human(result[key]):>10}")


class NotConfirmedError(Exception):
    """What would be lost was shown, and nobody said yes."""

    exit_code = 1

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why

    def __str__(self) -> str:
        return f"{self.what}: nothing was changed, {self.why}"


def agree(what: str, plan: Sequence[str], yes: bool) -> None:
    """Show what would be lost, and ask, unless the user has said yes.

    Args:
        what: What is about to be done, in a few words.
        plan: Lines that say it in detail; they go to stderr.
        yes: Whether `--yes` was given.

    Raises:
        NotConfirmedError: If the answer is no, or nobody can answer.
    """
    warn(what, *(f"  {line}" for line in plan))
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotConfirmedError(what, "nobody can be asked here: --yes does it")
    if not answers_yes("Go on? [y/N] "):
        raise NotConfirmedError(what, "the answer was not yes")


def some_of(names: Sequence[str]) -> list[str]:
    """Some of many names for a plan, and how many more there are."""
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return [*names[:MOST_NAMED], *more]


def room(before: "DiskUse", after: "DiskUse") -> str:
    """How the whole store changes on the disk."""
    old, new = before.total_bytes, after.total_bytes
    how = f"{human(old - new)} less" if new <= old else f"{human(new - old)} more"
    return f"the store on the disk: {human(old)} -> {human(new)}, {how}"
