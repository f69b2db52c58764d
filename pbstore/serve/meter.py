"""What the rooms of a server tell of their work, for whoever counts it; the counters are in `http`."""

from typing import Protocol


class Meter(Protocol):
    """Counts what happens; cheap, and safe to call from any thread."""

    def block_requests(self, result: str, count: int = 1) -> None:
        """Blocks were asked for: `hit` here, fetched from a `peer` or `upstream`, or `missing` everywhere."""

    def fetched_bytes(self, source: str, num_bytes: int) -> None:
        """Payload bytes came in from a `peer` or `upstream`."""

    def evictions(self, count: int = 1) -> None:
        """Models or blocks were let go of to make room."""

    def peer_up(self, peer: str, up: bool) -> None:
        """A configured peer answers, or no longer does."""

    def integrity_failure(self, origin: str) -> None:
        """Bytes from `local`, or from the named peer, do not hash to what they should."""


class NoMeter:
    """Counts nothing."""

    def block_requests(self, result: str, count: int = 1) -> None:
        """See `Meter`."""

    def fetched_bytes(self, source: str, num_bytes: int) -> None:
        """See `Meter`."""

    def evictions(self, count: int = 1) -> None:
        """See `Meter`."""

    def peer_up(self, peer: str, up: bool) -> None:
        """See `Meter`."""

    def integrity_failure(self, origin: str) -> None:
        """See `Meter`."""
