"""What an index remembers of a filed model's tensors, so that they are found as bases of others."""

import sqlite3

from pbstore.disk.index import lora_pairs, sketches
from pbstore.manifest import Manifest
from pbstore.tensors import ReadBlock, stored_tensors


def note_adapter(connection: sqlite3.Connection, manifest: Manifest, read: ReadBlock) -> None:
    """Remember a filed model's low-rank pairs, so that a merge of them is recognised."""
    if not lora_pairs.adapter_configs(manifest):
        return
    tensors = [
        tensor for tensor in stored_tensors(manifest, read, skip_damaged=True) if len(tensor.pieces) == 1
    ]
    for tensor in tensors:  # factors may be too small for a sketch, but a merge needs their shapes
        sketches.note_tensor(connection, tensor.pieces[0].block_id, tensor.spec, tried=True)
    pairs = lora_pairs.pairs_of(manifest, tensors, read)
    sketches.forget_small(connection, lora_pairs.note_pairs(connection, manifest.name, pairs))


def forget_adapter(connection: sqlite3.Connection, name: str) -> None:
    """Forget a model's low-rank pairs: it goes, or gets another name."""
    lora_pairs.forget_pairs(connection, name)


def note_tensors(connection: sqlite3.Connection, manifest: Manifest, read: ReadBlock) -> None:
    """Remember dtype and shape of a filed model's blocks."""
    for tensor in stored_tensors(manifest, read, skip_damaged=True):
        if len(tensor.pieces) == 1:
            sketches.note_tensor(connection, tensor.pieces[0].block_id, tensor.spec, name=tensor.name)
