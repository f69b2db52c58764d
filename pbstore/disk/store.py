"""The store on the disk: models over blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from blake3 import blake3

from pbstore.disk import identity
from pbstore.disk.add import adding, plan
from pbstore.disk.add.adding import HowStored
from pbstore.disk.add.plan import ModelStory
from pbstore.disk.blocks import recover, space
from pbstore.disk.blocks.disk_blocks import DiskBlocks
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.index import locations as index
from pbstore.disk.index import lora_pairs as adapters
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index import uses
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.disk.upkeep import collect, repair
from pbstore.disk.upkeep import heat as forms
from pbstore.disk.upkeep import trash as trash_can
from pbstore.disk.upkeep import verify as check
from pbstore.disk.upkeep.repair import RepairReport
from pbstore.disk.upkeep.verify import VerifyReport
from pbstore.disk.verbs import Upkeep
from pbstore.errors import (
    BlockMissingError,
    IndexCorruptError,
    IntegrityError,
    ManifestLostError,
    ModelExistsError,
    ModelMissingError,
    PBStoreError,
)
from pbstore.hashing import BlockId
from pbstore.ingest import AddReport, Origin, Progress
from pbstore.manifest import BaseLink, Manifest, check_name
from pbstore.nesting import OwnStore
from pbstore.restore import CheckoutReport, write_folder
from pbstore.savings import Savings
from pbstore.source import steadily
from pbstore.store import check_manifest_blocks, closed_blocks
from pbstore.tensors import StoredTensor, stored_tensors


class DiskBlockStore(Upkeep, DiskBlocks):
    """Blocks and models in a folder. See `open_store`."""

    def __repr__(self) -> str:
        limit = "" if self.capacity_bytes is None else f" of {self.capacity_bytes / 1e6:.1f} MB"
        try:
            held = f"{len(self.models())} models, {self.used_bytes / 1e6:.1f} MB{limit}"
        except (PBStoreError, OSError, ValueError):
            held = "closed or not readable"
        return f"DiskBlockStore({str(self.path)!r}, {held}{', read-only' if self.read_only else ''})"

    @property
    def own(self) -> OwnStore:
        """Where it lies, for those who must keep out of it."""
        return OwnStore.at(self.path)

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        query = f"SELECT name FROM models WHERE NOT ({catalog.IN_TRASH}) ORDER BY name"
        return tuple(str(name) for (name,) in self.connection.execute(query).fetchall())

    def has_model(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return catalog.find_model(self.connection, name) is not None

    def model_rows(self) -> list[ModelRow]:
        """What the index knows of each model, by name; not of those in the trash."""
        return catalog.live_models(self.connection)

    def model_row(self, name: str) -> ModelRow:
        """What the index knows of one model."""
        row = catalog.find_model(self.connection, name)
        if row is None:
            raise ModelMissingError(name)
        return row

    def manifest(self, name: str) -> Manifest:
        """A model's files and block ids."""
        return self.manifest_of(self.model_row(name))

    def manifest_of(self, row: ModelRow) -> Manifest:
        """The manifest of a model whose row was just read."""
        try:
            return catalog.read_manifest(self.layout, row)
        except ManifestLostError:
            self.model_row(row.name)  # removed meanwhile?
            raise

    def tensors(self, name: str) -> Iterator[StoredTensor]:
        """Tensors of a model's safetensors files, with the blocks that hold them; none of damaged files."""
        return stored_tensors(self.manifest(name), self.get, skip_damaged=True)

    def blocks(self, name: str) -> tuple[BlockId, ...]:
        """Ids of a model's blocks in manifest order, each one behind the blocks that it needs."""
        return closed_blocks(self, self.manifest(name))

    def put_manifest(self, manifest: Manifest) -> None:
        """File a model whose blocks are all there; nothing happens if the same one is filed already.

        Raises:
            ModelExistsError: If the name is taken by other content.
            BlockMissingError: If a block is not there.
        """
        with self.writing():
            check_manifest_blocks(self, manifest)
            raw = all(self.info(block_id).codec == "raw" for block_id in manifest.block_ids())
            if self.file_manifest(manifest, HOT if raw else COLD):
                adding.note_tensors(self, manifest)

    def file_manifest(self, manifest: Manifest, form: str, *, own: bool = False) -> bool:
        """Inside `writing`: file a model whose blocks are there; False if it was filed already.

        `own` says that this store cut the model's files into blocks itself.
        """
        if self.has_model(manifest.name):
            if self.manifest(manifest.name) != manifest:
                raise ModelExistsError(manifest.name)
            return False
        if own and self.capacity_bytes is not None:  # making room for it may have taken more than it should
            self._check_whole(manifest)
        text = manifest.to_json().encode()
        path = self.layout.manifest(manifest.name)
        catalog.insert_model(self.connection, manifest, path.name, blake3(text).hexdigest(), form)
        if own:
            catalog.note_own(self.connection, self.model_row(manifest.name))
        adding.note_adapter(self, manifest)
        self._pack_writer.place_manifest(path, text)
        return True

    def place_manifest(self, path: Path, text: bytes) -> None:
        """Inside `writing`: let a manifest come into its place with the commit; its row is the caller's."""
        self._pack_writer.place_manifest(path, text)

    def mend_manifest(self, manifest: Manifest) -> bool:
        """Put a lost or damaged manifest in its place again, if it is the one that was filed."""
        with self.writing():
            row = self.model_row(manifest.name)
            text = replace(manifest, weights=row.weights).to_json().encode()  # as it was hashed then
            if blake3(text).hexdigest() != row.manifest_hash:
                return False
            self._pack_writer.place_manifest(self.layout.manifests / row.file, text)
        return True

    def _check_whole(self, manifest: Manifest) -> None:
        found = index.find_many(self.connection, manifest.block_ids())
        for block_id in manifest.block_ids():
            needs = found[block_id].record.needs if block_id in found else ()
            for one in (block_id, *needs):
                if one not in found:
                    raise BlockMissingError(one, f"model {manifest.name}")

    def remove(self, name: str, *, trash: bool = True) -> None:
        """Take a model out of the store; `restore` brings it back for `trash_days`.

        Its blocks stay meanwhile, and a gc frees them afterwards; so does a store that gets full.

        Args:
            name: The model.
            trash: False to forget it at once; so is a model whose manifest is damaged, and all if
                `trash_days` is 0.
        """
        with self.writing():
            row = self.model_row(name)
            if trash and self.settings.trash_days and trash_can.is_readable(self, row):
                trash_can.put(self, row)
            else:
                self.drop_row(row, counted=self.has_room(0))

    def drop_row(self, row: ModelRow, *, counted: bool = True) -> None:
        """Inside `writing`: forget a model, also one in the trash or one whose manifest is damaged."""
        connection = self.connection
        try:
            catalog.drop_model(connection, self.manifest_of(row), row, counted=counted)
        except IntegrityError:
            connection.execute("DELETE FROM models WHERE name = ?", (row.name,))
            repair.recount_readable(self)
        adapters.forget_pairs(connection, row.name)
        self._pack_writer.remove_manifest(self.layout.manifests / row.file)

    def swap_manifest(self, old_file: str, path: Path, text: bytes) -> None:
        """Inside `writing`: put a manifest in place and take another one away, with the commit."""
        self._pack_writer.place_manifest(path, text)
        self._pack_writer.remove_manifest(self.layout.manifests / old_file)

    def add(
        self,
        folder: str | Path,
        name: str,
        base: str | None = None,
        *,
        form: str = COLD,
        thorough: bool = False,
        keep_damaged: bool = False,
        check: Callable[[Manifest], None] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Store a model's folder: every file, every byte; see README.md for what of a folder comes back.

        Links are followed. The store itself, where it lies in the folder, is left out and named in the
        report; anything else that cannot be stored is refused by name before anything is read.

        Args:
            folder: A local folder in the form of a Hugging Face checkpoint, or any folder of files.
            name: Name of the model, `ORG/MODEL`.
            base: Name of the stored model that this one was made from; bases of blocks are found without it.
                An adapter whose configuration names a stored model is bound to that one by itself.
            form: `cold` stores each new block as small as a trial finds, `hot` stores all raw, to be mapped.
            thorough: Try also slow forms, which make few models much smaller: those that were once quantised,
                which then take about twice as long. `cool` does so for a model that is stored.
            keep_damaged: Keep damaged files as they are, and name them in the report.
            check: Called when all is read and nothing is filed yet; what it raises refuses the model.
            progress: Called with a path and bytes just read; below 0 if they will be read again.

        Raises:
            ModelExistsError: If the name is taken by other content.
            CapacityError: If it does not fit; the store then has the models that it had.
            BadFileError, CheckpointError: If something cannot be stored, or is not what its name says.
            SourceChangedError: If the folder changes each time that it is read.
        """
        how = HowStored(form=form, thorough=thorough)
        named = adapters.named_base(Path(folder)) if base is None else None
        link = self._base_link(named if named is not None and self.has_model(named) else base)
        origin = Origin(Path(folder), check_name(name), link, self.own, keep_damaged, progress, check)
        return steadily(lambda: adding.add_model(self, origin, how))

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
        manifest = self.manifest(name)
        known = index.find_many(self.connection, manifest.block_ids())
        report = write_folder(
            manifest,
            Path(folder),
            partial(self.write_block, known=known),
            own=self.own,
            force=force,
            check_files=not catalog.is_own(self.connection, self.model_row(name)),
            threads=threads,
            progress=progress,
        )
        self.touch(name)
        return report

    def make_raw(self, ids: Sequence[BlockId]) -> int:
        """Inside `writing`: give blocks the raw form."""
        return forms.make_raw(self, ids)

    def touch(self, name: str) -> None:
        """Count one use of a model, as a checkout does, for eviction and balancing; takes no lock."""
        if not self.read_only:
            uses.note_use(self.layout, name)

    def settled_rows(self) -> list[ModelRow]:
        """Rows of all models, with the uses noted until now."""
        if self.read_only:
            return uses.with_noted(self.layout, self.model_rows())
        if self.layout.uses.exists():
            with self.writing() as connection:
                uses.count_uses(self.layout, connection)
        return self.model_rows()

    def pin(self, name: str, pinned: bool = True, priority: float | None = None) -> None:
        """Keep a model from eviction, or no longer; set its priority if given."""
        with self.writing() as connection:
            row = self.model_row(name)
            values = (int(pinned), row.priority if priority is None else priority, name)
            connection.execute("UPDATE models SET pinned = ?, priority = ? WHERE name = ?", values)

    def plan(
        self,
        folder: str | Path,
        base: str | None = None,
        *,
        form: str = COLD,
        thorough: bool = False,
        keep_damaged: bool = False,
        progress: Progress | None = None,
    ) -> AddReport:
        """What adding a folder would cost; encodes everything and keeps nothing."""
        how = HowStored(form=form, thorough=thorough)
        origin = Origin(Path(folder), "plan", self._base_link(base), self.own, keep_damaged, progress)
        return steadily(lambda: plan.plan_add(self, origin, how))

    def explain(self, name: str) -> ModelStory:
        """How each tensor of a model is stored, and from which base."""
        return plan.explain(self, name)

    def has_weights(self, weights: str) -> bool:
        """Whether a model with these weights is in the store, whatever its name."""
        return next(identity.with_weights(self, weights), None) is not None

    def find_weights(self, weights: str) -> tuple[str, ...]:
        """Names of the models with these weights: how an adapter finds its base by content."""
        return tuple(identity.with_weights(self, weights))

    def repair(self, other: "DiskBlockStore | None" = None) -> RepairReport:
        """Build the index anew, and take damaged blocks and manifests from another store."""
        return repair.repair(self, other)

    def savings(self) -> Savings:
        """Raw, file-deduplicated, block-deduplicated and real bytes."""
        connection = self.connection
        if not self.read_only:
            index.shorten_log(connection)
        models, raw = connection.execute(
            f"SELECT COUNT(*), COALESCE(SUM(raw_bytes), 0) FROM models WHERE NOT ({catalog.IN_TRASH})"
        ).fetchone()
        files = connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM files").fetchone()[0]
        unique = connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(raw_bytes), 0) FROM blocks WHERE refs > 0"
        ).fetchone()
        orphans = collect.orphan_bytes(connection)
        trashed = trash_can.blocks_only_here(self)
        trash_bytes = sum(item.record.stored_bytes for item in trashed)
        return Savings(
            models=models,
            blocks=unique[0] - len(trashed),
            raw_bytes=raw,
            file_dedup_bytes=files,
            block_dedup_bytes=unique[1] - sum(item.record.raw_bytes for item in trashed),
            stored_bytes=index.used_bytes(connection) - orphans - trash_bytes,
            orphan_bytes=orphans,
            trash_bytes=trash_bytes,
            disk_bytes=self.disk_bytes(),
            by_kind={
                codec: {"blocks": count, "raw_bytes": raw_bytes, "stored_bytes": stored}
                for codec, count, raw_bytes, stored in connection.execute(
                    "SELECT codec, COUNT(*), SUM(raw_bytes), SUM(stored_bytes) FROM blocks GROUP BY codec"
                )
            },
        )

    def disk_bytes(self) -> int:
        """What the store's files occupy on the disk, as `du` counts it; without SQLite's passing ones."""
        return space.disk_use(self.layout).total_bytes

    def disk_use(self) -> DiskUse:
        """What the store's files occupy on the disk, part by part; the index's log is emptied first."""
        return space.measure(self)

    def verify(
        self,
        sample: float = 1.0,
        rng: np.random.Generator | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> VerifyReport:
        """Check manifests, references and the hash of each block, or of a sample of them."""
        return check.verify(self, sample, rng, progress)

    def rebuild_index(self) -> None:
        """Build the index again from packs and manifests."""
        with self._mutex, self._locked():
            self._connections.reset()
            recover.rebuild_index(self.layout)

    def locations(self, problems: list[str] | None = None) -> Iterator[Location]:
        """All blocks in the order in which they lay on the disk; others may write meanwhile.

        What is wrong with rows that say nothing sensible goes into `problems`; without it, it is raised.
        """
        rows = self.connection.execute("SELECT id FROM blocks ORDER BY pack, offset").fetchall()
        ids = b"".join(key for (key,) in rows)
        del rows
        for start in range(0, len(ids), 32):
            block_id = BlockId(ids[start : start + 32].hex())
            try:
                location = self.find(block_id)
            except IndexCorruptError as error:
                if problems is None:
                    raise
                problems.append(f"block {block_id[:12]}: {error}")
                continue
            if location is not None:
                yield location

    def _base_link(self, base: str | None) -> BaseLink | None:
        return None if base is None else identity.base_link(self, base)
