"""A stored adapter on top of its base: a ready peft model, without writing a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from pbstore.checkpoint.adapter_base import find_base, fits, lora_pairs
from pbstore.checkpoint.adapter_class import base_class, num_labels
from pbstore.checkpoint.adapter_config import (
    ADAPTER_WEIGHTS,
    adapter_file,
    in_one_line,
    leaves_base,
    read_adapter_config,
    starts_plainly,
)
from pbstore.checkpoint.files import find_file, manifest_of, models_of
from pbstore.checkpoint.model import Ready, Wanted, build, read_config
from pbstore.checkpoint.state_dict import MemoryOptions, load_state_dict
from pbstore.errors import CheckpointError, PBStoreError
from pbstore.store import BlockStore

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

__all__ = ["find_base", "fits", "load_adapter", "lora_pairs"]

_PICKLED = "adapter_model.bin"
_SHARED = ("vblora_vector_bank", "prompt_encoder", ".tinylora_v.", ".unilora_theta_d.")
"""Parameters that stand in a model once and in its layers again; PEFT does not ask for them either."""


def load_adapter(
    store: BlockStore | str,
    name: str,
    base: PreTrainedModel | PeftModel | str | None = None,
    *,
    adapter_name: str = "default",
    subfolder: str = "",
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> PeftModel:
    """A stored adapter on its base, ready to run, in evaluation mode.

    It is what `PeftModel.from_pretrained` gives for a checkout, bit for bit. Where PEFT would leave a matrix
    at random, or would read or fetch something that the configuration names, the adapter is refused instead.
    PEFT finds the start of some adapters (`pissa_niter_*`) by random draws: here these are the same each
    time, those behind `torch.manual_seed(0)`.

    Args:
        store: The store, or the URL of a node; see `load_state_dict`.
        name: The adapter's name.
        base: The model to put it on (it is changed in place, as peft does); or a stored model's name; None
            finds the base that the adapter is bound to, see `find_base`. A peft model gets the adapter beside
            those that it has, so that many stand on one base: `set_adapter` chooses, the one that was active
            stays so.
        adapter_name: What peft calls it; a peft model has no two of one name.
        subfolder: Folder of a named adapter inside the model, as PEFT saves all but the first.
        verify: See `load_state_dict`; also for a base that is loaded.
        share: See `load_state_dict`: adapters of one stored base then hold it once. Merging one into its base
            would write to the others'. A base that its adapter changes (PiSSA, OLoRA, ...) is not shared.
        eager: See `load_state_dict`.
        threads: See `load_state_dict`.

    Raises:
        CheckpointError: If it is no adapter, does not fit the base, or its base is not found; or if it cannot
            stand beside others, as those that change their base cannot.
        ValueError: If the peft model has an adapter of this name, or peft cannot call one so.
    """
    if not adapter_name or "." in adapter_name or "lora_" in adapter_name:  # it stands in parameters' names
        raise ValueError(f"adapter_name must be a name without dots, got {adapter_name!r}")
    options: MemoryOptions = {"verify": verify, "share": share, "eager": eager, "threads": threads}
    with models_of(store, name, *([base] if isinstance(base, str) else [])) as held:
        return _load(held, name, base, adapter_name, subfolder, options)


def _load(
    store: BlockStore,
    name: str,
    base: PreTrainedModel | PeftModel | str | None,
    adapter_name: str,
    subfolder: str,
    options: MemoryOptions,
) -> PeftModel:
    from peft import PeftModel

    from pbstore.checkpoint.lazy import passing_by

    manifest = manifest_of(store, name)
    config = read_adapter_config(store, manifest, subfolder)
    weights = adapter_file(subfolder, ADAPTER_WEIGHTS)
    if find_file(manifest, weights) is None and find_file(manifest, adapter_file(subfolder, _PICKLED)):
        raise CheckpointError(f"{name} keeps its weights in a pickle, {_PICKLED}: add it with --convert")
    state = load_state_dict(store, name, file=weights, **options)
    if base is None or isinstance(base, str):
        base_name = find_base(store, name, subfolder=subfolder) if base is None else base
        options["share"] = options["share"] and leaves_base(config, state)
        ready = _load_base(store, base_name, config, state, options)
        _check_given(ready.missing, state, base_name, name)
        base = ready.model
    if isinstance(base, PeftModel):
        _check_beside(base, config, state, adapter_name, name)
    with _as_ours(name), passing_by(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(base, PeftModel):
            return _put_beside(base, config, state, adapter_name, name)
        return _put_on(base, config, state, adapter_name, name)


def _check_beside(
    model: PeftModel, config: PeftConfig, state: Mapping[str, Any], adapter_name: str, name: str
) -> None:
    if adapter_name in model.peft_config:
        raise ValueError(f"the model has an adapter {adapter_name!r} already: choose another adapter_name")
    if config.is_prompt_learning or not leaves_base(config, state):
        raise CheckpointError(f"adapter {name} cannot stand beside others: load it on a base of its own")


def _put_beside(
    model: PeftModel, config: PeftConfig, state: dict[str, Any], adapter_name: str, name: str
) -> PeftModel:
    """Put another adapter on a base that has some; if that fails the model is as it was."""
    import torch
    from peft import set_peft_model_state_dict

    active, training = model.active_adapter, model.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.add_adapter(adapter_name, config)
    try:
        result = set_peft_model_state_dict(model, state, adapter_name=adapter_name)
        _check_all_used(model, config, result, name, adapter_name)
    except BaseException:
        model.delete_adapter(adapter_name)
        model.set_adapter(active)
        raise
    model.set_adapter(active)
    model.train(training)
    return model


def _put_on(
    base: PreTrainedModel, config: PeftConfig, state: dict[str, Any], adapter_name: str, name: str
) -> PeftModel:
    """Build the adapter around its base and give it what is stored."""
    import torch
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, set_peft_model_state_dict

    kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    exact = getattr(base, "dtype", None) == torch.float32  # else peft casts what it is given, and back
    plain = starts_plainly(config) and (exact or not any("lora_embedding_" in key for key in state))
    as_it_is = plain and exact
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PeftModel = kind(base, config, adapter_name, low_cpu_mem_usage=plain)
    if plain and not as_it_is:
        _give_memory(model)
    tuner: Any = model.base_model
    with tuner._temporarily_active(adapter_name) if config.is_adaption_prompt else nullcontext():
        result = set_peft_model_state_dict(model, state, adapter_name, low_cpu_mem_usage=as_it_is)
    _check_all_used(model, config, result, name, adapter_name)
    if hasattr(tuner, "_cast_adapter_dtype"):
        tuner._cast_adapter_dtype(adapter_name=adapter_name, autocast_adapter_dtype=True)
    model.eval()
    return model


def _give_memory(model: PeftModel) -> None:
    """Memory for parameters without any, to be filled."""
    import torch

    from pbstore.checkpoint.lazy import places_in

    places = places_in(model)
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta and id(parameter) not in places:
                empty = torch.empty_like(parameter, device="cpu")
                module._parameters[key] = torch.nn.Parameter(empty, parameter.requires_grad)


def _check_all_used(
    model: PeftModel,
    config: PeftConfig,
    result: Any,  # noqa: ANN401 - a tuple of torch's
    name: str,
    adapter_name: str,
) -> None:
    """Refuse what PEFT only warns of: tensors that nothing takes, and parameters that nothing gives."""
    from peft import get_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    from pbstore.checkpoint.lazy import places_in

    taken = get_peft_model_state_dict(model, save_embedding_layers=False) if config.is_prompt_learning else {}
    over = [key for key in result.unexpected_keys if key not in taken and not _is_copy(key)]
    if over:
        raise CheckpointError(f"adapter {name} does not fit its base: it has no place for {over[0]!r}")
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    missing = [key for key in result.missing_keys if prefix in key and adapter_name in key.split(".")]
    places = places_in(model)
    missing += [key for key, one in model.named_parameters() if one.is_meta and id(one) not in places]
    missing = [key for key in missing if not any(part in key for part in _SHARED)]
    if missing:
        raise CheckpointError(f"adapter {name} does not fit its base: nothing is stored for {missing[0]!r}")


@contextmanager
def _as_ours(name: str) -> Iterator[None]:
    """PEFT raises whatever it meets in an adapter that does not fit."""
    try:
        yield
    except PBStoreError:
        raise
    except Exception as error:
        raise CheckpointError(f"adapter {name}: peft cannot load it: {in_one_line(error)}") from error


def _check_given(missing: set[str], state: Mapping[str, Any], base: str, name: str) -> None:
    """Refuse a base that lacks tensors, such as a head, which the adapter does not bring either."""
    given = {"." + key.removeprefix("base_model.model.").replace(".modules_to_save", "") for key in state}
    lost = sorted(key for key in missing if not any(one.endswith("." + key) for one in given))
    if lost:
        raise CheckpointError(f"neither adapter {name} nor its base {base} holds {lost[0]!r}")


def _is_copy(key: str) -> bool:
    """Whether PEFT saved a tensor a second time, under a name of its own, as it does beside `bias="all"`."""
    return ".modules_to_save." in key or ".original_module." in key


def _load_base(
    store: BlockStore, name: str, adapter: PeftConfig, state: Mapping[str, Any], options: MemoryOptions
) -> Ready:
    config = read_config(store, manifest_of(store, name))
    kind = base_class(adapter, config, name)
    if kind is None:
        return build(store, name, Wanted(), options)
    labels = num_labels({key: tuple(tensor.shape) for key, tensor in state.items()})
    if labels is not None:
        config.num_labels = labels
    return build(store, name, Wanted(model_class=kind, config=config), options)
