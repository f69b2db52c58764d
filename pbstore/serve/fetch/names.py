"""Which model a name means on a node: filed in its store, or seen elsewhere and remembered."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from pbstore.disk.files import fsio
from pbstore.errors import BadFileError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest, check_name

FRESH_S = 30.0
"""How long a manifest that came from elsewhere is taken for current without being asked for again, s."""
FOLDER = "fetched"
log = logging.getLogger(__name__)


class Remembered:
    """Manifests that came from elsewhere, in a folder of the node's store, so that they outlast upstream.

    Methods that read or write files are for a thread.
    """

    def __init__(self, store: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = store / FOLDER, clock
        self._fresh: dict[str, tuple[float, Manifest]] = {}
        self._ids: dict[str, tuple[Manifest, frozenset[BlockId]]] = {}

    def fresh(self, name: str) -> Manifest | None:
        """A manifest that was seen a moment ago."""
        seen = self._fresh.get(name)
        return seen[1] if seen is not None and self._clock() - seen[0] < FRESH_S else None

    def wants(self, block_id: BlockId) -> bool:
        """Whether a model that was asked for a moment ago has a block."""
        return any(
            self._clock() - seen < FRESH_S and block_id in self._ids_of(manifest)
            for seen, manifest in tuple(self._fresh.values())
        )

    def _ids_of(self, manifest: Manifest) -> frozenset[BlockId]:
        ids = self._ids.get(manifest.name)
        if ids is None or ids[0] is not manifest:
            ids = self._ids[manifest.name] = (manifest, frozenset(manifest.block_ids()))
        return ids[1]

    def note(self, manifest: Manifest) -> Manifest:
        """Remember a manifest that was just seen; the same object as before if it is equal."""
        known = self._fresh.get(manifest.name)
        if known is not None and known[1] == manifest:
            manifest = known[1]
        else:
            self._folder.mkdir(exist_ok=True)
            fsio.write_file(self._path(manifest.name), manifest.to_json().encode())
        self._fresh[manifest.name] = (self._clock(), manifest)
        return manifest

    def recall(self, name: str) -> Manifest | None:
        """A manifest that was seen some time ago; None if there is none, or its file is damaged."""
        if name in self._fresh:
            return self._fresh[name][1]
        return self._load(self._path(check_name(name)))

    def forget(self, name: str) -> None:
        """Forget a model that is there no more."""
        self._fresh.pop(name, None)
        self._ids.pop(name, None)
        self._path(name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """Names of all remembered models."""
        found = [self._load(path) for path in self._folder.glob("*.json")]
        return {manifest.name for manifest in found if manifest is not None}

    def _path(self, name: str) -> Path:
        return self._folder / f"{blake3(name.encode()).hexdigest(length=20)}.json"

    def _load(self, path: Path) -> Manifest | None:
        try:
            manifest = Manifest.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (BadFileError, OSError, json.JSONDecodeError) as error:
            log.warning("%s is not read: %s", path, error)
            return None
        return manifest if self._path(manifest.name) == path else None
