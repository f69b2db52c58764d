"""Small families of models that share blocks and differ by deltas."""

from pathlib import Path

import numpy as np

from pbstore import open_store
from pbstore.disk.store import DiskBlockStore
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("org/base", "org/tuned-0", "org/tuned-1")


def make_family(root: Path, *, rows: int = 2000, siblings: int = 2) -> DiskBlockStore:
    """A store with a base and fine-tunes of it, which are stored as differences."""
    store = open_store(root / "store")
    tensors = base_tensors(rows=rows)
    store.add(write_model(root / "base", tensors), "org/base")
    for number in range(siblings):
        changed = tuned(tensors, ("embed.weight",), seed=10 + number)
        folder = write_model(root / f"tuned-{number}", changed, extra__txt=str(number).encode())
        store.add(folder, f"org/tuned-{number}", "org/base")
    return store


def family_files(root: Path, name: str) -> dict[str, bytes]:
    """Files of a model of `make_family`."""
    return folder_content(root / name.removeprefix("org/"))


def random_raw(count: int, size: int, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for _ in range(count)]
