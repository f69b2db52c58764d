"""Which models lean on one: adapters that are bound to it, and models that are stored against its tensors."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pbstore.disk.add import identity
from pbstore.disk.index import locations, model_rows, revisions
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Models that lean on another one."""

    bound: tuple[str, ...] = ()
    """Models bound to it, if no other model has the same weights: their base is missing without it."""
    coded: tuple[str, ...] = ()
    """Models with blocks that are stored against its blocks: these stay as long as they are needed."""


def find(models: Models, row: ModelRow, besides: Iterable[str] = ()) -> Dependents:
    """Models that lean on one, but for some that go with it, as its own earlier revisions do."""
    with_it = revisions.of_model(models.connection, row.name)
    going = {row.address, *(one.address for one in with_it), *besides}
    return Dependents(
        bound=tuple(name for name in _bound(models, row, going) if name not in going),
        coded=tuple(name for name in _coded(models, row, going) if name not in going),
    )


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


def _coded(models: Models, row: ModelRow, going: set[str]) -> list[str]:
    try:
        ids = models.manifest_of(row).block_ids()
    except IntegrityError:  # nobody knows
        return []
    users = locations.users_of(models.connection, ids) - set(ids)
    found = []
    for other in models.model_rows() if users else ():
        with suppress(IntegrityError):
            if other.name not in going and not users.isdisjoint(models.manifest_of(other).block_ids()):
                found.append(other.name)
    return found
