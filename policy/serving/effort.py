"""How long the plan of a slot is searched."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long is searched: a number of plans, never a time, so that a slot is always served alike."""

    rounds: int = 3
    """Rounds of changes."""
    share: float = 1.0
    """Of `Kind.steps`, the changes tried in a round."""
    most_cells: int = 250_000
    """Numbers that one round of a level works on; fewer changes are tried where slots are large."""
