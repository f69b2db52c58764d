"""How hard the fast solver tries: stages of runs, each for the rows that are still too far from proven."""

from dataclasses import dataclass

import numpy as np

from radio.types import FloatArray

__all__ = [
    "DEFAULT_EFFORT",
    "QUICK_EFFORT",
    "SINGLE_EFFORT",
    "TOUCH_EFFORT",
    "WARM_EFFORT",
    "WIDE_EFFORT",
    "Effort",
    "SoftStage",
    "Stage",
]

_SOFT_WORK = 3.2e7
"""Products of a user's channel and a beam that a soft stage may take for a row: bounds its starts."""
_FEWEST_STARTS = 8
_LOW, _HIGH = 0.04, 5.0
"""Sharpness of the soft minimum at which the first and the last start begin."""
_CROWDED = 0.25
"""Gap that many users an antenna leave: the long soft stage at once, nothing else comes close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Runs of the fixed point for the rows whose gap is above a tolerance."""

    tolerance: float
    """A row is done once 1 - achieved / bound is at most this."""
    starts: int
    """Random starts."""
    steps: int
    """Iterations of each."""
    near: bool = False
    """Start in the span of the relaxation's beam and from its weights."""
    polish: int = 0
    """Iterations that the best of the starts go on alone, from their weights: cheaper than more for all."""
    polish_length: float = 0.2
    """Of their steps; 0 goes all the way, which is faster at first but keeps all nodes at full power."""
    keep: int = 1
    """How many of the starts are polished."""
    settle: int = 0
    """Interior-point steps of these, instead of or after the polish."""
    most_gap: float = np.inf
    """Rows with a larger gap are left to the next stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftStage:
    """Ascents on the soft minimum from random beams: what finds good beams when users are many."""

    tolerance: float
    """A row is done once 1 - achieved / bound is at most this."""
    starts: int
    """Random starts, at most; fewer for large problems."""
    pace: float
    """Steps for one unknown and one user an antenna: they grow with the root of either, see `steps`."""
    keep: int = 4
    """How many of the starts go on to the sharp end."""
    polish: int = 30
    """Steps there."""
    most_gap: float = np.inf
    """Rows with a larger gap are left to the next stage."""
    sure: float = 0.0
    """Rows with at most this gap take part only if the last soft stage brought them something."""

    def steps(self, num_users: int, size: int) -> int:
        """Steps for `size` antennas in all: more unknowns and more users want a slower rise of sharpness."""
        return int(self.pace * np.sqrt(min(num_users, 2 * size) * min(num_users / size, 4.0))) + 8

    def num_starts(self, num_users: int, size: int) -> int:
        """Starts within the work allowed."""
        most = _SOFT_WORK / (self.steps(num_users, size) * num_users * size)
        return min(self.starts, max(_FEWEST_STARTS, int(most)))

    def first_sharpness(self, num_users: int, size: int) -> FloatArray:
        """Where each start begins, (starts,): most of them low, where maxima are few and good."""
        share = np.linspace(0.0, 1.0, self.num_starts(num_users, size)) ** 1.5
        return np.asarray(_LOW * (_HIGH / _LOW) ** share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try."""

    stages: tuple[Stage | SoftStage, ...]
    """In turn; the first is for every row, and of the fixed point."""
    first: int = 0
    """Interior-point steps after the first stage, which prove single rows sooner than more of its runs."""
    prove_tolerance: float = 1.5e-3
    """Gap above which a row gets the relaxation's bound."""
    bound_steps: int = 60
    """Iterations of the relaxation for rows that the first stage does not prove."""
    bound_tolerance: float = 3e-3
    """Rows whose relaxation is worse than this after them get more, then the interior-point bound."""
    bound_attempts: int = 2
    """Runs of the relaxation, each twice as long, before the interior point."""
    finish: int = 16
    """Interior-point steps, at most, that take the best beam of each row to a local optimum."""
    finish_tolerance: float = 1.5e-3
    """Rows with at most this gap are not worth them."""
    finish_residual: float = 3e-4
    """A row is done once its KKT residual is at most this."""
    past_saddles: bool = True
    """Rows still far from it ascend the soft minimum a little and take the steps again."""


DEFAULT_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=4, steps=40, polish=60, polish_length=0.0),
        Stage(tolerance=1.5e-3, starts=4, steps=60, near=True, polish=40, polish_length=0.4),
        Stage(tolerance=1.5e-2, starts=8, steps=60, near=True, polish=30, keep=4, most_gap=_CROWDED),
        SoftStage(tolerance=1.5e-2, starts=12, pace=6.0, keep=1, most_gap=_CROWDED),
        SoftStage(tolerance=4e-2, starts=64, pace=8.0, sure=_CROWDED),
    )
)
"""For one column. Measured in `radio/README.md`."""
WIDE_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=2, steps=30, polish=60, polish_length=0.0),
        Stage(tolerance=3e-4, starts=4, steps=60, near=True, polish=80),
        Stage(tolerance=1.5e-2, starts=8, steps=80, near=True, polish=100, keep=2),
        SoftStage(tolerance=1.5e-2, starts=16, pace=8.0),
    ),
    prove_tolerance=3e-4,
)
"""For more columns, which can come closer to the bound."""
QUICK_EFFORT = Effort(stages=(Stage(tolerance=0.0, starts=4, steps=60),), finish=0, prove_tolerance=1.0)
"""For inner loops, with certify="none": about a tenth of a millisecond a row, no proof."""
SINGLE_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=8, steps=24),
        Stage(tolerance=1.5e-3, starts=16, steps=24, near=True, most_gap=_CROWDED),
        Stage(tolerance=1.5e-2, starts=64, steps=24, keep=6, settle=6, most_gap=_CROWDED),
        SoftStage(tolerance=_CROWDED, starts=48, pace=4.0, keep=4),
    ),
    first=5,
    bound_tolerance=2e-2,
    bound_attempts=1,
)
"""For one column and one broadcast a call, where a step costs the same for one start and for many."""
WARM_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=4, steps=20),
        Stage(tolerance=1.5e-2, starts=16, steps=24, near=True, most_gap=_CROWDED),
    ),
    first=5,
    bound_steps=40,
    bound_tolerance=2e-2,
    bound_attempts=1,
    finish=5,
    finish_residual=1e-3,
    past_saddles=False,
)
"""For beams that are known to be good, as of the last slot."""
TOUCH_EFFORT = Effort(stages=(Stage(tolerance=0.0, starts=1, steps=3),), first=6, finish_residual=1e-3)
"""For the same with certify="none": they are polished, and that is all."""
