"""What a user would write: load a model by its name and run it. It imports nothing of ours.

Standard input has a JSON list of `{"model", "base"}` (names, or folders); standard output gets a line of JSON
for each, `{"model", "sha256", "line"}`: the hash of all outputs bit by bit, and the answer for a human.
"""

import contextlib
import hashlib
import json
import sys
from typing import Any

import torch
import transformers

TEXT = "The capital of France is"
NEW_TOKENS = 8


def load(model: str, base: str | None) -> Any:  # noqa: ANN401
    """A model by its name; an adapter on its base."""
    source = model if base is None else base
    config = transformers.AutoConfig.from_pretrained(source)
    kind = getattr(transformers, (config.architectures or ["AutoModel"])[0])
    net = kind.from_pretrained(source, dtype="auto")
    if base is not None:
        from peft import PeftModel

        net = PeftModel.from_pretrained(net, model)
    return net.eval()


def tokenizer_of(source: str) -> Any:  # noqa: ANN401
    """The tokenizer of a model; None if it comes without one."""
    with contextlib.suppress(Exception):
        return transformers.AutoTokenizer.from_pretrained(source)
    return None


def inputs_of(net: Any, tokenizer: Any) -> dict[str, Any]:  # noqa: ANN401
    """A sentence in tokens; made-up tokens where there is no tokenizer."""
    if tokenizer is not None:
        return dict(tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False))
    made_up = torch.Generator().manual_seed(0)
    return {"input_ids": torch.randint(0, int(net.config.vocab_size), (1, 12), generator=made_up)}


def line_of(net: Any, tokenizer: Any, inputs: dict[str, Any], first: torch.Tensor) -> str:  # noqa: ANN401
    """An answer for a human: generated text, a class, or the first numbers."""
    labels = getattr(net.config, "id2label", None)
    if "CausalLM" in str(net.config.architectures):
        tokens = net.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)[0]
        return repr(tokenizer.decode(tokens, skip_special_tokens=True)) if tokenizer else str(tokens.tolist())
    if first.ndim == 2 and labels and len(labels) == first.shape[1]:
        return f"{TEXT!r} -> {labels[int(first[0].argmax())]}"
    return f"[{', '.join(f'{value:.3f}' for value in first.flatten()[:3].float().tolist())}, ...]"


def answer(model: str, base: str | None) -> dict[str, str]:
    """Load a model, run it, and hash what it gives."""
    net, tokenizer = load(model, base), tokenizer_of(model if base is None else base)
    inputs = inputs_of(net, tokenizer)
    with torch.inference_mode():
        outputs = [value for value in dict(net(**inputs)).values() if isinstance(value, torch.Tensor)]
        line = line_of(net, tokenizer, inputs, outputs[0])
    digest = hashlib.sha256()
    for value in outputs:
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return {"model": model, "sha256": digest.hexdigest(), "line": line}


def main() -> None:
    """Answer all questions."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    for question in json.loads(sys.stdin.read()):
        sys.stdout.write(json.dumps(answer(question["model"], question["base"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
