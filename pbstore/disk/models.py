"""Models on the disk: their rows and manifests, over blocks. What `add` and `upkeep` work on."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from blake3 import blake3

from pbstore.disk.blocks.disk_blocks import DiskBlocks
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, lora_pairs, model_rows, notes, revisions, uses
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.errors import (
    BlockMissingError,
    FileCorruptError,
    IntegrityError,
    ManifestLostError,
    ModelExistsError,
    ModelMissingError,
    PBStoreError,
)
from pbstore.folders.nesting import OwnStore
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.store import check_manifest_blocks, closed_blocks
from pbstore.tensors import StoredTensor, stored_tensors


class Models(DiskBlocks):
    """Blocks and models in a folder, with all that lies below the verbs of a `DiskBlockStore`.

    What takes a `Transaction` may only be called inside `writing`.
    """

    take_from_trash: "Callable[[Models, Transaction, int], None] | None" = None
    """Lets go of removed models, the oldest first, until so many payload bytes are free."""

    @property
    def own(self) -> OwnStore:
        """Where it lies, for those who must keep out of it."""
        return OwnStore.at(self.path)

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        return model_rows.names(self.connection)

    def has_model(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return model_rows.find_model(self.connection, name) is not None

    def model_rows(self) -> list[ModelRow]:
        """What the index knows of each model, by name; not of those in the trash."""
        return model_rows.live_models(self.connection)

    def model_row(self, name: str) -> ModelRow:
        """What the index knows of one model, or of a revision of it: `NAME@REVISION`, see `index.revisions`.

        Raises:
            ModelMissingError: If there is no such model.
            RevisionMissingError: If there is, but not this revision.
        """
        return revisions.find(self.connection, name)

    def revisions_of(self, name: str) -> list[ModelRow]:
        """What the index knows of all revisions of a model, the newest first.

        Raises:
            ModelMissingError: If there is no such model.
        """
        rows = revisions.of_model(self.connection, name)
        if not rows or rows[0].name != name:
            raise ModelMissingError(name)
        return rows

    def tags(self, name: str) -> dict[str, str]:
        """Tag -> commit, of the tags of a model whose revision is there."""
        there = {row.commit for row in revisions.of_model(self.connection, name)}
        return {tag: at for tag, at in revisions.tags(self.connection, name).items() if at in there}

    def row_of(self, row_name: str) -> ModelRow:
        """What the index knows under the name of a row, which may be that of something in the trash."""
        row = model_rows.find_model(self.connection, row_name)
        if row is None:
            raise ModelMissingError(row_name)
        return row

    def manifest(self, name: str) -> Manifest:
        """A model's files and block ids; `name` may have a revision."""
        return self.manifest_of(self.model_row(name))

    def manifest_of(self, row: ModelRow) -> Manifest:
        """The manifest of a model whose row was just read.

        Raises:
            ModelMissingError: If it was removed since.
            IntegrityError: If it is lost or damaged.
        """
        try:
            return model_rows.read_manifest(self.layout, row)
        except (ManifestLostError, FileCorruptError):
            moved = self._moved(row)  # a writer may have given the row another name since
            if moved is None:
                raise
            return self.manifest_of(moved)

    def _moved(self, row: ModelRow) -> ModelRow | None:
        """The same revision, if its row has another name by now."""
        same = [one for one in revisions.of_model(self.connection, row.key.model) if one.commit == row.commit]
        if not same and model_rows.find_model(self.connection, row.name) is None:
            raise ModelMissingError(row.address)
        return next((one for one in same if one.name != row.name), None)

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
        with self.writing() as tx:
            check_manifest_blocks(self, manifest)
            raw = all(self.info(block_id).codec == "raw" for block_id in manifest.block_ids())
            if self.file_manifest(tx, manifest, HOT if raw else COLD):
                notes.note_tensors(tx.connection, manifest, self.get)

    def file_manifest(self, tx: Transaction, manifest: Manifest, form: str, *, own: bool = False) -> bool:
        """File a model whose blocks are there; False if it was filed already.

        `own` says that this store cut the model's files into blocks itself.
        """
        if self.has_model(manifest.name):
            if self.manifest(manifest.name) != manifest:
                raise ModelExistsError(manifest.name)
            return False
        if own:
            self.check_whole(manifest)
        text = manifest.to_json().encode()
        path = self.layout.manifest(manifest.name)
        model_rows.insert_model(tx.connection, manifest, path.name, blake3(text).hexdigest(), form)
        if own:
            model_rows.note_own(tx.connection, self.model_row(manifest.name))
        notes.note_adapter(tx.connection, manifest, self.get)
        tx.place_manifest(path, text)
        tx.filed_models += 1
        return True

    def mend_manifest(self, manifest: Manifest) -> bool:
        """Put a lost or damaged manifest in its place again, if it is the one that was filed."""
        with self.writing() as tx:
            row = self.model_row(manifest.name)
            text = replace(manifest, weights=row.weights).to_json().encode()  # as it was hashed then
            if blake3(text).hexdigest() != row.manifest_hash:
                return False
            model_rows.set_manifest(tx.connection, row, row.manifest_hash)
            tx.place_manifest(self.layout.manifests / row.file, text, row.place)
        return True

    def check_whole(self, manifest: Manifest) -> None:
        """Raise BlockMissingError if making room for a model has taken a block of it."""
        if self.capacity_bytes is None:
            return
        found = locations.find_many(self.connection, manifest.block_ids())
        for block_id in manifest.block_ids():
            needs = found[block_id].record.needs if block_id in found else ()
            for one in (block_id, *needs):
                if one not in found:
                    raise BlockMissingError(one, f"model {manifest.name}")

    def drop_row(self, tx: Transaction, row: ModelRow, *, counted: bool = True) -> None:
        """Forget a model, also one in the trash or one whose manifest is damaged."""
        try:
            model_rows.drop_model(tx.connection, self.manifest_of(row), row, counted=counted)
        except IntegrityError:
            model_rows.delete_row(tx.connection, row.name)
            recount_readable(self, tx)
        lora_pairs.forget_pairs(tx.connection, row.name)
        tx.remove_manifest(self.layout.manifests / row.file, row.place)

    def touch(self, name: str) -> None:
        """Count one use of a model, as a checkout does, for eviction and balancing; takes no lock."""
        if not self.read_only:
            uses.note_use(self.layout, revisions.split_address(name)[0])

    def settled_rows(self) -> list[ModelRow]:
        """Rows of all models, with the uses noted until now."""
        if self.read_only:
            return uses.with_noted(self.layout, self.model_rows())
        if self.layout.uses.exists():
            with self.writing() as tx:
                uses.count_uses(self.layout, tx.connection)
        return self.model_rows()

    def pin(self, name: str, pinned: bool = True, priority: float | None = None) -> None:
        """Keep a model from eviction, or no longer; set its priority if given."""
        with self.writing() as tx:
            row = self.model_row(revisions.split_address(name)[0])
            model_rows.pin(tx.connection, row.name, pinned, row.priority if priority is None else priority)

    def _take_from_trash(self, tx: Transaction, wanted_bytes: int) -> None:
        if self.take_from_trash is not None:
            self.take_from_trash(self, tx, wanted_bytes)


def recount_readable(models: Models, tx: Transaction) -> None:
    """Count references anew from the manifests; nothing changes if one cannot be read."""
    connection = tx.connection
    rows = model_rows.all_models(connection)
    if not all(is_readable(models, row) for row in rows):
        return
    model_rows.forget_counts(connection)
    for row in rows:
        manifest = models.manifest_of(row)
        if row.removed_ms is None:
            model_rows.count_files(connection, manifest)
        model_rows.change_refs(connection, manifest.block_ids(), 1, int(row.form == HOT))


def is_readable(models: Models, row: ModelRow) -> bool:
    """Whether a model's manifest can be read and is the one that was filed."""
    try:
        model_rows.read_manifest(models.layout, row)
    except (PBStoreError, OSError):
        return False
    return True
