"""A list of models: what each takes alone, what it shares, where it comes from, how it is used."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pbstore.disk.index import uses
from pbstore.disk.models import Models
from pbstore.disk.upkeep.lineage import Lineage
from pbstore.disk.upkeep.overview import Entry, Overview


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model in a list."""

    name: str
    commit: str
    revisions: int
    """With the one that the name means."""
    num_files: int
    num_blocks: int
    raw_bytes: int
    own_stored_bytes: int
    """Payload bytes of blocks that nothing but this model and its earlier revisions names."""
    shared_bytes: int
    """Raw bytes in blocks that other models name, too."""
    base: str | None
    """The model that it comes from: its base, or the one that it has most in common with."""
    bound_base: str | None
    """The base that it was filed with."""
    form: str
    pinned: bool
    priority: float
    uses: int
    used_at: float
    """Seconds since 1970; 0 if it never was."""
    added_at: float


ORDERS: dict[str, Callable[[ListedModel], tuple[object, ...]]] = {
    "name": lambda item: (item.name,),
    "size": lambda item: (-item.raw_bytes, item.name),
    "own": lambda item: (-item.own_stored_bytes, item.name),
    "shared": lambda item: (-item.shared_bytes, item.name),
    "age": lambda item: (-item.added_at, item.name),
    "used": lambda item: (-item.used_at, item.name),
    "uses": lambda item: (-item.uses, item.name),
    "base": lambda item: (item.base or item.name, item.base is not None, item.name),
}
"""What a list may be sorted by: the largest, the newest and the most used first."""


def listing(models: Models, sort: str = "name") -> list[ListedModel]:
    """All models; takes time linear in their manifests.

    Raises:
        ValueError: If there is no such order.
    """
    if sort not in ORDERS:
        raise ValueError(f"models are sorted by {', '.join(ORDERS)}, not by {sort!r}")
    overview = Overview.of(models)
    lineage = Lineage(models, overview)
    lines: dict[str, list[Entry]] = {}
    for entry in overview.entries:
        lines.setdefault(entry.name, []).append(entry)
    noted = {row.name: row for row in uses.with_noted(models.layout, models.model_rows())}
    items = [
        _listed(overview, lineage, replace(entry, row=noted[entry.name]), lines[entry.name])
        for entry in overview.entries
        if entry.row.name in noted
    ]
    return sorted(items, key=ORDERS[sort])


def _listed(overview: Overview, lineage: Lineage, entry: Entry, line: list[Entry]) -> ListedModel:
    own = shared = 0
    held: dict[bytes, int] = {}
    for one in line:
        for key in one.distinct():
            held[key] = held.get(key, 0) + 1
    mine = entry.distinct()
    for key, count in held.items():
        facts = overview.facts(key)
        if facts.refs <= count:
            own += facts.stored_bytes
        elif key in mine:
            shared += facts.raw_bytes
    row = entry.row
    return ListedModel(
        name=row.name,
        commit=row.commit,
        revisions=len(line),
        num_files=row.num_files,
        num_blocks=row.num_blocks,
        raw_bytes=row.raw_bytes,
        own_stored_bytes=own,
        shared_bytes=shared,
        base=lineage.parents.get(row.name),
        bound_base=row.base,
        form=row.form,
        pinned=row.pinned,
        priority=row.priority,
        uses=row.uses,
        used_at=row.used_at,
        added_at=row.added_at,
    )
