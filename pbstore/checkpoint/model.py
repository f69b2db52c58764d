"""A stored model as a ready transformers model, without writing a folder and without running its code.

The fast way builds the architecture with its parameters on the meta device (nothing is allocated or
initialised, buffers are computed as usual) and assigns the stored tensors. Where a checkpoint needs more than
that (renamed or fused weights, heads to be initialised), transformers' own loader gets the same tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.overrides import TorchFunctionMode

from pbstore.checkpoint.errors import CheckpointError
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.checkpoint.tensors import manifest_of, read_json
from pbstore.manifest import Manifest
from pbstore.store import BlockStore

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_FILLS = frozenset({"copy_", "fill_", "normal_", "random_", "uniform_", "zero_"})


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


def load_model(
    store: BlockStore,
    name: str,
    *,
    model_class: type[PreTrainedModel] | None = None,
    config: PretrainedConfig | None = None,
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> PreTrainedModel:
    """A stored model, ready to run, in evaluation mode.

    Args:
        store: The store.
        name: The model's name.
        model_class: Class to build; None for the first of `architectures` in its config.json, else the plain
            model of its type.
        config: Config to build from instead of the stored one, for example with another number of labels.
        verify: See `load_state_dict`.
        share: See `load_state_dict`. No parameter then asks for a gradient, so that no optimizer writes to
            siblings.
        eager: See `load_state_dict`.
        threads: See `load_state_dict`.

    Returns:
        The same model that the class's `from_pretrained` gives for a checkout, bit for bit.

    Raises:
        CheckpointError: If it has no config.json, or is of a type that this transformers does not know: code
            that comes with a checkpoint is never run.
    """
    manifest = manifest_of(store, name)
    config = config or read_config(store, manifest)
    kind = model_class or architecture(config, manifest)
    state = load_state_dict(store, name, verify=verify, share=share, eager=eager, threads=threads)
    if getattr(config, "dtype", None) is None:
        config.dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
    model = _assign(kind, config, state)
    if model is None:
        model = _load_slowly(kind, config, state)
    _set_generation_config(store, manifest, model)
    model.config.name_or_path = name
    if share:
        model.requires_grad_(False)
    return model.eval()


def read_config(store: BlockStore, manifest: Manifest) -> PretrainedConfig:
    """The model's config, of a class that transformers ships.

    Raises:
        CheckpointError: If there is no config.json or its model type is unknown.
    """
    from transformers import CONFIG_MAPPING

    tree = read_json(store, manifest, "config.json")
    if tree is None:
        raise CheckpointError(f"{manifest.name} has no config.json: it is no transformers model")
    model_type = tree.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{manifest.name} is of type {str(model_type)[:60]!r}, which this transformers does not know; "
            "code that comes with a checkpoint is never run"
        )
    tree.pop("auto_map", None)
    try:
        return CONFIG_MAPPING[model_type].from_dict(tree)
    except Exception as error:  # every transformers version raises its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"config.json of {manifest.name} is refused: {reason}") from error


def architecture(config: PretrainedConfig, manifest: Manifest) -> type[PreTrainedModel]:
    """The class that a config names, from transformers itself.

    Raises:
        CheckpointError: If it names none that transformers has.
    """
    import transformers

    for class_name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, class_name, None) if isinstance(class_name, str) else None
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    plain = transformers.MODEL_MAPPING.get(type(config), None)
    if plain is None:
        raise CheckpointError(f"{manifest.name}: no model class for {type(config).__name__}")
    first: type[PreTrainedModel] = plain[0] if isinstance(plain, tuple) else plain
    return first


def _assign(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: dict[str, torch.Tensor]
) -> PreTrainedModel | None:
    """The fast way; None where the names do not fit exactly or a module wants real parameters at once."""
    try:
        with _ParametersOnMeta():
            model: PreTrainedModel = kind._from_config(config)
    except (NotImplementedError, RuntimeError):
        return None
    expected = model.state_dict()
    renamed = _with_prefix(model, expected, state)
    if renamed is None:
        return None
    for key, tensor in renamed.items():
        wanted = expected[key]
        if tensor.shape != wanted.shape:
            return None
        if tensor.dtype != wanted.dtype and tensor.is_floating_point():
            renamed[key] = tensor.to(wanted.dtype)
    model.load_state_dict(renamed, strict=False, assign=True)
    model.tie_weights()
    left = [*model.parameters(), *model.buffers()]
    return None if any(tensor.is_meta for tensor in left) else model


def _with_prefix(
    model: PreTrainedModel, expected: dict[str, torch.Tensor], state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """The stored tensors under the model's names: its base model's prefix may have to be put on or taken off.

    Buffers that the model computes by itself (older checkpoints hold them too) are left out. None if tensors
    would be left over that the model does not know: then the general loader has to decide.
    """
    prefix = model.base_model_prefix + "."
    computed = {name for name, _ in model.named_buffers()} - expected.keys()
    forms: tuple[Callable[[str], str], ...] = (
        lambda key: key,
        lambda key: prefix + key,
        lambda key: key.removeprefix(prefix),
    )
    for form in forms:
        renamed = {form(key): tensor for key, tensor in state.items() if form(key) not in computed}
        if renamed.keys() <= expected.keys():
            return renamed
    return None


def _load_slowly(
    kind: type[PreTrainedModel], config: PretrainedConfig, state: dict[str, torch.Tensor]
) -> PreTrainedModel:
    """Transformers' own loader on the same tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: PreTrainedModel = kind.from_pretrained(None, config=config, state_dict=state)
    return model


def _set_generation_config(store: BlockStore, manifest: Manifest, model: PreTrainedModel) -> None:
    tree = read_json(store, manifest, "generation_config.json")
    if tree is not None and model.can_generate():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_dict(tree)
