"""A model in the place of another of its name: after a crash the name has the old one or the new one."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import ModelMissingError
from pbstore.manifest import Manifest

_SUFFIX = ".replaces"


class Replacements:
    """Stores models as revisions, and finishes what a server of an earlier version left half-done.

    That one stored the new model under a passing name first, then under that of the old one.

    Args:
        store: Has the models.
        folder: Where it was noted which name a passing one is for.
    """

    def __init__(self, store: DiskBlockStore, folder: Path) -> None:
        self._store = store
        for note in folder.glob(f"*{_SUFFIX}"):  # of a server that died
            self._finish(note)

    def add(self, source: Path, name: str) -> Manifest:
        """Store a folder under a name; what the name meant before stays as an earlier revision."""
        self._store.add(source, name)
        return self._store.manifest(name)

    def _finish(self, note: Path) -> None:
        """Give a passing model its name if that is free, and forget it."""
        name, passing = note.read_text(), note.name.removesuffix(_SUFFIX)
        new = self._manifest(passing)
        if new is not None and self._manifest(name) is None:
            self._store.put_manifest(replace(new, name=name))
        self._forget(passing)
        note.unlink()

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return self._store.manifest(name)
        except ModelMissingError:
            return None

    def _forget(self, name: str) -> None:
        with suppress(ModelMissingError):
            self._store.remove(name, trash=False)
