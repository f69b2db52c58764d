"""Which stored model an adapter belongs to: the one it is bound to or names, or the only one it fits."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

from pbstore.checkpoint.adapter_class import base_class, num_labels, speaks
from pbstore.checkpoint.adapter_config import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_file,
    in_one_line,
    read_adapter_config,
)
from pbstore.checkpoint.files import find_file, manifest_of, read_json
from pbstore.checkpoint.model import architecture, read_config
from pbstore.checkpoint.tensors import stored_tensors
from pbstore.disk.add import identity
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import CheckpointError, PBStoreError
from pbstore.manifest import BaseLink, Manifest
from pbstore.store import BlockStore
from pbstore.weights import identities

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel

_log = logging.getLogger(__name__)
Shapes = Mapping[str, tuple[int, ...]]
_LORA = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MAX_TRIAL_PARAMETERS = 300_000_000
_PEFT_PREFIXES = ("base_model.model.", "base_model.")


def find_base(store: BlockStore, name: str, *, subfolder: str = "") -> str:
    """Name of the stored model that an adapter belongs to.

    An adapter that was added with its base is bound to the base's content, whatever its name is now.
    Otherwise the name in its config decides, if that model's tensors fit; otherwise the only stored model
    that fits, unless nothing but its width tells that (prompts) and its config names another. A model that
    cannot be read fits nothing, and stops nothing.

    Raises:
        CheckpointError: If no stored model fits, or several do and nothing tells which.
    """
    manifest = manifest_of(store, name)
    if manifest.base is not None:
        return _by_content(store, name, manifest.base)
    tree = read_json(store, manifest, adapter_file(subfolder, ADAPTER_CONFIG)) or {}
    search = _Search(store, manifest, subfolder)
    fitting = search.fitting()
    wanted = str(tree.get("base_model_name_or_path") or "")
    named = [other for other in fitting if wanted == other or wanted.endswith("/" + other)]
    found = named or fitting
    if len(found) != 1:
        raise CheckpointError(
            f"adapter {name} fits {len(found)} stored models ({', '.join(found[:5]) or 'none'}), "
            f"its config names {wanted[:80]!r}: say which base to use{search.excuses()}"
        )
    if not named and wanted and search.is_vague:
        raise CheckpointError(
            f"adapter {name} fits {found[0]}, as it would any model of this width, but its config names "
            f"{wanted[:80]!r}: say which base to use"
        )
    if not named and wanted:
        _log.warning("adapter %s names %r; taken is %s, the only model that it fits", name, wanted, found[0])
    return found[0]


def fits(adapter: Shapes, base: Shapes) -> bool:
    """Whether each LoRA pair has a weight of its shape and, but for prefixes, its name in a model."""
    ends: dict[str, list[str]] = {}
    for key in base:
        ends.setdefault(".".join(key.split(".")[-3:]), []).append(key)
    pairs = dict(lora_pairs(adapter))
    for module, (down, up) in pairs.items():
        weight = module + ".weight"
        shapes = {
            base[key]
            for key in ends.get(".".join(weight.split(".")[-3:]), ())
            if weight == key or weight.endswith("." + key) or key.endswith("." + weight)
        }
        rows, cols = adapter[up][0], adapter[down][1]
        if adapter[up][1] != adapter[down][0] or not shapes & {(rows, cols), (cols, rows)}:
            return False
    return bool(pairs)


def lora_pairs(adapter: Shapes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Modules that an adapter changes, with the names of its matrices A (rank, in) and B (out, rank)."""
    sides: dict[str, dict[str, str]] = {}
    for key, shape in adapter.items():
        match = _LORA.fullmatch(key)
        if match and len(shape) == 2:
            sides.setdefault(match["module"], {})[match["side"]] = key
    return ((module, (pair["A"], pair["B"])) for module, pair in sides.items() if len(pair) == 2)


class _Search:
    """The stored models that an adapter fits; one that cannot be looked at is noted, and stops nothing."""

    def __init__(self, store: BlockStore, adapter: Manifest, subfolder: str) -> None:
        self._store, self._adapter = store, adapter
        self._config = read_adapter_config(store, adapter, subfolder)
        file = adapter_file(subfolder, ADAPTER_WEIGHTS)
        self._shapes = {t.name: t.spec.shape for t in stored_tensors(store, adapter, file=file)}
        self._tried: dict[str, bool] = {}
        self._unread: dict[str, str] = {}

    def fitting(self) -> list[str]:
        """Names of the models: by names and shapes where these tell all, else by building them empty."""
        models = dict(self._models())
        lora = [key for key in self._shapes if ".lora_" in key]
        pairs = dict(lora_pairs(self._shapes))
        if lora and len(lora) == 2 * len(pairs):
            found = [name for name in models if self._fits_by_names(name)]
            if len(found) == 1:
                return found
            models = {name: models[name] for name in found} or models
        return [name for name, manifest in models.items() if self._fits_when_built(name, manifest)]

    @property
    def is_vague(self) -> bool:
        """Whether nothing of the adapter belongs to a module of its base, as prompts do not."""
        return not any(key.startswith("base_model.model.") for key in self._shapes)

    def excuses(self) -> str:
        """What an error should add: models that could not be looked at."""
        first = [f"{name} ({why})" for name, why in list(self._unread.items())[:3]]
        return f"; could not look at {len(self._unread)}: {', '.join(first)}" if first else ""

    def _models(self) -> Iterator[tuple[str, Manifest]]:
        for name in self._store.models():
            if name == self._adapter.name:
                continue
            try:
                manifest = manifest_of(self._store, name)
            except PBStoreError as error:
                self._unread[name] = in_one_line(error)
                continue
            paths = {entry.path for entry in manifest.files}
            if ADAPTER_CONFIG not in paths and any(path.endswith(".safetensors") for path in paths):
                yield name, manifest

    def _fits_by_names(self, name: str) -> bool:
        try:
            tensors = stored_tensors(self._store, manifest_of(self._store, name))
        except (PBStoreError, KeyError) as error:
            self._unread[name] = in_one_line(error)
            return False
        return fits(self._shapes, {tensor.name: tensor.spec.shape for tensor in tensors})

    def _fits_when_built(self, name: str, manifest: Manifest) -> bool:
        config_file = find_file(manifest, "config.json")
        key = "" if config_file is None else config_file.sha256
        if key not in self._tried:
            try:
                config = read_config(self._store, manifest)
                own = architecture(config, manifest)
                kind = base_class(self._config, config, name) or own
                self._tried[key] = (kind is own or not speaks(self._config)) and _fits_when_built(
                    self._config, self._shapes, kind, config
                )
            except PBStoreError as error:
                self._unread[name] = in_one_line(error)
                return False
        return self._tried[key]


def _fits_when_built(
    adapter: PeftConfig, shapes: Shapes, kind: type[PreTrainedModel], config: PretrainedConfig
) -> bool:
    """Whether PEFT, put around such a base without memory, has just the parameters that are stored."""
    import torch

    labels = num_labels(shapes)
    if labels is not None:
        config.num_labels = labels
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        with torch.device("meta"):
            base = _built(kind, config)
        known = {key: tuple(tensor.shape) for key, tensor in base.state_dict().items()}
        size = sum(tensor.numel() for tensor in base.parameters())
        try:
            with torch.device("meta"):
                wanted = _parameters(adapter, base)
        except (NotImplementedError, RuntimeError):  # a few kinds must see a base's weights
            if size > _MAX_TRIAL_PARAMETERS:
                raise CheckpointError("peft cannot tell without its weights, which are many") from None
            wanted = _parameters(adapter, _built(kind, config))
        except ImportError as error:
            raise CheckpointError(in_one_line(error)) from error
        except Exception:  # peft's way to say that it does not fit
            return False
    over = shapes.keys() - wanted.keys()
    return wanted.items() <= shapes.items() and all(_bare(key) in known for key in over)


def _built(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    try:
        return kind._from_config(deepcopy(config))
    except Exception as error:  # a stored config may hold anything, and others are to be looked at
        raise CheckpointError(
            f"no {kind.__name__} can be built from its config: {in_one_line(error)}"
        ) from error


def _parameters(adapter: PeftConfig, base: PreTrainedModel) -> Shapes:
    """Names and shapes of what PEFT would save of such an adapter on such a base."""
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, get_peft_model_state_dict

    adapter = deepcopy(adapter)
    for size in ("token_dim", "num_layers", "num_attention_heads") if adapter.is_prompt_learning else ():
        setattr(adapter, size, None)  # peft then takes the base's
    if isinstance(getattr(adapter, "init_lora_weights", True), str):
        adapter.init_lora_weights = True
    build = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(adapter.task_type, PeftModel)
    model = build(base, adapter, low_cpu_mem_usage=True)
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {key: tuple(tensor.shape) for key, tensor in saved.items()}


def _bare(key: str) -> str:
    for prefix in _PEFT_PREFIXES:
        key = key.removeprefix(prefix)
    return key.replace(".base_layer.", ".")


def _by_content(store: BlockStore, name: str, link: BaseLink) -> str:
    """The stored model with a bound base's weights, the one of the same name before others."""
    if not link.weights:
        raise CheckpointError(
            f"{name} was bound to {link.name} by an earlier version, which knew no hash of its weights: "
            "say which base to use"
        )
    found = _with_weights(store, link.weights)
    if not found:
        other = ", and the model of that name has other weights" if link.name in store.models() else ""
        raise CheckpointError(
            f"the base of {name}, {link.name} (content {link.weights[:12]}), is not in the store{other}"
        )
    return link.name if link.name in found else found[0]


def _with_weights(store: BlockStore, weights: str) -> tuple[str, ...]:
    if isinstance(store, DiskBlockStore):
        return identity.find_weights(store.disk, weights)
    return tuple(name for name in store.models() if weights in identities(store.manifest(name), store.get))
