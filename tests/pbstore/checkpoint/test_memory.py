"""That tensors have equal bytes, and so one block, does not make them one memory: only a loader's ties do."""

import gc
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pbstore import DiskBlockStore, MemoryBlockStore, open_store
from pbstore.checkpoint import patchwork
from pbstore.checkpoint.adapter import load_adapter
from pbstore.checkpoint.model import load_model
from pbstore.checkpoint.patchwork import Span
from pbstore.checkpoint.state_dict import load_state_dict
from pbstore.disk.files import fsio
from pbstore.folders import ingest

Add = Callable[..., Path]
OPTIONS: list[dict[str, bool]] = [{}, {"verify": True}, {"eager": True}]
WAYS = [("hot", {}), ("hot", {"verify": True}), ("hot", {"eager": True}), ("cold", {})]
CUT = 1 << 18
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def ties(module: torch.nn.Module) -> set[frozenset[str]]:
    """Names of parameters and buffers that are one memory."""
    found: dict[int, set[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(tensor.data_ptr(), set()).add(name)
    return {frozenset(names) for names in found.values() if len(names) > 1}


def overlaps(tensors: dict[str, torch.Tensor]) -> list[str]:
    spans = sorted((t.data_ptr(), t.data_ptr() + t.nbytes, name) for name, t in tensors.items() if t.nbytes)
    return [other for (_, end, _), (start, _, other) in pairwise(spans) if start < end]


def equal_tensors() -> dict[str, torch.Tensor]:
    """Tensors of many sizes, each three times: shorter than a page, of several pages, of several blocks."""
    sizes = {
        "scalar": (),
        "short": (3,),
        "page": (1024,),
        "pages": (40, 1024),
        "blocks": (200, 1024),
        "none": (0, 4),
    }
    made = {f"{name}.{i}": torch.ones(shape) for name, shape in sizes.items() for i in range(3)}
    return made | {
        "norm": torch.ones(7, 1024),
        "halves": torch.zeros(128, 1024),
        "quarters": torch.zeros(256, 1024),
    }


def check_each_has_its_own(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert not overlaps(loaded)
    for number, key in enumerate(expected):
        loaded[key].fill_(number + 2)
    assert all(
        torch.equal(loaded[key], torch.full_like(expected[key], i + 2)) for i, key in enumerate(expected)
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", ["hot", "cold"])
def test_writing_to_one_of_equal_tensors_changes_no_other(
    form: str, options: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    expected = equal_tensors()
    (tmp_path / "m").mkdir()
    save_file(expected, tmp_path / "m" / "model.safetensors")
    with open_store(tmp_path / "store") as store:
        store.add(tmp_path / "m", "m", form=form)
        assert max(len(tensor.pieces) for tensor in store.disk.tensors("m")) > 2
        save_file(load_state_dict(store, "m", **options), tmp_path / "saved.safetensors")

        check_each_has_its_own(load_state_dict(store, "m", **options), expected)
        check_each_has_its_own(load_state_dict(store, "m", verify=True), expected)
    assert all(
        torch.equal(one, expected[key]) for key, one in load_file(tmp_path / "saved.safetensors").items()
    )


def test_tensors_of_a_store_in_memory_are_not_the_store(store: DiskBlockStore, tmp_path: Path) -> None:
    expected = equal_tensors()
    (tmp_path / "m").mkdir()
    save_file(expected, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m")
    device = MemoryBlockStore()
    for block_id in store.blocks("m"):
        device.import_block(store.export_block(block_id))
    device.put_manifest(store.manifest("m"))

    for options in OPTIONS:
        check_each_has_its_own(load_state_dict(device, "m", **options), expected)


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 16, 1000, 16384, 16385, 40000])), max_size=8),
    st.booleans(),
)
def test_no_two_tensors_of_any_file_overlap(made: list[tuple[int, int]], hot: bool) -> None:
    expected = {f"t{i}": torch.full((size,), float(value)) for i, (value, size) in enumerate(made)}
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder, "store"), durable=False) as store:
        Path(folder, "m").mkdir()
        save_file(expected, Path(folder, "m", "model.safetensors"))
        store.add(Path(folder, "m"), "m", form="hot" if hot else "cold")

        check_each_has_its_own(load_state_dict(store, "m"), expected)


def test_where_nothing_more_can_be_mapped_bytes_are_copied(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    expected = equal_tensors()
    (tmp_path / "m").mkdir()
    save_file(expected, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m", form="hot")
    monkeypatch.setattr(patchwork, "_map_at", lambda *_: False)

    check_each_has_its_own(load_state_dict(store, "m"), expected)


def copied_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's pages that are not mapped from packs."""
    start, end, copied = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if ".pack" not in line:
            copied += max(0, min(high, end) - max(low, start))
    return copied


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs a list of maps")
@pytest.mark.parametrize("share", [False, True])
def test_a_large_tensor_of_a_hot_model_is_mapped_and_not_copied(
    share: bool, store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    shapes = {
        "rows of a page": (300, 1024),
        "other rows": (500, 768),
        "long rows": (3, 1 << 17),
        "flat": (400_000,),
    }
    expected = {name: torch.randn(shape) for name, shape in shapes.items()}
    (tmp_path / "m").mkdir()
    save_file(expected, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m")
    store.forms.heat("m")
    store.gc()
    assert all(len(tensor.pieces) > 2 for tensor in store.disk.tensors("m"))

    loaded = load_state_dict(store, "m", share=share)

    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert [copied_bytes(loaded[name]) for name in shapes] == [
        0,
        0,
        0,
        400_000 * 4 % CUT,
    ]  # a short last piece


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_large_tensor_that_was_cut_elsewhere_is_loaded_too(
    options: dict[str, bool], store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    monkeypatch.setattr(ingest, "PAGE_BYTES", 1)  # as earlier versions cut
    expected = {name: torch.randn(shape) for name, shape in {"a": (500, 768), "b": (70_000, 25)}.items()}
    (tmp_path / "m").mkdir()
    save_file(expected, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m", form="hot")
    assert all(tensor.pieces[0].raw_bytes % PAGE for tensor in store.disk.tensors("m"))

    check_each_has_its_own(load_state_dict(store, "m", **options), expected)


def test_no_hole_is_punched_into_a_pack_while_a_large_tensor_is_mapped_from_it(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    (tmp_path / "m").mkdir()
    save_file({"large": torch.ones(300, 1024)}, tmp_path / "m" / "model.safetensors")
    store.add(tmp_path / "m", "m", form="hot")
    pack = next((store.path / "packs").iterdir())

    def is_free() -> bool:
        with pack.open("rb") as file:
            return fsio.lock_alone(file.fileno())

    loaded = load_state_dict(store, "m")
    store.close()
    assert not is_free()
    del loaded
    assert is_free()


PAGE = patchwork.PAGE
NEAR_PAGES = st.builds(lambda pages, more: max(0, pages * PAGE + more), st.integers(0, 5), st.integers(-3, 3))


@settings(max_examples=150)
@given(spans=st.lists(st.tuples(NEAR_PAGES, NEAR_PAGES), min_size=1, max_size=5))
def test_any_parts_of_files_stand_behind_one_another(spans: list[tuple[int, int]]) -> None:
    data = np.random.default_rng(0).bytes(11 * PAGE + 5)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        memory = patchwork.side_by_side([Span(file.fileno(), *span) for span in spans])
        expected = b"".join(data[offset : offset + length] for offset, length in spans)

        assert bytes(memory or b"") == expected
        if memory is not None:
            memory[:] = bytes(len(memory))
        assert Path(file.name).read_bytes() == data
        assert patchwork.side_by_side([Span(file.fileno(), 11 * PAGE, 6)]) is None


def repeated_layers() -> transformers.PreTrainedModel:
    """A model whose layers begin equal, as one made deeper by repeating layers."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=99, num_key_value_heads=1, tie_word_embeddings=True, **SIZES)
    made = transformers.LlamaForCausalLM(config)
    for layer in made.model.layers[1:]:
        layer.load_state_dict(made.model.layers[0].state_dict())
    return made


def trained(model: torch.nn.Module) -> list[float]:
    """Losses of three steps."""
    ids = torch.arange(40).reshape(2, 20)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.5)
    losses = []
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("form", "options"), WAYS, ids=str)
def test_a_model_is_tied_and_trained_and_saved_as_that_of_from_pretrained(
    form: str, options: dict[str, bool], store: DiskBlockStore, add: Add, tmp_path: Path
) -> None:
    folder = add(repeated_layers(), "m", form)
    expected = transformers.LlamaForCausalLM.from_pretrained(folder)

    model = load_model(store, "m", **options)
    model.save_pretrained(tmp_path / "saved")

    assert ties(model) == ties(expected) == {frozenset({"lm_head.weight", "model.embed_tokens.weight"})}
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    assert trained(model) == trained(expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("form", "options"), WAYS, ids=str)
def test_a_fresh_adapter_is_trained_and_saved_as_that_of_peft(
    form: str, options: dict[str, bool], store: DiskBlockStore, add: Add, tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    folder = add(repeated_layers(), "base", form)
    fresh = get_peft_model(
        repeated_layers(), LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "k_proj"])
    )
    adapter = add(fresh, "adapter", form)
    base = transformers.LlamaForCausalLM.from_pretrained(folder)
    expected = PeftModel.from_pretrained(base, adapter, is_trainable=True).eval()

    found = load_adapter(store, "adapter", base="base", **options)
    found.save_pretrained(tmp_path / "saved")
    for name, parameter in found.named_parameters():
        parameter.requires_grad_("lora" in name)

    assert ties(found) == ties(expected)
    saved, written = (load_file(path / "adapter_model.safetensors") for path in (tmp_path / "saved", adapter))
    assert saved.keys() == written.keys()
    assert all(torch.equal(saved[key], written[key]) for key in saved)
    assert trained(found) == trained(expected)


@pytest.mark.parametrize("form", ["hot", "cold"])
@pytest.mark.parametrize("block", [CUT, 64 << 20], ids=["several blocks", "one block"])
def test_memory_of_a_load_goes_with_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, block: int
) -> None:
    """Nothing of it is in a circle, which would stay until somebody looks for circles."""
    monkeypatch.setattr(ingest.cut, "__defaults__", (block,))
    rng = np.random.default_rng(0)
    base = {f"w{i}": torch.from_numpy(rng.normal(size=(130, 1024)).astype(np.float32)) for i in range(1)}
    store = open_store(tmp_path / "store", durable=False)
    for name, tensors in {"base": base, "tuned": {k: v + 1e-4 * v.roll(1) for k, v in base.items()}}.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        store.add(tmp_path / name, name, form=form)
    load_state_dict(store, "tuned")
    gc.disable()
    gc.freeze()  # what is there already is not looked through
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        loaded = load_state_dict(store, "tuned")
        del loaded
        gc.collect()
        assert [one for one in gc.garbage if isinstance(one, memoryview | np.ndarray | torch.Tensor)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()
        store.close()


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_tensors_of_several_blocks_are_filled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Equal blocks, in one tensor and in several, are decoded once, and no byte is memory of two tensors."""
    monkeypatch.setattr(ingest.cut, "__defaults__", (CUT,))
    rng = np.random.default_rng(1)
    part = torch.from_numpy(rng.normal(size=(CUT // 4096, 1024)).astype(np.float32))
    tensors = {"twice": torch.cat([part, part]), "once": part.clone(), "more": torch.cat([part, part + 1])}
    (tmp_path / "m").mkdir()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(tmp_path / "m", "m", form=form)
        decoded = []
        real = store.disk.get_unchecked

        def get(block: str, *args: object, **how: object) -> object:
            decoded.append(block)
            return real(block, *args, **how)

        monkeypatch.setattr(store.disk, "get_unchecked", get)
        for threads in (1, 2, 5):
            decoded.clear()
            found = load_state_dict(store, "m", threads=threads)
            assert all(torch.equal(found[name], tensors[name]) for name in tensors)
            assert overlaps(found) == []
            assert len(decoded) == len(set(decoded))
