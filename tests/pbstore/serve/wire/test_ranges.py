"""A Range header is read as RFC 9110 says, and never makes the server send more than the file."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.serve.wire.ranges import BadRangeError, multipart_heads, parse_ranges


@settings(max_examples=60)
@given(
    size=st.integers(0, 30),
    asked=st.lists(st.tuples(st.none() | st.integers(0, 40), st.none() | st.integers(0, 40)), max_size=4),
)
def test_ranges_are_those_bytes_of_the_file(size: int, asked: list[tuple[int | None, int | None]]) -> None:
    header = "bytes=" + ",".join(f"{'' if a is None else a}-{'' if b is None else b}" for a, b in asked)
    sensible = [a is not None or b is not None for a, b in asked]
    ordered = [a is None or b is None or a <= b for a, b in asked]
    if not asked or not all(sensible) or not all(ordered):
        assert parse_ranges(header, size) is None
        return
    wanted = []
    for first, last in asked:
        if first is None:
            picked = list(range(size))[-last:] if last else []
        else:
            picked = [at for at in range(size) if first <= at and (last is None or at <= last)]
        if picked:
            wanted.append(picked)
    if not wanted:
        with pytest.raises(BadRangeError):
            parse_ranges(header, size)
    elif sum(map(len, wanted)) > size:
        assert parse_ranges(header, size) is None
    else:
        assert [list(range(start, stop)) for start, stop in parse_ranges(header, size)] == wanted


NO_RANGES = (
    *(None, "", "bytes", "bytes=", "items=0-1", "bytes=a-b", "bytes=--1", "bytes=1--2", "bytes=0x1-2"),
    *("bytes=0-1;2", "bytes=" + "0-0," * 64 + "1-1", f"bytes={'9' * 30}-", "bytes=\u0661-\u0662"),
    "bytes=" + "," * 100,
)


@pytest.mark.parametrize("header", NO_RANGES)
def test_what_is_no_range_is_ignored(header: str | None) -> None:
    assert parse_ranges(header, 10) is None


def test_a_multipart_body_has_the_length_that_its_heads_say() -> None:
    heads, tail = multipart_heads([(0, 3), (5, 9)], 10, "text/plain", "B")
    body = heads[0] + b"012" + heads[1] + b"5678" + tail
    assert body == (
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-2/10\r\n\r\n012"
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-8/10\r\n\r\n5678\r\n--B--\r\n"
    )
