"""What blocks and manifests are fetched from: another node, an object store, a store on this disk."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.errors import PBStoreError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.serve.wire.frames import Partial


class SourceError(PBStoreError):
    """A source cannot be reached, refuses, or does not keep to the protocol."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(source, why)
        self.source, self.why = source, why

    def __str__(self) -> str:
        return f"{self.source}: {self.why}"


class AnswerError(SourceError):
    """A source answers with a status that is an error."""

    def __init__(self, source: str, status: int, why: str) -> None:
        PBStoreError.__init__(self, source, status, why)
        self.source, self.status, self.why = source, status, f"answers {status}: {why}"


class NotANodeError(SourceError):
    """What answers at an address does not speak the block protocol: a Hub, perhaps."""


class CutShortError(SourceError):
    """A source stopped in the middle of a block."""

    def __init__(self, source: str, why: str, partial: Partial | None) -> None:
        PBStoreError.__init__(self, source, why, partial)
        self.source, self.why, self.partial = source, why, partial


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """On whose behalf a source is asked."""

    via: tuple[str, ...] = ()
    """Ids of the nodes that the question came through, oldest first."""
    fetch: bool = False
    """Whether a node may get from its own upstream what it does not have."""


class Source(Protocol):
    """One place to fetch from; safe to use from many tasks of one event loop.

    Nothing that it gives is trusted: whoever takes a block in decodes it and compares its hash.
    Every method raises `SourceError` if the source cannot answer.
    """

    @property
    def name(self) -> str:
        """What logs and metrics call it: its URL."""

    async def names(self) -> tuple[str, ...]:
        """Names of all models that it has, sorted."""

    async def manifest(self, name: str) -> Manifest:
        """A model's manifest as it is there now.

        Raises:
            ModelMissingError: If it has no such model.
        """

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """Those of some blocks that it has, in the form in which it would send them."""

    def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """Those of some blocks that it has, in that order, each as soon as it is here.

        Args:
            block_ids: The blocks.
            partial: First bytes of one of them that are here already; a source may pass over it.

        Raises:
            CutShortError: If the source stops in the middle of a block, with what came of it.
            BlockCorruptError: If a payload does not match its checksum.
        """

    async def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class GivesRaw(Protocol):
    """A source that decodes blocks for who lacks what their coded form needs."""

    def raw_blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """As `Source.blocks`, in raw form."""


class Sink(Protocol):
    """A place that takes blocks and manifests, each once: what is there already is success."""

    @property
    def name(self) -> str:
        """What logs and metrics call it."""

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """Those of some blocks that are there."""

    async def put_blocks(self, blocks: Sequence[StoredBlock]) -> None:
        """Give blocks, each behind those that it needs; they are durable there when this returns."""

    async def put_manifest(self, manifest: Manifest) -> None:
        """File a model whose blocks are all there.

        Raises:
            BlockMissingError: If one is not.
            ModelExistsError: If the name has other content there.
        """

    async def close(self) -> None:
        """Let go of connections."""
