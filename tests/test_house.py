"""The house: no circle between files or folders, files and functions that fit a screen."""

import ast
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("demo", "pbstore", "policy", "radio")
MOST_LINES = 400
"""Of a file."""
BODY_LINES = 20
"""Of a function's body without its docstring, for nine in ten functions of a package."""


@cache
def files_of(package: str) -> tuple[Path, ...]:
    return tuple(sorted((ROOT / package).rglob("*.py")))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(package: str) -> dict[str, frozenset[str]]:
    """Modules of the package that each of its modules imports, also for types and inside functions."""
    names = {name_of(path) for path in files_of(package)}
    graph = {}
    for path in files_of(package):
        found = set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        ours = found & names
        whole = {name for name in ours if not any(other.startswith(f"{name}.") for other in ours)}
        graph[name_of(path)] = frozenset(whole - {name_of(path)})
    return graph


def refuse_circles(graph: dict[str, frozenset[str]]) -> None:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_between_files(package: str) -> None:
    packages = {name_of(path) for path in files_of(package) if path.name == "__init__.py"}
    files = imports_of(package).items()
    graph = {name: frozenset(others - packages) for name, others in files if name not in packages}
    refuse_circles(graph)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_between_folders(package: str) -> None:
    folders: dict[str, set[str]] = defaultdict(set)
    for name, others in imports_of(package).items():
        for other in others:
            rooms = [room.split(".")[1] if room.count(".") else "" for room in (name, other)]
            if rooms[0] != rooms[1] and all(rooms):
                folders[rooms[0]].add(rooms[1])
    refuse_circles({room: frozenset(others) for room, others in folders.items()})


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_a_few_screens(package: str) -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in files_of(package)}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("package", PACKAGES)
def test_nine_in_ten_functions_fit_twenty_lines(package: str) -> None:
    sizes = []
    for path in files_of(package):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body:
                    sizes.append((body[-1].end_lineno or 0) - body[0].lineno + 1)
    sizes.sort()
    assert sizes[int(0.9 * len(sizes))] < BODY_LINES
