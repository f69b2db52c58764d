"""Every command of the README works as it stands there."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from pbstore import open_store
from tests.pbstore.serve.stores import family_store

README = Path(__file__).parents[3] / "pbstore" / "serve" / "README.md"
TOOLS = Path(sys.executable).parent


def commands() -> list[str]:
    """Lines of its blocks for a shell, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("export ", "hf ", "pbcast serve ", "pbcast device "))]


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server that says when it is ready, and ends with the context."""
    script = "import sys; from demo.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *words[1:]]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.slow
def test_the_commands_of_the_readme_work_one_after_the_other(tmp_path: Path) -> None:
    """With the port and the socket of this test; what is pulled and pushed is there in the end."""
    with family_store(tmp_path) as store:
        store.add(tmp_path / "folders/org/tuned", "org/finetune")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "folders/org/base").rename(tmp_path / "checkpoints/my-finetune")
    environment = {**os.environ, "PYTHONPATH": str(README.parents[2])}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    names = {"8765": str(20_000 + os.getpid() % 10_000), "/tmp/xet.sock": str(tmp_path / "xet.sock")}
    names |= {"~/.cache/pbcast/device": str(tmp_path / "cache")}
    done: list[list[str]] = []
    with ExitStack() as stack:
        for line in commands():
            for old, new in names.items():
                line = line.replace(old, new)
            words = shlex.split(line)
            if words[0] == "export":
                environment |= dict([words[1].split("=", 1)])
            elif words[0] == "hf":  # each with an empty cache of its own
                fresh = {**environment, "HF_HOME": str(tmp_path / "home" / str(len(done)))}
                subprocess.run(words, cwd=tmp_path, env=fresh, check=True, capture_output=True, timeout=120)
            elif words[:2] not in done:  # further ways to start a server need other nodes
                stack.enter_context(running(words, tmp_path, environment))
            done.append(words[:2])
        url = environment["HF_ENDPOINT"]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and "org/finetune" not in httpx.get(f"{url}/api/models").text:
            time.sleep(0.1)
    assert ["hf", "upload"] in done
    assert ["hf", "download"] in done
    assert ["pbcast", "device"] in done
    assert list((tmp_path / "home").rglob("snapshots/*/model.safetensors"))
    assert list((tmp_path / "cache" / "blocks").iterdir())
    with open_store(tmp_path / "store") as store:
        paths = {file.path: file.sha256 for file in store.manifest("org/finetune").files}
    assert "nested/a b/ü 中.txt" in paths
