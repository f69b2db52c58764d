"""Units of placement that fit: blocks cut into byte ranges where one would fill a node."""

from dataclasses import dataclass, replace

import numpy as np

from policy.interfaces import BlockCatalog, BlockForms, Int


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """A catalog whose blocks are ranges of another's."""

    catalog: BlockCatalog
    block: Int
    """Block of the other catalog that each range is of, (ranges,)."""
    index: Int
    """Its place among the block's ranges, (ranges,)."""
    count: Int
    """Ranges of that block, (ranges,)."""


def in_ranges(catalog: BlockCatalog, most_bytes: float) -> Ranges:
    """Cut every block that is larger, in any of its forms, into the fewest ranges that are not.

    Range i of k of a block of S bytes is bytes S i // k to S (i + 1) // k. All ranges of a block have its
    members and need all ranges of what it needs; where blocks have forms, its ranges travel in one form.

    Args:
        catalog: Blocks.
        most_bytes: Most bytes of a range, >= 1.

    Raises:
        ValueError: If `most_bytes` is below 1.
    """
    if not most_bytes >= 1:
        raise ValueError(f"a range has at least 1 byte, got at most {most_bytes}")
    forms, sizes = catalog.forms, catalog.sizes_bytes
    largest = sizes if forms is None else np.maximum(sizes, forms.alone_bytes)
    smallest = sizes if forms is None else np.minimum(sizes, forms.alone_bytes)
    count = np.minimum(np.ceil(largest / most_bytes).astype(np.int64), smallest)
    block = np.repeat(np.arange(sizes.size), count)
    first = np.cumsum(count) - count
    index = np.arange(block.size) - first[block]
    pairs = [
        (first[j] + a, first[i] + b)
        for j, i in catalog.requires.tolist()
        for a in range(count[j])
        for b in range(count[i])
    ]
    names = [
        catalog.block_names[j] if count[j] == 1 else f"{catalog.block_names[j]}[{i}/{count[j]}]"
        for j, i in zip(block.tolist(), index.tolist(), strict=True)
    ]
    cut = replace(
        catalog,
        sizes_bytes=_cut(sizes[block], index, count[block]),
        members=catalog.members[:, block],
        block_names=tuple(names),
        requires=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        forms=forms
        and BlockForms(
            alone_bytes=_cut(forms.alone_bytes[block], index, count[block]),
            content=forms.content[:, block],
            together=forms.together[block],
        ),
    )
    return Ranges(cut, block, index, count[block])


def _cut(sizes: Int, index: Int, count: Int) -> Int:
    return np.asarray(sizes * (index + 1) // count - sizes * index // count)
