"""A stored model as torch tensors, without a folder and, where the blocks are raw, without a copy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypedDict, Unpack

from pbstore.checkpoint.files import manifest_of, models_of
from pbstore.checkpoint.memory import BlockMemory
from pbstore.checkpoint.tensors import stored_tensors
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import CheckpointError
from pbstore.hashing import BlockId
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
    "F4": "float4_e2m1fn_x2",
}


class MemoryOptions(TypedDict, total=False):
    """How memory of blocks is come by, see `load_state_dict`."""

    verify: bool
    share: bool
    eager: bool
    threads: int


def load_state_dict(
    store: BlockStore | str,
    name: str,
    tensors: Collection[str] | None = None,
    *,
    file: str | None = None,
    subfolder: str = "",
    variant: str | None = None,
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
    device: str | torch.device | None = None,
) -> dict[str, torch.Tensor]:
    """Tensors of a stored model, by name.

    Raw blocks are mapped privately: nothing is copied or even read before it is used, and writing to a tensor
    changes neither the store nor another load nor another tensor, be it equal to this one. Blocks in other
    forms are decoded, and always checked. Loading counts as a use of the model.

    Args:
        store: The store, or the URL of a node: its models are fetched into a cache on this disk, see
            `pbstore.serve.fetch.remote`.
        name: The model's name.
        tensors: Only these; None for all.
        file: Only this safetensors file of the model; None for its weights: the files that `from_pretrained`
            of its folder would take, those of an adapter or of a part of a pipeline, or the only one.
        subfolder: Folder of the model in which its weights, or `file`, are: "unet", "checkpoint-500".
        variant: As in `from_pretrained`: "fp16" for `model.fp16.safetensors`.
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
        device: Where the tensors are wanted, such as "cuda": they are decoded and sent a few at a time, so
            that this machine holds no more of them in memory. With `share` equal tensors are sent once.
            "meta" reads none of them. None leaves them here.

    Raises:
        ModelMissingError: If there is no such model.
        CheckpointError: If it has no tensor of a name, a dtype that torch does not know, or weights that are
            missing, pickled or not to be told from other files.
        BlockCorruptError: If a checked block does not hash to its id.
        ValueError: If a path leads out of the model, or the device is none that this torch can use here.
    """
    there = None if device is None else usable(device)
    with models_of(store, name) as held:
        found = stored_tensors(
            held, manifest_of(held, name), tensors, file, subfolder=subfolder, variant=variant
        )
        options: MemoryOptions = {"verify": verify, "share": share, "eager": eager, "threads": threads}
        state = as_torch(held, found, **options) if there is None else _sent(held, found, there, options)
        touch(held, name)
    return state


def as_torch(
    store: BlockStore, found: Sequence[StoredTensor], **options: Unpack[MemoryOptions]
) -> dict[str, torch.Tensor]:
    """Stored tensors as torch tensors, by name; the options are those of `load_state_dict`."""
    runs, places = _runs(found)
    views = BlockMemory(store, **options).of(runs)
    return {tensor.name: _tensor(tensor, views[place]) for tensor, place in zip(found, places, strict=True)}


def _runs(found: Sequence[StoredTensor]) -> tuple[list[tuple[BlockId, ...]], list[int]]:
    """Blocks that are wanted as memory, and for each tensor the place of its own among them.

    Members of a group lie in one memory, each at its own place; one that is wanted twice is in two.
    """
    runs: list[tuple[BlockId, ...]] = []
    places: list[int] = []
    groups: dict[BlockId, tuple[int, set[int]]] = {}
    for tensor in found:
        place = len(runs)
        if tensor.is_part:
            block_id = tensor.pieces[0].block_id
            if block_id not in groups or tensor.offset in groups[block_id][1]:
                groups[block_id] = (place, set())
            place, used = groups[block_id]
            used.add(tensor.offset)
        if place == len(runs):
            runs.append(tuple(piece.block_id for piece in tensor.pieces))
        places.append(place)
    return runs, places


def usable(device: str | torch.device) -> torch.device:
    """A device, of which torch has given some memory.

    Raises:
        ValueError: If there is none of this name, or torch or this machine lacks it.
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(1, dtype=torch.uint8, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"device {str(device)[:80]!r} cannot be used here: {reason}") from error
    return found


_SENT_BYTES = 256 << 20
"""Tensors of so many bytes are decoded together and sent to a device, before the next ones are."""


def _sent(
    store: BlockStore, found: Sequence[StoredTensor], device: torch.device, options: MemoryOptions
) -> dict[str, torch.Tensor]:
    """Stored tensors on a device; a few are here at a time."""
    if device.type == "meta":
        return {tensor.name: without_memory(tensor) for tensor in found}
    state: dict[str, torch.Tensor] = {}
    once: dict[tuple[object, ...], torch.Tensor] = {}
    group: list[StoredTensor] = []
    waiting = 0
    for place, tensor in enumerate(found):
        group.append(tensor)
        waiting += tensor.spec.num_bytes
        if waiting < _SENT_BYTES and place < len(found) - 1:
            continue
        here = as_torch(store, group, **options)
        for one in group:
            key = (one.spec, one.pieces, one.offset)
            there = once.get(key) if options["share"] else None
            state[one.name] = here[one.name].to(device, copy=True) if there is None else there
            once[key] = state[one.name]
        group, waiting = [], 0
        del here
    return state


def touch(store: BlockStore, name: str) -> None:
    """Count a use of a model, where the store counts."""
    if isinstance(store, DiskBlockStore):
        store.disk.touch(name)


def _tensor(tensor: StoredTensor, view: memoryview) -> torch.Tensor:
    import torch

    kind, shape = _layout(tensor)
    if not tensor.pieces:
        return torch.empty(shape, dtype=kind)
    view = tensor.part_of(view) if tensor.is_part else view
    try:
        flat = torch.frombuffer(view, dtype=kind)
        return flat if flat.shape == shape else flat.view(shape)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{tensor.name!r} has blocks of {len(view)} bytes: {error}") from error


def without_memory(tensor: StoredTensor) -> torch.Tensor:
    """A stored tensor on the meta device.

    Raises:
        CheckpointError: If torch does not know its dtype.
    """
    import torch

    kind, shape = _layout(tensor)
    return torch.empty(shape, dtype=kind, device="meta")


def _layout(tensor: StoredTensor) -> tuple[torch.dtype, tuple[int, ...]]:
    """Dtype and shape of a stored tensor as torch has them; CheckpointError if it has none."""
    kind, shape = torch_dtype(tensor.spec.dtype), tensor.spec.shape
    if kind is None:
        raise CheckpointError(f"{tensor.name!r} has dtype {tensor.spec.dtype}, which torch does not know")
    if tensor.spec.dtype == "F4":  # torch's elements are pairs
        if not shape or shape[-1] % 2:
            raise CheckpointError(
                f"{tensor.name!r} has an odd row of 4-bit floats, which torch does not know"
            )
        shape = (*shape[:-1], shape[-1] // 2)
    return kind, shape


@cache
def torch_dtype(name: str) -> torch.dtype | None:
    """Torch's dtype of a safetensors dtype, None if it has none."""
    import torch

    return getattr(torch, _TORCH_NAMES.get(name, ""), None)
