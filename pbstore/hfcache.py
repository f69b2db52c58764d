"""The Hugging Face cache on this machine: which model snapshots it holds."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pbstore.feed import DryRun, FreshBlock
from pbstore.hashing import BlockId
from pbstore.ingest import Origin, scan_folder
from pbstore.manifest import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One revision of a model in the cache."""

    name: str
    """ORG/MODEL, with the start of the revision behind it if it is not the main one."""
    revision: str
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEstimate:
    """What sharing equal tensors alone would save in a cache; coding saves more."""

    models: int
    raw_bytes: int
    file_dedup_bytes: int
    block_dedup_bytes: int


class _Unique(DryRun):
    """Counts each distinct block once, over all models."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[BlockId] = set()
        self.num_bytes = 0

    def keep(self, block: FreshBlock) -> None:
        """See `Sink`."""
        if block.block_id not in self.ids:
            self.ids.add(block.block_id)
            self.num_bytes += len(block.raw)
        super().keep(block)


def default_cache() -> Path:
    """Where huggingface_hub keeps its cache, by the same environment variables."""
    if hub := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(hub)
    if home := os.environ.get("HF_HOME"):
        return Path(home) / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"


def snapshots(cache: Path) -> Iterator[Snapshot]:
    """All model snapshots with files, in order of names.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not cache.is_dir():
        raise FileNotFoundError(f"no Hugging Face cache at {cache}")
    for repo in sorted(cache.glob("models--*")):
        name = check_name("/".join(repo.name.removeprefix("models--").split("--")))
        main = _main_revision(repo)
        for folder in sorted((repo / "snapshots").glob("*")):
            if folder.is_dir() and any(path.is_file() for path in folder.rglob("*")):
                own = name if folder.name == main else f"{name}/{folder.name[:12]}"
                yield Snapshot(name=own, revision=folder.name, folder=folder)


def estimate(found: list[Snapshot]) -> CacheEstimate:
    """Read and hash all snapshots; nothing is stored."""
    unique = _Unique()
    files: dict[str, int] = {}
    raw = 0
    for item in found:
        manifest = scan_folder(Origin(folder=item.folder, name=item.name), unique).manifest
        raw += manifest.raw_bytes
        files.update({entry.sha256: entry.size_bytes for entry in manifest.files})
    return CacheEstimate(
        models=len(found),
        raw_bytes=raw,
        file_dedup_bytes=sum(files.values()),
        block_dedup_bytes=unique.num_bytes,
    )


def _main_revision(repo: Path) -> str | None:
    """The revision that `main` points to, else the only one there is."""
    ref = repo / "refs" / "main"
    if ref.is_file() and ref.stat().st_size < 1000:
        return ref.read_text().strip()
    found = sorted(path.name for path in (repo / "snapshots").glob("*"))
    return found[0] if len(found) == 1 else None
