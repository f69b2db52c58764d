"""A stored model as a ready transformers model, without writing a folder and without running its code."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbstore.checkpoint.assemble import assemble
from pbstore.checkpoint.files import find_file, manifest_of, models_of, read_json
from pbstore.checkpoint.state_dict import MemoryOptions, as_torch, touch
from pbstore.checkpoint.tensors import tensors_in
from pbstore.checkpoint.weights import Weights, choose_weights, inside
from pbstore.errors import CheckpointError
from pbstore.manifest import Manifest
from pbstore.store import BlockStore
from pbstore.tensors import StoredTensor

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Floats in which a whole model can be made."""


def load_model(
    store: BlockStore | str,
    name: str,
    *,
    model_class: type[PreTrainedModel] | None = None,
    config: PretrainedConfig | None = None,
    subfolder: str = "",
    variant: str | None = None,
    init_missing: bool = False,
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> PreTrainedModel:
    """A stored model, ready to run, in evaluation mode.

    Args:
        store: The store, or the URL of a node; see `load_state_dict`.
        name: The model's name.
        model_class: Class to build; None for the first of `architectures` in its config.json, else the plain
            model of its type.
        config: Config to build from instead of the stored one, for example with another number of labels.
        subfolder: Folder of the model that holds its config and weights, as in `from_pretrained`.
        variant: As in `from_pretrained`: "fp16" for `model.fp16.safetensors`.
        init_missing: Initialise tensors that the checkpoint lacks, at random, as transformers does: for a new
            head that is to be trained.
        verify: See `load_state_dict`.
        share: See `load_state_dict`. No parameter then asks for a gradient, so that no optimizer writes to
            siblings.
        eager: See `load_state_dict`.
        threads: See `load_state_dict`.

    Returns:
        The same model that the class's `from_pretrained` gives for a checkout, bit for bit.

    Raises:
        CheckpointError: If it has no config.json, or is of a type that this transformers does not know (code
            that comes with a checkpoint is never run); if its weights are missing, pickled, of an unknown
            layout, or do not fit; or if the checkpoint lacks tensors and `init_missing` is not set.
    """
    wanted = Wanted(model_class=model_class, config=config, subfolder=subfolder, variant=variant)
    with models_of(store, name) as held:
        ready = build(
            held, name, wanted, {"verify": verify, "share": share, "eager": eager, "threads": threads}
        )
    if ready.missing and not init_missing:
        raise CheckpointError(
            f"{name} lacks {len(ready.missing)} tensors of a {type(ready.model).__name__}, such as "
            f"{min(ready.missing)!r}: say init_missing=True to have them initialised at random"
        )
    return ready.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for of a stored model, see `load_model`."""

    model_class: type[PreTrainedModel] | None = None
    config: PretrainedConfig | None = None
    subfolder: str = ""
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A model, and the names of its tensors that were initialised: the checkpoint lacks them."""

    model: PreTrainedModel
    missing: set[str]


def build(store: BlockStore, name: str, wanted: Wanted, options: MemoryOptions) -> Ready:
    """A stored model, though its checkpoint may lack tensors; see `load_model`."""
    found = plan(store, name, wanted)
    manifest, kind, config, dtype = found.manifest, found.kind, found.config, found.dtype
    state = as_torch(store, found.tensors, **options)
    touch(store, name)
    try:
        model, missing = assemble(kind, config, state, dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    finish(store, name, wanted, manifest, model)
    if options.get("share"):
        model.requires_grad_(False)
    return Ready(model.eval(), missing)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model is made of."""

    manifest: Manifest
    kind: type[PreTrainedModel]
    config: PretrainedConfig
    dtype: torch.dtype
    tensors: list[StoredTensor]


def plan(store: BlockStore, name: str, wanted: Wanted) -> Plan:
    """Class, config, dtype and tensors of a stored model; see `load_model`."""
    manifest, at = manifest_of(store, name), inside(wanted.subfolder)
    _check_no_adapter(manifest, at)
    kind, config = _kind_and_config(store, manifest, wanted)
    named = getattr(config, "transformers_weights", None)
    weights = choose_weights(store, manifest, subfolder=at, variant=wanted.variant, named=named, strict=True)
    weights = _with_extra_files(manifest, at, weights, config)
    dtype = _dtype(store, manifest, config, weights)
    return Plan(manifest, kind, config, dtype, list(tensors_in(store, weights.files).values()))


def finish(store: BlockStore, name: str, wanted: Wanted, manifest: Manifest, model: PreTrainedModel) -> None:
    """Give a model the rest of what `from_pretrained` gives."""
    _set_generation_config(store, manifest, inside(wanted.subfolder), model)
    model.config.name_or_path = name


def read_config(store: BlockStore, manifest: Manifest, subfolder: str = "") -> PretrainedConfig:
    """The model's config, of a class that transformers ships.

    Raises:
        CheckpointError: If there is no config.json or its model type is unknown.
    """
    from transformers import CONFIG_MAPPING

    tree = _config_tree(store, manifest, subfolder)
    return _config_of(CONFIG_MAPPING[tree["model_type"]], tree, manifest)


def _config_tree(store: BlockStore, manifest: Manifest, subfolder: str) -> dict[str, Any]:
    """The model's config.json, or the one of another name that it points to for this transformers."""
    from transformers import CONFIG_MAPPING
    from transformers.configuration_utils import get_configuration_file

    tree = read_json(store, manifest, inside(subfolder, "config.json"))
    if tree is None:
        raise CheckpointError(
            f"{_place(manifest, subfolder)} has no config.json: it is no transformers model"
        )
    others = tree.get("configuration_files")
    if isinstance(others, list) and all(isinstance(path, str) for path in others):
        pointed = get_configuration_file(others)
        tree = read_json(store, manifest, inside(subfolder, pointed))
        if tree is None:
            raise CheckpointError(f"{_place(manifest, subfolder)} has no {pointed}, which config.json names")
    model_type = tree.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{_place(manifest, subfolder)} is of type {str(model_type)[:60]!r}, which this transformers "
            "does not know; code that comes with a checkpoint is never run"
        )
    tree.pop("auto_map", None)
    if kernels := [value for value in _implementations(tree) if "/" in value]:
        raise CheckpointError(
            f"config.json of {manifest.name} asks for code from the Hub, {kernels[0][:80]!r}: refused"
        )
    return tree


def _implementations(tree: object) -> Iterator[str]:
    """Names of implementations that a config asks for, of itself or of its parts."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if str(key).lstrip("_").startswith(("attn_implementation", "experts_implementation")):
                yield from map(str, value.values() if isinstance(value, dict) else [value])
            else:
                yield from _implementations(value)


def _config_of(kind: type[PretrainedConfig], tree: dict[str, Any], manifest: Manifest) -> PretrainedConfig:
    """A config of a class, perhaps a part of the one that is stored: what its `from_pretrained` gives."""
    if kind.base_config_key and kind.base_config_key in tree:
        tree = tree[kind.base_config_key]
    elif tree.get("model_type") != kind.model_type:
        parts = [part for part in tree.values() if isinstance(part, dict)]
        tree = next((part for part in parts if part.get("model_type") == kind.model_type), tree)
    try:
        return kind.from_dict(tree)
    except Exception as error:  # every transformers version raises its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"config.json of {manifest.name} is refused: {reason}") from error


def _kind_and_config(
    store: BlockStore, manifest: Manifest, wanted: Wanted
) -> tuple[type[PreTrainedModel], PretrainedConfig]:
    """The class to build, and its config, which is the caller's own to change."""
    if wanted.config is not None:
        config = copy.deepcopy(wanted.config)
        return wanted.model_class or architecture(config, manifest), config
    config = read_config(store, manifest, wanted.subfolder)
    kind = wanted.model_class or architecture(config, manifest)
    if kind.config_class is not None and not isinstance(config, kind.config_class):
        tree = _config_tree(store, manifest, wanted.subfolder)
        config = _config_of(kind.config_class, tree, manifest)
    return kind, config


def _place(manifest: Manifest, subfolder: str) -> str:
    return f"{manifest.name} (folder {subfolder!r})" if subfolder else manifest.name


def _check_no_adapter(manifest: Manifest, subfolder: str) -> None:
    """Refuse an adapter, on its own or beside a whole model: `from_pretrained` would put it on."""
    if find_file(manifest, inside(subfolder, "adapter_config.json")) is not None:
        raise CheckpointError(
            f"{_place(manifest, subfolder)} holds an adapter (adapter_config.json): use load_adapter"
        )


def _with_extra_files(
    manifest: Manifest, subfolder: str, weights: Weights, config: PretrainedConfig
) -> Weights:
    """The weights with those that some configs' classes keep in files of their own."""
    extra = getattr(type(config), "extra_files", ())
    found = [find_file(manifest, inside(subfolder, path)) for path in extra]
    files = dict.fromkeys((*weights.files, *(entry for entry in found if entry is not None)))
    return Weights(files=tuple(files), dtype=weights.dtype)


def _dtype(store: BlockStore, manifest: Manifest, config: PretrainedConfig, weights: Weights) -> torch.dtype:
    """The dtype of the model: the config's, the index's, or that of the first floats of the first file.

    Raises:
        CheckpointError: If it is none that a model can be made in.
    """
    import torch

    from pbstore.checkpoint.state_dict import torch_dtype

    dtype = getattr(config, "dtype", None)
    if dtype is None:
        dtype = weights.dtype
    if dtype is None:
        names = tensors_in(store, weights.files[:1])
        kinds = [
            names[name].spec.dtype for name in sorted(names)
        ]  # the order in which safetensors names them
        floats = [kind for kind in kinds if kind in _FLOATS]
        dtype = torch_dtype((floats or kinds or ["F32"])[0])
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.removeprefix("torch."), None)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        raise CheckpointError(f"{manifest.name}: no model can be made in dtype {dtype}")
    return dtype


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


def _set_generation_config(
    store: BlockStore, manifest: Manifest, subfolder: str, model: PreTrainedModel
) -> None:
    if not model.can_generate():
        return
    from transformers import GenerationConfig

    tree = read_json(store, manifest, inside(subfolder, "generation_config.json"))
    if tree is not None:
        model.generation_config = GenerationConfig.from_dict(tree)
        return
    tree = read_json(store, manifest, inside(subfolder, "config.json"))
    if tree is not None:  # it may hold what the config's class lets go of
        model.generation_config = GenerationConfig.from_model_config(tree)
