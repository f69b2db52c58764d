"""Weights on disk: a safetensors file, and beside it a JSON file that says where they come from."""

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from policy.errors import DivergedError, PolicyError
from policy.kept import differences, replace_text

SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the weights that come with the package."""

OWN = "PBCAST_WEIGHTS"
"""Environment variable: checkpoints to play instead of the shipped ones, split like a PATH."""

Item = TypeVar("Item")
Arrays = dict[str, NDArray[Any]]
Tensors = dict[str, NDArray[np.float32]]


class CheckpointError(PolicyError):
    """A checkpoint is missing or is not one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Named arrays, and where they come from."""

    tensors: Tensors
    """Weights by name, and the optimiser's state under `optimizer.`."""
    about: dict[str, Any]
    """Kind, seed, settings, versions, hash of the training traces, results."""


def part_of(arrays: Mapping[str, Item], prefix: str) -> dict[str, Item]:
    """What lies under a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def own_weights() -> list[Path]:
    """Checkpoints that the environment names."""
    return [Path(item) for item in os.environ.get(OWN, "").split(os.pathsep) if item]


def use_weights(paths: Sequence[Path]) -> None:
    """Let schemes of this process, and of those it starts, play these checkpoints.

    Raises:
        CheckpointError: If one is missing or damaged.
    """
    for path in paths:
        load_checkpoint(path)
    if paths:
        os.environ[OWN] = os.pathsep.join(str(path.resolve()) for path in paths)


def weights_of(kind: str) -> Path:
    """The checkpoint to play for what a trainer calls `kind`: the user's own, else the shipped one.

    Raises:
        CheckpointError: If one of the user's own is no checkpoint.
    """
    own = [path for path in own_weights() if load_checkpoint(path).about.get("kind") == kind]
    return own[-1] if own else SHIPPED / f"{kind.removesuffix('-demand')}.safetensors"


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    packages = {name: metadata.version(name) for name in ("numpy", "scipy", "torch", "safetensors")}
    return {"python": platform.python_version(), **packages}


def save_checkpoint(path: Path, tensors: Mapping[str, NDArray[Any]], about: dict[str, Any]) -> None:
    """Write `path` (.safetensors) and the JSON file beside it, each in one move.

    Raises:
        DivergedError: If a number is none: NaN or infinite weights are never kept.
    """
    refuse_diverged(tensors, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    save_file({name: np.require(value, requirements="C") for name, value in tensors.items()}, fresh)
    fresh.chmod(0o644)
    fresh.replace(path)
    replace_text(path.with_suffix(".json"), json.dumps(about, indent=2, sort_keys=True) + "\n")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        CheckpointError: If one of the two files is missing or damaged.
    """
    try:
        tensors = load_file(path)
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}: {error}") from error
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path.with_suffix('.json')} does not say where a checkpoint comes from")
    refuse_diverged(tensors, path)
    return Checkpoint(tensors=tensors, about=about)


def refuse_diverged(tensors: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Raise DivergedError if a weight is NaN or infinite."""
    for name, value in tensors.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise DivergedError(f"{path}: weights {name} are not finite numbers; training has diverged")


def check_resumable(
    path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any], longer: set[str]
) -> None:
    """Whether a run can go on from a checkpoint: with the same settings, or more of what says how long.

    Args:
        path: The checkpoint, for the message.
        there: Settings it was made with.
        wanted: Settings to go on with.
        longer: Fields that may have grown.

    Raises:
        ValueError: Says which fields differ.
    """
    new = json.loads(json.dumps(wanted))
    grown = {key for key in longer if key in there and there[key] <= new[key]}
    there, new = ({key: side[key] for key in side if key not in grown} for side in (there, new))
    other = differences(there, new)
    if other:
        raise ValueError(f"{path} was made with other {', '.join(other)}")


def write_log(path: Path, rows: Sequence[Any]) -> None:
    """Rows (dataclasses of one kind) as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
