"""What the benchmark of stores found: rows, the table, the targets, JSON and a picture."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peers import PEERS, stored_bytes

from demo.show.figure import BLUE, FAINT, GREY, SCREEN_IN, clean_axes, pyplot, save_figure

OURS = ("pbstore thorough", "pbstore cold", "pbstore hot")
FIRST = "family one"
"""The catalog for which the absolute targets were set."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One measured action."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one peer did with one family."""

    peer: str
    stored_bytes: int
    put: Cost
    get: Cost
    models: int
    exact: tuple[str, ...]
    """Models whose every file came back byte for byte."""
    edits: dict[str, int] = field(default_factory=dict)
    """Bytes that each edit added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The models that are stored, and edits of some."""

    name: str
    models: dict[str, Path]
    edits: dict[str, Path]
    """Put into the store that holds all models."""
    alone: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    """Edits of a model by itself: put into a store that holds only the first folder."""

    @property
    def raw_bytes(self) -> int:
        """Sum of all file sizes."""
        return sum(stored_bytes(folder) for folder in self.models.values())


def table_line(row: Row, raw_bytes: int) -> str:
    """One line of the table."""
    speeds = [
        f"{raw_bytes / 1e6 / seconds:7.0f}"
        for cost in (row.put, row.get)
        for seconds in (cost.wall_s, cost.cpu_s)
    ]
    rss = max(row.put.peak_rss_bytes, row.get.peak_rss_bytes) / 1e6
    exact = "all" if len(row.exact) == row.models else f"{len(row.exact)} of {row.models}"
    share = f"{row.stored_bytes / raw_bytes:7.4f}"
    return f"{row.peer:16} {share} {' '.join(speeds)} {rss:7.0f}  {exact:9} {PEERS[row.peer].note}".rstrip()


def ratio_lines(rows: Sequence[Row]) -> list[str]:
    """Speeds by the wall clock and by CPU-seconds, as multiples of those of the fastest peers."""
    by = {row.peer: row for row in rows}
    found = []
    for other in (by[name] for name in ("xet", "tensorfs") if name in by):
        found += ["", f"speed / {other.peer}'s:   put put/cpu   get get/cpu"]
        for row in rows:
            pairs = [(getattr(row, action), getattr(other, action)) for action in ("put", "get")]
            shares = [
                share for one, two in pairs for share in (two.wall_s / one.wall_s, two.cpu_s / one.cpu_s)
            ]
            found.append(f"{row.peer:16} " + " ".join(f"{share:7.2f}" for share in shares))
    return found


def table(rows: Sequence[Row], raw_bytes: int) -> str:
    """All rows, their speeds beside the fastest peers', and what the edits added."""
    head = f"{'store':16}  st/raw  put/s put/cpu   get/s get/cpu  RSS MB  exact"
    lines = [head, *(table_line(row, raw_bytes) for row in rows), *ratio_lines(rows)]
    if edits := list(dict.fromkeys(name for row in rows for name in row.edits)):
        lines += ["", "MB that an edit of one stored model adds:", f"{'store':16} " + " | ".join(edits)]
        for row in rows:
            if row.edits:
                added = " | ".join(f"{row.edits[name] / 1e6:{len(name)}.3f}" for name in edits)
                lines.append(f"{row.peer:16} {added}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What we want of our own store, and what was measured."""

    what: str
    wanted: float
    measured: float
    at_least: bool = False
    by_cpu: float | None = None
    """The same by CPU-seconds, which other load on the machine disturbs less."""

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def __str__(self) -> str:
        cpu = "" if self.by_cpu is None else f" (by CPU-seconds {self.by_cpu:.3f})"
        sign = "at least" if self.at_least else "at most"
        verdict = "met   " if self.met else "MISSED"
        return f"{verdict} {self.what} {sign} {self.wanted:g}: {self.measured:.3f}{cpu}"


def size_targets(rows: dict[str, Row], catalog: Catalog) -> list[Target]:
    """Stored bytes; the absolute ones were set for the first family."""
    found = []
    exact = [row for row in rows.values() if row.peer not in OURS and len(row.exact) == row.models]
    cold, hot = rows.get("pbstore cold"), rows.get("pbstore hot")
    if catalog.name == FIRST:
        limits = ((cold, 0.205), (hot, 0.395))
        stored = [(row, limit, row.stored_bytes / catalog.raw_bytes) for row, limit in limits if row]
        found += [
            Target(what=f"{row.peer}: stored / raw", wanted=limit, measured=value)
            for row, limit, value in stored
        ]
    if cold and exact:
        smallest = min(exact, key=lambda row: row.stored_bytes)
        share = cold.stored_bytes / smallest.stored_bytes
        found.append(Target(what=f"pbstore cold: stored / {smallest.peer}'s", wanted=0.85, measured=share))
    added = cold.edits if cold else {}
    found += [
        Target(what=f"cold: MB added, {name}", wanted=0.1, measured=size / 1e6)
        for name, size in added.items()
    ]
    return found


def speed_targets(rows: dict[str, Row]) -> list[Target]:
    """Wall speeds as multiples of a peer's in the same run."""
    wanted = (
        ("pbstore cold", "put", "xet", 1.2),
        ("pbstore cold", "get", "xet", 1.5),
        ("pbstore hot", "put", "xet", 2.5),
        ("pbstore hot", "get", "tensorfs", 1.0),
    )
    found = []
    for ours, action, theirs, ratio in wanted:
        if ours in rows and theirs in rows:
            one, other = getattr(rows[ours], action), getattr(rows[theirs], action)
            target = Target(
                what=f"{ours}: {action} speed / {theirs}'s",
                wanted=ratio,
                measured=other.wall_s / one.wall_s,
                at_least=True,
                by_cpu=other.cpu_s / one.cpu_s,
            )
            found.append(target)
    return found


def safety_targets(rows: dict[str, Row]) -> list[Target]:
    """Memory, and files that come back as they went in."""
    found = []
    for row in (rows[name] for name in OURS if name in rows):
        rss = max(row.put.peak_rss_bytes, row.get.peak_rss_bytes) / 1e6
        found.append(Target(what=f"{row.peer}: peak RSS, MB", wanted=400, measured=rss))
        exact = len(row.exact)
        found.append(
            Target(what=f"{row.peer}: models byte-exact", wanted=row.models, measured=exact, at_least=True)
        )
    return found


def picture(path: Path, document: Mapping[str, Any]) -> None:
    """Sizes against speeds, where these were measured more than once; else sizes alone. CSV beside."""
    rows, raw_bytes = read_rows(document), document["raw_bytes"]
    size = f"{document['catalogue']}: {len(document['models'])} models, {raw_bytes / 1e6:,.0f} MB"
    if document["runs"] == 1:
        _draw_sizes(path, size, rows, raw_bytes)
    else:
        title = f"{size}; stored share, writing / reading in MB/s, medians of {document['runs']} runs"
        _draw_speeds(path, title, rows, raw_bytes)


def _draw_sizes(path: Path, title: str, rows: Sequence[Row], raw_bytes: int) -> None:
    """Stored bytes of each peer, the smallest on top."""
    plt = pyplot()
    ordered = sorted(rows, key=lambda row: row.stored_bytes)
    with plt.rc_context({"font.size": 8.5}):
        figure, ax = plt.subplots(figsize=(SCREEN_IN, 0.9 + 0.27 * len(rows)), layout="constrained")
        names = [row.peer + ("" if len(row.exact) == row.models else " (not exact)") for row in ordered]
        colours = [BLUE if row.peer in OURS else FAINT for row in ordered]
        bars = ax.barh(names, [row.stored_bytes / raw_bytes for row in ordered], color=colours)
        ax.bar_label(bars, fmt="%.3f", padding=3)
        ax.set(xlabel="stored / raw bytes (less is better)", xlim=(0, 1.15), title=title)
        ax.invert_yaxis()
        clean_axes(ax, "x")
        save_figure(figure, path, picture_rows(ordered, raw_bytes))


def _draw_speeds(path: Path, title: str, rows: Sequence[Row], raw_bytes: int) -> None:
    """Stored bytes against speed of reading, a bubble as large as speed of writing."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plt = pyplot()
    with plt.rc_context({"font.size": 8.5}):
        figure, ax = plt.subplots(figsize=(SCREEN_IN, 5.2), layout="constrained")
        for row, numbers in zip(rows, picture_rows(rows, raw_bytes), strict=True):
            at = numbers["stored_share"], numbers["get_mb_s"]
            colour = BLUE if row.peer in OURS else GREY
            face = colour if numbers["exact"] else "none"
            ax.scatter(*at, s=0.35 * numbers["put_mb_s"], c=face, edgecolors=colour, alpha=0.75)
            ax.annotate(_label(row, numbers), at, xytext=(9, 4), textcoords="offset points", fontsize=7.5)
        ax.set(xlabel="stored / raw bytes (left is better)", yscale="log", title=title)
        ax.set_ylabel("reading, MB of raw files per second (up is better)")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.16, y=0.12)
        clean_axes(ax, "both")
        figure.supxlabel(
            "area: writing; blue: ours; hollow: gives not all models back byte for byte", fontsize=7.5
        )
        save_figure(figure, path, picture_rows(rows, raw_bytes))


def picture_rows(rows: Sequence[Row], raw_bytes: int) -> list[dict[str, Any]]:
    """What the picture shows."""
    return [
        {
            "store": row.peer,
            "stored_share": row.stored_bytes / raw_bytes,
            "put_mb_s": raw_bytes / 1e6 / row.put.wall_s,
            "get_mb_s": raw_bytes / 1e6 / row.get.wall_s,
            "exact": len(row.exact) == row.models,
        }
        for row in rows
    ]


def _label(row: Row, numbers: Mapping[str, Any]) -> str:
    return (
        f"{row.peer}\n{numbers['stored_share']:.3f}, {numbers['put_mb_s']:,.0f} / {numbers['get_mb_s']:,.0f}"
    )


def read_rows(document: Mapping[str, Any]) -> list[Row]:
    """Rows of a result file."""
    costs = ("put", "get")
    plain = [{**row, **{key: Cost(**row[key]) for key in costs}} for row in document["rows"]]
    return [Row(**{**row, "exact": tuple(row["exact"])}) for row in plain]


def draw_again(folder: Path = RESULTS) -> list[Path]:
    """Draw the pictures of all result files of stores that lie in a folder."""
    drawn = []
    for path in sorted([*folder.glob("store-*.json"), *folder.glob("speed-*.json")]):
        document = json.loads(path.read_text())
        drawn.append(path.with_suffix(".png"))
        picture(drawn[-1], document)
    return drawn


def report(
    catalog: Catalog, rows: Sequence[Row], runs: int, versions: Sequence[str], out: Path = RESULTS
) -> None:
    """Print the table and the targets; write JSON and the picture."""
    raw = catalog.raw_bytes
    size = f"{len(catalog.models)} models, {raw / 1e6:.0f} MB raw"
    print(f"\n{catalog.name}: {size}; medians of {runs} run(s); load {os.getloadavg()[0]:.1f}")
    print(table(rows, raw))
    by = {row.peer: row for row in rows}
    reached = [*size_targets(by, catalog), *speed_targets(by), *safety_targets(by)]
    print("\n".join(["", "targets:", *(f"  {one}" for one in reached)]))
    out.mkdir(parents=True, exist_ok=True)
    stem = f"store-{catalog.name.replace(' ', '-')}"
    document = {
        "catalogue": catalog.name,
        "models": {name: stored_bytes(folder) for name, folder in catalog.models.items()},
        "raw_bytes": raw,
        "runs": runs,
        "machine": {
            "cores": os.cpu_count(),
            "load_1min": os.getloadavg()[0],
            "python": platform.python_version(),
        },
        "peers": list(versions),
        "rows": [asdict(row) for row in rows],
        "targets": [{**asdict(one), "met": one.met} for one in reached],
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (out / f"{stem}.json").write_text(json.dumps(document, indent=1) + "\n")
    picture(out / f"{stem}.png", document)


if __name__ == "__main__":
    draw_again()
