"""`pbcast store ls|explain`: what each model takes, shares and comes from."""

import csv
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.names import NamesArgument, age, chosen, matching, one_or_list
from demo.cli.store_shared import (
    DEFAULT_STORE,
    MODELS_PANEL,
    JsonOption,
    StoreOption,
    complete_name,
    existing,
    human,
    print_json,
)
from demo.console import Sheet, counted, say, visible

if TYPE_CHECKING:
    from pbstore import Savings
    from pbstore.disk.upkeep.explain import ModelStory
    from pbstore.disk.upkeep.lineage import Kin
    from pbstore.disk.upkeep.listing import ListedModel

listed = typer.Typer(epilog=EXIT_CODES)


@listed.command("ls", epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def list_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these models, or patterns such as 'org/*'.",
            metavar="[NAME]...",
            autocompletion=complete_name,
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="name, size, own, shared, age, used, uses or base.")
    ] = "name",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """List the models: what each takes alone, what it shares, where it comes from.

    OWN is what removing it would free after a gc: stored bytes that nothing else names. SHARED are bytes that
    other models hold too. BASE is the model that it was made from, as told or as its bytes show.
    """
    from pbstore.disk.upkeep.listing import listing

    with existing(store) as opened:
        items = listing(opened.disk, sort)
        total = opened.savings()
    if names:
        wanted = set(matching([item.name for item in items], names, all_known=True))
        items = [item for item in items if item.name in wanted]
    if as_json:
        print_json([asdict(item) for item in items])
    elif as_csv:
        _print_csv(items)
    else:
        _print_table(items, total, only_some=bool(names))


def _print_csv(items: "Sequence[ListedModel]") -> None:
    from pbstore.disk.upkeep.listing import ListedModel

    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ListedModel)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(item) for item in items)
    sys.stdout.write(text.getvalue())


def _print_table(items: "Sequence[ListedModel]", total: "Savings", *, only_some: bool) -> None:
    now = time.time()
    columns: dict[str, list[object]] = {
        "model": [item.name for item in items],
        "#size": [human(item.raw_bytes) for item in items],
        "#own": [human(item.own_stored_bytes) for item in items],
        "#shared": [human(item.shared_bytes) for item in items],
        "base": [item.base or "" for item in items],
        "#rev": [item.revisions if item.revisions > 1 else "" for item in items],
        "#uses": [item.uses or "" for item in items],
        "#age": [age(now - item.added_at) for item in items],
        "form": ["hot" if item.form == "hot" else "" for item in items],
        "pin": ["pinned" if item.pinned else "" for item in items],
    }
    shown = {head: cells for head, cells in columns.items() if head == "model" or any(cells)}
    table = Sheet(*shown)
    for cells in zip(*shown.values(), strict=True):
        table.row(*cells)
    table.print()
    if only_some:
        size, own = (sum(getattr(item, key) for item in items) for key in ("raw_bytes", "own_stored_bytes"))
        say(f"{len(items)} of {total.models} models: {human(size)}, {human(own)} theirs alone")
    else:
        saves = total.disk_bytes < total.raw_bytes
        ratio = f" ({total.disk_bytes / total.raw_bytes:.0%})" if saves else ""
        trash = f"; {human(total.trash_bytes)} of it in the trash" if total.trash_bytes else ""
        disk = f"{human(total.disk_bytes)} on the disk{ratio}{trash}"
        count = counted(total.models, "model")
        say(f"{count}, {human(total.raw_bytes)} in all revisions: {disk}")


@listed.command(epilog=EXIT_CODES, rich_help_panel=MODELS_PANEL)
def explain(names: NamesArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show where models come from, and how each of their tensors is stored."""
    from pbstore.disk.upkeep.lineage import kin_of

    with existing(store) as opened:
        told = {
            name: (opened.explain(name), kin_of(opened.disk, opened.disk.model_row(name).key.model))
            for name in chosen(opened, names)
        }
    if as_json:
        print_json(one_or_list([{**asdict(story), "tree": asdict(root)} for story, root in told.values()]))
        return
    for name, (story, root) in told.items():
        _print_story(name, story, root)


def _print_story(name: str, story: "ModelStory", root: "Kin") -> None:
    base = f", base {story.base}{'' if story.base_present else ' (not here)'}" if story.base else ""
    title = f"{name} ({story.form}){base}"
    table = Sheet("tensor", "#shape", "form", "#bytes", "#stored", "#models", "from", title=visible(title))
    for tensor in story.tensors:
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        sizes = (human(tensor.raw_bytes), human(tensor.stored_bytes), str(tensor.models))
        table.row(tensor.name, f"{tensor.dtype} {shape}", tensor.codec, *sizes, ", ".join(tensor.bases))
    table.print()
    for model, size in story.lineage.items():
        say(f"  {human(size)} coded against {model}")
    say(f"  {human(story.shared_bytes)} shared with other models")
    say(f"  {human(story.own_stored_bytes)} on the disk for this model alone")
    if root.children:
        say("its line:", *(f"  {line}" for line in _tree_lines(root, name.partition("@")[0])))


MOST_SIBLINGS = 12
"""Models of one base that are drawn."""


def _tree_lines(node: "Kin", name: str) -> list[str]:
    """A tree of models as text; the model that was asked for has an arrow."""
    lines = [node.name + (" <-" if node.name == name else "")]
    shown = node.children[:MOST_SIBLINGS]
    left = len(node.children) - len(shown) + node.more
    for place, child in enumerate(shown):
        is_last = place == len(shown) - 1 and not left
        first, *rest = _tree_lines(child, name)
        lines.append(f"{'`-' if is_last else '|-'} {first}")
        lines += [f"{'  ' if is_last else '| '} {line}" for line in rest]
    return [*lines, *([f"`- and {left} more"] if left else [])]
