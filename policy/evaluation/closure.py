"""The code that something runs through, found by following imports, and one hash over its content.

No path and no module's own name enters the hash: a module that is moved, with the imports of it, hashes as
before. A change of any module that is reached does not, nor does another version of a library.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache, partial
from importlib import metadata
from pathlib import Path
from types import FunctionType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
"""Where this package and its sisters lie, also when they are installed beside libraries."""
SISTERS = frozenset({"policy", "radio", "pbstore", "demo"})
LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """Modules that are reached, of one's own code by file, of libraries by name."""

    files: tuple[Path, ...]
    """Files of one's own code, sorted."""
    libraries: tuple[str, ...]
    """Top-level names of the libraries, sorted."""

    @property
    def digest(self) -> str:
        """SHA-256 over the content of all files, the libraries' versions and Python's."""
        hasher = hashlib.sha256("\n".join(sorted(map(content_digest, self.files))).encode())
        hasher.update(repr([(name, _version(name)) for name in self.libraries]).encode())
        hasher.update(repr(sys.version_info[:2]).encode())
        return hasher.hexdigest()


def closure_of(modules: Iterable[str | Path], apart: frozenset[str] = frozenset()) -> Closure:
    """Follow the imports of modules, also those inside functions.

    What is imported by a computed name is not seen. A name that a package's `__init__` only passes on is
    followed to where it comes from: who imports one thing of a package does not depend on all that it shows.

    Args:
        modules: Dotted names, of packages the `__init__`; or files.
        apart: Modules that are followed only where they are among `modules` (those that name all others).
    """
    waiting = list(modules)
    asked = set(waiting)
    files: dict[str | Path, Path] = {}
    libraries: set[str] = set()
    while waiting:
        named = waiting.pop()
        if named in files or (named in apart and named not in asked):
            continue
        path, module = _place(named)
        if path is not None:
            files[named] = path
            waiting += [*_imports(path, module), *_parents(module)]
        elif _is_library(module):
            libraries.add(module.split(".")[0])
    return Closure(files=tuple(sorted(set(files.values()))), libraries=tuple(sorted(libraries)))


def _place(named: str | Path) -> tuple[Path | None, str]:
    """File and dotted name of a module that is named by either."""
    return (named, _name_of(named)) if isinstance(named, Path) else (find_module(named), named)


def _is_library(module: str) -> bool:
    top = module.split(".")[0]
    return top not in sys.stdlib_module_names and find_module(top) is None


def function_digest(function: Callable[..., Any]) -> str | None:
    """SHA-256 over a function and all code that it runs through; None if nothing can name what it does.

    Only a function or class at the top of a module of one's own can be named, or a partial of it with plain
    values (texts, numbers, dataclasses and tuples of these; of a path, the file's content counts). What a
    lambda, a function inside another one, a method or a callable object carries with it is not in the code.
    """
    if isinstance(function, partial):
        return _partial_digest(function)
    if not isinstance(function, FunctionType | type) or function.__module__ == "__main__":
        return None
    module, name = function.__module__, function.__qualname__
    loaded = sys.modules.get(module)
    path = find_module(module)
    if path is None or getattr(loaded, name, None) is not function:
        return None
    if Path(str(getattr(loaded, "__file__", None))).resolve() != path.resolve():
        return None
    return hashlib.sha256(f"{name}\n{closure_of([module]).digest}".encode()).hexdigest()


def _partial_digest(function: "partial[Any]") -> str | None:
    inner = function_digest(function.func)
    values = [_value_digest(value) for value in (function.args, function.keywords)]
    if inner is None or None in values:
        return None
    return hashlib.sha256(f"{inner}\n{values}".encode()).hexdigest()


def _value_digest(value: object) -> str | None:
    """A text that tells plain values apart; None for others."""
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else None
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Mapping):
        return _value_digest(tuple(sorted((str(key), one) for key, one in value.items())))
    if isinstance(value, tuple | list):
        parts = [_value_digest(one) for one in value]
        return None if None in parts else f"({parts})"
    if is_dataclass(value) and not isinstance(value, type):
        return _value_digest(
            (type(value).__qualname__, *((f.name, getattr(value, f.name)) for f in fields(value)))
        )
    return None


def find_module(module: str) -> Path | None:
    """The file of a module of one's own code; None for what is part of Python, of a library, or not there.

    Remembered, as Python remembers what it has imported; `forget` is for files that come and go.
    """
    return _find(module, tuple(sys.path))


def forget() -> None:
    """Look for modules anew."""
    _find.cache_clear()


@cache
def _find(module: str, path: tuple[str, ...]) -> Path | None:
    parts = module.split(".")
    for place in [ROOT] if parts[0] in SISTERS else _own_places(path):
        base = place.joinpath(*parts)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


@lru_cache(maxsize=8)
def _own_places(path: tuple[str, ...]) -> tuple[Path, ...]:
    """Folders of `sys.path` that hold neither Python's own modules nor libraries."""
    places = [Path(entry or ".").resolve() for entry in path]
    return tuple(place for place in places if not _is_foreign(place))


def _is_foreign(place: Path) -> bool:
    return any(place == other or other in place.parents for other in LIBRARIES) or place in STANDARD


def _parents(module: str) -> Iterator[str]:
    """Packages around a module: their `__init__` runs before it. Those of our own only pass names on."""
    while "." in module and module.split(".")[0] not in SISTERS:
        module = module.rpartition(".")[0]
        yield module


def _imports(path: Path, module: str) -> Iterator[str]:
    """Modules that a file imports anywhere."""
    for source, name in _bound(path, module).values():
        yield from _homes(source, name)


def _homes(source: str, name: str) -> Iterator[str]:
    """Modules that are run for `from source import name`; for `import source` the name is empty."""
    for _ in range(16):  # passed on so often at most
        if name and find_module(f"{source}.{name}") is not None:
            yield f"{source}.{name}"
            return
        path = find_module(source)
        passed = _bound(path, source).get(name) if path is not None and path.name == "__init__.py" else None
        if passed is None or source.split(".")[0] not in SISTERS:
            break
        source, name = passed
    yield source


def _bound(path: Path, module: str) -> dict[str, tuple[str, str]]:
    """What a file imports anywhere: by the name it gets there, module and name; numbered where names meet."""
    return _bound_in(path, module, _stamp(path))


@lru_cache(maxsize=4096)
def _bound_in(path: Path, module: str, stamp: tuple[int, int]) -> dict[str, tuple[str, str]]:
    bound: dict[str, tuple[str, str]] = {}
    for node in ast.walk(_tree(path, stamp)):
        if isinstance(node, ast.Import):
            pairs = [(f"import {alias.name}", (alias.name, "")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, path, module)
            pairs = [(alias.asname or alias.name, (source, alias.name)) for alias in node.names]
        else:
            continue
        for name, pair in pairs:
            known = bound.setdefault(name, pair)
            if known != pair:
                bound[f"{name} {len(bound)}"] = pair
    return bound


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _source(node: ast.ImportFrom, path: Path, module: str) -> str:
    """Absolute name of what `from X import` names."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


@cache
def _version(library: str) -> str:
    """Versions of the distributions that a library comes with."""
    names = _distributions().get(library, [])
    return ",".join(sorted(f"{name}=={metadata.version(name)}" for name in set(names)))


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def content_digest(path: Path) -> str:
    """SHA-256 over what a file does: comments and layout do not count, imported modules by what they do."""
    bodies = [
        " ".join([bound if name else "", name, *sorted(map(_bare_or_name, _homes(source, name)))])
        for bound, (source, name) in _bound(path, _name_of(path)).items()
    ]
    return hashlib.sha256("\n".join([_bare(path, _stamp(path)), *sorted(bodies)]).encode()).hexdigest()


def _bare_or_name(module: str) -> str:
    path = find_module(module)
    return module if path is None else _bare(path, _stamp(path))


@lru_cache(maxsize=4096)
def _bare(path: Path, stamp: tuple[int, int]) -> str:
    """SHA-256 over a file without the names of the modules that it imports from."""
    tree = _tree(path, stamp)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            node.module, node.level = None, 0
        elif isinstance(node, ast.Import):
            for alias in node.names:
                alias.name = alias.name if alias.asname is None else ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _name_of(path: Path) -> str:
    """Dotted name of a file of one's own, for relative imports."""
    parts = [path.stem] if path.name != "__init__.py" else []
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _tree(path: Path, stamp: tuple[int, int]) -> ast.Module:
    """The file's syntax tree; `stamp` says which state of the file it is."""
    return ast.parse(path.read_bytes(), filename=str(path))
