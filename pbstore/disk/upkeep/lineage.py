"""Which model each one comes from: the base that it is bound to, else the one with most in common.

A few tensors in common make no relation: unrelated models share zeros, ones, masks and tables of positions.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from pbstore.disk.models import Models
from pbstore.disk.upkeep.little import says_little
from pbstore.disk.upkeep.overview import Entry, Overview
from pbstore.hashing import BlockId

KIN_SHARE = 0.1
"""So much of a model's tensor bytes must be copies of another one's, or stored against it."""


class Lineage:
    """The parent of each model; a later revision of a model is of its own line.

    Args:
        models: The store, which is read where a block may say little.
        overview: What is in it.
    """

    def __init__(self, models: Models, overview: Overview) -> None:
        self._models, self._overview = models, overview
        self._by_weights: dict[str, str] = {}
        self._says_little: dict[bytes, bool] = {}
        self.parents: dict[str, str] = {}
        """Model -> the model that it comes from, of those that come from one."""
        self._children: dict[str, list[str]] | None = None
        self._names = {entry.name for entry in overview.entries}
        for entry in overview.entries:
            if entry.row.weights:
                self._by_weights.setdefault(entry.row.weights, entry.name)
        names: set[str] = set()
        for entry in overview.entries:
            if entry.name not in names:
                names.add(entry.name)
                parent = self._parent_of(entry, names)
                if parent is not None:
                    self.parents[entry.name] = parent

    def root(self, name: str) -> str:
        """The first of a model's line."""
        seen = {name}
        while (parent := self.parents.get(name)) is not None and parent not in seen:
            name = parent
            seen.add(name)
        return name

    def children(self, name: str) -> list[str]:
        """Models that come from one, sorted."""
        if self._children is None:
            self._children = {}
            for child, parent in self.parents.items():
                self._children.setdefault(parent, []).append(child)
        return sorted(self._children.get(name, []))

    def _parent_of(self, entry: Entry, older: set[str]) -> str | None:
        parent = self._bound_to(entry)
        if parent is None:
            parent = self._most_in_common(entry, older)
        return None if parent == entry.name else parent

    def _bound_to(self, entry: Entry) -> str | None:
        """The base that it is bound to, by content, else by name."""
        if entry.base_name is None:
            return None
        known = self._by_weights.get(entry.base_weights or "")
        return known or (entry.base_name if entry.base_name in self._names else None)

    def _most_in_common(self, entry: Entry, older: set[str]) -> str | None:
        votes: Counter[str] = Counter()
        total = 0
        overview = self._overview
        for key in (key for file in entry.files for key in file.tensors):
            size = overview.facts(key).raw_bytes
            total += size
            bringers = {overview.brought_by[one].name for one in self._kin(key) if one in overview.brought_by}
            bringers = bringers & older - {entry.name}
            if bringers and not self._is_little(key):
                votes.update(dict.fromkeys(bringers, size))
        ((kin, most),) = votes.most_common(1) or [("", 0)]
        return kin if most and most >= KIN_SHARE * total else None

    def _kin(self, key: bytes) -> tuple[bytes, ...]:
        return key, *self._overview.needs.get(key, ())

    def _is_little(self, key: bytes) -> bool:
        if key not in self._says_little:
            self._says_little[key] = says_little(self._models, BlockId(key.hex()))
        return self._says_little[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """A model and what comes from it."""

    name: str
    children: tuple["Kin", ...] = ()
    more: int = 0
    """Further models that come from it, which are not told one by one."""


def kin_of(models: Models, name: str) -> Kin:
    """The line of a model, from its root: its ancestors, and all that comes from it; siblings are counted."""
    lineage = Lineage(models, Overview.of(models))
    chain = [name]
    while (parent := lineage.parents.get(chain[-1])) is not None and parent not in chain:
        chain.append(parent)
    kin = _below(lineage, name, frozenset(chain))
    for below, parent in pairwise(chain):
        others = len(lineage.children(parent)) - (below in lineage.children(parent))
        kin = Kin(name=parent, children=(kin,), more=others)
    return kin


def _below(lineage: Lineage, name: str, above: frozenset[str]) -> Kin:
    children = [child for child in lineage.children(name) if child not in above]
    return Kin(name=name, children=tuple(_below(lineage, child, above | {child}) for child in children))
