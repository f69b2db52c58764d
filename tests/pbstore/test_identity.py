"""A model is bound to its base by all of the base's weights: another base is never taken for it."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore, MemoryBlockStore, open_store
from pbstore.checkpoint.adapter import find_base
from pbstore.disk.add import identity
from pbstore.disk.upkeep import dependents
from pbstore.errors import CheckpointError
from pbstore.folders import ingest
from pbstore.formats.split import split_file
from pbstore.manifest import BaseLink
from pbstore.weights import identities

GOLDEN = Path(__file__).parent.parent / "golden"
ADAPTER = {"peft_type": "LORA", "r": 1, "target_modules": ["a"]}


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    table, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


def some(seed: int, num_bytes: int) -> bytes:
    return blake3(bytes([seed])).digest(length=num_bytes)


def weights(seed: int) -> bytes:
    return safetensors({"a.weight": ("F32", [4, 8], some(seed, 128)), "b": ("U8", [3], some(7, 3))})


def gguf(seed: int) -> bytes:
    """A small GGUF file: a norm in F32, which is the same in all, and a quantised matrix."""
    infos, offset = b"", 0
    for name, kind, count in ((b"norm", 0, 2048), (b"matrix", 8, 8192)):
        infos += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, count, kind, offset)
        offset += 8192
    head = struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + infos
    return head + bytes(-len(head) % 32) + some(0, 8192) + some(seed, 8192 // 32 * 34)


Content = dict[str, bytes]
BASES: dict[str, Callable[[int], Content]] = {
    "safetensors": lambda seed: {"model.safetensors": weights(seed)},
    "pickle": lambda seed: {"pytorch_model.bin": some(seed, 9000)},
    "gguf": lambda seed: {"model.gguf": gguf(seed)},
    "unknown": lambda seed: {"weights.ot": some(seed, 50)},
    "blob": lambda seed: {"blobs/" + "0" * 64: weights(seed)},
    "half": lambda seed: {"unet/x.safetensors": weights(0), "text_encoder/pytorch_model.bin": some(seed, 99)},
    "no weights": lambda seed: {"tokenizer.json": some(seed, 30).hex().encode()},
}


def write(folder: Path, content: Content) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in {"config.json": b"{}", **content}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def write_adapter(folder: Path) -> Path:
    return write(
        folder, {"adapter_config.json": json.dumps(ADAPTER).encode(), "adapter_model.safetensors": weights(9)}
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", BASES)
def test_a_bound_model_takes_no_other_base_and_finds_its_own_under_any_name(
    kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    store.add(write(tmp_path / "base", BASES[kind](1)), "base")
    for name, content in BASES.items():
        store.add(write(tmp_path / "other", content(2)), f"other/{name.replace(' ', '-')}")
    store.add(write_adapter(tmp_path / "adapter"), "adapter", base="base")
    assert find_base(store, "adapter") == "base"
    assert store.trash.dependents_of("base").bound == ("adapter",)
    for row in store.disk.model_rows():
        assert row.name == "base" or not dependents.find(store.disk, [row])[0].bound

    store.remove("base")
    store.add(write(tmp_path / "other", BASES[kind](3)), "base")

    with pytest.raises(
        CheckpointError, match="is not in the store, and the model of that name has other weights"
    ):
        find_base(store, "adapter")
    store.add(write(tmp_path / "base", BASES[kind](1)), "renamed")
    assert find_base(store, "adapter") == "renamed"
    assert store.explain("adapter").base_present


def on_a_device(store: DiskBlockStore, names: Sequence[str]) -> MemoryBlockStore:
    device = MemoryBlockStore()
    for name in names:
        for block_id in store.blocks(name):
            device.import_block(store.export_block(block_id))
        device.put_manifest(store.manifest(name))
    return device


@pytest.mark.parametrize("kind", BASES)
def test_a_device_tells_bases_apart_too(kind: str, store: DiskBlockStore, tmp_path: Path) -> None:
    store.add(write(tmp_path / "base", BASES[kind](1)), "base")
    store.add(write(tmp_path / "other", BASES[kind](2)), "other")
    store.add(write_adapter(tmp_path / "adapter"), "adapter", base="base")

    assert find_base(on_a_device(store, ["base", "other", "adapter"]), "adapter") == "base"
    with pytest.raises(CheckpointError, match="is not in the store"):
        find_base(on_a_device(store, ["other", "adapter"]), "adapter")


FILES = st.dictionaries(
    st.sampled_from(["a.safetensors", "b.safetensors", "sub/c.safetensors", "x.bin", "y.gguf", "z", "w.pth"]),
    st.integers(0, 3),
    min_size=1,
)


def content_of(seeds: dict[str, int]) -> Content:
    return {
        path: safetensors({f"{path}.{i}": ("F32", [i, 8], some(seed, 32 * i)) for i in range(3)})
        if path.endswith(".safetensors")
        else some(seed, 64)
        for path, seed in seeds.items()
    }


@settings(max_examples=20, deadline=None)
@given(one=FILES, other=FILES, text=st.booleans())
def test_hashes_are_equal_just_where_the_weights_are(
    one: dict[str, int], other: dict[str, int], text: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("scan")
    with open_store(root / "store") as store:
        store.add(write(root / "one", content_of(one)), "one")
        more = {"README.md": b"more", "training_args.bin": b"x"} if text else {}
        store.add(write(root / "other", {**content_of(other), **more}), "other")
        mine, theirs = store.manifest("one").weights, store.manifest("other").weights

        assert (mine == theirs) == (one == other)
        assert len(mine) == 64
        for name in ("one", "other"):
            manifest = store.manifest(name)
            assert identities(manifest, store.get)[0] == manifest.weights


def test_shards_and_their_order_change_nothing(store: DiskBlockStore, tmp_path: Path) -> None:
    tensors = {f"t{i}": ("F32", [2, 8], some(i, 64)) for i in range(4)}
    halves = [dict(list(tensors.items())[part::2]) for part in range(2)]
    store.add(write(tmp_path / "whole", {"model.safetensors": safetensors(tensors)}), "whole")
    shards = {f"model-{i}.safetensors": safetensors(half) for i, half in enumerate(halves)}
    store.add(write(tmp_path / "shards", shards), "shards")

    assert store.manifest("whole").weights == store.manifest("shards").weights


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    dtype=st.sampled_from(["F32", "BF16", "U8", "F4"]),
    limit=st.integers(64, 3000),
)
def test_a_hash_is_the_same_from_the_files_and_from_the_manifest_however_they_are_cut(
    shape: list[int], dtype: str, limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("cut")
    bits = {"F32": 32, "BF16": 16, "U8": 8, "F4": 4}[dtype]
    count = bits
    for size in shape:
        count *= size
    shape = shape if count % 8 == 0 else [8, *shape]
    num_bytes = count // 8 if count % 8 == 0 else count
    folder = write(root / "m", {"m.safetensors": safetensors({"t": (dtype, shape, some(1, num_bytes))})})
    with pytest.MonkeyPatch.context() as patch, open_store(root / "store") as store:
        patch.setattr(ingest.cut, "__defaults__", (limit,))
        store.add(folder, "m")

        manifest = store.manifest("m")
        assert identities(manifest, store.get) == (manifest.weights,)


def hash_of_earlier_versions(folder: Path) -> str:
    """The hash of what was cut at tensors with a dtype and a name; empty where there was none."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".gguf")):
        data = path.read_bytes()
        for piece in split_file(path):
            quantised = path.suffix == ".gguf" and piece.spec is not None and piece.spec.dtype == "U8"
            if piece.spec is not None and piece.name is not None and not quantised:
                block = blake3(data[piece.offset : piece.offset + piece.length]).hexdigest()
                lines.append((piece.name, piece.spec.dtype, str(piece.spec.shape[1:]), block))
    text = "".join("\0".join([*line, ""]) + "\n" for line in sorted(lines))
    return blake3(text.encode()).hexdigest() if lines else ""


def file_as_earlier(store: DiskBlockStore, folder: Path, name: str, base: BaseLink | None = None) -> BaseLink:
    """File a model as earlier versions did; gives the link that they made to it."""
    store.add(folder, "passing")
    hashed = hash_of_earlier_versions(folder)
    store.put_manifest(replace(store.manifest("passing"), name=name, weights=hashed, base=base))
    store.remove("passing")
    return BaseLink(name=name, weights=hashed)


def test_the_hash_of_safetensors_is_that_of_earlier_versions(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", BASES["safetensors"](1))
    store.add(folder, "m")

    assert store.manifest("m").weights == hash_of_earlier_versions(folder)


@pytest.mark.parametrize("kind", ["safetensors", "half"])
def test_links_of_earlier_versions_to_tensors_hold(kind: str, store: DiskBlockStore, tmp_path: Path) -> None:
    link = file_as_earlier(store, write(tmp_path / "base", BASES[kind](1)), "base")
    file_as_earlier(store, write_adapter(tmp_path / "adapter"), "adapter", link)
    assert find_base(store, "adapter") == "base"

    store.remove("base")
    store.add(tmp_path / "base", "renamed")

    assert find_base(store, "adapter") == "renamed"


@pytest.mark.parametrize("kind", ["pickle", "gguf", "unknown", "no weights"])
def test_links_of_earlier_versions_that_say_too_little_match_nothing(
    kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    link = file_as_earlier(store, write(tmp_path / "base", BASES[kind](1)), "base")
    other = file_as_earlier(store, write(tmp_path / "other", BASES[kind](2)), "other")
    file_as_earlier(store, write_adapter(tmp_path / "adapter"), "adapter", link)
    assert link.weights == other.weights

    with pytest.raises(CheckpointError, match=r"say which base to use|is not in the store"):
        find_base(store, "adapter")
    assert identity.find_weights(store.disk, link.weights) == ()
    assert not identity.has_weights(store.disk, "")


@pytest.mark.parametrize("kind", BASES)
def test_a_base_of_an_earlier_version_is_bound_to_by_all_of_it(
    kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    file_as_earlier(store, write(tmp_path / "base", BASES[kind](1)), "base")
    file_as_earlier(store, write(tmp_path / "other", BASES[kind](2)), "a/other")

    store.add(write_adapter(tmp_path / "adapter"), "adapter", base="base")

    assert find_base(store, "adapter") == "base"
    store.remove("base")
    with pytest.raises(CheckpointError, match="is not in the store"):
        find_base(store, "adapter")


@pytest.mark.parametrize("kind", BASES)
def test_a_lost_manifest_of_an_earlier_version_is_mended_by_adding_it_again(
    kind: str, store: DiskBlockStore, tmp_path: Path
) -> None:
    file_as_earlier(store, write(tmp_path / "base", BASES[kind](1)), "base")
    (store.path / "manifests" / store.disk.model_row("base").file).unlink()

    assert store.add(tmp_path / "base", "base").already_there
    assert store.manifest("base").weights == hash_of_earlier_versions(tmp_path / "base")


@pytest.mark.parametrize("name", ["store-v1", "store-v1b", "store-v1c"])
def test_bindings_in_stores_of_version_1_hold(name: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / name, tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        for model in store.models():
            manifest = store.manifest(model)
            assert manifest.weights in identities(manifest, store.get)
            if manifest.base is not None:
                assert manifest.base.name in identity.find_weights(store.disk, manifest.base.weights)
                assert find_base(store, model) == manifest.base.name
