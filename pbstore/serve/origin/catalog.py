"""What an origin has: names, manifests, and which form of a block lies where. Nothing here writes."""

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import groupby

from pbstore.blocks import FOLLOWERS, StoredBlock
from pbstore.coding import STEPS
from pbstore.errors import BlockMissingError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest, check_name
from pbstore.pool import Pool, in_order, settle
from pbstore.serve.origin import records
from pbstore.serve.origin.errors import OriginError, RecordError
from pbstore.serve.origin.objects import Objects
from pbstore.serve.origin.pack import HEAD_BYTES, PACK_BYTES, Form, read_table, table_bytes
from pbstore.serve.origin.records import NAMES, NameRecord, split_name_key

REQUESTS = 8
"""Requests of one caller that are under way at a time."""
AHEAD = 2
"""Reads of blocks that are ahead of the one that is used."""


class Catalog:
    """Reads an origin; for any number of threads.

    Objects never change, so what was read once is kept: a second question costs a listing.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._mutex = threading.Lock()
        self._names: dict[str, NameRecord] = {}
        self._tables: dict[str, list[Form]] = {}
        self._forms: dict[BlockId, list[Form]] = {}
        self._pool = Pool(REQUESTS, "pbcast-origin")

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown()

    def check_format(self) -> bool:
        """Whether there is an origin; False if there is nothing yet.

        Raises:
            OriginError: If it is of another version.
        """
        try:
            found = self.objects.read(records.FORMAT_KEY)
        except FileNotFoundError:
            return False
        if found != records.format_record():
            raise OriginError(self.objects.url, "not an origin of a version that this code knows")
        return True

    def names(self) -> dict[str, NameRecord]:
        """What each name means now; also of removed ones."""
        newest = newest_keys(one.key for one in self.objects.list(NAMES))
        read = in_order(self._pool, self._name, newest.values())
        return {record.name: record for record in read if record is not None}

    def find(self, name: str) -> NameRecord | None:
        """What one name means now; None if it never meant anything."""
        prefix = f"{NAMES}{check_name(name)}/"
        mine = (one.key for one in self.objects.list(prefix) if split_name_key(one.key)[0] == name)
        key = newest_keys(mine).get(name)
        return None if key is None else self._name(key)

    def record(self, name: str) -> NameRecord:
        """What a name means.

        Raises:
            ModelMissingError: If there is no such model, or it was removed.
        """
        found = self.find(name)
        if found is None or found.removed:
            raise ModelMissingError(name, f"in {self.objects.url}")
        return found

    def manifest(self, record: NameRecord) -> Manifest:
        """The manifest of a model, checked against its hash.

        Raises:
            RecordError: If it is damaged, or of another model.
        """
        manifest = records.decode_manifest(record.manifest, self.objects.read(record.manifest))
        if manifest.name != record.name:
            raise RecordError(record.manifest, f"of {manifest.name!r}, expected {record.name!r}")
        return manifest

    def read_tables(self, packs: Iterable[str], *, skip_gone: bool = False) -> None:
        """Read which blocks lie in some packs.

        Args:
            packs: Keys of the packs.
            skip_gone: Pass over those that a collection has taken meanwhile.

        Raises:
            FileNotFoundError: If one is gone: the model that named it was removed or replaced.
        """
        with self._mutex:
            new = [key for key in dict.fromkeys(packs) if key not in self._tables]
        read = partial(self._table, skip_gone=skip_gone)
        for key, forms in zip(new, in_order(self._pool, read, new), strict=True):
            if forms is not None:
                self.note_table(key, forms)

    def note_table(self, key: str, forms: Sequence[Form]) -> None:
        """Take in the table of a pack."""
        with self._mutex:
            if key not in self._tables:
                self._tables[key] = list(forms)
                for form in forms:
                    self._forms.setdefault(form.info.block_id, []).append(form)

    def forget(self, packs: Collection[str]) -> None:
        """Forget packs that were deleted, or are about to be."""
        with self._mutex:
            for key in set(packs) & set(self._tables):
                for form in self._tables.pop(key):
                    self._forms[form.info.block_id].remove(form)

    def known_packs(self) -> frozenset[str]:
        """Packs whose tables were read."""
        with self._mutex:
            return frozenset(self._tables)

    def forms_in(self, pack: str) -> list[Form]:
        """Forms in a pack, in order; none if its table was not read."""
        with self._mutex:
            return list(self._tables.get(pack, ()))

    def forms(self, block_id: BlockId) -> list[Form]:
        """Forms of a block in the packs whose tables were read, those that need the fewest others first."""
        with self._mutex:
            found = list(self._forms.get(block_id, ()))
        return sorted(found, key=lambda form: (len(form.info.needs), form.info.stored_bytes, form.pack))

    def resolve(
        self, block_id: BlockId, packs: Collection[str] | None = None, steps: int = STEPS
    ) -> dict[BlockId, Form] | None:
        """A block's form with forms of all that it needs, each need first; None if they are not all there.

        Args:
            block_id: The block.
            packs: Packs that may be used; None for all whose tables were read.
            steps: Most steps to the last need.
        """
        for form in self.forms(block_id):
            if packs is None or form.pack in packs:
                chosen = self._with_needs(form, packs, steps)
                if chosen is not None:
                    return chosen
        return None

    def _with_needs(
        self, form: Form, packs: Collection[str] | None, steps: int
    ) -> dict[BlockId, Form] | None:
        chosen: dict[BlockId, Form] = {}
        bases = form.info.bases
        if bases and not steps:
            return None
        further = steps - 1 if form.info.codec in FOLLOWERS else 0
        for base in bases:
            needed = self.resolve(base, packs, further)
            if needed is None or form.info.block_id in needed:
                return None
            chosen |= needed
        return chosen | {form.info.block_id: form}

    def read_blocks(self, forms: Sequence[Form]) -> Generator[StoredBlock, None, None]:
        """Blocks by their forms, in order; payloads are checked. Neighbours in a pack are one request.

        Raises:
            BlockMissingError: If a pack is gone.
            BlockCorruptError: If a payload is damaged.
        """
        for some in in_order_bounded(self._pool, self._read_run, runs(forms)):
            yield from some

    def _read_run(self, forms: Sequence[Form]) -> list[StoredBlock]:
        try:
            wanted = [(form.offset, form.stop) for form in forms if form.info.stored_bytes]
            parts = iter(self.objects.read_ranges(forms[0].pack, wanted) if wanted else ())
        except FileNotFoundError:
            raise BlockMissingError(forms[0].info.block_id, f"{forms[0].pack}, which is gone") from None
        return [form.block(next(parts) if form.info.stored_bytes else b"") for form in forms]

    def _name(self, key: str) -> NameRecord | None:
        """A generation of a name; None if a newer one took its place meanwhile."""
        if key not in self._names:
            try:
                self._names[key] = NameRecord.decode(key, self.objects.read(key))
            except FileNotFoundError:
                return self.find(split_name_key(key)[0])
        return self._names[key]

    def _table(self, key: str, skip_gone: bool) -> list[Form] | None:
        try:
            head = self.objects.read_range(key, 0, HEAD_BYTES)
            stop = table_bytes(key, head)
            if stop > len(head):
                head = self.objects.read_range(key, 0, stop)
        except FileNotFoundError:
            if skip_gone:
                return None
            raise
        return read_table(key, head)


def newest_keys(keys: Iterable[str]) -> dict[str, str]:
    """The key of the highest generation of each name."""
    newest: dict[str, str] = {}
    for key in keys:
        name, _ = split_name_key(key)
        newest[name] = max(key, newest.get(name, key))
    return newest


def runs(forms: Sequence[Form]) -> Iterator[list[Form]]:
    """Forms of one pack that follow one another, in runs of about `PACK_BYTES` at most."""
    for _, same in groupby(forms, key=lambda form: form.pack):
        run: list[Form] = []
        size = 0
        for form in same:
            if run and size + form.info.stored_bytes > PACK_BYTES:
                yield run
                run, size = [], 0
            run.append(form)
            size += form.info.stored_bytes
        yield run


def in_order_bounded(
    pool: Pool, function: Callable[[list[Form]], list[StoredBlock]], items: Iterable[list[Form]]
) -> Iterator[list[StoredBlock]]:
    """Results in order, with at most two of them ahead of the one that is used: memory stays bounded."""
    waiting: list[Future[list[StoredBlock]]] = []
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        settle(waiting)
