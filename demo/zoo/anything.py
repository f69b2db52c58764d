"""Run any model that transformers can load, on inputs made up for its kind: enough to compare two copies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from demo.zoo.answer import Inference, NotRunError
from demo.zoo.hub import Net, hub
from demo.zoo.inference import load_tokenizer, one_thread

TEXT = "The quick brown fox jumps over the lazy dog."
TOKENS = 12
"""Tokens of a made-up input, where a model comes without a tokenizer."""
PIXELS = 224
"""Side of a made-up image, where the configuration does not say."""


def infer_anything(folder: Path, base_folder: Path | None = None) -> Inference:
    """Run the model of a folder, or the adapter of one on its base; only safetensors, and no code of its own.

    Args:
        folder: An ordinary model folder.
        base_folder: Folder of the base of an adapter.

    Returns:
        Its raw outputs and one readable line.

    Raises:
        NotRunError: If transformers cannot load it, or what it takes as input is not known.
    """
    net = _loaded(folder, base_folder)
    inputs = _inputs(net, folder if base_folder is None else base_folder)
    try:
        with torch.inference_mode(), one_thread():
            outputs = net(**inputs)
    except Exception as error:
        raise NotRunError(f"{type(net).__name__} does not run: {_line(error)}") from error
    values = {
        name: value
        for name, value in dict(outputs).items()
        if isinstance(value, torch.Tensor) and value.numel()
    }
    if not values:
        raise NotRunError(f"{type(net).__name__} gives no tensor")
    arrays = {
        name: (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
        for name, value in values.items()
    }
    return Inference(arrays, f"{type(net).__name__}: {_described(net, values)}")


def _loaded(folder: Path, base_folder: Path | None) -> Net:
    source = folder if base_folder is None else base_folder
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise NotRunError("it has no config.json that transformers could read") from error
    loader = getattr(hub(), str(names[0]), None) if names else hub().AutoModel
    if loader is None:
        raise NotRunError(f"transformers has no {names[0]}")
    options = {"dtype": "auto", "use_safetensors": True, "local_files_only": True}
    try:
        net = loader.from_pretrained(str(source), trust_remote_code=False, **options)
        if base_folder is not None:
            from peft import PeftModel

            net = PeftModel.from_pretrained(net, str(folder))
    except Exception as error:  # whatever a foreign loader thinks of a foreign folder
        raise NotRunError(f"transformers does not load it: {_line(error)}") from error
    return net.eval()


def _inputs(net: Net, folder: Path) -> Mapping[str, Any]:
    config, takes = net.config, getattr(net, "main_input_name", "input_ids")
    made_up = torch.Generator().manual_seed(0)
    if takes == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", None) or PIXELS
        height, width = side if isinstance(side, list | tuple) else (side, side)
        shape = (1, getattr(vision, "num_channels", 3), height, width)
        return {"pixel_values": torch.randn(shape, generator=made_up).to(net.dtype)}
    if takes != "input_ids":
        raise NotRunError(f"no input is known for {type(net).__name__}, which takes {takes}")
    try:
        return dict(load_tokenizer(folder)(TEXT, return_tensors="pt", return_token_type_ids=False))
    except Exception:  # no tokenizer: made-up tokens do to compare two copies
        most = int(getattr(config, "vocab_size", 2))
        return {"input_ids": torch.randint(0, most, (1, TOKENS), generator=made_up)}


def _described(net: Net, values: Mapping[str, torch.Tensor]) -> str:
    name, value = next(iter(values.items()))
    labels = getattr(net.config, "id2label", None)
    if name == "logits" and value.ndim == 2 and labels and len(labels) == value.shape[1]:
        return f"{labels[int(value[0].argmax())]} ({float(value[0].float().softmax(-1).max()):.0%})"
    first = ", ".join(f"{number:.3f}" for number in value.flatten()[:3].float().tolist())
    return f"{name} {tuple(value.shape)} [{first}, ...]"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
