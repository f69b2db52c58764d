"""Hot and cold models: the form of stored blocks changes, their content never."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pbstore.coding import STEPS
from pbstore.disk.add.encode import Encoder
from pbstore.disk.add.untried import key_untried, sketch_untried
from pbstore.disk.blocks import compact, raw
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, model_rows, sketches, uses
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.disk.models import Models
from pbstore.hashing import BlockId


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


def heat(models: Models, name: str, check: Callable[[], None] = lambda: None) -> FormReport:
    """Store all blocks of a model raw, so that they can be mapped.

    The room of the smaller forms is given back, as that of `cool`, where much of a pack is dead.
    """
    return _change_form(models, name, HOT, check)


def cool(models: Models, name: str, check: Callable[[], None] = lambda: None) -> FormReport:
    """Store a model as small as possible. Blocks that a hot model shares stay raw."""
    return _change_form(models, name, COLD, check)


def _change_form(models: Models, name: str, form: str, check: Callable[[], None]) -> FormReport:
    before = models.disk_use()
    with models.writing() as tx:
        check()
        tx.check_index()
        changed = _heat(models, tx, name) if form == HOT else _cool(models, tx, name)
        compact.compact_wasteful(models, tx)
    after = models.disk_use()
    return FormReport(name=name, form=form, changed_blocks=changed, before=before, after=after)


def _heat(models: Models, tx: Transaction, name: str) -> int:
    """Store all blocks of a model raw; returns how many changed."""
    manifest = models.manifest(name)
    changed = raw.make_raw(models, tx, manifest.block_ids())
    if models.model_row(name).form != HOT:
        model_rows.set_form(tx.connection, manifest, HOT)
    return changed


def _cool(models: Models, tx: Transaction, name: str) -> int:
    """Store a model as small as possible; returns how many blocks changed."""
    manifest = models.manifest(name)
    if models.model_row(name).form != COLD:
        model_rows.set_form(tx.connection, manifest, COLD)
    sketch_untried(models, tx)
    for dtype in sorted({tensor.spec.dtype for tensor in models.tensors(name)}):
        key_untried(models, tx, dtype)
    encoder = Encoder(models, tx, thorough=True)
    return sum(_shrink(models, tx, encoder, block_id) for block_id in manifest.block_ids())


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
    models: Models,
    raw_room_bytes: int | None,
    check: Callable[[], None] = lambda: None,
    planned: Sequence[FormChange] | None = None,
) -> BalanceReport:
    """Heat and cool models by use and quota; by default half of the capacity, or 4 GiB, may be raw.

    With `planned` these changes are made, whatever was used since.
    """
    if raw_room_bytes is None:
        raw_room_bytes = 4 << 30 if models.capacity_bytes is None else models.capacity_bytes // 2
    if raw_room_bytes < 0:
        raise ValueError(f"raw_room_bytes must be >= 0, got {raw_room_bytes}")
    before = models.disk_use()
    with models.writing() as tx:
        check()
        tx.check_index()
        uses.count_uses(models.layout, tx.connection)
        rows = model_rows.live_models(tx.connection)
        changes = plan_balance(rows, raw_room_bytes) if planned is None else list(planned)
        for change in changes:
            (_heat if change.form == HOT else _cool)(models, tx, change.name)
        compact.compact_wasteful(models, tx)
    after = models.disk_use()
    return BalanceReport(dry_run=False, changes=tuple(changes), before=before, after=after)


def _shrink(models: Models, tx: Transaction, encoder: Encoder, block_id: BlockId) -> bool:
    """Give one block its smallest form; True if it became smaller."""
    location = models.locate(block_id)
    if location.hot_refs or location.record.needs:
        return False
    if not locations.dependents(tx.connection, block_id):
        steps = STEPS
    else:
        steps = 1 if locations.only_followers_need(tx.connection, block_id) else 0
    return recode(models, tx, encoder, location, steps=steps)


def recode(
    models: Models,
    tx: Transaction,
    encoder: Encoder,
    location: Location,
    *,
    steps: int = STEPS,
    avoid: Iterable[BlockId] = (),
    grow: bool = False,
) -> bool:
    """Encode a stored block anew; kept if it is smaller, or in any case with `grow`."""
    block_id = location.record.block_id
    spec = sketches.spec_of(tx.connection, block_id)
    stored, found = encoder.smallest(block_id, models.get(block_id), spec, steps=steps, avoid=avoid)
    if not grow and stored.stored_bytes >= location.record.stored_bytes:
        return False
    tx.replace_form(location, stored)
    if stored.needs:
        sketches.withdraw(tx.connection, block_id)
    if found is not None:
        sketches.offer(tx.connection, block_id, found)
    return True
