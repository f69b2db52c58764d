"""Hot and cold models: the form of stored blocks changes, their content never."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.blocks import RAW
from pbstore.coding import STEPS
from pbstore.disk.add.adding import key_untried, sketch_untried
from pbstore.disk.add.encode import Encoder
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.index import locations as index
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index import sketches as similar
from pbstore.disk.index import uses
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.disk.upkeep import collect
from pbstore.hashing import BlockId
from pbstore.store import raw_block

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore


@dataclass(frozen=True, slots=True, kw_only=True)
class FormReport:
    """What heating or cooling a model changed."""

    name: str
    form: str
    changed_blocks: int
    before: DiskUse
    """What the whole store occupied before."""
    after: DiskUse
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormChange:
    """One step of a balancing plan."""

    name: str
    form: str
    """The form that it should have."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReport:
    """What balancing changes, or has changed."""

    dry_run: bool
    changes: tuple[FormChange, ...]
    before: DiskUse
    """What the whole store occupied before."""
    after: DiskUse


def heat(store: "DiskBlockStore", name: str, check: Callable[[], None] = lambda: None) -> FormReport:
    """Store all blocks of a model raw, so that they can be mapped.

    The room of the smaller forms is given back, as that of `cool`, where much of a pack is dead.
    """
    return _change_form(store, name, HOT, check)


def cool(store: "DiskBlockStore", name: str, check: Callable[[], None] = lambda: None) -> FormReport:
    """Store a model as small as possible. Blocks that a hot model shares stay raw."""
    return _change_form(store, name, COLD, check)


def _change_form(store: "DiskBlockStore", name: str, form: str, check: Callable[[], None]) -> FormReport:
    before = store.disk_use()
    with store.writing() as connection:
        check()
        store.check_index()
        changed = _heat(store, name) if form == HOT else _cool(store, name)
        collect.compact_wasteful(store, connection)
    after = store.disk_use()
    return FormReport(name=name, form=form, changed_blocks=changed, before=before, after=after)


def _heat(store: "DiskBlockStore", name: str) -> int:
    """Inside `writing`: store all blocks of a model raw; returns how many changed."""
    manifest = store.manifest(name)
    changed = make_raw(store, manifest.block_ids())
    if store.model_row(name).form != HOT:
        catalog.set_form(store.connection, manifest, HOT)
    return changed


def make_raw(store: "DiskBlockStore", ids: Sequence[BlockId]) -> int:
    """Inside `writing`: give blocks the raw form; returns how many changed."""
    coded = index.keys_in(store.connection, "blocks", "id", ids, also=f"codec != '{RAW}'")
    for block_id in (one for one in ids if one in coded):
        stored_bytes = -1
        while stored_bytes != (now := store.info(block_id)).stored_bytes:  # making room may change it
            stored_bytes = now.stored_bytes
            store.ensure_room(now.raw_bytes - stored_bytes)
        store.replace_form(store.locate(block_id), raw_block(store.get(block_id), block_id))
        similar.mark_tried(store.connection, block_id, tried=False)
    return len(coded)


def _cool(store: "DiskBlockStore", name: str) -> int:
    """Inside `writing`: store a model as small as possible; returns how many blocks changed."""
    manifest = store.manifest(name)
    if store.model_row(name).form != COLD:
        catalog.set_form(store.connection, manifest, COLD)
    sketch_untried(store)
    for dtype in sorted({tensor.spec.dtype for tensor in store.tensors(name)}):
        key_untried(store, dtype)
    encoder = Encoder(store, thorough=True)
    return sum(_shrink(store, encoder, block_id) for block_id in manifest.block_ids())


def plan_balance(rows: list[ModelRow], raw_room_bytes: int, min_uses: int = 2) -> list[FormChange]:
    """Which models to heat and to cool: those used most stay raw as long as they fit.

    Args:
        rows: All models.
        raw_room_bytes: Raw bytes that hot models may take in all.
        min_uses: Models used less often are cold.

    Returns:
        The changes, those that free room first.
    """
    changes: list[FormChange] = []
    for row in sorted(rows, key=lambda row: (-row.pinned, -row.priority, -row.uses, -row.used_at, row.name)):
        fits = row.raw_bytes <= raw_room_bytes
        wanted = HOT if fits and (row.pinned or row.uses >= min_uses) else COLD
        if wanted == HOT:
            raw_room_bytes -= row.raw_bytes
        if wanted != row.form:
            why = f"used {row.uses} times" + ("" if fits else ", no room to keep it raw")
            changes.append(FormChange(name=row.name, form=wanted, why=why))
    return sorted(changes, key=lambda change: change.form)


def balance(
    store: "DiskBlockStore",
    raw_room_bytes: int | None,
    check: Callable[[], None] = lambda: None,
    planned: Sequence[FormChange] | None = None,
) -> BalanceReport:
    """Heat and cool models by use and quota; by default half of the capacity, or 4 GiB, may be raw.

    With `planned` these changes are made, whatever was used since.
    """
    if raw_room_bytes is None:
        raw_room_bytes = 4 << 30 if store.capacity_bytes is None else store.capacity_bytes // 2
    if raw_room_bytes < 0:
        raise ValueError(f"raw_room_bytes must be >= 0, got {raw_room_bytes}")
    before = store.disk_use()
    with store.writing() as connection:
        check()
        store.check_index()
        uses.count_uses(store.layout, connection)
        rows = catalog.live_models(connection)
        changes = plan_balance(rows, raw_room_bytes) if planned is None else list(planned)
        for change in changes:
            (_heat if change.form == HOT else _cool)(store, change.name)
        collect.compact_wasteful(store, connection)
    after = store.disk_use()
    return BalanceReport(dry_run=False, changes=tuple(changes), before=before, after=after)


def _shrink(store: "DiskBlockStore", encoder: Encoder, block_id: BlockId) -> bool:
    """Inside `writing`: give one block its smallest form; True if it became smaller."""
    location = store.locate(block_id)
    if location.hot_refs or location.record.needs:
        return False
    if not index.dependents(store.connection, block_id):
        steps = STEPS
    else:
        steps = 1 if index.only_casts_need(store.connection, block_id) else 0
    return recode(store, encoder, location, steps=steps)


def recode(
    store: "DiskBlockStore",
    encoder: Encoder,
    location: Location,
    *,
    steps: int = STEPS,
    avoid: Iterable[BlockId] = (),
    grow: bool = False,
) -> bool:
    """Inside `writing`: encode a stored block anew; kept if it is smaller, or in any case with `grow`."""
    block_id = location.record.block_id
    spec = similar.spec_of(store.connection, block_id)
    raw = store.get(block_id)
    stored, found = encoder.smallest(block_id, raw, spec, steps=steps, avoid=avoid)
    if not grow and stored.stored_bytes >= location.record.stored_bytes:
        return False
    store.replace_form(location, stored)
    if stored.needs:
        similar.withdraw(store.connection, block_id)
    if found is not None:
        similar.offer(store.connection, block_id, found)
    return True
