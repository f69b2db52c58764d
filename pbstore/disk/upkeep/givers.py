"""The order in which models are let go of, so that none goes for nothing.

Models share blocks: one whose blocks are nearly all held by others gives next to nothing back while these
stay. So it stays too, until the others are gone, or goes together with all that hold the same.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId

NEXT_TO_NOTHING = 0.01
"""Part of what a model's blocks take; less than it is next to nothing."""


class Held(NamedTuple):
    """A block, what it takes on the disk, and how many models hold it."""

    block_id: BlockId
    stored_bytes: int
    refs: int


def in_giving_order(models: Models, rows: Sequence[ModelRow]) -> Iterator[ModelRow]:
    """Rows in this order, but those that give next to nothing alone behind the others.

    Of these, those that hold a block which nobody else holds come together; then what gives a few bytes only.
    What gives none is left out. The caller lets go of each model before it asks for the next.
    """
    waiting: dict[str, ModelRow] = {}
    for row in rows:
        held = _held(models, row)
        if held is None or _own_bytes(held) >= _least(held):
            yield row
        else:
            waiting[row.name] = row
    for any_byte in (False, True):
        holders = _holders(models, waiting)
        for name in list(waiting):
            for other in _together(models, waiting, holders, name, any_byte):
                yield waiting.pop(other)


def _together(
    models: Models,
    waiting: dict[str, ModelRow],
    holders: dict[BlockId, list[str]],
    name: str,
    any_byte: bool,
) -> list[str]:
    """The models that must go for this one to give room: itself, or all that hold its largest such block."""
    held = _held(models, waiting[name]) if name in waiting else None
    if held is None:
        return []
    least = 1 if any_byte else _least(held)
    if _own_bytes(held) >= least:
        return [name]
    for block in sorted(held, key=lambda block: -block.stored_bytes):
        sharing = [other for other in holders[block.block_id] if other in waiting]
        if block.refs <= len(sharing) and block.stored_bytes >= least:
            return sharing
    return []


def _holders(models: Models, waiting: dict[str, ModelRow]) -> dict[BlockId, list[str]]:
    holders: dict[BlockId, list[str]] = {}
    for name, row in waiting.items():
        for block in _held(models, row) or ():
            holders.setdefault(block.block_id, []).append(name)
    return holders


def _own_bytes(held: Sequence[Held]) -> int:
    return sum(block.stored_bytes for block in held if block.refs <= 1)


def _least(held: Sequence[Held]) -> int:
    return max(1, round(NEXT_TO_NOTHING * sum(block.stored_bytes for block in held)))


def _held(models: Models, row: ModelRow) -> list[Held] | None:
    """A model's blocks that are there; None if its manifest is lost or damaged: nobody knows them."""
    try:
        ids = models.manifest_of(row).block_ids()
    except IntegrityError:
        return None
    found = ((block_id, models.find(block_id)) for block_id in ids)
    return [Held(i, at.record.stored_bytes, at.refs) for i, at in found if at is not None]
