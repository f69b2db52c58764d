"""Small stores to be served."""

import hashlib
from pathlib import Path

import numpy as np

from pbstore import DiskBlockStore, open_store
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

FAMILY = {"org/base": "hot", "org/tuned": "cold"}
"""Models of `family_store`, and the form of each."""


def family_folders(root: Path) -> dict[str, Path]:
    """A base and its fine-tune, with files whose names are not easy."""
    base = base_tensors(rows=3000)
    folders = {"org/base": base, "org/tuned": tuned(base, ("layer.weight", "layer.bias"))}
    odd = {"nested/a b/ü 中.txt": b"odd", "empty.txt": b"", "100%25 #?&.json": b"{}"}
    for name, tensors in folders.items():
        folder = write_model(root / name, tensors)
        for path, data in odd.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data + name.encode() * (data != b""))
    return {name: root / name for name in folders}


def family_store(root: Path) -> DiskBlockStore:
    """A store of the family, one model hot and one cold."""
    store = open_store(root / "store", durable=False)
    for name, folder in family_folders(root / "folders").items():
        store.add(folder, name, form=FAMILY[name])
    return store


def changed_byte(data: bytes, at: int) -> bytes:
    return bytes(np.frombuffer(data, np.uint8) ^ (np.arange(len(data)) == at).astype(np.uint8))


def hashes_of_folder(folder: Path) -> dict[str, str]:
    """The sha256 of each file, by path."""
    return {path: hashlib.sha256(data).hexdigest() for path, data in folder_content(folder).items()}
