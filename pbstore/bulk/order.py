"""Which models to add first: what others say they were made from, then what may be merged, then the rest.

Bytes do not tell which of two relatives was there first, and a merged adapter is found only if the adapter is
there. What configurations say of bases is a hint for the order, nothing else depends on it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

HINTS = {"adapter_config.json": "base_model_name_or_path", "config.json": "_name_or_path"}
"""Where a model says what it was made from; a fine-tune's configuration often has where its base lay."""
_MOST_BYTES = 1 << 20


class Orderable(Protocol):
    """What is known of a model that is to be added."""

    @property
    def name(self) -> str:
        """What it will be filed as."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def files(self) -> tuple[str, ...] | None:
        """Its files, if others in the folder are none of its."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter."""


M = TypeVar("M", bound=Orderable)


def in_order(models: Sequence[M]) -> list[M]:
    """Bases that others name, each behind its own; adapters of these; other models; other adapters."""
    hints = [_hint(model) for model in models]
    called: dict[str, int] = {}
    for number, model in enumerate(models):
        if not model.is_adapter:
            called.setdefault(_last(model.name), number)
            if model.files is None:
                called[_last(model.folder.name)] = number
    bases = [called.get(hint) if hint else None for hint in hints]
    bases = [None if base == number else base for number, base in enumerate(bases)]
    named = {base for base in bases if base is not None}

    def rank(number: int) -> tuple[int, int]:
        if number in named:
            return 0, _depth(bases, number)
        if models[number].is_adapter:
            return (3 if bases[number] is None else 1), 0
        return 2, 0

    return [models[number] for number in sorted(range(len(models)), key=rank)]


def _depth(bases: Sequence[int | None], number: int) -> int:
    """How many bases of bases a model has; as many as there are models where they go in a circle."""
    depth, at = 0, bases[number]
    while at is not None and depth < len(bases):
        depth, at = depth + 1, bases[at]
    return depth


def _hint(model: Orderable) -> str | None:
    """The last part of the name or path of what a model was made from, as its configuration says."""
    if model.files is not None:
        return None
    for name, key in HINTS.items():
        path = model.folder / name
        try:
            if path.is_file() and path.stat().st_size <= _MOST_BYTES:
                said = json.loads(path.read_bytes()).get(key)
                return _last(said) if isinstance(said, str) and said else None
        except (OSError, ValueError, AttributeError, RecursionError):
            return None
    return None


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()
