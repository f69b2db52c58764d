"""Letting go of bases that no model names any more: the blocks that need them are stored anew first."""

from pbstore.blocks import StoredBlock
from pbstore.codecs.sketch import Sketch
from pbstore.disk.add.encode import Encoder
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, sketches
from pbstore.disk.index.locations import Location
from pbstore.disk.index.sketches import CastKeys
from pbstore.disk.models import Models
from pbstore.hashing import BlockId

TRIAL_BYTES = 128 << 20
"""Raw bytes of dependents that are encoded for a trial at most."""


def retire(models: Models, tx: Transaction, base: Location) -> bool:
    """Store the blocks that need a base without it, if that takes less room in all.

    One dependent, the largest, is stored on its own and becomes the base of the others.

    Returns:
        Whether the base is free to go.
    """
    encoder = Encoder(models, tx, thorough=True)
    ids = locations.dependents(tx.connection, base.record.block_id)
    users = sorted((models.locate(i) for i in ids), key=lambda user: -user.record.raw_bytes)
    users = [user for user in users if base.record.block_id in user.info.bases]  # the others follow these
    if not users:
        return False
    heir, others = users[0], users[1:]
    steps = 1 if base.record.needs else 0  # casts of a difference may become differences themselves
    alone = _encode(models, encoder, heir, steps=steps, avoid=base.record.block_id)
    trial = _some(others)
    old_bytes = base.record.stored_bytes + heir.record.stored_bytes - alone[0].stored_bytes
    if old_bytes <= 0:
        return False
    _swap(models, tx, heir, alone)
    old_id, new_id = base.record.block_id, heir.record.block_id
    new = [_encode(models, encoder, user, prefer=new_id, avoid=old_id) for user in trial]
    growth = sum(item[0].stored_bytes for item in new) - sum(user.record.stored_bytes for user in trial)
    if trial and growth * len(others) / len(trial) >= old_bytes:
        tx.replace_form(models.locate(heir.record.block_id), _as_it_was(models, heir))
        sketches.withdraw(tx.connection, heir.record.block_id)
        return False
    for user, item in zip(trial, new, strict=True):
        _swap(models, tx, user, item)
    for user in others[len(trial) :]:
        _swap(models, tx, user, _encode(models, encoder, user, prefer=new_id, avoid=old_id))
    return True


def _some(users: list[Location]) -> list[Location]:
    """As many of the dependents as a trial may hold."""
    chosen, left = [], TRIAL_BYTES
    for user in users:
        left -= user.record.raw_bytes
        if left < 0:
            break
        chosen.append(user)
    return chosen


def _encode(
    models: Models,
    encoder: Encoder,
    location: Location,
    *,
    steps: int = 1,
    prefer: BlockId | None = None,
    avoid: BlockId,
) -> tuple[StoredBlock, Sketch | CastKeys | None]:
    block_id = location.record.block_id
    spec = sketches.spec_of(models.connection, block_id)
    likely = None if prefer is None else sketches.described(models.connection, prefer)
    raw = models.get(block_id)
    return encoder.smallest(block_id, raw, spec, steps=steps, likely=likely, avoid=(avoid,))


def _swap(
    models: Models, tx: Transaction, old: Location, new: tuple[StoredBlock, Sketch | CastKeys | None]
) -> None:
    stored, found = new
    tx.replace_form(models.locate(old.record.block_id), stored)
    if stored.needs:
        sketches.withdraw(tx.connection, stored.block_id)
    if found is not None:
        sketches.offer(tx.connection, stored.block_id, found)


def _as_it_was(models: Models, old: Location) -> StoredBlock:
    """A block in the form that its old record, still in its pack, has."""
    return StoredBlock.of(old.record, models.read_record(old))
