"""A library with misses: what is not in the node's store comes from its peers, else from upstream.

Bytes go out block by block while later blocks still come in; no model is ever held as a whole. What came is
kept in the node's store within its capacity, as blocks that no model names.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import (
    BlockMissingError,
    IntegrityError,
    ModelMissingError,
    ModelUnreachableError,
    RevisionMissingError,
)
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry, Manifest, Piece, check_name
from pbstore.serve.fetch.ahead import Ahead, behind, runs_by
from pbstore.serve.fetch.choosing import Forms
from pbstore.serve.fetch.fetcher import Fetcher
from pbstore.serve.fetch.hashes import NodeHashes
from pbstore.serve.fetch.here import Here
from pbstore.serve.fetch.keeper import Keeper
from pbstore.serve.fetch.names import Remembered
from pbstore.serve.fetch.neighbours import Neighbours
from pbstore.serve.fetch.passing import Passing
from pbstore.serve.fetch.policy import CachePolicy
from pbstore.serve.fetch.source import Source, SourceError
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library import Extent, History, Revision, StoreLibrary
from pbstore.serve.library.flights import Flights
from pbstore.serve.library.library import MAIN, commit_of_manifest
from pbstore.serve.library.spans import Span, spans_of
from pbstore.serve.meter import Meter, NoMeter
from pbstore.serve.settings import ServeSettings
from pbstore.serve.wire.hub import FileHashes

SETTLED_S = 1.0
"""How long the choice of a form waits to know what others want who have just begun to ask, s."""
_MOST_REVISIONS = 64
"""Models that were found elsewhere of which the commit is kept."""
log = logging.getLogger(__name__)


class NodeLibrary:
    """A `Library` over a store that may be empty; the store stays its owner's, who closes it after this.

    Args:
        store: The node's store; its capacity bounds what is kept.
        peers: URLs of nodes that are asked first.
        upstream: URL of a node that has or gets everything, or any other source.
        settings: As of a `StoreLibrary`.
        policy: What is kept and what goes; least recently used if None.
        meter: Counts.
        token: Bearer token for peers and upstream.
    """

    def __init__(
        self,
        store: DiskBlockStore,
        *,
        peers: Sequence[str] = (),
        upstream: str | Source | None = None,
        settings: ServeSettings | None = None,
        policy: CachePolicy | None = None,
        meter: Meter | None = None,
        token: str | None = None,
    ) -> None:
        self.node_id = secrets.token_hex(8)
        """By which other nodes know this one."""
        self.meter = meter or NoMeter()
        self.inner = StoreLibrary(store, settings)
        self.keeper = Keeper(store, self.meter, policy)
        here = Here(self.inner)
        self._neighbours = Neighbours(self.node_id, peers, upstream, token, self._keep_of_hub, self.meter)
        around = self._neighbours
        self._remembered = Remembered(store.path)
        self._finding: Flights[tuple[str, bool], Manifest] = Flights()
        self._revisions: OrderedDict[str, Revision] = OrderedDict()
        self.quick = self.inner.quick
        forms, passing = self._forms(), Passing()
        make = partial(Fetcher, here, self.keeper, self.meter, me=self.node_id, forms=forms, passing=passing)
        self.upstream = make(around.upstream_lanes)
        self.fetcher = make(around.peer_lanes, upstream=self.upstream.get if around.upstream_lanes else None)
        self.upstream.get_base = self.fetcher.get_coded
        self.known_hashes = NodeHashes(self.inner, around, self.read)

    def _forms(self) -> Forms:
        return Forms(
            told=self.told,
            scout=self.scout,
            is_at_peer=lambda block_id: bool(self._neighbours.holders(block_id)),
            is_wanted=self._is_wanted,
            settled=lambda: self._finding.settled(SETTLED_S),
        )

    def _is_wanted(self, block_id: BlockId) -> bool:
        """Whether somebody wants a block for itself: reads it now, or has just asked for its model."""
        if self.keeper.is_held(block_id) or self.fetcher.is_coming(block_id):
            return True
        return self._remembered.wants(block_id) and not self.keeper.was_let_go(block_id)

    async def close(self) -> None:
        """See `Library`."""
        await self.fetcher.close()
        await self.upstream.close()
        await self.keeper.close()
        await self._neighbours.close()
        await self.inner.close()

    async def names(self) -> tuple[str, ...]:
        """See `Library`; those of models that were seen elsewhere, too."""
        filed = await self.inner.names()
        return tuple(sorted({*filed, *await self.inner.call(self._remembered.names)}))

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """See `Library`."""
        try:
            return await self.inner.revision(name, revision)
        except RevisionMissingError:
            raise
        except ModelMissingError:
            if (found := await self._hub_revision(name, revision)) is not None:
                return found
            now = self._as_revision(await self.manifest(name))
        if revision not in (MAIN, now.commit):
            raise RevisionMissingError(name, revision)
        return now

    def _as_revision(self, manifest: Manifest) -> Revision:
        known = self._revisions.get(manifest.name)
        if known is None or known.manifest is not manifest:
            known = Revision(commit=commit_of_manifest(manifest), manifest=manifest)
            self._revisions[manifest.name] = known
            while len(self._revisions) > _MOST_REVISIONS:
                self._revisions.popitem(last=False)
        return known

    def is_current(self, name: str, file: FileEntry) -> bool:
        """See `Remembering`: filed here, or as it was seen elsewhere a moment ago; a Hub's may change."""
        if self.inner.quick.get(name) is not None:
            return True
        known = self._revisions.get(name)
        if known is None or self._neighbours.hub is not None:
            return False
        return known.manifest is self._remembered.fresh(name) and known.by_path.get(file.path) is file

    def known_extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """See `Remembering`."""
        found = self.inner.known_extents(file, start, stop)
        if found is not None:
            self._hit(self.inner.block_ids(file, start, stop))
        return found

    async def history(self, name: str) -> History:
        """See `Library`; of a model that is elsewhere, what its name means now."""
        try:
            return await self.inner.history(name)
        except ModelMissingError:
            found = await self.revision(name)
            return History(commits=((found.commit, found.added_at),), tags={})

    async def _hub_revision(self, name: str, revision: str) -> Revision | None:
        """A model as a Hub upstream has it; None if there is no Hub, or it cannot be reached."""
        await self._neighbours.meet()
        hub = self._neighbours.hub
        if hub is None:
            return None
        try:
            found = await hub.revision(name, revision)
        except SourceError as error:
            log.warning("%s", error)
            return None
        if all(hub.file_of(file) is None for file in found.manifest.files):  # all blocks are known
            await self.inner.call(self._remembered.note, found.manifest)
        return found

    async def _keep_of_hub(self, block: Checked) -> bool:
        self.meter.fetched_bytes("upstream", block.stored.stored_bytes)
        self.meter.block_requests("upstream")
        return await self.keeper.keep(block)

    async def manifest(self, name: str, via: tuple[str, ...] = (), *, fetch: bool = True) -> Manifest:
        """The manifest of a model that is not filed here: as upstream has it, else a peer, else as last seen.

        Args:
            name: The model.
            via: Nodes that ask for it through this one: then no peer is asked.
            fetch: Whether anybody may be asked.

        Raises:
            ModelMissingError: If nobody who can be reached has it.
        """
        check_name(name)
        if (fresh := self._remembered.fresh(name)) is not None:
            return fresh
        if fetch:
            return await self._finding.join((name, bool(via)), lambda: self._find(name, via))
        if (known := await self.inner.call(self._remembered.recall, name)) is None:
            raise ModelMissingError(name)
        return known

    async def may_fetch_for(self, via: tuple[str, ...]) -> bool:
        """Whether upstream may be asked on behalf of nodes: not if that would come back to one of them."""
        await self._neighbours.meet()
        return bool(self._neighbours.upstream_lanes) and not self._neighbours.is_upstream(via)

    async def told_by_fetching_peers(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """Blocks that peers would get from their upstream: for a node that has none itself."""
        found: dict[BlockId, BlockInfo] = {}
        for source in self._neighbours.fetching_peers():
            left = [one for one in block_ids if one not in found]
            with suppress(SourceError):
                found |= await source.infos(left) if left else {}
        return found

    def told(self, block_id: BlockId) -> BlockInfo | None:
        """A block in a form in which upstream, or a peer, said that it has it."""
        around = (*self._neighbours.upstream_lanes, *self._neighbours.peer_lanes)
        infos = (lane.holdings.has(block_id) for lane in around)
        return next((info for info in infos if info is not None), None)

    @property
    def chain(self) -> tuple[str, ...]:
        """Ids of the nodes upstream, the next first."""
        return self._neighbours.chain

    async def _find(self, name: str, via: tuple[str, ...]) -> Manifest:
        await self._neighbours.meet()
        manifest: Manifest | None = None
        unreachable: list[str] = []
        denied, upstream = False, {lane.name for lane in self._neighbours.upstream_lanes}
        for source in self._neighbours.sources(via):
            try:
                manifest = await source.manifest(name)
                break
            except ModelMissingError:
                denied |= source.name in upstream
            except SourceError:
                unreachable.append(source.name)
        if manifest is None and unreachable:
            manifest = await self.inner.call(self._remembered.recall, name)
        if manifest is None and unreachable and not denied:
            raise ModelUnreachableError(name, ", ".join(unreachable))
        if manifest is None:
            raise ModelMissingError(name, "here or at any node that can be reached")
        return await self.inner.call(self._remembered.note, manifest)

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """See `Library`."""
        return await self.inner.has(block_ids)

    async def info(self, block_id: BlockId) -> BlockInfo:
        """See `Library`; a block that is not here is fetched."""
        try:
            return await self.inner.info(block_id)
        except BlockMissingError:
            return (await self._fetched(block_id)).stored.info

    async def export(self, block_id: BlockId) -> StoredBlock:
        """See `Library`; a block that is not here is fetched."""
        try:
            return await self.inner.export(block_id)
        except (BlockMissingError, IntegrityError):
            return (await self._fetched(block_id)).stored

    async def extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """See `Library`; None where something has to be fetched."""
        ids = {span.block_id for span in spans_of(file, start, stop)}
        with self.keeper.holding(ids):
            if len(await self.inner.has(ids)) < len(ids):
                return None
            try:
                extents = await self.inner.extents(file, start, stop)
            except (BlockMissingError, IntegrityError):
                return None
            if extents is not None:
                self._hit(ids)
            return extents

    async def hashes(self, revision: Revision, file: FileEntry, *, plain: bool) -> FileHashes:
        """See `Library`; a Xet hash is upstream's word for it."""
        return await self.known_hashes.of(revision, file, plain=plain)

    async def file_of(self, xet: str) -> FileEntry | None:
        """See `Library`."""
        return await self.known_hashes.file_of(xet, self.revision)

    async def hash_ahead(self) -> None:
        """See `Library`; of the models that are filed here."""
        await self.inner.hash_ahead()

    def read(self, file: FileEntry, start: int, stop: int) -> AsyncIterator[Buffer]:
        """See `Library`."""
        hub = self._neighbours.hub
        coming = None if hub is None else hub.file_of(file)
        if hub is not None and coming is not None:
            return self._read_coming(hub.pieces_of(coming, start, stop), start, stop)
        sizes = {piece.block_id: piece.raw_bytes for piece in file.pieces}
        return self._read(list(spans_of(file, start, stop)), sizes)

    def read_block(self, block_id: BlockId, start: int, stop: int) -> AsyncIterator[Buffer]:
        """See `Library`."""
        return self._read([Span(block_id, start, stop)], {block_id: stop})

    async def scout(self, block_ids: Iterable[BlockId]) -> None:
        """Learn who has some blocks that are not here."""
        ids = list(block_ids)
        await self._neighbours.meet()
        await self.fetcher.scout(ids)
        await self.upstream.scout(one for one in ids if not self._neighbours.holders(one))

    def holders(self, block_id: BlockId) -> Sequence[str]:
        """URLs of peers that said a moment ago that they have a block, the fastest first."""
        return self._neighbours.holders(block_id)

    def before_me(self, block_id: BlockId) -> Sequence[str]:
        """URLs of peers that hold a block and are to send it rather than this node, by placement."""
        return self._neighbours.before_me(block_id)

    async def ask_peers(self, block_ids: Sequence[BlockId]) -> None:
        """Learn which peers hold some blocks, also such as are here."""
        await self._neighbours.meet()
        await self.fetcher.scout(block_ids)

    def _hit(self, here: Collection[BlockId]) -> None:
        self.keeper.used(here)
        if here:
            self.meter.block_requests("hit", len(here))

    async def _fetched(self, block_id: BlockId) -> Checked:
        await self.scout([block_id])
        return await self.fetcher.get(block_id)

    async def _read(self, spans: Sequence[Span], sizes: dict[BlockId, int]) -> AsyncIterator[Buffer]:
        ids = dict.fromkeys(span.block_id for span in spans)
        with self.keeper.holding(ids):
            here = await self.inner.has(ids)
            self._hit([one for one in ids if one in here])
            missing = [one for one in ids if one not in here]
            if unknown := [one for one in missing if self.fetcher.at_hand(one) is None]:
                await self.scout(unknown)
            ahead = Ahead(self.fetcher.get, [(one, sizes[one]) for one in missing])
            try:
                for run in runs_by(spans, here):
                    parts = self._kept(run) if run[0].block_id in here else self._coming(run, ahead)
                    async for part in parts:
                        yield part
            finally:
                ahead.close()

    async def _read_coming(
        self, pieces: AsyncIterator[tuple[Piece, int]], start: int, stop: int
    ) -> AsyncIterator[Buffer]:
        """Bytes of a file whose blocks come to be known while it is read."""
        async for (block_id, size), offset in pieces:
            span = Span(block_id, max(start - offset, 0), min(stop - offset, size))
            async for part in self._read([span], {block_id: size}):
                yield part

    async def _kept(self, spans: Sequence[Span]) -> AsyncIterator[Buffer]:
        """Bytes of blocks that are here; what turns out to be gone or damaged is fetched."""
        sent = 0
        try:
            async for part in self.inner.read_spans(spans):
                sent += len(part)
                yield part
            return
        except (BlockMissingError, IntegrityError) as error:
            log.warning("%s: it is fetched", error)
        rest = list(behind(spans, sent))
        await self.scout(span.block_id for span in rest)
        async for part in self._coming(rest, Ahead(self.fetcher.get, [])):
            yield part

    async def _coming(self, spans: Sequence[Span], ahead: Ahead) -> AsyncIterator[Buffer]:
        """Bytes of blocks that are fetched."""
        for block_id, start, stop in spans:
            block = await ahead.take(block_id)
            view = memoryview(block.raw)
            for at in range(start, stop, self.inner.settings.part_bytes):
                yield view[at : min(stop, at + self.inner.settings.part_bytes)]
