"""The wheel: what it holds, and that it is enough for the store in an environment with nothing else."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from demo.cli.commands import COMMANDS, EXTRAS
from pbstore import open_store
from tests.pbstore.folders import base_tensors, folder_content, write_model

ROOT = Path(__file__).parents[2]
MOST_MB = 60
"""Of all that is downloaded with the plain install."""
DEAR = ("torch", "cvxpy", "gymnasium", "transformers", "scipy", "matplotlib", "httpx", "starlette")


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_what_is_dear_comes_by_extras_only() -> None:
    """What only a part needs belongs to that part's extra, and into `EXTRAS` of `demo/cli/commands.py`."""
    plain = [re.split("[><=]", line)[0] for line in project()["dependencies"]]
    assert plain == ["blake3", "numpy", "packaging", "rich", "safetensors", "typer", "zstandard"]
    extras = project()["optional-dependencies"]
    assert set(EXTRAS) <= set(extras)
    for home in COMMANDS.values():
        assert set(filter(None, home.extra.split(","))) <= set(extras)


def test_the_store_imports_nothing_dear(tmp_path: Path) -> None:
    write_model(tmp_path / "model", base_tensors(rows=8))
    words = [
        "store",
        "add",
        str(tmp_path / "model"),
        "--name",
        "me/model",
        "--store",
        str(tmp_path / "store"),
    ]
    loaded = modules_after(words)
    assert loaded.isdisjoint(DEAR)
    assert "pbstore.disk.store" in loaded


def modules_after(words: list[str]) -> set[str]:
    script = f"import sys; from demo.cli import main; main({words!r}); print(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_a_look_at_a_store_imports_no_numpy_and_no_verb_but_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        store.put(b"anything")
    for words in (["--help"], ["log", "--help"], ["ls", "--store", str(tmp_path / "store")]):
        loaded = modules_after(["store", *words])
        assert loaded.isdisjoint({*DEAR, "numpy", "pbstore.disk.verbs", "pbstore.disk.add.adding"}), words


def build(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("pbcast-*.whl")
    return wheel


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_no_results(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path)) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"pbstore", "radio", "policy", "demo"}
    assert not [name for name in names if "/results/" in name or name.startswith("demo/docs/")]
    for kept in ("policy/weights/augur.safetensors", "policy/scenarios/default.toml", "demo/py.typed"):
        assert kept in names


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_alone_keeps_models(tmp_path: Path) -> None:
    wheel = build(tmp_path / "wheel")
    home = tmp_path / "empty"
    venv.create(home, with_pip=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words: str) -> str:
        command = [str(home / "bin" / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == (1 if words[1] == "radio" else 0), done.stderr
        return done.stdout + done.stderr

    call("pip", "download", "-q", "-d", "wheels", str(wheel))
    sizes = [path.stat().st_size for path in (tmp_path / "wheels").iterdir()]
    assert sum(sizes) < MOST_MB * 1e6
    call("pip", "install", "-q", "--no-index", "--find-links", "wheels", str(wheel))
    content = folder_content(write_model(tmp_path / "model", base_tensors(rows=8)))
    call("pbcast", "store", "add", "model", "--name", "me/model")
    call("pbcast", "store", "checkout", "me/model", "out")
    assert folder_content(tmp_path / "out") == content
    assert "me/model" in call("pbcast", "store", "ls")
    assert "pip install 'pbcast[radio,show]'" in call("pbcast", "radio")
