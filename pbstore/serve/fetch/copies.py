"""Pull, push and sync: models between a store on this disk and a node, as plain functions."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import FileCorruptError, PBStoreError
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import Manifest, check_name
from pbstore.serve.fetch.http_source import HttpNode, check_url, new_client
from pbstore.serve.fetch.local import LibrarySource, StoreSink
from pbstore.serve.fetch.object_store import ObjectStore, is_origin
from pbstore.serve.fetch.source import Asked, Sink, Source
from pbstore.serve.fetch.transfer import Progress, TransferReport, filed_manifest, transfer
from pbstore.serve.library import StoreLibrary

T = TypeVar("T")
PULL, PUSH = "pull", "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCopied:
    """A model that was not copied, and why."""

    name: str
    error: str
    exit_code: int

    def __str__(self) -> str:
        return f"{self.name}: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a sync brings, or has brought."""

    dry_run: bool
    models: tuple[TransferReport, ...]
    """All that were looked at, those that were there too."""
    failed: tuple[NotCopied, ...]

    @property
    def sent_bytes(self) -> int:
        """Bytes of blocks on the wire."""
        return sum(report.sent_bytes for report in self.models)


def pull(
    store: DiskBlockStore,
    name: str,
    url: str,
    *,
    token: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy a model from a node into a store: only the blocks that are missing, each checked.

    What ends it, a kill too, loses nothing that came: the next pull goes on.

    Args:
        store: Where it goes.
        name: The model.
        url: Address of the node, or of an object store.
        token: Bearer token that may read.
        dry_run: Only say what would come.
        progress: Called with payload bytes that have come to be durable.

    Raises:
        ModelMissingError: If the node has no such model.
        ModelExistsError: If the store has another one under this name.
        BlockCorruptError: If a block does not decode to its id; nothing of it is kept.
        SourceError: If the node cannot be reached, or not any more.
        CapacityError: If it does not fit.
    """
    return _run(_one(PULL, store, name, url, token, dry_run, progress))


def push(
    store: DiskBlockStore,
    name: str,
    url: str,
    *,
    token: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy a model from a store to a node; as `pull`, with a token that may write."""
    return _run(_one(PUSH, store, name, url, token, dry_run, progress))


def sync(
    store: DiskBlockStore,
    url: str,
    direction: str,
    *,
    only: str = "*",
    token: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> SyncReport:
    """Copy all models that the other side does not have; nothing is removed.

    Args:
        store: The store.
        url: Address of the node, or of an object store.
        direction: `pull` into the store, or `push` to the node.
        only: Pattern of the names, as of files: `org/*`.
        token: Bearer token.
        dry_run: Only say what would be sent.
        progress: As of `pull`.

    Raises:
        SourceError: If the node cannot be reached.
    """
    if direction not in (PULL, PUSH):
        raise ValueError(f"direction must be {PULL} or {PUSH}, got {direction!r}")
    return _run(_all(direction, store, url, only, token, dry_run, progress))


@dataclass(frozen=True, slots=True)
class _Ends:
    """The two ends of a copy."""

    source: Source
    sink: Sink
    there: Source
    """The sink, as a source."""


@asynccontextmanager
async def _ends(direction: str, store: DiskBlockStore, url: str, token: str | None) -> AsyncIterator[_Ends]:
    library = StoreLibrary(store)
    origin = is_origin(url)
    async with new_client([] if origin else [url], token) as client:
        asked = Asked(fetch=direction == PULL)
        node = ObjectStore(url) if origin else HttpNode(check_url(url), client, asked)
        here, sink = LibrarySource(library), StoreSink(store)
        try:
            yield _Ends(node, sink, here) if direction == PULL else _Ends(here, node, node)
        finally:
            await node.close()
            await sink.close()
            await library.close()


async def _one(
    direction: str,
    store: DiskBlockStore,
    name: str,
    url: str,
    token: str | None,
    dry_run: bool,
    progress: Progress | None,
) -> TransferReport:
    check_name(name)
    async with _ends(direction, store, url, token) as ends:
        return await _copy(ends, name, set() if dry_run else None, progress)


async def _all(
    direction: str,
    store: DiskBlockStore,
    url: str,
    only: str,
    token: str | None,
    dry_run: bool,
    progress: Progress | None,
) -> SyncReport:
    reports: list[TransferReport] = []
    failed: list[NotCopied] = []
    planned: set[BlockId] | None = set() if dry_run else None
    async with _ends(direction, store, url, token) as ends:
        for name in await ends.source.names():
            if fnmatchcase(name, only):
                try:
                    reports.append(await _copy(ends, name, planned, progress, bases_follow=True))
                except PBStoreError as error:
                    failed.append(NotCopied(name=name, error=str(error), exit_code=error.exit_code))
    return SyncReport(dry_run=dry_run, models=tuple(reports), failed=tuple(failed))


async def _copy(
    ends: _Ends,
    name: str,
    planned: set[BlockId] | None,
    progress: Progress | None,
    *,
    bases_follow: bool = False,
) -> TransferReport:
    filed = await filed_manifest(ends.there, name)
    report = await transfer(
        name,
        ends.source,
        ends.sink,
        filed=filed,
        planned=planned,
        bases_follow=bases_follow,
        progress=progress,
    )
    if planned is None and not report.was_there:
        sent, there = await ends.source.manifest(name), await ends.there.manifest(name)
        if sent != there:
            raise FileCorruptError(name, "its manifest", _hash(sent), _hash(there))
    return report


def _hash(manifest: Manifest) -> str:
    return hash_block(manifest.to_json().encode())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run something asynchronous to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="pbstore-copy")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
