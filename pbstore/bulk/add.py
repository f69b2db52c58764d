"""Adding many models: what is there is not read again, small ones share a commit, no failure stops others."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import IndexCorruptError, ManifestError, PBStoreError, StoreLockedError
from pbstore.folders.ingest import AddReport
from pbstore.folders.select import ALL, Selection
from pbstore.folders.source import list_source, steadily
from pbstore.manifest import Manifest
from pbstore.pool import Pool, settle

WORKERS = 2
"""Folders that are looked at while others are added: one may have thousands of files."""
AHEAD = 64
"""Folders that are looked at before they are needed."""
SMALL_BYTES = 8 << 20
"""Models of so few bytes share a commit, which waits for the disk."""
SHARED_S = 0.5
"""A commit is shared by what is added in this time, s: an interrupt takes back no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAdd:
    """A model that is to be added, and where it lies."""

    name: str
    folder: Path
    select: Selection = ALL
    check: Callable[[Manifest], None] | None = None
    """Called when all is read and nothing is filed yet; what it raises refuses the model."""
    tags: tuple[str, ...] = ()
    """Tags that the revision gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadItem:
    """A model that cannot be taken in."""

    model: str
    """Its name, or that of its folder if it is no model's."""
    path: str
    error: str
    exit_code: int = 1

    def __str__(self) -> str:
        where = "" if self.error.startswith(self.path) else f"{self.path}: "
        return f"{self.model}: {where}{self.error}"

    @classmethod
    def of(cls, model: str, folder: Path, error: Exception) -> "BadItem":
        """What went wrong with a model."""
        path = None if isinstance(error, ManifestError) else getattr(error, "path", None)
        path = path or getattr(error, "filename", None)
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        code = int(getattr(error, "exit_code", 1))
        return cls(model=model, path=str(path or folder), error=text, exit_code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkReport:
    """What adding many models did to a store."""

    models: tuple[AddReport, ...]
    failed: tuple[BadItem, ...]

    @property
    def added(self) -> int:
        """Models that were not there before."""
        return sum(not item.already_there and not item.follows for item in self.models)

    @property
    def changed(self) -> int:
        """Models that have a new revision."""
        return sum(bool(item.follows) for item in self.models)

    @property
    def already_there(self) -> int:
        """Models that were there as they are."""
        return sum(item.already_there for item in self.models)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all models."""
        return sum(item.raw_bytes for item in self.models)

    @property
    def stored_bytes(self) -> int:
        """Payload bytes that were written."""
        return sum(item.stored_bytes for item in self.models)


def add_all(
    store: DiskBlockStore,
    models: Sequence[ToAdd],
    *,
    workers: int = WORKERS,
    progress: Callable[[int], None] | None = None,
    tell: Callable[[AddReport | BadItem], None] | None = None,
    **how: Any,  # noqa: ANN401 - what `DiskBlockStore.add` takes
) -> BulkReport:
    """Add models in this order; what cannot be added is named in the report, and the others go on.

    A model whose folder has not changed since it was added is there already, and is not read: so what an
    interrupt has stopped is gone on with by the same call.

    Args:
        store: Where they go.
        models: What is added, bases before what is made of them.
        workers: Folders that are looked at beside what is added.
        progress: Called with the bytes just read, and with those of models that need not be.
        tell: Called with the result of each model once it is on the disk.
        how: `form`, `thorough`, `keep_damaged` of `DiskBlockStore.add`.
    """
    results: list[AddReport | BadItem] = []
    adding = _Adding(store, how, progress)
    with _Ahead(store, models, workers) as ahead:
        while ahead.has_more:
            for result in adding.add_some(ahead):
                results.append(result)
                if tell is not None:
                    tell(result)
    return BulkReport(
        models=tuple(one for one in results if isinstance(one, AddReport)),
        failed=tuple(one for one in results if isinstance(one, BadItem)),
    )


class _Adding:
    """Adds one model after the other; stops trying where the next one would fare no better."""

    def __init__(
        self, store: DiskBlockStore, how: dict[str, Any], progress: Callable[[int], None] | None
    ) -> None:
        self._store, self._how, self._progress = store, how, progress
        self._stopped: Exception | None = None

    def add_some(self, ahead: "_Ahead") -> list[AddReport | BadItem]:
        """Add the next model, or small ones in one transaction for a moment."""
        items: list[ToAdd] = []
        results: list[AddReport | BadItem] = []
        try:
            with self._together(ahead.next_is_small):
                last = time.monotonic() + SHARED_S
                while not items or (ahead.next_is_small and time.monotonic() < last):
                    item, size = ahead.take()
                    items.append(item)
                    results.append(self._add(item, size))
        except (PBStoreError, OSError) as error:  # of the transaction: nothing of it is there
            if not items or isinstance(error, StoreLockedError | IndexCorruptError):
                self._stopped = error
            return [
                result if isinstance(result, BadItem) else BadItem.of(item.name, item.folder, error)
                for item, result in zip(items, results, strict=False)
            ]
        return results

    def _together(self, is_small: bool) -> AbstractContextManager[object]:
        """One transaction for several models."""
        return self._store.disk.writing() if is_small and self._stopped is None else nullcontext()

    def _add(self, item: ToAdd, size: int) -> AddReport | BadItem:
        """Add one model, or say why that cannot be."""
        read = 0

        def count(_: str, num_bytes: int) -> None:
            nonlocal read
            read += num_bytes
            if self._progress is not None:
                self._progress(num_bytes)

        try:
            if self._stopped is not None:
                raise self._stopped
            report = self._store.add(
                item.folder,
                item.name,
                select=item.select,
                check=item.check,
                unread=True,
                progress=count,
                **self._how,
            )
            for tag in item.tags:
                self._store.history.tag(f"{item.name}@{report.commit}", tag, move=True)
        except (PBStoreError, OSError) as error:
            if isinstance(error, StoreLockedError | IndexCorruptError):
                self._stopped = error
            return BadItem.of(item.name, item.folder, error)
        finally:
            if self._progress is not None and read < size:
                self._progress(size - read)
        return report


class _Ahead:
    """Looks at the folders that come next, in threads: how large they are."""

    def __init__(self, store: DiskBlockStore, models: Sequence[ToAdd], workers: int) -> None:
        self._own, self._models = store.disk.own, iter(models)
        self._pool = Pool(workers, "pbstore-look")
        self._jobs: list[tuple[ToAdd, Future[int]]] = []
        self._fill()

    def __enter__(self) -> "_Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        settle(future for _, future in self._jobs)
        self._pool.shutdown()

    @property
    def has_more(self) -> bool:
        """Whether there is a next one."""
        return bool(self._jobs)

    @property
    def next_is_small(self) -> bool:
        """Whether the next one is known to be small."""
        return bool(self._jobs) and _size_of(self._jobs[0][1]) <= SMALL_BYTES

    def take(self) -> tuple[ToAdd, int]:
        """The next one and its bytes."""
        item, future = self._jobs.pop(0)
        size = _size_of(future)
        self._fill()
        return item, size

    def _fill(self) -> None:
        for item in islice(self._models, AHEAD - len(self._jobs)):
            self._jobs.append((item, self._pool.submit(self._look, item)))

    def _look(self, item: ToAdd) -> int:
        return steadily(lambda: list_source(item.folder, self._own, item.select)).total_bytes


def _size_of(future: Future[int]) -> int:
    """Bytes of a folder; 0 if it cannot be listed, which the add tells better."""
    return 0 if future.exception() is not None else future.result()
