"""Ours as trained with other seeds: two files of weights each, beside the shipped ones of seed 0."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from policy.learn.checkpoint import CheckpointError
from policy.play.scheme import SchemeEntry
from policy.schemes import find_scheme
from policy.schemes.learned import learned_from, start_of_files

OURS = "learned"
"""With the weights that are shipped: seed 0."""


def weight_files(folder: Path, seed: int) -> tuple[Path, Path]:
    """Demand network, and clock and trade-offs, of a seed."""
    names = (f"augur-seed-{seed}", f"decisions-seed-{seed}")
    return folder / f"{names[0]}.safetensors", folder / f"{names[1]}.safetensors"


def seed_entries(folder: Path, seeds: int) -> tuple[SchemeEntry, ...]:
    """Ours of seeds 1 to `seeds` - 1, as `learned-1` and so on; seed 0 is `learned` itself.

    Each draws from a generator of its own while it plays, too. Finished episodes are kept under a hash of
    the files' content.

    Raises:
        CheckpointError: If a file is missing (all that are, in one line) or not what its name says.
    """
    files = {seed: weight_files(folder, seed) for seed in range(1, seeds)}
    both = [part for pair in files.values() for path in pair for part in (path, path.with_suffix(".json"))]
    missing = [str(path) for path in both if not path.is_file()]
    if missing:
        raise CheckpointError(f"weights of {seeds} training seeds are wanted, missing: {', '.join(missing)}")
    for pair in files.values():
        learned_from(*pair)
    entry = find_scheme(OURS)
    return tuple(
        replace(entry, name=f"{OURS}-{seed}", start=partial(start_of_files, *pair))
        for seed, pair in files.items()
    )


def digests(folder: Path, seeds: int) -> dict[str, str]:
    """SHA-256 of each file of weights that `seed_entries` plays, by name."""
    paths = [path for seed in range(1, seeds) for path in weight_files(folder, seed)]
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths}


def seeds_in(names: Sequence[str]) -> list[str]:
    """Which of some schemes are ours, seed 0 first."""
    head = f"{OURS}-"
    own = [name for name in names if name.startswith(head) and name.removeprefix(head).isdecimal()]
    return [OURS, *sorted(own, key=lambda name: int(name.removeprefix(head)))]
