"""`Range` headers and answers to them (RFC 9110, section 14)."""

import re
from collections.abc import Sequence

MOST_RANGES = 64
"""A request for more ranges is answered with the whole file."""
_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


class BadRangeError(ValueError):
    """No byte of what was asked for is in the file."""

    def __init__(self, header: str, size_bytes: int) -> None:
        super().__init__(header, size_bytes)
        self.header, self.size_bytes = header, size_bytes

    def __str__(self) -> str:
        return f"range {self.header[:80]!r} is outside of {self.size_bytes} bytes"


def parse_ranges(header: str | None, size_bytes: int) -> list[tuple[int, int]] | None:
    """The ranges that a header asks for, as start and stop (excluded); None for the whole file.

    As the standard has it, a header of another unit or form is ignored, and so are ranges outside of the file
    beside others inside. Ignored is also what would make the server work for nothing: many ranges, or ranges
    that overlap so much that they are more than the file.

    Raises:
        BadRangeError: If all ranges are outside of the file.
    """
    unit, _, text = (header or "").partition("=")
    parts = text.split(",", MOST_RANGES)
    matches = [_RANGE.fullmatch(part.strip()) for part in parts if part.strip()]
    if unit.strip().lower() != "bytes" or len(parts) > MOST_RANGES or not matches:
        return None
    found = []
    for match in matches:
        bounds = None if match is None else _bounds(match[1], match[2], size_bytes)
        if bounds is None:
            return None
        if bounds[0] < bounds[1]:
            found.append(bounds)
    if not found:
        raise BadRangeError(header or "", size_bytes)
    return found if sum(stop - start for start, stop in found) <= size_bytes else None


def _bounds(first: str, last: str, size_bytes: int) -> tuple[int, int] | None:
    """Start and stop of one range, empty if it is outside of the file; None if it says nothing sensible."""
    if not first:
        return (max(size_bytes - int(last), 0), size_bytes) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size_bytes) if last else size_bytes


def content_range(start: int, stop: int, size_bytes: int) -> str:
    """`Content-Range` of bytes `start` to `stop`."""
    return f"bytes {start}-{stop - 1}/{size_bytes}"


def multipart_heads(
    ranges: Sequence[tuple[int, int]], size_bytes: int, content_type: str, boundary: str
) -> tuple[list[bytes], bytes]:
    """What stands before each part of a `multipart/byteranges` body, and behind the last."""
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
        f"Content-Range: {content_range(start, stop, size_bytes)}\r\n\r\n".encode()
        for start, stop in ranges
    ]
    return heads, f"\r\n--{boundary}--\r\n".encode()
