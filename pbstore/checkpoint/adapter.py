"""A stored adapter on top of its base: a ready peft model, without writing a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from pbstore.checkpoint.errors import CheckpointError
from pbstore.checkpoint.model import load_model, read_config
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.checkpoint.tensors import manifest_of, read_json, stored_tensors
from pbstore.manifest import Manifest
from pbstore.store import BlockStore

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_AUTO_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "FEATURE_EXTRACTION": "AutoModel",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}
Shapes = Mapping[str, tuple[int, ...]]


def load_adapter(
    store: BlockStore,
    name: str,
    base: PreTrainedModel | str | None = None,
    *,
    verify: bool = False,
    share: bool = False,
    eager: bool = False,
    threads: int = 2,
) -> PeftModel:
    """A stored adapter on its base, ready to run, in evaluation mode.

    Args:
        store: The store.
        name: The adapter's name.
        base: The model to put it on (it is changed in place, as peft does); or a stored model's name; None
            finds the base that the adapter is bound to, see `find_base`.
        verify: See `load_state_dict`; also for a base that is loaded.
        share: See `load_state_dict`: adapters of one stored base then hold it once. Merging one into its base
            would write to the others'.
        eager: See `load_state_dict`.
        threads: See `load_state_dict`.

    Raises:
        CheckpointError: If it is no adapter, does not fit the base, or its base is not found.
    """
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, set_peft_model_state_dict

    manifest = manifest_of(store, name)
    config = _read_adapter_config(store, manifest)
    options = _Options(verify=verify, share=share, eager=eager, threads=threads)
    state = load_state_dict(store, name, file=ADAPTER_WEIGHTS, **options)
    if base is None or isinstance(base, str):
        base_name = find_base(store, name) if base is None else base
        base = _load_base(store, base_name, str(config.task_type), state, options)
    kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    model: PeftModel = kind(base, config, low_cpu_mem_usage=True)
    result = set_peft_model_state_dict(model, state, low_cpu_mem_usage=True)
    if result.unexpected_keys or any(tensor.is_meta for tensor in model.parameters()):
        raise CheckpointError(f"adapter {name} does not fit its base: {str(result.unexpected_keys)[:200]}")
    model.eval()
    return model


def find_base(store: BlockStore, name: str) -> str:
    """Name of the stored model that an adapter belongs to.

    An adapter that was added with its base is bound to the base's content, whatever its name is now.
    Otherwise the name in its config decides, if that model's tensors fit; otherwise the only stored model
    that fits.

    Raises:
        CheckpointError: If no stored model fits, or several do and nothing tells which.
    """
    manifest = manifest_of(store, name)
    if manifest.base is not None:
        return _by_content(store, manifest)
    tree = read_json(store, manifest, ADAPTER_CONFIG) or {}
    adapter = {tensor.name: tensor.spec.shape for tensor in stored_tensors(store, manifest)}
    fitting = [other for other, shapes in _models(store, name) if fits(adapter, shapes)]
    wanted = str(tree.get("base_model_name_or_path", ""))
    named = [other for other in fitting if wanted == other or wanted.endswith("/" + other)]
    found = named or fitting
    if len(found) != 1:
        raise CheckpointError(
            f"adapter {name} fits {len(found)} stored models ({', '.join(found[:5]) or 'none'}), "
            f"its config names {wanted[:80]!r}: say which base to use"
        )
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
        if not shapes & {(rows, cols), (cols, rows)}:
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


def _read_adapter_config(store: BlockStore, manifest: Manifest) -> PeftConfig:
    from peft import PeftConfig

    tree = read_json(store, manifest, ADAPTER_CONFIG)
    if tree is None:
        raise CheckpointError(f"{manifest.name} has no {ADAPTER_CONFIG}: it is no adapter")
    if tree.get("megatron_config"):
        raise CheckpointError(f"{manifest.name} asks to import a module that its config names: refused")
    try:
        config = PeftConfig.from_peft_type(**tree)
    except Exception as error:  # every peft version raises its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{ADAPTER_CONFIG} of {manifest.name} is refused: {reason}") from error
    config.inference_mode = True
    return config


def _models(store: BlockStore, adapter: str) -> Iterator[tuple[str, Shapes]]:
    for other in store.models():
        manifest = store.manifest(other)
        paths = {entry.path for entry in manifest.files}
        if other == adapter or ADAPTER_CONFIG in paths or not any(p.endswith(".safetensors") for p in paths):
            continue
        yield other, {tensor.name: tensor.spec.shape for tensor in stored_tensors(store, manifest)}


def _by_content(store: BlockStore, manifest: Manifest) -> str:
    link = manifest.base
    names = store.models()
    for other in sorted(names, key=lambda n: link is None or n != link.name):
        if link is not None and store.manifest(other).weights == link.weights:
            return other
    expected = "" if link is None else f"{link.name} (content {link.weights[:12]})"
    raise CheckpointError(f"the base of {manifest.name}, {expected}, is not in the store")


class _Options(TypedDict):
    verify: bool
    share: bool
    eager: bool
    threads: int


def _load_base(
    store: BlockStore, name: str, task: str, state: Mapping[str, Any], options: _Options
) -> PreTrainedModel:
    import transformers

    config = read_config(store, manifest_of(store, name))
    auto = _AUTO_CLASSES.get(task.removeprefix("TaskType."))
    if auto is None:
        return load_model(store, name, **options)
    mapping = getattr(transformers, auto)._model_mapping
    if type(config) not in mapping:
        raise CheckpointError(f"{name} is a {type(config).__name__}, which has no {auto}")
    labels = _num_labels(config, state)
    if labels is not None:
        config.num_labels = labels
    found = mapping[type(config)]
    kind = found[0] if isinstance(found, tuple) else found
    return load_model(store, name, model_class=kind, config=config, **options)


def _num_labels(config: PretrainedConfig, state: Mapping[str, Any]) -> int | None:
    """Labels of the head that came with the adapter, None if it has none."""
    for key, tensor in state.items():
        if re.search(r"(?:^|\.)(classifier|score)(?:\.out_proj)?\.weight$", key) and tensor.ndim == 2:
            return int(tensor.shape[0])
    return None
