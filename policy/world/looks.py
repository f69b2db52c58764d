"""The record of held-out worlds that were looked at: a result on worlds seen before is not held out.

`looks.json` beside this file lists every look. Whoever plays `held-out` worlds adds one, and is refused
worlds of the same scenario that stand there already. Commit the changed file with the results.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from policy.kept import write_json
from policy.world.splits import Split

LOOKS = Path(__file__).parent / "looks.json"
"""The record that comes with the package."""
ANY = "*"
"""Stands for all scenarios."""


class LookedAtError(ValueError):
    """Worlds that should be new were looked at before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a range of worlds."""

    split: str
    first_world: int
    """Number of the first world in its split."""
    worlds: int
    """How many."""
    scenario: str
    """Name of the scenario; `*` for any."""
    scenario_sha256: str
    """Digest of scenario and catalog; `*` for any."""
    when: str
    """Day, ISO 8601."""
    what: str
    """What was played: schemes, or a command."""

    def sees(self, split: Split, first_world: int, worlds: int, scenario_sha256: str) -> bool:
        """Whether any of a range of worlds was part of this look."""
        apart = first_world + worlds <= self.first_world or self.first_world + self.worlds <= first_world
        same = self.scenario_sha256 in (ANY, scenario_sha256)
        return self.split == split and same and not apart

    def __str__(self) -> str:
        last = self.first_world + self.worlds - 1
        return f"{self.split} {self.first_world}..{last} of {self.scenario} on {self.when} ({self.what})"


def read_looks(path: Path = LOOKS) -> tuple[Look, ...]:
    """All looks on record, oldest first; none if there is no record yet.

    Raises:
        ValueError: If the file is not such a record.
    """
    if not path.is_file():
        return ()
    try:
        return tuple(Look(**row) for row in json.loads(path.read_text(encoding="utf-8"))["looks"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a record of looks: {error}") from error


def past_looks(
    split: Split, first_world: int, worlds: int, scenario_sha256: str, path: Path = LOOKS
) -> tuple[Look, ...]:
    """Looks on record at any of a range of worlds of a scenario."""
    return tuple(look for look in read_looks(path) if look.sees(split, first_world, worlds, scenario_sha256))


def check_unseen(
    split: Split, first_world: int, worlds: int, scenario_sha256: str, path: Path = LOOKS
) -> None:
    """Refuse held-out worlds that were looked at.

    Raises:
        LookedAtError: If a look at any of them is on record; says which one, and what to do.
    """
    past = past_looks(split, first_world, worlds, scenario_sha256, path)
    if split == "held-out" and past:
        fresh = max(look.first_world + look.worlds for look in past)
        raise LookedAtError(
            f"these worlds are not held out any more: {past[-1]}; take others (first world {fresh}), "
            "or play them again as seen ones"
        )


def record_look(look: Look, path: Path = LOOKS) -> None:
    """Add a look to the record."""
    write_json(path, {"looks": [asdict(each) for each in (*read_looks(path), look)]})


def scheme_list(names: Sequence[str]) -> str:
    """What was played, for a look: all names, cut at 300 characters."""
    text = ", ".join(names)
    return text if len(text) <= 300 else f"{text[:297]}..."
