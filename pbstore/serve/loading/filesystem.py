"""`pbstore://`: models of a store, a node or an object store as a filesystem of fsspec, for reading only."""

import errno
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
from fsspec.asyn import get_loop, sync
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from pbstore.errors import ManifestError, ModelMissingError
from pbstore.manifest import FileEntry, Manifest
from pbstore.serve.loading.place import PLACE, Place, open_place, place_named


class PBStoreFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Files of stored models under `pbstore://ORG/MODEL/FILE`; no byte is given before its block was checked.

    Args:
        store: Folder of a store, URL of a node, or of an object store; None for `PBCAST_PLACE`.
        token: Bearer token for a node; None for `PBCAST_TOKEN`.
    """

    protocol: ClassVar[str] = "pbstore"
    root_marker: ClassVar[str] = ""

    def __init__(self, store: str | None = None, token: str | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        place = store or place_named()
        if not place:
            raise ValueError(f"expected store=FOLDER_OR_URL, or the environment variable {PLACE}")
        self._loop = get_loop()
        self._place: Place = sync(self._loop, open_place, str(place), token)
        self._manifests: dict[str, Manifest] = {}

    def close(self) -> None:
        """Let go of files and connections; the filesystem cannot be used afterwards."""
        sync(self._loop, self._place.close)
        type(self).clear_instance_cache()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look anew at what each name means."""
        self._manifests.clear()

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:  # noqa: ANN401
        """What lies in a folder: parts of names, then files of models.

        Raises:
            FileNotFoundError: If there is no such folder or file.
        """
        path = self._strip_protocol(path).strip("/")
        found = dict(self._children(path))
        if not found:
            found[path] = self.info(path)
        entries = [found[name] for name in sorted(found)]
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Name, size and type of a file or folder; of a file its sha256, too.

        Raises:
            FileNotFoundError: If there is none.
        """
        path = self._strip_protocol(path).strip("/")
        file = self._file(path)
        if file is not None:
            return _file_info(path, file)
        if path and not any(True for _ in self._children(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _folder_info(path)

    def ukey(self, path: str) -> str:
        """The sha256 of a file."""
        return str(self.info(path).get("sha256", path))

    def cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> bytes:
        """Bytes of a file, or of a part of it."""
        file = self._needed(self._strip_protocol(path).strip("/"))
        first, last, _ = slice(start, end).indices(file.size_bytes)
        return self._read(file, first, last)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> "StoredFile":
        if mode != "rb":
            self._refuse(path)
        file = self._needed(path)
        return StoredFile(self, path, file, block_size or "default", cache_options, **options)

    def _refuse(self, path: object, *_: object, **__: object) -> None:
        """Whatever writes: said here, for some of fsspec's own do nothing and say nothing."""
        raise OSError(errno.EROFS, "stored models are for reading only", str(path))

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = pipe_file = put_file = touch = mv = _refuse

    def _read(self, file: FileEntry, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        return bytes(sync(self._loop, _whole, self._place, file, start, stop))

    def _needed(self, path: str) -> FileEntry:
        file = self._file(path)
        if file is None:
            known = self.isdir(path)
            number = errno.EISDIR if known else errno.ENOENT
            raise (IsADirectoryError if known else FileNotFoundError)(number, os.strerror(number), path)
        return file

    def _file(self, path: str) -> FileEntry | None:
        """A file by its path; of several models that could hold it, that with the longest name."""
        for name, rest in _splits(path):
            manifest = self._manifest(name)
            if manifest is not None:
                for file in manifest.files:
                    if file.path == rest:
                        return file
        return None

    def _manifest(self, name: str) -> Manifest | None:
        if name not in self._manifests:
            try:
                revision = sync(self._loop, self._place.library.revision, name)
            except (ModelMissingError, ManifestError):
                return None
            self._manifests[name] = revision.manifest
        return self._manifests[name]

    def _children(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What lies directly in a folder."""
        inside = f"{path}/" if path else ""
        for name in sync(self._loop, self._place.names):
            if name.startswith(inside):
                folder = inside + name[len(inside) :].split("/")[0]
                yield folder, _folder_info(folder)
            if name == path or path.startswith(f"{name}/"):
                manifest = self._manifest(name)
                for file in () if manifest is None else manifest.files:
                    full = f"{name}/{file.path}"
                    if full.startswith(inside):
                        child = inside + full[len(inside) :].split("/")[0]
                        yield child, _file_info(full, file) if child == full else _folder_info(child)


class StoredFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a stored model, open for reading."""

    def __init__(
        self,
        fs: PBStoreFileSystem,
        path: str,
        entry: FileEntry,
        block_size: int | str,
        cache_options: dict[str, Any] | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.entry = entry
        super().__init__(
            fs, path, "rb", block_size, cache_options=cache_options, size=entry.size_bytes, **options
        )

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs._read(self.entry, start, min(end, self.entry.size_bytes))  # type: ignore[no-any-return]


async def _whole(place: Place, file: FileEntry, start: int, stop: int) -> bytearray:
    data = bytearray()
    async for part in place.library.read(file, start, stop):
        data += part
    return data


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Names that a path may begin with, and what follows; the longest first."""
    parts = path.split("/")
    for length in range(min(len(parts) - 1, 8), 0, -1):
        yield "/".join(parts[:length]), "/".join(parts[length:])


def _file_info(path: str, file: FileEntry) -> dict[str, Any]:
    return {"name": path, "size": file.size_bytes, "type": "file", "sha256": file.sha256}


def _folder_info(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def register() -> None:
    """Make `pbstore://` known to fsspec, where pbcast is not installed with its entry points."""
    fsspec.register_implementation("pbstore", PBStoreFileSystem, clobber=True)
