"""One library for a place that a text names: a store's folder, the URL of a node or of an object store."""

import os
from dataclasses import dataclass
from pathlib import Path

import httpx
from blake3 import blake3

from pbstore.disk.opening import open_store
from pbstore.disk.store import DiskBlockStore
from pbstore.serve.fetch.http_source import HttpNode, check_url, new_client
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.fetch.object_store import ObjectStore, is_origin
from pbstore.serve.fetch.remote import CACHE_BYTES
from pbstore.serve.fetch.source import Asked, Source
from pbstore.serve.library import Library, StoreLibrary

PLACE = "PBCAST_PLACE"
"""Environment variable that names the place where none is given; then `PBCAST_STORE`, a folder."""


@dataclass(slots=True)
class Place:
    """An open place; `names` of all that is there, and a library to read it."""

    library: Library
    store: DiskBlockStore
    """The store itself, or the cache of what was read."""
    source: Source | None = None
    client: httpx.AsyncClient | None = None

    async def names(self) -> tuple[str, ...]:
        """Names of all models that are there, sorted."""
        return await (self.library.names() if self.source is None else self.source.names())

    async def close(self) -> None:
        """Let go of files, connections and threads."""
        await self.library.close()
        if self.source is not None:
            await self.source.close()
        if self.client is not None:
            await self.client.aclose()
        self.store.close()


def place_named() -> str | None:
    """The place that the environment names."""
    return os.environ.get(PLACE) or os.environ.get("PBCAST_STORE")


def is_url(place: str) -> bool:
    """Whether a place is reached by URL, not as a folder of this machine."""
    return is_origin(place) or place.partition(":")[0] in ("http", "https")


def cache_of(url: str) -> Path:
    """Where blocks that are read from a URL are kept: in `PBCAST_CACHE`, else in the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pbcast" / "read"
    return Path(os.environ.get("PBCAST_CACHE") or home) / blake3(url.encode()).hexdigest(length=12)


async def open_place(place: str, token: str | None = None) -> Place:
    """Open a place for reading, inside the event loop that will use it.

    Args:
        place: Folder of a store, URL of a node, or `s3://BUCKET/PREFIX` or `file:///FOLDER`. Blocks that are
            read by URL are checked, and kept within `PBCAST_CACHE_BYTES` in a cache.
        token: Bearer token for a node; None for `PBCAST_TOKEN`.

    Raises:
        FileNotFoundError: If a folder has no store.
    """
    if not is_url(place):
        if not (Path(place) / "STORE.json").exists():
            raise FileNotFoundError(f"no block store at {place}")
        store = open_store(place, read_only=True)
        return Place(StoreLibrary(store), store)
    folder = cache_of(place)
    folder.parent.mkdir(parents=True, exist_ok=True)
    client = None
    source: Source
    if is_origin(place):
        source = ObjectStore(place)
    else:
        client = new_client([place], token or os.environ.get("PBCAST_TOKEN"))
        source = HttpNode(check_url(place), client, Asked(fetch=True))
    capacity = int(os.environ.get("PBCAST_CACHE_BYTES") or CACHE_BYTES)
    store = open_store(folder, capacity, trash_days=0)
    return Place(NodeLibrary(store, upstream=source), store, source, client)
