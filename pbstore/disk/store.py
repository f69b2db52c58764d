"""The store on the disk: what one does with it. What it is made of lies on the floors below.

A verb's modules are imported when it is first used: to open a store and look at its models takes a third of
the time that all of them take, and no numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, lora_pairs, model_rows
from pbstore.disk.index.model_rows import COLD
from pbstore.disk.models import Models
from pbstore.errors import PBStoreError
from pbstore.folders.select import ALL, Selection
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import Manifest, check_name

if TYPE_CHECKING:
    import numpy as np

    from pbstore.disk.upkeep.collect import GcReport
    from pbstore.disk.upkeep.evict import EvictReport, Order
    from pbstore.disk.upkeep.explain import ModelStory
    from pbstore.disk.upkeep.repair import RepairReport
    from pbstore.disk.upkeep.verify import VerifyReport
    from pbstore.disk.verbs import Forms, History, Plans, Trash
    from pbstore.folders.ingest import AddReport, Progress
    from pbstore.folders.restore import CheckoutReport
    from pbstore.savings import Savings


class DiskBlockStore:
    """Blocks and models in a folder; see `open_store`.

    Any number of threads and processes may read; one at a time writes. Each writing verb is atomic: after an
    error, an interrupt or a kill, the store is as it was before or as it is after.
    """

    def __init__(self, disk: Models) -> None:
        self.disk = disk
        """Models, rows, places and transactions below the verbs: for loaders and tools."""
        disk.take_from_trash = _take_from_trash

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close files and connections; the store cannot be used afterwards."""
        self.disk.close()

    def __repr__(self) -> str:
        limit = "" if self.capacity_bytes is None else f" of {self.capacity_bytes / 1e6:.1f} MB"
        try:
            held = f"{len(self.models())} models, {self.used_bytes / 1e6:.1f} MB{limit}"
        except (PBStoreError, OSError, ValueError):
            held = "closed or not readable"
        return f"DiskBlockStore({str(self.path)!r}, {held}{', read-only' if self.disk.read_only else ''})"

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.disk.path

    @property
    def capacity_bytes(self) -> int | None:
        """Most payload bytes that fit, None without a limit."""
        return self.disk.capacity_bytes

    @property
    def used_bytes(self) -> int:
        """Payload bytes of all blocks."""
        return self.disk.used_bytes

    @property
    def forms(self) -> Forms:
        """To heat, cool and balance models."""
        from pbstore.disk.verbs import Forms

        return Forms(self.disk)

    @property
    def trash(self) -> Trash:
        """Removed models: to list, restore or forget them."""
        from pbstore.disk.verbs import Trash

        return Trash(self.disk)

    @property
    def history(self) -> History:
        """Revisions: to list, tag, compare, rename, copy or forget them."""
        from pbstore.disk.verbs import History

        return History(self.disk)

    @property
    def plan(self) -> Plans:
        """What a verb would do."""
        from pbstore.disk.verbs import Plans

        return Plans(self.disk)

    def block_ids(self) -> Iterator[BlockId]:
        """Ids of all blocks, in no particular order."""
        return self.disk.block_ids()

    def has(self, block_id: BlockId) -> bool:
        """Whether the block is there."""
        return self.disk.has(block_id)

    def info(self, block_id: BlockId) -> BlockInfo:
        """Sizes, codec and needs of a block."""
        return self.disk.info(block_id)

    def get(self, block_id: BlockId, *, workers: int = 1) -> Buffer:
        """Raw bytes of a block, checked against its id; `workers` threads decode it."""
        return self.disk.get(block_id, workers=workers)

    def put(self, raw: Buffer) -> BlockId:
        """Store raw bytes as a raw block; nothing happens if they are there already."""
        return self.disk.put(raw)

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """The block as it is stored, to be sent elsewhere; its payload is checked."""
        return self.disk.export_block(block_id)

    def import_block(self, stored: StoredBlock) -> BlockId:
        """Store a block that another store exported, after decoding it once.

        Raises:
            BlockMissingError: If a block that it needs is not there.
            BlockCorruptError: If it does not decode to its id.
            CapacityError: If it does not fit.
        """
        return self.disk.import_block(stored)

    def delete_block(self, block_id: BlockId) -> None:
        """Delete a block that no manifest and no other block needs.

        Raises:
            BlockInUseError: If one does.
        """
        self.disk.delete_block(block_id)

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        return self.disk.models()

    def manifest(self, name: str) -> Manifest:
        """A model's files and block ids."""
        return self.disk.manifest(name)

    def blocks(self, name: str) -> tuple[BlockId, ...]:
        """Ids of a model's blocks in manifest order, each one behind the blocks that it needs."""
        return self.disk.blocks(name)

    def put_manifest(self, manifest: Manifest) -> None:
        """File a model whose blocks are all there; nothing happens if the same one is filed already.

        Raises:
            ModelExistsError: If the name is taken by other content.
            BlockMissingError: If a block is not there.
        """
        self.disk.put_manifest(manifest)

    def add(
        self,
        folder: str | Path,
        name: str,
        base: str | None = None,
        *,
        form: str = COLD,
        thorough: bool = False,
        keep_damaged: bool = False,
        select: Selection = ALL,
        unread: bool = False,
        check: Callable[[Manifest], None] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Store a model's folder: every file, every byte; see README.md for what of a folder comes back.

        Where the name is taken, other content becomes its newest revision, and what the name meant before is
        kept as an earlier one (`history`); the same content is there already.

        Links are followed. The store itself, where it lies in the folder, is left out and named in the
        report, as is what `select` leaves out; anything else that cannot be stored is refused by name before
        anything is read.

        Args:
            folder: A local folder in the form of a Hugging Face checkpoint, any folder of files, or a file.
            name: Name of the model, `ORG/MODEL`.
            base: Name of the stored model that this one was made from; bases of blocks are found without it.
                An adapter whose configuration names a stored model is bound to that one by itself.
            form: `cold` stores each new block as small as a trial finds, `hot` stores all raw, to be mapped.
            thorough: Try also slow forms, which make few models much smaller: those that were once quantised,
                which then take about twice as long. `cool` does so for a model that is stored.
            keep_damaged: Keep damaged files as they are, and name them in the report.
            select: What of the folder is the model's; what is left out is named in the report.
            unread: Take a model for "already there" without reading anything if it was made of this folder
                and no file has another size, time of change or inode since.
            check: Called when all is read and nothing is filed yet; what it raises refuses the model.
            progress: Called with a path and bytes just read; below 0 if they will be read again.

        Raises:
            ModelExistsError: If the name is taken by a model whose manifest is damaged.
            CapacityError: If it does not fit; the store then has the models that it had.
            BadFileError, CheckpointError: If something cannot be stored, or is not what its name says.
            SourceChangedError: If the folder changes each time that it is read.
        """
        from pbstore.disk.add import adding, identity
        from pbstore.disk.add.adding import HowStored
        from pbstore.folders.ingest import Origin
        from pbstore.folders.source import steadily

        how = HowStored(form=form, thorough=thorough, unread=unread)
        named = lora_pairs.named_base(Path(folder)) if base is None else None
        base = named if named is not None and self.disk.has_model(named) else base
        link = None if base is None else identity.base_link(self.disk, base)
        own = self.disk.own
        origin = Origin(Path(folder), check_name(name), link, own, keep_damaged, progress, select, check)
        return steadily(lambda: adding.add_model(self.disk, origin, how))

    def checkout(
        self,
        name: str,
        folder: str | Path,
        *,
        force: bool = False,
        threads: int = 2,
        progress: Progress | None = None,
    ) -> CheckoutReport:
        """Write all files and empty folders of a model into a folder, every block checked against its hash.

        What cannot be written is refused before anything is. What a killed checkout left in the folder goes.
        Files of a model that came in by `put_manifest`, or of a rebuilt index, are checked against their
        sha256 too; where `add` read the files, it and the blocks' ids were made from the same bytes.

        Raises:
            FileExistsError: If a file is there with other bytes and `force` is not set.
            BadFileError: If the folder lies in a store, or holds this one, or a link in it leads out of it.
            FileCorruptError, BlockCorruptError: If the store's bytes are damaged.
        """
        from pbstore.folders.restore import write_folder

        manifest = self.manifest(name)
        known = locations.find_many(self.disk.connection, manifest.block_ids())
        report = write_folder(
            manifest,
            Path(folder),
            partial(self.disk.write_block, known=known),
            own=self.disk.own,
            force=force,
            check_files=not model_rows.is_own(self.disk.connection, self.disk.model_row(name)),
            threads=threads,
            progress=progress,
        )
        self.disk.touch(name)
        return report

    def remove(self, name: str, *, trash: bool = True) -> None:
        """Take a model with all its revisions out of the store; `restore` brings it back for `trash_days`.

        `NAME@REVISION` takes out an earlier one alone. Its blocks stay meanwhile, and a gc frees them
        afterwards; so does a store that gets full.

        Args:
            name: The model.
            trash: False to forget it at once; so is a model whose manifest is damaged, and all if
                `trash_days` is 0.
        """
        from pbstore.disk.upkeep import trash as trashing

        trashing.remove(self.disk, name, trash=trash)

    def verify(
        self,
        sample: float = 1.0,
        rng: np.random.Generator | None = None,
        progress: Callable[[int], None] | None = None,
        names: Sequence[str] | None = None,
    ) -> VerifyReport:
        """Check manifests, references and the hash of each block, or of a sample, or of some models only."""
        from pbstore.disk.upkeep import verify

        return verify.verify(self.disk, sample, rng, progress, names)

    def repair(self, other: DiskBlockStore | None = None) -> RepairReport:
        """Build the index anew, and take damaged blocks and manifests from another store."""
        from pbstore.disk.upkeep import repair

        return repair.repair(self.disk, None if other is None else other.disk)

    def savings(self) -> Savings:
        """Raw, file-deduplicated, block-deduplicated and real bytes."""
        from pbstore.disk.upkeep import savings

        return savings.savings(self.disk)

    def explain(self, name: str) -> ModelStory:
        """How each tensor of a model is stored, and from which base."""
        from pbstore.disk.upkeep import explain

        return explain.explain(self.disk, name)

    def pin(self, name: str, pinned: bool = True, priority: float | None = None) -> None:
        """Keep a model from eviction, or no longer; set its priority if given."""
        self.disk.pin(name, pinned, priority)

    def evict(self, wanted_bytes: int, order: str | Order = "lru", *, dry_run: bool = False) -> EvictReport:
        """Let go of what is in the trash, then of unpinned models, until so many payload bytes are free.

        Raises:
            ValueError: If the order's name is unknown.
            EvictGoalError: If so much cannot be freed; the store is as it was.
        """
        from pbstore.disk.upkeep import evict, plans

        if dry_run:
            return plans.plan_evict(self.disk, wanted_bytes, order).report
        return evict.evict(self.disk, wanted_bytes, order)

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete blocks that no model needs and free their room; with `dry_run` only say what would go."""
        from pbstore.disk.upkeep import collect, plans

        return plans.plan_gc(self.disk).report if dry_run else collect.gc(self.disk)


def _take_from_trash(models: Models, tx: Transaction, wanted_bytes: int) -> None:
    from pbstore.disk.upkeep import evict

    evict.take_from_trash(models, tx, wanted_bytes)
