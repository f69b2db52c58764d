"""Every line of LOADING.md runs, and what it names is there."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import indent

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch import copies
from pbstore.serve.loading import vllm
from pbstore.serve.loading.filesystem import PBStoreFileSystem, register
from tests.pbstore.folders import folder_content
from tests.pbstore.serve.loading.stand_in import install

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "pbstore" / "serve" / "LOADING.md").read_text()
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def code(section: str, language: str = "python") -> list[str]:
    (text,) = [part for title, part in SECTIONS.items() if section in title]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_block_of_the_page_is_run_by_a_test() -> None:
    run = [*code("HF_ENDPOINT"), *code("Without a folder"), *code("fsspec"), *code("vLLM", "bash")]
    assert sorted(run) == sorted(re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL))


def test_the_lines_for_fsspec_run(
    family: DiskBlockStore, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register()
    (text,) = code("fsspec")
    names: dict[str, object] = {"PLACE": place}
    exec(text.replace("org/finetune", "org/tuned"), names)

    folder = family.path.parent / "folders" / "org/tuned"
    assert names["text"] == (folder / "config.json").read_bytes()
    assert set(names["tensors"]) == {"model.embed.weight", "model.layer.weight", "model.layer.bias"}
    assert names["header"] == (folder / "model.safetensors").read_bytes()[:8]
    assert "org/base/config.json" in names["names"]
    assert folder_content(tmp_path / "copy") == folder_content(folder)
    names["files"].close()


def test_the_lines_for_vllm_name_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = code("vLLM", "bash")
    settings = dict(re.findall(r"^export (\w+)=(\S+)", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert settings["VLLM_PLUGINS"] in project["vllm.general_plugins"]
    ours = {name for name in settings if name.startswith("PBCAST")}
    assert ours == {"PBCAST_PLACE", "PBCAST_LORA_FOLDER"}
    registry = install(monkeypatch)
    monkeypatch.setenv("PBCAST_PLACE", settings["PBCAST_PLACE"])
    monkeypatch.setenv("PBCAST_LORA_FOLDER", str(tmp_path / "adapters"))
    target = project["vllm.general_plugins"]["pbcast_lora_resolver"]
    EntryPoint("x", target, "vllm.general_plugins").load()()
    assert list(registry.resolvers) == [vllm.NAME]
    assert (tmp_path / "adapters").is_dir()


def test_the_entry_point_of_fsspec_is_the_filesystem() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    target = EntryPoint("pbstore", project["fsspec.specs"]["pbstore"], "fsspec.specs").load()
    assert target is PBStoreFileSystem


def save_model(folder: Path, seed: int) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    transformers.LlamaModel(transformers.LlamaConfig(vocab_size=64, **sizes)).save_pretrained(folder)
    return folder


def run(program: str, folder: Path, *words: str, **more: str) -> None:
    environment = {**os.environ, **more, "HF_HOME": str(folder / "hf"), "PBCAST_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_lines_for_hub_clients_and_for_loading_run(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        for seed, name in enumerate(("base", "finetune")):
            store.add(save_model(tmp_path / name, seed), f"org/{name}")
            copies.push(store, f"org/{name}", f"file://{tmp_path}/origin")
        with serving(create_app(StoreLibrary(store))) as node:
            lines = [
                code("HF_ENDPOINT")[0],
                "assert open(config).read() and open(folder + '/config.json').read()",
                "by_hub = model.state_dict()",
                f"for PLACE in ({node!r}, 'file://{tmp_path}/origin'):",
                indent(code("Without a folder")[0], "    "),
                "    assert set(model.state_dict()) == set(tensors) == set(by_hub)",
                "    assert any((model.state_dict()[key] != by_hub[key]).any() for key in by_hub)",
            ]
            run("\n".join(lines), tmp_path, HF_ENDPOINT=node)
