"""The fenced blocks of every page: what each is, whether it says why it is not run, and a way to run it."""

import functools
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.cli import main

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "demo" / "docs" / "pages"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<head>[^\n`]*)\n(?P<text>.*?)^ *```[ \t]*$(?=(?P<after>\n*[^\n]*))",
    re.DOTALL | re.MULTILINE,
)
WHY_NOT = re.compile(r"^\*Not run by a test: (.{10,}\.)\*$")
"""What stands below a block that no test runs."""
RUNNABLE = ("console", "bash", "python")
ENTRY = "import sys; from demo.cli import main; sys.exit(main())"
SERVERS = ("serve", "device", "dashboard")
"""Commands that go on until they are ended."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    title: str | None
    text: str
    why_not: str | None
    """Why no test runs it, as the page says."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether a test has to run it."""
        return self.language in RUNNABLE and self.why_not is None

    @property
    def commands(self) -> list[str]:
        """What is typed, without what is said about it: in `console` the lines behind a prompt."""
        return [command for command, _ in self.told]

    @property
    def told(self) -> list[tuple[str, list[str]]]:
        """Commands, each with the lines that it is said to print."""
        rows: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if self.language == "bash" or line.startswith("$ "):
                command = re.split(r"(?:^|\s{2,})#", line)[0].removeprefix("$ ").strip()
                rows += [(command, [])] if command else []
            elif self.language == "console" and rows and line.strip():
                rows[-1][1].append(line)
        return rows


def all_pages() -> list[Path]:
    """Every page of the repository."""
    folders = ("demo", "pbstore", "policy", "radio", "tests")
    return sorted([*ROOT.glob("*.md"), *(page for name in folders for page in (ROOT / name).rglob("*.md"))])


def blocks_of(page: Path) -> list[Block]:
    """Blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        language, _, rest = match["head"].strip().partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', rest.strip())
        why = WHY_NOT.match(match["after"].strip())
        blocks.append(
            Block(
                page.relative_to(ROOT).as_posix(),
                text[: match.start()].count("\n") + 1,
                language,
                title.group(1) if title else None,
                match["text"],
                why.group(1) if why else None,
            )
        )
    return blocks


RUNS: dict[str, Callable[..., None]] = {}
"""The test that runs each page."""
_done: set[Block] = set()


def runs(page: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say that a test runs a page; it fails if it leaves out a block that the page does not mark."""

    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*arguments: Any, **fixtures: Any) -> None:  # noqa: ANN401
            _done.clear()
            test(*arguments, **fixtures)
            wanted = [block for block in blocks_of(ROOT / page) if block.is_run]
            assert [str(block) for block in wanted if block not in _done] == []

        RUNS[page] = run
        return run

    return wrap


def shape(line: str) -> str:
    """A printed line without what differs with the models: numbers, units of sizes, widths of columns."""
    line = re.sub(r"\d[\d.,]*(?:e[+-]\d+)?", "0", line)
    line = re.sub(r"\b0 (?:[kMG]?B)\b", "0 B", line)
    return re.sub(r"([\s─━═])[\s─━═]*", r"\1", line).strip()


def assert_printed(promised: list[str], printed: str, command: str) -> None:
    """Every promised line was printed, in order; `...` stands for lines that are left out."""
    lines = iter([shape(line) for line in printed.splitlines()])
    for line in promised:
        if line.strip() != "...":
            assert shape(line) in lines, f"{command} does not print {line!r}, it prints\n{printed}"


class Runner:
    """Runs blocks in the present folder.

    Args:
        names: What is replaced in every text.
        shorter: Options that make a command quick, by its verb.
    """

    def __init__(
        self, names: dict[str, str] | None = None, shorter: dict[str, list[str]] | None = None
    ) -> None:
        self.names, self.shorter = names or {}, shorter or {}
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.space: dict[str, object] = {}
        self.done: list[str] = []

    def run(self, blocks: list[Block]) -> None:
        """Run all that are not marked; servers that were started end with the last."""
        with ExitStack() as stack:
            for block in blocks:
                if block.why_not is None and (block.title or block.language in RUNNABLE):
                    self._run_one(block, stack)
                    _done.add(block)

    def _run_one(self, block: Block, stack: ExitStack) -> None:
        if block.title is not None:
            Path(block.title).write_text(self._renamed(block.text))
        elif block.language == "python":
            promised = [line.removeprefix("# ") for line in block.text.splitlines() if line.startswith("# ")]
            said = io.StringIO()
            with redirect_stdout(said):
                exec(compile(self._renamed(block.text), str(block), "exec"), self.space)
            for line in promised:  # in any order: a snippet may have threads
                assert_printed([line], said.getvalue(), str(block))
        else:
            for line, promised in block.told:
                said_text = self._command(self._renamed(line), stack)
                assert_printed(promised, said_text, line)

    def _renamed(self, text: str) -> str:
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def _command(self, line: str, stack: ExitStack) -> str:
        words = shlex.split(line.removesuffix("&"))
        self.done.append(line)
        if words[0] == "make":
            return self._make(words[1], stack)
        if words[0] == "export":
            self.environment |= dict(word.split("=", 1) for word in words[1:])
        elif words[0] == "pbcast":
            return self._pbcast(words[1:], stack)
        elif words[0] != ".":  # of a shell: nothing to run
            fresh = {"HF_HOME": str(Path("hf", str(len(self.done))).absolute())}
            environment = {**self.environment, **fresh}
            subprocess.run(words, env=environment, check=True, capture_output=True, timeout=120)
        return ""

    def _pbcast(self, words: list[str], stack: ExitStack) -> str:
        words = [*words, *self.shorter.get(words[0], [])]
        if words[0] in SERVERS:
            return stack.enter_context(self._server(words))
        said = io.StringIO()
        with redirect_stdout(said):
            assert main(words) == 0, words
        return said.getvalue()

    def _make(self, target: str, stack: ExitStack) -> str:
        """A target of the Makefile: that of the continuous test, which runs it, or a command of ours."""
        if f"make {target}" in (ROOT / ".ci/run").read_text():
            page = ROOT / f"demo/experiments/results/make-{target}.md"
            return page.read_text(encoding="utf-8") if page.exists() else ""
        (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
        (line,) = recipe.strip().splitlines()
        return self._pbcast(shlex.split(line.strip().removeprefix("@$(BIN)/pbcast ")), stack)

    @contextmanager
    def _server(self, words: list[str]) -> Iterator[str]:
        """A server in the background; what it says when it is ready."""
        command = [sys.executable, "-c", ENTRY, *words]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                assert said
                yield said
            finally:
                process.terminate()
                process.wait(30)
