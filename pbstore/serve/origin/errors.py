"""What can be wrong with an origin.

PBStoreError
└── OriginError               (exit code 1) an origin cannot be used, or not in this way
├── UnfitEndpointError    the endpoint does not do what an origin is built on
├── LeaseLostError        a writer was away for so long that a collection took its lease over
└── RecordError           (exit code 3) an object of an origin is not what its key says
"""

from typing import ClassVar

from pbstore.errors import PBStoreError


class OriginError(PBStoreError):
    """An origin cannot be used, or not in this way."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url, self.why = url, why

    def __str__(self) -> str:
        return f"origin {self.url}: {self.why}"


class UnfitEndpointError(OriginError):
    """The endpoint does not do what an origin is built on."""

    def __str__(self) -> str:
        return f"origin {self.url} cannot be used: {self.why}"


class LeaseLostError(OriginError):
    """A collection took the lease of a writer over that had been silent for too long."""

    def __init__(self, url: str, writer: str) -> None:
        super().__init__(url, writer)
        self.writer = writer

    def __str__(self) -> str:
        return (
            f"origin {self.url}: the lease of this writer ({self.writer}) ran out and was taken over: "
            "nothing was published, push again"
        )


class RecordError(OriginError):
    """An object of an origin is not what its key says."""

    exit_code: ClassVar[int] = 3

    def __init__(self, key: str, why: str) -> None:
        super().__init__(key, why)
        self.key = key

    def __str__(self) -> str:
        return f"object {self.key} of the origin: {self.why}"
