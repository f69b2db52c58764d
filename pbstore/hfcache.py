"""The Hugging Face cache on this machine: its model snapshots, and a store that takes all of them in."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pbstore.errors import BadFileError, IndexCorruptError, ManifestError, PBStoreError, StoreLockedError
from pbstore.folders.ingest import AddReport
from pbstore.manifest import Manifest, check_name
from pbstore.savings import Savings

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_REF = 1000
_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One revision of a model in the cache."""

    name: str
    """ORG/MODEL, with the start of the revision behind it if it is not the main one."""
    revision: str
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BadItem:
    """Something in the cache that cannot be taken in."""

    model: str
    """Its name, or that of its folder in the cache if it is no model's."""
    path: str
    error: str
    exit_code: int = 1

    def __str__(self) -> str:
        where = "" if self.error.startswith(self.path) else f"{self.path}: "
        return f"{self.model}: {where}{self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContent:
    """What lies in a cache."""

    snapshots: tuple[Snapshot, ...]
    """By name, adapters last: then their bases are there before them."""
    bad: tuple[BadItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What taking a cache in has done to a store."""

    models: tuple[AddReport, ...]
    failed: tuple[BadItem, ...]
    savings: Savings
    """Of the whole store, afterwards."""


def default_cache() -> Path:
    """Where huggingface_hub keeps its cache, by the same environment variables, `~` and `$NAME` in them."""
    plain = Path(os.environ.get("XDG_CACHE_HOME", Path("~/.cache").expanduser()), "huggingface")
    home = _expand(os.environ.get("HF_HOME", str(plain)))
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", str(Path(home, "hub")))
    return Path(_expand(os.environ.get("HF_HUB_CACHE", older)))


def look_into(cache: Path) -> CacheContent:
    """All model snapshots of a cache, and what is wrong in it; nothing of the snapshots themselves is read.

    Raises:
        FileNotFoundError, OSError: If there is no such folder, or it cannot be read.
    """
    if not cache.is_dir():
        raise FileNotFoundError(f"no Hugging Face cache at {cache}")
    found: list[Snapshot] = []
    bad: list[BadItem] = []
    for repo in sorted(cache.iterdir()):
        if repo.name.startswith("models--"):
            try:
                name = check_name("/".join(repo.name.removeprefix("models--").split("--")))
                found += _snapshots(repo, name, bad)
            except (PBStoreError, OSError) as error:
                bad.append(_bad(repo.name, repo, error))
    found.sort(key=lambda item: ((item.folder / _CONFIG).exists(), item.name))
    return CacheContent(snapshots=tuple(found), bad=tuple(bad))


def import_cache(
    store: "DiskBlockStore",
    content: CacheContent,
    *,
    keep_damaged: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Add all snapshots of a cache; those that cannot be added are named in the report, and the others go on.

    Files that the cache calls by their SHA-256, as it does with weights, are compared with it.

    Args:
        store: Where they go.
        content: What `look_into` has found.
        keep_damaged: Keep files that are not what their names say as they are.
        progress: Called with the bytes that were just read.
    """
    reports: list[AddReport] = []
    failed = list(content.bad)
    stopped: Exception | None = None
    for item in content.snapshots:
        try:
            if stopped is not None:
                raise stopped
            reports.append(_add(store, item, keep_damaged, progress))
        except (PBStoreError, OSError) as error:
            failed.append(_bad(item.name, item.folder, error))
            if isinstance(error, StoreLockedError | IndexCorruptError):  # the next one would fare no better
                stopped = error
    return ImportReport(models=tuple(reports), failed=tuple(failed), savings=store.savings())


def _add(
    store: "DiskBlockStore", item: Snapshot, keep_damaged: bool, progress: Callable[[int], None] | None
) -> AddReport:
    def check(manifest: Manifest) -> None:
        for path, why in _damaged(item.folder, manifest):
            raise BadFileError(str(item.folder / path), why)

    report = store.add(
        item.folder,
        item.name,
        keep_damaged=keep_damaged,
        check=None if keep_damaged else check,
        progress=lambda _, size: progress(size) if progress is not None else None,
    )
    further = dict(_damaged(item.folder, store.manifest(item.name))) if keep_damaged else {}
    return replace(report, damaged=tuple(sorted({*report.damaged, *further})))


def _damaged(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Files that are not what the cache calls them by."""
    for entry in manifest.files:
        place = folder / entry.path
        wanted = place.resolve().name if place.is_symlink() else ""
        if _SHA256.fullmatch(wanted) and wanted != entry.sha256:
            yield entry.path, f"damaged: its sha256 is {entry.sha256[:12]}, and should be {wanted[:12]}"


def _snapshots(repo: Path, name: str, bad: list[BadItem]) -> Iterator[Snapshot]:
    """The snapshots with something in them; what is wrong with others goes into `bad`."""
    if not repo.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder", str(repo))
    folders = []
    for folder in sorted((repo / "snapshots").iterdir()) if (repo / "snapshots").exists() else ():
        try:
            if any(folder.iterdir()):
                folders.append(folder)
        except OSError as error:
            bad.append(_bad(name, folder, error))
    main = None
    try:
        main = _main_revision(repo, [folder.name for folder in folders])
    except (PBStoreError, OSError) as error:
        bad.append(_bad(name, repo / "refs" / "main", error))
    for folder in folders:
        own = name if folder.name == main else f"{name}/{folder.name[:12]}"
        yield Snapshot(name=own, revision=folder.name, folder=folder)


def _main_revision(repo: Path, revisions: list[str]) -> str | None:
    """The revision that `main` points to, else the only one there is.

    Raises:
        BadFileError: If it points to none that is there, or is no text.
    """
    ref = repo / "refs" / "main"
    if not os.path.lexists(ref):
        return revisions[0] if len(revisions) == 1 else None
    if not ref.is_file() or ref.stat().st_size > _LONGEST_REF:
        raise BadFileError(str(ref), "expected a file with the name of a revision")
    try:
        main = ref.read_text().strip()
    except UnicodeDecodeError:
        raise BadFileError(str(ref), "expected the name of a revision, got other bytes") from None
    if revisions and main not in revisions:
        there = ", ".join(revision[:12] for revision in revisions)
        raise BadFileError(str(ref), f"main is {main[:40]!r}, of which there is no snapshot, only {there}")
    return main


def _bad(model: str, folder: Path, error: Exception) -> BadItem:
    path = None if isinstance(error, ManifestError) else getattr(error, "path", None)
    path = path or getattr(error, "filename", None)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    code = int(getattr(error, "exit_code", 1))
    return BadItem(model=model, path=str(path or folder), error=text, exit_code=code)


def _expand(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 - leaves unknown users as they are
