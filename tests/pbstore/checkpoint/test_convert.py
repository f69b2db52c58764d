"""Pickles become safetensors without being run."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pbstore import DiskBlockStore, SourceChangedError, open_store
from pbstore.checkpoint import convert
from pbstore.checkpoint.convert import convert_folder, read_pickle
from pbstore.checkpoint.dequantise import NOTE_FILE, dequantise_gguf
from pbstore.checkpoint.model import load_model
from pbstore.errors import CheckpointError
from tests.pbstore.checkpoint.zoo import NAMES, make
from tests.pbstore.test_bad_input import pbcast

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.path}",)


def pickled_folder(folder: Path) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=99, max_position_embeddings=40, **SIZES)
    model = transformers.BertForMaskedLM(config).eval()
    folder.mkdir(parents=True)
    config.architectures = ["BertForMaskedLM"]
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    torch.save({"lr": 1}, folder / "training_args.bin")
    return model


def test_a_converted_model_is_the_same_model(store: DiskBlockStore, tmp_path: Path) -> None:
    made = pickled_folder(tmp_path / "old")

    report = convert_folder(tmp_path / "old", tmp_path / "new")
    store.add(tmp_path / "new", "m")

    assert report.converted == {"pytorch_model.bin": "model.safetensors"}
    assert report.kept == {"training_args.bin": "the state of a trainer"}
    assert report.left_out == {}
    loaded = load_model(store, "m")
    expected = made.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight


def test_a_pickle_that_wants_code_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    torch.save({"a": torch.ones(3), "b": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="refused by the weights-only loader") as caught:
        convert_folder(folder, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert "GLOBAL" in str(caught.value)  # what it wants, not how to allow it
    assert "trust" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "new").exists()


def test_a_tensor_that_cannot_be_converted_is_named_with_its_file(tmp_path: Path) -> None:
    part = tmp_path / "old" / "unet"
    part.mkdir(parents=True)
    torch.save({"a": torch.eye(3).to_sparse()}, part / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"^unet/pytorch_model\.bin: 'a' is sparse"):
        convert_folder(tmp_path / "old", tmp_path / "new")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip"])
def test_a_damaged_pickle_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(content)

    with pytest.raises(CheckpointError) as caught:
        read_pickle(tmp_path / "x.bin")
    assert "\n" not in str(caught.value)


def test_wrapped_and_sliced_tensors_are_read(tmp_path: Path) -> None:
    big = torch.arange(100.0)
    torch.save(
        {"state_dict": {"a": big[:10], "b": {"c": big[10:20].reshape(2, 5)}}, "epoch": 3}, tmp_path / "x.pt"
    )
    (tmp_path / "d").mkdir()
    (tmp_path / "x.pt").rename(tmp_path / "d" / "x.pt")

    report = convert_folder(tmp_path / "d", tmp_path / "new")

    assert report.left_out == {"x.pt": "epoch"}
    found = load_file(tmp_path / "new" / "x.safetensors")
    assert torch.equal(found["a"], big[:10])
    assert torch.equal(found["b.c"], big[10:20].reshape(2, 5))


def test_shards_keep_their_index(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": torch.zeros(3)}, folder / "pytorch_model-00002-of-00002.bin")
    index = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))

    convert_folder(folder, tmp_path / "new")

    tree = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    assert tree["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
    }
    assert list(load_file(tmp_path / "new" / tree["weight_map"]["b"])) == ["b"]


def test_a_folder_without_pickles_or_a_full_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}")

    with pytest.raises(CheckpointError, match="no weight pickles"):
        convert_folder(tmp_path / "old", tmp_path / "new")
    with pytest.raises(FileExistsError):
        convert_folder(tmp_path / "old", tmp_path / "old")


POOL = [
    "pytorch_model.bin",
    "pytorch_model.fp16.bin",
    "pytorch_model-00001-of-00002.bin",
    "model.bin",
    "model.pt",
    "model.pth.tar",
    "checkpoint.pth",
    "checkpoint.pth.tar",
    "adapter_model.bin",
    "unet/diffusion_pytorch_model.bin",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.pt.safetensors",
    "model.pt-2.safetensors",
    "pytorch_model.safetensors",
    "checkpoint.safetensors",
    "sub/model.pt",
    "config.json",
    "openvino_model.bin",
]


@settings(max_examples=40, deadline=None)
@given(paths=st.sets(st.sampled_from(POOL), min_size=1), link=st.booleans())
def test_every_file_comes_out_once_and_none_is_written_over(
    paths: set[str], link: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("convert")
    pickles = {path for path in paths if path.endswith((".bin", ".pt", ".pth", ".tar"))} - {
        "openvino_model.bin"
    }
    for number, path in enumerate(sorted(paths)):
        (root / "old" / path).parent.mkdir(parents=True, exist_ok=True)
        if path in pickles:
            torch.save({path: torch.full((3,), float(number))}, root / "old" / path)
        else:
            (root / "old" / path).write_text(path)
    if not pickles:
        with pytest.raises(CheckpointError, match="no weight pickles"):
            convert_folder(root / "old", root / "new")
        return

    report = convert_folder(root / "old", root / "new", link=link)

    made = report.converted
    assert made.keys() == pickles
    assert len({*made.values(), *paths}) == len(made) + len(paths)
    for path in paths - pickles:
        assert (root / "new" / path).read_text() == path
    for path, new in made.items():
        assert torch.equal(load_file(root / "new" / new)[path], torch.load(root / "old" / path)[path])
    there = {p.relative_to(root / "new").as_posix() for p in (root / "new").rglob("*") if p.is_file()}
    assert there == {*made.values(), *(paths - pickles)}


def script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def optimizer_state() -> object:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


NO_WEIGHTS: dict[str, Callable[[Path], object]] = {
    "openvino_model.bin": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "ctranslate2/model.bin": lambda path: path.write_bytes(b"\x06\0\0\0" + bytes(90)),
    "rng_state.pth": lambda path: torch.save({"cpu": torch.get_rng_state(), "python": (3, (1, 2))}, path),
    "my_rng.pt": lambda path: torch.save({"cpu": torch.get_rng_state()}, path),
    "sampler.bin": lambda path: torch.save({"generator": torch.get_rng_state()}, path),
    "optimizer.pt": lambda path: torch.save(optimizer_state(), path),
    "opt.pt": lambda path: torch.save(optimizer_state(), path),
    "scheduler.pt": lambda path: torch.save({"last_epoch": 3}, path),
    "training_args.bin": lambda path: torch.save(Evil(path.parent / "ran"), path),
    "custom.pt": lambda path: torch.save(Evil(path.parent / "ran"), path),
    "global_step3/mp_rank_00_model_states.pt": lambda path: torch.save(
        {"module": {"a": torch.ones(3)}}, path
    ),
    "zero_pp_rank_0_mp_rank_00_optim_states.pt": lambda path: torch.save({"a": torch.ones(3)}, path),
    "scripted.pt": script,
    "one.pt": lambda path: torch.save(torch.ones(3), path),
    "list.pt": lambda path: torch.save([torch.ones(3)], path),
    "empty.bin": lambda path: path.write_bytes(b""),
    "pointer.bin": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
    "sparse.pt": lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path),
    "model.ckpt": lambda path: path.write_bytes(b"tensorflow" * 9),
    "damaged.pt": lambda path: path.write_bytes(b"PK\x03\x04 no zip"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_a_file_without_weights_is_kept_as_it_is_and_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    pickled_folder(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    NO_WEIGHTS[name](folder / name)

    report = convert_folder(folder, tmp_path / "new")

    assert report.kept[name]
    assert (tmp_path / "new" / name).read_bytes() == (folder / name).read_bytes()
    assert report.converted == {"pytorch_model.bin": "model.safetensors"}
    assert not list(tmp_path.rglob("ran"))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"has no weight pickles to convert: .* is kept, ") as caught:
        convert_folder(folder, tmp_path / "newer")
    assert "\n" not in str(caught.value)


def tensors(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 2), float(number)) for number, name in enumerate(names)}


NESTED: dict[str, tuple[object, set[str], str]] = {
    "plain": (tensors("a", "b.c"), {"a", "b.c"}, ""),
    "lightning": (
        {"state_dict": tensors("model.a"), "epoch": 1, "optimizer_states": [{"state": tensors("x")}]},
        {"model.a"},
        "epoch, optimizer_states",
    ),
    "fairseq": (
        {"model": tensors("a"), "args": None, "last_optimizer_state": tensors("z")},
        {"a"},
        "args, last",
    ),
    "twice": ({"model": {"state_dict": tensors("a")}, "step": 1}, {"a"}, "step"),
    "thrice": ({"state_dict": {"model": {"module": tensors("a.b")}}}, {"a.b"}, ""),
    "averaged": ({"state_dict": tensors("a"), "state_dict_ema": tensors("a")}, {"a"}, "state_dict_ema"),
    "unknown wrapper": ({"netG": tensors("a"), "iter": 3}, {"a"}, "iter"),
    "counter beside": ({"state_dict": tensors("a"), "step": torch.tensor(3)}, {"a"}, "step"),
    "optimiser": ({"net": tensors("a"), "optimizer": optimizer_state()}, {"a"}, "optimizer"),
    "two parts": (
        {"generator": tensors("a"), "critic": tensors("a"), "epoch": 3},
        {"generator.a", "critic.a"},
        "epoch",
    ),
    "settings inside": ({"a": torch.ones(2, 2), "b": {"c": torch.ones(2), "d": "text"}}, {"a", "b.c"}, "b"),
    "counters inside": (
        {"bn.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)},
        {"bn.weight", "bn.num_batches_tracked"},
        "",
    ),
}


@pytest.mark.parametrize("ending", [".pt", ".pth.tar"])
@pytest.mark.parametrize("which", NESTED)
def test_names_are_those_inside_the_wrappers_and_what_is_left_out_is_named(
    which: str, ending: str, tmp_path: Path
) -> None:
    tree, names, left_out = NESTED[which]
    (tmp_path / "old").mkdir()
    torch.save(tree, tmp_path / "old" / f"x{ending}")

    report = convert_folder(tmp_path / "old", tmp_path / "new")

    assert report.converted == {f"x{ending}": "x.safetensors"}
    assert load_file(tmp_path / "new" / "x.safetensors").keys() == names
    assert report.left_out.get(f"x{ending}", "").startswith(left_out)
    assert bool(report.left_out) == bool(left_out)


def test_a_tied_tensor_keeps_all_its_names_and_costs_nothing(store: DiskBlockStore, tmp_path: Path) -> None:
    made = pickled_folder(tmp_path / "old")
    expected = torch.load(tmp_path / "old" / "pytorch_model.bin")
    ties = {"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"}
    assert len({expected[name].data_ptr() for name in ties}) == 1

    convert_folder(tmp_path / "old", tmp_path / "new")

    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    loaded = type(made).from_pretrained(tmp_path / "new")
    assert all(torch.equal(tensor, made.state_dict()[key]) for key, tensor in loaded.state_dict().items())
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    tied_bytes = found["cls.predictions.decoder.weight"].nbytes
    report = store.add(tmp_path / "new", "m")
    assert report.shared_bytes >= tied_bytes


SOME = ("bert-mlm", "gpt2", "llama-tied", "t5", "mixtral", "vit")
ARCHITECTURES = [pytest.param(one, marks=() if one in SOME else pytest.mark.slow) for one in NAMES]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("which", ARCHITECTURES)
def test_a_converted_checkpoint_loads_as_its_pickles_do(
    which: str, shards: int, store: DiskBlockStore, tmp_path: Path
) -> None:
    made = make(which)
    made.save_pretrained(tmp_path / "old")
    written = revert(made, tmp_path / "old", shards)

    convert_folder(tmp_path / "old", tmp_path / "new")

    found = [load_file(path) for path in sorted((tmp_path / "new").glob("*.safetensors"))]
    assert {name for part in found for name in part} == written
    kind = type(made)
    expected = kind.from_pretrained(tmp_path / "old").state_dict()
    store.add(tmp_path / "new", "m")
    for model in (kind.from_pretrained(tmp_path / "new"), load_model(store, "m")):
        state = model.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def revert(made: transformers.PreTrainedModel, folder: Path, shards: int) -> set[str]:
    """Turn a saved model into what old versions saved: pickles with all names of tied tensors."""
    names = set(load_file(folder / "model.safetensors"))
    kept = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for name, tensor in made.state_dict().items():
        twin = next((one for one in names if torch.equal(kept[one], tensor)), None)
        if twin is not None and name not in kept:
            kept[name] = kept[twin]
    if shards == 1:
        torch.save(kept, folder / "pytorch_model.bin")
        return set(kept)
    parts = [dict(list(kept.items())[part::2]) for part in range(2)]
    files = [f"pytorch_model-{part + 1:05}-of-00002.bin" for part in range(2)]
    for part, file in zip(parts, files, strict=True):
        torch.save(part, folder / file)
    table = {name: file for part, file in zip(parts, files, strict=True) for name in part}
    index = {"metadata": {"total_size": 1}, "weight_map": table}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return set(kept)


def test_a_folder_that_changes_while_it_is_converted_is_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled_folder(tmp_path / "old")
    write = convert.write_safetensors

    def write_and_change(tensors: dict[str, torch.Tensor], path: Path) -> None:
        write(tensors, path)
        torch.save({"a": torch.ones(3)}, tmp_path / "old" / "pytorch_model.bin")

    monkeypatch.setattr(convert, "write_safetensors", write_and_change)

    with pytest.raises(SourceChangedError, match=r"pytorch_model\.bin"):
        convert_folder(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base.view(4, 25),
        lambda base: base.view(10, 10).t(),
        lambda base: base[10:20],
        lambda base: base[::2],
    ],
)
def test_views_of_one_memory_are_written_each_for_itself(
    view: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    base = torch.arange(100.0)
    (tmp_path / "old").mkdir()
    torch.save({"a": base, "b": view(base), "c": base}, tmp_path / "old" / "x.pt")

    convert_folder(tmp_path / "old", tmp_path / "new")

    found = load_file(tmp_path / "new" / "x.safetensors")
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], view(base))
    assert torch.equal(found["c"], base)


def test_an_index_of_pickles_that_are_not_there_stays_and_one_of_some_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    pickled_folder(folder)
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    report = convert_folder(folder, tmp_path / "new")

    assert "pytorch_model.bin.index.json" in report.copied
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model-1.bin")
    with pytest.raises(CheckpointError, match=r"names 'pytorch_model-2\.bin', which is not there"):
        convert_folder(folder, tmp_path / "newer")


def test_shards_beside_a_safetensors_model_are_not_mixed_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    save_file({"a": torch.zeros(3), "b": torch.zeros(3)}, folder / "model.safetensors")
    for part, name in enumerate("ab"):
        torch.save({name: torch.ones(3)}, folder / f"pytorch_model-{part}.bin")
    index = {name: f"pytorch_model-{part}.bin" for part, name in enumerate("ab")}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))

    report = convert_folder(folder, tmp_path / "new")

    assert set(report.converted.values()) == {
        "pytorch_model-0.safetensors",
        "pytorch_model-1.safetensors",
        "pytorch_model.safetensors.index.json",
    }
    assert torch.equal(load_file(tmp_path / "new" / "model.safetensors")["a"], torch.zeros(3))


def test_names_that_diffusers_and_variants_have(tmp_path: Path) -> None:
    names = {
        "unet/diffusion_pytorch_model.bin": "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.bin": "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/pytorch_model.fp16.bin": "text_encoder/model.fp16.safetensors",
        "lora/adapter_model.bin": "lora/adapter_model.safetensors",
    }
    for path in names:
        (tmp_path / "old" / path).parent.mkdir(parents=True, exist_ok=True)
        torch.save({path: torch.ones(3)}, tmp_path / "old" / path)

    assert convert_folder(tmp_path / "old", tmp_path / "new").converted == names


@pytest.mark.slow
def test_the_command_names_what_it_keeps_and_what_it_leaves_out(tmp_path: Path) -> None:
    pickled_folder(tmp_path / "old")
    torch.save({"state_dict": tensors("a"), "epoch": 3}, tmp_path / "old" / "best.pth.tar")
    (tmp_path / "old" / "run.sh").write_text("true")
    (tmp_path / "old" / "run.sh").chmod(0o755)

    with open_store(tmp_path / "store"):
        pass

    planned = pbcast(tmp_path / "store", "plan", tmp_path / "old", "--convert", "--json")
    done = pbcast(tmp_path / "store", "add", tmp_path / "old", "--name", "m", "--convert", "--json")

    assert (done.returncode, planned.returncode) == (0, 0)
    told = {**json.loads(done.stdout), "name": "plan", "commit": "", "fits": True}  # a commit hashes the name
    assert told == json.loads(planned.stdout)
    assert "kept 'training_args.bin' as it is: the state of a trainer" in done.stderr
    assert "left out of 'best.pth.tar': 'epoch'" in done.stderr
    with open_store(tmp_path / "store") as store:
        store.checkout("m", tmp_path / "out")
        paths = {entry.path for entry in store.manifest("m").files}
    assert paths == {"best.safetensors", "config.json", "model.safetensors", "run.sh", "training_args.bin"}
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)


def test_a_gguf_file_becomes_a_checkpoint(store: DiskBlockStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path, rng)

    dequantise_gguf(path, tmp_path / "out")

    store.add(tmp_path / "out", "m")
    loaded = load_model(store, "m")
    expected = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(t, expected.state_dict()[k]) for k, t in loaded.state_dict().items())
    assert json.loads((tmp_path / "out" / NOTE_FILE).read_text())["dequantised_from"] == "tiny.gguf"


def test_a_bad_gguf_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(40))

    with pytest.raises(CheckpointError, match="transformers cannot read it") as caught:
        dequantise_gguf(tmp_path / "x.gguf", tmp_path / "out")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="dtype must be"):
        dequantise_gguf(tmp_path / "x.gguf", tmp_path / "out", dtype="int8")


def write_tiny_llama(path: Path, rng: np.random.Generator) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(30)
    writer.add_tokenizer_model("gpt2")
    letters = [chr(ord("a") + i) for i in range(26)]
    pairs = [("a", "b"), ("c", "d")]
    writer.add_token_list(["<s>", "</s>", *letters, *(a + b for a, b in pairs)])
    writer.add_token_merges([f"{a} {b}" for a, b in pairs])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (30, 32), "output": (30, 32), "output_norm": (32,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes[f"blk.0.{name}"] = (32, 32)
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {"blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
