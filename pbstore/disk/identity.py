"""Which stored model is which, by its weights: for a model that is bound to its base's content."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pbstore.disk.index import model_rows as catalog
from pbstore.errors import IntegrityError
from pbstore.manifest import BaseLink, Manifest
from pbstore.weights import identities, is_all_parsed

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore

_MAX_KNOWN = 256
_known: dict[str, tuple[str, ...]] = {}
"""Identities by the hash of a manifest's JSON, which names its blocks by theirs."""


def base_link(store: "DiskBlockStore", name: str) -> BaseLink:
    """The link to a stored model, with a hash of all of its weights: never an empty one."""
    manifest = store.manifest(name)
    try:
        return BaseLink(name=name, weights=hashes_of(store, name, manifest)[0])
    except IntegrityError:
        if manifest.weights and is_all_parsed(manifest):
            return BaseLink(name=name, weights=manifest.weights)
        raise


def with_weights(store: "DiskBlockStore", weights: str) -> Iterator[str]:
    """Names of the models that have these weights; none for an empty hash, which earlier versions stored.

    What the index says is checked against the manifests and headers. If it knows none, the models that an
    earlier version filed under an incomplete hash are looked at.
    """
    if not weights:
        return
    query = f"SELECT name FROM models WHERE weights = ? AND NOT ({catalog.IN_TRASH}) ORDER BY name"
    named = [str(name) for (name,) in store.connection.execute(query, (weights,)).fetchall()]
    found = False
    for name in named:
        if _has(store, name, weights, every=True):
            found = True
            yield name
    if not found:
        others = (name for name in store.models() if name not in named)
        yield from (name for name in others if _has(store, name, weights, every=False))


def _has(store: "DiskBlockStore", name: str, weights: str, *, every: bool) -> bool:
    """Whether a model has these weights; without `every`, False for those whose stored hash is complete."""
    try:
        manifest = store.manifest(name)
        return (every or not is_all_parsed(manifest) or not manifest.weights) and weights in hashes_of(
            store, name, manifest
        )
    except IntegrityError:  # one that cannot be read is no other's base
        return False


def hashes_of(store: "DiskBlockStore", name: str, manifest: Manifest) -> tuple[str, ...]:
    """All hashes by which a model may be bound to, see `identities`.

    Raises:
        IntegrityError: If a header is damaged or lost.
    """
    key = store.model_row(name).manifest_hash
    found = _known.get(key)
    if found is None:
        found = identities(manifest, store.get)
        for old in list(_known)[: max(0, len(_known) - _MAX_KNOWN + 1)]:
            _known.pop(old, None)
        _known[key] = found
    return found
