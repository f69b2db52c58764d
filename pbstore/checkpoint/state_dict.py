"""A stored model as torch tensors, without a folder and, where the blocks are raw, without a copy."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from pbstore.checkpoint.errors import CheckpointError
from pbstore.checkpoint.memory import BlockMemory
from pbstore.checkpoint.tensors import manifest_of, stored_tensors
from pbstore.disk.store import DiskBlockStore
from pbstore.store import BlockStore
from pbstore.tensors import StoredTensor

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
    "C64": "complex64",
}


def load_state_dict(
    store: BlockStore,
    name: str,
    tensors: Collection[str] | None = None,
    *,
    file: str | None = None,
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> dict[str, torch.Tensor]:
    """Tensors of a stored model, by name.

    Raw blocks are mapped privately: nothing is copied or even read before it is used, and writing to a tensor
    changes neither the store nor another load nor another tensor, be it equal to this one. Blocks in other
    forms are decoded, and always checked. Loading counts as a use of the model.

    Args:
        store: The store.
        name: The model's name.
        tensors: Only these; None for all.
        file: Only this safetensors file of the model; None for its weights.
        verify: Check the hash of mapped blocks too.
        share: Let all loads of this process that ask for it share memory: equal tensors, of several models or
            of one, are the same bytes. For inference only: writing to one changes the others, nothing tells
            torch that memory is read-only, and safetensors refuses to save tensors that share memory. With
            `verify`, blocks that were written to are not shared again.
            Without `share`, mapped pages that nobody wrote to lie in memory once all the same, but RSS counts
            them for each model (PSS does not). It cannot be the default: torch copies on write only what it
            has allocated itself, and to copy a model there first takes ten times as long as to map it.
        eager: Read instead of mapping, for network disks.
        threads: Blocks decoded or hashed at a time.

    Raises:
        ModelMissingError: If there is no such model.
        CheckpointError: If it has no safetensors files, or no tensor of a name.
        BlockCorruptError: If a checked block does not hash to its id.
    """
    found = stored_tensors(store, manifest_of(store, name), tensors, file)
    memory = BlockMemory(store, verify=verify, share=share, eager=eager, threads=threads)
    runs = [tuple(piece.block_id for piece in tensor.pieces) for tensor in found]
    views = memory.of(runs)
    if isinstance(store, DiskBlockStore):
        store.touch(name)
    return {tensor.name: _tensor(tensor, view) for tensor, view in zip(found, views, strict=True)}


def _tensor(tensor: StoredTensor, view: memoryview) -> torch.Tensor:
    import torch

    spec = tensor.spec
    kind = _torch_dtype(spec.dtype)
    if kind is None:
        raise CheckpointError(f"{tensor.name!r} has dtype {spec.dtype}, which torch does not know")
    if not tensor.pieces:
        return torch.empty(spec.shape, dtype=kind)
    try:
        flat = torch.frombuffer(view, dtype=kind)
        return flat if flat.shape == spec.shape else flat.view(spec.shape)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{tensor.name!r} has blocks of {len(view)} bytes: {error}") from error


@cache
def _torch_dtype(name: str) -> torch.dtype | None:
    import torch

    return getattr(torch, _TORCH_NAMES.get(name, ""), None)
