"""Which code and weights a result depends on, found by following imports; their hash is part of its name."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from policy.evaluation.oracles import BOUNDS
from policy.learn.checkpoint import own_weights
from policy.schemes import HOMES, find_scheme

ROOT = Path(__file__).parent.parent
"""Folder of the package."""
PLAY = ("policy.rollout", "policy.scenario", "policy.evaluation.episodes")
"""What every episode goes through."""
APART = frozenset({"policy", "policy.schemes", "policy.evaluation", "policy.evaluation.oracles"})
"""Modules that name all others: followed only where asked for."""


def code_version(name: str) -> str:
    """SHA-256 over all code that a scheme or bound runs through, and over weights if it is learned."""
    if name in BOUNDS:
        return _version(("policy.evaluation.oracles",), "", ())
    module = HOMES[name.split("+")[0].split(":")[0]].partition(":")[0]
    own = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in own_weights())
    modules = (f"policy.schemes.{module}", "policy.schemes.unshared")
    return _version(modules, repr(find_scheme(name).rules), own)


@cache
def _version(modules: tuple[str, ...], rules: str, own: tuple[str, ...]) -> str:
    made, files = hashlib.sha256(rules.encode()), imported((*PLAY, *modules))
    if any(path.is_relative_to(ROOT / "learn") for path in files):
        files = [*files, *sorted(path for path in (ROOT / "weights").rglob("*") if path.is_file())]
        made.update("\n".join(own).encode())
    for path in files:
        made.update(path.relative_to(ROOT).as_posix().encode())
        made.update(hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def imported(modules: Iterable[str]) -> list[Path]:
    """Files of this package that the modules import, directly or not, their own included; in order."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    asked = set(waiting)
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None or module in found or (module in APART and module not in asked):
            continue
        found[module] = path
        waiting += _imports(path)
    return sorted(found.values())


def _file(module: str) -> Path | None:
    base = ROOT.parent.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] == ROOT.name)
