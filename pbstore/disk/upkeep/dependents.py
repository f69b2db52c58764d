"""Which models lean on one: adapters that are bound to it, and models that are stored against its tensors."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pbstore.disk.add import identity
from pbstore.disk.index import locations, model_rows, revisions
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Models that lean on another one."""

    bound: tuple[str, ...] = ()
    """Models bound to it, if no other model has the same weights: their base is missing without it."""
    coded: tuple[str, ...] = ()
    """Models with blocks that are stored against its blocks: these stay as long as they are needed."""


def find(models: Models, rows: Sequence[ModelRow], besides: Iterable[str] = ()) -> list[Dependents]:
    """Models that lean on each of some, but for those that go with them, as their earlier revisions do.

    Manifests are read once for all of them, and only where a block of another model needs one of theirs.
    """
    going = {*(row.address for row in rows), *besides}
    for row in rows:
        going.update(one.address for one in revisions.of_model(models.connection, row.name))
    coded = _coded(models, rows, going)
    return [
        Dependents(
            bound=tuple(name for name in _bound(models, row, going) if name not in going),
            coded=tuple(coded[row.name]),
        )
        for row in rows
    ]


def _bound(models: Models, row: ModelRow, going: set[str]) -> list[str]:
    try:
        hashes = identity.hashes_of(models, row.name, models.manifest_of(row))
    except IntegrityError:  # what is bound to it cannot be told by more than the index
        hashes = (row.weights,) if row.weights else ()
    bound: list[str] = []
    for weights in hashes:
        if not set(identity.with_weights(models, weights)) - going:
            bound += model_rows.bound_to(models.connection, weights)
    return bound


def _coded(models: Models, rows: Sequence[ModelRow], going: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {row.name: [] for row in rows}
    leaning: dict[BlockId, list[str]] = {}
    """Block that needs a block of a model that goes -> these models."""
    for row in rows:
        with suppress(IntegrityError):  # nobody knows
            ids = models.manifest_of(row).block_ids()
            for user in locations.users_of(models.connection, ids) - set(ids):
                leaning.setdefault(user, []).append(row.name)
    for other in models.model_rows() if leaning else ():
        with suppress(IntegrityError):
            if other.name not in going:
                ids = models.manifest_of(other).block_ids()
                for name in {name for one in ids if one in leaning for name in leaning[one]}:
                    found[name].append(other.name)
    return found
