"""Asking an experiment for help, or misspelling an option, changes no committed result."""

import hashlib
import runpy
import sys
from pathlib import Path

import pytest

import demo.experiments

FOLDERS = (Path(demo.experiments.__file__).parent,)
PROGRAMS = sorted(
    path
    for folder in FOLDERS
    for path in folder.rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text()
)
COMMITTED = [path for folder in FOLDERS for path in (folder / "results").rglob("*") if path.is_file()]


def digests() -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in COMMITTED}


def test_there_are_programs_and_results_to_guard() -> None:
    assert len(PROGRAMS) >= 8
    assert len(COMMITTED) >= 30


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--no-such-option"], 2)])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_help_and_misspelt_options_change_nothing(
    program: Path, words: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests()
    root = program.parents[len(program.relative_to(FOLDERS[0].parents[1]).parts) - 1]
    module = ".".join(program.relative_to(root).with_suffix("").parts)
    monkeypatch.setattr(sys, "argv", [str(program), *words])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")

    assert (end.value.code or 0) == code
    assert digests() == before
