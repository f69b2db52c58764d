"""A store never lies in what it stores, nor under a checkout: what both must keep out of."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pbstore.errors import BadFileError

FORMAT = "pbstore"
SETTINGS_FILE = "STORE.json"
"""A folder is a store because of this file, which says that it is of the format."""
Identity = tuple[int, int]
"""Device and inode: a folder is known by them under every name."""
_LONGEST_SETTINGS = 65536


@dataclass(frozen=True, slots=True)
class OwnStore:
    """The store that a source is read for, or that a checkout comes from."""

    root: Path
    """Without links."""
    folders: frozenset[Identity]
    """Its folders, so that it is known behind links and other mounts, too."""

    @classmethod
    def at(cls, root: Path) -> Self:
        """The store in a folder."""
        inner = root.iterdir() if root.is_dir() else iter(())
        found = (_identity(path) for path in (root, *inner) if path.is_dir())
        return cls(root.resolve(), frozenset(one for one in found if one is not None))

    def holds(self, path: Path) -> bool:
        """Whether a path, once links are followed, is the store's folder or lies in it."""
        real = path.resolve()
        return real.is_relative_to(self.root) or any(_identity(one) in self.folders for one in _upwards(real))

    def lies_in(self, folder: Path) -> bool:
        """Whether the store's folder lies somewhere in a folder, or is it."""
        wanted = _identity(folder)
        below = self.root.is_relative_to(folder.resolve())
        return below or (wanted is not None and any(_identity(one) == wanted for one in _upwards(self.root)))


def is_store(folder: Path) -> bool:
    """Whether a folder is a block store, by its settings file."""
    path = folder / SETTINGS_FILE
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_SETTINGS:
            return False
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, dict) and tree.get("format") == FORMAT


def check_target(folder: Path, own: OwnStore | None) -> None:
    """Refuse a folder that a checkout must not write to; it need not be there yet.

    Raises:
        BadFileError: If it is or lies in a block store, or holds the store that the model comes from.
    """
    if own is not None and own.holds(folder):
        raise BadFileError(str(folder), f"it lies in the store {own.root}: check out elsewhere")
    if own is not None and own.lies_in(folder):
        raise BadFileError(str(folder), f"the store {own.root} lies in it: check out elsewhere")
    for one in _upwards(folder.resolve()):
        if is_store(one):
            raise BadFileError(str(folder), f"it lies in the block store {one}: check out elsewhere")


def _upwards(real: Path) -> Iterator[Path]:
    yield real
    yield from real.parents


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
