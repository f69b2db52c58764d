"""Models of a node as if they were in a store here: they are, in a cache of bounded size."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from pbstore.disk.opening import open_store
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import CapacityError, ModelExistsError, ModelMissingError
from pbstore.serve.fetch.copies import pull
from pbstore.serve.fetch.http_source import check_url
from pbstore.serve.fetch.object_store import is_origin
from pbstore.serve.fetch.source import SourceError

CACHE_BYTES = 20 * 10**9
"""Most payload bytes of a node's models that are kept, if `PBCAST_CACHE_BYTES` does not say otherwise."""
ADAPTER = "adapter_config.json"
log = logging.getLogger(__name__)


def cache_folder(url: str) -> Path:
    """Where models of a node or an object store are kept: in `PBCAST_CACHE`, else in the user's cache."""
    cache = os.environ.get("PBCAST_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pbcast" / "remote"
    place = url.rstrip("/") if is_origin(url) else check_url(url)
    return (Path(cache) if cache else home) / blake3(place.encode()).hexdigest(length=12)


@contextmanager
def fetched(
    url: str,
    *names: str,
    token: str | None = None,
    folder: Path | None = None,
    capacity_bytes: int | None = None,
) -> Iterator[DiskBlockStore]:
    """A store that has some models of a node, and of adapters their bases, as the node has them now.

    What is there already is not fetched again; what was used longest ago goes where there is no room. While
    the node cannot be reached, the model is as it was last seen.

    Args:
        url: Address of the node, or of an object store.
        names: The models.
        token: Bearer token; None for `PBCAST_TOKEN`.
        folder: The cache; None for `cache_folder`.
        capacity_bytes: Most payload bytes in it; None for `PBCAST_CACHE_BYTES`, else `CACHE_BYTES`.

    Raises:
        ModelMissingError: If the node has no model of a name.
        SourceError: If the node cannot be reached, and a model was never seen whole.
        CapacityError: If a model is larger than the cache.
    """
    token = token or os.environ.get("PBCAST_TOKEN")
    capacity = capacity_bytes or int(os.environ.get("PBCAST_CACHE_BYTES") or CACHE_BYTES)
    place = folder or cache_folder(url)
    place.parent.mkdir(parents=True, exist_ok=True)
    with open_store(place, capacity, trash_days=0) as store:
        for name in names:
            _fetch(store, name, url, token)
            manifest = store.manifest(name)
            if manifest.base is not None and any(entry.path == ADAPTER for entry in manifest.files):
                with suppress(ModelMissingError):  # then the loader says what it misses
                    _fetch(store, manifest.base.name, url, token)
        yield store


def _fetch(store: DiskBlockStore, name: str, url: str, token: str | None) -> None:
    try:
        try:
            report = pull(store, name, url, token=token, dry_run=True)
        except ModelExistsError:  # it has changed on the node
            store.remove(name, trash=False)
            report = pull(store, name, url, token=token, dry_run=True)
        while _make_room(store, report.sent_bytes):  # what went may have had blocks of this one
            report = pull(store, name, url, token=token, dry_run=True)
        if not report.was_there or report.blocks:
            pull(store, name, url, token=token)
        store.disk.touch(name)
    except SourceError as error:
        if name not in store.models():
            raise
        log.warning("%s is taken as it was last seen: %s", name, error)


def _make_room(store: DiskBlockStore, wanted_bytes: int) -> bool:
    """Let go of models until so much fits, and of what an interrupted fetch left; whether any had to go."""
    capacity = store.capacity_bytes or 0
    if wanted_bytes > capacity:
        raise CapacityError(wanted_bytes, store.used_bytes, capacity)
    missing = store.used_bytes + wanted_bytes - capacity
    if missing > 0:
        store.evict(missing)
    return missing > 0
