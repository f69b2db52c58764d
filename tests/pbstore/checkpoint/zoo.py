"""Tiny models of many architectures, made on the spot by transformers, and layouts of their folders.

A layout changes a folder that `save_pretrained` wrote, in the ways that folders differ on the Hub.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**SIZES, "vocab_size": 40, "max_position_embeddings": 32}
ROPE = {**TEXT, "num_key_value_heads": 1}
PAIR = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "max_position_embeddings": 32,
}
PAIR |= {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("attention_heads", 2), ("ffn_dim", 32))
}
PAIR |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
PIXELS = {**SIZES, "image_size": 16, "patch_size": 8}
SOUND = {"conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (3, 3), "num_feat_extract_layers": 2}
SOUND |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "vocab_size": 20}
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", TEXT),
    "bert-classifier": ("BertForSequenceClassification", TEXT),
    "bert-mlm": ("BertForMaskedLM", TEXT),
    "distilbert": (
        "DistilBertModel",
        {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    ),
    "roberta": ("RobertaForMaskedLM", TEXT),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", TEXT),
    "mpnet": ("MPNetModel", TEXT),
    "albert": ("AlbertForMaskedLM", {**TEXT, "embedding_size": 8}),
    "electra": ("ElectraForPreTraining", {**TEXT, "embedding_size": 8}),
    "deberta": ("DebertaV2ForSequenceClassification", TEXT),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    ),
    "llama": ("LlamaForCausalLM", ROPE),
    "llama-tied": ("LlamaForCausalLM", {**ROPE, "tie_word_embeddings": True}),
    "llama-body": ("LlamaModel", ROPE),
    "mistral": ("MistralForCausalLM", ROPE),
    "mixtral": ("MixtralForCausalLM", {**ROPE, **MOE}),
    "qwen2": ("Qwen2ForCausalLM", {**ROPE, "tie_word_embeddings": True}),
    "qwen3-moe": (
        "Qwen3MoeForCausalLM",
        {**ROPE, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8},
    ),
    "gemma2": (
        "Gemma2ForCausalLM",
        {**ROPE, "head_dim": 8, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "phi": ("PhiForCausalLM", TEXT),
    "opt": ("OPTForCausalLM", {**TEXT, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "bloom": ("BloomForCausalLM", {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "gpt-neox": ("GPTNeoXForCausalLM", TEXT),
    "falcon": (
        "FalconForCausalLM",
        {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    ),
    "t5-encoder": (
        "T5EncoderModel",
        {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    ),
    "bart": ("BartForConditionalGeneration", PAIR),
    "marian": ("MarianMTModel", PAIR),
    "m2m100": ("M2M100ForConditionalGeneration", PAIR),
    "whisper": (
        "WhisperForConditionalGeneration",
        {**PAIR, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
    ),
    "mamba": (
        "MambaForCausalLM",
        {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    ),
    "vit": ("ViTForImageClassification", PIXELS),
    "dinov2": ("Dinov2Model", PIXELS),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ),
    "convnext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    ),
    "swin": (
        "SwinForImageClassification",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 2,
        },
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", {**SIZES, **SOUND}),
    "hubert": ("HubertModel", {**SIZES, **SOUND}),
    "clip": ("CLIPModel", {"text_config": TEXT, "vision_config": PIXELS, "projection_dim": 8}),
    "clip-text": ("CLIPTextModel", TEXT),
}


def make(which: str, seed: int = 0) -> transformers.PreTrainedModel:
    """A tiny model with random weights, all of them: norms of ones would hide exchanged names."""
    torch.manual_seed(seed)
    kind = getattr(transformers, NAMES[which][0])
    made = kind(kind.config_class(**NAMES[which][1])).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


@dataclass(frozen=True)
class Folder:
    """A folder to load from, with what is said when it is loaded."""

    path: Path
    made: transformers.PreTrainedModel
    other: Path
    """The same architecture with other weights, whole."""
    options: dict[str, str]
    """`subfolder` and `variant`."""

    @property
    def file(self) -> Path:
        return self.path / "model.safetensors"

    def tensors(self) -> dict[str, torch.Tensor]:
        return {key: tensor.clone() for key, tensor in load_file(self.file).items()}

    def save(self, tensors: dict[str, torch.Tensor], name: str = "model.safetensors") -> None:
        save_file(
            {key: tensor.contiguous() for key, tensor in tensors.items()}, self.path / name, {"format": "pt"}
        )

    def config(self, **changes: object) -> None:
        """Change the config; None takes a key away."""
        path = self.path / "config.json"
        tree = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))

    def shards(
        self, tensors: dict[str, torch.Tensor], parts: list[dict[str, torch.Tensor]], variant: str = ""
    ) -> None:
        """Replace the file by shards, all of which the index names."""
        self.file.unlink(missing_ok=True)
        names = [f"model{variant}-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            self.save(part, name)
        table = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": table}
        (self.path / f"model.safetensors.index{variant}.json").write_text(json.dumps(index))


def halved(tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}


def odd_and_even(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    names = sorted(tensors)
    return [{key: tensors[key] for key in names[start::2]} for start in (0, 1)]


def sharded(folder: Folder) -> None:
    folder.shards(folder.tensors(), odd_and_even(folder.tensors()))


def beside_stale_shards(folder: Folder) -> None:
    tensors = folder.tensors()
    folder.shards(tensors, odd_and_even(load_file(folder.other / "model.safetensors")))
    folder.save(tensors)


def named_by_the_config(folder: Folder) -> None:
    folder.save(load_file(folder.other / "model.safetensors"), "best.safetensors")
    folder.config(transformers_weights="best.safetensors")


def shards_named_by_the_config(folder: Folder) -> None:
    tensors = folder.tensors()
    folder.shards(tensors, odd_and_even(load_file(folder.other / "model.safetensors")))
    (folder.path / "model.safetensors.index.json").rename(folder.path / "best.safetensors.index.json")
    folder.save(tensors)
    folder.config(transformers_weights="best.safetensors.index.json")


def a_variant(folder: Folder) -> None:
    other = load_file(folder.other / "model.safetensors")
    folder.save(halved(other, torch.float16), "model.fp16.safetensors")
    folder.options["variant"] = "fp16"


def a_sharded_variant(folder: Folder) -> None:
    tensors = folder.tensors()
    folder.shards(
        tensors, odd_and_even(halved(load_file(folder.other / "model.safetensors"), torch.float16)), ".fp16"
    )
    folder.save(tensors)
    folder.options["variant"] = "fp16"


def a_variant_that_is_missing(folder: Folder) -> None:
    folder.options["variant"] = "fp16"


def in_a_subfolder(folder: Folder) -> None:
    inner = folder.path / "checkpoint-7"
    shutil.copytree(folder.other, inner)
    folder.options["subfolder"] = "checkpoint-7"


def bfloat16(folder: Folder) -> None:
    folder.save(halved(folder.tensors(), torch.bfloat16))
    folder.config(dtype="bfloat16")


def float16(folder: Folder) -> None:
    folder.save(halved(folder.tensors(), torch.float16))
    folder.config(dtype=None, torch_dtype="float16")


def float32_cast_to_float16(folder: Folder) -> None:
    folder.config(dtype="float16")


def mixed_without_a_dtype(folder: Folder) -> None:
    first, second = odd_and_even(folder.tensors())
    folder.save(halved(first, torch.float16) | second)
    folder.config(dtype=None)


def mixed_the_other_way(folder: Folder) -> None:
    first, second = odd_and_even(folder.tensors())
    folder.shards(folder.tensors(), [halved(second, torch.bfloat16), first])
    folder.config(dtype=None)


def another_prefix(folder: Folder) -> None:
    prefix = folder.made.base_model_prefix + "."
    tensors = folder.tensors()
    bare = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    folder.save(bare if bare.keys() != tensors.keys() else {prefix + key: t for key, t in tensors.items()})


def ties_saved_twice(folder: Folder) -> None:
    folder.save({key: tensor.clone() for key, tensor in folder.made.state_dict().items()})


def ties_that_differ(folder: Folder) -> None:
    folder.save(
        {key: tensor + number for number, (key, tensor) in enumerate(folder.made.state_dict().items())}
    )


def old_names(folder: Folder) -> None:
    tensors = folder.tensors()
    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in tensors.items()
    }
    folder.save(
        {**renamed, "embeddings.position_ids": torch.arange(32)[None], "unknown.weight": torch.ones(2)}
    )


def one_tensor_in_two_shards(folder: Folder) -> None:
    tensors = folder.tensors()
    first, second = odd_and_even(tensors)
    key = sorted(first)[-1]
    folder.shards(tensors, [first, {**second, key: first[key] + 1}])


def some_in_8_bits(folder: Folder) -> None:
    tensors = folder.tensors()
    for key in sorted(tensors)[::3]:
        if tensors[key].is_floating_point():
            tensors[key] = tensors[key].to(torch.float8_e4m3fn)
    folder.save(tensors)


def one_missing(folder: Folder) -> None:
    tensors = folder.tensors()
    del tensors[max(tensors, key=lambda key: tensors[key].numel())]
    folder.save(tensors)


def one_of_another_shape(folder: Folder) -> None:
    tensors = folder.tensors()
    key = max(tensors, key=lambda key: tensors[key].numel())
    tensors[key] = torch.cat([tensors[key], tensors[key]])
    folder.save(tensors)


def a_shard_missing(folder: Folder) -> None:
    sharded(folder)
    (folder.path / "model-00002-of-00002.safetensors").unlink()


def pickled(folder: Folder) -> None:
    torch.save(folder.tensors(), folder.path / "pytorch_model.bin")
    folder.file.unlink()


def pickled_beside_a_stray_file(folder: Folder) -> None:
    pickled(folder)
    folder.save({"scale": torch.ones(3)}, "vision_head.safetensors")


def plain(folder: Folder) -> None:
    """As `save_pretrained` writes it."""


Layout = Callable[[Folder], None]
LAYOUTS: tuple[Layout, ...] = (
    plain,
    sharded,
    beside_stale_shards,
    named_by_the_config,
    shards_named_by_the_config,
    a_variant,
    a_sharded_variant,
    a_variant_that_is_missing,
    in_a_subfolder,
    bfloat16,
    float16,
    float32_cast_to_float16,
    mixed_without_a_dtype,
    mixed_the_other_way,
    another_prefix,
    ties_saved_twice,
    ties_that_differ,
    old_names,
    one_tensor_in_two_shards,
    some_in_8_bits,
    one_missing,
    one_of_another_shape,
    a_shard_missing,
    pickled,
    pickled_beside_a_stray_file,
)
