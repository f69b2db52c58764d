"""In which form to store a block: raw for hot models, the smallest that a trial finds for cold ones."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache

from pbstore.blocks import CAST, MAX_BLOCK_BYTES, RAW, RECAST, StoredBlock
from pbstore.codecs.choose import OPAQUE, Candidate, Derive, LoraCandidate, choose, is_cast
from pbstore.codecs.derive.evaluate import DERIVED
from pbstore.codecs.derive.factors import Grouped
from pbstore.codecs.sketch import Sketch, cast_keys, glance, sketch
from pbstore.codecs.types import TensorSpec
from pbstore.coding import STEPS, check_decodes, check_hash
from pbstore.disk.add.relatives import Relatives, Wanted
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, lora_pairs, names, similar, sketches
from pbstore.disk.index.sketches import CastKeys
from pbstore.errors import IntegrityError
from pbstore.formats.groups import is_group
from pbstore.hashing import BlockId, Buffer
from pbstore.store import raw_block

SHARED_FROM = 8 << 20
"""Blocks from this size on are coded by two threads."""
CANDIDATE_BYTES = 32 << 20
"""Raw bytes of candidates held at a time, beyond the first."""
RECIPES = frozenset({"cast", "rows", "lora", "grid", *DERIVED})
"""Codecs whose result is decoded and hashed when it is written: they rest on more than integer arithmetic."""
MOST_FURTHER = 64
"""What needs more other blocks is no base of a cast."""
FACTOR_BYTES = 16 << 20
"""Larger factors of an adapter are not tried."""


class Encoder:
    """Chooses a block's form within one store. Made and used under the writer's lock.

    `smallest` may run in several threads: it only reads the store, on the writer's connection, which sees
    what is not yet committed (SQLite serialises the calls).
    """

    def __init__(
        self,
        blocks: BlockReader,
        tx: Transaction,
        *,
        thorough: bool = False,
        alone: bool = False,
        spared: set[BlockId] | None = None,
    ) -> None:
        """Blocks that are looked at as bases go into `spared`; `alone`: no other block is looked at."""
        self._blocks, self._thorough, self._alone = blocks, thorough, alone
        self._spared = set() if spared is None else spared
        self._connection = tx.connection
        self._own_costs: dict[BlockId, float] = {}
        self._relatives = Relatives(blocks, tx, self._spared)
        self.may_be_casts = sketches.has_casts(tx.connection)
        """Whether a block may be a cast of one that needs others: there is one in the store, or will be.

        Several threads set it, none takes it back.
        """

    def smallest(
        self,
        block_id: BlockId,
        raw: Buffer,
        spec: TensorSpec | None,
        name: str | None = None,
        *,
        steps: int = STEPS,
        likely: sketches.Neighbour | None = None,
        text: BlockId | None = None,
        near: int | None = None,
        avoid: Iterable[BlockId] = (),
        newest: int = sketches.NO_LIMIT,
    ) -> tuple[StoredBlock, Sketch | CastKeys | None]:
        """Encode a block as small as a trial finds; the payload's memory may be given back to `buffers`.

        Args:
            block_id: Its id.
            raw: Its bytes.
            spec: Dtype and shape, None if it is no tensor.
            name: The tensor's name, where known: only to find an adapter that may have been merged into it.
            steps: Most steps to the last base: 0 for forms that need no other block, 1 for bases that do not.
            likely: A block that is tried as a base whatever else is found.
            text: What opaque bytes may be an edit of; a block that needs no other.
            near: Where in the store relatives are likely to be.
            avoid: Blocks that must not be bases.
            newest: Place of the last tensor that is looked at: threads find the same whenever they run.

        Returns:
            The encoded block, and by what it is found as a base, see `Noted`; None if it cannot be one.
        """
        steps = 0 if self._alone else steps
        bases: list[Candidate] = []
        loras: list[LoraCandidate] = []
        sources: list[tuple[Candidate, tuple[BlockId, ...]]] = []
        marked = None if spec is None or len(raw) < sketches.MIN_BYTES else spec
        keys = cast_keys(raw, marked) if marked is not None and steps else {}
        look = cache(lambda: None if marked is None else sketch(raw, marked))
        if spec is not None and steps:
            banned = {block_id, *avoid}
            if steps == STEPS and self.may_be_casts:
                sources = self._sources(sketches.cast_sources(self._connection, keys, spec, newest), banned)
            exact = [one for one in sources if is_cast(raw, spec, one[0])]
            if exact:  # nothing can be smaller
                sources = exact[:1]
            else:
                guessed = None if likely is None else self._guessed(likely)
                clear = guessed is not None and similar.is_near(raw, spec, guessed[0])
                found = (
                    () if clear else self._similar(look(), newest) or self._group(name, spec, near, newest)
                )
                wanted = dict.fromkeys([*found, *([] if likely is None else [likely.block_id])])
                bases = self._candidates([i for i in wanted if i not in banned], guessed and guessed[1])
                loras = self._loras(name, spec, bases)
        if text is not None and steps and text not in {block_id, *avoid}:
            bases = self._opaque(text)
        asked = Wanted(block_id, raw, spec, name, steps, newest, frozenset(avoid))
        with self._relatives.of(asked, bases, near) as relatives:
            candidates = [*bases, *(source for source, _ in sources)]
            stored = self._encoded(asked, candidates, loras, relatives.derive, relatives.held)
        if stored.codec in DERIVED:
            stored = replace(stored, needs=relatives.all_needs(stored.needs))
        if stored.codec == CAST:
            needs = {source[0]: further for source, further in sources}.get(stored.needs[0])
            if needs:
                stored = replace(stored, codec=RECAST, needs=(*stored.needs, *needs))
        if stored.needs:
            self.may_be_casts = True
            if spec is not None and len(spec.shape) > 1:
                self._relatives.last = self._relatives.place_of(stored.needs[0])
        return stored, keys if stored.needs else look()

    def _encoded(
        self,
        wanted: Wanted,
        bases: Sequence[Candidate],
        loras: Sequence[LoraCandidate],
        derive: Derive,
        more: Mapping[BlockId, Buffer],
    ) -> StoredBlock:
        """The smallest form over some bases, checked where it is a recipe; lets go of the bases' memory."""
        block_id, raw = wanted.block_id, wanted.raw
        parts = [*bases, *(part for lora in loras for part in (lora.weight, lora.down, lora.up))]
        held = {part_id: part_raw for part_id, part_raw, _ in parts}
        encoded = choose(
            raw,
            wanted.spec,
            bases,
            loras=loras,
            derive=derive,
            own_costs=self._own_costs,
            thorough=self._thorough,
            workers=_workers(len(raw)),
            take=self._blocks.buffers.take,
        )
        if encoded.codec == RAW:
            self._give_back(held)
            return raw_block(raw, block_id)
        needs = tuple(BlockId(need) for need in encoded.needs)
        stored = StoredBlock(
            block_id=block_id, raw_bytes=len(raw), codec=encoded.codec, payload=encoded.payload, needs=needs
        )
        if stored.codec in RECIPES:
            check_decodes(stored, [held[need] if need in held else more[need] for need in stored.needs])
        self._give_back(held)
        return stored

    def _give_back(self, held: dict[BlockId, Buffer]) -> None:
        """Let the memory of bases be used again."""
        for memory in held.values():
            self._blocks.buffers.give(memoryview(memory))

    def _similar(self, found: Sketch | None, newest: int) -> list[BlockId]:
        """Blocks that may be bases by their content, the likeliest first."""
        return [] if found is None else similar.similar(self._connection, found, self._look_at, newest)

    def _group(self, name: str | None, spec: TensorSpec, near: int | None, newest: int) -> list[BlockId]:
        """Of a group of tiny tensors, the last one that was called so: versions that changed everywhere."""
        if name is None or not is_group(name) or spec.num_bytes < sketches.MIN_BYTES:
            return []
        return [one.block_id for one in names.named(self._connection, name, near, newest, 1)]

    def _look_at(self, block_id: BlockId) -> Sketch | None:
        """Values of a block's sketch, from its bytes."""
        candidate = self._candidate(block_id, CANDIDATE_BYTES)
        return None if candidate is None else glance(*candidate[1:])

    def _guessed(self, likely: sketches.Neighbour) -> tuple[Sketch | None, Candidate | None]:
        """What is known of a guessed base; of a small one, its bytes."""
        known = similar.kept(likely.sketch)
        if known is None or known.has_values:
            return known, None
        candidate = self._candidate(likely.block_id, CANDIDATE_BYTES)
        return (None, None) if candidate is None else (glance(*candidate[1:]), candidate)

    def _candidates(self, ids: Sequence[BlockId], ready: Candidate | None = None) -> list[Candidate]:
        """Bytes of the blocks that may be bases, within a budget; damaged ones are left out."""
        chosen: list[Candidate] = []
        left = CANDIDATE_BYTES
        for block_id in ids:
            if ready is not None and block_id == ready[0]:
                chosen.append(ready)
            elif (candidate := self._candidate(block_id, left if chosen else MAX_BLOCK_BYTES)) is not None:
                left -= len(candidate[1]) if chosen else 0
                chosen.append(candidate)
        return chosen

    def _sources(
        self, ids: Sequence[BlockId], banned: set[BlockId]
    ) -> list[tuple[Candidate, tuple[BlockId, ...]]]:
        """Blocks that this one may be a cast of though they need others, and what they need."""
        chosen: list[tuple[Candidate, tuple[BlockId, ...]]] = []
        for block_id in ids:
            known = locations.find_many_as_writer(self._connection, [block_id])
            spec = sketches.spec_of(self._connection, block_id)
            info = known[block_id].info if block_id in known else None
            if spec is None or info is None or spec.num_bytes != info.raw_bytes:
                continue
            if any(known[base].record.needs for base in info.bases if base in known):
                continue
            if len(info.needs) > MOST_FURTHER or not banned.isdisjoint((block_id, *info.needs)):
                continue
            self._spared.update(known)
            with suppress(IntegrityError):
                raw = self._blocks.get_unchecked(block_id, _workers(info.raw_bytes), known)
                check_hash(block_id, raw)
                chosen.append(((block_id, raw, spec), info.needs))
        return chosen

    def _candidate(self, block_id: BlockId, limit: int) -> Candidate | None:
        """A block that is stored on its own; None if it is too large, damaged, a delta or no tensor."""
        found = locations.find_tensor(self._connection, block_id)
        if found is None:
            return None
        (location, dtype, shape), record = found, found[0].record
        if record.codec not in locations.ALONE or record.raw_bytes > limit:
            return None
        if record.codec != RAW:
            self._own_costs[block_id] = record.stored_bytes / max(1, record.raw_bytes)
        self._spared.add(block_id)
        try:
            spec = sketches.as_spec(dtype, shape)
            raw = self._blocks.get_alone(location, _workers(record.raw_bytes))
            return (block_id, raw, spec) if spec.num_bytes == len(raw) else None
        except IntegrityError:
            return None

    def _opaque(self, block_id: BlockId) -> list[Candidate]:
        """Opaque bytes that others may be an edit of; none if they are damaged."""
        self._spared.add(block_id)
        known = locations.find_many_as_writer(self._connection, [block_id])
        with suppress(IntegrityError):
            raw = self._blocks.get_unchecked(block_id, 1, known)
            check_hash(block_id, raw)
            return [(block_id, raw, TensorSpec(OPAQUE, (len(raw),)))]
        return []

    def _loras(self, name: str | None, spec: TensorSpec, bases: list[Candidate]) -> list[LoraCandidate]:
        """Adapters that may have been merged into this weight, on its likeliest bases."""
        if name is None or len(spec.shape) != 2:
            return []
        weights = [base for base in bases if base[2].shape == spec.shape][:2]
        loras = []
        for pair in lora_pairs.find_pairs(self._connection, name) if weights else []:
            ids = dict.fromkeys((pair.down.block_id, pair.up.block_id))
            held = {block_id: self._candidate(block_id, FACTOR_BYTES) for block_id in ids}
            down, up = held[pair.down.block_id], held[pair.up.block_id]
            if down is not None and up is not None:
                rank = max(pair.down.rank, pair.up.rank)
                group = Grouped(pair.down.offset, pair.up.offset, rank) if rank else None
                loras += [LoraCandidate(weight, down, up, pair.scale, group) for weight in weights]
        return loras


def _workers(num_bytes: int) -> int:
    return 2 if num_bytes >= SHARED_FROM else 1
