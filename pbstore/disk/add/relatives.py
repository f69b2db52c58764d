"""Stored tensors that a new one may be derived from, beyond those that its sketch finds.

Further parents are looked for among the differences to the first one and among tensors of its name, by a
few exact elements that the index keeps of each: none is read that does not fit. What no sketch shows (other
dtypes, quantised, transposed, scaled) is found by what models call it. Edits change most tensors of a model:
when the first searches of an add find nothing, few others are made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pbstore.blocks import MAX_BLOCK_BYTES
from pbstore.codecs.choose import Candidate
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import FLOAT_DTYPES, Parent, Proposal, plain
from pbstore.codecs.derive.joined import joined
from pbstore.codecs.derive.probes import (
    UNKNOWN,
    begins_a_row,
    holding,
    lies_along,
    likely,
    unlikeness,
    values_of,
)
from pbstore.codecs.derive.search import CLEAR, MIN_ELEMENTS, search
from pbstore.codecs.sketch import probe
from pbstore.codecs.types import CodecError, TensorSpec
from pbstore.coding import check_hash
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, names, sketches
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId, Buffer

TRIES = 2
"""Searches of an add that may find nothing, beyond one for each `TRY_BYTES` that it codes."""
TRY_BYTES = 32 << 20
PATIENCE = 3
"""Searches that may fail after one that did not, before they count."""
LOOKED_AT = 64
"""Tensors of the same name whose probes are looked at."""
ELSEWHERE = 16
"""Of these, those whose elements are looked for in other places: a tensor that holds none is not read."""
FIRST_PARENTS, MOST_PARENTS = 2, 6
"""Tensors of the same name that are read: while none was right yet, and after."""
UNLIKE_COST = 0.5
"""A base that leaves more of the bytes may be the wrong one."""
SMALL_BYTES = 4096
"""A search of less that finds nothing is not counted."""
FUSED_COST = 0.1
"""A base that leaves more may be but a part of a tensor, or hold it as one."""
PARENT_BYTES = 64 << 20
"""Raw bytes of parents held at a time, beyond the first."""
MOST_NEEDS = 64


class Wanted(NamedTuple):
    """A block that is to be encoded; see `Encoder.smallest`."""

    block_id: BlockId
    raw: Buffer
    spec: TensorSpec | None
    name: str | None
    steps: int
    newest: int
    avoid: frozenset[BlockId]


class Relatives:
    """Finds parents within one store, and remembers where the last ones were. For one thread at a time."""

    def __init__(self, blocks: BlockReader, tx: Transaction, spared: set[BlockId]) -> None:
        self._blocks, self._connection, self._spared = blocks, tx.connection, spared
        self._tx, self._looked_at = tx, tx.looked_at
        self._left = float(TRIES)
        self._credit = 0
        self.any_named = False
        """Whether there were tensors of the name that was looked for last."""
        self.places: list[int] = []
        """Where the parents of the last derived block came into the store."""
        self.last: int | None = None
        """Where the first need of the last tensor with rows did."""

    @contextmanager
    def of(self, wanted: Wanted, bases: Sequence[Candidate], near: int | None) -> Iterator["Search"]:
        """A search for one block; parents that it read are let go of at its end."""
        self._left += len(wanted.raw) / TRY_BYTES
        found = Search(self, wanted, bases, near)
        try:
            yield found
        finally:
            self._looked_at.clear()
            for memory in found.held.values():
                self.give_back(memory)

    def give_back(self, memory: Buffer) -> None:
        """Let the memory of a parent be used again."""
        self._blocks.buffers.give(memoryview(memory))

    @property
    def may_search(self) -> bool:
        """Whether there is time for a search."""
        return self._credit > 0 or self._left >= 1

    def learn(self, proposals: Sequence[Proposal], *, small: bool) -> None:
        """Note what a search found; a small tensor in which nothing was costs next to no time."""
        if not proposals and small:
            return
        if not proposals:
            self._left -= not self._credit
            self._credit = max(0, self._credit - 1)
            return
        self._credit = PATIENCE
        self._spared.update(self._looked_at)
        numbers = [self.place_of(parent.block_id) for parent in proposals[0].parents]
        if None not in numbers:
            self.places = [number for number in numbers if number is not None]

    def place_of(self, block_id: BlockId) -> int | None:
        """Where a tensor came into the store."""
        return sketches.number_of(self._connection, block_id)

    def named(self, wanted: Wanted, spec: TensorSpec, near: int | None, limit: int) -> list[BlockId]:
        """Tensors with the same name: those that are most like it, then those nearest to a place.

        Of a scale, tensors with the name of what it belongs to.
        """
        if wanted.name is None:
            return []
        weight = names.owner(wanted.name)
        found = names.named(self._connection, weight or wanted.name, near, wanted.newest, LOOKED_AT)
        self.any_named = bool(found)
        if weight is not None:
            limit = MOST_PARENTS
            found.sort(key=lambda one: one.dtype not in FLOAT_DTYPES)
        mine = probe(wanted.raw, spec)
        if mine is None or weight is not None:
            return [one.block_id for one in found[:limit]]
        gaps = {one.block_id: unlikeness(mine, spec.dtype, one.probe, one.dtype) for one in found}
        found.sort(key=lambda one: gaps[one.block_id])
        like = [one for one in found if gaps[one.block_id] < UNKNOWN][:limit]
        others = [one for one in found if gaps[one.block_id] >= UNKNOWN][:ELSEWHERE]
        if len(like) < limit and others:
            held = holding(wanted.raw, spec.dtype, [(one.probe, one.dtype) for one in others])
            like += [one for one, holds in zip(others, held, strict=True) if holds]
        return [one.block_id for one in like[:limit]]

    def siblings(self, wanted: Wanted, spec: TensorSpec, first: Parent) -> list[BlockId]:
        """Likely further parents: those that probes tell of, else where the last ones lead to."""
        rows = names.family(self._connection, first.block_id, spec, wanted.name, wanted.newest)
        mine, base = probe(wanted.raw, spec), probe(first.raw, first.spec)
        if mine is not None and base is not None:
            values, before = values_of(mine, spec.dtype), values_of(base, first.spec.dtype)
            if values is None or before is None:
                return []
            others = [(one.block_id, values_of(one.probe or b"", one.dtype)) for one in rows]
            known = [(one, held) for one, held in others if held is not None and one != first.block_id]
            return likely(values, before, known, spec.dtype)
        at = self.place_of(first.block_id)
        found: dict[BlockId, None] = {}
        for other in self.places[1:]:
            found.update(dict.fromkeys(self.named(wanted, spec, other, 1)))
            near = other if at is None else other + at - self.places[0]
            found.update(dict.fromkeys(names.around(self._connection, near, spec, wanted.newest)))
        return list(found)

    def beside(
        self, wanted: Wanted, spec: TensorSpec, near: int | None, bases: Sequence[BlockId]
    ) -> list[BlockId]:
        """Tensors of which this one may be joined, or a part: near a place or bases, or made of these."""
        led = [*self.places, *([] if self.last is None else [self.last])]
        places = [*led, near, *(self.place_of(base) for base in bases)]
        for base in bases:
            made = names.children(self._connection, base, spec, wanted.newest)
            places += [next((one.number for one in made if _gives_rows(wanted.raw, spec, one)), None)]
        found: dict[BlockId, bool] = {}
        for place in dict.fromkeys(place for place in places if place is not None):
            for one in names.beside(self._connection, place, spec, wanted.newest):
                if one.block_id not in found:
                    whole = one.number in led and one.spec.num_elements > spec.num_elements
                    found[one.block_id] = whole or _gives_rows(wanted.raw, spec, one)
        return [block_id for block_id, fits in found.items() if fits][:MOST_PARENTS]

    def parent(
        self, block_id: BlockId, wanted: Wanted, limit: int
    ) -> tuple[Parent, tuple[BlockId, ...]] | None:
        """A block as a parent, and what it needs; None if it cannot be one."""
        known = locations.find_many_as_writer(self._connection, [block_id])
        spec = sketches.spec_of(self._connection, block_id)
        spec = None if spec is None else plain(spec)
        if spec is None or block_id not in known:
            return None
        record = known[block_id].record
        deep = any(known[one].record.needs for one in record.needs if one in known)
        if record.raw_bytes > limit or len(record.needs) > MOST_NEEDS or deep:
            return None
        if (record.needs and wanted.steps < 2) or not {wanted.block_id, *wanted.avoid}.isdisjoint(
            (block_id, *record.needs)
        ):
            return None
        self._tx.has_looked = True
        self._looked_at.update(known)
        with suppress(IntegrityError):
            raw = self._blocks.get_unchecked(block_id, 1, known)
            check_hash(block_id, raw)
            return Parent(block_id, raw, spec), record.needs
        return None


def _gives_rows(raw: Buffer, spec: TensorSpec, other: names.Beside) -> bool:
    """Whether a tensor seems to have rows of another one, which may be the longer one."""
    if other.spec.dtype not in FLOAT_DTYPES:
        return False
    shorter = other.spec.num_elements < spec.num_elements
    return (shorter and begins_a_row(raw, spec, other.probe, other.spec)) or lies_along(
        raw, spec, other.probe, other.spec
    )


class Search:
    """What may predict one block."""

    def __init__(
        self, relatives: Relatives, wanted: Wanted, bases: Sequence[Candidate], near: int | None
    ) -> None:
        self._relatives, self._wanted, self._near = relatives, wanted, near
        known = ((block_id, raw, plain(spec)) for block_id, raw, spec in bases)
        self._bases = [Parent(block_id, raw, spec) for block_id, raw, spec in known if spec is not None]
        self._further: dict[BlockId, tuple[BlockId, ...]] = {}
        self._known: dict[BlockId, Parent] = {}
        self.held: dict[BlockId, Buffer] = {}
        """Bytes of the parents that were read here."""

    def derive(self, cost: float) -> Sequence[Proposal]:
        """Programs worth a trial, where the best other form leaves this share of the bytes."""
        spec = None if self._wanted.spec is None else plain(self._wanted.spec)
        if spec is None or not self._wanted.steps or spec.num_elements < MIN_ELEMENTS:
            return ()
        if not self._relatives.may_search:
            return ()
        case = Case(memoryview(self._wanted.raw).cast("B"), spec)
        found = self._search(case, self._bases) if self._bases else []
        tried = bool(self._bases)
        if not found and (cost > UNLIKE_COST or not self._bases):
            ids = self._named(spec)
            named = self._read(ids, len(ids))
            found = self._search(case, named)
            found = self._better(case, found, [one for one in ids if one not in self._known])
            tried |= self._relatives.any_named
        if cost > FUSED_COST and (not found or case.shares[found[0]] < CLEAR):
            found = self._fused(case, found)
        if tried:
            self._relatives.learn(found, small=spec.num_bytes < SMALL_BYTES)
        return found

    def _fused(self, case: Case, found: list[Proposal]) -> list[Proposal]:
        """Programs over tensors that lie near its relatives, if these give more of it."""
        spec = case.spec
        fits = [
            one
            for one in self._bases
            if one.spec.num_elements != spec.num_elements and one.spec.shape[-1:] == spec.shape[-1:]
        ]
        if len(spec.shape) < 2 or any(map(case.follows, case.alike(self._bases))):
            return found
        known = [parent.block_id for parent in fits]
        ids = [
            one
            for one in self._relatives.beside(self._wanted, spec, self._near, known[:1])
            if one not in known
        ]
        with suppress(CodecError):
            more = joined(case, [*fits, *self._read(ids, len(ids))]) if ids else None
            if more is not None and (not found or case.shares[more] > case.shares[found[0]]):
                return [more]
        return found

    def _better(self, case: Case, found: list[Proposal], ids: Sequence[BlockId]) -> list[Proposal]:
        """Programs over parents for which there was no room, one by one, while none gives all of a tensor.

        A fine-tune that is rounded is nearly what its base is: which one it was shows in few elements.
        """
        for block_id in ids:
            best = case.shares[found[0]] if found else 0.0
            if best > CLEAR:
                break
            kept = {parent.block_id for parent in found[0].parents} if found else set()
            for other in set(self.held) - kept:
                self._relatives.give_back(self.held.pop(other))
                del self._known[other]
            more = self._search(case, self._read([block_id], 1))
            better = bool(more) and case.shares[more[0]] > best
            found = more if better else found[:1]
        return found

    def _search(self, case: Case, parents: Sequence[Parent]) -> list[Proposal]:
        with suppress(CodecError):  # it would break a limit of the grammar
            return search(case, parents, lambda first: self._others(first, case.spec))
        return []

    def all_needs(self, parents: Sequence[BlockId]) -> tuple[BlockId, ...]:
        """Parents, and what they need."""
        needs = dict.fromkeys(parents)
        for parent in parents:
            needs.update(dict.fromkeys(self._further.get(parent, ())))
        return tuple(needs)

    def _named(self, spec: TensorSpec) -> list[BlockId]:
        """Tensors of the same name, as many as may be read."""
        places = self._relatives.places
        near = places[0] if places else self._near
        return self._relatives.named(self._wanted, spec, near, MOST_PARENTS if places else FIRST_PARENTS)

    def _others(self, first: Parent, spec: TensorSpec) -> list[Parent]:
        """Tensors that a parent may have been merged with."""
        known = {parent.block_id for parent in self._bases} | {first.block_id}
        ids = self._relatives.siblings(self._wanted, spec, first)
        return self._read([one for one in ids if one not in known], MOST_PARENTS)

    def _read(self, ids: Sequence[BlockId], most: int) -> list[Parent]:
        found: list[Parent] = []
        left = PARENT_BYTES
        for block_id in ids:
            if len(found) == most:
                break
            if block_id in self._known:
                found.append(self._known[block_id])
                continue
            got = self._relatives.parent(block_id, self._wanted, left if found else MAX_BLOCK_BYTES)
            if got is not None:
                parent, self._further[block_id] = got
                self._known[block_id], self.held[block_id] = parent, parent.raw
                left -= len(parent.data)
                found.append(parent)
        return found
