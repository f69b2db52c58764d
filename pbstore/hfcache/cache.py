"""The Hugging Face cache on this machine: its model snapshots, and a store that takes all of them in."""

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pbstore.bulk.add import BadItem, ToAdd, add_all
from pbstore.disk.index.revisions import check_tag
from pbstore.errors import BadFileError, ManifestError, ModelMissingError, PBStoreError
from pbstore.folders.ingest import AddReport
from pbstore.folders.source import list_source
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
    """ORG/MODEL."""
    revision: str
    """The Hub's commit, which the store's revision gets as a tag."""
    folder: Path
    is_main: bool = True
    """Whether it is what the name means."""
    tags: tuple[str, ...] = ()
    """Names that the cache has for it, besides its commit: branches and tags of the Hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContent:
    """What lies in a cache."""

    snapshots: tuple[Snapshot, ...]
    """By name, adapters last, so that their bases are there before them; of a model the main one last."""
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
    found.sort(key=lambda item: ((item.folder / _CONFIG).exists(), item.name))  # keeps a model's order
    return CacheContent(snapshots=tuple(found), bad=tuple(bad))


def choose(content: CacheContent, patterns: Sequence[str]) -> CacheContent:
    """What of a cache has one of these names; `fnmatch` patterns.

    Raises:
        ModelMissingError: If a pattern matches nothing.
    """
    snapshots = [item for item in content.snapshots if any(fnmatchcase(item.name, one) for one in patterns)]
    bad = [item for item in content.bad if any(fnmatchcase(item.model, one) for one in patterns)]
    names = {*(item.name for item in snapshots), *(item.model for item in bad)}
    for one in patterns:
        if not any(fnmatchcase(name, one) for name in names):
            raise ModelMissingError(one, "in the cache")
    return CacheContent(snapshots=tuple(snapshots), bad=tuple(bad))


def import_cache(
    store: "DiskBlockStore",
    content: CacheContent,
    *,
    keep_damaged: bool = False,
    progress: Callable[[int], None] | None = None,
    tell: Callable[[AddReport | BadItem], None] | None = None,
) -> ImportReport:
    """Add all snapshots of a cache; those that cannot be added are named in the report, and the others go on.

    Snapshots of one model become its revisions, each with the Hub's commit as a tag. What is there already
    is not read again. Files that the cache calls by their SHA-256, as it does with weights, are compared
    with it.

    Args:
        store: Where they go.
        content: What `look_into` has found.
        keep_damaged: Keep files that are not what their names say as they are.
        progress: Called with the bytes that were just read, or need not be.
        tell: Called with what became of each.
    """
    there = [(item, _as_stored(store, item)) for item in content.snapshots]
    known = [report for _, report in there if report is not None]
    wanted = [_to_add(item, keep_damaged) for item, report in there if report is None]
    if tell is not None:
        for one in known:
            tell(one)
    report = add_all(store, wanted, progress=progress, tell=tell, keep_damaged=keep_damaged)
    added = [_with_damaged(store, one, content) for one in report.models] if keep_damaged else report.models
    _put_main_first(store, content)
    failed = (*content.bad, *report.failed)
    return ImportReport(models=(*known, *added), failed=failed, savings=store.savings())


def _to_add(item: Snapshot, keep_damaged: bool) -> ToAdd:
    tags = (item.revision, *item.tags) if _is_tag(item.revision) else item.tags
    return ToAdd(name=item.name, folder=item.folder, check=None if keep_damaged else _check(item), tags=tags)


def _is_tag(revision: str) -> bool:
    try:
        check_tag(revision)
    except ManifestError:
        return False
    return True


def _check(item: Snapshot) -> Callable[[Manifest], None]:
    def check(manifest: Manifest) -> None:
        for path, why in _damaged(item.folder, manifest):
            raise BadFileError(str(item.folder / path), why)

    return check


def _as_stored(store: "DiskBlockStore", item: Snapshot) -> AddReport | None:
    """What is said of a snapshot that is a revision with its tag and the same files; None if it is not."""
    try:
        if not {item.revision, *item.tags} <= set(store.disk.tags(item.name)):
            return None
        row = store.disk.model_row(f"{item.name}@{item.revision}")
        stored = {entry.path: entry.size_bytes for entry in store.disk.manifest_of(row).files}
        source = list_source(item.folder, store.disk.own)
    except (PBStoreError, OSError):
        return None
    if {file.path: file.stamp.size for file in source.files} != stored:
        return None
    return AddReport.known(row.key.model, row.num_files, row.num_blocks, row.raw_bytes, row.form, row.commit)


def _put_main_first(store: "DiskBlockStore", content: CacheContent) -> None:
    """Let each name mean what it means in the cache, where that came in."""
    for item in content.snapshots:
        if item.is_main and _is_tag(item.revision):
            with suppress(ModelMissingError):
                row = store.disk.model_row(f"{item.name}@{item.revision}")
                if row.key.past_ms is not None:
                    store.history.copy(f"{item.name}@{row.commit}", item.name)


def _with_damaged(store: "DiskBlockStore", report: AddReport, content: CacheContent) -> AddReport:
    """The report of a model with the files that are not what the cache calls them by."""
    further: set[str] = set()
    for item in content.snapshots:
        if item.name == report.name:
            with suppress(ModelMissingError):
                further |= dict(_damaged(item.folder, store.manifest(f"{item.name}@{report.commit}"))).keys()
    return replace(report, damaged=tuple(sorted({*report.damaged, *further})))


def _damaged(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Files that are not what the cache calls them by."""
    for entry in manifest.files:
        place = folder / entry.path
        blob = place.resolve() if place.is_symlink() else place
        wanted = blob.name if blob.parent.name == "blobs" else ""  # in blobs/ab/ they go by their Xet hash
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
    named = _refs(repo)
    folders.sort(key=lambda folder: (folder.name == main, folder.stat().st_mtime_ns, folder.name))
    for folder in folders:
        tags = tuple(sorted(ref for ref, revision in named.items() if revision == folder.name))
        is_main = folder.name == main if main is not None else folder == folders[-1]
        yield Snapshot(name=name, revision=folder.name, folder=folder, is_main=is_main, tags=tags)


def _refs(repo: Path) -> dict[str, str]:
    """Branches and tags that the cache knows, besides `main`, and the revisions that they mean."""
    refs: dict[str, str] = {}
    folder = repo / "refs"
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        ref = path.relative_to(folder).as_posix()
        if _is_tag(ref) and path.is_file() and path.stat().st_size <= _LONGEST_REF:
            with suppress(UnicodeDecodeError):
                refs[ref] = path.read_text().strip()
    return refs


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
    return BadItem.of(model, folder, error)


def _expand(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 - leaves unknown users as they are
