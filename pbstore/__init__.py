"""A content-hashed, deduplicating store of parameter blocks.

Names are loaded when they are first asked for, so that `import pbstore` stays fast and imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbstore.blocks import BlockInfo, StoredBlock
    from pbstore.checkpoint import lazy_model, load_adapter, load_model, load_state_dict
    from pbstore.disk.opening import open_store
    from pbstore.disk.store import DiskBlockStore
    from pbstore.errors import (
        BadFileError,
        BlockCorruptError,
        BlockInUseError,
        BlockMissingError,
        CapacityError,
        CheckpointError,
        CodecError,
        EvictGoalError,
        FileCorruptError,
        HubError,
        IndexCorruptError,
        IntegrityError,
        ManifestError,
        ManifestLostError,
        ModelExistsError,
        ModelMissingError,
        ModelUnreachableError,
        MountError,
        NotAStoreError,
        NotWeightsError,
        PackCorruptError,
        PBStoreError,
        PlanOutdatedError,
        RevisionInTrashError,
        RevisionInUseError,
        RevisionMissingError,
        ServerStartError,
        SourceChangedError,
        StoreLockedError,
        UnsafeDeletionError,
    )
    from pbstore.folders.ingest import AddReport
    from pbstore.hashing import BlockId, hash_block
    from pbstore.manifest import FileEntry, Manifest
    from pbstore.savings import Savings
    from pbstore.store import BlockStore, MemoryBlockStore

__all__ = [
    "AddReport",
    "BadFileError",
    "BlockCorruptError",
    "BlockId",
    "BlockInUseError",
    "BlockInfo",
    "BlockMissingError",
    "BlockStore",
    "CapacityError",
    "CheckpointError",
    "CodecError",
    "DiskBlockStore",
    "EvictGoalError",
    "FileCorruptError",
    "FileEntry",
    "HubError",
    "IndexCorruptError",
    "IntegrityError",
    "Manifest",
    "ManifestError",
    "ManifestLostError",
    "MemoryBlockStore",
    "ModelExistsError",
    "ModelMissingError",
    "ModelUnreachableError",
    "MountError",
    "NotAStoreError",
    "NotWeightsError",
    "PBStoreError",
    "PackCorruptError",
    "PlanOutdatedError",
    "RevisionInTrashError",
    "RevisionInUseError",
    "RevisionMissingError",
    "Savings",
    "ServerStartError",
    "SourceChangedError",
    "StoreLockedError",
    "StoredBlock",
    "UnsafeDeletionError",
    "hash_block",
    "lazy_model",
    "load_adapter",
    "load_model",
    "load_state_dict",
    "open_store",
]

_MODULES = (
    "hashing",
    "blocks",
    "errors",
    "manifest",
    "store",
    "disk.opening",
    "folders.ingest",
    "savings",
    "checkpoint",
)


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"pbstore.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'pbstore' has no attribute {name!r}")
