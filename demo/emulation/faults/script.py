"""A script of faults: what breaks, where, when, and when it is mended. Checked when it is read."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

PHASES = ("decide", "ask", "serve")
"""Parts of a slot: nodes fill their caches; users ask and nodes report; blocks move and are sent."""
FAULTS = ("die", "lose-disk", "cut-off", "corrupt", "clock")
"""`die`: the role ends at once, and comes back to its disk; `lose-disk`: to an empty one; `cut-off`: it lives
and reaches nobody; `corrupt`: bytes on its disk change; `clock`: its clock of the day steps."""
_MENDED = ("die", "lose-disk", "cut-off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault."""

    what: str
    place: str
    """`node N`, `device N` or `origin`."""
    slot: int
    phase: str = "serve"
    after_s: float = 0.0
    """Since the phase began, s."""
    back_after_s: float = 0.5
    """Until what broke is started or connected again, s; of `die`, `lose-disk` and `cut-off`."""
    seconds: float = 3600.0
    """How far a `clock` steps, s."""

    def __post_init__(self) -> None:
        kind, _, number = self.place.partition(" ")
        is_place = self.place == "origin" or (kind in ("node", "device") and number.isdigit())
        checks = (
            (self.what in FAULTS, f"what must be one of {', '.join(FAULTS)}, got {self.what!r}"),
            (is_place, f"place must be `node N`, `device N` or `origin`, got {self.place!r}"),
            (self.phase in PHASES, f"phase must be one of {', '.join(PHASES)}, got {self.phase!r}"),
            (self.slot >= 0, f"slot must be >= 0, got {self.slot}"),
            (
                self.place != "origin" or self.what in ("die", "cut-off"),
                "the origin can die or be cut off only",
            ),
        )
        for good, text in checks:
            if not good:
                raise ValueError(text)
        for name in ("after_s", "back_after_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be >= 0 and finite, got {getattr(self, name)}")

    @property
    def is_mended(self) -> bool:
        """Whether it ends by something that is done, not by itself."""
        return self.what in _MENDED


def read_script(path: Path) -> tuple[Fault, ...]:
    """The faults of a TOML or JSON file: a list `fault` of tables with the fields of `Fault`.

    Raises:
        ValueError: If it is no such file; with the number of the fault that is wrong.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid {path.suffix[1:] or 'TOML'}: {error}") from None
    rows = tree.get("fault") if isinstance(tree, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{path} must have a list `fault` of tables, got {str(tree)[:60]!r}")
    return tuple(_fault(row, f"{path}, fault {number + 1}") for number, row in enumerate(rows))


def _fault(row: object, where: str) -> Fault:
    known = {item.name: item.type for item in fields(Fault)}
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be a table, got {row!r:.60}")
    if unknown := set(row) - set(known):
        raise ValueError(f"{where} has no field {sorted(unknown)[0]!r}; it may have {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in row.items():
        good = isinstance(value, str) if known[name] is str else _is_number(value, known[name] is int)
        if not good:
            raise ValueError(f"{where}: {name} must be a {_TYPES[known[name]]}, got {value!r:.60}")
        values[name] = value
    try:
        return Fault(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


_TYPES: Mapping[Any, str] = {str: "text", int: "whole number", float: "number"}


def _is_number(value: object, whole: bool) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def random_script(seed: int, slots: int, nodes: int, users: int, count: int = 3) -> tuple[Fault, ...]:
    """Some faults drawn by a seed; no more nodes are gone at a time than leave one."""
    rng = np.random.default_rng([seed, 11])
    places = [f"node {n}" for n in range(1, nodes)] + [f"device {k}" for k in range(users)] + ["origin"]
    drawn = []
    for _ in range(count):
        place = str(rng.choice([*places, "node 0"]))
        kinds = ("die", "cut-off") if place == "origin" else FAULTS
        drawn.append(
            Fault(
                what=str(rng.choice(kinds)),
                place=place,
                slot=int(rng.integers(slots)),
                phase=str(rng.choice(PHASES)),
                after_s=float(rng.uniform(0.0, 0.2)),
                back_after_s=float(rng.uniform(0.1, 1.0)),
                seconds=float(rng.uniform(-1e5, 1e5)),
            )
        )
    return tuple(sorted(drawn, key=lambda one: (one.slot, PHASES.index(one.phase), one.after_s)))
