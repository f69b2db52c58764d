"""Copying models between stores: only the blocks that are missing, in their coded form.

What ends a transfer, a kill too, costs at most what was on its way: the next one finds what is there already.
Blocks are durable a batch at a time, and a model is filed when all of its blocks are there.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.errors import BlockMissingError, ModelExistsError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.serve.fetch.forms import cheaper_raw, raw_frame_bytes
from pbstore.serve.fetch.source import CutShortError, GivesRaw, Sink, Source, SourceError
from pbstore.serve.fetch.take import in_order_of_needs
from pbstore.serve.wire.frames import Partial, frame_bytes

BATCH_BYTES = 16 << 20
"""So many payload bytes are made durable at a time."""
BATCH_BLOCKS = 512
ROUNDS = 4
"""How often what is missing is looked for: a source may break off, a gc take what no model names yet."""
Progress = Callable[[int], None]
_Give = Callable[[Sequence[BlockId], Partial | None], AsyncGenerator[StoredBlock, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """What a transfer of one model brings, or has brought."""

    name: str
    dry_run: bool
    blocks: int
    """Blocks that were not there."""
    sent_bytes: int
    """What these blocks are on the wire, with their heads."""
    kept_blocks: int
    """Blocks of the model that were there already."""
    raw_bytes: int
    """Of the model's files."""
    was_there: bool
    """Whether the model was filed there already."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be sent."""

    raw: list[BlockId]
    """Blocks that are sent raw, first of all."""
    order: list[BlockId]
    """Blocks that are sent in their coded form."""
    infos: dict[BlockId, BlockInfo]
    kept: int

    @property
    def all(self) -> list[BlockId]:
        return [*self.raw, *self.order]

    @property
    def sent_bytes(self) -> int:
        coded = sum(frame_bytes(self.infos[block_id]) for block_id in self.order)
        return coded + sum(raw_frame_bytes(self.infos[block_id]) for block_id in self.raw)


async def transfer(
    name: str,
    source: Source,
    sink: Sink,
    *,
    filed: Manifest | None = None,
    planned: set[BlockId] | None = None,
    bases_follow: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy one model.

    Args:
        name: The model.
        source: Where it is.
        sink: Where it goes.
        filed: What the sink has under this name, if anything.
        planned: In a dry run: blocks that the models before this one would have brought; those of this one
            come to be among them. Nothing is sent then.
        bases_follow: Whether models whose blocks these need are copied as well: then nothing is sent raw.
        progress: Called with the payload bytes of blocks that have come to be durable.

    Raises:
        ModelMissingError: If the source has no such model.
        ModelExistsError: If the sink has another one under its name.
        BlockMissingError: If the source does not have all of the model's blocks.
        BlockCorruptError: If a block does not decode to its id.
        SourceError: If one of the two cannot be reached any more.
    """
    manifest = await source.manifest(name)
    if filed is not None and filed != manifest:
        raise ModelExistsError(name)
    plan = await _plan(manifest, source, sink, planned or (), bases_follow)
    report = TransferReport(
        name=name,
        dry_run=planned is not None,
        blocks=len(plan.all),
        sent_bytes=plan.sent_bytes,
        kept_blocks=plan.kept,
        raw_bytes=manifest.raw_bytes,
        was_there=filed is not None,
    )
    if planned is not None:
        planned.update(plan.all)
    else:
        await _send(manifest, plan, source, sink, progress)
    return report


async def filed_manifest(place: Source, name: str) -> Manifest | None:
    """What a place has under a name."""
    try:
        return await place.manifest(name)
    except ModelMissingError:
        return None


async def _plan(
    manifest: Manifest,
    source: Source,
    sink: Sink,
    planned: Collection[BlockId] = (),
    bases_follow: bool = False,
) -> _Plan:
    """The blocks that the sink does not have, each behind what it needs and the sink does not have either."""
    ids = manifest.block_ids()
    there = await sink.has(ids) | {one for one in ids if one in planned}
    infos = await source.infos([one for one in ids if one not in there])
    if missing := [one for one in ids if one not in there and one not in infos]:
        raise BlockMissingError(missing[0], f"model {manifest.name}")
    needs = {need for info in infos.values() for need in info.needs} - set(infos) - there - set(planned)
    needs -= await sink.has(needs)
    infos |= await source.infos(sorted(needs))
    wanted = [one for one in ids if one not in there]
    raw = cheaper_raw(wanted, infos) if isinstance(source, GivesRaw) and not bases_follow else set()
    coded = [one for one in wanted if one not in raw]
    order = in_order_of_needs(coded, {one: info.needs for one, info in infos.items() if one not in raw})
    return _Plan([one for one in wanted if one in raw], order, infos, len(there))


async def _send(
    manifest: Manifest, plan: _Plan, source: Source, sink: Sink, progress: Progress | None
) -> None:
    """Send what a plan says, and what turns out to be missing behind it; then file the model."""
    for last in (*[False] * (ROUNDS - 1), True):
        try:
            if plan.raw and isinstance(source, GivesRaw):
                await _send_blocks(plan.raw, source.raw_blocks, sink, progress)
            await _send_blocks(plan.order, source.blocks, sink, progress)
            await sink.put_manifest(manifest)
            return
        except (CutShortError, BlockMissingError):
            if last:
                raise
        plan = await _plan(manifest, source, sink)


async def _send_blocks(order: Sequence[BlockId], give: _Give, sink: Sink, progress: Progress | None) -> None:
    left = list(order)
    partial: Partial | None = None
    failures = 0
    while left:
        given: list[BlockId] = []
        try:
            async for batch in _batches(give, left, partial):
                await sink.put_blocks(batch)
                given += [stored.block_id for stored in batch]
                if progress is not None:
                    progress(sum(stored.stored_bytes for stored in batch))
        except CutShortError as error:
            failures = 0 if given else failures + 1
            if failures >= ROUNDS:
                raise
            partial = error.partial
        else:
            if missing := set(left) - set(given):
                raise BlockMissingError(next(one for one in left if one in missing))
        done = set(given)
        left = [block_id for block_id in left if block_id not in done]


async def _batches(
    give: _Give, order: Sequence[BlockId], partial: Partial | None
) -> AsyncIterator[list[StoredBlock]]:
    """Blocks as they come, some at a time; what came before a source breaks off is given, too."""
    batch: list[StoredBlock] = []
    size = 0
    try:
        async with aclosing(give(order, partial)) as blocks:
            async for stored in blocks:
                batch.append(stored)
                size += stored.stored_bytes
                if size >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
                    yield batch
                    batch, size = [], 0
    except SourceError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
