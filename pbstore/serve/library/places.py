"""Where the blocks of a file lie, once they were found: any range of it by two look-ups."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry
from pbstore.serve.library.library import Extent
from pbstore.serve.library.reading import RawBlock


class Places:
    """The raw blocks of one file that were opened so far."""

    def __init__(self, file: FileEntry) -> None:
        self.file = file
        sizes = [size for _, size in file.pieces]
        self._starts = list(accumulate(sizes, initial=0))
        self._blocks: list[RawBlock | None] = [None] * len(sizes)

    def extents(self, start: int, stop: int, is_good: Callable[[RawBlock], bool]) -> list[Extent] | None:
        """Where bytes `start` to `stop` lie; None if a block of them was not opened, or is no longer good."""
        found = []
        starts, blocks = self._starts, self._blocks
        for number in self._numbers(start, stop):
            block, begin, end = blocks[number], starts[number], starts[number + 1]
            if block is None or not is_good(block):
                return None
            first, last = start if start > begin else begin, stop if stop < end else end
            if first < last:
                found.append(block.extent(first - begin, last - begin))
        return found

    def block_ids(self, start: int, stop: int) -> list[BlockId]:
        """The blocks of bytes `start` to `stop`."""
        return [self.file.pieces[number].block_id for number in self._numbers(start, stop)]

    def note(self, start: int, blocks: Sequence[RawBlock]) -> None:
        """Remember opened blocks, the first being that of byte `start`."""
        numbers = iter(range(self._number(start), len(self._blocks)))
        for block in blocks:
            for number in numbers:
                if self.file.pieces[number][0] == block.location.record.block_id:
                    self._blocks[number] = block
                    break

    def _number(self, position: int) -> int:
        return max(bisect_right(self._starts, position) - 1, 0)

    def _numbers(self, start: int, stop: int) -> range:
        return range(
            self._number(start), bisect_right(self._starts, max(start, stop - 1)) if start < stop else 0
        )
