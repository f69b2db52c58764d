"""Many adapters on one base: each answers as it does alone, and the base is there once."""

from collections.abc import Iterator

import peft
import pytest
import torch
import transformers

from pbstore import DiskBlockStore, load_adapter, load_state_dict, open_store
from pbstore.errors import CheckpointError

TOKENS = torch.arange(1, 9).reshape(1, 8)
SETTINGS = {
    "a": {"target_modules": ["q_proj"], "r": 4},
    "b": {"target_modules": ["q_proj", "v_proj"], "r": 2, "lora_alpha": 32},
    "c": {"target_modules": ["down_proj"], "r": 3},
    "changes": {"target_modules": ["q_proj"], "r": 4, "init_lora_weights": "pissa"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    """A tiny base and adapters of it."""
    root = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=40
    )
    transformers.LlamaForCausalLM(config).save_pretrained(root / "base")
    with open_store(root / "store", durable=False) as opened:
        opened.add(root / "base", "org/base")
        for name, settings in SETTINGS.items():
            base = transformers.LlamaForCausalLM.from_pretrained(root / "base")
            model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.2)
            model.save_pretrained(root / name)
            opened.add(root / name, f"org/{name}", base="org/base")
        yield opened


def answer(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def test_each_answers_as_it_does_alone(store: DiskBlockStore) -> None:
    alone = {name: answer(load_adapter(store, f"org/{name}")) for name in "abc"}
    model = load_adapter(store, "org/a", adapter_name="a")
    weights = {key: tensor.data_ptr() for key, tensor in model.named_parameters() if "lora_" not in key}
    for name in "bc":
        assert load_adapter(store, f"org/{name}", model, adapter_name=name) is model
        assert torch.equal(answer(model), alone["a"])  # the one that was active stays so
    for name in "abcab":
        model.set_adapter(name)
        assert torch.equal(answer(model), alone[name]), name
    assert not model.training
    after = {key.replace(".base_layer", ""): tensor.data_ptr() for key, tensor in model.named_parameters()}
    assert {key: after[key.replace(".base_layer", "")] for key in weights} == weights  # no second copy
    assert len({answer(model).sum().item() for name in "abc" if not model.set_adapter(name)}) == 3


def test_what_cannot_stand_beside_others_is_refused_and_changes_nothing(store: DiskBlockStore) -> None:
    model = load_adapter(store, "org/a")
    before = answer(model)
    with pytest.raises(CheckpointError, match="cannot stand beside others"):
        load_adapter(store, "org/changes", model, adapter_name="changes")
    with pytest.raises(CheckpointError):
        load_adapter(store, "org/base", model, adapter_name="base")
    for name in ("default", "a.b", ""):
        with pytest.raises(ValueError, match="adapter"):
            load_adapter(store, "org/b", model, adapter_name=name)
    assert list(model.peft_config) == ["default"]
    assert torch.equal(answer(model), before)


@pytest.mark.parametrize("share", [False, True])
def test_tensors_are_sent_to_a_device_as_they_are(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    monkeypatch.setattr("pbstore.checkpoint.state_dict._SENT_BYTES", 5000)  # several groups
    here, there = (load_state_dict(store, "org/base", device=one, share=share) for one in (None, "cpu"))
    assert here.keys() == there.keys()
    assert all(torch.equal(here[key], there[key]) for key in here)


def test_the_meta_device_gets_what_is_stored_without_a_byte_of_it(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = load_state_dict(store, "org/base")
    monkeypatch.setattr("pbstore.checkpoint.state_dict.as_torch", None)
    there = load_state_dict(store, "org/base", device=torch.device("meta"))
    assert all(tensor.is_meta for tensor in there.values())
    assert {key: (one.dtype, one.shape) for key, one in there.items()} == {
        key: (one.dtype, one.shape) for key, one in here.items()
    }


ABSENT = [
    name
    for name in ("cuda", "mps", "xpu", "hpu")
    if torch.accelerator.current_accelerator(check_available=True) != torch.device(name)
]


@pytest.mark.parametrize("device", [*ABSENT, "cuda:77", "abacus", "cpu:x", ""])
def test_a_device_that_is_not_there_is_one_line_before_anything_is_read(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("pbstore.checkpoint.state_dict.stored_tensors", None)
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here: ") as caught:
        load_state_dict(store, "org/base", device=device)
    assert "\n" not in str(caught.value)
