"""Which class of transformers an adapter wants its base to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pbstore.errors import CheckpointError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel

_AUTO_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "FEATURE_EXTRACTION": "AutoModel",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}
_HEAD = re.compile(r"(?:^|\.)(classifier|score)(?:\.out_proj)?\.weight$")


def base_class(adapter: PeftConfig, config: PretrainedConfig, name: str) -> type[PreTrainedModel] | None:
    """The class of the adapter's task, or the one that it was trained on; None for the model's own.

    Raises:
        CheckpointError: If the model has no class for the adapter's task.
    """
    import transformers

    auto = _AUTO_CLASSES.get(str(adapter.task_type).removeprefix("TaskType."))
    if auto is None:
        return _trained_on(adapter, config)
    mapping = getattr(transformers, auto)._model_mapping
    if type(config) not in mapping:
        raise CheckpointError(f"{name} is a {type(config).__name__}, which has no {auto}")
    found = mapping[type(config)]
    first: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return first


def speaks(adapter: PeftConfig) -> bool:
    """Whether an adapter needs a base that has a language model's head: no adapter brings one."""
    return str(adapter.task_type).removeprefix("TaskType.") in ("CAUSAL_LM", "SEQ_2_SEQ_LM")


def num_labels(adapter: Mapping[str, tuple[int, ...]]) -> int | None:
    """Labels of the head that came with an adapter, given its tensors' shapes; None if it has none."""
    for key, shape in adapter.items():
        if _HEAD.search(key) and len(shape) == 2:
            return shape[0]
    return None


def _trained_on(adapter: PeftConfig, config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """The class that an adapter without a task names, if it is one of transformers for such a config."""
    import transformers

    named = (adapter.auto_mapping or {}).get("base_model_class")
    found = getattr(transformers, named, None) if isinstance(named, str) else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        return None
    trained_on: type[PreTrainedModel] = found
    return trained_on if isinstance(config, trained_on.config_class or ()) else None
