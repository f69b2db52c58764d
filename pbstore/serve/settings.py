"""What a server is set to."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Limits and habits of one server."""

    part_bytes: int = 1 << 20
    """Bytes of a file that are read and sent at a time."""
    decoded_bytes: int = 256 << 20
    """Most memory that holds decoded blocks of cold models between requests."""
    readers: int = 4
    """Threads that look things up and read."""
    decoders: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads that decode: one for each core, however many clients read."""
    ahead_bytes: int = 16 << 20
    """Bytes of blocks that are decoded ahead for one client; always the block that is sent and one more."""
    all_ahead_bytes: int = 256 << 20
    """The same for all clients together; beyond, each has the block that is sent to it alone."""
    trust_s: float = 600.0
    """How long a raw block that was found right is read without being hashed again, s."""
    page_entries: int = 1000
    """Files of a model that one page of its tree lists."""
    plain_bytes: int = 16 << 10
    """Files of at least this size, and all weights, are LFS and Xet files; smaller ones are plain."""
    hash_wait_s: float = 5.0
    """How long an answer waits for hashes of large files before it goes without them, s."""
    public_url: str | None = None
    """Address that clients know the server by, where it is not the one that they ask at."""
    token_s: float = 3600.0
    """How long a token or a signed address is good, s."""

    def __post_init__(self) -> None:
        for name in ("part_bytes", "readers", "decoders", "page_entries", "token_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in (
            "decoded_bytes",
            "ahead_bytes",
            "all_ahead_bytes",
            "plain_bytes",
            "trust_s",
            "hash_wait_s",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
