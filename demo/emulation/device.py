"""A user's device: receives coded blocks, reassembles models bit for bit and checks them."""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.parts import CodedPart, Part, cut, join
from pbstore import BlockId, BlockInfo, BlockMissingError, IntegrityError, Manifest, StoredBlock, open_store
from pbstore.disk.blocks.compact import keep_within

_MOST_DEAD_BYTES = 4 << 20
"""Of blocks that were let go of, in the files of a device's store."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A model on a device."""

    folder: Path
    """Where its files are."""
    sha256_ok: bool
    """Every file equals the source's, and there are no others."""
    files_sha256: str
    """One hash of all files as they are here, see `files_digest`."""


class Device:
    """A store without a limit, and the folders that were reassembled from it."""

    def __init__(self, folder: Path, *, comes_back: bool = False) -> None:
        """Open the device's store below a folder; unless it comes back, what was there is deleted."""
        if not comes_back:
            shutil.rmtree(folder, ignore_errors=True)
        self.store = open_store(folder / "store", durable=False)
        self._models = folder / "models"
        self._parts: dict[BlockInfo, dict[Part, CodedPart]] = {}
        self._waiting: dict[BlockId, StoredBlock] = {}

    def receive(self, coded: CodedPart) -> None:
        """Keep a part from the air; a block waits for all its parts in one form, and for its base.

        Raises:
            BlockCorruptError: If it does not decode to what its id says; none of its parts are kept then.
        """
        block_id = coded.part.block_id
        if self.store.has(block_id):
            return
        gathered = self._parts.setdefault(coded.info, {})
        gathered[coded.part] = coded
        if len(gathered) < coded.part.count:
            return
        self._waiting[block_id] = join(list(self._parts.pop(coded.info).values()))
        while ready := [one for one in self._waiting.values() if all(map(self.store.has, one.bases))]:
            for block in ready:
                del self._waiting[block.block_id]
                self.store.import_block(block)

    def reassemble(self, manifest: Manifest, hashes: Mapping[str, str]) -> Delivery:
        """Write a model's files and compare each with the source.

        Args:
            manifest: The model, all of whose blocks have been received.
            hashes: SHA-256 of every file of what was added to the library in the first place, by path.

        Raises:
            BlockMissingError: If a block has not been received.
        """
        self.store.put_manifest(manifest)
        folder = self._models / manifest.name
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self.store.checkout(manifest.name, folder)
        ours = file_hashes(folder)
        return Delivery(folder, ours == dict(hashes), files_digest(ours))

    def discard_folders(self) -> None:
        """Delete the rebuilt folders; the blocks stay."""
        shutil.rmtree(self._models, ignore_errors=True)

    def keep(self, parts: frozenset[Part]) -> None:
        """Make room: forget every model, its folder and all blocks but these and those that they need.

        Raises:
            BlockMissingError: If one of these was never received.
        """
        chosen: dict[BlockId, list[Part]] = defaultdict(list)
        for part in parts:
            chosen[part.block_id].append(part)
        blocks = frozenset(b for b, some in chosen.items() if len(some) == some[0].count)
        ranges = [
            self._part(part) for block_id, some in chosen.items() if block_id not in blocks for part in some
        ]
        self._parts = {}
        for coded in ranges:
            self._parts.setdefault(coded.info, {})[coded.part] = coded
        if missing := next((block_id for block_id in blocks if not self.store.has(block_id)), None):
            raise BlockMissingError(missing, "what the device should have kept")
        for name in self.store.models():
            self.store.remove(name, trash=False)
        held = {block_id: self.store.info(block_id) for block_id in self.store.block_ids()}
        wanted = blocks.union(*(held[block_id].needs for block_id in blocks))
        surplus = [info for block_id, info in held.items() if block_id not in wanted]
        for info in sorted(surplus, key=lambda info: -len(info.needs)):  # each before all that it needs
            self.store.delete_block(info.block_id)
        self._waiting = {}
        self._give_back()
        self.discard_folders()

    def _give_back(self) -> None:
        """Let the files be not much longer than what is in them: a store without a limit only grows."""
        most = self.store.used_bytes + max(self.store.used_bytes // 8, _MOST_DEAD_BYTES)
        with self.store.disk.writing() as transaction:
            keep_within(self.store.disk, transaction, most)

    def forget_damaged(self) -> None:
        """Forget every model, and all blocks that cannot be read or are made of such."""
        for name in self.store.models():
            self.store.remove(name, trash=False)
        held = {block_id: self.store.info(block_id) for block_id in self.store.block_ids()}
        bad = {block_id for block_id in held if not self._can_read(block_id)}
        bad |= {block_id for block_id, info in held.items() if bad.intersection(info.needs)}
        for block_id in sorted(bad, key=lambda one: -len(held[one].needs)):
            self.store.delete_block(block_id)

    def _can_read(self, block_id: BlockId) -> bool:
        try:
            self.store.get(block_id)
        except IntegrityError:
            return False
        return True

    def _part(self, part: Part) -> CodedPart:
        """One part of a block of which not all is kept."""
        for gathered in self._parts.values():
            if part in gathered:
                return gathered[part]
        return cut(self.store.export_block(part.block_id), part)

    def has(self, part: Part) -> bool:
        """Whether a part is here, by itself or in its block."""
        return self.store.has(part.block_id) or any(part in gathered for gathered in self._parts.values())


def files_digest(hashes: Mapping[str, str]) -> str:
    """One hash of all files of a model: SHA-256 over its sorted lines `SHA256  PATH`."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
