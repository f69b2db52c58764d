"""What a server asks of whatever holds the models: one protocol, so that a node with misses is one, too."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from blake3 import blake3

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.disk.files.reader import OpenPack
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry, Manifest
from pbstore.serve.wire.hub import FileHashes

MAIN = "main"
"""The revision that a name means by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A model as it is served: one manifest under one commit."""

    commit: str
    """40 hex digits, from the manifest alone: equal on every node that has it."""
    manifest: Manifest
    added_at: float = 0.0
    """When the model came into the store, s since 1970."""
    is_current: bool = True
    """Whether the model's name means it by itself."""
    by_path: dict[str, FileEntry] = field(init=False, repr=False, compare=False)
    """Its files."""

    def __post_init__(self) -> None:
        files = {entry.path: entry for entry in self.manifest.files}
        object.__setattr__(self, "by_path", files)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def address(self) -> str:
        """How a store is asked for it: the model's name, and the commit if that is an earlier one."""
        return self.name if self.is_current else f"{self.name}@{self.commit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a model's name has meant, and means."""

    commits: tuple[tuple[str, float], ...]
    """Commits and when they came into the store, s since 1970; the newest first."""
    tags: Mapping[str, str]
    """Tag -> commit."""


class Extent(NamedTuple):
    """Where raw bytes of a block lie in an open file; they were found right."""

    pack: OpenPack
    """Its `fd` is open for reading as long as somebody holds this, also after a gc has deleted the file."""
    offset: int
    length: int


class Library(Protocol):
    """Models to be served; safe to use from many tasks of one event loop."""

    async def names(self) -> tuple[str, ...]:
        """Names of all models, sorted."""

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """A model under a revision: `main`, a tag, or a commit.

        Raises:
            ModelMissingError: If there is no such model.
            RevisionMissingError: If there is, but not in this revision.
        """

    async def history(self, name: str) -> History:
        """Revisions and tags of a model.

        Raises:
            ModelMissingError: If there is no such model.
        """

    def read(self, file: FileEntry, start: int, stop: int) -> AsyncIterator[Buffer]:
        """Bytes `start` to `stop` of a file, in parts of bounded size, each checked before it is given.

        Raises:
            IntegrityError: If a block is damaged; nothing of it was given.
            BlockMissingError: If a block is not there.
        """

    def read_block(self, block_id: BlockId, start: int, stop: int) -> AsyncIterator[Buffer]:
        """`read`, of a block's raw bytes."""

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """Those of some blocks that are here."""

    async def info(self, block_id: BlockId) -> BlockInfo:
        """Sizes, codec and needs of a block.

        Raises:
            BlockMissingError: If it is not here.
        """

    async def export(self, block_id: BlockId) -> StoredBlock:
        """A block in its coded form; its payload is checked."""

    async def extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """Where bytes `start` to `stop` of a file lie, in order; None if only a copy has them."""

    async def hashes(self, revision: Revision, file: FileEntry, *, plain: bool) -> FileHashes:
        """Hashes that clients want of a file; computed when they are first asked for, and kept.

        Args:
            revision: The model that has the file.
            file: The file.
            plain: Whether its Git hash is wanted, else its Xet hash, which is empty where it cannot be had.
        """

    async def file_of(self, xet: str) -> FileEntry | None:
        """A file of a Xet hash that was given out; None if there is none any more."""

    async def hash_ahead(self) -> None:
        """Compute hashes before they are asked for, as long as the server runs."""

    async def close(self) -> None:
        """Let go of threads and files."""


def commit_of(manifest_hash: str) -> str:
    """The commit of a manifest, from the BLAKE3 of its canonical JSON: 40 hex digits, as Git has them."""
    return manifest_hash[:40]


def commit_of_manifest(manifest: Manifest) -> str:
    """The commit of a manifest."""
    return commit_of(blake3(manifest.to_json().encode()).hexdigest())
