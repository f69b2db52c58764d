"""The picture of one slot of a log: copies beside broadcasts, and who was served when."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from demo.emulation.log import Line
from demo.emulation.log.events import ORIGIN, Broadcast, Delivered, Event, SlotBegan, Transferred
from demo.show.figure import BLUE, GREEN, ORANGE, RED, clean_axes, font_pt, pyplot, save_figure, width_in

COLOURS = {"update": GREEN, "serve": ORANGE, "repair": RED, "broadcast": BLUE, "delivered": "black"}
LABELS = {
    "update": "copy for a cache",
    "serve": "copy to be sent",
    "repair": "repair",
    "broadcast": "broadcast",
    "delivered": "model complete",
}
MOMENT_S = 1e-6
"""Times that differ by less are one, s: those of lines are rounded to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took its time in a slot."""

    lane: str
    kind: str
    start_s: float
    """Since the first of the slot's spans began."""
    end_s: float
    about: str


def busiest_slot(lines: Iterable[Line]) -> int | None:
    """The slot with the most broadcasts; None without any."""
    counts: dict[int, int] = {}
    for line in lines:
        if isinstance(line.event, Broadcast):
            counts[line.event.slot] = counts.get(line.event.slot, 0) + 1
    return max(counts, key=lambda slot: (counts[slot], -slot)) if counts else None


def spans_of(lines: Iterable[Line], slot: int) -> list[Span]:
    """What a slot's links and band did, and when models were complete, by lane and time."""
    spans = [
        span
        for line in lines
        if not isinstance(line.event, SlotBegan) and getattr(line.event, "slot", None) == slot
        for span in _span(line.event, line.at_s)
    ]
    if not spans:
        return []
    spans = _side_by_side(spans)
    began = min(span.start_s for span in spans)
    shifted = [
        Span(
            lane=span.lane,
            kind=span.kind,
            start_s=span.start_s - began,
            end_s=span.end_s - began,
            about=span.about,
        )
        for span in spans
    ]
    return sorted(shifted, key=lambda span: (_rank(span.lane), span.start_s))


def _span(event: Event, at_s: float) -> list[Span]:
    if isinstance(event, Transferred) and not event.why_not:
        lane = f"cloud to node {event.target}" if event.source == ORIGIN else f"nodes to node {event.target}"
        about = f"unit {event.unit}, {event.payload_bytes} bytes"
        return [Span(lane=lane, kind=event.cause, start_s=event.started_s, end_s=event.ended_s, about=about)]
    if isinstance(event, Broadcast):
        about = f"units {' '.join(map(str, event.units))} from {event.holders} to {event.users}"
        kind = "repair" if event.is_repair else "broadcast"
        return [Span(lane="band", kind=kind, start_s=event.started_s, end_s=event.ended_s, about=about)]
    if isinstance(event, Delivered):
        lane, about = f"user {event.user}", event.model
        return [Span(lane=lane, kind="delivered", start_s=at_s, end_s=at_s, about=about)]
    return []


def _side_by_side(spans: Sequence[Span]) -> list[Span]:
    """Broadcasts that were on the air at once in lanes of their own: `band`, `band 2` and so on."""
    ends, placed = list[float](), list[Span]()
    for span in sorted(spans, key=lambda one: one.start_s):
        if span.lane != "band":
            placed.append(span)
            continue
        free = next((lane for lane, end in enumerate(ends) if end <= span.start_s + MOMENT_S), len(ends))
        ends[free : free + 1] = [span.end_s]
        placed.append(replace(span, lane="band" if free == 0 else f"band {free + 1}"))
    return placed


def _rank(lane: str) -> tuple[int, int, str]:
    first = ("cloud", "nodes", "band", "user").index(lane.split()[0])
    number = lane.split()[-1]
    return first, int(number) if number.isdigit() else 0, lane


def draw_timeline(spans: Sequence[Span], path: Path, title: str, how: str = "as it came") -> None:
    """Draw a slot: a lane for each link into a node, the band, and the users; the spans as CSV beside."""
    plt, size = pyplot(), font_pt(path)
    lanes = list(dict.fromkeys(span.lane for span in spans))
    with plt.rc_context({"font.size": size}):
        per_lane = 0.14 if path.suffix == ".pdf" else 0.28
        height = 1.0 + per_lane * max(1, len(lanes))
        fig, ax = plt.subplots(figsize=(width_in(path, 2), height), layout="constrained")
        for place, lane in enumerate(lanes):
            _draw_lane(ax, place, [span for span in spans if span.lane == lane])
        ax.set_yticks(range(len(lanes)), lanes)
        ax.set_ylim(len(lanes) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.set_xlabel(f"time since the slot's first copy or broadcast, {how} (s)")
        ax.set_title(title, fontsize=size)
        clean_axes(ax, "x")
        for kind in dict.fromkeys(span.kind for span in spans):
            mark = "D" if kind == "delivered" else "s"
            ax.plot([], [], mark, color=COLOURS.get(kind, RED), ms=4, label=LABELS.get(kind, kind))
        fig.legend(loc="outside lower center", ncols=5, fontsize=size - 0.5)
        rows = [
            {
                "lane": span.lane,
                "kind": span.kind,
                "start_s": span.start_s,
                "end_s": span.end_s,
                "about": span.about,
            }
            for span in spans
        ]
        save_figure(fig, path, rows)


def _draw_lane(ax: Any, place: int, spans: Sequence[Span]) -> None:  # noqa: ANN401
    for kind in dict.fromkeys(span.kind for span in spans):
        own = [span for span in spans if span.kind == kind]
        colour = COLOURS.get(kind, RED)
        if kind == "delivered":
            ax.plot([span.end_s for span in own], [place] * len(own), "D", color=colour, ms=4)
        else:
            bars = [(span.start_s, span.end_s - span.start_s) for span in own]
            ax.broken_barh(bars, (place - 0.36, 0.72), color=colour, linewidth=0)
