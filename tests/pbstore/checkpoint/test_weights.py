"""Which files a state dict is read from, and that what cannot be told is asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pbstore import DiskBlockStore
from pbstore.checkpoint.adapter import load_adapter
from pbstore.checkpoint.model import load_model
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.errors import CheckpointError
from tests.pbstore.checkpoint.zoo import make

Add = Callable[..., Path]
BITS_8 = [
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int8",
    "bool",
]
WIDER = ["float16", "bfloat16", "float32", "float64", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def write(folder: Path, *paths: str) -> dict[str, dict[str, torch.Tensor]]:
    """Safetensors files, each with another value under the same name."""
    written = {}
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        written[path] = {"weight": torch.full((3, 4), float(number))}
        save_file(written[path], folder / path)
    return written


def test_every_dtype_is_that_of_load_file(store: DiskBlockStore, tmp_path: Path) -> None:
    raw = torch.arange(256, dtype=torch.int16).to(torch.uint8).reshape(4, 64)
    tensors = {name: raw.clone().view(getattr(torch, name)) for name in (*BITS_8[:-1], *WIDER, "complex64")}
    tensors |= {"bool": raw > 9, "float4": raw.clone().view(torch.float4_e2m1fn_x2), "uint8": raw.clone()}
    (tmp_path / "m").mkdir()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m")

    found, expected = load_state_dict(store, "m"), load_file(tmp_path / "m" / "model.safetensors")

    assert {name: (t.dtype, t.shape) for name, t in found.items()} == {
        name: (t.dtype, t.shape) for name, t in expected.items()
    }
    assert all(
        torch.equal(found[name].view(torch.uint8), expected[name].view(torch.uint8)) for name in expected
    )


PIPELINE = (
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "checkpoint-500/model.safetensors",
    "french/adapter_model.safetensors",
    "vae/vae.safetensors",
)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"subfolder": "unet"}, "unet/diffusion_pytorch_model.safetensors"),
        ({"subfolder": "unet", "variant": "fp16"}, "unet/diffusion_pytorch_model.fp16.safetensors"),
        ({"subfolder": "text_encoder/"}, "text_encoder/model.safetensors"),
        ({"subfolder": "./text_encoder", "variant": "fp16"}, "text_encoder/model.fp16.safetensors"),
        ({"subfolder": "checkpoint-500"}, "checkpoint-500/model.safetensors"),
        ({"subfolder": "french"}, "french/adapter_model.safetensors"),
        ({"subfolder": "vae"}, "vae/vae.safetensors"),
        ({"file": "vae/vae.safetensors"}, "vae/vae.safetensors"),
        ({"file": "vae.safetensors", "subfolder": "vae"}, "vae/vae.safetensors"),
    ],
)
def test_a_part_of_a_pipeline_is_read_from_its_folder(
    options: dict[str, str], path: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    written = write(tmp_path / "m", *PIPELINE)
    store.add(tmp_path / "m", "m")

    assert torch.equal(load_state_dict(store, "m", **options)["weight"], written[path]["weight"])


@pytest.mark.parametrize(
    ("paths", "options", "says"),
    [
        (
            PIPELINE,
            {},
            r"m has no model\.safetensors; safetensors files lie in the folders checkpoint-500, french",
        ),
        (PIPELINE, {"subfolder": "nowhere"}, r"m \(folder 'nowhere'\) has no model\.safetensors"),
        (
            PIPELINE,
            {"subfolder": "vae", "variant": "fp16"},
            r"no model\.fp16\.safetensors .* but vae\.safetensors",
        ),
        (
            ("a.safetensors", "b.safetensors"),
            {},
            "2 safetensors files and nothing tells which to load: a.safet",
        ),
        (("shard-00000-model-00001-of-00002.safetensors",), {}, "holds a distributed checkpoint"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(
    paths: tuple[str, ...], options: dict[str, str], says: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    write(tmp_path / "m", *paths)
    store.add(tmp_path / "m", "m")

    with pytest.raises(CheckpointError, match=says):
        load_state_dict(store, "m", **options)


@pytest.mark.parametrize("folder", ["..", "a/../../b", "/tmp", "../m"])
def test_no_path_leaves_the_model(folder: str, store: DiskBlockStore, tmp_path: Path) -> None:
    write(tmp_path / "m", "model.safetensors")
    store.add(tmp_path / "m", "m")

    for options in ({"subfolder": folder}, {"file": folder + "/model.safetensors"}):
        with pytest.raises(ValueError, match="expected a path inside the model"):
            load_state_dict(store, "m", **options)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("../other.safetensors", "names weights outside its folder"),
        ("gone.safetensors", "has no file 'gone.safetensors', which its config names"),
        ("pytorch_model.bin", "has 'pytorch_model.bin' as transformers_weights"),
        (5, "has '5' as transformers_weights"),
    ],
)
def test_a_config_names_only_safetensors_files_of_its_folder(
    named: object, says: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    make("bert").save_pretrained(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_weights": named}))
    store.add(tmp_path / "m", "m")

    for load in (load_state_dict, load_model):
        with pytest.raises(CheckpointError, match=says):
            load(store, "m")


def test_what_is_missing_is_initialised_only_when_asked(store: DiskBlockStore, add: Add) -> None:
    add(make("bert"), "m")
    kind = transformers.BertForSequenceClassification

    with pytest.raises(
        CheckpointError, match=r"m lacks 2 tensors of a Bert.*'classifier\.bias'.*init_missing"
    ):
        load_model(store, "m", model_class=kind)
    assert load_model(store, "m", model_class=kind, init_missing=True).classifier.weight.isfinite().all()


@pytest.mark.parametrize("saves_head", [True, False])
def test_a_head_that_neither_adapter_nor_base_holds_is_not_made_up(
    saves_head: bool, store: DiskBlockStore, add: Add
) -> None:
    from peft import LoraConfig, get_peft_model

    add(make("bert"), "base")
    task = "SEQ_CLS" if saves_head else None
    model = get_peft_model(make("bert-classifier"), LoraConfig(task_type=task, r=2, target_modules=["query"]))
    model.peft_config["default"].task_type = "SEQ_CLS"
    add(model, "adapter")

    if saves_head:
        found = load_adapter(store, "adapter", base="base").base_model.model.classifier
        assert torch.equal(found.weight, model.base_model.model.classifier.weight)
    else:
        with pytest.raises(
            CheckpointError, match=r"neither adapter adapter nor its base base holds 'classifier"
        ):
            load_adapter(store, "adapter", base="base")


def test_an_adapter_beside_a_whole_model_is_not_left_off_in_silence(
    store: DiskBlockStore, tmp_path: Path
) -> None:
    make("bert").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "adapter_config.json").write_text("{}")
    store.add(tmp_path / "m", "m")

    with pytest.raises(
        CheckpointError, match=r"m holds an adapter \(adapter_config\.json\): use load_adapter"
    ):
        load_model(store, "m")
