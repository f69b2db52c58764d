"""Byte ranges of files as parts of blocks."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry


class Span(NamedTuple):
    """A part of a block: bytes `start` to `stop`."""

    block_id: BlockId
    start: int
    stop: int


def spans_of(file: FileEntry, start: int, stop: int) -> Iterator[Span]:
    """The parts of blocks that bytes `start` to `stop` of a file are.

    Raises:
        ValueError: If the range is not one of the file.
    """
    if not 0 <= start <= stop <= file.size_bytes:
        raise ValueError(f"expected a range within 0..{file.size_bytes}, got {start}..{stop}")
    position = 0
    for block_id, size in file.pieces:
        first, last = max(start - position, 0), min(stop - position, size)
        if first < last:
            yield Span(block_id, first, last)
        position += size
        if position >= stop:
            return


def runs_of(spans: Iterable[Span], most_bytes: int) -> Iterator[Sequence[Span]]:
    """The same spans in runs of at most so many bytes, cut where they are longer."""
    run: list[Span] = []
    room = most_bytes
    for block_id, start, stop in spans:
        while start < stop:
            end = min(stop, start + room)
            run.append(Span(block_id, start, end))
            room -= end - start
            start = end
            if not room:
                yield run
                run, room = [], most_bytes
    if run:
        yield run


def groups_of(spans: Iterable[Span], most_bytes: int) -> Iterator[Sequence[Span]]:
    """The same spans, short ones together up to so many bytes; none is cut."""
    group: list[Span] = []
    held = 0
    for span in spans:
        length = span.stop - span.start
        if group and held + length > most_bytes:
            yield group
            group, held = [], 0
        group.append(span)
        held += length
    if group:
        yield group
