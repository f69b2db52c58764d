"""A stored model whose weights are read when they are used, then let go of: for models larger than memory.

The model is built with its parameters on the meta device, and each module that has some gets a dictionary of
parameters that reads them from the store where they are asked for. So it does not matter how a weight is
reached: by a call of its module, by another module, through a tie, or by iterating over parameters.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import ItemsView, Iterator, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakValueDictionary

import torch

from pbstore.checkpoint.assemble import Placed, put_in
from pbstore.checkpoint.model import Plan, Wanted, finish, plan
from pbstore.checkpoint.state_dict import MemoryOptions, as_torch, touch, without_memory
from pbstore.errors import CheckpointError
from pbstore.store import BlockStore
from pbstore.tensors import StoredTensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

KEPT_BYTES = 1 << 30
"""Weights that a lazy model keeps unless it is told otherwise."""


def lazy_model(
    store: BlockStore,
    name: str,
    *,
    kept_bytes: int = KEPT_BYTES,
    model_class: type[PreTrainedModel] | None = None,
    config: PretrainedConfig | None = None,
    subfolder: str = "",
    variant: str | None = None,
    verify: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> PreTrainedModel:
    """A stored model whose weights are read when they are used, in evaluation mode, for inference only.

    Its outputs are those of `load_model`, bit for bit. An adapter goes on it as on any base (`load_adapter`
    with `base=` this model). Weights used last are kept; a pass over a model that is larger than that reads
    all of it again, since its layers come one after another.

    Args:
        store: The store, which must stay open as long as the model is used.
        name: The model's name.
        kept_bytes: Most bytes of weights in memory, or the largest tensor if that has more. Mapped ones (of
            hot models) count, though the system may take their pages back.
        model_class: See `load_model`.
        config: See `load_model`.
        subfolder: See `load_model`.
        variant: See `load_model`.
        verify: See `load_state_dict`.
        eager: See `load_state_dict`.
        threads: See `load_state_dict`.

    Raises:
        CheckpointError: As `load_model`; or if transformers itself must convert weights (quantised ones,
            fused experts), or some are missing.
        TypeError: If the store is a URL.
        ValueError: If `kept_bytes` is negative.
    """
    if isinstance(store, str):
        raise TypeError(f"expected an open store, got {store[:80]!r}: pull the model into one first")
    if kept_bytes < 0:
        raise ValueError(f"kept_bytes must be >= 0, got {kept_bytes}")
    wanted = Wanted(model_class=model_class, config=config, subfolder=subfolder, variant=variant)
    found = plan(store, name, wanted)
    placed = _placed(found, name)
    options: MemoryOptions = {"verify": verify, "eager": eager, "threads": threads}
    weights = Weights(store, options, kept_bytes)
    _make_lazy(placed, {tensor.name: tensor for tensor in found.tensors}, weights)
    finish(store, name, wanted, found.manifest, placed.model)
    touch(store, name)
    return placed.model.eval()


@dataclass(frozen=True, slots=True)
class Source:
    """A weight: a stored tensor, and the dtype in which the model has it."""

    tensor: StoredTensor
    dtype: torch.dtype


class Weights:
    """Weights of a model, read when they are asked for; those used last are kept. For any threads."""

    def __init__(self, store: BlockStore, options: MemoryOptions, kept_bytes: int) -> None:
        self._store, self._options, self._most_bytes = store, options, kept_bytes
        self._kept: OrderedDict[str, torch.nn.Parameter] = OrderedDict()
        self._alive: WeakValueDictionary[str, torch.nn.Parameter] = WeakValueDictionary()
        """Also such as are not kept and still used: they are no second time in memory."""
        self._mutex = threading.RLock()
        self.bytes = self.reads = 0
        """Bytes that are kept, and how often one was read."""

    def get(self, source: Source) -> torch.nn.Parameter:
        """A weight; what was used longest ago is let go of before it is read."""
        key = source.tensor.name
        with self._mutex:
            found = self._kept.pop(key, None)
            if found is None:
                found = self._alive.get(key)
                self._make_room(source)
                if found is None:
                    found = self._alive[key] = self._read(source)
                self.bytes += found.nbytes
            self._kept[key] = found
            return found

    def _make_room(self, source: Source) -> None:
        count = 1
        for length in source.tensor.spec.shape:
            count *= length
        while self._kept and self.bytes + count * source.dtype.itemsize > self._most_bytes:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes

    def _read(self, source: Source) -> torch.nn.Parameter:
        self.reads += 1
        tensor = as_torch(self._store, [source.tensor], **self._options)[source.tensor.name]
        return torch.nn.Parameter(tensor.to(source.dtype), requires_grad=False)


class LazyParameters(dict[str, torch.nn.Parameter | None]):
    """Parameters of a module, of which some are read where they are asked for."""

    def __init__(
        self, there: dict[str, torch.nn.Parameter | None], sources: dict[str, Source], weights: Weights
    ) -> None:
        super().__init__(there)
        self._sources, self._weights = sources, weights

    def __getitem__(self, key: str) -> torch.nn.Parameter | None:
        source = self._sources.get(key)
        return super().__getitem__(key) if source is None else self._weights.get(source)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """See `dict`."""
        return self[key] if key in self else default  # noqa: SIM401 - this is it

    def __setitem__(self, key: str, value: torch.nn.Parameter | None) -> None:
        self._sources.pop(key, None)  # it is another one from now on
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._sources.pop(key, None)
        super().__delitem__(key)

    def pop(self, key: str, *default: Any) -> Any:  # noqa: ANN401
        """See `dict`."""
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def items(self) -> ItemsView[str, torch.nn.Parameter | None]:  # type: ignore[override]
        """See `dict`; each is read when it is reached, but inside `passing_by`."""
        return super().items() if _passing.get() else ItemsView(self)

    def values(self) -> ValuesView[torch.nn.Parameter | None]:  # type: ignore[override]
        """See `dict`; each is read when it is reached, but inside `passing_by`."""
        return super().values() if _passing.get() else ValuesView(self)

    def places(self) -> set[int]:
        """Ids of the tensors without memory that stand for its weights inside `passing_by`."""
        return {id(super(LazyParameters, self).__getitem__(key)) for key in self._sources}


_passing: ContextVar[bool] = ContextVar("passing", default=False)


@contextmanager
def passing_by() -> Iterator[None]:
    """Inside, who goes through all parameters of a lazy model reads none: each is on the meta device.

    What is asked for by name is read as always. For those who go through a model many times to look for
    something else, as peft does when it puts an adapter on it.
    """
    token = _passing.set(True)
    try:
        yield
    finally:
        _passing.reset(token)


def places_in(model: torch.nn.Module) -> set[int]:
    """Ids of all tensors that stand for weights of a model inside `passing_by`."""
    lazy = (one._parameters for one in model.modules() if isinstance(one._parameters, LazyParameters))
    return {place for parameters in lazy for place in parameters.places()}


def _placed(found: Plan, name: str) -> Placed:
    """The model without memory for weights."""
    state = {tensor.name: without_memory(tensor) for tensor in found.tensors}
    placed = put_in(found.kind, found.config, state, found.dtype)
    if placed is None:
        raise CheckpointError(
            f"{name} cannot be lazy: its weights need more than another name and dtype; use load_model"
        )
    if placed.missing:
        raise CheckpointError(f"{name} lacks {len(placed.missing)} tensors, such as {min(placed.missing)!r}")
    return placed


def _make_lazy(placed: Placed, stored: dict[str, StoredTensor], weights: Weights) -> None:
    """Give modules their weights from the store; buffers are read at once, for they may be written to."""
    modules = dict(placed.model.named_modules(remove_duplicate=False))
    sources: dict[int, Source] = {}
    for name, tensor in placed.tensors.items():
        path, _, leaf = name.rpartition(".")
        source = Source(stored[placed.keys[name]], tensor.dtype)
        if leaf in modules[path]._buffers:
            modules[path]._buffers[leaf] = weights.get(source).detach().clone()
        else:
            sources[id(modules[path]._parameters[leaf])] = source  # ties are one parameter
    for path, module in modules.items():
        own = {
            leaf: sources[id(parameter)]
            for leaf, parameter in module._parameters.items()
            if parameter is not None and id(parameter) in sources
        }
        if own and not isinstance(module._parameters, LazyParameters):
            module.__dict__["_parameters"] = LazyParameters(dict(module._parameters), own, weights)
            module.__dict__["_apply"] = _refuse_to_move
        if any(tensor is not None and tensor.is_meta for tensor in module._buffers.values()):
            raise CheckpointError(f"a buffer of {path!r} is missing")


def _refuse_to_move(*_: object, **__: object) -> NoReturn:
    raise TypeError(
        "a lazy model stays on this machine and in its dtype: its weights are read again and again"
    )
