"""The reasons of a placement, node by node: what is cached, what just missed, and why."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.box import SIMPLE

from demo.console import Sheet, say, screen, visible
from policy.interfaces import Float
from policy.learn.explain import CopyReason

LEGEND = (
    ("asked", "forecast chance that somebody needs the block in this slot"),
    ("saves", "seconds that one copy here is expected to save in this slot"),
    ("worth", "the same with later slots, less the time to bring it here, for 1 GB"),
    ("+2", "two more blocks (or models) just like it"),
)
OVERLAP = "Slots overlap: seconds are those of the mean user delay, by the learned clock of a slot."
WIDE = 90
"""A narrower screen has no room for the models behind each block."""


def print_reasons(
    rows: Sequence[CopyReason], slot: int, capacity_bytes: Float, *, overlap: bool = False
) -> None:
    """One table a node, best copies first; equal blocks share a line, those left out come last.

    Args:
        rows: What `policy.learn.explain` found.
        slot: The slot that was decided for.
        capacity_bytes: Room of each node, (nodes,).
        overlap: Whether slots overlap, so that seconds are those of `policy.learn.slot_clock`.
    """
    console = screen()
    console.print(f"Why blocks are where they are in slot {slot}", style="bold")
    for node, own in groupby(rows, key=lambda row: row.node):
        _node_table(list(own), node, float(capacity_bytes[node]), console.width >= WIDE).print(console)
    say(*(f" {word:>5}  {meaning}" for word, meaning in LEGEND))
    if overlap:
        say(OVERLAP)


def _node_table(rows: Sequence[CopyReason], node: int, capacity_bytes: float, models: bool) -> Sheet:
    used = sum(row.size_bytes for row in rows if row.held)
    price = rows[0].price_s_per_gb
    title = (
        f"node {node}: {used / 1e6:.0f} of {capacity_bytes / 1e6:.0f} MB used; "
        f"room here is worth {price:.1f} s a GB"
    )
    columns = ["block", "", "#MB", "#asked", "#saves", "#worth", "#also on"]
    columns += ["mostly for"] if models else []
    style = {"title_style": "", "box": SIMPLE, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Sheet(*columns, title=visible(title), **style)
    for alike in _alike(rows):
        row = alike[0]
        table.row(
            _and_more(row.name, len(alike) - 1),
            state_of(row),
            f"{row.size_bytes / 1e6:.0f}",
            f"{row.asked_chance:.0%}",
            f"{row.saves_next_s:.2f} s",
            f"{row.saves_s_per_gb:.1f}",
            ",".join(map(str, row.other_holders)),
            *([_and_more(row.models[0], len(row.models) - 1)] if models and row.models else []),
            style="" if row.held else "dim",
        )
    return table


def state_of(row: CopyReason) -> str:
    """What the decision did with a copy."""
    if row.held:
        return "kept" if row.kept else "new"
    return "dropped" if row.kept else "left out"


def _alike(rows: Iterable[CopyReason]) -> list[list[CopyReason]]:
    """Neighbours of which the same can be said."""

    def said(row: CopyReason) -> tuple[object, ...]:
        numbers = (row.saves_next_s, row.saves_s_per_gb, row.asked_chance)
        return (state_of(row), row.size_bytes, row.other_holders, row.models, *(f"{x:.6g}" for x in numbers))

    return [list(group) for _, group in groupby(rows, key=said)]


def _and_more(text: str, count: int) -> str:
    return f"{text} +{count}" if count > 0 else text
