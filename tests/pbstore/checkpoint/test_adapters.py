"""An adapter from a store is what PEFT's own loader gives, for every kind of PEFT; or it is refused."""

import json
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

from pbstore import DiskBlockStore, open_store
from pbstore.checkpoint.adapter import find_base, load_adapter
from pbstore.checkpoint.convert import convert_folder
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.errors import CheckpointError

Settings = dict[str, Any]
WEIGHTS = "adapter_model.safetensors"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TWO = {"target_modules": ["q_proj", "v_proj"]}
FOUR_TOKENS = {"num_virtual_tokens": 4}
IA3 = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
CPT = {"cpt_token_ids": [1, 2, 3, 4], "cpt_mask": [1, 1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3, 4]}
KINDS: dict[str, Settings] = {
    "ADALORA": {**TWO, "init_r": 4, "target_r": 2, "total_step": 10},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "BEFT": TWO,
    "BOFT": {**TWO, "boft_block_size": 4},
    "C3A": {**TWO, "block_size": 8},
    "CARTRIDGE": FOUR_TOKENS,
    "CPT": CPT,
    "DEFT": {**TWO, "r": 4},
    "DELORA": {**TWO, "r": 4},
    "FOURIERFT": {**TWO, "n_frequency": 10},
    "FROD": {**TWO, "progressbar": False},
    "GLORA": {**TWO, "r": 4},
    "GRALORA": {**TWO, "r": 4, "alpha": 8},
    "HIRA": {**TWO, "r": 4},
    "HRA": {**TWO, "r": 4},
    "IA3": IA3,
    "LILY": {**TWO, "r": 4},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "LOHA": {**TWO, "r": 4},
    "LOKR": {**TWO, "r": 4},
    "LORA": {**TWO, "r": 4},
    "MISS": {**TWO, "r": 4},
    "MULTITASK_PROMPT_TUNING": {**FOUR_TOKENS, "num_tasks": 2},
    "OFT": {**TWO, "oft_block_size": 8},
    "OSF": {**TWO, "effective_rank": 8},
    "PEANUT": {**TWO, "r": 4},
    "POLY": {**TWO, "r": 4, "n_tasks": 2, "n_skills": 2},
    "PREFIX_TUNING": FOUR_TOKENS,
    "PROMPT_TUNING": FOUR_TOKENS,
    "PSOFT": {**TWO, "r": 4},
    "PVERA": {**TWO, "r": 4},
    "P_TUNING": {**FOUR_TOKENS, "encoder_hidden_size": 16},
    "RANDLORA": {**TWO, "r": 4},
    "ROAD": {**TWO, "group_size": 8},
    "SHADOW": {"r": 4},
    "SHIRA": {**TWO, "r": 4},
    "SUPERTUNING": TWO,
    "TINYLORA": {**TWO, "u": 4},
    "TRAINABLE_TOKENS": {"token_indices": [1, 2, 3]},
    "UNILORA": {**TWO, "theta_d_length": 16},
    "VBLORA": {**TWO, "num_vectors": 8, "vector_length": 8},
    "VERA": {**TWO, "r": 4},
    "WAVEFT": {**TWO, "n_frequency": 10},
}
NOT_HERE = {
    "ADAMSS": "wants scikit-learn",
    "XLORA": "mixes adapters that lie elsewhere: refused",
}
SIZELESS = {"UNILORA"}
"""Kinds whose stored tensors tell nothing of their base's sizes."""
VARIANTS: dict[str, tuple[str, Settings]] = {
    "pissa": ("LORA", {**TWO, "r": 4, "init_lora_weights": "pissa"}),
    "pissa_niter": ("LORA", {**TWO, "r": 4, "init_lora_weights": "pissa_niter_4"}),
    "olora": ("LORA", {**TWO, "r": 4, "init_lora_weights": "olora"}),
    "gaussian": ("LORA", {**TWO, "r": 4, "init_lora_weights": "gaussian"}),
    "orthogonal": ("LORA", {**TWO, "r": 4, "init_lora_weights": "orthogonal"}),
    "mica": ("LORA", {**TWO, "r": 4, "init_lora_weights": "mica"}),
    "random": ("LORA", {**TWO, "r": 4, "init_lora_weights": False}),
    "dora": ("LORA", {**TWO, "r": 4, "use_dora": True}),
    "rslora": ("LORA", {**TWO, "r": 4, "use_rslora": True}),
    "lora-bias": ("LORA", {**TWO, "r": 4, "lora_bias": True}),
    "all-linear": ("LORA", {"target_modules": "all-linear", "r": 4}),
    "patterns": ("LORA", {**TWO, "r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
    "embedding": ("LORA", {"target_modules": ["embed_tokens", "q_proj"], "r": 4}),
    "one-layer": ("LORA", {**TWO, "r": 4, "layers_to_transform": [1]}),
    "replicated": ("LORA", {**TWO, "r": 4, "layer_replication": [[0, 2], [0, 2]]}),
    "saved-norm": ("LORA", {**TWO, "r": 4, "modules_to_save": ["norm"]}),
    "saved-head": ("LORA", {**TWO, "r": 4, "modules_to_save": ["lm_head"]}),
    "tokens": ("LORA", {**TWO, "r": 4, "trainable_token_indices": [1, 5]}),
    "parameters": ("LORA", {"target_parameters": ["mlp.up_proj.weight"], "r": 4}),
    "vera-unsaved": ("VERA", {**TWO, "r": 4, "save_projection": False}),
    "oft-bias": ("OFT", {**TWO, "oft_block_size": 8, "bias": "all"}),
    "ia3-norm": ("IA3", {**IA3, "modules_to_save": ["norm"]}),
    "prompt-vocabulary": ("PROMPT_TUNING", {**FOUR_TOKENS, "prompt_tuning_init": "SAMPLE_VOCAB"}),
    "prefix-projected": (
        "PREFIX_TUNING",
        {**FOUR_TOKENS, "prefix_projection": True, "encoder_hidden_size": 16},
    ),
    "p-tuning-lstm": (
        "P_TUNING",
        {**FOUR_TOKENS, "encoder_hidden_size": 16, "encoder_reparameterization_type": "LSTM"},
    ),
    "untrained-task": ("LORA", {**TWO, "r": 4, "task_type": None}),
}
ALL = {**{name: (name, settings) for name, settings in KINDS.items()}, **VARIANTS}
OFTEN = {"LORA", "IA3", "OFT", "pissa", "olora", "embedding", "saved-norm"}
EACH_TIME = OFTEN | {
    "ADALORA",
    "BOFT",
    "CPT",
    "LN_TUNING",
    "LOHA",
    "MULTITASK_PROMPT_TUNING",
    "PREFIX_TUNING",
}
EACH_TIME |= {
    "PROMPT_TUNING",
    "P_TUNING",
    "SHIRA",
    "TRAINABLE_TOKENS",
    "UNILORA",
    "VERA",
    "dora",
    "untrained-task",
}


def often(names: Iterable[str], chosen: Container[str]) -> list[Any]:
    """Cases of which only the chosen ones are tried each time."""
    return [pytest.param(one, marks=() if one in chosen else pytest.mark.slow) for one in names]


CASES = often(ALL, EACH_TIME)


def llama(dtype: torch.dtype = torch.float32, **more: int) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, num_key_value_heads=4, max_position_embeddings=64, **{**SIZES, **more}
    )
    return transformers.LlamaForCausalLM(config).eval().to(dtype)


def bert() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=64, max_position_embeddings=40, num_labels=3, **SIZES)
    return transformers.BertForSequenceClassification(config).eval()


def make_adapter(
    base: transformers.PreTrainedModel,
    kind: str,
    settings: Settings,
    folder: Path,
    task: str | None = "CAUSAL_LM",
) -> Path:
    """A "trained" adapter: every parameter that PEFT would train is moved."""
    torch.manual_seed(1)
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**{"task_type": task, **deepcopy(settings)})
    model = peft.get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                step = torch.randn(parameter.shape, generator=generator).mul(0.05)
                parameter.add_(step.to(parameter.dtype))
    model.save_pretrained(folder)
    return folder


def output(model: peft.PeftModel) -> torch.Tensor:
    tasks = {"POLY", "MULTITASK_PROMPT_TUNING"}
    more = {"task_ids": torch.tensor([1])} if model.active_peft_config.peft_type in tasks else {}
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 12)[None], **more)[0]


def reference(base: transformers.PreTrainedModel, folder: Path) -> peft.PeftModel:
    torch.manual_seed(0)
    return peft.PeftModel.from_pretrained(base, folder)


def assert_same(found: peft.PeftModel, expected: peft.PeftModel) -> None:
    assert type(found) is type(expected)
    assert torch.equal(output(found), output(expected))
    mine, theirs = found.state_dict(), expected.state_dict()
    assert mine.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert mine[key].dtype == tensor.dtype
        if "prompt_encoder" not in key:  # what makes the prompts is not stored, the prompts are
            assert torch.equal(mine[key], tensor), key
    assert not found.training
    assert {k: p.requires_grad for k, p in found.named_parameters()} == {
        k: p.requires_grad for k, p in expected.named_parameters()
    }


@pytest.fixture(autouse=True)
def quiet_peft() -> Iterator[None]:
    """PEFT warns of much that is meant so here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_kind_of_peft_is_tried_or_named() -> None:
    assert {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING} == KINDS.keys() | NOT_HERE.keys()


Bases = Callable[[dict[str, transformers.PreTrainedModel]], DiskBlockStore]


@pytest.fixture(scope="module")
def store_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    """Makes stores of models, hot, with their folders beside."""
    with ExitStack() as stores:

        def make(models: dict[str, transformers.PreTrainedModel]) -> DiskBlockStore:
            root = tmp_path_factory.mktemp("bases")
            store = stores.enter_context(open_store(root / "store"))
            for name, model in models.items():
                model.save_pretrained(root / name)
                store.add(root / name, name, form="hot")
            return store

        yield make


@pytest.fixture(scope="module")
def bases(store_of: Bases) -> DiskBlockStore:
    """A store with one base and models that are none."""
    other = llama(num_hidden_layers=3, hidden_size=16)
    return store_of({"org/base": llama(), "bert": bert(), "other": other})


@pytest.fixture(scope="module")
def halves(store_of: Bases) -> DiskBlockStore:
    """A store with a base in bfloat16."""
    return store_of({"org/half": llama().to(torch.bfloat16)})


@pytest.mark.sampled(8)
@pytest.mark.parametrize("which", CASES)
def test_every_adapter_is_what_peft_loads(which: str, bases: DiskBlockStore, tmp_path: Path) -> None:
    kind, settings = ALL[which]
    folder = make_adapter(llama(), kind, settings, tmp_path / "adapter")
    bases.add(folder, f"free/{which}")
    bases.add(folder, f"bound/{which}", base="org/base")
    expected = reference(llama(), folder)
    shared = load_state_dict(bases, "org/base", share=True)

    if kind not in SIZELESS:
        assert find_base(bases, f"free/{which}") == "org/base"
    assert_same(load_adapter(bases, f"bound/{which}"), expected)
    assert_same(load_adapter(bases, f"free/{which}", base=llama()), expected)
    assert_same(load_adapter(bases, f"free/{which}", base="org/base", share=True), expected)

    fresh = load_state_dict(bases, "org/base", eager=True)
    assert all(torch.equal(shared[key], fresh[key]) for key in fresh), "wrote to a base that others share"


CLASSIFIERS: dict[str, tuple[str, Settings]] = {
    "lora": ("LORA", {"target_modules": ["query", "value"], "r": 4}),
    "biases": ("LORA", {"target_modules": ["query", "value"], "r": 4, "bias": "all"}),
    "its biases": ("LORA", {"target_modules": ["query", "value"], "r": 4, "bias": "lora_only"}),
    "oft-biases": ("OFT", {"target_modules": ["query"], "oft_block_size": 8, "bias": "all"}),
    "embedding": ("LORA", {"target_modules": ["word_embeddings", "query"], "r": 4}),
    "ia3": ("IA3", {"target_modules": ["key", "value"], "feedforward_modules": []}),
    "prompt": ("PROMPT_TUNING", FOUR_TOKENS),
    "prefix": ("PREFIX_TUNING", FOUR_TOKENS),
    "norms": ("LN_TUNING", {"target_modules": ["LayerNorm"]}),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("which", often(CLASSIFIERS, {"its biases", "prompt"}))
def test_an_adapter_with_its_head_is_what_peft_loads(
    which: str, dtype: torch.dtype, store: DiskBlockStore, tmp_path: Path
) -> None:
    bert().bert.to(dtype).save_pretrained(tmp_path / "plain")
    store.add(tmp_path / "plain", "plain", form="hot")
    kind = transformers.BertForSequenceClassification
    folder = make_adapter(
        kind.from_pretrained(tmp_path / "plain", num_labels=3), *CLASSIFIERS[which], tmp_path / "a", "SEQ_CLS"
    )
    store.add(folder, "adapter")
    expected = reference(kind.from_pretrained(tmp_path / "plain", num_labels=3), folder)
    shared = load_state_dict(store, "plain", share=True)

    assert find_base(store, "adapter") == "plain"
    given = kind.from_pretrained(tmp_path / "plain", num_labels=3)
    for found in (
        load_adapter(store, "adapter"),
        load_adapter(store, "adapter", base=given),
        load_adapter(store, "adapter", share=True),
    ):
        mine = found.state_dict()
        for key, tensor in expected.state_dict().items():
            if "original_module" not in key and "prompt_encoder" not in key:
                assert mine[key].dtype == tensor.dtype
                assert torch.equal(mine[key], tensor), key
        assert torch.allclose(output(found), output(expected), atol=1e-6)
    fresh = load_state_dict(store, "plain", eager=True)
    assert all(torch.equal(shared[key], fresh[key]) for key in fresh), "wrote to a base that others share"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", often(ALL, OFTEN))
def test_no_adapter_writes_to_a_shared_base_of_16_bits(
    which: str, halves: DiskBlockStore, tmp_path: Path
) -> None:
    folder = make_adapter(llama(), *ALL[which], tmp_path / "adapter")
    halves.add(folder, f"half/{which}")
    shared = load_state_dict(halves, "org/half", share=True)
    base = transformers.LlamaForCausalLM.from_pretrained(halves.path.parent / "org/half")
    try:
        expected = reference(base, folder)
    except Exception:
        expected = None

    if expected is None:
        with pytest.raises(CheckpointError):
            load_adapter(halves, f"half/{which}", base="org/half", share=True)
    else:
        assert_same(load_adapter(halves, f"half/{which}", base="org/half", share=True), expected)
    fresh = load_state_dict(halves, "org/half", eager=True)
    assert all(torch.equal(shared[key], fresh[key]) for key in fresh), "wrote to a base that others share"


def t5() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=64, **sizes)).eval()


def vit() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=3, **SIZES)
    return transformers.ViTForImageClassification(config).eval()


OTHERS: dict[str, tuple[Callable[[], transformers.PreTrainedModel], str | None, str, Settings]] = {
    "prompts of two": (t5, "SEQ_2_SEQ_LM", "PROMPT_TUNING", FOUR_TOKENS),
    "factors of two": (t5, "SEQ_2_SEQ_LM", "IA3", {"target_modules": ["k", "v"], "feedforward_modules": []}),
    "a convolution": (vit, None, "LORA", {"target_modules": ["projection", "q_proj"], "r": 4}),
    "a head of one's own": (
        vit,
        None,
        "LOHA",
        {"target_modules": ["q_proj"], "r": 4, "modules_to_save": ["classifier"]},
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", OTHERS)
def test_other_architectures_load_as_in_peft(which: str, store: DiskBlockStore, tmp_path: Path) -> None:
    make, task, kind, settings = OTHERS[which]
    make().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    store.add(make_adapter(make(), kind, settings, tmp_path / "adapter", task), "adapter")
    expected = reference(make(), tmp_path / "adapter")

    found = load_adapter(store, "adapter")

    inputs: Settings = {"input_ids": torch.arange(1, 9)[None], "decoder_input_ids": torch.arange(1, 5)[None]}
    if make is vit:
        inputs = {"pixel_values": torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))}
    with torch.no_grad():
        assert torch.equal(found(**inputs)[0], expected(**inputs)[0])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("adapter_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "kind", often(["LORA", "LOHA", "IA3", "PROMPT_TUNING", "LN_TUNING"], {"LORA", "IA3"})
)
def test_dtypes_are_those_that_peft_gives(
    kind: str, base_dtype: torch.dtype, adapter_dtype: torch.dtype, store: DiskBlockStore, tmp_path: Path
) -> None:
    llama(base_dtype).save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    folder = make_adapter(llama(), kind, KINDS[kind], tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({key: tensor.to(adapter_dtype) for key, tensor in weights.items()}, folder / WEIGHTS)
    store.add(folder, "adapter", base="base")

    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    assert_same(load_adapter(store, "adapter"), reference(base, folder))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}},
        {"init_lora_weights": "corda", "corda_config": {"cache_file": "/gone.bin"}},
        {"init_lora_weights": "lora_ga", "lora_ga_config": {}},
        {"init_lora_weights": "eva", "eva_config": {}},
        {"use_qalora": True, "qalora_group_size": 8},
        {"alora_invocation_tokens": [1, 2]},
        {"arrow_config": {"top_k": 1}},
        {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}},
        {"newer_setting": 3},
    ],
    ids=lambda settings: next(iter(settings)) + str(settings.get("init_lora_weights", "")),
)
def test_a_rare_lora_is_loaded_or_refused_as_peft_does_both(
    settings: Settings, store: DiskBlockStore, tmp_path: Path
) -> None:
    folder = make_adapter(llama(), "LORA", KINDS["LORA"], tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    store.add(folder, "adapter")
    try:
        expected = reference(llama(), folder)
    except Exception:
        expected = None

    if expected is None:
        with pytest.raises(CheckpointError, match="adapter"):
            load_adapter(store, "adapter", base=llama())
    else:
        assert_same(load_adapter(store, "adapter", base=llama()), expected)


@pytest.mark.parametrize("kind", ["LORA", "PREFIX_TUNING"])
def test_a_converted_adapter_is_the_same_adapter(kind: str, store: DiskBlockStore, tmp_path: Path) -> None:
    folder = make_adapter(llama(), kind, KINDS[kind], tmp_path / "adapter")
    expected = reference(llama(), folder)
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()

    for copy in ("one", "two"):
        convert_folder(folder, tmp_path / copy)
        store.add(tmp_path / copy, "adapter")  # the second time it is the same

    assert_same(load_adapter(store, "adapter", base=llama()), expected)


def test_a_named_adapter_is_loaded_from_its_folder(store: DiskBlockStore, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    folder = make_adapter(llama(), "LORA", KINDS["LORA"], tmp_path / "adapters" / "second")
    store.add(tmp_path / "adapters", "adapters", base="base")
    expected = reference(llama(), folder)

    assert_same(load_adapter(store, "adapters", subfolder="second"), expected)
    with pytest.raises(CheckpointError, match="has no adapter_config"):
        load_adapter(store, "adapters")


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    weights.pop(sorted(weights)[0])


def add_one(weights: dict[str, torch.Tensor]) -> None:
    weights["base_model.model.stray.lora_A.weight"] = torch.ones(2, 2)


def widen_one(weights: dict[str, torch.Tensor]) -> None:
    key = sorted(weights)[0]
    weights[key] = torch.cat([weights[key], weights[key]], 0)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "kind", often(["LORA", "IA3", "LOHA", "OFT", "PREFIX_TUNING", "LN_TUNING"], {"LORA", "IA3"})
)
@pytest.mark.parametrize("spoil", [drop_one, add_one, widen_one])
def test_an_adapter_that_does_not_fit_is_refused_in_one_line_and_finds_no_base(
    spoil: Callable[[dict[str, torch.Tensor]], None], kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    folder = make_adapter(llama(), kind, KINDS[kind], tmp_path / "adapter")
    weights = load_file(folder / WEIGHTS)
    spoil(weights)
    save_file(weights, folder / WEIGHTS)
    store.add(folder, "adapter")

    with pytest.raises(CheckpointError, match="adapter") as caught:
        load_adapter(store, "adapter", base="base")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="fits 0 stored models"):
        find_base(store, "adapter")


WISHES: dict[str, tuple[Settings, str]] = {
    "megatron": ({"peft_type": "LORA", "megatron_config": {"a": 1}}, "asks to import a module"),
    "x-lora": ({"peft_type": "XLORA", "adapters": {"a": "/etc"}}, "is an X-LoRA"),
    "shadow": ({"peft_type": "SHADOW", "shadow_model": "org/other"}, "needs the model 'org/other'"),
    "unknown": ({"peft_type": "NEWER"}, "is refused: KeyError 'NEWER'"),
    "untyped": ({"r": 4}, "says no peft_type"),
    "a list": ({"peft_type": ["LORA"]}, "says no peft_type"),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", WISHES)
def test_a_configuration_that_reaches_outside_is_refused_by_name(
    which: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    folder = make_adapter(llama(), "LORA", KINDS["LORA"], tmp_path / "adapter")
    settings, reason = WISHES[which]
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    store.add(folder, "adapter")

    with pytest.raises(CheckpointError, match=reason) as caught:
        load_adapter(store, "adapter", base=llama())
    assert "\n" not in str(caught.value)


def test_prompts_that_began_with_a_file_do_not_need_it(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = make_adapter(
        llama(), "MULTITASK_PROMPT_TUNING", KINDS["MULTITASK_PROMPT_TUNING"], tmp_path / "adapter"
    )
    expected = reference(llama(), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"prompt_tuning_init": "EXACT_SOURCE_TASK", "prompt_tuning_init_state_dict_path": "/gone.bin"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    store.add(folder, "adapter")

    assert_same(load_adapter(store, "adapter", base=llama()), expected)


def test_a_pickled_adapter_says_that_it_wants_to_be_converted(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = make_adapter(llama(), "LORA", KINDS["LORA"], tmp_path / "adapter")
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    store.add(folder, "adapter")

    with pytest.raises(CheckpointError, match="add it with --convert"):
        load_adapter(store, "adapter", base=llama())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "UNILORA", "LORA", "VERA"])
def test_what_would_fit_any_model_of_its_width_takes_none_of_another_name(
    kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "mirror/base")
    folder = make_adapter(llama(), kind, KINDS[kind], tmp_path / "adapter")
    store.add(folder, "nameless")
    config = json.loads((folder / "adapter_config.json").read_text())
    for name in ("org/other", "mirror/base", "/home/me/mirror/base"):
        config["base_model_name_or_path"] = name
        (folder / "adapter_config.json").write_text(json.dumps(config))
        store.add(folder, f"adapter{len(name)}")
    for name in ("nameless", "adapter11", "adapter20"):
        assert find_base(store, name) == "mirror/base"
    if kind in ("LORA", "VERA"):
        assert find_base(store, "adapter9") == "mirror/base"
    else:
        with pytest.raises(CheckpointError, match="its config names 'org/other': say which base to use"):
            find_base(store, "adapter9")


@pytest.mark.skipif(find_spec("sklearn") is not None, reason="the package is here")
def test_a_kind_that_wants_another_package_says_so(store: DiskBlockStore, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    folder = make_adapter(llama(), "LORA", KINDS["LORA"], tmp_path / "adapter")
    config = {"peft_type": "ADAMSS", "task_type": "CAUSAL_LM", **TWO}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    store.add(folder, "adapter")

    for ask in (lambda: load_adapter(store, "adapter", base="base"), lambda: find_base(store, "adapter")):
        with pytest.raises(CheckpointError, match="scikit-learn is required"):
            ask()


UNRELATED: dict[str, Callable[[Path], None]] = {
    "a tensor in two files": lambda folder: [
        save_file({"a": torch.ones(2)}, folder / f"{part}.safetensors") for part in "xy"
    ],
    "shards that are missing": lambda folder: (
        save_file({"a": torch.ones(2)}, folder / "x.safetensors"),
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
    ),
    "an index that is none": lambda folder: (
        save_file({"a": torch.ones(2)}, folder / "x.safetensors"),
        (folder / "model.safetensors.index.json").write_text("[]"),
    ),
    "an unknown model": lambda folder: (
        save_file({"a": torch.ones(2)}, folder / "model.safetensors"),
        (folder / "config.json").write_text('{"model_type": "newer"}'),
    ),
    "a config that is refused": lambda folder: (
        save_file({"a": torch.ones(2)}, folder / "model.safetensors"),
        (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "x"}'),
    ),
    "a config that no model can be built from": lambda folder: (
        save_file({"a": torch.ones(2)}, folder / "model.safetensors"),
        (folder / "config.json").write_text(
            '{"model_type": "llama", "hidden_act": "zzz", "architectures": ["LlamaForCausalLM"]}'
        ),
    ),
}


@pytest.mark.sampled(10)
@pytest.mark.parametrize("kind", ["LORA", "IA3", "PROMPT_TUNING"])
@pytest.mark.parametrize("which", UNRELATED)
def test_an_unrelated_model_spoils_no_search(
    which: str, kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    (tmp_path / "unrelated").mkdir()
    UNRELATED[which](tmp_path / "unrelated")
    store.add(tmp_path / "unrelated", "a/unrelated")
    llama().save_pretrained(tmp_path / "base")
    store.add(make_adapter(llama(), kind, KINDS[kind], tmp_path / "adapter"), "adapter")
    with pytest.raises(CheckpointError, match=r"fits 0 stored models .* could not look at 1: a/unrelated"):
        find_base(store, "adapter")

    store.add(tmp_path / "base", "base")

    assert find_base(store, "adapter") == "base"


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", ["ADALORA", "IA3", "LN_TUNING", "LORA", "VERA"])
def test_models_of_other_types_spoil_no_search(kind: str, store: DiskBlockStore, tmp_path: Path) -> None:
    """Also where the adapter names no task but the class that it was trained on."""
    bert().save_pretrained(tmp_path / "bert")
    store.add(tmp_path / "bert", "a/bert")
    settings = {**KINDS[kind], "use_dora": True} if kind == "LORA" else KINDS[kind]
    store.add(make_adapter(llama(), kind, settings, tmp_path / "adapter", task=None), "adapter")
    with pytest.raises(CheckpointError, match="fits 0 stored models"):
        find_base(store, "adapter")

    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "z/base")

    assert find_base(store, "adapter") == "z/base"


def test_a_lost_manifest_spoils_no_search(store: DiskBlockStore, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    store.add(tmp_path / "base", "base")
    bert().save_pretrained(tmp_path / "bert")
    store.add(tmp_path / "bert", "a/bert")
    folder = make_adapter(llama(), "IA3", KINDS["IA3"], tmp_path / "adapter")
    store.add(folder, "free")
    store.add(folder, "bound", base="base")
    (store.path / "manifests" / catalog_file(store, "a/bert")).unlink()

    assert find_base(store, "free") == find_base(store, "bound") == "base"


def catalog_file(store: DiskBlockStore, name: str) -> str:
    return store.disk.model_row(name).file
