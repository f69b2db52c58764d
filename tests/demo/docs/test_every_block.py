"""Every block of every page is run by a test or says why not, and what pages name is there."""

import ast
import json
import re
import shlex
import tomllib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import typer

from demo.cli.commands import COMMANDS
from demo.emulation.faults.script import read_script
from tests.demo.docs import test_pages, test_tutorials
from tests.demo.docs.pages import ROOT, RUNNABLE, RUNS, Block, all_pages, blocks_of

OWN_TESTS = {
    "radio/README.md": "tests/radio/test_readme.py",
    "pbstore/serve/LOADING.md": "tests/pbstore/serve/loading/test_page.py",
}
"""Pages whose blocks a test of their package runs, all of them."""
DATA = ("json", "toml", "text")
BLOCKS = [block for page in all_pages() for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
assert test_pages, test_tutorials  # importing them fills RUNS


def test_every_block_is_run_or_says_why_not() -> None:
    assert len(BLOCKS) > 40
    assert [str(block) for block in BLOCKS if block.language not in (*RUNNABLE, *DATA)] == []
    left = [block for block in BLOCKS if block.is_run and block.page not in (*RUNS, *OWN_TESTS)]
    assert [str(block) for block in left] == []


def test_few_blocks_are_not_run() -> None:
    """A reason is a last resort."""
    assert len([block for block in BLOCKS if block.why_not is not None]) <= 3


def test_no_page_is_said_to_be_run_that_has_nothing_to_run() -> None:
    with_code = {block.page for block in BLOCKS if block.is_run}
    assert set(RUNS) | set(OWN_TESTS) == with_code
    for page, test in OWN_TESTS.items():
        assert page.rsplit("/", 1)[1] in (ROOT / test).read_text()


def test_a_block_without_a_reason_or_a_test_is_found(tmp_path: Any) -> None:  # noqa: ANN401
    text = (
        "```bash\nls\n```\n\n*Not run by a test: it needs a cluster of ours.*\n\n```bash\nls\n```\n\nmore\n"
    )
    page = ROOT / "tests" / "none.md"
    blocks = _blocks_in(text, tmp_path)
    assert [block.why_not for block in blocks] == ["it needs a cluster of ours.", None]
    assert [block.is_run for block in blocks] == [False, True]
    assert not page.exists()


def _blocks_in(text: str, folder: Any) -> list[Block]:  # noqa: ANN401
    page = folder / "page.md"
    page.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.demo.docs.pages.ROOT", folder)
        return blocks_of(page)


@cache
def command_of(verb: str) -> Any:  # noqa: ANN401 - Typer's own
    return typer.main.get_command(import_module(COMMANDS[verb].module).app)


def fault_of(words: list[str]) -> str:
    """What is wrong with a command line by the real commands; empty: nothing. Values are not looked at."""
    if not words or words[0].startswith("-"):
        return ""
    if words[0] not in COMMANDS:
        return f"there is no command {words[0]}"
    command, rest = command_of(words[0]), words[1:]
    while hasattr(command, "commands") and rest:
        if rest[0] not in command.commands:
            return f"{words[0]} has no {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.context_class(command, info_name=words[0])
    known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    wrong = [word for word in rest if word.startswith("-") and word.split("=")[0] not in {*known, "--help"}]
    if wrong:
        return f"{' '.join(words[:2])} has no option {wrong[0]}"
    try:
        command.make_parser(context).parse_args(list(rest))
    except Exception as error:
        return f"{' '.join(words)}: {error}"
    return ""


COMMAND_LINES = [
    (str(block), line) for block in BLOCKS if block.language in ("console", "bash") for line in block.commands
]


def test_every_command_is_one_of_ours_or_a_known_tool() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    faults = []
    for where, line in COMMAND_LINES:
        words = shlex.split(line.removesuffix("&"))
        if words[0] == "pbcast":
            faults += [f"{where}: {fault}"] if (fault := fault_of(words[1:])) else []
        elif words[0] == "make":
            faults += [f"{where}: no target {word}" for word in words[1:] if word not in targets]
        elif words[0] not in ("export", "hf", "vllm", "."):
            faults.append(f"{where}: what is {words[0]}?")
    assert len(COMMAND_LINES) > 50
    assert faults == []


def test_a_wrong_command_is_found() -> None:
    assert fault_of(["store", "lss"])
    assert fault_of(["store", "ls", "--sorted", "x"])
    assert fault_of(["evaluat"])
    assert fault_of(["run", "--slots"])
    assert not fault_of(["store", "ls", "--sort", "size"])


def test_commands_in_the_text_are_ours() -> None:
    """`pbcast store add --recursive DIR` and the like, in running text."""
    faults, count = [], 0
    for page in all_pages():
        for text in re.findall(r"`pbcast ([^`\n]+)`", page.read_text(encoding="utf-8")):
            if page.name == "CHANGELOG.md":  # what was so at the time
                continue
            plain = re.sub(r"[\[\]]|\.\.\.", " ", text.split("|")[0])
            plain = re.sub(r"(?<=\w)[|,](?=[\w-])", " ", plain)
            try:
                words = shlex.split(plain)
            except ValueError:
                continue
            count += 1
            words = words[:-1] if len(words) > 1 and words[-1].startswith("--") else words
            faults += [f"{page.relative_to(ROOT)}: {text}: {fault}"] if (fault := fault_of(words)) else []
    assert count > 60
    assert faults == []


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_snippet_compiles_and_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Import):
            assert all(find_spec(alias.name.split(".")[0]) for alias in node.names)


def test_data_in_pages_is_whole(tmp_path: Any) -> None:  # noqa: ANN401
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
            (tmp_path / "script.toml").write_text(block.text)
            assert len(read_script(tmp_path / "script.toml")) == 2


def test_programs_and_paths_in_the_text_are_there() -> None:
    wrong = []
    for page in all_pages():
        if page.name in ("CHANGELOG.md", "PROVENANCE.md"):
            continue
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"`([^`\n]+)`", text):
            for module in re.findall(r"python -m ([\w.]+)", code):
                if find_spec(module) is None:
                    wrong.append(f"{page.relative_to(ROOT)}: {module}")
            for path in re.findall(r"(?<![\w/.])((?:tests|demo|pbstore|policy|radio)/[\w./-]*\w)", code):
                is_there = (ROOT / path).exists() or (page.parent / path).exists()
                if not is_there and "NAME" not in path:
                    wrong.append(f"{page.relative_to(ROOT)}: {path}")
    assert wrong == []
