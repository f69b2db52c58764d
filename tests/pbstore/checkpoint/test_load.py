"""What comes out of a store is what `from_pretrained` gives for the same folder, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from pbstore import (
    BlockCorruptError,
    BlockMissingError,
    DiskBlockStore,
    MemoryBlockStore,
    ModelMissingError,
    PBStoreError,
    open_store,
)
from pbstore.checkpoint.adapter import find_base, load_adapter
from pbstore.checkpoint.model import load_model
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.errors import BadFileError, CheckpointError
from pbstore.folders import ingest

Add = Callable[..., Path]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def bert(labels: int | None = None) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(vocab_size=99, max_position_embeddings=40, **SIZES)
    if labels is None:
        return transformers.BertModel(config).eval()
    config.num_labels = labels
    return transformers.BertForSequenceClassification(config).eval()


def llama(tied: bool) -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(
        vocab_size=99, num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=tied, **SIZES
    )
    return transformers.LlamaForCausalLM(config).eval()


def gpt2() -> transformers.PreTrainedModel:
    config = transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


def t5() -> transformers.PreTrainedModel:
    config = transformers.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    return transformers.T5EncoderModel(config).eval()


def vit() -> transformers.PreTrainedModel:
    config = transformers.ViTConfig(image_size=32, patch_size=8, **SIZES)
    return transformers.ViTForImageClassification(config).eval()


MODELS = {
    "bert": bert,
    "bert-classifier": lambda: bert(3),
    "llama-tied": lambda: llama(True),
    "llama": lambda: llama(False),
    "llama-bf16": lambda: llama(True).to(torch.bfloat16),
    "gpt2": gpt2,
    "t5": t5,
    "vit": vit,
}


def inputs(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    if hasattr(model, "vit"):
        return {"pixel_values": torch.randn(1, 3, 32, 32, generator=generator)}
    return {"input_ids": torch.randint(0, 99, (2, 11), generator=generator)}


def output(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model))[0]


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = dict(one.state_dict()), dict(other.state_dict())
    mine |= dict(one.named_buffers())
    theirs |= dict(other.named_buffers())
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in mine
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("which", MODELS)
def test_a_model_equals_from_pretrained(which: str, store: DiskBlockStore, add: Add) -> None:
    torch.manual_seed(0)
    made = MODELS[which]()
    folder = add(made, which)
    expected = type(made).from_pretrained(folder)

    model = load_model(store, which)

    assert type(model) is type(made)
    assert not model.training
    assert same_state(model, expected)
    assert torch.equal(output(model), output(expected))
    assert {n: p.requires_grad for n, p in model.named_parameters()} == {
        n: p.requires_grad for n, p in expected.named_parameters()
    }
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in expected.parameters())


@pytest.mark.parametrize("which", ["bert", "llama-tied"])
def test_another_class_of_the_same_checkpoint(which: str, store: DiskBlockStore, add: Add) -> None:
    torch.manual_seed(0)
    folder = add(MODELS[which](), which)
    kind = {"bert": transformers.BertForMaskedLM, "llama-tied": transformers.LlamaModel}[which]

    model = load_model(store, which, model_class=kind, init_missing=which == "bert")
    expected = kind.from_pretrained(folder)

    stem = model.base_model_prefix if which == "bert" else ""
    assert same_state(getattr(model, stem, model), getattr(expected, stem, expected))


def test_a_sharded_model_equals_the_whole(store: DiskBlockStore, tmp_path: Path) -> None:
    made = bert()
    made.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    store.add(tmp_path / "parts", "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2

    assert same_state(load_model(store, "parts"), made)


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_tensors_are_those_of_the_file(form: str, store: DiskBlockStore, add: Add) -> None:
    folder = add(bert(), "m", form)
    expected = load_file(folder / "model.safetensors")

    for options in ({}, {"verify": True}, {"share": True}, {"eager": True}, {"threads": 1}):
        loaded = load_state_dict(store, "m", **options)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_some_tensors_only(store: DiskBlockStore, add: Add) -> None:
    folder = add(bert(), "m")
    expected = load_file(folder / "model.safetensors")
    names = sorted(expected)[:2]

    loaded = load_state_dict(store, "m", tensors=names)

    assert sorted(loaded) == names
    with pytest.raises(CheckpointError, match="no tensor 'nope'"):
        load_state_dict(store, "m", tensors=["nope"])
    with pytest.raises(CheckpointError, match="no file 'other'"):
        load_state_dict(store, "m", file="other")
    with pytest.raises(BadFileError, match=r"config\.json: safetensors header"):
        load_state_dict(store, "m", file="config.json")
    with pytest.raises(TypeError, match="got the text 'pooler"):
        load_state_dict(store, "m", tensors="pooler.dense.bias")


def test_writing_to_a_tensor_changes_nothing_else(store: DiskBlockStore, add: Add) -> None:
    add(bert(), "m")
    first, second = load_state_dict(store, "m"), load_state_dict(store, "m")
    key = "embeddings.word_embeddings.weight"
    before = second[key].clone()

    first[key].fill_(7)

    assert torch.equal(second[key], before)
    assert torch.equal(load_state_dict(store, "m", verify=True)[key], before)


SHARED = [
    ("hot", {}),
    ("cold", {}),
    ("hot", {"eager": True}),
    ("hot", {"verify": True}),
    ("cold", {"verify": True}),
]


@pytest.mark.parametrize(("form", "options"), SHARED)
def test_siblings_that_share_have_one_memory(
    form: str, options: dict[str, bool], store: DiskBlockStore, add: Add
) -> None:
    made = bert()
    add(made, "one", form)
    with torch.no_grad():
        made.pooler.dense.bias.add_(1)
    add(made, "two", form)
    one = load_state_dict(store, "one", share=True, **options)
    two = load_state_dict(store, "two", share=True, **options)

    same = [key for key in one if one[key].data_ptr() == two[key].data_ptr()]

    assert sorted(same) == sorted(set(one) - {"pooler.dense.bias"})


@pytest.mark.parametrize("options", [{}, {"eager": True}, {"verify": True}])
@pytest.mark.parametrize("form", ["hot", "cold"])
def test_a_tensor_of_several_blocks_is_shared_whole(
    form: str, options: dict[str, bool], store: DiskBlockStore, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (1 << 13,))
    folder = add(bert(), "m", form)
    expected = load_file(folder / "model.safetensors")
    assert max(len(tensor.pieces) for tensor in store.disk.tensors("m")) > 1
    one, two = (load_state_dict(store, "m", share=True, **options) for _ in range(2))

    assert all(torch.equal(one[key], expected[key]) for key in expected)
    assert all(one[key].data_ptr() == two[key].data_ptr() for key in expected)


@pytest.mark.parametrize("cut_bytes", [1 << 13, 1 << 26])
@pytest.mark.parametrize(("form", "options"), SHARED[:3])
def test_memory_that_a_sibling_wrote_to_is_noticed_when_verified(
    form: str,
    options: dict[str, bool],
    cut_bytes: int,
    store: DiskBlockStore,
    add: Add,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (cut_bytes,))
    folder = add(bert(), "m", form)
    expected = load_file(folder / "model.safetensors")
    written = load_state_dict(store, "m", share=True, **options)
    for tensor in written.values():
        tensor.fill_(7)

    found = load_state_dict(store, "m", share=True, verify=True, **options)

    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_model_that_shares_cannot_be_trained(store: DiskBlockStore, add: Add) -> None:
    add(bert(), "m")

    assert not any(parameter.requires_grad for parameter in load_model(store, "m", share=True).parameters())
    assert all(parameter.requires_grad for parameter in load_model(store, "m").parameters())


def test_siblings_share_memory_though_the_pack_has_grown_in_between(store: DiskBlockStore, add: Add) -> None:
    made = bert()
    add(made, "one")
    one = load_state_dict(store, "one", share=True)
    with torch.no_grad():
        made.pooler.dense.weight.add_(1)
    folder = add(made, "two")
    two, again = load_state_dict(store, "two", share=True), load_state_dict(store, "two", share=True)
    expected = load_file(folder / "model.safetensors")

    assert all(torch.equal(two[key], expected[key]) for key in expected)
    assert all(two[key].data_ptr() == again[key].data_ptr() for key in two)
    assert {key for key in one if one[key].data_ptr() != two[key].data_ptr()} == {"pooler.dense.weight"}


def test_a_model_that_another_process_replaced_is_read_anew(store: DiskBlockStore, tmp_path: Path) -> None:
    first, second = bert(), bert()
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    store.add(tmp_path / "first", "m", form="hot")
    assert same_state(load_model(store, "m"), first)

    with open_store(store.path) as other:
        other.remove("m", trash=False)
        with pytest.raises(ModelMissingError):
            load_state_dict(store, "m")
        other.gc()
        other.add(tmp_path / "second", "m", form="hot")

    assert same_state(load_model(store, "m"), second)


@pytest.mark.parametrize("options", [{"eager": True}, {"share": True}, {"verify": True}])
def test_no_file_stays_open(options: dict[str, bool], store: DiskBlockStore, add: Add) -> None:
    add(bert(), "m")
    load_state_dict(store, "m", **options)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        load_state_dict(store, "m", **options)

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize(
    "error", [BlockCorruptError("0" * 64, "it needs a base"), BlockMissingError("0" * 64)]
)
def test_a_block_that_is_stored_anew_at_this_moment_is_read_again(
    error: PBStoreError, store: DiskBlockStore, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(bert(), "m", "cold")
    expected = load_state_dict(store, "m")
    get, errors = store.disk.get_unchecked, [error]

    def get_while_it_changes(block_id: str, *args: object, **how: object) -> object:
        if errors:
            raise errors.pop()
        return get(block_id, *args, **how)

    monkeypatch.setattr(store.disk, "get_unchecked", get_while_it_changes)
    found = load_state_dict(store, "m")
    assert not errors
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("length", ["stored_bytes - 4", "stored_bytes + 4", "stored_bytes - 2", "1 << 40"])
def test_an_index_that_names_another_length_is_refused(length: str, store: DiskBlockStore, add: Add) -> None:
    add(bert(), "m")
    load_state_dict(store, "m")
    store.disk.connection.execute(f"UPDATE blocks SET stored_bytes = {length} WHERE raw_bytes = 128")

    with pytest.raises(PBStoreError):
        load_state_dict(store, "m")


def test_a_store_moved_away_while_a_model_is_loaded(store: DiskBlockStore, add: Add) -> None:
    folder = add(bert(), "m")
    loaded = load_state_dict(store, "m")
    store.remove("m", trash=False)
    store.gc()
    expected = load_file(folder / "model.safetensors")

    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_a_damaged_block_is_noticed_when_verified(tmp_path: Path) -> None:
    made = bert()
    made.save_pretrained(tmp_path / "folder")
    with open_store(tmp_path / "store") as store:
        store.add(tmp_path / "folder", "m", form="hot")
        block = load_file(tmp_path / "folder" / "model.safetensors")["embeddings.word_embeddings.weight"]
        pack = next((tmp_path / "store" / "packs").glob("*.pack"))
        data = bytearray(pack.read_bytes())
        data[data.index(block.numpy().tobytes()) + 5] ^= 1
        pack.write_bytes(data)

        with pytest.raises(BlockCorruptError):
            load_state_dict(store, "m", verify=True)


def test_code_in_a_checkpoint_is_never_run(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    bert().save_pretrained(folder)
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    config = (folder / "config.json").read_text()
    auto_map = '"auto_map": {"AutoConfig": "modeling_evil.C", "AutoModel": "modeling_evil.M"},'
    (folder / "config.json").write_text(config.replace("{", "{" + auto_map, 1))
    store.add(folder, "known")
    (folder / "config.json").write_text(config.replace('"bert"', '"evil"').replace("{", "{" + auto_map, 1))
    store.add(folder, "unknown")

    assert type(load_model(store, "known")) is transformers.BertModel
    with pytest.raises(CheckpointError, match="'evil', which this transformers does not know"):
        load_model(store, "unknown")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["evil/kernel", {"": "paged|evil/kernel:f"}])
def test_a_config_brings_no_code_from_elsewhere(
    key: str, value: object, store: DiskBlockStore, tmp_path: Path
) -> None:
    bert().save_pretrained(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    tree = json.loads(config.read_text())
    config.write_text(
        json.dumps({**tree, "text_config": {key: value}} if key[0] == "e" else {**tree, key: value})
    )
    store.add(tmp_path / "m", "m")

    with pytest.raises(CheckpointError, match="asks for code from the Hub"):
        load_model(store, "m")


@pytest.mark.parametrize(
    "config", [None, "[]", "{", '{"model_type": 5}', '{"model_type": "bert", "hidden_size": "x"}']
)
def test_a_bad_config_is_refused_in_one_line(
    config: str | None, store: DiskBlockStore, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    bert().save_pretrained(folder)
    if config is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(config)
    store.add(folder, "m")

    with pytest.raises(CheckpointError) as caught:
        load_model(store, "m")
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_loaded(store: DiskBlockStore, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    torch.save({"a": torch.ones(3)}, tmp_path / "folder" / "pytorch_model.bin")
    store.add(tmp_path / "folder", "m")

    with pytest.raises(CheckpointError, match="must be converted first"):
        load_state_dict(store, "m")


def adapted(base: transformers.PreTrainedModel, task: str) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    targets = ["query", "value"] if task == "SEQ_CLS" else ["q_proj", "v_proj"]
    model = get_peft_model(base, LoraConfig(task_type=task, r=4, lora_alpha=8, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


@pytest.mark.parametrize(("which", "task"), [("bert", "SEQ_CLS"), ("llama-tied", "CAUSAL_LM")])
def test_an_adapter_equals_peft(which: str, task: str, store: DiskBlockStore, add: Add) -> None:
    torch.manual_seed(0)
    add(MODELS[which](), "base")
    add(bert().to(torch.float16) if which != "bert" else llama(False), "other")
    base = load_model(store, "base") if which != "bert" else None
    if base is None:
        folder = add(bert(3), "classifier")
        base = transformers.BertForSequenceClassification.from_pretrained(folder)
        store.remove("base", trash=False)
    expected = adapted(base, task)
    add(expected, "adapter")

    found = load_adapter(store, "adapter")
    again = load_adapter(store, "adapter", base="classifier" if which == "bert" else "base")

    assert type(found) is type(expected)
    assert torch.equal(output(found), output(expected))
    assert torch.equal(output(again), output(expected))


def test_adapters_of_one_base_share_it(store: DiskBlockStore, add: Add) -> None:
    torch.manual_seed(0)
    add(llama(True), "base")
    expected = [adapted(load_model(store, "base"), "CAUSAL_LM") for _ in range(2)]
    for number, model in enumerate(expected):
        add(model, f"adapter{number}")

    found = [load_adapter(store, f"adapter{number}", base="base", share=True) for number in range(2)]

    assert [torch.equal(output(one), output(other)) for one, other in zip(found, expected, strict=True)]
    first, second = (model.get_input_embeddings().weight.data_ptr() for model in found)
    assert first == second


def test_an_adapter_is_bound_to_the_content_of_its_base(store: DiskBlockStore, tmp_path: Path) -> None:
    torch.manual_seed(0)
    llama(True).save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "old/name")
    adapted(load_model(store, "old/name"), "CAUSAL_LM").save_pretrained(tmp_path / "adapter")
    store.add(tmp_path / "adapter", "adapter", base="old/name")
    store.add(tmp_path / "base", "new/name")
    llama(True).save_pretrained(tmp_path / "twin")
    store.add(tmp_path / "twin", "twin")

    store.remove("old/name", trash=False)

    assert find_base(store, "adapter") == "new/name"
    store.remove("new/name", trash=False)
    with pytest.raises(CheckpointError, match="is not in the store"):
        find_base(store, "adapter")


def test_an_adapter_of_several_possible_bases_asks(store: DiskBlockStore, add: Add) -> None:
    torch.manual_seed(0)
    add(llama(True), "one")
    add(adapted(load_model(store, "one"), "CAUSAL_LM"), "adapter")
    assert find_base(store, "adapter") == "one"
    add(llama(True), "two")

    with pytest.raises(CheckpointError, match="fits 2 stored models"):
        find_base(store, "adapter")
    with pytest.raises(CheckpointError, match="is no adapter"):
        load_adapter(store, "one")


def test_a_device_loads_from_blocks_that_it_received(store: DiskBlockStore, add: Add) -> None:
    made = bert()
    add(made, "m", "cold")
    device = MemoryBlockStore()
    for block_id in store.blocks("m"):
        device.import_block(store.export_block(block_id))
    device.put_manifest(store.manifest("m"))

    for options in ({}, {"verify": True}, {"share": True}, {"eager": True}):
        assert same_state(load_model(device, "m", **options), made)


def test_loading_counts_as_a_use(store: DiskBlockStore, add: Add) -> None:
    add(bert(), "m")

    load_state_dict(store, "m")
    load_model(store, "m")

    assert [row.uses for row in store.disk.settled_rows()] == [2]
