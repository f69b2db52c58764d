"""Reading from packs: open files and read-only maps, kept until the store is closed."""

import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from pbstore.disk.files import fsio
from pbstore.disk.files.pack import Record, pack_path, read_exact
from pbstore.errors import BlockCorruptError, PackCorruptError

PART_BYTES = 1 << 19
"""Bytes of a raw payload that are read, hashed and written at a time."""


class OpenPack:
    """A file that is closed when nobody reads from it any more."""

    __slots__ = ("fd", "path")

    def __init__(self, path: Path) -> None:
        self.fd, self.path = -1, path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fsio.share_lock(self.fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class PackReader:
    """Open packs of one store; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, OpenPack] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._mutex = threading.Lock()

    def read(self, pack: int, record: Record) -> bytes:
        """Payload of a record.

        Raises:
            FileNotFoundError: If the pack was collected meanwhile; look the block up again.
            PackCorruptError: If the pack is shorter than the record says.
        """
        file = self._file(pack)
        if os.fstat(file.fd).st_size < record.end:
            raise PackCorruptError(pack, record.payload_offset, "payload is cut short")
        payload = read_exact(file.fd, record.payload_offset, record.stored_bytes)
        if len(payload) != record.stored_bytes:
            raise PackCorruptError(pack, record.payload_offset, f"payload is cut short: {len(payload)} bytes")
        return payload

    def read_into(self, pack: int, record: Record, out: memoryview) -> None:
        """`read`, into memory of the payload's length."""
        file = self._file(pack)
        done = 0
        while done < record.stored_bytes:
            count = os.preadv(file.fd, [out[done:]], record.payload_offset + done)
            if not count:
                raise PackCorruptError(pack, record.payload_offset, f"payload is cut short: {done} bytes")
            done += count

    def clone(self, pack: int, record: Record, fd: int, offset: int) -> bool:
        """Give a file a raw payload, checked, whose whole pages it shares; False if the file system cannot.

        Raises:
            FileNotFoundError: If the pack was collected meanwhile; look the block up again.
            BlockCorruptError: If the payload does not hash to the block's id.
        """
        length = record.stored_bytes // fsio.CLONE_ALIGN * fsio.CLONE_ALIGN
        if not length or offset % fsio.CLONE_ALIGN or record.payload_offset % fsio.CLONE_ALIGN:
            return False
        file = self._file(pack)
        if not fsio.clone_range(file.fd, record.payload_offset, length, fd, offset):
            return False
        rest = read_exact(file.fd, record.payload_offset + length, record.stored_bytes - length)
        fsio.write_at(fd, rest, offset + length)
        for _ in self._checked(file, pack, record):
            pass
        return True

    def header(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of a pack, fewer at its end."""
        file = self._file(pack)
        return read_exact(file.fd, offset, length)

    def view(self, pack: int, record: Record) -> memoryview:
        """Payload of a record in a read-only map of the pack: no copy, valid as long as the view is kept."""
        file = self._file(pack)
        if os.fstat(file.fd).st_size < record.end:  # a map behind the end of its file would kill the process
            raise PackCorruptError(pack, record.payload_offset, "payload is cut short")
        with self._mutex:
            mapped = self._maps.get(pack)
        if mapped is None or len(mapped) < record.end:
            mapped = self._map(pack, file.fd)
        return memoryview(mapped)[record.payload_offset : record.end]

    def checked_parts(self, pack: int, record: Record) -> Iterator[memoryview]:
        """A raw payload in runs that fit the processor's cache, each valid until the next is asked for.

        Raises:
            FileNotFoundError: If the pack was collected meanwhile; look the block up again.
            PackCorruptError: If the pack is shorter than the record says.
            BlockCorruptError: Behind the last run, if all of them do not hash to the block's id.
        """
        return self._checked(self._file(pack), pack, record)

    def _checked(self, file: OpenPack, pack: int, record: Record) -> Iterator[memoryview]:
        digest, buffer = blake3(), memoryview(bytearray(min(PART_BYTES, record.stored_bytes)))
        position = record.payload_offset
        while position < record.end:
            count = os.preadv(file.fd, [buffer[: record.end - position]], position)
            if not count:
                raise PackCorruptError(pack, position, "payload is cut short")
            digest.update(buffer[:count])
            yield buffer[:count]
            position += count
        if digest.hexdigest() != record.block_id:
            raise BlockCorruptError(record.block_id, f"its bytes hash to {digest.hexdigest()[:12]}")

    def open(self, pack: int) -> OpenPack:
        """A pack, open for reading as long as somebody holds what this gives.

        Raises:
            FileNotFoundError: If it was collected meanwhile; look the block up again.
        """
        return self._file(pack)

    def forget_gone(self) -> None:
        """Let go of all packs that others have deleted, so that the disk gets their room back."""
        with self._mutex:
            gone = [pack for pack, file in self._files.items() if not os.fstat(file.fd).st_nlink]
        for pack in gone:
            self.forget(pack)

    def forget(self, pack: int) -> None:
        """Let go of a pack that was collected; reads and views in progress keep it until they end."""
        with self._mutex:
            self._maps.pop(pack, None)
            self._files.pop(pack, None)

    def close(self) -> None:
        """Let go of all packs; views live on as long as somebody holds them."""
        with self._mutex:
            self._files.clear()
            self._maps.clear()

    def _file(self, pack: int) -> OpenPack:
        with self._mutex:
            file = self._files.get(pack)
            if file is None:
                file = self._files[pack] = OpenPack(pack_path(self._folder, pack))
            return file

    def _map(self, pack: int, fd: int) -> mmap.mmap:
        mapped = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        with self._mutex:
            self._maps[pack] = mapped
        return mapped
