"""Runs a page of the documentation: its files, commands and snippets, one after another, in one folder."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.cli import main

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "demo" / "docs" / "pages"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
ENTRY = "import sys; from demo.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[str]:
        """Lines behind a prompt, without what is said about them."""
        lines = (line for line in self.text.splitlines() if line.startswith("$ "))
        return [re.split(r"\s{2,}#", line)[0].removeprefix("$ ").strip() for line in lines]


def blocks_of(page: Path) -> list[Block]:
    """Blocks of a page, in order."""
    return [Block(*match.groups()) for match in FENCE.finditer(page.read_text(encoding="utf-8"))]


class Runner:
    """Runs blocks in the present folder; `shorter` are options that make a command quick."""

    def __init__(
        self, names: dict[str, str] | None = None, shorter: dict[str, list[str]] | None = None
    ) -> None:
        self.names, self.shorter = names or {}, shorter or {}
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.space: dict[str, object] = {}
        self.done: list[str] = []

    def run(self, blocks: list[Block]) -> None:
        """Run them all; servers that were started end with the last."""
        with ExitStack() as stack:
            for block in blocks:
                text = self._renamed(block.text)
                if block.title is not None:
                    Path(block.title).write_text(text)
                elif block.language == "python":
                    exec(compile(text, "a page", "exec"), self.space)
                elif block.language == "console":
                    for line in block.commands:
                        self._command(self._renamed(line), stack)

    def _renamed(self, text: str) -> str:
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def _command(self, line: str, stack: ExitStack) -> None:
        words = shlex.split(line.removesuffix("&"))
        self.done.append(line)
        if words[0] == "export":
            self.environment |= dict([words[1].split("=", 1)])
        elif line.endswith("&"):
            stack.enter_context(self._server(words[1:]))
        elif words[0] == "pbcast":
            assert main([*words[1:], *self.shorter.get(words[1], [])]) == 0, line
        else:
            subprocess.run(words, env=self.environment, check=True, capture_output=True, timeout=120)

    @contextmanager
    def _server(self, words: list[str]) -> Iterator[None]:
        """A server in the background, which says when it is ready."""
        command = [sys.executable, "-c", ENTRY, *words]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline()
                yield
            finally:
                process.terminate()
                process.wait(20)
