"""Which worlds are for training, which for tuning, which for the final report. Seeds never overlap.

`test` was looked at more than once and serves to make published figures anew; `held-out` is for results that
are played once. What was looked at is on record, see `policy.world.looks`.
"""

from typing import Literal, get_args

Split = Literal["train", "validation", "test", "held-out"]

WORLDS_PER_SPLIT = 500_000
"""Size of each split; more worlds than this are refused."""


def world_seed(split: Split, index: int) -> int:
    """Seed of the `index`-th world of a split: 500,000 for each, in the order of their names above.

    Train what learns on `train`, tune and look at results on `validation`; `held-out` is for final reports.

    Raises:
        ValueError: If there is no such split or world.
    """
    names = get_args(Split)
    if split not in names:
        raise ValueError(f"split must be one of {', '.join(names)}, got {split!r}")
    if not 0 <= index < WORLDS_PER_SPLIT:
        raise ValueError(f"a split has worlds 0..{WORLDS_PER_SPLIT - 1}, got {index}")
    return names.index(split) * WORLDS_PER_SPLIT + index
