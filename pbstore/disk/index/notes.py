"""What an index remembers of a filed model's tensors, so that they are found as bases of others."""

import sqlite3

from pbstore.disk.index import lora_pairs, sketches
from pbstore.manifest import Manifest
from pbstore.tensors import ReadBlock, blocks_as_tensors, stored_tensors


def note_adapter(connection: sqlite3.Connection, manifest: Manifest, read: ReadBlock) -> None:
    """Remember a filed model's low-rank pairs, so that a merge of them is recognised."""
    if not lora_pairs.adapter_configs(manifest):
        return
    tensors = list(stored_tensors(manifest, read, skip_damaged=True))
    for block_id, spec, _ in blocks_as_tensors(
        tensors
    ):  # may be too small for a sketch, but a merge needs them
        sketches.note_tensor(connection, block_id, spec, tried=True)
    pairs = lora_pairs.pairs_of(manifest, tensors, read)
    sketches.forget_small(connection, lora_pairs.note_pairs(connection, manifest.name, pairs))


def forget_adapter(connection: sqlite3.Connection, name: str) -> None:
    """Forget a model's low-rank pairs: it goes, or gets another name."""
    lora_pairs.forget_pairs(connection, name)


def note_tensors(connection: sqlite3.Connection, manifest: Manifest, read: ReadBlock) -> None:
    """Remember dtype and shape of a filed model's blocks."""
    for block_id, spec, name in blocks_as_tensors(stored_tensors(manifest, read, skip_damaged=True)):
        sketches.note_tensor(connection, block_id, spec, name=name)
