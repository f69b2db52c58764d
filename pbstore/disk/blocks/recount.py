"""Who needs which block, counted from manifests and records: nothing is deleted on the word of the index.

The index counts references so that questions are quick. Its rows may be damaged. So before a block is dropped
or a pack is deleted, the references are counted again from the manifests that lie in the store, and the needs
are read again from the headers of the records. All of it takes time linear in models and blocks.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from pbstore.disk.blocks import manifests_found
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.files import pack
from pbstore.disk.files.layout import TRASH_SUFFIX
from pbstore.disk.index import locations, model_rows, packs
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import HOT
from pbstore.errors import PackCorruptError, PBStoreError, UnsafeDeletionError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Named:
    """What the manifests of a store name."""

    refs: Counter[bytes] = field(default_factory=Counter)
    """Manifests that name a block, by its key."""
    hot_refs: Counter[bytes] = field(default_factory=Counter)
    """Those of hot models."""
    files: Counter[bytes] = field(default_factory=Counter)
    """Files of models by their sha256."""
    unreadable: list[str] = field(default_factory=list)
    """One line for each manifest that cannot be read: what it names is not known."""
    odd: list[str] = field(default_factory=list)
    """One line for each model that the index does not know, or of which it says something else."""

    def take(self, manifest: Manifest, hot: bool, *, trashed: bool = False) -> None:
        """Count what a manifest names; of a model in the trash, the blocks only."""
        keys = [bytes.fromhex(block_id) for block_id in manifest.block_ids()]
        self.refs.update(keys)
        if not trashed:
            self.files.update(bytes.fromhex(entry.sha256) for entry in manifest.files)
        if hot:
            self.hot_refs.update(keys)


@dataclass(frozen=True, slots=True)
class Witness:
    """What must stay, by manifests and records.

    Attributes:
        needed: Keys of blocks that manifests name, and of what these need.
        held: Keys of all blocks that the index knows or that something needs.
    """

    needed: frozenset[bytes]
    held: frozenset[bytes]


def count(blocks: BlockReader) -> Named:
    """Count references from all manifests in the store, also from those that the index has no model for.

    Inside `writing`, what the open transaction removes is not counted, and what it files is.
    """
    named = Named()
    rows = sorted(model_rows.all_models(blocks.connection), key=lambda row: row.place)  # a sheaf at once
    for row in rows:
        try:
            manifest = model_rows.read_manifest(blocks.layout, row)
        except (PBStoreError, OSError) as error:
            named.unreadable.append(str(error))
        else:
            named.take(manifest, row.form == HOT, trashed=row.removed_ms is not None)
            if model_rows.says_other(row, manifest):
                named.odd.append(f"the index and the manifest of {row.title} disagree about the model")
    known = {row.file for row in rows} | blocks.leaving_manifests()
    for file, loaded in manifests_found.unknown(blocks.layout, known):
        trashed = file.endswith(TRASH_SUFFIX)
        if loaded is not None and trashed and _is_forgotten(blocks, loaded[0]):
            continue
        if loaded is not None:
            named.take(loaded[0], False, trashed=trashed)
            named.odd.append(
                f"the index does not know model {loaded[0].name}, whose manifest is in the store"
            )
        else:
            named.unreadable.append(
                f"manifest file {file} is damaged, and which model it is of is not known:"
                " `repair` takes it from another store; without it, delete the file"
            )
    return named


def _is_forgotten(blocks: BlockReader, manifest: Manifest) -> bool:
    """Whether a removed model's blocks went: a crash came before its manifest did."""
    found = locations.find_many(blocks.connection, manifest.block_ids())
    return any(block_id not in found for block_id in manifest.block_ids())


def recount(blocks: BlockReader, connection: sqlite3.Connection) -> Named:
    """Count references and used bytes anew, on the writer's connection, and correct the index.

    Raises:
        UnsafeDeletionError: If a manifest cannot be read.
    """
    named = readable_count(blocks)
    wrong = _wrong_counts(connection, named)
    if wrong:
        if odd := _unexpected(connection, named, wrong):
            log.warning("%d blocks had a wrong number of references in the index: corrected", len(odd))
        right = [(named.refs[key], named.hot_refs[key], key) for key, _, _ in wrong]
        locations.set_counts(connection, right)
    model_rows.note_uncounted(connection, False)
    packs.count(connection)
    return named


def readable_count(blocks: BlockReader) -> Named:
    """Count references from all manifests.

    Raises:
        UnsafeDeletionError: If a manifest cannot be read.
    """
    named = count(blocks)
    if named.unreadable:
        raise UnsafeDeletionError(named.unreadable[0])
    return named


def witness(blocks: BlockReader, named: Named) -> Witness:
    """What must stay, after the index was compared with the headers of all records that it points to.

    Raises:
        UnsafeDeletionError: If they disagree, or if a pack has a block that a manifest names and the index
            does not know.
    """
    needs: dict[bytes, tuple[bytes, ...]] = {}
    for location in locations.all_locations(blocks.connection):
        if not same_header(blocks, location) and disagrees(blocks, location):
            raise UnsafeDeletionError(says_other(location))
        if location.record.needs:
            key = bytes.fromhex(location.record.block_id)
            needs[key] = tuple(bytes.fromhex(base) for base in location.record.needs)
    known = set(locations.keys(blocks.connection))
    needed = set(named.refs).union(*(needs[key] for key in named.refs if key in needs))
    held = known.union(named.refs, *needs.values())
    if lost := _found_in_packs(blocks, held - known):
        raise UnsafeDeletionError(f"the index does not know block {lost[:12]}, which is in a pack")
    return Witness(frozenset(needed), frozenset(held))


def same_header(blocks: BlockReader, location: Location) -> bool:
    """Whether the header of a block's record says what the index says."""
    try:
        expected = pack.encode_header(location.record)
        return blocks.record_header(location)[: len(expected)] == expected
    except (ValueError, FileNotFoundError):  # a codec that no record may have, a pack that is lost
        return False


def contradicts(blocks: BlockReader, location: Location) -> bool:
    """Whether the header of a block's record is whole and says something else than the index."""
    record = location.record
    try:
        return pack.decode_header(blocks.record_header(location), record.offset, location.pack) != record
    except (PackCorruptError, FileNotFoundError):
        return False


def disagrees(blocks: BlockReader, location: Location) -> bool:
    """Whether index and packs disagree about a block whose header is not as the index says.

    Otherwise the record is damaged or lost, and the index is all that tells of it.
    """
    key = bytes.fromhex(location.record.block_id)
    return contradicts(blocks, location) or _found_in_packs(blocks, {key}) is not None


def says_other(location: Location) -> str:
    """What is wrong with a block that `disagrees`."""
    return f"the index and pack {location.pack} disagree about block {location.record.block_id[:12]}"


def check_pack(blocks: BlockReader, number: int, held: Collection[bytes], *, all_of_it: bool = True) -> None:
    """Check, in a transaction, that nothing is lost if a pack is deleted, or else all but its live records.

    Raises:
        UnsafeDeletionError: If what goes has the only record of a block that must stay.
    """
    for record in records_of(blocks, number):
        location = locations.find(blocks.connection, record.block_id)
        if location is None:
            lost = bytes.fromhex(record.block_id) in held
        elif location.pack == number and (all_of_it or location.record.offset == record.offset):
            lost = all_of_it
        else:
            lost = not same_header(blocks, location)
        if lost:
            raise UnsafeDeletionError(f"pack {number} has the only record of block {record.block_id[:12]}")


def _found_in_packs(blocks: BlockReader, keys: set[bytes]) -> BlockId | None:
    """One of some blocks of which a pack has a record."""
    if not keys:
        return None
    for number in pack.pack_numbers(blocks.layout.packs):
        for record in records_of(blocks, number):
            if bytes.fromhex(record.block_id) in keys:
                return record.block_id
    return None


def records_of(blocks: BlockReader, number: int) -> Iterator[pack.Record]:
    """All records in a pack's file, whatever the index says."""
    path = blocks.readable_pack(number)
    try:
        with path.open("rb") as file:
            yield from pack.scan(file.fileno(), number, path.stat().st_size)
    except FileNotFoundError:
        return


def problems(blocks: BlockReader) -> list[str]:
    """How the index's counts differ from the manifests and the packs, one line each.

    A writer may be at work: what differs must do so twice.
    """
    first = _problems(blocks)
    if not first:
        return []
    again = set(_problems(blocks))
    return [line for line in first if line in again]


def _problems(blocks: BlockReader) -> list[str]:
    named = count(blocks)
    lines = [*named.odd, *_pack_problems(blocks)]
    if named.unreadable:  # named by whoever reads manifests; nothing can be counted
        return lines
    wrong = _wrong_counts(blocks.connection, named)
    for key, refs, hot_refs in _unexpected(blocks.connection, named, wrong):
        have, hot = named.refs[key], named.hot_refs[key]
        lines.append(
            f"block {key.hex()[:12]} counts {refs} models in the index ({hot_refs} hot),"
            f" {have} name it ({hot} hot)"
        )
    files = model_rows.file_refs(blocks.connection)
    if files != dict(named.files):
        lines.append("the index counts other files than the manifests name")
    return lines


def _pack_problems(blocks: BlockReader) -> Iterator[str]:
    """What is wrong with the index's rows of packs; a pack that is gone shows in its blocks."""
    for number, end, live, overhead, *true in packs.counted(blocks.connection):
        if end is None:
            yield f"the index does not know pack {number}, in which it says that blocks lie"
            continue
        if [live, overhead] != true[:2]:
            yield f"pack {number} counts {live} live bytes in the index and has {true[0]}"
        path = pack.pack_path(blocks.layout.packs, number)
        size = path.stat().st_size if path.exists() else end
        if true[2] > end or size < end:
            yield f"pack {number} has {size} bytes and a block that ends at {true[2]}, the index says {end}"


def _wrong_counts(connection: sqlite3.Connection, named: Named) -> Sequence[tuple[bytes, object, object]]:
    """Rows of blocks whose counts are not those of the manifests."""
    rows = locations.counts(connection)
    return [row for row in rows if (named.refs[row[0]], named.hot_refs[row[0]]) != row[1:]]


def _unexpected(
    connection: sqlite3.Connection, named: Named, wrong: Sequence[tuple[bytes, object, object]]
) -> Sequence[tuple[bytes, object, object]]:
    """Those that no model explains which went on a full disk: the counts of its blocks wait for a recount."""
    if not model_rows.has_uncounted(connection):
        return wrong
    return [row for row in wrong if not _counts_more(row, (named.refs[row[0]], named.hot_refs[row[0]]))]


def _counts_more(row: tuple[bytes, object, object], true: tuple[int, int]) -> bool:
    return all(isinstance(count, int) and count >= least for count, least in zip(row[1:], true, strict=True))
