"""How long tests of chance look: PBCAST_THOROUGH=5 makes it five times as long (`make test-thorough`)."""

import os

TIMES = int(os.environ.get("PBCAST_THOROUGH", "1"))
"""Rounds, examples and seeds of the slow tests are multiplied by it."""


def one_step_in(widest: int) -> int:
    """Each how manieth of all steps is tried: every one when `TIMES` is at least the widest stride."""
    return max(1, widest // TIMES)


def takes_slow(markers: str) -> bool:
    """Whether an expression of `pytest -m` takes slow tests, with the others or alone."""
    return not markers or "slow" in markers.replace("not slow", "")
