"""What every block store can do, and the plainest store that does it: a dictionary in memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from pbstore.blocks import CAST, FOLLOWERS, MAX_BLOCK_BYTES, RAW, RECAST, BlockInfo, StoredBlock
from pbstore.coding import decode_block
from pbstore.errors import (
    BlockInUseError,
    BlockMissingError,
    CapacityError,
    ModelExistsError,
    ModelMissingError,
)
from pbstore.hashing import BlockId, Buffer, hash_block
from pbstore.manifest import Manifest


class BlockLookup(Protocol):
    """Which blocks there are."""

    def has(self, block_id: BlockId) -> bool:
        """Whether the block is there."""

    def info(self, block_id: BlockId) -> BlockInfo:
        """Sizes, codec and needs of a block; BlockMissingError if it is not there."""


class BlockStore(BlockLookup, Protocol):
    """Blocks by id and manifests by name, within a capacity."""

    @property
    def capacity_bytes(self) -> int | None:
        """Most payload bytes that fit, None without a limit."""

    @property
    def used_bytes(self) -> int:
        """Payload bytes of all blocks."""

    def block_ids(self) -> Iterator[BlockId]:
        """Ids of all blocks, in no particular order."""

    def get(self, block_id: BlockId) -> Buffer:
        """Raw bytes of a block, checked against its id."""

    def put(self, raw: Buffer) -> BlockId:
        """Store raw bytes as a raw block; nothing happens if they are there already."""

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """The block as it is stored, to be sent elsewhere."""

    def import_block(self, stored: StoredBlock) -> BlockId:
        """Store a block that another store exported; what it needs must be there."""

    def delete_block(self, block_id: BlockId) -> None:
        """Delete a block that no manifest and no other block needs."""

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""

    def manifest(self, name: str) -> Manifest:
        """A model's files and blocks."""

    def put_manifest(self, manifest: Manifest) -> None:
        """File a model whose blocks are all there."""

    def remove(self, name: str) -> None:
        """Forget a model; its blocks stay until they are collected."""

    def blocks(self, name: str) -> tuple[BlockId, ...]:
        """Ids of a model's blocks in manifest order, each one behind the blocks that it needs."""


class MemoryBlockStore:
    """A block store in memory, for tests and for devices without a disk."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self._blocks: dict[BlockId, StoredBlock] = {}
        self._manifests: dict[str, Manifest] = {}
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """See `BlockStore`."""
        return self._used_bytes

    def block_ids(self) -> Iterator[BlockId]:
        """See `BlockStore`."""
        return iter(tuple(self._blocks))

    def has(self, block_id: BlockId) -> bool:
        """See `BlockStore`."""
        return block_id in self._blocks

    def info(self, block_id: BlockId) -> BlockInfo:
        """See `BlockStore`."""
        return self.export_block(block_id).info

    def get(self, block_id: BlockId) -> Buffer:
        """See `BlockStore`."""
        stored = self.export_block(block_id)
        return decode_block(stored, [self.get(base) for base in stored.bases])

    def put(self, raw: Buffer) -> BlockId:
        """See `BlockStore`."""
        stored = raw_block(raw)
        return self._keep(stored)

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """See `BlockStore`."""
        try:
            return self._blocks[block_id]
        except KeyError:
            raise BlockMissingError(block_id) from None

    def import_block(self, stored: StoredBlock) -> BlockId:
        """See `BlockStore`."""
        if stored.block_id not in self._blocks:
            stored = with_all_needs(self, stored)
            decode_block(stored, [self.get(base) for base in stored.bases])
        return self._keep(stored)

    def delete_block(self, block_id: BlockId) -> None:
        """See `BlockStore`."""
        stored = self.export_block(block_id)
        for name, manifest in self._manifests.items():
            if block_id in manifest.block_ids():
                raise BlockInUseError(block_id, f"model {name}")
        for other in self._blocks.values():
            if block_id in other.needs:
                raise BlockInUseError(block_id, f"block {other.block_id[:12]}")
        del self._blocks[block_id]
        self._used_bytes -= stored.stored_bytes

    def models(self) -> tuple[str, ...]:
        """See `BlockStore`."""
        return tuple(sorted(self._manifests))

    def manifest(self, name: str) -> Manifest:
        """See `BlockStore`."""
        try:
            return self._manifests[name]
        except KeyError:
            raise ModelMissingError(name) from None

    def put_manifest(self, manifest: Manifest) -> None:
        """See `BlockStore`."""
        if self._manifests.get(manifest.name, manifest) != manifest:
            raise ModelExistsError(manifest.name)
        check_manifest_blocks(self, manifest)
        self._manifests[manifest.name] = manifest

    def remove(self, name: str) -> None:
        """See `BlockStore`."""
        self.manifest(name)
        del self._manifests[name]

    def blocks(self, name: str) -> tuple[BlockId, ...]:
        """See `BlockStore`."""
        return closed_blocks(self, self.manifest(name))

    def _keep(self, stored: StoredBlock) -> BlockId:
        if stored.block_id in self._blocks:
            return stored.block_id
        if self.capacity_bytes is not None and self._used_bytes + stored.stored_bytes > self.capacity_bytes:
            raise CapacityError(stored.stored_bytes, self._used_bytes, self.capacity_bytes)
        self._blocks[stored.block_id] = stored
        self._used_bytes += stored.stored_bytes
        return stored.block_id


def raw_block(raw: Buffer, block_id: BlockId | None = None) -> StoredBlock:
    """A block in raw form; the payload is the buffer itself if it is `bytes`, else a copy.

    Raises:
        ValueError: If there are more bytes than a block may have.
    """
    if len(raw) > MAX_BLOCK_BYTES:
        raise ValueError(f"a block has at most {MAX_BLOCK_BYTES} bytes, got {len(raw)}")
    payload = raw if isinstance(raw, bytes) else bytes(raw)
    return StoredBlock(
        block_id=block_id or hash_block(payload), raw_bytes=len(payload), codec=RAW, payload=payload
    )


def with_all_needs(store: BlockLookup, stored: StoredBlock) -> StoredBlock:
    """A block whose needs are complete for the forms that they have in a store.

    Only bases of a cast (it is a `recast` then) and of a derived block may need blocks themselves, and only
    those that need nothing.

    Raises:
        BlockMissingError: If a need is not there.
        ValueError: If one has a form that it must not have, or the block needs itself.
    """
    needs = dict.fromkeys(stored.bases)
    for base in stored.bases:
        if not store.has(base):
            raise BlockMissingError(base, f"block {stored.block_id[:12]}")
        info = store.info(base)
        further = stored.codec in FOLLOWERS and not any(store.info(one).needs for one in info.bases)
        if base == stored.block_id or (info.needs and not further):
            raise ValueError(
                f"block {stored.block_id[:12]} needs {base[:12]}, which is not stored on its own"
            )
        needs.update(dict.fromkeys(info.needs))
    return linked(stored, tuple(needs))


def linked(stored: StoredBlock, needs: tuple[BlockId, ...]) -> StoredBlock:
    """A block with all that it needs; the codec of a cast says whether its base needs blocks itself."""
    if needs == stored.needs:
        return stored
    cast = stored.codec in (CAST, RECAST)
    return replace(stored, needs=needs, codec=(RECAST if len(needs) > 1 else CAST) if cast else stored.codec)


def check_manifest_blocks(store: BlockLookup, manifest: Manifest) -> None:
    """Check that every block of a manifest is there, with the size that the manifest says.

    Raises:
        BlockMissingError: If one is not there.
        ValueError: If one has another size.
    """
    for piece in dict.fromkeys(manifest.pieces()):
        if not store.has(piece.block_id):
            raise BlockMissingError(piece.block_id, f"model {manifest.name}")
        actual = store.info(piece.block_id).raw_bytes
        if actual != piece.raw_bytes:
            raise ValueError(
                f"block {piece.block_id[:12]} has {actual} bytes, the manifest says {piece.raw_bytes}"
            )


def closed_blocks(store: BlockLookup, manifest: Manifest) -> tuple[BlockId, ...]:
    """Ids of a manifest's blocks in order, each one behind the blocks that it needs."""
    ordered: dict[BlockId, None] = {}
    for block_id in manifest.block_ids():
        needs = store.info(block_id).needs
        for need in reversed(needs):
            if len(needs) > 1:
                ordered.update(dict.fromkeys(reversed(store.info(need).needs)))
            ordered[need] = None
        ordered[block_id] = None
    return tuple(ordered)
