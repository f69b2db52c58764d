"""A lazy model answers as a loaded one, whatever it keeps, and keeps no more than it is told."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from pbstore import CheckpointError, DiskBlockStore, lazy_model, load_adapter, load_model, open_store
from pbstore.checkpoint.lazy import LazyParameters, Source, Weights
from tests.pbstore.checkpoint.zoo import TEXT

TOKENS = torch.arange(1, 9).reshape(1, 8)
GPT = {"vocab_size": 40, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
LLAMA = {**TEXT, "num_key_value_heads": 1}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", TEXT),  # a tied head with a bias of its own
    "gpt2": ("GPT2LMHeadModel", GPT),
    "t5": ("T5ForConditionalGeneration", {**T5, "tie_word_embeddings": True}),
    "untied": ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": False}),
    "tied": ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "half": ("LlamaForCausalLM", {**LLAMA, "dtype": "bfloat16"}),
}


def made(kind: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    name, settings = KINDS[kind]
    model_class = getattr(transformers, name)
    return model_class._from_config(model_class.config_class(**settings))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    root = tmp_path_factory.mktemp("lazy")
    with open_store(root / "store", durable=False) as opened:
        for kind in KINDS:
            made(kind).save_pretrained(root / kind)
            opened.add(root / kind, f"cold/{kind}")
            opened.add(root / kind, f"hot/{kind}", form="hot")
        base = transformers.LlamaForCausalLM.from_pretrained(root / "tied")
        adapter = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], r=2)
        model = peft.get_peft_model(base, adapter)
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(root / "adapter")
        opened.add(root / "adapter", "org/adapter", base="cold/tied")
        half = transformers.LlamaForCausalLM.from_pretrained(root / "half")
        adapter = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["embed_tokens", "q_proj"], r=2)
        peft.get_peft_model(half, adapter).save_pretrained(root / "on_half", save_embedding_layers=False)
        opened.add(root / "on_half", "org/half", base="cold/half")
        yield opened


def answer(model: torch.nn.Module) -> torch.Tensor:
    more = {"decoder_input_ids": TOKENS} if model.config.model_type == "t5" else {}
    with torch.no_grad():
        return model(TOKENS, **more).logits


def weights_of(model: torch.nn.Module) -> Weights:
    lazy = [one._parameters for one in model.modules() if isinstance(one._parameters, LazyParameters)]
    return lazy[0]._weights


def watched(weights: Weights) -> list[int]:
    """Bytes of weights in memory whenever one is read, from now on."""
    real, held = weights._read, list[int]()

    def read(source: Source) -> torch.nn.Parameter:
        held.append(weights.bytes + (found := real(source)).nbytes)
        return found

    weights._read = read
    return held


@pytest.mark.sampled(12)
@pytest.mark.parametrize("form", ["cold", "hot"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_a_loaded_one_whatever_it_keeps(store: DiskBlockStore, kind: str, form: str) -> None:
    name = f"{form}/{kind}"
    loaded = load_model(store, name)
    expected, state = answer(loaded), loaded.state_dict()
    largest, total = max(one.nbytes for one in state.values()), sum(one.nbytes for one in state.values())
    for kept_bytes in (0, largest, total // 2, total):
        model = lazy_model(store, name, kept_bytes=kept_bytes)
        weights = weights_of(model)
        most = watched(weights)
        for _ in range(2):
            assert torch.equal(answer(model), expected)
            assert weights.bytes == sum(one.nbytes for one in weights._kept.values())
        assert max(most) <= max(kept_bytes, largest)
        if kept_bytes == total:
            assert weights.reads == len(weights._kept)  # each once
        assert (model.device, model.dtype) == (loaded.device, loaded.dtype)
        found = model.state_dict()
        assert list(found) == list(state)
        assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize("kind", ["gpt2", "t5", "tied"])
def test_tied_weights_are_one_memory(store: DiskBlockStore, kind: str) -> None:
    model = lazy_model(store, f"cold/{kind}")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert len(list(model.parameters())) == len(list(load_model(store, f"cold/{kind}").parameters()))


def test_it_generates(store: DiskBlockStore) -> None:
    told = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    expected = load_model(store, "cold/gpt2").generate(TOKENS, **told)
    assert torch.equal(lazy_model(store, "cold/gpt2", kept_bytes=0).generate(TOKENS, **told), expected)


def test_adapters_stand_on_it(store: DiskBlockStore) -> None:
    expected = answer(load_adapter(store, "org/adapter"))
    lazy = lazy_model(store, "cold/tied", kept_bytes=1000)
    assert torch.equal(answer(load_adapter(store, "org/adapter", base=lazy)), expected)
    assert weights_of(lazy).bytes <= 3000


def test_an_adapter_reads_only_what_it_is_put_on(store: DiskBlockStore) -> None:
    lazy = lazy_model(store, "cold/tied", kept_bytes=0)
    weights = weights_of(lazy)
    real, names = weights._read, list[str]()
    weights._read = lambda source: names.append(source.tensor.name) or real(source)
    load_adapter(store, "org/adapter", base=lazy)
    assert names
    assert all(".q_proj." in name or ".down_proj." in name for name in names)
    assert all(not one.is_meta for one in lazy.parameters())


def test_an_adapter_of_embeddings_stands_on_a_model_in_half_precision(store: DiskBlockStore) -> None:
    expected = answer(load_adapter(store, "org/half", base="cold/half"))
    lazy = lazy_model(store, "cold/half", kept_bytes=1000)
    assert torch.equal(answer(load_adapter(store, "org/half", base=lazy)), expected)


def test_a_weight_that_is_put_in_stays(store: DiskBlockStore) -> None:
    model = lazy_model(store, "cold/untied", kept_bytes=0)
    other = torch.nn.Parameter(torch.ones_like(model.lm_head.weight), requires_grad=False)
    model.lm_head.weight = other
    answer(model)
    assert model.lm_head.weight is other


@pytest.mark.parametrize(
    "move", [lambda m: m.half(), lambda m: m.to("meta"), lambda m: m.model.layers[0].double()]
)
def test_it_refuses_to_be_moved(store: DiskBlockStore, move: Callable[[Any], object]) -> None:
    model = lazy_model(store, "cold/untied")
    with pytest.raises(TypeError, match="lazy model stays"):
        move(model)
    assert torch.equal(answer(model), answer(load_model(store, "cold/untied")))


def test_what_it_cannot_do_it_says(store: DiskBlockStore, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected an open store"):
        lazy_model("http://127.0.0.1:1", "cold/bert")
    with pytest.raises(ValueError, match="kept_bytes must be >= 0, got -1"):
        lazy_model(store, "cold/bert", kept_bytes=-1)
    with pytest.raises(CheckpointError, match="adapter"):
        lazy_model(store, "org/adapter")
    with pytest.raises(CheckpointError, match=r"lacks|cannot be lazy"):
        lazy_model(store, "cold/bert", model_class=transformers.BertForSequenceClassification)


LIMITED = """
import resource, sys, torch
from pathlib import Path
from pbstore import lazy_model, load_model, open_store
torch.set_num_threads(1)
store, way = open_store(sys.argv[1], read_only=True), sys.argv[2]
tokens = torch.arange(1, 33).reshape(2, 16)
lazy_model(store, "m")(tokens)  # whatever Python and torch take once
lazy = lazy_model(store, "m", kept_bytes=1 << 20, threads=1, eager=True) if way == "lazy" else None
lines = Path("/proc/self/status").read_text().splitlines()
now = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
room = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (now + room, now + room))
model = lazy or load_model(store, "m", threads=1)
with torch.no_grad():
    print(torch.stack([each.double().sum() for each in model(tokens)[0]]).sum().item().hex())
"""


@pytest.mark.slow
def test_a_real_model_runs_in_less_memory_than_its_weights(tmp_path: Path) -> None:
    from demo.zoo import build_zoo

    real = [one.folder for one in build_zoo("small", progress=False) if "rxnfp-pretrained" in one.name]
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(real[0], "m")
        weights = sum(one.nbytes for one in load_model(store, "m").parameters())

    def run(way: str, room: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(tmp_path / "store"), way, str(room)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    free, limited, refused = run("plain", 1 << 40), run("lazy", weights // 2), run("plain", weights // 2)
    assert free.returncode == limited.returncode == 0, limited.stderr
    assert limited.stdout == free.stdout
    assert refused.returncode != 0
