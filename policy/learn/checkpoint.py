"""Weights on disk: a safetensors file, and beside it a JSON file that says where they come from."""

import csv
import json
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

from policy.errors import PolicyError

SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the weights that come with the package."""

Item = TypeVar("Item")
Arrays = dict[str, NDArray[Any]]
Tensors = dict[str, NDArray[np.float32]]


class CheckpointError(PolicyError):
    """A checkpoint is missing or is not one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Named arrays and their story."""

    tensors: Tensors
    """Weights by name, and the optimiser's state under `optimizer.`."""
    about: dict[str, Any]
    """Kind, seed, settings, versions, hash of the training traces, results."""


def part_of(arrays: Mapping[str, Item], prefix: str) -> dict[str, Item]:
    """What lies under a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    made = {name: metadata.version(name) for name in ("numpy", "scipy", "torch", "safetensors")}
    return {"python": platform.python_version(), **made}


def save_checkpoint(path: Path, tensors: Mapping[str, NDArray[Any]], about: dict[str, Any]) -> None:
    """Write `path` (.safetensors) and the JSON file beside it, each in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    save_file({name: np.require(value, requirements="C") for name, value in tensors.items()}, fresh)
    fresh.chmod(0o644)
    fresh.replace(path)
    fresh.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(path.with_suffix(".json"))


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
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from error
    return Checkpoint(tensors=tensors, about=about)


def write_log(path: Path, rows: Sequence[Any]) -> None:
    """Rows (dataclasses of one kind) as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
