"""Where the bytes went."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Bytes of a store's models, step by step from plain copies to what lies on the disk."""

    models: int
    blocks: int
    raw_bytes: int
    """All files of all models, as plain copies."""
    file_dedup_bytes: int
    """Each distinct file once."""
    block_dedup_bytes: int
    """Each distinct block once, raw."""
    stored_bytes: int
    """Payloads of those blocks, as they are stored."""
    orphan_bytes: int
    """Payloads that no model needs; a gc frees them."""
    disk_bytes: int
    """What the store's folder occupies on the disk."""
    trash_bytes: int = 0
    """Payloads that only models in the trash name."""
    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)
    """Codec -> blocks, raw_bytes, stored_bytes."""

    @property
    def ratio(self) -> float:
        """Bytes on the disk per raw byte; 0 for an empty store."""
        return self.disk_bytes / self.raw_bytes if self.raw_bytes else 0.0
