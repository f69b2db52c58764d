"""A GGUF file as an ordinary checkpoint, de-quantised, on explicit request only.

The floats of the result lie on the grid of the quantisation: they compress and deduplicate far better than
real weights do, so the folder says in its metadata where it comes from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pbstore.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOTE_FILE = "dequantised.json"


def dequantise_gguf(source: Path, target: Path, dtype: str = "bfloat16") -> None:
    """Write a GGUF file's model and tokenizer as a Hugging Face folder.

    Args:
        source: The GGUF file, of an architecture that transformers can read.
        target: A folder that does not exist yet or is empty.
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        CheckpointError: If transformers cannot read it.
        FileExistsError: If the target has files.
        ValueError: If the dtype is none of the three.
    """
    import torch

    if dtype not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype!r}")
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"expected an empty folder, got {target}")
    try:
        model = _read(source, getattr(torch, dtype))
    except Exception as error:  # transformers and gguf raise whatever they meet
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{source.name}: transformers cannot read it: {reason}") from error
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    _save_tokenizer(source, target)
    note = {"dequantised_from": source.name, "dtype": dtype, "bytes": source.stat().st_size}
    (target / NOTE_FILE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")


def _read(source: Path, dtype: object) -> PreTrainedModel:
    """The model, copied into a plain one: what transformers reads from GGUF refuses to be saved."""
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=dtype)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = read.generation_config
    return plain.eval()


def _save_tokenizer(source: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(target)
