"""What torch pickles hold, read by torch's weights-only loader: nothing in them is run.

A checkpoint of weights has tensors by name, perhaps inside wrappers ({"state_dict": ...}, {"model": ...}).
Its own loader takes these off, and so are the names here. States of trainers (optimisers, random states) hold
tensors too, and are no weights.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbstore.errors import CheckpointError, NotWeightsError
from pbstore.formats.lookalike import HEAD_BYTES, what_it_is

if TYPE_CHECKING:
    import torch

ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pth.tar", ".pt.tar")
"""How files of torch.save are called."""
_BAD_PICKLE = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    AttributeError,
    TypeError,
)
_MAGICS = (b"PK\x03\x04", b"\x80\x02")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "params", "weights")
_STATES = re.compile(
    r"(optimizer|scheduler|rng_state|random_states|scaler|sampler|training_args|mp_rank_|(bf16_|fp16_)?zero_)"
    r"|.*_(model|optim)_states\.pt$"
)
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|rng|sampler|callbacks|loops", re.IGNORECASE)
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class PickledWeights:
    """The tensors of a file, by name, and the names of what else it holds."""

    tensors: dict[str, torch.Tensor]
    left_out: tuple[str, ...]


def is_pickle_name(path: str) -> bool:
    """Whether a file is called as files of torch.save are."""
    return path.endswith(ENDINGS)


def read_pickle(path: Path) -> PickledWeights:
    """The weights in a file of torch.save.

    Raises:
        NotWeightsError: If it is a file of another kind, the state of a trainer, or holds no weights by name.
        CheckpointError: If it is damaged, or asks for code.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if _STATES.match(path.name):
        raise NotWeightsError(f"{path.name}: the state of a trainer")
    if not head.startswith(_MAGICS):
        really = what_it_is(head, path.stat().st_size) or "a file of another kind"
        raise NotWeightsError(f"{path.name}: expected a file of torch.save, got {really}")
    tree = _load(path)
    if not isinstance(tree, Mapping) or not _has_weights("", tree):
        raise NotWeightsError(f"{path.name}: holds no tensors by name")
    left_out: list[str] = []
    tensors = dict(_flatten(_unwrapped(tree, left_out), left_out))
    return PickledWeights(tensors, tuple(left_out))


def _load(path: Path) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _BAD_PICKLE as error:
        raise CheckpointError(f"{path.name}: refused by the weights-only loader: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """What torch found, without its advice to load the file all the same."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = next((line.strip() for line in lines if "GLOBAL" in line), lines[0])
    return found.removeprefix("WeightsUnpickler error: ").partition(". Please use ")[0][:200]


def _unwrapped(tree: Mapping[Any, Any], left_out: list[str]) -> Mapping[Any, Any]:
    """What is inside the wrappers of a state dict; what stands beside it is left out, and named."""
    for _ in range(_MAX_DEPTH):
        inside = [
            key for key, value in tree.items() if isinstance(value, Mapping) and _has_weights(key, value)
        ]
        if any(_is_weight(value) for value in tree.values()) or not inside:
            return tree
        wrapper = next((key for key in _WRAPPERS if key in inside), inside[0] if len(inside) == 1 else None)
        if wrapper is None:
            left_out += [str(key) for key in tree if key not in inside]
            return {key: tree[key] for key in inside}
        left_out += [str(key) for key in tree if key != wrapper]
        tree = tree[wrapper]
    return tree


def _has_weights(key: object, tree: Mapping[Any, Any], depth: int = 0) -> bool:
    if _NO_WEIGHTS.search(str(key)) or "param_groups" in tree or depth > _MAX_DEPTH:
        return False
    return any(
        _has_weights(name, value, depth + 1) if isinstance(value, Mapping) else _is_weight(value)
        for name, value in tree.items()
    )


def _is_weight(value: object) -> bool:
    """Whether something is a tensor that a model may have: no counter, and no state of a random generator."""
    import torch

    return (
        isinstance(value, torch.Tensor) and value.ndim > 0 and (value.is_floating_point() or value.ndim > 1)
    )


def _flatten(
    tree: Mapping[Any, Any], left_out: list[str], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, torch.Tensor):
            yield name, value.detach()
        elif isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from _flatten(value, left_out, name + ".", depth + 1)
        else:
            left_out.append(name)
