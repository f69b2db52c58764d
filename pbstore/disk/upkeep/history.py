"""What a model was before: its revisions and their tags, and models that get another name."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pbstore.disk import revisions as filing
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import audit, locations, model_rows, notes, revisions
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.index.row_names import RowName
from pbstore.disk.models import Models
from pbstore.disk.upkeep import trash
from pbstore.errors import IntegrityError, ModelExistsError, ModelMissingError, RevisionMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One revision of a model."""

    name: str
    commit: str
    """40 hex digits; the first ones are enough where no other one begins so."""
    is_current: bool
    """Whether it is what the name means by itself."""
    tags: tuple[str, ...]
    added_at: float
    """When it became the model's, seconds since 1970."""
    raw_bytes: int
    num_files: int
    own_stored_bytes: int
    """Payload bytes of blocks that nothing else in the store names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which earlier revisions stay; what a name means and what has a tag always does.

    Raises:
        ValueError: If nothing is said, or a number is out of range.
    """

    last: int | None = None
    """The newest so many of a model, with what its name means."""
    within_s: float | None = None
    """Those that came in the last so many seconds."""
    now: float | None = None
    """The time, if it is not the clock's: of a plan that is carried out."""

    def __post_init__(self) -> None:
        if self.last is None and self.within_s is None:
            raise ValueError("expected how many revisions to keep, or for how long")
        if self.last is not None and self.last < 1:
            raise ValueError(f"at least one revision is kept, got {self.last}")
        if self.within_s is not None and not 0 <= self.within_s < float("inf"):
            raise ValueError(f"a time to keep revisions for must be >= 0 s, got {self.within_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReport:
    """Earlier revisions that go into the trash, or have gone there."""

    dry_run: bool
    revisions: tuple[str, ...]
    """As `NAME@COMMIT`, the oldest of each model first."""
    kept: int
    """Revisions of these models that stay."""
    kept_by_tag: tuple[str, ...]
    """Those that would go if they had no tag."""
    stored_bytes: int
    """Payload bytes that a gc can free once they have left the trash: blocks that nothing else names."""


def log(models: Models, name: str) -> list[Revision]:
    """All revisions of a model, the newest first."""
    rows = revisions.of_model(models.connection, name)
    if not rows:
        raise ModelMissingError(name)
    named = revisions.tags(models.connection, name)
    return [_revision(models, row, named) for row in rows]


def _revision(models: Models, row: ModelRow, named: dict[str, str]) -> Revision:
    own = 0
    with suppress(IntegrityError):  # of a damaged one nobody knows
        own = only_bytes(models, [row])
    return Revision(
        name=row.key.model,
        commit=row.commit,
        is_current=row.key.past_ms is None,
        tags=tuple(sorted(tag for tag, commit in named.items() if commit == row.commit)),
        added_at=row.added_at,
        raw_bytes=row.raw_bytes,
        num_files=row.num_files,
        own_stored_bytes=own,
    )


def only_bytes(models: Models, rows: Iterable[ModelRow]) -> int:
    """Payload bytes of the blocks that only some revisions name."""
    counts: Counter[BlockId] = Counter()
    for row in rows:
        counts.update(models.manifest_of(row).block_ids())
    found = locations.find_many(models.connection, list(counts))
    return sum(at.record.stored_bytes for one, at in found.items() if 0 < at.refs <= counts[one])


def tag(models: Models, name: str, tag: str, *, move: bool = False) -> Revision:
    """Give a revision a tag."""
    revisions.check_tag(tag)
    with models.writing() as tx:
        row = models.model_row(name)
        model = row.key.model
        named = revisions.tags(tx.connection, model)
        if named.get(tag, row.commit) != row.commit and not move:
            raise ModelExistsError(f"{model}@{tag}")
        if named.get(tag) != row.commit:
            filing.set_tags(models, tx, model, {**named, tag: row.commit})
        return _revision(models, row, revisions.tags(tx.connection, model))


def untag(models: Models, name: str, tag: str) -> None:
    """Take a tag away."""
    with models.writing() as tx:
        named = revisions.tags(tx.connection, name)
        if tag not in named:
            raise RevisionMissingError(name, tag)
        filing.set_tags(models, tx, name, {one: at for one, at in named.items() if one != tag})


def rename(models: Models, name: str, new_name: str) -> None:
    """Give a model and all its revisions another name."""
    check_name(new_name)
    with models.writing() as tx:
        models.model_row(check_name(name))
        if new_name == name:
            return
        if revisions.of_model(tx.connection, new_name):
            raise ModelExistsError(new_name)
        for row in revisions.of_model(tx.connection, name):
            _rename_row(models, tx, row, new_name)
        filing.carry_tags(models, tx, name, new_name)
        _drop_stale_tags(models, tx, name)


def _rename_row(models: Models, tx: Transaction, row: ModelRow, new_name: str) -> None:
    manifest = replace(models.manifest_of(row), name=new_name)
    key = row.key.called(new_name)
    notes.forget_adapter(tx.connection, row.name)
    filing.move(models, tx, row, key, manifest.to_json().encode())
    if key == RowName(new_name):
        notes.note_adapter(tx.connection, manifest, models.get)


def _drop_stale_tags(models: Models, tx: Transaction, name: str) -> None:
    """Take away a model's tags that name nothing any more, neither here nor in the trash."""
    rows = [*revisions.of_model(tx.connection, name), *revisions.in_trash(tx.connection, name)]
    there = {row.commit for row in rows}
    named = revisions.tags(tx.connection, name)
    left = {tag: commit for tag, commit in named.items() if commit in there}
    if left != named:
        filing.set_tags(models, tx, name, left)


def copy(models: Models, name: str, new_name: str) -> Revision:
    """File a revision under a name, as the newest one of it."""
    check_name(new_name)
    with models.writing() as tx:
        row = models.model_row(name)
        manifest = replace(models.manifest_of(row), name=new_name)
        own = model_rows.is_own(tx.connection, row)
        filing.file(models, tx, manifest, row.form, own=own)
        audit.note(tx.connection, "copied", row.key.model, row.commit, new_name)
        return _revision(models, models.model_row(new_name), revisions.tags(tx.connection, new_name))


def forget(
    models: Models, names: Sequence[str], keep: Keep, check: Callable[[], None] = lambda: None
) -> ForgetReport:
    """Move earlier revisions of some models into the trash.

    Args:
        models: The store.
        names: The models.
        keep: Which revisions stay.
        check: Called under the writer's lock before anything is changed.
    """
    with models.writing() as tx:
        check()
        going: list[ModelRow] = []
        kept, kept_by_tag = 0, []
        for name in dict.fromkeys(names):
            rows = revisions.of_model(tx.connection, models.model_row(name).key.model)
            tagged = set(revisions.tags(tx.connection, name).values())
            out = [row for place, row in enumerate(rows) if not _is_kept(row, place, keep)]
            kept_by_tag += [row.address for row in reversed(out) if row.commit in tagged]
            out = [row for row in out if row.commit not in tagged]
            kept += len(rows) - len(out)
            going += reversed(out)
        report = ForgetReport(
            dry_run=False,
            revisions=tuple(row.address for row in going),
            kept=kept,
            kept_by_tag=tuple(kept_by_tag),
            stored_bytes=only_bytes(models, going),
        )
        _throw_away(models, tx, going)
    return report


def _is_kept(row: ModelRow, place: int, keep: Keep) -> bool:
    if row.key.past_ms is None or (keep.last is not None and place < keep.last):
        return True
    now = time.time() if keep.now is None else keep.now
    return keep.within_s is not None and row.added_at >= now - keep.within_s


def _throw_away(models: Models, tx: Transaction, rows: Collection[ModelRow]) -> None:
    if not rows:
        return
    if models.settings.trash_days:
        trash.put(models, tx, list(rows))
    else:
        trash.drop(models, tx, rows)
