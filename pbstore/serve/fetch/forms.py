"""In which form blocks are asked for: coded, or raw where what the coded form needs would cost more.

A difference by itself is little, but who lacks its base must fetch that, too. Where nobody wants the base
otherwise, the block itself may be fewer bytes.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from pbstore.blocks import RAW, BlockInfo
from pbstore.hashing import BlockId
from pbstore.serve.wire.frames import frame_bytes

MOST_BASES = 20_000
"""Blocks of which it is remembered what their lack has cost."""
Price = Callable[[BlockInfo, Collection[BlockId]], int]
"""Bytes that a block counts for which is fetched only because some others need it."""


def raw_frame_bytes(info: BlockInfo) -> int:
    """Bytes of a block's frame if it is sent raw."""
    return frame_bytes(replace(info, stored_bytes=info.raw_bytes, codec=RAW, needs=()))


def cheaper_raw(
    wanted: Sequence[BlockId],
    infos: Mapping[BlockId, BlockInfo],
    price: Price = lambda info, _: frame_bytes(info),
) -> set[BlockId]:
    """Blocks that are fewer bytes raw than coded with what they need and nobody wants for itself.

    Blocks that need the same are decided on together.

    Args:
        wanted: The blocks.
        infos: Of them and of what they need and is missing; what else they need costs nothing.
        price: Of a block that is needed.
    """
    raw: set[BlockId] = set()
    for mine, extras in groups_of(wanted, infos):
        coded = sum(frame_bytes(infos[one]) for one in mine) + sum(price(infos[one], mine) for one in extras)
        if sum(raw_frame_bytes(infos[one]) for one in mine) < coded:
            raw |= mine
    return raw


def groups_of(
    wanted: Sequence[BlockId], infos: Mapping[BlockId, BlockInfo]
) -> Iterable[tuple[set[BlockId], set[BlockId]]]:
    """Wanted blocks that need something else, in groups that need the same; and what each group needs."""
    mine = set(wanted)
    group: dict[BlockId, list[BlockId]] = {}
    for block_id in wanted:
        extra = [need for need in infos[block_id].needs if need in infos and need not in mine]
        merged = [block_id, *extra] if extra else []
        for old in {id(group[one]): group[one] for one in extra if one in group}.values():
            merged += old
        group |= dict.fromkeys(merged, merged)
    for members in {id(one): one for one in group.values()}.values():
        yield set(members) & mine, set(members) - mine


class Credit:
    """What the lack of each base has cost so far, so that one is bought when it has cost as much as it is.

    It counts what blocks that came raw would have saved as differences. A block that is fetched again does
    not count for itself: it only tells that there was no room for it. So the first of a family costs no more
    than itself, and any number of them at most twice what they would have if all had been known at first.
    """

    def __init__(self) -> None:
        self._saved: OrderedDict[BlockId, dict[BlockId, int]] = OrderedDict()

    def price(self, info: BlockInfo, mine: Collection[BlockId]) -> int:
        """What is still to be paid for a base, for some blocks."""
        saved = self._saved.get(info.block_id, {})
        return max(0, frame_bytes(info) - sum(lost for one, lost in saved.items() if one not in mine))

    def choose(self, wanted: Sequence[BlockId], infos: Mapping[BlockId, BlockInfo]) -> set[BlockId]:
        """`cheaper_raw`, by what earlier choices have cost; this one is remembered."""
        raw = cheaper_raw(wanted, infos, self.price)
        for mine, extras in groups_of(wanted, infos):
            whole = sum(frame_bytes(infos[one]) for one in extras)
            for base in extras:
                saved = self._saved.pop(base, {})
                if mine <= raw:
                    for one in mine:
                        lost = raw_frame_bytes(infos[one]) - frame_bytes(infos[one])
                        saved[one] = max(0, lost) * frame_bytes(infos[base]) // whole
                    self._saved[base] = saved
        while len(self._saved) > MOST_BASES:
            self._saved.popitem(last=False)
        return raw
