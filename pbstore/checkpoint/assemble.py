"""A transformers model of given tensors: the one that `from_pretrained` makes of their files, bit for bit.

The fast way builds the architecture with its parameters on the meta device (nothing is allocated or
initialised, buffers are computed as usual) and puts the tensors in. Names, dtypes and ties are decided by
transformers' own functions. Where a checkpoint needs more (fused or split weights, quantised ones, what is
missing), transformers' own loader gets the same tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from pbstore.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

State = Mapping[str, torch.Tensor]
_FILLS = frozenset({"copy_", "fill_", "normal_", "random_", "uniform_", "zero_"})
_REFUSALS = (RuntimeError, ValueError, ImportError, OSError, NotImplementedError)
"""What transformers raises where it does not take a checkpoint."""


class _ParametersOnMeta(TorchFunctionMode):
    """Inside, `torch.empty`, with which modules allocate their parameters, gives a meta tensor.

    Initialising a meta tensor does nothing. An empty `torch.tensor([])` is on the meta device too:
    transformers asks it which device is the default, and skips the initialisation of all weights.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        is_probe = func is torch.tensor and args == ([],)
        if (func is torch.empty or is_probe) and kwargs.get("device") is None:
            return func(*args, **{**kwargs, "device": "meta"})
        target = args[0] if args else kwargs.get("tensor")
        if isinstance(target, torch.Tensor) and target.is_meta and _only_fills(func):
            return target
        return func(*args, **kwargs)


@cache
def _only_fills(func: Callable[..., object]) -> bool:
    """Whether a function does nothing but write values into its first argument."""
    return getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _FILLS


def assemble(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: State, dtype: torch.dtype
) -> tuple[PreTrainedModel, set[str]]:
    """A model of a class, config and dtype with the tensors of a checkpoint.

    Returns:
        The model, and the names of its tensors that the checkpoint lacks: these are initialised as
        transformers does, at random.

    Raises:
        CheckpointError: If the tensors do not fit the architecture, or transformers refuses them.
    """
    model = _put_in(kind, config, state, dtype)
    return _load(kind, config, state, dtype) if model is None else (model, set())


def _put_in(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: State, dtype: torch.dtype
) -> PreTrainedModel | None:
    """The fast way; None where the general loader has to decide."""
    found = put_in(kind, config, state, dtype)
    if found is None:
        return None
    left = [*found.model.parameters(), *found.model.buffers()]
    return None if found.missing or any(tensor.is_meta for tensor in left) else found.model


@dataclass(frozen=True, slots=True)
class Placed:
    """A model into which tensors were put as they are."""

    model: PreTrainedModel
    tensors: dict[str, torch.Tensor]
    """By the model's names, in its dtypes."""
    keys: dict[str, str]
    """The checkpoint's names of them."""
    missing: set[str]
    """What the checkpoint lacks and no tie gives."""


def put_in(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: State, dtype: torch.dtype
) -> Placed | None:
    """A model with the tensors of a checkpoint; None if one needs more than another name or dtype.

    Tensors on the meta device only take their places.
    """
    special = ("quantization_config", "fusion_config")
    if any(getattr(config, name, None) is not None for name in special):
        return None
    try:
        with _ParametersOnMeta():
            model: PreTrainedModel = kind._from_config(config, dtype=dtype)
        expected = model.state_dict()
        keys = _keys(model, expected, state)
        wanted = _dtypes(model, dtype)
    except (*_REFUSALS, AttributeError, TypeError):  # also where another transformers has other functions
        return None
    if keys is None:
        return None
    placed = {name: state[key].to(wanted(name, expected[name])) for name, key in keys.items()}
    missing = set(expected.keys() - placed.keys())
    if missing - {name for pair in model.all_tied_weights_keys.items() for name in pair}:
        return None
    _set(model, placed)
    model.tie_weights(missing_keys=missing, recompute_mapping=False)
    return Placed(model, placed, keys, missing)


def _keys(model: PreTrainedModel, expected: State, state: State) -> dict[str, str] | None:
    """The checkpoint's names by the model's; None unless each is one tensor of the checkpoint.

    What the model does not know is left out.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    known: dict[str, Any] = dict(expected)
    changes = get_model_conversion_mapping(model)
    renamings = [change for change in changes if isinstance(change, WeightRenaming)]
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    if len(renamings) + len(converters) < len(changes):
        return None
    prefix, placed = model.base_model_prefix, dict[str, str]()
    for key, tensor in state.items():
        name, converted = rename_source_key(key, renamings, converters, prefix, known)
        if name not in known and key in known:
            name, converted = rename_source_key(key, [], [], prefix, known)
        if converted is not None or name in placed:
            return None
        if name not in known:
            continue
        if known[name].shape != tensor.shape:
            return None
        placed[name] = key
    model._weight_conversions = [change for change in changes if change.was_used()]
    return placed


def _dtypes(model: PreTrainedModel, dtype: torch.dtype) -> Callable[[str, torch.Tensor], torch.dtype]:
    """The dtype of a tensor by name, as transformers chooses it: some modules keep float32."""
    from transformers.core_model_loading import build_glob_alternation

    plan = model._get_dtype_plan(dtype)
    if not plan:
        return lambda _, expected: expected.dtype
    pattern, groups, _ = build_glob_alternation(list(plan))

    def chosen(name: str, expected: torch.Tensor) -> torch.dtype:
        match = pattern.search(name)
        kept: torch.dtype = expected.dtype if match is None else plan[groups[match.lastgroup]]
        return kept

    return chosen


def _set(model: PreTrainedModel, placed: State) -> None:
    """Put tensors in the places of a model's parameters and buffers."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, tensor in placed.items():
        path, _, leaf = name.rpartition(".")
        module = modules[path]
        if leaf in module._parameters:
            gradient = tensor.is_floating_point()
            module._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=gradient)
        else:
            module._buffers[leaf] = tensor


def _load(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: State, dtype: torch.dtype
) -> tuple[PreTrainedModel, set[str]]:
    """Transformers' own loader on the same tensors."""
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, info = kind.from_pretrained(
                None, config=config, state_dict=dict(state), dtype=dtype, **options
            )
    except _REFUSALS as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"transformers does not load it as a {kind.__name__}: {reason}") from error
    if mismatched := sorted(map(str, info["mismatched_keys"])):
        raise CheckpointError(
            f"{len(mismatched)} tensors have other shapes than in a {kind.__name__} of its config: "
            f"{mismatched[0]}"
        )
    return model, set(info["missing_keys"])
