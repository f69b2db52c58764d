"""One writer of an origin: blocks into packs, then a manifest, then its name; nothing is seen before."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from pbstore.blocks import FOLLOWERS, StoredBlock
from pbstore.coding import decode_block
from pbstore.errors import BlockMissingError, ModelExistsError, ModelMissingError
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import Manifest
from pbstore.pool import Pool, settle
from pbstore.serve.origin import records
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.errors import OriginError
from pbstore.serve.origin.lease import LEASE_S, Lease
from pbstore.serve.origin.marks import marked_keys
from pbstore.serve.origin.pack import PACK_BLOCKS, PACK_BYTES, Form, encode_pack, read_table
from pbstore.serve.origin.records import NameRecord, encode_manifest
from pbstore.store import raw_block

UPLOADS = 2
"""Packs that are sent at a time; so many are in memory, and one more."""


class Writer:
    """Writes one model; as a context, what is not committed at its end is left to a collection.

    Any number of writers may be at work at once, on any number of machines.
    """

    def __init__(self, catalog: Catalog, lease_s: float = LEASE_S) -> None:
        self._catalog, self._objects = catalog, catalog.objects
        self._waiting: dict[BlockId, StoredBlock] = {}
        self._waiting_bytes = 0
        self._pool = Pool(UPLOADS, "pbcast-upload")
        self._sent: list[Future[None]] = []
        self.sent_bytes = 0
        """Bytes of the packs that were created."""
        if not catalog.check_format():
            self._objects.create(records.FORMAT_KEY, records.format_record())
            catalog.check_format()
        self._lease = Lease(self._objects, lease_s)
        try:
            self._usable = self._look()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lease back."""
        settle(self._sent)
        self._pool.shutdown()
        self._lease.end()

    def known(self, block_ids: Iterable[BlockId]) -> dict[BlockId, Form]:
        """Those of some blocks that need not be sent, each in the form that it has here."""
        found: dict[BlockId, Form] = {}
        for block_id in block_ids:
            chosen = self._catalog.resolve(block_id, self._usable)
            if chosen is not None:
                found[block_id] = chosen[block_id]
        return found

    def has(self, block_ids: Iterable[BlockId]) -> set[BlockId]:
        """Those of some blocks that are here, or were given."""
        return {block_id for block_id in block_ids if self._has(block_id)}

    def put_blocks(self, blocks: Iterable[StoredBlock]) -> None:
        """Send blocks in their coded form, each behind those that it needs; those that are here are not sent.

        They are durable after `flush`. Whoever gives them has checked them; whoever reads them checks them.

        Raises:
            BlockMissingError: If what one needs is not here and was not given.
            LeaseLostError: If the lease was taken over.
        """
        for block in blocks:
            if self._has(block.block_id):
                continue
            for base in block.bases:
                self._ensure_base(base, block)
            self._append(block)

    def flush(self) -> None:
        """Wait until all that was given is durable."""
        self._send()
        while self._sent:
            self._sent.pop(0).result()

    def commit(self, manifest: Manifest, *, replace: bool = False) -> NameRecord:
        """Publish a model whose blocks are all here; nothing happens if the same one is published already.

        Args:
            manifest: The model.
            replace: Take the place of another content under the name; readers of that one are left in peace
                until a collection.

        Raises:
            ModelExistsError: If the name has another content.
            BlockMissingError: If a block is not here.
            LeaseLostError: If the lease was taken over: nothing was published.
        """
        self.flush()
        current = self._catalog.find(manifest.name)
        if current is not None and not current.removed:
            if self._catalog.manifest(current) == manifest:
                return current
            if not replace:
                raise ModelExistsError(manifest.name)
        packs = self._packs_of(manifest)
        key, data = encode_manifest(manifest, self._lease.writer)
        self._objects.create(key, data)
        return self._publish(manifest, self._after(current, manifest.name, key, packs))

    def restore(self, name: str) -> NameRecord:
        """Publish a removed model again.

        Raises:
            ModelMissingError: If none of this name was removed.
            OriginError: If a collection has let go of parts of it.
        """
        current = self._catalog.find(name)
        if current is None or not current.removed:
            raise ModelMissingError(name, f"in the trash of {self._objects.url}")
        here = {one.key for one in self._objects.list(records.MANIFESTS)} | self._usable
        if not current.keys <= here or current.keys & marked_keys(self._objects):
            raise OriginError(self._objects.url, f"{name} was removed too long ago: push it again")
        record = self._after(current, name, current.manifest, current.packs)
        return self._publish(self._catalog.manifest(current), record)

    def _publish(self, manifest: Manifest, record: NameRecord) -> NameRecord:
        self._lease.commit(record)
        if self._objects.create(record.key, record.encode()):
            return record
        other = self._catalog.find(record.name)
        if other is None or other.removed or self._catalog.manifest(other) != manifest:
            raise ModelExistsError(record.name)
        return other

    def _after(
        self, current: NameRecord | None, name: str, manifest: str, packs: Iterable[str]
    ) -> NameRecord:
        generation = 1 if current is None else current.generation + 1
        return NameRecord(name=name, generation=generation, manifest=manifest, packs=tuple(packs))

    def _look(self) -> set[str]:
        """Packs whose blocks need not be sent again; in this order no collection can come between."""
        marked = marked_keys(self._objects)
        listed = {one.key for one in self._objects.list(records.PACKS)}
        self._catalog.forget(self._catalog.known_packs() - listed)
        usable = listed - marked
        self._catalog.read_tables(sorted(usable))
        return usable

    def _packs_of(self, manifest: Manifest) -> set[str]:
        packs: set[str] = set()
        for block_id in manifest.block_ids():
            chosen = self._catalog.resolve(block_id, self._usable)
            if chosen is None:
                raise BlockMissingError(block_id, f"model {manifest.name}")
            packs.update(form.pack for form in chosen.values())
        return packs

    def _has(self, block_id: BlockId) -> bool:
        return block_id in self._waiting or self._catalog.resolve(block_id, self._usable) is not None

    def _ensure_base(self, base: BlockId, block: StoredBlock) -> None:
        """See that a base is here in a form that this block can stand on; else send its raw bytes, too."""
        if base in self._waiting:
            return
        chosen = self._catalog.resolve(base, self._usable)
        if chosen is None:
            raise BlockMissingError(base, f"block {block.block_id[:12]}")
        if chosen[base].info.needs and block.codec not in FOLLOWERS:
            self.flush()
            self._append(raw_block(self._decoded(list(chosen.values())), base))

    def _decoded(self, forms: Sequence[Form]) -> Buffer:
        """Raw bytes of the last of some forms, which has all that it needs before it."""
        raw: dict[BlockId, Buffer] = {}
        for stored in self._catalog.read_blocks(forms):
            raw[stored.block_id] = decode_block(stored, [raw[base] for base in stored.bases])
        return raw[forms[-1].info.block_id]

    def _append(self, block: StoredBlock) -> None:
        full = self._waiting_bytes + block.stored_bytes > PACK_BYTES or len(self._waiting) >= PACK_BLOCKS
        if self._waiting and full:
            self._send()
        self._waiting[block.block_id] = block
        self._waiting_bytes += block.stored_bytes

    def _send(self) -> None:
        """Let a thread create a pack of what waits, once there are not too many under way."""
        if not self._waiting:
            return
        self._lease.renew()
        key, data = encode_pack(list(self._waiting.values()), self._lease.writer)
        self._waiting, self._waiting_bytes = {}, 0
        while len(self._sent) >= UPLOADS:
            self._sent.pop(0).result()
            self._lease.renew()
        self._sent.append(self._pool.submit(self._create, key, data))
        self._catalog.note_table(key, read_table(key, data))
        self._usable.add(key)
        self.sent_bytes += len(data)

    def _create(self, key: str, data: bytes) -> None:
        if not self._objects.create(key, data):
            raise OriginError(self._objects.url, f"{key} is there with other bytes")
