"""How much one client may ask of a server, and for how long."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Limits against slow, greedy and broken clients. Their defaults are far above what Hub clients do."""

    connections: int = 1024
    """Most open connections; one more is answered 503 at once."""
    requests: int = 256
    """Most requests that are worked on at a time; one more is answered 503 with `Retry-After`."""
    pipelined: int = 16
    """Most requests of one connection that may wait behind one that is worked on."""
    headers: int = 100
    """Most headers of a request, as Apache (LimitRequestFields)."""
    head_bytes: int = 1 << 16
    """Most bytes of a request's head; the longest seen of hf-xet are signed addresses of some 400 bytes."""
    head_s: float = 10.0
    """Time in which a request's head must be whole, s."""
    body_bytes: int = 16 << 20
    """Most bytes of a request's body, where the route does not say otherwise."""
    body_s: float = 30.0
    """How much longer than the slowest client that is waited for a body may take in all, s."""
    stall_s: float = 30.0
    """Time in which the next `least_bytes_s * stall_s` bytes of an answer must be read, s."""
    least_bytes_s: int = 1024
    """Slowest client that is waited for, bytes/s."""
    watch_s: float = 1.0
    """How often a connection is looked at, s."""
    grace_s: float = 30.0
    """Time that downloads have to end in when the server is stopped, s."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"{one.name} must be > 0, got {value!r}")
