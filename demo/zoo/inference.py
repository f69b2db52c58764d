"""Run a model on a few inputs: two copies compare bit for bit, and a human can read the answer."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from demo.zoo.answer import Inference
from demo.zoo.hub import Net, Tokenizer, hub
from demo.zoo.model import ZooModel

BATCH_ROWS = 32
NEW_TOKENS = 16
"""Tokens that a generation adds to its prompt."""


def infer(
    source: Path | str | nn.Module,
    model: ZooModel,
    inputs: Sequence[str] | None = None,
    *,
    base_folder: Path | str | None = None,
    tokenizer_folder: Path | str | None = None,
) -> Inference:
    """Run one model.

    Args:
        source: A folder with the model (or the adapter), or a ready module.
        model: What it is.
        inputs: Texts; by default the model's samples.
        base_folder: Folder of the base; needed when `source` is an adapter's folder.
        tokenizer_folder: Where the tokenizer is; by default `source`, for a module the original folder.

    Returns:
        Its raw outputs and one readable line.
    """
    texts = list(model.sample_inputs if inputs is None else inputs)
    if not texts:
        raise ValueError(f"expected at least one input for {model.name}, got none")
    is_module = isinstance(source, nn.Module)
    net = source if is_module else load_net(Path(str(source)), model, base_folder)
    tokenizer = load_tokenizer(tokenizer_folder or (model.folder if is_module else Path(str(source))))
    with one_thread():
        if model.task == "generation":
            return _generated(net, tokenizer, texts, chat=model.kind != "adapter")
        if model.task == "classification":
            return _classified(logits(net, tokenizer, texts), model.labels, texts)
        return _embedded(embed(net, tokenizer, texts, first_token=pools_first_token(model.folder)), texts)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums are then taken in one order, so that equal weights give equal bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a folder."""
    return hub().AutoTokenizer.from_pretrained(str(folder))


def load_net(folder: Path, model: ZooModel, base_folder: Path | str | None = None) -> Net:
    """The model of a folder, ready for inference; an adapter is put on its base.

    Raises:
        ValueError: If an adapter comes without its base's folder.
    """
    auto = hub()
    loader = {
        "classification": auto.AutoModelForSequenceClassification,
        "generation": auto.AutoModelForCausalLM,
    }.get(model.task, auto.AutoModel)
    if model.kind != "adapter":
        return loader.from_pretrained(str(folder), dtype="auto").eval()
    if base_folder is None:
        raise ValueError(f"expected the folder of {model.base}, the base of adapter {model.name}, got none")
    from peft import PeftModel

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # peft calls a method that transformers is about to rename
        heads = label_config(model.labels) if model.task == "classification" else {}
        base = loader.from_pretrained(str(base_folder), dtype="auto", **heads)
        return PeftModel.from_pretrained(base, str(folder)).eval()


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    """Labels as transformers' configurations hold them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}


def pools_first_token(folder: Path) -> bool:
    """Whether an embedding is the first token's state rather than the mean over tokens."""
    config = folder / "1_Pooling" / "config.json"
    return config.exists() and bool(json.loads(config.read_text()).get("pooling_mode_cls_token"))


@torch.inference_mode()
def logits(net: Net, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int = 64) -> Tensor:
    """Class logits, (texts, labels)."""
    parts = [net(**_tokens(tokenizer, part, max_tokens)).logits for part in _parts(texts)]
    return torch.cat(parts)


@torch.inference_mode()
def embed(
    net: Net, tokenizer: Tokenizer, texts: Sequence[str], *, first_token: bool, max_tokens: int = 64
) -> Tensor:
    """Unit embeddings, (texts, width), float32."""
    parts = []
    for part in _parts(texts):
        tokens = _tokens(tokenizer, part, max_tokens)
        states = net(**tokens).last_hidden_state.float()
        weight = tokens["attention_mask"].unsqueeze(-1).float()
        pooled = states[:, 0] if first_token else (states * weight).sum(1) / weight.sum(1)
        parts.append(nn.functional.normalize(pooled, dim=-1))
    return torch.cat(parts)


@torch.inference_mode()
def next_token_counts(
    net: Net, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int = 64
) -> tuple[float, Tensor]:
    """Share of next tokens that the model guesses, and all those tokens, (tokens,)."""
    right, seen = 0, []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")["input_ids"]
        guess = net(input_ids=ids).logits[0, :-1].argmax(-1)
        right += int((guess == ids[0, 1:]).sum())
        seen.append(ids[0, 1:])
    tokens = torch.cat(seen)
    return right / len(tokens), tokens


def _parts(texts: Sequence[str]) -> list[list[str]]:
    return [list(texts[at : at + BATCH_ROWS]) for at in range(0, len(texts), BATCH_ROWS)]


def _tokens(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> Mapping[str, Tensor]:
    tokens: Mapping[str, Tensor] = tokenizer(
        list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    return tokens


def _classified(scores: Tensor, labels: Sequence[str], texts: Sequence[str]) -> Inference:
    shares = scores.float().softmax(-1)
    said = [
        f"{_short(text)} -> {labels[int(row.argmax())]} ({float(row.max()):.0%})"
        for text, row in zip(texts, shares, strict=True)
    ]
    return Inference({"logits": _numpy(scores)}, "; ".join(said))


def _embedded(vectors: Tensor, texts: Sequence[str]) -> Inference:
    said = [
        f"cosine({_short(texts[0])}, {_short(text)}) = {float(vectors[0] @ vector):.3f}"
        for text, vector in zip(texts[1:], vectors[1:], strict=True)
    ]
    first = ", ".join(f"{value:.3f}" for value in vectors[0, :4].tolist())
    return Inference(
        {"embeddings": _numpy(vectors)}, "; ".join(said) or f"{_short(texts[0])} -> [{first}, ...]"
    )


@torch.inference_mode()
def _generated(net: Net, tokenizer: Tokenizer, texts: Sequence[str], *, chat: bool) -> Inference:
    arrays, said = {}, []
    for at, text in enumerate(texts):
        prompt = tokenizer(_chat(tokenizer, text) if chat else text, return_tensors="pt")
        end = tokenizer.eos_token_id
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": end}
        tokens = net.generate(**prompt, **options)[0, prompt["input_ids"].shape[1] :]
        arrays[f"tokens_{at}"] = _numpy(tokens)
        arrays[f"logits_{at}"] = _numpy(net(**prompt).logits[0, -1])
        said.append(f"{_short(text)} -> {tokenizer.decode(tokens, skip_special_tokens=True).strip()!r}")
    return Inference(arrays, "; ".join(said))


def _chat(tokenizer: Tokenizer, text: str) -> str:
    if tokenizer.chat_template is None:
        return text
    turn = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _numpy(value: Tensor) -> np.ndarray[Any, Any]:
    wide = value.float() if value.dtype == torch.bfloat16 else value
    return wide.contiguous().numpy()


def _short(text: str, words: int = 6) -> str:
    parts = text.split()
    return repr(" ".join(parts[:words]) + (" ..." if len(parts) > words else ""))
