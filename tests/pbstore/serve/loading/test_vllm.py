"""vLLM's resolver by its documented interface; vLLM is not installed: `stand_in` is what it documents."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch import copies
from pbstore.serve.loading import vllm
from tests.pbstore.folders import base_tensors, folder_content, write_model
from tests.pbstore.serve.loading.stand_in import LoRARequest, LoRAResolver, Registry, install

BASE = "org/base"


def write_adapter(folder: Path, peft_type: str = "LORA", base: str = BASE, seed: int = 1) -> Path:
    config = json.dumps({"peft_type": peft_type, "base_model_name_or_path": base}).encode()
    tensors = {"lora_A": base_tensors(seed, rows=8)["embed.weight"]}
    return write_model(folder, tensors, adapter_config__json=config)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        opened.add(write_model(tmp_path / "base", base_tensors()), BASE)
        opened.add(write_adapter(tmp_path / "mine"), "org/mine")
        opened.add(write_adapter(tmp_path / "other", base="org/another"), "org/other")
        opened.add(write_adapter(tmp_path / "tuning", "PREFIX_TUNING"), "org/tuning")
        yield opened


@pytest.fixture(params=["store", "node", "origin"])
def resolver(
    request: pytest.FixtureRequest, store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoRAResolver]:
    registry = install(monkeypatch)
    monkeypatch.setenv("PBCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PBCAST_LORA_FOLDER", str(tmp_path / "folders"))
    origin = f"file://{tmp_path}/origin"
    if request.param == "origin":
        copies.sync(store, origin, copies.PUSH)
    with serving(create_app(StoreLibrary(store))) as node:
        place = {"store": str(store.path), "node": node, "origin": origin}[request.param]
        monkeypatch.setenv("PBCAST_PLACE", place)
        vllm.register()
        yield registry.resolvers[vllm.NAME]


def resolve(resolver: LoRAResolver, base: str, name: str) -> LoRARequest | None:
    return asyncio.run(resolver.resolve_lora(base, name))


@pytest.mark.sampled(3)
def test_an_adapter_is_found_by_name_for_its_base_only(resolver: LoRAResolver, tmp_path: Path) -> None:
    first = resolve(resolver, BASE, "org/mine")
    assert isinstance(first, LoRARequest)
    assert first.lora_name == "org/mine"
    assert folder_content(Path(first.lora_path)) == folder_content(tmp_path / "mine")
    assert resolve(resolver, BASE, "org/mine") == first
    for base, name in (
        ("org/another", "org/mine"),
        (BASE, "org/other"),
        (BASE, "org/tuning"),
        (BASE, BASE),
        (BASE, "org/none"),
        (BASE, "../etc"),
        (BASE, ""),
    ):
        assert resolve(resolver, base, name) is None
    assert [path.name for path in (tmp_path / "folders").iterdir()] == [Path(first.lora_path).name]


def test_another_content_has_another_folder_and_number(store: DiskBlockStore, tmp_path: Path) -> None:
    folders = vllm.AdapterFolders(str(store.path), tmp_path)
    before = folders.find(BASE, "org/mine")
    store.remove("org/mine")
    store.add(write_adapter(tmp_path / "new", seed=5), "org/mine")
    after = folders.find(BASE, "org/mine")
    assert before != after
    assert vllm.adapter_number(before) != vllm.adapter_number(after)
    assert folder_content(after) == folder_content(tmp_path / "new")


def test_the_resolver_has_the_documented_signature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    made_by_us = vllm.resolver_class()
    assert issubclass(made_by_us, LoRAResolver)
    wanted = list(inspect.signature(LoRAResolver.resolve_lora).parameters)
    assert list(inspect.signature(made_by_us.resolve_lora).parameters) == wanted
    assert inspect.iscoroutinefunction(made_by_us.resolve_lora)


def test_without_a_place_nothing_is_registered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry: Registry = install(monkeypatch)
    monkeypatch.delenv("PBCAST_PLACE", raising=False)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    vllm.register()
    assert registry.resolvers == {}
    assert "PBCAST_PLACE is not set" in caplog.text
