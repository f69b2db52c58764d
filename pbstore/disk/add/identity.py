"""Which stored model is which, by its weights: for a model that is bound to its base's content."""

from collections.abc import Iterator

from pbstore.disk.index import model_rows
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError
from pbstore.manifest import BaseLink, Manifest
from pbstore.weights import identities, is_all_parsed

_MAX_KNOWN = 256
_known: dict[str, tuple[str, ...]] = {}
"""Identities by the hash of a manifest's JSON, which names its blocks by theirs."""


def base_link(models: Models, name: str) -> BaseLink:
    """The link to a stored model, with a hash of all of its weights: never an empty one."""
    manifest = models.manifest(name)
    try:
        return BaseLink(name=name, weights=hashes_of(models, name, manifest)[0])
    except IntegrityError:
        if manifest.weights and is_all_parsed(manifest):
            return BaseLink(name=name, weights=manifest.weights)
        raise


def with_weights(models: Models, weights: str) -> Iterator[str]:
    """Names of the models that have these weights; none for an empty hash, which earlier versions stored.

    What the index says is checked against the manifests and headers. If it knows none, the models that an
    earlier version filed under an incomplete hash are looked at.
    """
    if not weights:
        return
    named = model_rows.with_weights(models.connection, weights)
    found = False
    for name in named:
        if _has(models, name, weights, every=True):
            found = True
            yield name
    if not found:
        others = (name for name in models.models() if name not in named)
        yield from (name for name in others if _has(models, name, weights, every=False))


def _has(models: Models, name: str, weights: str, *, every: bool) -> bool:
    """Whether a model has these weights; without `every`, False for those whose stored hash is complete."""
    try:
        manifest = models.manifest(name)
        return (every or not is_all_parsed(manifest) or not manifest.weights) and weights in hashes_of(
            models, name, manifest
        )
    except IntegrityError:  # one that cannot be read is no other's base
        return False


def hashes_of(models: Models, name: str, manifest: Manifest) -> tuple[str, ...]:
    """All hashes by which a model may be bound to, see `identities`.

    Raises:
        IntegrityError: If a header is damaged or lost.
    """
    key = models.model_row(name).manifest_hash
    found = _known.get(key)
    if found is None:
        found = identities(manifest, models.get)
        for old in list(_known)[: max(0, len(_known) - _MAX_KNOWN + 1)]:
            _known.pop(old, None)
        _known[key] = found
    return found


def has_weights(models: Models, weights: str) -> bool:
    """Whether a model with these weights is in the store, whatever its name."""
    return next(with_weights(models, weights), None) is not None


def find_weights(models: Models, weights: str) -> tuple[str, ...]:
    """Names of the models with these weights: how an adapter finds its base by content."""
    return tuple(with_weights(models, weights))
